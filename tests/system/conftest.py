# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers and helpers that the system tests share.

The servers start when the first test asks for them and end with the run.
Their folder is removed unless a test failed.
"""

import os
import pathlib
import shutil
import sys
import tempfile

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests"))

import lab  # noqa: E402
from helpers import fixtures  # noqa: E402
from lab import debian  # noqa: E402

bench, relay, store = fixtures.bench, fixtures.relay, fixtures.store
short_path = fixtures.short_path


@pytest.fixture(scope="session")
def swiftdrop_binary():
    """The program under test: $SWIFTDROP_BINARY, else the tree's own."""
    path = os.path.abspath(os.environ.get("SWIFTDROP_BINARY",
                                          TREE / "swiftdrop"))
    assert os.access(path, os.X_OK), f"{path} is not built"
    return path


@pytest.fixture(scope="session")
def lab_folder(request):
    """A folder for all servers; every user can reach what is in it."""
    path = tempfile.mkdtemp(prefix="swiftdrop-test-")
    os.chmod(path, 0o755)
    yield path
    if request.session.testsfailed:
        print(f"\nThe servers' logs are in {path}")
    else:
        shutil.rmtree(path)


@pytest.fixture(scope="session")
def package(lab_folder):
    """The Debian package of this tree, as lab.debian.build() returns it."""
    return debian.build(TREE, f"{lab_folder}/package")


@pytest.fixture(scope="session")
def authority(lab_folder):
    """The certificate authority of all TLS servers here."""
    return lab.Authority(f"{lab_folder}/authority")


@pytest.fixture(scope="session")
def swift(lab_folder):
    """A Swift with tempauth, over HTTP."""
    yield from _running(lab.Swift(f"{lab_folder}/swift"))


@pytest.fixture(scope="session")
def tls_swift(lab_folder, authority):
    """A Swift with tempauth, over HTTPS."""
    yield from _running(lab.Swift(f"{lab_folder}/tls-swift",
                                  authority=authority))


@pytest.fixture(scope="session")
def keystone_swift(lab_folder):
    """A Swift with a Keystone before it, over HTTP."""
    yield from _running(lab.Swift(f"{lab_folder}/keystone-swift",
                                  keystone=True))


def _running(server):
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def container(swift):
    """An empty container in swift, which is whole again after the test."""
    yield swift.container()
    swift.restore()


@pytest.fixture
def keystone_container(keystone_swift):
    """The same in keystone_swift."""
    yield keystone_swift.container()
    keystone_swift.restore()


@pytest.fixture
def tls_container(tls_swift):
    """The same in tls_swift."""
    yield tls_swift.container()
    tls_swift.restore()


@pytest.fixture(scope="session")
def sink_server(lab_folder):
    """What takes the mail that Postfix sends elsewhere."""
    yield from _running(lab.Sink(f"{lab_folder}/sink"))


@pytest.fixture
def sink(sink_server):
    sink_server.clear()
    return sink_server


STORED = ("a@example.org", "b@example.org", "c@example.org",
          "postmaster@example.org", "m\u00fcller@example.org",
          "stra\u00dfe@example.org",
          "@all.example.org")
FORWARDS = {"away@example.org": "jane@elsewhere.example",
            "back@example.org": "a@example.org",
            "both@example.org": "a@example.org, jane@elsewhere.example",
            "gone@example.org": "nobody@[127.0.0.1]",
            "umlaut@example.org": "m\u00fcller@example.org"}
# The server behind refuses one subject, by cleanup(8): at the end of data.
MAIN = {"header_checks": "regexp:{{/^Subject: refuse me behind/ "
                         "REJECT refused by the server behind}}"}
DOMAINS = ("example.org", "all.example.org")


@pytest.fixture(scope="session")
def postfix_server(lab_folder, swiftdrop_binary, sink_server):
    """A Postfix that runs swiftdrop by spawn(8)."""
    yield from _running(lab.Postfix(
        f"{lab_folder}/postfix", swiftdrop_binary, {}, STORED, FORWARDS,
        relay_port=sink_server.port, main=MAIN, domains=DOMAINS))


@pytest.fixture
def postfix(postfix_server, container, sink):
    """The same, and all of STORED goes to container."""
    with postfix_server.new_log() as log:
        postfix_server.configure({"stored": {
            "recipients": ", ".join(STORED), **container.options()}})
        yield postfix_server
        postfix_server.clear()
        print(log())


@pytest.fixture
def ini(tmp_path):
    """A function that writes a swiftdrop.ini and returns its path.

    It takes the sections as a dict of dicts.
    """
    def write(sections, name="swiftdrop.ini"):
        path = tmp_path / name
        path.write_text(lab.ini_text(sections))
        path.chmod(0o600)
        return str(path)
    return write
