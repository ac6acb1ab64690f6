# SPDX-License-Identifier: GPL-3.0-or-later
"""The rights that examples/README.md gives to filter and reader, set up
with the swift client's own commands, and a mail's whole way."""

import contextlib
import re
import smtplib
import subprocess

import requests
import swiftclient.shell

from helpers import program
from swiftq_box import Box, run, wait_for

EX_NOPERM = 77
CONTENT = b"From: x@example.net\r\nSubject: rights\r\n\r\n.dot\r\ntext\r\n"


def swift(box, *args, user="test:tester", key="testing", status=0):
    """The swift client's command, as this user."""
    done = run(["swift", "-A", box.swift.authurl, "-U", user, "-K", key,
                *args], status=status, program=swiftclient.shell.main)
    return done.stdout.decode() + done.err


def filtered(binary, ini, to="a@swift.test"):
    """Sends a message to swiftdrop itself; returns its reply's code."""
    dialogue = (b"EHLO x\r\nMAIL FROM:<from@example.net>\r\nRCPT TO:<"
                + to.encode() + b">\r\nDATA\r\n"
                + CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\nQUIT\r\n")
    done = subprocess.run([binary, "-c", ini], input=dialogue,
                          env=program.environment(),
                          capture_output=True, timeout=60)
    return done.stdout.decode().splitlines()[-2]


def test_filter_writes_and_reader_moves_by_acl(box, ini, swiftdrop_binary):
    swift(box, "post", box.name, "--write-acl", "test:limited,test:reader",
          "--read-acl", "test:reader")
    options = {"recipients": "*", **box.container.options()}
    writer = ini({"box": {**options, "user": "test:limited",
                          "key": "limited"}}, "writer.ini")
    reader = ini({"box": {**options, "user": "test:reader",
                          "key": "reader"}}, "reader.ini")
    reply = filtered(swiftdrop_binary, writer)
    name = re.fullmatch(r"250 2.0.0 Ok: stored as (\S+)", reply)[1]

    # The filter cannot read, nor list.
    as_writer = {"user": "test:limited", "key": "limited", "status": 1}
    assert "403" in swift(box, "download", box.name, "cur/" + name,
                          "--output", "-", **as_writer)
    assert "403" in swift(box, "list", box.name, **as_writer)
    box.swiftq("list", ini=writer, status=EX_NOPERM)

    # The reader can do all that swiftq does, and nothing elsewhere.
    done = box.swiftq("run", "--once", "--dedupe", "--", "cat", ini=reader)
    assert done.stdout == CONTENT
    box.swiftq("purge", "done", "--older-than", "0", ini=reader)
    assert [n for n in box.container.names()
            if not n.startswith("fingerprints/")] == []
    assert "403" in swift(box, "list", user="test:reader", key="reader",
                          status=1)
    # Without the ACL it cannot.
    swift(box, "post", box.name, "--write-acl", "test:limited",
          "--read-acl", "")
    box.swiftq("list", ini=reader, status=EX_NOPERM)


def test_filter_writes_by_a_ready_query(box, ini, swiftdrop_binary):
    swift(box, "post", box.name, "-m", "Temp-URL-Key:secret-of-the-owner")
    path = f"/v1/AUTH_test/{box.name}/cur/"
    url = swift(box, "tempurl", "--prefix-based", "PUT", "30d", path,
                "secret-of-the-owner").strip()
    _, query = url.split("?")
    storage_url = f"{box.swift.url}/v1/AUTH_test"
    account = {"recipients": "*", "container": box.name,
               "auth_version": "tempurl", "storage_url": storage_url,
               "temp_url_query": query}
    reply = filtered(swiftdrop_binary, ini({"box": account}, "query.ini"))
    assert reply.startswith("250 2.0.0 Ok: stored as "), reply
    assert len(box.names("cur")) == 1

    # It is good for cur/ alone, and not for reading.
    reply = filtered(swiftdrop_binary, ini(
        {"box": {**account, "prefix": "done/"}}, "elsewhere.ini"))
    assert reply.startswith("451 4.3.5 "), reply
    for method, name in (("GET", "cur/" + box.names("cur")[0]),
                         ("PUT", "done/x"), ("DELETE", "cur/x")):
        answer = requests.request(
            method, f"{storage_url}/{box.name}/{name}?{query}", data=b"")
        assert answer.status_code == 401, (method, name)
    # What TempURL hides of the metadata from others, the reader sees.
    envelope, = box.events("take", "--output", str(box.tmp_path / "mail"))
    assert envelope["envelope_from"] == "from@example.net"
    assert envelope["envelope_to"] == ["a@swift.test"]
    assert envelope["envelope_count"] == "1"
    assert (box.tmp_path / "mail").read_bytes() == CONTENT


def test_what_swiftdrop_writes_swiftq_reads(box, ini, swiftdrop_binary):
    """Null reverse-path, many recipients; and the same mail once more."""
    many = [f"user-{i:03d}-{'x' * 40}@swift.test" for i in range(20)]
    config = ini({"box": {"recipients": "*", **box.container.options()}},
                 "both.ini")
    dialogue = "EHLO x\r\n" + "".join(
        ["MAIL FROM:<>\r\n", *(f"RCPT TO:<{a}>\r\n" for a in many),
         "DATA\r\nSubject: x\r\n\r\ntext\r\n.\r\n"] * 2) + "QUIT\r\n"
    subprocess.run([swiftdrop_binary, "-c", config], input=dialogue.encode(),
                   env=program.environment(),
                   capture_output=True, timeout=60, check=True)
    assert len(box.names("cur")) == 2
    envelope, = box.events("take", "--output", "/dev/null")
    assert envelope["envelope_from"] == ""
    assert envelope["envelope_to"] == many
    assert envelope["envelope_count"] == "20"
    assert not envelope["envelope_truncated"]
    box.swiftq("finish", envelope["name"], "done", "--dedupe")
    event, _ = box.events("run", "--once", "--dedupe", "--", "cat")
    assert (event["event"], event["duplicate_of"]) == (
        "duplicate", envelope["name"])


def test_from_smtp_to_the_command(postfix, container, ini, tmp_path):
    box = Box(container, ini, tmp_path)
    worker = box.start("run", "--poll", "0.2", "--", "sh", "-c",
                       'cat > "$0"; env > "$0.env"', str(tmp_path / "mail"))
    with contextlib.closing(box):
        with smtplib.SMTP("127.0.0.1", postfix.port) as client:
            client.sendmail("from@example.net",
                            ["a@example.org", "b@example.org"], CONTENT)
        wait_for(lambda: box.names("done"), "the mail is processed")
        worker.terminate()
        assert worker.wait() == 0
    received, _, rest = (tmp_path / "mail").read_bytes().partition(b"From: ")
    assert received.startswith(b"Received: ") and b"From: " + rest == CONTENT
    env = (tmp_path / "mail.env").read_text()
    assert "SWIFTQ_ENVELOPE_FROM=from@example.net\n" in env
    assert "SWIFTQ_ENVELOPE_TO=a@example.org\nb@example.org\n" in env
    assert "SWIFTQ_CLIENT_ADDR=127.0.0.1\n" in env
    assert "SWIFTQ_NAME=" + box.names("done")[0] + "\n" in env
