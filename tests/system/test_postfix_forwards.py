# SPDX-License-Identifier: GPL-3.0-or-later
"""Forwards, mail that is stored and forwarded, and mail born in Postfix."""

import time

import pytest
from lab.client import send, without_trace

MAIL = b"From: sender@client.example\r\nSubject: hello\r\n\r\n.one\r\n"
BROKEN = {"Swift down": lambda swift: swift.go_down(),
          "Swift says 503": lambda swift: swift.fault("503"),
          "container gone": lambda swift: swift.fault("404"),
          "quota": lambda swift: swift.fault("413")}


def test_a_forward_leaves_and_is_not_stored(postfix, container, sink):
    code, text = send(postfix.port, "away@example.org", MAIL)
    assert (code, text) == (250, "2.0.0 Ok: forwarded")
    postfix.wait_for_empty_queue()
    mail, = sink.mails()
    assert b"X-Rcpt-Args: <jane@elsewhere.example>" in mail
    assert b"X-Mail-Args: <sender@client.example>" in mail
    assert b"(client.example [127.0.0.1])" in mail or \
        b"from client.example (localhost [127.0.0.1])" in mail
    assert mail.replace(b"\n", b"\r\n").rstrip().endswith(
        MAIL.split(b"\r\n\r\n")[1].rstrip())
    assert container.names() == []


def test_a_forward_to_a_stored_address_is_stored(postfix, container):
    assert send(postfix.port, "back@example.org", MAIL)[0] == 250
    postfix.wait_for_empty_queue()
    _, headers, content = container.only()
    assert headers["x-object-meta-envelope-to"] == "a@example.org"
    assert MAIL.split(b"\r\n\r\n")[1] in content


def test_a_forward_to_both_goes_both_ways(postfix, container, sink):
    assert send(postfix.port, "both@example.org", MAIL)[0] == 250
    postfix.wait_for_empty_queue()
    assert len(container.names()) == 1
    assert len(sink.mails()) == 1


def test_mixed_mail_is_stored_and_forwarded(postfix, container, sink):
    code, text = send(postfix.port, ["a@example.org", "away@example.org"],
                      MAIL)
    assert code == 250
    assert text.startswith("2.0.0 Ok: stored as ")
    postfix.wait_for_empty_queue()
    _, headers, content = container.only()
    assert headers["x-object-meta-envelope-to"] == "a@example.org"
    assert without_trace(content) == MAIL
    mail, = sink.mails()
    assert b"X-Rcpt-Args: <jane@elsewhere.example>" in mail
    assert mail.count(b"X-Rcpt-Args") == 1


@pytest.mark.parametrize("fault", BROKEN)
def test_mixed_mail_is_not_forwarded_when_it_is_not_stored(
        postfix, container, sink, fault):
    BROKEN[fault](container.swift)
    code, text = send(postfix.port, ["a@example.org", "away@example.org"],
                      MAIL)
    assert code in (451, 452), text
    assert postfix.queue() == []
    container.swift.restore()
    assert container.names() == []
    assert sink.mails() == []


def test_mixed_mail_is_not_stored_when_it_is_not_forwarded(
        postfix, container, sink):
    code, text = send(
        postfix.port, ["a@example.org", "away@example.org"],
        MAIL.replace(b"hello", b"refuse me behind"))
    assert code == 550, text
    assert "refused by the server behind" in text
    assert container.names() == []
    assert postfix.queue() == []
    assert sink.mails() == []


def test_the_same_mail_to_stored_addresses_alone_is_stored(postfix, container):
    code, text = send(postfix.port, "a@example.org",
                      MAIL.replace(b"hello", b"refuse me behind"))
    assert code == 250, text
    assert len(container.names()) == 1


def test_a_bounce_to_a_stored_address_is_stored(postfix, container):
    code, text = send(postfix.port, "gone@example.org", MAIL,
                      sender="a@example.org")
    assert code == 250, text
    postfix.wait_for_empty_queue()
    _, headers, content = container.only()
    assert headers.get("x-object-meta-envelope-from", "") == ""
    assert headers["x-object-meta-envelope-to"] == "a@example.org"
    assert b"Subject: Undelivered Mail Returned to Sender" in content
    assert b"no mailbox here" in content


def test_mail_of_this_host_waits_in_the_queue_for_swift(postfix, container):
    container.swift.go_down()
    long = b"y" * 3000
    postfix.sendmail("root@example.org", ["a@example.org"],
                     b"Subject: local\n\n" + long + b"\n")
    deadline = time.monotonic() + 60
    while not any(entry["queue_name"] == "deferred"
                  for entry in postfix.queue()):
        assert time.monotonic() < deadline, postfix.queue()
        time.sleep(0.1)
    entry, = postfix.queue()
    assert "451 4.3.0" in entry["recipients"][0]["delay_reason"]
    container.swift.start()
    postfix.flush()
    postfix.wait_for_empty_queue()
    assert b"\r\n" + long + b"\r\n" in container.only()[2]
