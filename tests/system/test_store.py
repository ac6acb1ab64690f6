# SPDX-License-Identifier: GPL-3.0-or-later
"""The object and how it gets there (contract, sections 2, 4, 5 and 7), with
the scripted store, for what a real Swift does not show or do on demand."""

import hashlib
import re
import socket
import subprocess
import time
import urllib.parse

import pytest

import standin
from helpers import objects, program
from standin import answer, drop, hang, lost

MESSAGE = b"From: a@example.org\r\nSubject: store\r\n\r\ntext\r\n"
DEFERRED = "451 4.3.0 Error: queue file write error"
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
FULL = "452 4.3.1 Insufficient system storage"
FOREIGN = "0" * 32


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


def name_of(reply):
    """The name in a 250."""
    assert reply.code == 250, reply
    prefix = "2.0.0 Ok: stored as "
    assert reply.text.startswith(prefix), reply
    return reply.text.removeprefix(prefix)


# The name.

def test_name(bench, store):
    session = bench.accept(archive=store.account())
    before = time.time()
    name = name_of(session.deliver(MESSAGE))
    seconds, micro, pid, _, host, size = objects.NAME.fullmatch(name).groups()
    assert before - 0.001 <= int(seconds) + int(micro) / 1e6 <= time.time()
    assert int(pid) == session.process.pid
    assert host == socket.gethostname()
    assert int(size) == len(MESSAGE)
    assert store.only[0] == "cur/" + name
    session.quit()


def test_name_has_the_clock_at_end_of_data(bench, store):
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    time.sleep(1.2)
    before = time.time()
    session.send(program.stuffed(MESSAGE))
    name = name_of(session.reply())
    seconds, micro = objects.NAME.fullmatch(name).groups()[:2]
    assert int(seconds) + int(micro) / 1e6 >= before - 0.001
    session.quit()


def on_host(name):
    """A prefix for a session on a host of this name."""
    return ("unshare", "-ru", "/usr/bin/python3", "-c",
            "import os, socket, sys; socket.sethostname(sys.argv[1]); "
            "os.execv(sys.argv[2], sys.argv[2:])", name)


def test_host_in_the_name_is_gethostname_and_not_the_option(bench, store):
    session = bench.session(
        bench.config(SMTP={"hostname": "greeting.example"},
                     archive=store.account()),
        prefix=on_host("real.example"))
    session.greet()
    name = name_of(session.deliver(MESSAGE))
    assert objects.NAME.fullmatch(name).group(5) == "real.example"
    session.quit()


def test_awkward_octets_of_the_host_name(bench, store):
    session = bench.session(
        bench.config(SMTP={"hostname": "greeting.example"},
                     archive=store.account()),
        prefix=on_host("a/b:c,d e"))
    session.greet()
    name = name_of(session.deliver(MESSAGE))
    host = objects.NAME.fullmatch(name).group(5)
    assert host == r"a\057b\072c\054d\040e"
    assert store.only[0] == "cur/" + name
    session.quit()


@pytest.mark.parametrize("prefix", ("", "new/", "a/b/", "x-", "50%/",
                                    "a?b#c d/", "ümläut/", "a+b=c&d;e,f/"))
def test_prefix(prefix, bench, store):
    session = bench.accept(archive=store.account(prefix=prefix))
    name = name_of(session.deliver(MESSAGE))
    assert "/" not in name
    assert store.only[0] == prefix + name
    session.quit()


@pytest.mark.parametrize("container", ("a b", "50%", "ümläut", "q?u#e",
                                       "a+b"))
def test_container(container, bench, store):
    store.containers = {container}
    session = bench.accept(archive=store.account(container=container))
    name = name_of(session.deliver(MESSAGE))
    assert list(store.objects) == [f"/v1/AUTH_test/{container}/cur/{name}"]
    session.quit()


# The request.

def test_put_request(bench, store):
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    put, = store.of("PUT")
    headers = put.headers
    assert put.version == "HTTP/1.1"
    assert headers["content-length"] == str(len(MESSAGE))
    assert "transfer-encoding" not in headers
    assert headers["etag"].strip('"') == hashlib.md5(MESSAGE).hexdigest()
    assert headers["if-none-match"] == "*"
    assert headers["content-type"] == "message/rfc822"
    assert headers["x-auth-token"] == store.tokens[0]
    assert "x-delete-after" not in headers
    assert "expect" not in headers
    session.quit()


@pytest.mark.parametrize("size, expected", ((1 << 20, False),
                                            ((1 << 20) + 2, True)))
def test_expect_only_above_1_mib(size, expected, bench, store):
    session = bench.accept(archive=store.account())
    name_of(session.deliver(b"x" * (size - 2) + b"\r\n"))
    put, = store.of("PUT")
    assert ("expect" in put.headers) == expected
    session.quit()


def test_expect_without_100_continue(bench, store):
    """A front end that knows no 100 costs a moment, not the message."""
    def silent(exchange):
        exchange.headers.pop("expect")
        exchange.good()
    store.once("PUT", silent)
    content = b"x" * (1 << 21) + b"\r\n"
    session = bench.accept(archive=store.account())
    name_of(session.deliver(content))
    assert store.only[1] == content
    session.quit()


def test_expect_refused_before_the_body(bench, store):
    def refuse(exchange):
        exchange.body = b""
        exchange.answer(413, Connection="close")
        exchange.drop()
    store.always("PUT", refuse)
    session = bench.accept(archive=store.account())
    reply = session.deliver(b"x" * (1 << 21) + b"\r\n")
    assert str(reply) == FULL
    session.quit()


@pytest.mark.parametrize("connection", ("keep-alive", "close"))
def test_417_is_tried_once_more_without_expect(connection, bench, store):
    def refuse(exchange):
        exchange.body = b""
        exchange.answer(417, Connection=connection)
        if connection == "close":
            exchange.drop()
    store.once("PUT", refuse)
    content = b"x" * (1 << 21) + b"\r\n"
    session = bench.accept(archive=store.account())
    name_of(session.deliver(content))
    assert store.only[1] == content
    assert ["expect" in put.headers for put in store.of("PUT")] == [True,
                                                                   False]
    session.quit()


def test_417_without_expect_is_deferred(bench, store):
    store.always("PUT", answer(417))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert len(store.of("PUT")) == 1
    session.quit()


def test_content_type_and_delete_after(bench, store):
    session = bench.accept(archive=store.account(
        content_type="application/octet-stream", delete_after="86400"))
    name_of(session.deliver(MESSAGE))
    put, = store.of("PUT")
    assert put.headers["content-type"] == "application/octet-stream"
    assert put.headers["x-delete-after"] == "86400"
    session.quit()


def test_a_connection_serves_all_requests(bench, store):
    """Authentication and PUT of one session need one connection; the
    token serves the next message as well."""
    session = bench.accept(archive=store.account())
    for _ in range(3):
        name_of(session.deliver(MESSAGE))
    assert store.kinds() == ["AUTH", "PUT", "PUT", "PUT"]
    assert store.connections == 1
    session.quit()


# Metadata.

def test_metadata(bench, store):
    session = bench.accept(archive=store.account(
        recipients="box@example.com, other@example.com"))
    recipients = ["box@example.com", "Other+tag@Example.com"]
    name_of(session.deliver(MESSAGE, recipients=recipients))
    metadata = store.of("PUT")[0].metadata()
    assert metadata["envelope-count"] == "2"
    assert metadata["sha256"] == hashlib.sha256(MESSAGE).hexdigest()
    assert metadata["fingerprint"] == objects.fingerprint(
        "from@example.org", recipients, MESSAGE)
    assert metadata["envelope-from"] == "from@example.org"
    assert metadata["envelope-to"] == "box@example.com,Other+tag@Example.com"
    assert "envelope-truncated" not in metadata
    assert "queue-id" not in metadata
    session.quit()


def test_metadata_off(bench, store):
    session = bench.accept(archive=store.account(metadata="no"))
    name_of(session.deliver(MESSAGE))
    assert store.of("PUT")[0].metadata() == {}
    session.quit()


def test_metadata_from_xforward(bench, store):
    session = bench.accept(archive=store.account())
    assert session.cmd("XFORWARD NAME=mx.example ADDR=192.0.2.9 "
                       "PORT=25001").code == 250
    assert session.cmd("XFORWARD PROTO=ESMTP HELO=helo.example "
                       "IDENT=4bXyzQ SOURCE=REMOTE").code == 250
    name_of(session.deliver(MESSAGE))
    metadata = store.of("PUT")[0].metadata()
    assert metadata["client-addr"] == "192.0.2.9"
    assert metadata["client-name"] == "mx.example"
    assert metadata["client-helo"] == "helo.example"
    assert metadata["queue-id"] == "4bXyzQ"
    session.quit()


def test_metadata_of_unavailable_attributes(bench, store):
    """[UNAVAILABLE] is not known (Postfix XFORWARD_README)."""
    session = bench.accept(archive=store.account())
    assert session.cmd("XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.9 "
                       "HELO=[TEMPUNAVAIL] IDENT=[UNAVAILABLE]").code == 250
    name_of(session.deliver(MESSAGE))
    metadata = store.of("PUT")[0].metadata()
    assert metadata["client-addr"] == "192.0.2.9"
    assert not {"client-name", "client-helo", "queue-id"} & set(metadata)
    session.quit()


def test_metadata_is_percent_encoded(bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.cmd("XFORWARD NAME=a+20b%c HELO=h+C3+BC+2Bx").code == 250
    sender = '"a b%,"@exämple.org'
    recipients = ['"x, y"@example.com', "100%@example.com", "ü@example.com"]
    assert session.cmd(f"MAIL FROM:<{sender}> SMTPUTF8").code == 250
    for recipient in recipients:
        assert session.cmd(f"RCPT TO:<{recipient}>").code == 250
    session.data(MESSAGE)
    name_of(session.reply())
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    assert metadata["envelope-from"] == '"a%20b%25,"@ex%C3%A4mple.org'
    assert metadata["envelope-to"] == ('"x%2C%20y"@example.com,'
                                       "100%25@example.com,%C3%BC@example.com")
    assert metadata["client-name"] == "a%20b%25c"
    assert metadata["client-helo"] == "h%C3%BC+x"
    assert metadata["fingerprint"] == objects.fingerprint(
        sender, recipients, MESSAGE)
    session.quit()


def test_envelope_to_is_continued(bench, store):
    recipients = [f"recipient{number:02d}@some.long.domain.example"
                  for number in range(40)]
    session = bench.accept(archive=store.account(recipients="*"))
    name_of(session.deliver(MESSAGE, recipients=recipients))
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    assert objects.recipients(metadata) == recipients
    assert "envelope-to-2" in metadata
    assert "envelope-truncated" not in metadata
    assert metadata["envelope-count"] == "40"
    session.quit()


def test_envelope_to_is_truncated(bench, store):
    recipients = [f"recipient{number:03d}@some.long.domain.example"
                  for number in range(300)]
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.cmd("XFORWARD NAME=mx.example ADDR=192.0.2.9").code == 250
    name_of(session.deliver(MESSAGE, recipients=recipients))
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    kept = objects.recipients(metadata)
    assert 50 < len(kept) < 300
    assert kept == recipients[:len(kept)], "whole addresses, in their order"
    assert metadata["envelope-truncated"] == "yes"
    assert metadata["envelope-count"] == "300"
    assert metadata["fingerprint"] == objects.fingerprint(
        "from@example.org", recipients, MESSAGE)
    session.quit()


def test_recipient_too_long_for_a_value(bench, store):
    """An address that 256 octets cannot hold is left out, whole."""
    long = '"' + " " * 62 + '"@' + ".".join(["d" * 60] * 2) + ".example"
    assert len(urllib.parse.quote(long)) > 256
    session = bench.accept(archive=store.account(recipients="*"))
    name_of(session.deliver(MESSAGE, recipients=["a@example.com", long,
                                                 "b@example.com"]))
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    assert metadata["envelope-truncated"] == "yes"
    assert long not in objects.recipients(metadata)
    assert "a@example.com" in objects.recipients(metadata)
    session.quit()


@pytest.mark.parametrize("count, length", (
    (61, 100), (60, 60), (300, 20), (14, 250), (15, 250), (16, 230),
    (1000, 14)))
def test_numbers_of_envelope_to_have_no_gap(count, length, bench, store):
    recipients = [f"{number:0{length - 10}d}@x.example"
                  for number in range(count)]
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.cmd("XFORWARD NAME=mx.example ADDR=192.0.2.9").code == 250
    name_of(session.deliver(MESSAGE, recipients=recipients))
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    kept = objects.recipients(metadata)
    assert kept == recipients[:len(kept)]
    assert ("envelope-truncated" in metadata) == (len(kept) < count)
    # What is left would not have held one more.
    if len(kept) < count:
        assert sum(map(len, [*metadata, *metadata.values()])) > \
            4096 - 256 - length - len("envelope-to-14")
    session.quit()


@pytest.mark.parametrize("letter, count", (
    ("s", 246), ("s", 247), ("s", 1014), ("%", 85), ("\u0e01", 29),
    ("\u0e01", 338)))
def test_a_long_sender_is_continued(letter, count, bench, store):
    sender = letter * count + "@x.example"
    session = bench.accept(archive=store.account())
    assert session.cmd(f"MAIL FROM:<{sender}> SMTPUTF8").code == 250
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    session.data(MESSAGE)
    name_of(session.reply())
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    assert objects.sender(metadata) == sender
    assert ("envelope-from-2" in metadata) == (
        len(urllib.parse.quote(sender, safe="@")) > 256)
    assert objects.recipients(metadata) == ["box@example.com"]
    assert "envelope-truncated" not in metadata
    # Each value can be decoded for itself, but for UTF-8.
    for value in objects.series(metadata, "envelope-from"):
        assert re.fullmatch(r"([^%]|%[0-9A-F]{2})+", value)
    session.quit()


def test_a_sender_above_1024_octets_is_refused(bench, store):
    """So that each fits; RFC 5321 has 256."""
    session = bench.accept(archive=store.account())
    sender = "s" * 1015 + "@x.example"
    assert session.cmd(f"MAIL FROM:<{sender}>").code == 501
    assert session.cmd("XFORWARD ADDR=192.0.2.9").code == 250
    assert session.cmd(f"MAIL FROM:<{sender}>").code == 451
    session.quit()


def test_what_of_the_client_is_too_long_is_left_out(bench, store):
    session = bench.accept(archive=store.account())
    assert session.cmd(f"XFORWARD NAME=mx.example HELO={'h' * 257} "
                       "IDENT=4bXyzQ").code == 250
    name_of(session.deliver(MESSAGE))
    metadata = store.of("PUT")[0].metadata()
    objects.in_limits(metadata)
    assert "client-helo" not in metadata
    assert metadata["client-name"] == "mx.example"
    assert metadata["queue-id"] == "4bXyzQ"
    assert "envelope-truncated" not in metadata
    session.quit()


RECEIVED = (
    ("none", b"Subject: x\r\n\r\nbody\r\n"),
    ("first", b"Received: from a by b\r\nSubject: x\r\n\r\nbody\r\n"),
    ("folded", b"Received: from a\r\n\tby b\r\n id c; date\r\nSubject: x\r\n"
     b"\r\nbody\r\n"),
    ("any case", b"RECEIVED: from a\r\nSubject: x\r\n\r\nbody\r\n"),
    ("two", b"Received: 1\r\nReceived: 2\r\nSubject: x\r\n\r\nbody\r\n"),
    ("second", b"Subject: x\r\nReceived: 1\r\n\r\nbody\r\n"),
    ("alike", b"Received-SPF: pass\r\nSubject: x\r\n\r\nbody\r\n"),
    ("only", b"Received: 1\r\n"),
    ("only folded", b"Received: 1\r\n 2\r\n"),
    ("then body", b"Received: 1\r\n\r\nbody\r\n"),
    ("large", b"Received: " + b"1\r\n " * 30000 + b"2\r\nSubject: x\r\n\r\n"
     + b"body\r\n" * 50000),
    ("one long line", b"Received: " + b"x" * 400000 + b"\r\nSubject: x\r\n"
     b"\r\nb\r\n"),
    ("empty", b""),
)


@pytest.mark.parametrize("content", [row[1] for row in RECEIVED],
                         ids=[row[0] for row in RECEIVED])
@pytest.mark.parametrize("xforward", (True, False))
def test_fingerprint(content, xforward, bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    if xforward:
        assert session.cmd("XFORWARD NAME=mx.example").code == 250
    recipients = ["Zoe@Example.com", "adam@example.com"]
    name_of(session.deliver(content, "Sender@Example.org", recipients))
    assert store.only[1] == content
    metadata = store.of("PUT")[0].metadata()
    assert metadata["sha256"] == hashlib.sha256(content).hexdigest()
    assert metadata["fingerprint"] == objects.fingerprint(
        "Sender@Example.org", recipients, content)
    session.quit()


def test_fingerprint_of_the_null_sender(bench, store):
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE, sender=""))
    metadata = store.of("PUT")[0].metadata()
    assert metadata["fingerprint"] == objects.fingerprint(
        "", ["box@example.com"], MESSAGE)
    assert metadata.get("envelope-from", "") == ""
    session.quit()


# What each answer means: without further tries.

ANSWERS = (
    *[(status, DEFERRED) for status in (
        200, 202, 204, 206, 408, 418, 422, 429, 498, 499, 500, 501, 502, 503,
        504, 529, 599)],
    *[(status, CONFIGURATION) for status in (
        301, 302, 303, 305, 307, 308, 401, 403, 404, 400)],
    (413, FULL), (507, FULL))


def soon(status):
    """A deadline for what is tried until then."""
    return {"deadline": "2"} if status in (429, 498) else {}


@pytest.mark.parametrize("status, expected", ANSWERS)
def test_answer_to_put(status, expected, bench, store):
    location = {"Location": f"{store.storage_url}/mail/elsewhere"}
    store.always("PUT", answer(status, b"reason", **(
        location if status // 100 == 3 else {})))
    session = bench.accept(SMTP=soon(status), archive=store.account())
    assert str(session.deliver(MESSAGE)) == expected
    assert store.objects == {}
    assert all("elsewhere" not in request.path for request in store.requests)
    session.quit()


AUTH_ANSWERS = (
    *[(status, DEFERRED) for status in (408, 429, 500, 502, 503, 504)],
    *[(status, CONFIGURATION) for status in (301, 302, 307, 401, 403)])


@pytest.mark.parametrize("status, expected", AUTH_ANSWERS)
@pytest.mark.parametrize("version", ("1", "3"))
def test_answer_to_authentication(version, status, expected, bench, store):
    store.always("AUTH", answer(status, b"reason", **(
        {"Location": f"{store.url}/other"} if status // 100 == 3 else {})))
    options = store.account(auth_version=version)
    if version == "3":
        options.update(authurl=store.keystone, tenant_name="mail")
    session = bench.accept(SMTP=soon(status), archive=options)
    assert str(session.deliver(MESSAGE)) == expected
    assert set(store.kinds()) == {"AUTH"}
    session.quit()


def test_container_missing_is_configuration(bench, store):
    session = bench.accept(archive=store.account(container="none"))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    session.quit()


def test_wrong_password_is_configuration(bench, store):
    session = bench.accept(archive=store.account(key="wrong"))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    session.quit()


def test_connection_refused(bench, store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        session = bench.accept(archive=store.account(
            authurl=f"http://127.0.0.1:{port}/auth/v1.0"))
        assert str(session.deliver(MESSAGE)) == DEFERRED
        session.quit()


def test_the_next_message_after_a_failure(bench, store):
    store.once("PUT", answer(503))
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == 451
    name_of(session.deliver(MESSAGE))
    session.quit()


# Garbage.

GARBAGE = {
    "nothing": b"",
    "no http": b"220 mail.example ESMTP\r\n",
    "http/0.9": b"<html>ok</html>",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "status of letters": b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n",
    "zeros": b"\0" * 4096,
    "half a head": b"HTTP/1.1 201 Created\r\nEtag: ",
    "huge header": b"HTTP/1.1 201 Created\r\nX-Big: " + b"x" * (4 << 20),
    "many headers": b"HTTP/1.1 201 Created\r\n" + b"X-Y: z\r\n" * 400000,
    "negative length": b"HTTP/1.1 201 Created\r\nContent-Length: -5\r\n\r\n",
}


def raw(status, body=b"", **headers):
    """An answer as octets; a header's underscores are dashes."""
    return "".join([f"HTTP/1.1 {status} Scripted\r\n"] + [
        f"{name.replace('_', '-')}: {value}\r\n"
        for name, value in headers.items()]).encode() + b"\r\n" + body


OURS = hashlib.md5(MESSAGE).hexdigest()
# Answers whose head says all, whatever becomes of their body.
WHOLE_HEADS = {
    "body is cut": raw(201, b"x", Etag=OURS, Content_Length=100),
    "chunked": raw(201, b"2\r\nok\r\n0\r\n\r\n", Etag=OURS,
                   Transfer_Encoding="chunked"),
    "no chunks": raw(201, b"nonsense", Etag=OURS,
                     Transfer_Encoding="chunked"),
    "gzip": raw(201, b"nonsense", Etag=OURS, Content_Encoding="gzip"),
    "unknown": raw(201, b"nonsense", Etag=OURS, Transfer_Encoding="identity",
                   Content_Encoding="x-front", Content_Length=8),
}


@pytest.mark.parametrize("kind", WHOLE_HEADS)
def test_the_head_of_an_answer_counts(kind, bench, store):
    """Front ends encode the body of an answer, which nobody needs."""
    def encoded(exchange):
        exchange.read()
        store.apply(exchange)
        exchange.send(WHOLE_HEADS[kind])
        exchange.drop()
    store.once("PUT", encoded)
    session = bench.accept(archive=store.account())
    name = name_of(session.deliver(MESSAGE))
    assert store.only[0] == "cur/" + name
    session.quit()


def test_a_transfer_coding_that_nobody_asked_for(bench, store,
                                                 swiftdrop_binary):
    """RFC 9112 section 7.4 forbids it. libcurl 7.88 passes on the head, 8.14
    refuses it: the mail is deferred then."""
    shown = subprocess.run([swiftdrop_binary, "--version"], text=True,
                           check=True, capture_output=True).stdout
    old = re.search(r"libcurl/(\d+)", shown)[1] == "7"

    def encoded(exchange):
        exchange.read()
        store.apply(exchange)
        exchange.send(raw(201, b"nonsense", Etag=OURS,
                          Transfer_Encoding="gzip"))
        exchange.drop()
    store.once("PUT", encoded)
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == (250 if old else 451)
    session.quit()


@pytest.mark.parametrize("head", (
    b"HTTP/1.1 201 Created\r\nEtag: %s\r\n" % OURS.encode(),
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early\r\nEtag: %s\r\n\r\nHTTP/1.1 201 Created\r\n"
    % OURS.encode()))
def test_half_a_head_is_no_answer(head, bench, store):
    def half(exchange):
        exchange.read()
        exchange.send(head)
        exchange.drop()
    store.once("PUT", half)
    session = bench.accept(archive=store.account(retries="1"))
    name_of(session.deliver(MESSAGE))
    assert len(store.of("PUT")) == 2
    session.quit()


@pytest.mark.parametrize("then", ("reads on", "closes"))
def test_201_before_the_body_is_not_stored(then, bench, store):
    """A server that takes the ETag of the request for its answer."""
    def early(exchange):
        exchange.send(raw(201, Etag=exchange.headers["etag"],
                          Content_Length=0))
        exchange.headers.pop("expect")
        if then == "reads on":
            exchange.read()
        exchange.drop()
    store.once("PUT", early)
    session = bench.accept(archive=store.account())
    assert str(session.deliver(b"x" * (1 << 21) + b"\r\n")) == DEFERRED
    session.quit()


def test_a_second_answer_is_not_that_of_the_next_request(bench, store):
    """It is there before the request is sent, so it belongs to none."""
    def twice(exchange):
        exchange.good()
        exchange.send(raw(201, Etag=OURS, Content_Length=0))
    store.once("PUT", twice, answer(503))
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    time.sleep(0.2)
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert len(store.of("PUT")) == 2
    session.quit()


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_answer_to_put(kind, bench, store):
    def garbage(exchange):
        exchange.read()
        exchange.send(GARBAGE[kind])
        exchange.drop()
    store.always("PUT", garbage)
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()


@pytest.mark.parametrize("version", ("1", "3"))
@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_answer_to_authentication(kind, version, bench, store):
    def garbage(exchange):
        exchange.read()
        exchange.send(GARBAGE[kind])
        exchange.drop()
    store.always("AUTH", garbage)
    options = store.account(auth_version=version)
    if version == "3":
        options.update(authurl=store.keystone, tenant_name="mail")
    session = bench.accept(archive=options)
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()


@pytest.mark.parametrize("token", ("t\x01oken", "t\token", "token\x7f"))
def test_token_with_a_control_character_is_no_header(token, bench, store):
    """Nothing that a server says can add headers to a request."""
    store.always("AUTH", lambda exchange: exchange.answer(
        200, X_Storage_Url=store.storage_url, X_Auth_Token=token))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()
    assert store.of("PUT") == []
    assert session.log.one("deferred")["reason"].endswith(
        ' with a control character in the token"')


def test_large_answer_body_costs_no_memory(bench, store):
    body = b"x" * (64 << 20)
    store.always("PUT", answer(503, body))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    with open(f"/proc/{session.process.pid}/status", encoding="ascii") as file:
        peak = int(file.read().split("VmHWM:")[1].split()[0])
    assert peak < 48 << 10
    session.quit()


# Time.

def timed(session, content=MESSAGE):
    """The reply to a message, and the seconds from its dot."""
    session.envelope()
    session.data(content)
    start = time.monotonic()
    return session.reply(), time.monotonic() - start


def trickle(exchange):
    """An answer without end, one octet after the other."""
    exchange.read()
    exchange.send(b"HTTP/1.1 201 Created\r\nX-Slow: ")
    while True:
        exchange.send(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ("PUT", "AUTH"))
@pytest.mark.parametrize("fault", (hang, trickle))
def test_deadline(kind, fault, bench, store):
    store.always(kind, fault)
    session = bench.accept(SMTP={"deadline": "2"},
                           archive=store.account(retries="5"))
    reply, seconds = timed(session)
    assert str(reply) == DEFERRED
    assert 1.5 < seconds < 10
    session.quit()


def test_deadline_bounds_the_tries(bench, store):
    store.always("PUT", answer(503))
    session = bench.accept(SMTP={"deadline": "3"},
                           archive=store.account(retries="50"))
    reply, seconds = timed(session)
    assert str(reply) == DEFERRED
    assert seconds < 10
    assert len(store.of("PUT")) < 10
    session.quit()


def test_deadline_is_shared_by_the_accounts(bench, store):
    def slow(exchange):
        exchange.read()
        time.sleep(1.5)
        exchange.good()
    store.containers |= {"one", "two", "three"}
    store.always("PUT", slow)
    session = bench.accept(SMTP={"deadline": "2"}, **{
        name: store.account(recipients=f"{name}@example.com", container=name)
        for name in ("one", "two", "three")})
    session.envelope(recipients=[f"{name}@example.com"
                                 for name in ("one", "two", "three")])
    session.data(MESSAGE)
    start = time.monotonic()
    assert str(session.reply()) == DEFERRED
    assert time.monotonic() - start < 10
    session.quit()


@pytest.mark.parametrize("fault", (hang, trickle))
def test_request_timeout(fault, bench, store):
    store.always("PUT", fault)
    session = bench.accept(archive=store.account(timeout="1"))
    reply, seconds = timed(session)
    assert str(reply) == DEFERRED
    assert 0.8 < seconds < 10
    session.quit()


def test_an_upload_that_moves_is_not_cut(bench, store):
    """timeout is time without progress, and the answer is waited for that
    long after the last octet: 6 MiB in 4 s, and an answer a second later."""
    size, rate = 6 << 20, 3 << 19

    def slow(exchange):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.body, start = b"", time.monotonic()
        while len(exchange.body) < size:
            exchange.body += store.receive(
                exchange.connection, min(16384, size - len(exchange.body)))
            ahead = start + len(exchange.body) / rate - time.monotonic()
            time.sleep(max(0, ahead))
        time.sleep(1)
        exchange.good()
    store.once("PUT", slow)
    session = bench.accept(archive=store.account(timeout="3"))
    reply, seconds = timed(session, b"x" * (size - 2) + b"\r\n")
    name_of(reply)
    assert seconds > 4
    session.quit()


def test_an_upload_that_stalls_is_cut(bench, store):
    def stall(exchange):
        exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.body = b""
        time.sleep(4)
        exchange.drop()
    store.once("PUT", stall)
    session = bench.accept(archive=store.account(timeout="1"))
    reply, seconds = timed(session, b"x" * (16 << 20) + b"\r\n")
    assert str(reply) == DEFERRED
    assert 0.8 < seconds < 4
    session.quit()


@pytest.mark.slow
def test_connect_timeout(bench, store):
    """10 s for the connection alone; a listener with a full backlog."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        url = "http://127.0.0.1:%d/auth/v1.0" % full.getsockname()[1]
        session = bench.accept(archive=store.account(authurl=url))
        reply, seconds = timed(session)
        assert str(reply) == DEFERRED
        assert 9 < seconds < 12.5
        session.quit()
        for client in waiting:
            client.close()


def test_retry_after_is_honoured(bench, store):
    store.once("PUT", answer(429, Retry_After="3"))
    session = bench.accept(archive=store.account(retries="1"))
    reply, seconds = timed(session)
    name_of(reply)
    assert 2.9 < seconds < 10
    session.quit()


@pytest.mark.parametrize("kind", ("PUT", "AUTH"))
@pytest.mark.parametrize("status", (429, 498))
def test_too_many_requests_do_not_count_as_tries(status, kind, bench, store):
    """We are too many, nothing is broken: until the deadline."""
    store.once(kind, *[answer(status)] * 3)
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    assert len(store.of(kind)) == 4
    session.quit()
    assert session.log.one("stored")["tries"] == "4"


def test_too_many_requests_between_failures(bench, store):
    store.once("PUT", answer(429), answer(503), answer(498), answer(503))
    session = bench.accept(archive=store.account(retries="1"))
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert len(store.of("PUT")) == 4
    session.quit()


def test_too_many_requests_end_with_the_deadline(bench, store):
    store.always("PUT", answer(429))
    session = bench.accept(SMTP={"deadline": "3"}, archive=store.account())
    reply, seconds = timed(session)
    assert str(reply) == DEFERRED
    assert seconds < 10
    assert len(store.of("PUT")) > 1
    session.quit()


@pytest.mark.parametrize("how", ("tcp", "socketpair", "pipe"))
def test_a_hang_up_ends_the_wait_for_another_try(how, bench, store):
    store.always("PUT", answer(503, Retry_After="15"))
    session = bench.session(bench.config(archive=store.account(retries="5")),
                            how=how)
    session.greet()
    session.envelope()
    session.data(MESSAGE)
    until(lambda: "http PUT 503" in store.events)
    if how == "tcp":
        session.reset()
    else:
        session.hang_up()
    session.ends(0, timeout=10)
    assert len(store.of("PUT")) == 1


def test_client_gone_before_a_try_with_a_new_token(bench, store):
    """Which needs no wait."""
    def refuse(exchange):
        exchange.read()
        session.hang_up()
        time.sleep(0.2)
        exchange.answer(401)
    store.once("PUT", refuse)
    session = bench.accept(archive=store.account())
    session.envelope()
    session.data(MESSAGE)
    session.ends(0)
    assert len(store.of("PUT")) == 1
    assert store.objects == {}


def test_retry_after_never_past_the_deadline(bench, store):
    store.always("PUT", answer(429, Retry_After="3600"))
    session = bench.accept(SMTP={"deadline": "3"},
                           archive=store.account(retries="5"))
    reply, seconds = timed(session)
    assert str(reply) == DEFERRED
    assert seconds < 10
    session.quit()


# Further tries.

def reset(exchange):
    """A fault: a TCP reset in place of an answer."""
    exchange.read()
    exchange.reset()


PASSING = {"drop": drop, "reset": reset, "hang": hang,
           **{str(status): answer(status)
              for status in (408, 422, 429, 498, 499, 500, 502, 503, 529)}}


@pytest.mark.parametrize("fault", PASSING)
def test_a_failure_that_passes_is_tried_again(fault, bench, store):
    store.once("PUT", PASSING[fault])
    content = b"Subject: x\r\n\r\n" + b"line\r\n" * 60000  # in the spool
    session = bench.accept(archive=store.account(retries="1", timeout="1"))
    name_of(session.deliver(content))
    assert store.only[1] == content
    assert len(store.of("PUT")) == 2
    session.quit()


@pytest.mark.parametrize("fault", ("drop", "hang", "429", "503"))
def test_authentication_is_tried_again(fault, bench, store):
    store.once("AUTH", PASSING[fault])
    session = bench.accept(archive=store.account(retries="1", timeout="1"))
    name_of(session.deliver(MESSAGE))
    assert store.kinds() == ["AUTH", "AUTH", "PUT"]
    session.quit()


def test_two_further_tries_by_default(bench, store):
    store.always("PUT", answer(503))
    session = bench.accept(archive=store.account(retries=None))
    assert str(session.deliver(MESSAGE, timeout=40)) == DEFERRED
    assert len(store.of("PUT")) == 3
    session.quit()


@pytest.mark.parametrize("status", (301, 403, 404, 413))
def test_what_will_not_pass_is_not_tried_again(status, bench, store):
    store.always("PUT", answer(status))
    session = bench.accept(archive=store.account(retries="2"))
    assert session.deliver(MESSAGE).code in (451, 452)
    assert len(store.of("PUT")) == 1
    session.quit()


def test_401_gets_a_fresh_token_once(bench, store):
    store.once("PUT", answer(401))
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    assert store.kinds() == ["AUTH", "PUT", "AUTH", "PUT"]
    first, second = store.of("PUT")
    assert first.headers["x-auth-token"] != second.headers["x-auth-token"]
    session.quit()


def test_401_with_a_fresh_token_is_configuration(bench, store):
    store.always("PUT", answer(401))
    session = bench.accept(archive=store.account(retries="3"))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    assert store.kinds() == ["AUTH", "PUT", "AUTH", "PUT"]
    session.quit()


def test_token_expires_between_messages(bench, store):
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    store.tokens[:] = ["gone"]
    name_of(session.deliver(MESSAGE))
    session.quit()


def test_lost_answer_then_412_is_stored_once(bench, store):
    store.once("PUT", lost)
    session = bench.accept(archive=store.account(retries="1"))
    name = name_of(session.deliver(MESSAGE))
    assert store.only == ("cur/" + name, MESSAGE)
    assert store.kinds() == ["AUTH", "PUT", "PUT", "HEAD"]
    session.quit()


@pytest.mark.parametrize("head", ("foreign etag", "foreign length", "refused",
                                  "404"))
def test_412_with_another_object_takes_a_new_name(head, bench, store):
    size = len(MESSAGE)
    etag = hashlib.md5(MESSAGE).hexdigest()
    answers = {
        "foreign etag": answer(200, Etag=FOREIGN, Content_Length=size),
        "foreign length": answer(200, Etag=etag, Content_Length=size + 1),
        "refused": answer(403), "404": answer(404)}
    store.once("PUT", answer(412))
    store.once("HEAD", answers[head])
    session = bench.accept(archive=store.account(retries="1"))
    name = name_of(session.deliver(MESSAGE))
    first, second = store.of("PUT")
    assert first.name != second.name == "cur/" + name
    assert store.only == ("cur/" + name, MESSAGE)
    session.quit()


def test_412_and_a_head_that_does_not_say_how_long_it_is(bench, store):
    """No length is not the 0 of an empty mail."""
    store.once("PUT", answer(412))
    store.once("HEAD", lambda exchange: exchange.send(
        raw(200, Etag=hashlib.md5(b"").hexdigest())))
    session = bench.accept(archive=store.account(retries="1"))
    name = name_of(session.deliver(b""))
    first, second = store.of("PUT")
    assert first.name != second.name == "cur/" + name
    assert store.only == ("cur/" + name, b"")
    session.quit()


def test_a_new_name_after_412_counts_as_a_try(bench, store):
    store.always("PUT", answer(412))
    store.always("HEAD", answer(200, Etag=FOREIGN))
    session = bench.accept(archive=store.account(retries="1"))
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert len({put.name for put in store.of("PUT")}) == 2
    session.quit()


def test_412_is_a_new_name_for_that_account_alone(bench, store):
    """Each account's object has its own name; the reply shows the first."""
    store.containers |= {"one", "two"}
    count = []

    def second(exchange):
        count.append(exchange)
        if len(count) == 2:
            exchange.answer(412)
        else:
            exchange.good()
    store.always("PUT", second)
    store.once("HEAD", answer(200, Etag=FOREIGN))
    session = bench.accept(**{
        name: store.account(recipients=f"{name}@example.com", container=name,
                            retries="1") for name in ("one", "two")})
    name = name_of(session.deliver(
        MESSAGE, recipients=["one@example.com", "two@example.com"]))
    puts = store.of("PUT")
    assert [put.path.split("/")[3] for put in puts] == ["one", "two", "two"]
    assert puts[0].name == "cur/" + name
    assert len({put.name for put in puts}) == 3
    assert sorted(store.objects) == sorted([puts[0].path, puts[2].path])
    session.quit()


def foreign(exchange):
    """A fault: stored, but the answer has another ETag."""
    exchange.read()
    exchange.store.apply(exchange)
    exchange.answer(201, Etag=FOREIGN)


def test_201_with_a_foreign_etag_is_deleted_and_tried_again(bench, store):
    store.once("PUT", foreign)
    session = bench.accept(archive=store.account(retries="1"))
    name = name_of(session.deliver(MESSAGE))
    first, second = store.of("PUT")
    assert first.name != second.name == "cur/" + name
    assert [request.name for request in store.of("DELETE")] == [first.name]
    assert store.only == ("cur/" + name, MESSAGE)
    session.quit()


def test_201_with_foreign_etags_is_deferred(bench, store):
    store.always("PUT", foreign)
    session = bench.accept(archive=store.account(retries="1"))
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert store.objects == {}
    session.quit()


def two_logins(store, **options):
    """Two sections that reach one container by different users."""
    return {name: store.account(recipients=f"{name}@example.com", user=user,
                                **options)
            for name, user in (("one", store.user), ("two", "test:other"))}


BOTH = ["one@example.com", "two@example.com"]


def test_two_logins_for_one_container_are_two_objects(bench, store):
    """Also where If-None-Match is ignored, as by Ceph RGW."""
    store.users.add("test:other")
    store.ignores_if_none_match = True
    session = bench.accept(**two_logins(store))
    name = name_of(session.deliver(MESSAGE, recipients=BOTH))
    first, second = store.of("PUT")
    assert first.name == "cur/" + name
    assert sorted(store.objects) == sorted([first.path, second.path])
    assert first.name != second.name
    assert [objects.recipients(put.metadata()) for put in (first, second)] \
        == [[address] for address in BOTH]
    session.quit()


def test_foreign_etag_for_one_account_spares_the_other(bench, store):
    store.users.add("test:other")
    store.ignores_if_none_match = True
    count = []

    def second(exchange):
        count.append(exchange)
        if len(count) == 2:
            foreign(exchange)
        else:
            exchange.good()
    store.always("PUT", second)
    session = bench.accept(**two_logins(store, retries="1"))
    name_of(session.deliver(MESSAGE, recipients=BOTH))
    first, damaged, third = store.of("PUT")
    assert [request.path for request in store.of("DELETE")] == [damaged.path]
    assert sorted(store.objects) == sorted([first.path, third.path])
    session.quit()


def test_201_without_an_etag_is_not_stored(bench, store):
    store.always("PUT", answer(201))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()


def test_201_with_a_quoted_etag(bench, store):
    etag = hashlib.md5(MESSAGE).hexdigest()
    store.once("PUT", answer(201, Etag=f'"{etag}"'))
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    session.quit()


CHANGED = ('W/"{}"', "W/{}", '"{}-gzip"', 'W/"{}-gzip"', "{}--gzip",
           '"{}-br"')


@pytest.mark.parametrize("form", CHANGED)
def test_201_with_an_etag_that_a_front_end_changed(form, bench, store):
    store.once("PUT", answer(201, Etag=form.format(OURS)))
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    session.quit()


@pytest.mark.parametrize("etag", (f'W/"{FOREIGN}"', f'"{FOREIGN}-gzip"',
                                  OURS[:-1], OURS + "0", f'"{OURS}x"', 'W/"',
                                  f"x{OURS}", f'"{OURS} "'))
def test_201_with_an_etag_that_only_looks_like_ours(etag, bench, store):
    store.once("PUT", answer(201, Etag=etag))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()


ENCODED = {
    "chunked": {"Etag": OURS, "Transfer_Encoding": "chunked"},
    "weak": {"Etag": f'W/"{OURS}"', "Transfer_Encoding": "chunked",
             "Content_Encoding": "gzip"},
    "compressed": {"Etag": f'"{OURS}-gzip"', "Content_Encoding": "gzip",
                   "Content_Length": 23},
}


@pytest.mark.parametrize("kind", ENCODED)
def test_412_and_a_head_by_a_front_end_that_compresses(kind, bench, store):
    """It knows no length, or another one than that of the object."""
    store.once("PUT", lost)
    store.once("HEAD", lambda exchange: exchange.send(
        raw(200, **ENCODED[kind])))
    session = bench.accept(archive=store.account(retries="1"))
    name = name_of(session.deliver(MESSAGE))
    assert store.only == ("cur/" + name, MESSAGE)
    assert len(store.of("PUT")) == 2
    session.quit()


def test_201_with_headers_in_lower_case(bench, store):
    etag = hashlib.md5(MESSAGE).hexdigest()
    store.once("AUTH", lambda exchange: (
        store.tokens.append("tk"), exchange.answer(204, **{
            "x-storage-url": store.storage_url, "x-auth-token": "tk"})))
    store.once("PUT", answer(201, etag=etag))
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    session.quit()


def test_etag_of_an_interim_answer_does_not_count(bench, store):
    etag = hashlib.md5(MESSAGE).hexdigest()

    def interim(exchange):
        exchange.read()
        exchange.send(f"HTTP/1.1 103 Early\r\nEtag: {etag}\r\n\r\n".encode())
        exchange.answer(201)
    store.always("PUT", interim)
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == 451
    session.quit()


def test_202_is_not_stored(bench, store):
    etag = hashlib.md5(MESSAGE).hexdigest()
    store.always("PUT", answer(202, Etag=etag))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == DEFERRED
    session.quit()


def test_400_is_tried_once_more_without_metadata(bench, store):
    store.once("PUT", answer(400))
    session = bench.accept(archive=store.account(
        content_type="text/plain", delete_after="100"))
    name_of(session.deliver(MESSAGE))
    first, second = store.of("PUT")
    assert first.metadata() and not second.metadata()
    assert second.headers["content-type"] == "text/plain"
    assert second.headers["x-delete-after"] == "100"
    assert second.headers["if-none-match"] == "*"
    session.quit()


def test_second_400_is_configuration(bench, store):
    store.always("PUT", answer(400))
    session = bench.accept(archive=store.account(retries="3"))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    assert len(store.of("PUT")) == 2
    session.quit()


# Several accounts.

def test_one_message_for_several_accounts(bench, store):
    store.containers |= {"one", "two"}
    session = bench.accept(**{
        name: store.account(recipients=f"@{name}.example", container=name,
                            prefix=f"{name}/") for name in ("one", "two")})
    recipients = ["a@one.example", "b@two.example", "c@one.example"]
    name = name_of(session.deliver(MESSAGE, recipients=recipients))
    assert [put.path.rpartition("/")[0] for put in store.of("PUT")] == [
        "/v1/AUTH_test/one/one", "/v1/AUTH_test/two/two"]
    names = [put.path.rpartition("/")[2] for put in store.of("PUT")]
    assert names[0] == name != names[1]
    assert sorted(store.objects) == sorted(
        put.path for put in store.of("PUT"))
    for put, own in zip(store.of("PUT"), (recipients[::2], recipients[1:2])):
        metadata = put.metadata()
        assert objects.recipients(metadata) == own
        assert metadata["envelope-count"] == str(len(own))
        assert metadata["fingerprint"] == objects.fingerprint(
            "from@example.org", own, MESSAGE)
    session.quit()


def test_one_account_failing_fails_the_message(bench, store):
    store.containers |= {"one"}
    session = bench.accept(**{
        name: store.account(recipients=f"{name}@example.com", container=name)
        for name in ("one", "none")})
    reply = session.deliver(MESSAGE, recipients=["one@example.com",
                                                 "none@example.com"])
    assert str(reply) == CONFIGURATION
    session.quit()


def test_same_place_is_stored_once(bench, store):
    """The section named first decides prefix, delete_after and metadata;
    the object lists the recipients of all (section 7)."""
    session = bench.accept(
        first=store.account(recipients="one@example.com", prefix="first/",
                            delete_after="100"),
        second=store.account(recipients="two@example.com", prefix="second/",
                             metadata="no"))
    recipients = ["two@example.com", "one@example.com"]
    name = name_of(session.deliver(MESSAGE, recipients=recipients))
    assert store.only[0] == "first/" + name
    put, = store.of("PUT")
    assert put.headers["x-delete-after"] == "100"
    assert put.metadata()["envelope-count"] == "2"
    assert sorted(objects.recipients(put.metadata())) == sorted(recipients)
    # Alone, the second section decides for itself.
    name_of(session.deliver(MESSAGE, recipients=["two@example.com"]))
    assert store.of("PUT")[1].name.startswith("second/")
    assert store.of("PUT")[1].metadata() == {}
    session.quit()


@pytest.mark.parametrize("option, value", (
    ("container", "two"), ("user", "test:second")))
def test_another_place_is_stored_again(option, value, bench, store):
    store.containers |= {"two"}
    with standin.Store() as second:
        second.user = "test:second"
        options = store.account(recipients="two@example.com")
        options[option] = value
        if option == "user":
            options["authurl"] = second.authurl
        session = bench.accept(
            first=store.account(recipients="one@example.com"), second=options)
        name_of(session.deliver(MESSAGE, recipients=["one@example.com",
                                                     "two@example.com"]))
        assert len(store.objects) + len(second.objects) == 2
        session.quit()


# Connections that are used again.

def test_server_that_closes_between_messages(bench, store):
    def close(exchange):
        exchange.good()
        exchange.drop()
    store.once("PUT", close)
    session = bench.accept(archive=store.account())
    name_of(session.deliver(MESSAGE))
    time.sleep(0.1)
    name_of(session.deliver(MESSAGE))
    assert len(store.objects) == 2
    session.quit()


# Hygiene.

def test_environment_has_no_effect(bench, store, tmp_path):
    """Proxies, CA files, key logs and OpenSSL's configuration."""
    keylog = tmp_path / "keylog"
    broken = bench.file("openssl.cnf", "openssl_conf = nonsense\n[nonsense\n")
    env = {name: "http://127.0.0.1:1" for name in (
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
        "HTTP_PROXY")}
    env.update(SSLKEYLOGFILE=str(keylog), OPENSSL_CONF=str(broken),
               SSL_CERT_FILE="/nonexistent", SSL_CERT_DIR="/nonexistent",
               CURL_CA_BUNDLE="/nonexistent", HOME=str(tmp_path))
    session = bench.session(bench.config(archive=store.account()), env=env)
    session.greet()
    name_of(session.deliver(MESSAGE))
    assert not keylog.exists()
    session.quit()


def test_netrc_is_not_read(bench, store, tmp_path):
    bench.file(".netrc", "machine 127.0.0.1 login netrcuser password no\n"
               "default login netrcuser password no\n")
    session = bench.session(bench.config(archive=store.account()),
                            env={"HOME": str(tmp_path)})
    session.greet()
    name_of(session.deliver(MESSAGE))
    for request in store.requests:
        assert "authorization" not in request.headers
    session.quit()


def test_redirect_is_not_followed(bench, store):
    store.always("PUT", answer(302, Location=f"{store.url}/elsewhere"))
    session = bench.accept(archive=store.account())
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    assert not any(request.path == "/elsewhere" for request in store.requests)
    session.quit()


def test_paths_are_sent_as_they_are(bench, store):
    store.always("PUT", lambda exchange: exchange.answer(503))
    session = bench.accept(archive=store.account(prefix="a/../b/./"))
    session.deliver(MESSAGE)
    assert store.of("PUT")[0].target.startswith(
        "/v1/AUTH_test/mail/a/../b/./")
    session.quit()


def test_proxy(bench, store):
    """The configured proxy gets the request, whole."""
    with standin.Store() as proxy:
        def forwarded(exchange):
            exchange.answer(503)
        proxy.always("GET", forwarded)
        proxy.always("AUTH", forwarded)
        session = bench.accept(archive=store.account(
            authurl="http://swift.example/auth/v1.0", proxy=proxy.url))
        assert str(session.deliver(MESSAGE)) == DEFERRED
        request = proxy.requests[0]
        assert request.target == "http://swift.example/auth/v1.0"
        session.quit()
        assert session.log.one("deferred")["reason"] == (
            f'"swift.example by proxy {proxy.url} answered 503"')


@pytest.mark.parametrize("url", ("file:///etc/passwd", "ftp://127.0.0.1/v1",
                                 "gopher://127.0.0.1/", "not a url", "",
                                 "http://127.0.0.1:1/v1/a?x=",
                                 "http://127.0.0.1:1/v1/a#x"))
def test_storage_url_of_another_scheme_is_refused(url, bench, store):
    store.always("AUTH", lambda exchange: exchange.answer(
        200, X_Storage_Url=url, X_Auth_Token="tk"))
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == 451
    assert set(store.kinds()) == {"AUTH"}
    session.quit()


def test_client_gone_before_the_put_stores_nothing_new(bench, store):
    """A process whose client is away ends by itself."""
    def slow(exchange):
        exchange.read()
        session.hang_up()
        time.sleep(0.3)
        exchange.good()
    store.once("PUT", slow)
    session = bench.session(bench.config(archive=store.account()), how="tcp")
    session.greet()
    session.envelope()
    session.data(MESSAGE)
    session.ends(0)


def test_spool_is_empty_again_after_each_message(bench, store):
    """Five messages of 1 MiB in a spool that holds one."""
    session = bench.small_spool("1500k", archive=store.account())
    session.greet()
    for _ in range(5):
        name_of(session.deliver(b"line of text\r\n" * 75000))
    session.quit()


# The Message-ID.

IDS = (
    (b"Message-ID: <1@example.org>", "<1@example.org>", "1@example.org"),
    (b"MESSAGE-id:<1@example.org>\r\nMessage-ID: <2@x>", "<1@example.org>",
     "1@example.org"),
    (b"Message-ID:\r\n  <1@\r\n\texample.org> ", "<1@example.org>",
     "1@example.org"),
    (b"Message-ID: 1 2 3", "123", "123"),
    (b"Message-ID: <a,b\"\\\xc3\xbc@x>",
     "<a,b\"\\%C3%BC@x>", r"a\054b\042\134" + "\u00fc@x"),
    (b"Message-ID: <" + b"x" * 254 + b">", "<" + "x" * 254 + ">", "x" * 254),
    (b"Message-ID: <" + b"x" * 255 + b">", None, "x" * 255),
    (b"Message-ID: <" + b"x" * 900 + b">", None, "x" * 256 + "..."),
    (b"Message-ID: <" + b"x" * 1000 + b">", None, None),
    (b"Message-ID: \r\n ", None, None),
    (b"X-Message-ID: <1@example.org>", None, None),
    (b"X: Message-ID: <1@example.org>", None, None),
    (b"X: y\r\n Message-ID: <1@example.org>", None, None),
    (b"X: y\r\n\r\nMessage-ID: <1@example.org>", None, None),
    (b"X" * 200000 + b": y\r\nMessage-ID: <1@example.org>", None, None),
    (b"X" * 100000 + b": y\r\nMessage-ID: <1@example.org>", "<1@example.org>",
     "1@example.org"),
)


@pytest.mark.parametrize("number", range(len(IDS)))
@pytest.mark.parametrize("body", (b"text\r\n", b"text\r\n" * 100000))
def test_message_id_of_the_header(bench, store, number, body):
    header, metadata, logged = IDS[number]
    session = bench.accept(archive=store.account())
    assert session.deliver(header + b"\r\nTo: you\r\n\r\n" + body).code == 250
    session.quit()
    (_, put), = store.objects.values()
    assert put.metadata().get("message-id") == metadata
    line = session.log.one("stored")
    assert line.get("message-id") == (logged and f"<{logged}>")
