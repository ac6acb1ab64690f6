# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of how to run the image: their form, and what can be run."""

import contextlib
import os
import pathlib
import re
import shutil
import smtplib
import subprocess
import time

import docker.utils.build
import pytest
import swiftclient
import yaml

import lab
from helpers import program
from lab import image, process

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def test_compose_file_is_valid(tmp_path):
    text = (EXAMPLES / "compose.yaml").read_text()
    path = tmp_path / "compose.yaml"
    path.write_text(text)
    subprocess.run(["docker-compose", "-f", path, "config", "-q"], check=True)
    path.write_text(text.replace("read_only: true", "read_only: maybe"))
    assert subprocess.run(["docker-compose", "-f", path, "config", "-q"],
                          capture_output=True).returncode != 0


def test_compose_file_with_rspamd_is_valid():
    shown = subprocess.run(
        ["docker-compose", "-f", EXAMPLES / "compose.yaml",
         "-f", EXAMPLES / "compose.rspamd.yaml", "config"], check=True,
        stdout=subprocess.PIPE, text=True).stdout
    services = yaml.safe_load(shown)["services"]
    assert services["mail"]["environment"]["SWIFTDROP_SMTP_RSPAMD"] == \
        "http://rspamd:11333"
    assert "swift_key" in str(services["mail"]["secrets"])
    for volume in services["rspamd"]["volumes"]:
        # Compose 2 shows the long form.
        assert os.path.exists(volume["source"] if isinstance(volume, dict)
                              else volume.split(":")[0])


def test_the_key_of_the_compose_file_is_not_for_git(tmp_path):
    text = (EXAMPLES / "compose.yaml").read_text()
    key = re.search(r"^    file: (.*)$", text, re.M).group(1)
    shutil.copy(image.TREE / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "check-ignore", f"examples/{key}"], cwd=tmp_path,
                   check=True)


# What may lie about on a host that has built and tried it.
LEFT_BEHIND = (
    ".git/config", ".hypothesis/x", "build/image/list.o", "build/swiftdrop.d",
    "debian/files", "debian/swiftdrop/usr/sbin/swiftdrop",
    "examples/swift.key", "lib/buf.o", "swiftdrop", "swiftdrop-0.2.0.tar.gz",
    "swiftdrop-entry", "swiftdrop.ini", "swiftdrop.static",
    "tests/lab/__pycache__/image.pyc")


def sent_by_podman(podman, tree):
    """Returns the files that reach the build."""
    (tree / "image" / "Containerfile").write_text(
        'FROM scratch\nCOPY . /sent\nCMD ["/none"]\n')
    name = f"{image.IMAGE}-context-{os.getpid()}"
    podman.run("build", "-f", "image/Containerfile", "-t", name, ".",
               cwd=tree)
    try:
        return {path.removeprefix("/sent/")
                for path, entry in podman.files(name).items()
                if path.startswith("/sent/") and not entry.isdir()}
    finally:
        podman.run("rmi", name)


def sent_by_compose(_, tree):
    """The same, by the client of Docker that docker-compose uses.

    It sends the list itself as well, which the server needs.
    """
    patterns = (tree / ".dockerignore").read_text().splitlines()
    found = docker.utils.build.exclude_paths(
        tree, [line for line in patterns if not line.startswith("#")],
        dockerfile="image/Containerfile")
    return {path for path in found if (tree / path).is_file()} \
        - {".dockerignore"}


@pytest.mark.parametrize("sent, file", [
    (sent_by_podman, ".containerignore"), (sent_by_podman, ".dockerignore"),
    (sent_by_compose, ".dockerignore")])
def test_sources_and_nothing_of_the_host_go_into_a_build(podman, tmp_path,
                                                         sent, file):
    tree = tmp_path / "tree"
    sources = {"Makefile", "debian/copyright"}
    for pattern in ("*.[ch]", "lib/*.[ch]", "image/*", "postfix/*"):
        sources |= {str(path.relative_to(image.TREE))
                    for path in image.TREE.glob(pattern) if path.is_file()}
    for name in sources | {file}:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image.TREE / name, tree / name)
    for name in LEFT_BEHIND:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("of the host\n")
    assert sent(podman, tree) == sources


@pytest.fixture(scope="module")
def place(podman, lab_folder):
    """A network of our own with a Swift on it."""
    with image.network():
        swift = lab.Swift(f"{lab_folder}/example-swift")
        try:
            swift.start()
            yield swift
        finally:
            swift.stop()


FORWARDER = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen swift
    bind :{port}
    server swift 127.0.0.1:{swift}
"""


def test_run_container_publishes_its_port(podman, place, tmp_path):
    """On a network of its own, with a Swift that is not the host's loopback.

    The README's first look has the other way, the host's network.
    """
    box = place.container()
    port = process.free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(FORWARDER.format(port=port, swift=place.port))
    forwarder = process.start(["haproxy", "-db", "-f", configuration],
                              tmp_path / "haproxy.log")
    log = tmp_path / "log"
    name = f"swiftdrop-test-{os.getpid()}"
    gateway = podman.run("network", "inspect", "podman", "--format",
                         "{{(index .Subnets 0).Gateway}}").stdout.strip()
    running = process.start(
        [EXAMPLES / "run-container.sh"], log,
        env={**podman.environment, "IMAGE": image.IMAGE, "NAME": name,
             "AUTHURL": f"http://{gateway}:{port}/auth/v1.0",
             "CONTAINER": box.name})
    try:
        process.wait_until(lambda: "port 25 is open" in log.read_text(),
                           running, "the example", log)
        sent = [subprocess.run(
            [EXAMPLES / "send-mail.sh", "127.0.0.1:2525", recipient],
            text=True, capture_output=True, timeout=60) for recipient in
            ("invoices@example.org", "somebody@example.org")]
        assert [done.returncode for done in sent] == [0, 1], log.read_text()
        assert "S: 250 2.0.0 Ok: stored as " in sent[0].stdout
        assert b"Subject: a mail from send-mail.sh" in box.only()[2]
    finally:
        podman.run("rm", "--force", "--time=0", "--ignore", name)
        process.stop(running)
        process.stop(forwarder)
        podman.run("volume", "rm", "--force", f"{name}-spool")


def test_environment_of_the_readme_works(podman, place, tmp_path, lab_folder):
    """Unchanged but for what only its author's network has."""
    text = (image.TREE / "image" / "README.md").read_text()
    block = re.search(r"<!-- example -->\n+```\n(.*?)```", text, re.S).group(1)
    environment = dict(line.split("=", 1) for line in block.splitlines()
                       if line and not line.startswith("#"))
    boxes = {}
    for account in ("PRODUCTION", "ACCEPTANCE"):
        boxes[account] = place.container()
        environment[f"SWIFTDROP_{account}_CONTAINER"] = boxes[account].name
    sink = lab.Sink(f"{lab_folder}/readme-sink")
    sink.start()
    options = place.options("")
    del options["container"]
    environment |= {f"SWIFTDROP_DEFAULT_{key.upper()}": value
                    for key, value in options.items()}
    for name in [name for name in environment if name.endswith("_FILE")]:
        del environment[name]
    environment["POSTFIX_relayhost"] = f"[127.0.0.1]:{sink.port}"
    environment["POSTFIX_disable_dns_lookups"] = "yes"
    try:
        with image.Container(podman, tmp_path, environment) as container:
            for recipient in ("invoices@example.com", "orders@example.com",
                              "invoices-test@example.com",
                              "sales@example.com", "office@example.com",
                              "postmaster@example.com"):
                with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
                    client.sendmail("x@foreign.example", recipient,
                                    f"Subject: {recipient}\r\n\r\nx\r\n")
            assert len(boxes["PRODUCTION"].names()) == 2
            assert len(boxes["ACCEPTANCE"].names()) == 1
            assert "x-delete-at" in boxes["ACCEPTANCE"].only()[1]
            for _ in range(100):
                mails = b"".join(sink.mails())
                if mails.count(b"X-Rcpt-Args") >= 4:
                    break
                time.sleep(0.1)
            for target in (b"anna@example.net", b"bert@example.net",
                           b"clara@example.org", b"dora@example.org"):
                assert target in mails, container.text()
    finally:
        sink.stop()


# The settings of the gateway it takes over from, as they are there.
ENVIRONMENT = {
    "MYHOSTNAME": "swiftdrop.example.com",
    "RECIPIENTS": '["test@example.com", "test2@example.com", '
                  '"production@example.com"]',
    "FORWARDS": '{"postmaster@example.com": "admin@example.net", '
                '"abuse@example.com": "admin@example.net", '
                '"devnull@example.com": "nobody@example.net"}',
    "POSTMASTER": "admin@example.net",
    "SWIFTDROP_DEFAULT_RECIPIENTS": "test@example.com,test2@example.com",
    "SWIFTDROP_DEFAULT_CONTAINER": "acceptance",
    "SWIFTDROP_DEFAULT_AUTH_VERSION": "3",
    "SWIFTDROP_DEFAULT_AUTHURL": "https://keystone-server/v3",
    "SWIFTDROP_DEFAULT_USER": "myuser",
    "SWIFTDROP_DEFAULT_KEY": "xxx",
    "SWIFTDROP_DEFAULT_OS_OPTIONS_PROJECT_DOMAIN_NAME": "project_domain",
    "SWIFTDROP_DEFAULT_OS_OPTIONS_PROJECT_NAME": "project",
    "SWIFTDROP_DEFAULT_OS_OPTIONS_USER_DOMAIN_NAME": "user_domain",
    "SWIFTDROP_PRODUCTION_RECIPIENTS": "production@example.com",
    "SWIFTDROP_PRODUCTION_CONTAINER": "production",
}
INI = """[DEFAULT]
recipients = test@example.com,test2@example.com
container = acceptance
auth_version = 3
authurl = https://keystone-server/v3
user = myuser
key = xxx
os_options_project_name = project
os_options_project_domain_name = project_domain
os_options_user_domain_name = user_domain

[PRODUCTION]
recipients = production@example.com
container = production
"""


def test_ini_of_the_gateway_it_takes_over_from(tmp_path):
    path = tmp_path / "swiftdrop.ini"
    path.touch(mode=0o600)
    path.write_text(INI)
    of_file = program.run("-c", path, "config")
    assert (of_file.returncode, of_file.stderr) == (0, "")
    variables = {name: value for name, value in ENVIRONMENT.items()
                 if name.startswith("SWIFTDROP_")}
    none = tmp_path / "none.ini"
    assert program.run("-c", none, "config",
                       env=variables).stdout == of_file.stdout
    # A blank value is one that the section does not inherit.
    variables["SWIFTDROP_PRODUCTION_OS_OPTIONS_PROJECT_NAME"] = ""
    shown = program.run("-c", none, "config", env=variables).stdout
    _, default, production = re.split(r"(?m)^\[(?:DEFAULT|PRODUCTION)\]\n",
                                      shown)
    assert "os_options_project_name = project\n" in default
    assert "os_options_project_name = \n" in production


def populate(keystone):
    """Makes the user and the project; returns the user's connection."""
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
    from keystoneclient.v3 import client
    admin = client.Client(session=session.Session(v3.Password(
        keystone.url, username="admin", password="admin-password",
        user_domain_id="default", project_name="admin",
        project_domain_id="default")))
    project = admin.projects.create(
        "project", admin.domains.create("project_domain"))
    user = admin.users.create(
        "myuser", domain=admin.domains.create("user_domain"), password="xxx")
    role, = admin.roles.list(name="member")
    admin.roles.grant(role, user=user, project=project)
    return swiftclient.Connection(
        authurl=keystone.url, user="myuser", key="xxx", auth_version="3",
        os_options={"project_name": "project",
                    "project_domain_name": "project_domain",
                    "user_domain_name": "user_domain"})


def test_environment_of_the_gateway_it_takes_over_from(podman, tmp_path,
                                                       lab_folder):
    """All of it, but for where Keystone is and who takes the forwards."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(image.network())
        swift = lab.Swift(f"{lab_folder}/original-swift", keystone=True)
        sink = lab.Sink(f"{lab_folder}/original-sink")
        for server in (swift, sink):
            server.start()
            stack.callback(server.stop)
        owner = populate(swift.keystone)
        for name in ("acceptance", "production"):
            owner.put_container(name)
        container = stack.enter_context(image.Container(podman, tmp_path, {
            **ENVIRONMENT, "SWIFTDROP_DEFAULT_AUTHURL": swift.keystone.url,
            "POSTFIX_relayhost": f"[127.0.0.1]:{sink.port}",
            "POSTFIX_disable_dns_lookups": "yes"}))
        stack.callback(lambda: print(container.text()))
        for user in ("test", "test2", "production", "postmaster", "abuse",
                     "devnull"):
            with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
                client.sendmail("x@foreign.example", f"{user}@example.com",
                                f"Subject: to {user}\r\n\r\nx\r\n")
        for name, users in (("acceptance", ["test", "test2"]),
                            ("production", ["production"])):
            mails = [owner.get_object(name, entry["name"])[1]
                     for entry in owner.get_container(name)[1]]
            assert sorted(re.findall(rb"Subject: to (\w+)",
                                     b"".join(mails))) == \
                [user.encode() for user in users]
        for _ in range(300):
            if len(sink.mails()) == 3:
                break
            time.sleep(0.1)
        assert sorted(
            (re.search(rb"X-Rcpt-Args: <(.*?)>", mail)[1],
             re.search(rb"Subject: to (\w+)", mail)[1])
            for mail in sink.mails()) == [
                (b"admin@example.net", b"abuse"),
                (b"admin@example.net", b"postmaster"),
                (b"nobody@example.net", b"devnull")]
