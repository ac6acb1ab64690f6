# SPDX-License-Identifier: GPL-3.0-or-later
"""A journal and a syslog of a test's own, where programs look for them."""

import os
import socket
import struct
import subprocess

import pytest

from helpers import program


@pytest.fixture
def places(short_path):
    """A journal and a syslog socket, and the prefix that puts them where
    programs look for them."""
    prefix = program.mounts(short_path, "/run", "/dev")
    found = {}
    for name, path in (("journal", "run/systemd/journal/socket"),
                       ("syslog", "dev/log")):
        (short_path / path).parent.mkdir(parents=True, exist_ok=True)
        found[name] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        found[name].bind(str(short_path / path))
        found[name].setblocking(False)
    yield prefix, found["journal"], found["syslog"]
    found["journal"].close()
    found["syslog"].close()


def run_for_journal(stream, prefix, *arguments):
    """A subcommand whose output is the journal's as systemd has it: it ended
    with this, and wrote what is in the file."""
    with open(stream, "w") as file:
        found = stream.stat()
        done = subprocess.run(
            [*prefix, program.BINARY, *arguments], timeout=program.PATIENCE,
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            env=program.environment({
                "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}))
    return done.returncode, stream.read_text()


def received(sock):
    """The datagrams that are there; a descriptor's content where one was
    passed, as the journal has it."""
    found = []
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(sock, 65536, 4)
        except BlockingIOError:
            return found
        for number in fds:
            data += os.pread(number, 1 << 20, 0)
            os.close(number)
        found.append(data)


def fields(datagram):
    """The fields of one entry of the journal's native protocol."""
    found = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name = line
            size, = struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8:8 + size], datagram[9 + size:]
        found[name.decode()] = value.decode()
    return found
