# SPDX-License-Identifier: GPL-3.0-or-later
"""A container with mail in it, and swiftq to work on it."""

import collections
import hashlib
import importlib.util
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import time
import urllib.parse

import redis

import lab

TREE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))

from swiftq import faults, store  # noqa: E402
from swiftq.__main__ import main  # noqa: E402

COMMAND = ("/usr/bin/python3", "-m", "swiftq")      # in TREE
FOLDERS = ("cur", "processing", "retry", "failed", "done")
# A shell's command that waits for the file $0, and says so.
WAIT = 'echo ran >> "$0.ran"; while [ ! -e "$0" ]; do sleep 0.1; done'


class Process(multiprocessing.get_context("fork").Process):
    """A swiftq, forked from here: Debian's swiftclient takes 0.6 s of CPU
    to load, which a hundred tests need not do a hundred times.

    It and swiftclient wait a tenth of a second for a server that is away,
    not one.
    """

    def __init__(self, argv, stdout, stderr, env=None, before=None,
                 program=main):
        super().__init__()
        self.argv, self.out, self.err = argv, stdout, stderr
        self.env, self.before, self.program = env, before, program

    def run(self):
        os.dup2(self.out.fileno(), 1)
        os.dup2(self.err.fileno(), 2)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")
        signal.signal(signal.SIGINT, signal.default_int_handler)
        faults.DELAY_MIN_S = 0.1
        connect = store.connect
        store.connect = lambda account: impatient(connect(account))
        if self.env is not None:
            os.environ.clear()
            os.environ.update(self.env)
        if self.before:
            self.before()
        sys.exit(self.program(self.argv))

    def wait(self, seconds=120):
        """The exit status; minus the signal's number when it was one."""
        self.join(seconds)
        assert self.exitcode is not None, f"still runs after {seconds} s"
        return self.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def impatient(connection):
    connection.starting_backoff = 0.1
    return connection


def run(argv, status=0, env=None, program=main):
    """Runs swiftq to its end; fails unless it exits with STATUS."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Process(argv, out, err, env, program=program)
        process.start()
        try:
            done = process.wait()
        finally:
            process.kill()
            process.join()
        out.seek(0)
        err.seek(0)
        result = Result(out.read(), err.read().decode())
    assert done == status, (f"{argv}: exit status {done}, not {status}\n"
                            f"{result.err}{result.stdout.decode()}")
    return result


Result = collections.namedtuple("Result", "stdout err")


class Box:
    def __init__(self, container, ini, tmp_path):
        self.container = container
        self.name = container.name
        self.swift = container.swift
        self.connection = self.swift.connection()
        self.tmp_path = tmp_path
        self.lock = f"flock:{tmp_path}/locks"
        self._ini = ini
        self.ini = self.config()
        self._number = 0
        self._started = []

    def config(self, name="swiftdrop.ini", **options):
        """Writes a configuration with one account; returns its path."""
        return self._ini({"box": {"recipients": "a@swift.test",
                                  **self.container.options(), **options}},
                         name)

    # Mail as swiftdrop stores it.

    def put(self, content=None, folder="cur/", name=None, age=0, headers=(),
            **metadata):
        """Stores a message; returns its Maildir name."""
        self._number += 1
        if content is None:
            content = (f"Subject: {self._number}\r\n\r\n"
                       f"text {os.urandom(4).hex()}\r\n").encode()
        name = name or (f"{int(time.time()) - age}.M{self._number:06d}P1"
                        f"R{os.urandom(8).hex()}.host,S={len(content)}")
        values = {"Envelope-Count": "1", "Envelope-From": "from@swift.test",
                  "Envelope-To": "a@swift.test",
                  "Sha256": hashlib.sha256(content).hexdigest(),
                  "Fingerprint": hashlib.sha256(
                      b"fingerprint" + content).hexdigest(),
                  "Queue-Id": "4XyZ", **metadata}
        self.connection.put_object(
            self.name, folder + name, content, content_type="message/rfc822",
            headers={**{"X-Object-Meta-" + k.replace("_", "-"): v
                        for k, v in values.items()}, **dict(headers)})
        return name

    def copy(self, source, to, **metadata):
        """A second copy, as a crash between copy and delete leaves one."""
        self.connection.copy_object(
            self.name, source, f"/{self.name}/{to}",
            {"X-Object-Meta-" + k.replace("_", "-"): v
             for k, v in metadata.items()})

    # What became of it.

    def names(self, folder):
        """The Maildir names in a folder, oldest first."""
        return sorted(n.rsplit("/", 1)[1]
                      for n in self.container.names(folder + "/"))

    def where(self):
        """Folder -> names, for those folders that have any."""
        found = {}
        for name in self.container.names():
            folder, _, rest = name.partition("/")
            if folder in FOLDERS:
                found.setdefault(folder, []).append(rest.rsplit("/", 1)[-1])
        return {folder: sorted(names) for folder, names in found.items()}

    def raw(self, name):
        """An object's headers as Swift sent them."""
        self.connection.head_object(self.name, name)
        return self.connection.http_conn[1].resp.headers

    # swiftq.

    def argv(self, *args, ini=None, lock=None):
        return ["-c", ini or self.ini, "--lock", lock or self.lock, *args]

    def swiftq(self, *args, ini=None, lock=None, **kwargs):
        """Runs swiftq to its end, as run() does."""
        return run(self.argv(*args, ini=ini, lock=lock), **kwargs)

    def events(self, *args, **kwargs):
        """Runs swiftq with --json; returns its events, summary last."""
        done = self.swiftq("--json", *args, **kwargs)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def process(self, *args, out, err):
        """Starts swiftq with these files."""
        process = Process(self.argv(*args), out, err)
        process.start()
        self._started.append(process)
        return process

    def start(self, *args, lock=None, before=None):
        """Starts swiftq with --json; its events go to a file, see
        events_of()."""
        path = f"{self.tmp_path}/{len(self._started)}.log"
        with open(path, "wb") as log:
            process = Process(self.argv("--json", *args, lock=lock), log, log,
                              before=before)
            process.start()
        process.log = path
        self._started.append(process)
        return process

    @staticmethod
    def ran(go):
        """The file that WAIT writes before it waits for go."""
        return go.with_name(go.name + ".ran")

    def close(self):
        for process in self._started:
            process.kill()
            process.join()


def load_take_mail():
    spec = importlib.util.spec_from_file_location(
        "take_mail", TREE / "examples" / "take-mail.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TakeMail:
    """examples/take-mail.py, and the variables that it logs in by."""

    main = staticmethod(load_take_mail().main)

    def __init__(self, box):
        self.box = box
        swift = box.swift
        self.environ = {**os.environ, "ST_AUTH": swift.authurl,
                        "ST_USER": swift.user, "ST_KEY": swift.key}
        if swift.keystone:
            self.environ = {**os.environ, "OS_AUTH_URL": swift.authurl,
                            "OS_USERNAME": swift.keystone.user,
                            "OS_PASSWORD": swift.keystone.password,
                            "OS_PROJECT_NAME": swift.keystone.project}

    def argv(self, *command):
        return ["--lock", f"{self.box.tmp_path}/lock", self.box.name, "--",
                *command]

    def run(self, *command, status=0):
        done = run(self.argv(*command), status, self.environ, self.main)
        return done.stdout.decode() + done.err

    def start(self, *command):
        with open(f"{self.box.tmp_path}/take-mail.log", "wb") as log:
            process = Process(self.argv(*command), log, log, self.environ,
                              program=self.main)
            process.start()
        self.box._started.append(process)
        return process


class RedisServer:
    """A Redis that keeps nothing: after stop() and start() it is empty."""

    def __init__(self, folder):
        self.port = lab.process.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self._argv = ["redis-server", "--bind", "127.0.0.1",
                      "--port", str(self.port), "--dir", str(folder),
                      "--save", "", "--appendonly", "no"]
        self._log = f"{folder}/redis.log"

    def start(self):
        self._process = lab.process.start(self._argv, self._log)
        lab.process.wait_until(
            lambda: lab.process.connects(self.port), self._process, "Redis",
            self._log)

    def stop(self):
        self._process.kill()
        self._process.wait()


def events_of(process):
    """The events so far of a process that start() has started."""
    with open(process.log) as log:
        return [json.loads(line) for line in log if line.startswith("{")]


def wait_for(condition, what, seconds=60, every_s=0.05):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not after {seconds} s: {what}"
        time.sleep(every_s)


def quote(address):
    """As the filter writes an address into a list."""
    return urllib.parse.quote(address, safe="!#$&'()*+/:;=?@[]^_`{|}~-.<>\"")


def add_rows(box, names):
    """Puts names into the container's listing that have no object: what a
    listing that lags behind shows, and a long one quickly made."""
    from swift.common.utils import Timestamp
    from swift.container.backend import ContainerBroker
    paths = [os.path.join(folder, file)
             for folder, _, files in os.walk(f"{box.swift.folder}/devices")
             for file in files
             if file.endswith(".db") and "/containers/" in folder]
    brokers = [ContainerBroker(path) for path in paths]
    broker, = [b for b in brokers if b.get_info()["container"] == box.name]
    now = Timestamp.now().internal
    broker.merge_items([
        {"name": name, "created_at": now, "size": 4, "deleted": 0,
         "content_type": "message/rfc822", "etag": "0" * 32,
         "storage_policy_index": 0} for name in names])
