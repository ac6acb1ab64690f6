# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the black-box tests."""

import pathlib
import tempfile

import pytest

import standin
from helpers import program


class Bench:
    """Makes configurations and sessions, and ends what is left of them."""

    def __init__(self, folder):
        self.folder = folder
        self.count = 0
        self.sessions = []

    def config(self, text="", **sections):
        """Writes a configuration, private as it should be; its path.

        Without text of its own it logs to descriptor 2."""
        self.count += 1
        path = self.folder / f"swiftdrop{self.count}.ini"
        if not text:
            sections["SMTP"] = {"log": "stderr", **sections.get("SMTP", {})}
        if isinstance(text, str):
            text = text.encode(errors="surrogateescape")
        path.touch(mode=0o600)
        path.write_bytes(text + program.ini(**sections).encode())
        return path

    def file(self, name, content, mode=0o600):
        path = self.folder / name
        path.touch(mode=mode)
        path.write_bytes(content.encode() if isinstance(content, str)
                         else content)
        path.chmod(mode)
        return path

    def session(self, config=None, arguments=None, **more):
        """A session with this configuration; its log is on descriptor 2."""
        self.count += 1
        more.setdefault("log", self.folder / f"log{self.count}")
        if arguments is None:
            arguments = ("-c", config)
        session = program.Session(arguments, **more)
        self.sessions.append(session)
        return session

    def small_spool(self, size, **sections):
        """A session whose spool is a file system of that size, mounted in a
        namespace of its own."""
        spool = self.folder / "spool"
        spool.mkdir()
        return self.session(
            self.config(SMTP={"spool_directory": spool}, **sections),
            prefix=("unshare", "-rm", *program.shell(
                f"mount -t tmpfs -o size={size} tmpfs {spool}")))

    def accept(self, text="", **sections):
        """config() and session(), greeted."""
        session = self.session(self.config(text, **sections))
        session.greet()
        return session

    def end(self):
        for session in self.sessions:
            session.cleanup()
        for session in self.sessions:
            if session.log and session.log.path.exists():
                print(session.log)  # shown when the test failed
                for secret in ("secrettoken", "keysecret"):
                    assert secret not in str(session.log), session.log


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path)
    yield made
    made.end()


@pytest.fixture
def store():
    """A scripted Swift with version 1 and Keystone authentication."""
    with standin.Store() as made:
        yield made


@pytest.fixture
def relay():
    """A scripted SMTP server behind the filter."""
    with standin.Relay() as made:
        yield made


@pytest.fixture
def short_path():
    """A folder whose sockets' paths are short enough."""
    with tempfile.TemporaryDirectory(prefix="sd-", dir="/tmp") as path:
        yield pathlib.Path(path)
