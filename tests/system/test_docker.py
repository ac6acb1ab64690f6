# SPDX-License-Identifier: GPL-3.0-or-later
"""The image built and run by a real Docker, and examples/compose.yaml brought
up by docker-compose, with a Swift of ours in the place of a published one."""

import json
import os
import pathlib
import shutil
import smtplib
import subprocess
import tarfile
import threading
import time

import pytest

from conftest import TREE
from lab import image
from lab.docker import Docker

pytestmark = pytest.mark.long

EXAMPLES = TREE / "examples"
ANOTHER = 1234  # neither root nor anybody inside

# What compose.yaml asks of openstackswift/saio: Swift with version 1 at port
# 8080, curl and the client.
SAIO = """FROM base
RUN apt-get update && apt-get install -y --no-install-recommends \\
    curl python3-swift python3-swiftclient
COPY . /lab
CMD ["python3", "/lab/serve.py"]
"""
SERVE = """import os, socket
sockets = [socket.create_server(place) for place in
           [("127.0.0.1", 0)] * 3 + [("0.0.0.0", 8080)]]
for one in sockets:
    one.set_inheritable(True)
os.makedirs("/srv/swift")
os.execv("/usr/bin/python3", ["python3", "/lab/swift_server.py", "/srv/swift",
                              *(str(one.fileno()) for one in sockets)])
"""


@pytest.fixture(scope="module")
def docker(podman, lab_folder):
    """With our image, the other one, and a network of its own."""
    docker = Docker(f"{lab_folder}/docker")
    with docker.running("--bridge=none"):
        base = docker.folder / "base.tar"
        podman.run("save", "-o", base, image.BASE)
        docker.run("load", "-i", base)
        base.unlink()
        docker.run("tag", image.BASE, "base")
        # As it lies here, with what the host has built in it.
        assert (TREE / "swiftdrop").exists() and (TREE / "build").exists()
        docker.run("build", "--network=host", "--build-arg=BASE=base",
                   "-f", "image/Containerfile", "-t", "swiftdrop", ".",
                   cwd=TREE)
        docker.sent = sent(docker)
        saio = docker.folder / "saio"
        shutil.copytree(TREE / "tests" / "lab" / "servers", saio)
        (saio / "serve.py").write_text(SERVE)
        docker.run("build", "--network=host", "-t", "openstackswift/saio",
                   "-f-", saio, input=SAIO)
    try:
        with image.network(), docker.running():
            yield docker
    finally:
        shutil.rmtree(docker.folder / "data")


def sent(docker):
    """Returns the files of the tree that reach a build."""
    docker.run("build", "-t", "sent", "-f-", TREE,
               input='FROM scratch\nCOPY . /sent\nCMD ["/none"]\n')
    name = docker.run("create", "sent").stdout.strip()
    tar = docker.folder / "sent.tar"
    docker.run("export", "-o", tar, name)
    docker.run("rm", name)
    with tarfile.open(tar) as files:
        return {entry.name.removeprefix("sent/") for entry in files
                if entry.isfile() and entry.name.startswith("sent/")}


def test_nothing_of_the_host_goes_into_a_build(docker):
    assert {"Makefile", "swift.c", "lib/buf.c", "image/main.cf"} <= docker.sent
    tracked = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"],
                             cwd=TREE, check=True, text=True,
                             stdout=subprocess.PIPE).stdout.split()
    assert docker.sent <= set(tracked)
    assert not [name for name in docker.sent if name.startswith("tests/")]


def test_program_is_the_images_own(docker):
    """Linked for the image, whose libcurl is in it; the host's is not."""
    name = docker.run("create", "swiftdrop").stdout.strip()
    copy = docker.folder / "swiftdrop"
    docker.run("cp", f"{name}:/usr/sbin/swiftdrop", copy)
    docker.run("rm", name)
    assert b"libcurl.so" not in copy.read_bytes()
    assert b"libcurl.so" in (TREE / "swiftdrop").read_bytes()


class Project:
    """examples/compose.yaml, with a key of its own."""

    def __init__(self, docker, folder):
        self.docker = docker
        shutil.copy(EXAMPLES / "compose.yaml", folder)
        self.key = folder / "swift.key"
        self.key.write_text("testing")
        self.key.chmod(0o600)
        os.chown(self.key, ANOTHER, ANOTHER)
        self.file = folder / "compose.yaml"

    def run(self, *arguments, **options):
        return self.docker.run("-p", "example", "-f", self.file, *arguments,
                               client="docker-compose", **options)

    def inspect(self, path):
        name = self.run("ps", "-a", "-q", "mail").stdout.strip()
        return json.loads(self.docker.run("inspect", name).stdout)[0][path]

    def await_(self, what, seconds=120):
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, \
                self.run("logs", "--no-color").stdout[-4000:]
            time.sleep(0.3)


@pytest.fixture(scope="module")
def project(docker, tmp_path_factory):
    project = Project(docker, tmp_path_factory.mktemp("compose"))
    try:
        project.run("up", "-d", "--no-build")
        project.await_(lambda: "port 25 is open" in project.run(
            "logs", "--no-color", "mail").stdout)
        yield project
    finally:
        print(project.run("logs", "--no-color", check=False).stdout)
        project.run("down", "-v", "-t", "1", check=False)


def names(project):
    return project.run("exec", "-T", "swift", "swift",
                       "--auth=http://127.0.0.1:8080/auth/v1.0",
                       "--user=test:tester", "--key=testing", "list",
                       "mail").stdout.split()


def test_compose_stores_a_mail(project):
    before = len(names(project))
    subprocess.run([EXAMPLES / "send-mail.sh", "127.0.0.1:2525",
                    "orders@example.org"], check=True,
                   stdout=subprocess.DEVNULL)
    assert len(names(project)) == before + 1


def test_compose_runs_it_with_little(project):
    host = project.inspect("HostConfig")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert sorted(name.removeprefix("CAP_") for name in host["CapAdd"]) == \
        sorted(image.CAPABILITIES)
    secret, = [mount for mount in project.inspect("Mounts")
               if mount["Destination"] == "/run/secrets/swift_key"]
    assert pathlib.Path(secret["Source"]).samefile(project.key)


def test_it_becomes_healthy(project):
    project.await_(lambda: project.inspect("State")["Health"]["Status"]
                   == "healthy")
    assert project.inspect("State")["Health"]["Log"][-1]["ExitCode"] == 0


def test_stop_lets_a_running_upload_finish(project):
    """The store hangs, the container is told to stop, the store goes on."""
    before = len(names(project))
    project.run("pause", "swift")
    replies = []

    def send():
        with smtplib.SMTP("127.0.0.1", 2525, timeout=100) as client:
            client.ehlo("client.example")
            client.mail("a@example.net")
            client.rcpt("orders@example.org")
            replies.append(client.data(b"Subject: drained\r\n\r\nx\r\n"))

    sender = threading.Thread(target=send)
    sender.start()
    project.await_(lambda: "swiftdrop" in project.run(
        "top", "mail").stdout.replace("swiftdrop-entry", ""))
    stop = threading.Thread(target=lambda: project.run("stop", "mail"))
    stop.start()
    project.await_(lambda: "port 25 is closed" in project.run(
        "logs", "--no-color", "mail").stdout)
    assert project.inspect("State")["Running"] and not replies
    project.run("unpause", "swift")
    sender.join(100)
    stop.join(100)
    assert replies[0][0] == 250
    assert project.inspect("State")["ExitCode"] == 0
    assert len(names(project)) == before + 1
