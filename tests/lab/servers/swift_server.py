#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves OpenStack Swift's account, container, object and proxy servers.

All in this one process and as whoever runs it. The rings have one device;
the folder holds them, the configuration and the objects. The four listening
sockets come as numbers of open descriptors.
"""

import argparse
import array
import os
import pwd
import socket
import sys

import eventlet
import eventlet.wsgi
from swift.common import storage_policy, utils
from swift.common.ring.ring import RingData

# eventlet.green is patched before Swift's servers are loaded, as Swift's own
# daemons do it.
utils.eventlet_monkey_patch()
eventlet.hubs.use_hub(utils.get_hub())

from swift.common.http_protocol import SwiftHttpProtocol  # noqa: E402
from swift.common.wsgi import loadapp  # noqa: E402

COMMON = """\
[DEFAULT]
user = {user}
swift_dir = {folder}
devices = {folder}/devices
bind_ip = 127.0.0.1
bind_port = {port}
mount_check = false
workers = 0
log_level = INFO
log_custom_handlers = swift_parts.log_to_stderr
fallocate_reserve = 0
disable_fallocate = true
# One process serves everything, and may have to wait for its turn.
conn_timeout = 20
node_timeout = 60
container_update_timeout = 60
"""

BACKEND = COMMON + """\
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
set log_level = WARNING
"""

PROXY = COMMON + """\
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging fault cache
    {pipeline} proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:fault]
paste.filter_factory = swift_parts:fault_factory
path = {folder}/fault
[filter:cache]
paste.filter_factory = swift_parts:cache_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:tempurl]
use = egg:swift#tempurl
[filter:copy]
use = egg:swift#copy
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
"""

PIPELINE = """listing_formats tempurl {auth} copy container-quotas account-quotas
"""

# What a cloud has, in the order of Swift's proxy-server.conf-sample.
CLOUD_PIPELINE = """etag-quoter name_check read_only listing_formats
    container_sync bulk formpost tempurl ratelimit s3api {auth} staticweb copy
    container-quotas account-quotas slo dlo versioned_writes symlink
    keymaster encryption
"""

# A container of ten objects takes two PUTs a second; the rest has to wait for
# so long at most, where Swift's own sleeps would hide what a client must do.
CLOUD = """\
[filter:etag-quoter]
use = egg:swift#etag_quoter
[filter:name_check]
use = egg:swift#name_check
[filter:read_only]
use = egg:swift#read_only
[filter:container_sync]
use = egg:swift#container_sync
[filter:bulk]
use = egg:swift#bulk
[filter:formpost]
use = egg:swift#formpost
[filter:ratelimit]
use = egg:swift#ratelimit
container_ratelimit_10 = 2
max_sleep_time_seconds = 0.5
rate_buffer_seconds = 0
[filter:s3api]
use = egg:swift#s3api
[filter:staticweb]
use = egg:swift#staticweb
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
[filter:keymaster]
use = egg:swift#keymaster
encryption_root_secret = bGFiLWxhYi1sYWItbGFiLWxhYi1sYWItbGFiLWxhYi0=
[filter:encryption]
use = egg:swift#encryption
"""

TEMPAUTH = """\
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test_limited = limited
user_test_reader = reader
user_frozen_tester = testing .admin
user_full_tester = testing .admin
user_other_operator = testing .reseller_admin
storage_url_scheme = {scheme}
"""

KEYSTONE = """\
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone}
auth_url = {keystone}
cafile = {cafile}
auth_type = password
project_domain_id = default
user_domain_id = default
project_name = service
username = swift
password = swift-password
service_token_roles_required = true
service_token_roles = service
delay_auth_decision = True
include_service_catalog = False
cache = swift.cache
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
reseller_prefix = AUTH_
"""


def write(folder, name, text):
    with open(os.path.join(folder, name), "w") as file:
        file.write(text)


def serve(folder, kind, listener, text):
    write(folder, f"{kind}.conf", text)
    app = loadapp(os.path.join(folder, f"{kind}.conf"),
                  global_conf={"log_name": kind})
    eventlet.spawn(
        eventlet.wsgi.server, eventlet.greenio.GreenSocket(listener), app,
        utils.NullLogger(), custom_pool=eventlet.GreenPool(1024),
        protocol=SwiftHttpProtocol, socket_timeout=60,
        capitalize_response_headers=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    for kind in ("account", "container", "object", "proxy"):
        parser.add_argument(kind, type=int, help="descriptor of its socket")
    parser.add_argument("--keystone", help="its URL; default: tempauth")
    parser.add_argument("--cafile", default="", help="who signed for it")
    parser.add_argument("--scheme", default="default",
                        help="of tempauth's storage URLs")
    parser.add_argument("--cloud", action="store_true",
                        help="with all the middleware of a cloud")
    arguments = parser.parse_args()
    folder = os.path.abspath(arguments.folder)
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

    write(folder, "swift.conf",
          "[swift-hash]\nswift_hash_path_prefix = lab\n"
          "swift_hash_path_suffix = lab\n")
    utils.SWIFT_CONF_FILE = os.path.join(folder, "swift.conf")
    utils.HASH_PATH_PREFIX = utils.HASH_PATH_SUFFIX = b""
    utils.validate_configuration()

    common = {"user": pwd.getpwuid(os.getuid()).pw_name, "folder": folder}
    os.makedirs(os.path.join(folder, "devices", "d1", "tmp"), exist_ok=True)
    listeners = {}
    for kind in ("account", "container", "object", "proxy"):
        listeners[kind] = socket.socket(fileno=getattr(arguments, kind))
        port = listeners[kind].getsockname()[1]
        common[kind] = port
        if kind != "proxy":
            # One replica on one device: partition shift 32 puts every
            # object into partition 0.
            device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1",
                      "port": port, "device": "d1", "weight": 1.0, "meta": "",
                      "replication_ip": "127.0.0.1", "replication_port": port}
            RingData([array.array("H", [0])], [device], 32).save(
                os.path.join(folder, f"{kind}.ring.gz"))
    storage_policy.reload_storage_policies()

    # Back ends first: a proxy that finds one missing answers 503 for a
    # minute.
    for kind in ("account", "container", "object"):
        serve(folder, kind, listeners[kind],
              BACKEND.format(kind=kind, port=common[kind], **common))
    if arguments.keystone:
        text = PROXY + KEYSTONE
        auth = "authtoken keystoneauth"
    else:
        text = PROXY + TEMPAUTH
        auth = "tempauth"
    pipeline = CLOUD_PIPELINE if arguments.cloud else PIPELINE
    serve(folder, "proxy", listeners["proxy"],
          (text + CLOUD).format(
              pipeline=pipeline.format(auth=auth).strip(),
              port=common["proxy"], scheme=arguments.scheme,
              keystone=arguments.keystone, cafile=arguments.cafile, **common))
    while True:
        eventlet.sleep(3600)


if __name__ == "__main__":
    main()
