# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples of how to run the image: their form, and what can be run."""

import os
import pathlib
import re
import shutil
import smtplib
import subprocess
import time

import docker.utils.build
import pytest
import yaml

import lab
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
        assert os.path.exists(volume.split(":")[0])


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
