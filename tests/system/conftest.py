# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers and helpers that the system tests share.

The servers start when the first test asks for them and end with the run;
each worker of pytest-xdist has its own. Their folder is removed unless a test
failed.
"""

import fcntl
import json
import os
import pathlib
import shutil
import sys
import tempfile

import pytest

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "tests"))

import lab  # noqa: E402
from helpers import fixtures, journal  # noqa: E402
from lab import debian, image  # noqa: E402

bench, relay, store = fixtures.bench, fixtures.relay, fixtures.store
short_path, places = fixtures.short_path, journal.places


# The files that take longest, begun first: the short ones fill the gaps at the
# end. A file's tests run in one worker, one after the other. test_systemd.py
# comes when the image is built and the longest single test is over: its test
# that is marked alone makes the others wait.
LONG = ("test_image.py", "test_swiftq_workers.py", "test_readme_host.py",
        "test_inject.py", "test_postfix_mail.py", "test_readme.py",
         "test_debian.py", "test_stores.py", "test_store.py", "test_systemd.py",
         "test_fronts.py", "test_swiftq.py", "test_mtas.py", "test_cost.py",
         "test_torture.py")


def pytest_configure(config):
    """One folder for the run: the workers share what is in it."""
    if hasattr(config, "workerinput"):
        config.run_folder = config.workerinput["run_folder"]
        return
    config.run_folder = tempfile.mkdtemp(prefix="swiftdrop-test-")
    os.chmod(config.run_folder, 0o755)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    node.workerinput["run_folder"] = node.config.run_folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):
        return
    if session.testsfailed:
        print(f"\nThe servers' logs are in {session.config.run_folder}")
    else:
        shutil.rmtree(session.config.run_folder)


def pytest_collection_modifyitems(items):
    def rank(item):
        name = item.path.name
        return LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=rank)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that is marked alone has the machine for itself.

    It waits until what other workers run has ended, and they for it: room is
    held by all who test, gate by who comes in.
    """
    folder = item.config.run_folder
    alone = item.get_closest_marker("alone")
    with open(f"{folder}/gate", "w") as gate, \
            open(f"{folder}/room", "w") as room:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(gate, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def shared(request):
    """A function that has something made once for all workers.

    It takes a name and a function, which gets a folder of that name, makes
    the thing there and returns what json can keep.
    """
    def get(name, make):
        folder = pathlib.Path(request.config.run_folder, name)
        made = folder / "made.json"
        with open(f"{folder}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder.mkdir()
                made.write_text(json.dumps(make(str(folder))))
        return json.loads(made.read_text())
    return get


@pytest.fixture(scope="session")
def swiftdrop_binary():
    """The program under test: $SWIFTDROP_BINARY, else the tree's own."""
    path = os.path.abspath(os.environ.get("SWIFTDROP_BINARY",
                                          TREE / "swiftdrop"))
    assert os.access(path, os.X_OK), f"{path} is not built"
    return path


@pytest.fixture(scope="session")
def lab_folder(request, worker_id):
    """A folder for this worker's servers; every user can reach what is in it.
    """
    path = f"{request.config.run_folder}/{worker_id}"
    os.mkdir(path)
    os.chmod(path, 0o755)
    return path


@pytest.fixture(scope="session")
def package(shared):
    """The Debian package of this tree, as lab.debian.build() returns it."""
    return shared("package", lambda folder: debian.build(TREE, folder))


@pytest.fixture(scope="session")
def podman(shared, lab_folder):
    """A podman that knows the image and its other target, filter."""
    podman = image.Podman(f"{lab_folder}/podman")
    podman.image, podman.filter = shared("image", lambda folder: podman.build(
        folder, f"{folder}/log"))
    return podman


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
def cloud(lab_folder):
    """A Swift with all the middleware of a cloud."""
    yield from _running(lab.Swift(f"{lab_folder}/cloud", cloud=True))


@pytest.fixture(scope="session")
def ceph_cluster(lab_folder):
    """A Ceph; how to speak to it is ceph and keystone_ceph."""
    yield from _running(lab.Ceph(f"{lab_folder}/ceph"))


@pytest.fixture(scope="session")
def ceph(ceph_cluster):
    """Its RADOS gateway with v1 authentication."""
    return ceph_cluster.gateway()


@pytest.fixture(scope="session")
def keystone_ceph(ceph_cluster):
    """Its RADOS gateway with a Keystone."""
    return ceph_cluster.gateway(keystone=True)


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


@pytest.fixture
def box(container, ini, tmp_path):
    """A container with mail in it, and swiftq to work on it."""
    from swiftq_box import Box      # loads swiftclient
    box = Box(container, ini, tmp_path)
    yield box
    box.close()


@pytest.fixture
def redis_server(tmp_path):
    from swiftq_box import RedisServer
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
