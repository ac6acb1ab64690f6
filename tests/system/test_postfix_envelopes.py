# SPDX-License-Identifier: GPL-3.0-or-later
"""What Postfix takes as an envelope is stored or deferred, never bounced.

With speed_adjust swiftdrop sees MAIL and RCPT, as the client wrote them, after
Postfix has taken the whole mail: a 5yz then is a bounce of what was accepted.
"""

import urllib.parse

import pytest
from helpers import objects
from lab.client import Raw, without_trace

MAIL = b"Subject: hello\r\n\r\none\r\n"
SENDER = "MAIL FROM:<s@client.example>"
RECIPIENT = "RCPT TO:<a@example.org>"


def dialogue(port, mail=SENDER, recipient=RECIPIENT, name="client.example"):
    """Returns the reply that refuses MAIL or RCPT, and the one to the mail.

    One of the two is an empty string.
    """
    with Raw(port) as client:
        assert client.command(f"EHLO {name}")[:3] == "250"
        for command in mail, recipient:
            reply = client.command(command)
            if reply[:1] != "2":
                return reply, ""
        assert client.command("DATA")[:3] == "354"
        return "", client.command(MAIL + b".")


# MAIL as the client writes it, and the sender that it means.
SENDERS = [
    (f"{SENDER} SIZE=1 SIZE=2", "s@client.example"),
    (f"{SENDER} BODY=7BIT BODY=8BITMIME", "s@client.example"),
    (f"{SENDER} SMTPUTF8 SMTPUTF8", "s@client.example"),
    (f"{SENDER} AUTH=", "s@client.example"),
    (f"{SENDER} AUTH=<> AUTH=x", "s@client.example"),
    (f"{SENDER} SIZE={'0' * 40}1", "s@client.example"),
    (f"{SENDER}\tSIZE=1\t\tBODY=7BIT", "s@client.example"),
    (f"{SENDER}\vSIZE=1\fBODY=7BIT\r", "s@client.example"),
    (f"{SENDER}\t", "s@client.example"),
    (f"{SENDER} ", "s@client.example"),
    (f"{SENDER}\r", "s@client.example"),
    (f" \t{SENDER}", "s@client.example"),
    ("MAIL\tFROM:<s@client.example>", "s@client.example"),
    ("MAIL FROM:\t<\ts@client.example\t>", "s@client.example"),
    ("MAIL FROM:<a@b@c>", "a@b@c"),
    ("MAIL FROM:<<a@c>>", "a@c"),
    ("MAIL FROM:< <a@c> >", "a@c"),
    ("MAIL FROM:<<>>", ""),
    ("MAIL FROM:<\t>", ""),
    ('MAIL FROM:<"">', '""'),
    (r"MAIL FROM:<a@c\d>", r"a@c\d"),
    ("MAIL FROM:<a@[192.0.2.4>", "a@[192.0.2.4"),
    ("MAIL FROM:<[a]@c>", "[a]@c"),
    ("MAIL FROM:<[a b]@c>", "[a b]@c"),
    ("MAIL FROM:<a)b@c>", "a)b@c"),
    ("MAIL FROM:<a . b@c>", "a . b@c"),
    ('MAIL FROM:<a@"c">', 'a@"c"'),
    ("MAIL FROM:<a@@c>", "a@@c"),
]


@pytest.mark.parametrize("mail, sender", SENDERS)
def test_a_sender_that_postfix_takes_is_stored(postfix, container, mail,
                                               sender):
    refused, reply = dialogue(postfix.port, mail)
    assert refused == "" and reply[:3] == "250", (refused, reply)
    name, _, content = container.only()
    assert without_trace(content) == MAIL
    assert urllib.parse.unquote(
        container.metadata(name)["envelope-from"]) == sender


def test_a_long_sender_is_stored_whole(postfix, container):
    sender = "\u0e01" * 100 + "@client.example"
    refused, reply = dialogue(postfix.port, f"MAIL FROM:<{sender}> SMTPUTF8")
    assert refused == "" and reply[:3] == "250", (refused, reply)
    metadata = container.metadata(container.only()[0])
    assert objects.sender(metadata) == sender
    assert "envelope-truncated" not in metadata


@pytest.mark.parametrize("name", ["h" * 2000, "+" * 600, "\u00fc" * 300,
                                  "a b", "[UNAVAILABLE]"])
def test_a_client_may_have_any_name(postfix, container, name):
    refused, reply = dialogue(postfix.port, name=name)
    assert refused == "" and reply[:3] == "250", (refused, reply)
    metadata = container.metadata(container.only()[0])
    assert objects.recipients(metadata) == ["a@example.org"]
    assert "envelope-truncated" not in metadata


def test_a_name_too_long_for_xforward_defers(postfix, container):
    """Postfix's own servers have the same limit, line_length_limit."""
    refused, reply = dialogue(postfix.port, name="\u00fc" * 900)
    assert refused == ""
    assert reply == "451 4.3.0 Error: queue file write error"
    assert container.names() == []


def test_a_sender_that_postfix_takes_is_forwarded(postfix, sink):
    for mail, _ in SENDERS:
        refused, reply = dialogue(postfix.port, mail,
                                  "RCPT TO:<away@example.org>")
        assert refused == "" and reply[:3] == "250", (mail, refused, reply)
    postfix.wait_for_empty_queue()
    assert len(sink.mails()) == len(SENDERS)


def test_an_alias_to_an_address_in_utf8_is_stored(postfix, container):
    """smtp(8) sends such a recipient without SMTPUTF8."""
    refused, reply = dialogue(postfix.port,
                              recipient="RCPT TO:<umlaut@example.org>")
    assert refused == "" and reply[:3] == "250", (refused, reply)
    postfix.wait_for_empty_queue()
    name, _, _ = container.only()
    assert container.metadata(name)["envelope-to"] == "m%C3%BCller@example.org"


@pytest.mark.parametrize("recipient, stored", [
    (f"{RECIPIENT}\t", "a@example.org"),
    (f"\t{RECIPIENT}\r", "a@example.org"),
    ("RCPT\tTO:<a@example.org>", "a@example.org"),
    ("RCPT TO:\t<\ta@example.org\t>", "a@example.org"),
    ("RCPT TO:<a\t@\texample.org>", "a\t@\texample.org"),
    ("RCPT TO:<<a@example.org>>", "a@example.org"),
    ("RCPT TO:< <a@example.org> >", "a@example.org"),
])
def test_a_recipient_that_postfix_takes_is_stored(postfix, container,
                                                  recipient, stored):
    refused, reply = dialogue(postfix.port, recipient=recipient)
    assert refused == "" and reply[:3] == "250", (refused, reply)
    name, _, _ = container.only()
    assert urllib.parse.unquote(
        container.metadata(name)["envelope-to"]) == stored


@pytest.mark.parametrize("mail, recipient", [
    (SENDER, r"RCPT TO:<a@example\.org>"),
    (SENDER, 'RCPT TO:<a@"example.org">'),
    (SENDER, "RCPT TO:<a@example . org>"),
    (SENDER, "RCPT TO:<[a]@all.example.org>"),
    (SENDER, "RCPT TO:<a]@all.example.org>"),
    (SENDER, "RCPT TO:<a . b@all.example.org>"),
    (SENDER, "RCPT TO:<a\x01b@all.example.org>"),
    (SENDER, "RCPT TO:<a@all.example.org>>"),
    ("MAIL FROM:<a@c>>", RECIPIENT),
    ("MAIL FROM:<a\x01b@c>", RECIPIENT),
    ('MAIL FROM:<"a\x7fb"@c>', RECIPIENT),
])
def test_an_address_that_only_postfix_reads_is_deferred(
        postfix, container, mail, recipient):
    with postfix.new_log() as log:
        refused, reply = dialogue(postfix.port, mail, recipient)
        assert refused == ""
        assert reply == "451 4.3.5 Error: mail system configuration error"
        line = next(line for line in log("]: deferred: ").splitlines()
                    if "]: deferred: " in line)
    assert "dsn=4.3.5, reason=\"Syntax error in parameters or arguments: " \
        in line
    assert container.names() == []


@pytest.mark.parametrize("recipient", [
    "RCPT TO:<a(x)@example.org>", "RCPT TO:<A <a@example.org>>",
    "RCPT TO:<a@example.org(x)>", "RCPT TO:<x:a@example.org;>",
    'RCPT TO:<""@all.example.org>'])
def test_what_postfix_takes_by_default_is_deferred(postfix, container,
                                                   recipient):
    """strict_rfc821_envelopes is no by default."""
    assert dialogue(postfix.port, recipient=recipient)[0][:3] == "501"
    refused, reply = dialogue(postfix.lenient_port, recipient=recipient)
    assert refused == ""
    assert reply == "451 4.3.5 Error: mail system configuration error"
    assert container.names() == []


# Each stands where an address may have it.
AWKWARD = "!\"#$%&'()*+,-/:;<=>?@[\\]^_`{|}~ \t\v\f\r\x01\x7f\u00fc\u0085"


def awkward_addresses(domain):
    for character in AWKWARD:
        yield f"a{character}b@{domain}"
        yield f"{character}@{domain}"
        yield f'"a{character}b"@{domain}'
        yield f"a@{domain}{character}"
        yield f"a@{character}{domain}"


@pytest.mark.parametrize("port", ["port", "lenient_port"])
def test_no_awkward_address_that_postfix_takes_bounces(postfix, port):
    # No store: what swiftdrop takes is deferred, quicker than it is stored.
    postfix.configure({"stored": {
        "recipients": "a@example.org, @all.example.org", "container": "mail",
        "auth_version": "1", "authurl": "http://127.0.0.1:9/", "user": "u",
        "key": "k", "retries": "0"}})
    taken = 0
    dialogues = [
        *((f"MAIL FROM:<{address}>", RECIPIENT)
          for address in awkward_addresses("client.example")),
        *((SENDER, f"RCPT TO:<{address}>")
          for address in awkward_addresses("all.example.org"))]
    for mail, recipient in dialogues:
        refused, reply = dialogue(getattr(postfix, port), mail, recipient)
        assert refused or reply[:1] == "4", (mail, recipient, reply)
        taken += not refused
    assert taken > 100


def test_the_case_of_a_recipient_in_utf8_does_not_count(postfix, container):
    refused, reply = dialogue(postfix.port, f"{SENDER} SMTPUTF8",
                              "RCPT TO:<M\u00dcLLER@Example.org>")
    assert refused == "" and reply[:3] == "250", (refused, reply)
    metadata = container.metadata(container.only()[0])
    assert objects.recipients(metadata) == ["M\u00dcLLER@Example.org"]


def test_where_only_postfix_folds_the_mail_is_deferred(postfix, container):
    """Postfix takes \u1e9e for ss, swiftdrop does not."""
    for recipient in "stra\u00dfe", "STRA\u1e9eE":
        assert dialogue(postfix.port, f"{SENDER} SMTPUTF8",
                        f"RCPT TO:<{recipient}@example.org>")[1][:3] == "250"
    assert len(container.names()) == 2
    refused, reply = dialogue(postfix.port, f"{SENDER} SMTPUTF8",
                              "RCPT TO:<STRASSE@example.org>")
    assert refused == ""
    assert reply == ("450 4.1.1 <STRASSE@example.org>: Recipient address "
                     "rejected: User unknown in relay recipient table")
    assert len(container.names()) == 2


def test_utf8_without_smtputf8_is_refused_at_once(postfix, container):
    """strict_smtputf8: what is not declared never gets to swiftdrop."""
    for mail, recipient in (("MAIL FROM:<\u00fc@client.example>", RECIPIENT),
                            (SENDER, "RCPT TO:<m\u00fcller@example.org>")):
        refused, _ = dialogue(postfix.port, mail, recipient)
        assert refused == ("553 5.6.7 Must declare SMTPUTF8 to send unicode "
                           "address")
    assert container.names() == []


def test_utf8_without_smtputf8_is_stored_where_postfix_takes_it(
        postfix, container):
    refused, reply = dialogue(postfix.lenient_port,
                              "MAIL FROM:<\u00fc@client.example>",
                              "RCPT TO:<m\u00fcller@example.org>")
    assert refused == "" and reply[:3] == "250", (refused, reply)
    metadata = container.metadata(container.only()[0])
    assert metadata["envelope-from"] == "%C3%BC@client.example"
    assert metadata["envelope-to"] == "m%C3%BCller@example.org"
