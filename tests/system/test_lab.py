# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what the other tests take for granted."""

import os
import signal
import subprocess
import sys
import time

import pytest
import swiftclient

LAB = os.path.join(os.path.dirname(__file__), "..")


@pytest.mark.parametrize("kind", ["swift", "tls_swift", "keystone_swift"])
def test_swift_keeps_objects_over_a_restart(request, kind):
    container = request.getfixturevalue(kind).container()
    container.put("cur/x", b"hello")
    container.swift.stop()
    with pytest.raises(OSError):
        lab_connects(container.swift.port)
    container.swift.start()
    assert container.only()[2] == b"hello"


def lab_connects(port):
    import socket
    socket.create_connection(("127.0.0.1", port), 5).close()


def test_a_planted_fault_comes_and_goes(container):
    container.swift.fault("503")
    connection = container.swift.connection()
    connection.retries = 0
    with pytest.raises(swiftclient.ClientException) as caught:
        connection.put_object(container.name, "cur/x", b"hello")
    assert caught.value.http_status == 503
    container.swift.fault()
    assert container.names() == []
    container.put("cur/x", b"hello")
    assert container.names() == ["cur/x"]


def test_no_server_outlives_its_parent(tmp_path):
    script = (f"import sys, time; sys.path.insert(0, {LAB!r}); import lab\n"
              f"swift = lab.Swift({str(tmp_path / 'swift')!r}, keystone=True,"
              f" authority=lab.Authority({str(tmp_path / 'ca')!r}))\n"
              "swift.start(); print('up', flush=True); time.sleep(600)")
    parent = subprocess.Popen([sys.executable, "-c", script],
                              stdout=subprocess.PIPE)
    assert parent.stdout.readline() == b"up\n"
    assert len(processes_of(tmp_path)) == 5  # with two stunnels, and parent
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(tmp_path) == []


def processes_of(folder):
    """Returns the command lines of all processes that name the folder."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and entry != str(os.getpid()):
            try:
                with open(f"/proc/{entry}/cmdline") as file:
                    line = file.read().replace("\0", " ")
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
