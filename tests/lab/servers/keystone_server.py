#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves OpenStack Keystone from an SQLite file with fernet tokens.

The first start fills the database through Keystone's own managers: the
bootstrap of keystone-manage, Swift's service user and catalog entry, one
project with one user, and an application credential of that user, whose
random parts go to ids.json. The listening socket comes as an open
descriptor's number.
"""

import argparse
import base64
import importlib
import json
import os
import pathlib
import secrets
import socket
import socketserver
import sys
import uuid
import warnings
import wsgiref.simple_server

# Four bcrypt rounds instead of the default, twelve, make a login 14 ms, not a
# quarter of a second.
CONFIGURATION = """\
[DEFAULT]
log_file = {folder}/keystone.log
public_endpoint = {base}
[database]
connection = sqlite:///{folder}/keystone.db
sqlite_synchronous = false
[token]
provider = fernet
expiration = {token_life}
[fernet_tokens]
key_repository = {folder}/fernet
[fernet_receipts]
key_repository = {folder}/fernet
[credential]
key_repository = {folder}/credential
[cache]
enabled = true
backend = dogpile.cache.memory
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = {rounds}
[oslo_policy]
policy_file = {folder}/policy.yaml
"""


def configure(arguments, base):
    folder = arguments.folder
    path = os.path.join(folder, "keystone.conf")
    with open(path, "w") as file:
        file.write(CONFIGURATION.format(
            folder=folder, base=base, token_life=arguments.token_life,
            rounds=arguments.rounds))
    for repository in ("fernet", "credential"):
        os.makedirs(os.path.join(folder, repository), 0o700, exist_ok=True)
        for number in ("0", "1"):
            key = os.path.join(folder, repository, number)
            if not os.path.exists(key):
                with open(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600),
                          "wb") as file:
                    file.write(base64.urlsafe_b64encode(os.urandom(32)))
    return path


def create_tables():
    """Makes the tables from the models: keystone-manage db_sync would run
    years of migrations, which takes longer than all the rest."""
    import keystone
    from keystone.common import sql
    from sqlalchemy import text
    root = pathlib.Path(keystone.__file__).parent
    for name in ("sql.py", "sql_model.py"):
        for path in root.glob(f"*/*backends/{name}"):
            importlib.import_module(".".join(
                ("keystone", *path.parts[-3:-1], path.stem)))
    with sql.session_for_write() as session:
        engine = session.get_bind()
    sql.ModelBase.metadata.create_all(engine)
    with engine.begin() as connection:
        # The one row that the migrations insert.
        connection.execute(text(
            "INSERT INTO project (id, name, extra, description, enabled,"
            " domain_id, parent_id, is_domain) VALUES"
            " ('<<keystone.domain.root>>', '<<keystone.domain.root>>', '{}',"
            " '', 0, '<<keystone.domain.root>>', NULL, 1)"))


def bootstrap(base):
    from keystone.cmd import bootstrap as command
    from keystone.server import backends
    # The application has loaded the back ends; twice is an error.
    load = backends.load_backends
    backends.load_backends = dict
    bootstrapper = command.Bootstrapper()
    backends.load_backends = load
    bootstrapper.admin_username = "admin"
    bootstrapper.admin_password = "admin-password"
    bootstrapper.admin_role_name = "admin"
    bootstrapper.project_name = "admin"
    bootstrapper.region_id = "RegionOne"
    bootstrapper.service_name = "keystone"
    bootstrapper.public_url = bootstrapper.internal_url = \
        bootstrapper.admin_url = base + "/v3/"
    bootstrapper.bootstrap()


def populate(arguments):
    """Creates what the lab needs; returns what of it is random."""
    from keystone.common import provider_api
    api = provider_api.ProviderAPIs

    def role(name):
        for entry in api.role_api.list_roles():
            if entry["name"] == name:
                return entry["id"]
        identifier = uuid.uuid4().hex
        api.role_api.create_role(identifier, {"id": identifier, "name": name})
        return identifier

    def project(name):
        identifier = uuid.uuid4().hex
        api.resource_api.create_project(
            identifier, {"id": identifier, "name": name, "enabled": True,
                         "domain_id": "default", "description": ""})
        return identifier

    def user(name, password, project_id, *roles):
        entry = api.identity_api.create_user(
            {"name": name, "password": password, "domain_id": "default",
             "enabled": True})
        for name in roles:
            api.assignment_api.add_role_to_user_and_project(
                entry["id"], project_id, role(name))
        return entry["id"]

    user("swift", "swift-password", project("service"), "admin", "service")
    project_id = project(arguments.project)
    user_id = user(arguments.user, arguments.password, project_id, "member")
    service = uuid.uuid4().hex
    api.catalog_api.create_service(
        service, {"id": service, "type": "object-store", "name": "swift",
                  "enabled": True})
    for interface in ("public", "internal", "admin"):
        endpoint = uuid.uuid4().hex
        api.catalog_api.create_endpoint(
            endpoint, {"id": endpoint, "interface": interface,
                       "region_id": "RegionOne", "service_id": service,
                       "enabled": True,
                       "url": arguments.swift + "/v1/AUTH_$(project_id)s"})
    credential = uuid.uuid4().hex
    secret = secrets.token_urlsafe()
    api.application_credential_api.create_application_credential(
        {"id": credential, "name": "lab", "secret": secret,
         "user_id": user_id, "project_id": project_id,
         "roles": [{"id": role("member")}], "expires_at": None,
         "description": "", "unrestricted": False})
    return {"user_id": user_id, "project_id": project_id,
            "storage_url": f"{arguments.swift}/v1/AUTH_{project_id}",
            "application_credential_id": credential,
            "application_credential_secret": secret}


class Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *arguments):
        pass

    def address_string(self):
        return self.client_address[0]


class Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """wsgiref's server on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listener, app):
        super().__init__(listener.getsockname(), Handler, False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()
        self.setup_environ()
        self.set_app(app)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=os.path.abspath)
    parser.add_argument("descriptor", type=int)
    parser.add_argument("--url", required=True, help="ours, with /v3")
    parser.add_argument("--swift", required=True, help="URL of the proxy")
    parser.add_argument("--user", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--project", required=True)
    parser.add_argument("--token-life", type=int, default=3600)
    parser.add_argument("--rounds", type=int, default=4, help="of bcrypt")
    arguments = parser.parse_args()
    base = arguments.url.removesuffix("/v3")
    new = not os.path.exists(os.path.join(arguments.folder, "keystone.db"))
    path = configure(arguments, base)
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = path
    sys.argv[1:] = []  # Keystone parses them, too
    warnings.filterwarnings("ignore")

    from keystone.server.flask import core
    app = core.initialize_application(name="public", config_files=[path])
    if new:
        create_tables()
        bootstrap(base)
        ids = populate(arguments)
        with open(os.path.join(arguments.folder, "ids.json"), "w") as file:
            json.dump(ids, file)
    Server(socket.socket(fileno=arguments.descriptor), app).serve_forever()


if __name__ == "__main__":
    main()
