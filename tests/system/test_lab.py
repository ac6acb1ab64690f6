# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: what the other tests take for granted."""

import os
import smtplib
import subprocess
import sys
import time

import lab
import pytest
import swiftclient

LAB = os.path.join(os.path.dirname(__file__), "..")


@pytest.mark.parametrize("kind", ["swift", "tls_swift", "keystone_swift"])
def test_swift_keeps_objects_over_a_restart(request, kind):
    container = request.getfixturevalue(kind).container()
    container.put("cur/x", b"hello")
    container.swift.go_down()
    assert not lab.process.connects(container.swift.port)
    container.swift.start()
    assert container.only()[2] == b"hello"


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


def test_a_mail_is_in_the_sink_when_it_is_complete(sink):
    with smtplib.SMTP("127.0.0.1", sink.port, timeout=60) as client:
        client.mail("a@example.net")
        client.rcpt("jane@elsewhere.example")
        assert len(list(sink.folder.iterdir())) == 1
        assert sink.mails() == []
        client.data(b"Subject: hello\r\n\r\nhello\r\n")
        mail, = sink.mails()
    assert b"<jane@elsewhere.example>" in mail and b"\nhello\n" in mail


PARENT = """
import sys, time
sys.path.insert(0, sys.argv[1])
import lab
folder = sys.argv[2]
authority = lab.Authority(f"{folder}/ca")
for server in (lab.Swift(f"{folder}/swift", True, authority),
               lab.Sink(f"{folder}/sink"),
               lab.Postfix(f"{folder}/postfix", "/bin/true", {})):
    server.start()
print("up", flush=True)
time.sleep(600)
"""


def test_no_server_outlives_its_parent(lab_folder):
    folder = f"{lab_folder}/orphans"
    os.mkdir(folder)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, LAB, folder],
                              stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"up\n"
        # master(8) takes connections before it has started qmgr(8).
        expected = {"master", "qmgr", "python3", "smtp-sink", "stunnel4"}
        assert wait(lambda: expected <= {
            os.path.basename(argv[0]) for argv in processes_of(folder)}), \
            processes_of(folder)
    finally:
        parent.kill()
        parent.wait()
    assert wait(lambda: not processes_of(folder)), processes_of(folder)


def wait(condition, seconds=60):
    """Waits until condition() is true; returns whether it is."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def processes_of(folder):
    """Returns the arguments of all processes that name or work in folder."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or entry == str(os.getpid()):
            continue
        try:
            with open(f"/proc/{entry}/cmdline") as file:
                line = file.read()
            directory = os.readlink(f"/proc/{entry}/cwd")
        except OSError:
            continue
        if folder in line or folder in directory:
            found.append(line.split("\0"))
    return found
