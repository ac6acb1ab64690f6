# SPDX-License-Identifier: GPL-3.0-or-later
"""The SMTP dialogue (contract, section 3; rulings of section 7)."""

import urllib.parse

import pytest

import standin
from helpers import program

MESSAGE = b"From: a@example.org\r\nSubject: replies\r\n\r\ntext\r\n"
NOWHERE = {"recipients": "*", "container": "mail", "auth_version": "1",
           "authurl": "http://127.0.0.1:9/auth/v1.0", "user": "u", "key": "k"}
ONE = {**NOWHERE, "recipients": "box@example.com"}
HELLO = ("EHLO client.example",)
MAIL = HELLO + ("MAIL FROM:<from@example.org>",)
MAIL8 = HELLO + ("MAIL FROM:<from@example.org> SMTPUTF8",)
RCPT = MAIL + ("RCPT TO:<box@example.com>",)


def after(session, steps):
    """The reply to the last of these commands; those before succeed."""
    assert session.reply().code == 220
    reply = None
    for number, step in enumerate(steps):
        reply = session.cmd(step)
        if number < len(steps) - 1:
            assert reply.code // 100 in (2, 3), (step, reply)
    return reply


# EHLO.

def test_ehlo_announces(bench):
    session = bench.session(bench.config(
        SMTP={"hostname": "filter.example"}, archive=NOWHERE))
    greeting = session.reply()
    assert greeting.code == 220
    assert greeting.text.split()[:2] == ["filter.example", "ESMTP"]
    reply = session.cmd("EHLO client.example")
    assert reply.lines[0].split()[0] == "filter.example"
    assert sorted(reply.lines[1:]) == sorted([
        "PIPELINING", "SIZE 52494336", "8BITMIME", "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"])
    session.quit()


def test_helo_has_one_line(bench):
    session = bench.session(bench.config(
        SMTP={"hostname": "filter.example"}, archive=NOWHERE))
    reply = after(session, ["HELO client.example"])
    assert reply.code == 250 and len(reply.lines) == 1
    assert reply.text.split()[0] == "filter.example"
    session.quit()


# Commands that succeed: name, dialogue, code of the last reply.

GOOD = (
    ("noop", ["NOOP"], 250),
    ("noop with an argument", ["NOOP text"], 250),
    ("rset", ["RSET"], 250),
    ("rset in a transaction", RCPT + ("RSET",), 250),
    ("vrfy", ["VRFY box@example.com"], 252),
    ("quit", ["QUIT"], 221),
    ("lower case", ["ehlo x", "mail from:<a@example.org>",
                    "rcpt to:<box@example.com>", "data"], 354),
    ("mixed case", ["eHlO x", "mAiL FrOm:<a@example.org>",
                    "rCpT tO:<box@example.com>", "DaTa"], 354),
    ("ehlo again", HELLO + HELLO, 250),
    ("helo after ehlo", HELLO + ("HELO x",), 250),
    ("ehlo resets the transaction", RCPT + HELLO + MAIL[1:], 250),
    ("data", RCPT + ("DATA",), 354),
    ("null sender", HELLO + ("MAIL FROM:<>",), 250),
    ("size", HELLO + ("MAIL FROM:<a@example.org> SIZE=1000",), 250),
    ("size 0", HELLO + ("MAIL FROM:<a@example.org> SIZE=0",), 250),
    ("body 7bit", HELLO + ("MAIL FROM:<a@example.org> BODY=7BIT",), 250),
    ("body 8bitmime", HELLO + ("MAIL FROM:<a@example.org> BODY=8BITMIME",),
     250),
    ("smtputf8", MAIL8, 250),
    ("auth", HELLO + ("MAIL FROM:<a@example.org> AUTH=<>",), 250),
    ("auth address", HELLO + ("MAIL FROM:<a@example.org> AUTH=e+3Dmc2@x.org",),
     250),
    ("ret full", HELLO + ("MAIL FROM:<a@example.org> RET=FULL",), 250),
    ("ret hdrs", HELLO + ("MAIL FROM:<a@example.org> RET=HDRS",), 250),
    ("envid", HELLO + ("MAIL FROM:<a@example.org> ENVID=QQ314159",), 250),
    ("all parameters of mail", HELLO + (
        "MAIL FROM:<a@example.org> SIZE=9 BODY=8BITMIME SMTPUTF8 AUTH=<> "
        "RET=HDRS ENVID=x",), 250),
    ("parameters in lower case", HELLO + (
        "MAIL FROM:<a@example.org> size=9 body=8bitmime smtputf8 ret=full",),
     250),
    ("parameters twice, the last counts", HELLO + (
        "MAIL FROM:<> SIZE=99999999 SIZE=9 BODY=7BIT BODY=8BITMIME",), 250),
    ("size with leading zeros", HELLO + (f"MAIL FROM:<> SIZE={'0' * 99}9",),
     250),
    ("auth empty", HELLO + ("MAIL FROM:<> AUTH=",), 250),
    ("tabs for blanks", HELLO + ("\tMAIL\tFROM:\t<\t>\tSIZE=9\t",), 250),
    ("other blanks", HELLO + (" \vMAIL \fFROM:<>\rSIZE=9 \r",), 250),
    ("brackets twice", HELLO + ("MAIL FROM:<<a@example.org>>",), 250),
    ("notify never", MAIL + ("RCPT TO:<box@example.com> NOTIFY=NEVER",), 250),
    ("notify list", MAIL + (
        "RCPT TO:<box@example.com> NOTIFY=SUCCESS,FAILURE,DELAY",), 250),
    ("orcpt", MAIL + (
        "RCPT TO:<box@example.com> ORCPT=rfc822;box@example.com",), 250),
    ("notify and orcpt", MAIL + (
        "RCPT TO:<box@example.com> NOTIFY=FAILURE ORCPT=rfc822;b@c.org",),
     250),
    ("same recipient twice", RCPT + RCPT[-1:], 250),
    ("xforward", HELLO + ("XFORWARD NAME=a.example ADDR=192.0.2.1",), 250),
    ("xforward all", HELLO + (
        "XFORWARD NAME=a.example ADDR=192.0.2.1 PORT=25000 PROTO=ESMTP "
        "HELO=a.example IDENT=4bXyz SOURCE=REMOTE",), 250),
    ("xforward unavailable", HELLO + (
        "XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] "
        "HELO=[UNAVAILABLE] IDENT=[UNAVAILABLE]",), 250),
    ("xforward temporarily unavailable", HELLO + (
        "XFORWARD NAME=[TEMPUNAVAIL]",), 250),
    ("xforward ipv6", HELLO + ("XFORWARD ADDR=IPV6:2001:db8::1",), 250),
    ("xforward in lower case", HELLO + ("xforward name=a addr=192.0.2.1",),
     250),
)


@pytest.mark.parametrize("steps, code", [row[1:] for row in GOOD],
                         ids=[row[0] for row in GOOD])
def test_accepted(steps, code, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    reply = after(session, steps)
    assert reply.code == code, reply


# Addresses that parse, in MAIL and in RCPT; the address as it counts.

ADDRESSES = (
    ("<user@example.com>", "user@example.com"),
    ("<@a.example,@b.example:user@example.com>", "user@example.com"),
    ('<"quoted local"@example.com>', '"quoted local"@example.com'),
    (r'<"a\"b@c"@example.com>', r'"a\"b@c"@example.com'),
    ('<"a,b"@example.com>', '"a,b"@example.com'),
    ("<user@[192.0.2.1]>", "user@[192.0.2.1]"),
    ("<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]"),
    (" <user@example.com>", "user@example.com"),
    ("user@example.com", "user@example.com"),
    (" user@example.com", "user@example.com"),
    ("<user+ext@example.com>", "user+ext@example.com"),
    ("<a.b-c_d=e!f#g$h%i&j'k*l/m?n^o`p{q|r}s~t@example.com>",
     "a.b-c_d=e!f#g$h%i&j'k*l/m?n^o`p{q|r}s~t@example.com"),
    ("<User@EXAMPLE.com>", "User@EXAMPLE.com"),
)


def recipients_of(exchange):
    """What the object's metadata list as recipients."""
    found, metadata = [], exchange.metadata()
    number = 1
    name = "envelope-to"
    while name in metadata:
        found += metadata[name].split(",")
        number += 1
        name = f"envelope-to-{number}"
    return [urllib.parse.unquote(address) for address in found]


@pytest.mark.parametrize("spelled, meant", ADDRESSES)
def test_address(spelled, meant, bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    for command in ("MAIL FROM:", "RCPT TO:"):
        reply = session.cmd(command + spelled)
        assert reply.code == 250, (command, reply)
    session.data(MESSAGE)
    assert session.reply().code == 250
    put, = store.of("PUT")
    assert urllib.parse.unquote(put.metadata()["envelope-from"]) == meant
    assert recipients_of(put) == [meant]
    session.quit()


@pytest.mark.parametrize("address", (
    "müller@example.com", "user@exämple.com", "用户@例子.example"))
def test_utf8_address_with_smtputf8(address, bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.cmd(f"MAIL FROM:<{address}> SMTPUTF8").code == 250
    assert session.cmd(f"RCPT TO:<{address}>").code == 250
    session.data(MESSAGE)
    assert session.reply().code == 250
    put, = store.of("PUT")
    assert urllib.parse.unquote(put.metadata()["envelope-from"]) == address
    assert recipients_of(put) == [address]
    session.quit()


@pytest.mark.parametrize("claimed, sent, is_taken", (
    ("müller@example.com", "MÜLLER@example.com", True),
    ("MÜLLER@example.com", "Müller@EXAMPLE.com", True),
    ("müller@example.com", "MÜLLER+x@example.com", True),
    ("@exämple.com", "a@EXÄMPLE.com", True),
    ("почта@пример.example", "ПОЧТА@Пример.example", True),
    ("σίσυφος@example.com", "ΣΊΣΥΦΟΣ@example.com", True),
    ("ⱥ@example.com", "Ⱥ@example.com", True),
    ("ſ@example.com", "S@example.com", True),
    ("用户@例子.example", "用户@例子.example", True),
    # Neither decomposed letters nor two for one: that is full folding.
    ("müller@example.com", "mu\u0308ller@example.com", False),
    ("straße@example.com", "STRASSE@example.com", False),
    ("müller@example.com", "muller@example.com", False),
))
def test_recipients_are_compared_without_their_case(claimed, sent, is_taken,
                                                    bench):
    session = bench.accept(archive={**NOWHERE, "recipients": claimed})
    assert session.cmd("MAIL FROM:<> SMTPUTF8").code == 250
    reply = session.cmd(f"RCPT TO:<{sent}>")
    assert reply.code == (250 if is_taken else 450), reply
    session.quit()


def test_an_origin_in_utf8_has_no_case_either(bench):
    session = bench.accept(SMTP={"origin": "EXÄMPLE.com"},
                           archive={**NOWHERE, "recipients": "a@exämple.com"})
    assert session.cmd("MAIL FROM:<>").code == 250
    assert session.cmd("RCPT TO:<A>").code == 250
    session.quit()


def test_bare_local_part_gets_the_origin(bench, store):
    session = bench.accept(
        SMTP={"origin": "origin.example"},
        archive=store.account(recipients="postmaster@origin.example"))
    assert session.cmd("MAIL FROM:<root>").code == 250
    for recipient in ("<postmaster>", "<Postmaster>", "postmaster"):
        assert session.cmd(f"RCPT TO:{recipient}").code == 250
    session.quit()


def test_origin_is_hostname_by_default(bench):
    session = bench.accept(SMTP={"hostname": "filter.example"},
                           archive={**NOWHERE,
                                    "recipients": "abuse@filter.example"})
    assert session.cmd("MAIL FROM:<>").code == 250
    assert session.cmd("RCPT TO:<abuse>").code == 250
    assert session.cmd("RCPT TO:<other>").code == 450
    session.quit()


@pytest.mark.parametrize("steps", ((), HELLO, RCPT))
def test_lhlo_ends_the_session_with_421(steps, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    reply = after(session, steps + ("lhlo client.example",))
    assert str(reply) == "421 4.5.1 Error: SMTP, not LMTP"
    assert session.end_of_stream() == b""
    session.ends()


# Errors: name, dialogue, code and enhanced status code of the last reply.

ERRORS = (
    # command out of order
    ("rcpt before mail", HELLO + ("RCPT TO:<box@example.com>",), 503, "5.5.1"),
    ("data before mail", HELLO + ("DATA",), 503, "5.5.1"),
    ("data before rcpt", MAIL + ("DATA",), 503, "5.5.1"),
    ("mail twice", MAIL + MAIL[-1:], 503, "5.5.1"),
    ("mail after rcpt", RCPT + MAIL[-1:], 503, "5.5.1"),
    ("xforward in a transaction", MAIL + ("XFORWARD NAME=x",), 503, "5.5.1"),
    ("rcpt after rset", RCPT + ("RSET", RCPT[-1]), 503, "5.5.1"),
    ("rcpt after ehlo", RCPT + HELLO + RCPT[-1:], 503, "5.5.1"),
    # unknown
    ("unknown", ("NONSENSE",), 500, "5.5.2"),
    ("unknown with an argument", ("NONSENSE x y",), 500, "5.5.2"),
    ("empty", ("",), 500, "5.5.2"),
    ("only a blank", (" ",), 500, "5.5.2"),
    ("not announced: bdat", HELLO + ("BDAT 3",), 500, "5.5.2"),
    ("not announced: starttls", HELLO + ("STARTTLS",), 500, "5.5.2"),
    ("not announced: auth", HELLO + ("AUTH PLAIN",), 500, "5.5.2"),
    ("not announced: expn", HELLO + ("EXPN x",), 500, "5.5.2"),
    ("not announced: etrn", HELLO + ("ETRN x",), 500, "5.5.2"),
    ("verb glued", HELLO + ("NOOPX",), 500, "5.5.2"),
    ("octets", (b"\xff\xfe\x80",), 500, "5.5.2"),
    # a NUL in a command
    ("nul", (b"NOOP\0",), 500, "5.5.2"),
    ("nul in an address", HELLO + (b"MAIL FROM:<a\0b@example.org>",), 500,
     "5.5.2"),
    # syntax
    ("ehlo without a name", ("EHLO",), 501, "5.5.4"),
    ("helo without a name", ("HELO",), 501, "5.5.4"),
    ("mail without from", HELLO + ("MAIL",), 501, "5.5.4"),
    ("mail to", HELLO + ("MAIL TO:<a@example.org>",), 501, "5.5.4"),
    ("mail from without a colon", HELLO + ("MAIL FROM <a@example.org>",), 501,
     "5.5.4"),
    ("rcpt without to", MAIL + ("RCPT",), 501, "5.5.4"),
    ("rcpt from", MAIL + ("RCPT FROM:<a@example.org>",), 501, "5.5.4"),
    ("data with an argument", RCPT + ("DATA now",), 501, "5.5.4"),
    ("vrfy without an argument", ("VRFY",), 501, "5.5.4"),
    ("size is no number", HELLO + ("MAIL FROM:<a@example.org> SIZE=x",), 501,
     "5.5.4"),
    ("size without a value", HELLO + ("MAIL FROM:<a@example.org> SIZE",), 501,
     "5.5.4"),
    ("size negative", HELLO + ("MAIL FROM:<a@example.org> SIZE=-1",), 501,
     "5.5.4"),
    ("body unknown", HELLO + ("MAIL FROM:<a@example.org> BODY=9BIT",), 501,
     "5.5.4"),
    ("ret unknown", HELLO + ("MAIL FROM:<a@example.org> RET=SOME",), 501,
     "5.5.4"),
    ("smtputf8 with a value", HELLO + (
        "MAIL FROM:<a@example.org> SMTPUTF8=yes",), 501, "5.5.4"),
    ("notify unknown", MAIL + ("RCPT TO:<box@example.com> NOTIFY=MAYBE",),
     501, "5.5.4"),
    ("notify never and more", MAIL + (
        "RCPT TO:<box@example.com> NOTIFY=NEVER,DELAY",), 501, "5.5.4"),
    ("xforward empty", HELLO + ("XFORWARD",), 501, "5.5.4"),
    ("xforward without a value", HELLO + ("XFORWARD NAME",), 501, "5.5.4"),
    ("xforward unknown", HELLO + ("XFORWARD COLOUR=blue",), 501, "5.5.4"),
    ("xforward line feed", HELLO + ("XFORWARD NAME=a+0Ab",), 501, "5.5.4"),
    ("xforward carriage return", HELLO + ("XFORWARD HELO=a+0Db",), 501,
     "5.5.4"),
    ("xforward nul", HELLO + ("XFORWARD HELO=a+00b",), 501, "5.5.4"),
    ("xforward delete", HELLO + ("XFORWARD IDENT=a+7Fb",), 501, "5.5.4"),
    ("xforward bad xtext", HELLO + ("XFORWARD NAME=a+0", ), 501, "5.5.4"),
    # another parameter
    ("mail parameter", HELLO + ("MAIL FROM:<a@example.org> COLOUR=blue",),
     555, "5.5.4"),
    ("mail keyword", HELLO + ("MAIL FROM:<a@example.org> REQUIRETLS",), 555,
     "5.5.4"),
    ("rcpt parameter", MAIL + ("RCPT TO:<box@example.com> COLOUR=blue",), 555,
     "5.5.4"),
    ("notify is none of mail", HELLO + (
        "MAIL FROM:<a@example.org> NOTIFY=NEVER",), 555, "5.5.4"),
    ("size is none of rcpt", MAIL + ("RCPT TO:<box@example.com> SIZE=9",),
     555, "5.5.4"),
    # UTF-8 without SMTPUTF8
    ("utf-8 sender", HELLO + ("MAIL FROM:<müller@example.org>",), 553,
     "5.6.7"),
    ("utf-8 recipient", MAIL + ("RCPT TO:<müller@example.com>",), 553,
     "5.6.7"),
    # message above the limit, at MAIL SIZE=
    ("size above", HELLO + ("MAIL FROM:<a@example.org> SIZE=52494337",), 552,
     "5.3.4"),
    ("size far above", HELLO + (
        "MAIL FROM:<a@example.org> SIZE=99999999999999999999",), 552,
     "5.3.4"),
    # the line's limit
    ("2049 octets", ("NOOP " + "x" * 2044,), 500, "5.5.2"),
    ("a million octets", ("NOOP " + "x" * 1000000,), 500, "5.5.2"),
)


@pytest.mark.parametrize("steps, code, status", [row[1:] for row in ERRORS],
                         ids=[row[0] for row in ERRORS])
def test_refused(steps, code, status, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    reply = after(session, steps)
    assert (reply.code, reply.status) == (code, status)
    # The session goes on; nothing of the line was taken for a command.
    assert session.cmd("NOOP").code == 250
    session.quit()


# What the server in front has taken must not bounce.

XFORWARD = HELLO + ("XFORWARD ADDR=192.0.2.1",)
TAKEN = XFORWARD + MAIL[1:]


@pytest.mark.parametrize("steps", (
    XFORWARD + ("MAIL FROM:<a@b>>",),
    XFORWARD + ("MAIL FROM:<a\x01b@example.org>",),
    XFORWARD + ("MAIL FROM:<a@b> COLOUR=blue",),
    XFORWARD + ("MAIL FROM:<a@b> SIZE=x",),
    TAKEN + ("RSET", "MAIL FROM:<a@b> COLOUR=blue"),
    XFORWARD + (b"MAIL FROM:<\xff@b>",),
    TAKEN + ("RCPT TO:<[a]@example.com>",),
    TAKEN + ("RCPT TO:<>",),
    TAKEN + ("RCPT TO:<box@example.com> REQUIRETLS",),
))
def test_a_peer_that_used_xforward_gets_4yz(steps, bench):
    session = bench.session(bench.config(SMTP={"log": "stderr"},
                                         archive=NOWHERE))
    reply = after(session, steps)
    assert str(reply) == "451 4.3.5 Error: mail system configuration error"
    reason = session.log.one("deferred")["reason"]
    assert reason.startswith(('"Syntax error', '"Unsupported parameter: '))
    session.quit()


@pytest.mark.parametrize("steps", (
    XFORWARD + ("MAIL FROM:<m\u00fcller@example.org>",),
    XFORWARD + ("MAIL FROM:<a@b@c>",),
    TAKEN + ("RCPT TO:<m\u00fcller@example.com>",),
))
def test_a_peer_that_used_xforward_has_judged(steps, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    assert after(session, steps).code == 250
    session.quit()


@pytest.mark.parametrize("steps, code", (
    (XFORWARD + ("MAIL FROM:<> SIZE=52494337",), 552),
    (XFORWARD + ("RCPT TO:<a@b>",), 503),
    (XFORWARD + ("XFORWARD NAME=a+0Ab",), 501),
    (XFORWARD + ("NONSENSE",), 500),
))
def test_other_refusals_are_for_good_after_xforward(steps, code, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    assert after(session, steps).code == code
    session.quit()


def test_a_recipient_refused_with_550_stays_so_after_xforward(bench):
    session = bench.session(bench.config(
        SMTP={"unknown_recipient_code": "550"}, archive=ONE))
    reply = after(session, TAKEN + ("RCPT TO:<nobody@example.com>",))
    assert (reply.code, reply.status) == (550, "5.1.1")
    session.quit()


MALFORMED = ("<>x", "<user@example.com", "user@example.com>", "<user@>",
             "<@example.com>", "<a b@example.com>", "<user@@example.com>",
             "<user@exam ple.com>", '<"open@example.com>', "<a@b@c.org>",
             "<user@[192.0.2.1>", "<user@example.com>junk", "",
             b"<\xff\xfe@example.com>", b"<user\x07@example.com>")


@pytest.mark.parametrize("address", MALFORMED)
def test_malformed_address_is_refused_for_good(address, bench):
    """Which of 501, 553 and 555 is open; a 2yz or a crash is not."""
    address = address.encode() if isinstance(address, str) else address
    session = bench.session(bench.config(archive=NOWHERE))
    session.greet()
    reply = session.cmd(b"MAIL FROM:" + address)
    assert reply.code in (500, 501, 553, 555), reply
    assert session.cmd("MAIL FROM:<>").code == 250
    reply = session.cmd(b"RCPT TO:" + address)
    assert reply.code in (500, 501, 553, 555), reply
    assert session.cmd("NOOP").code == 250
    session.quit()


@pytest.mark.parametrize("line", ("NOOP " + "x" * 2043, "EHLO " + "x" * 2043))
def test_line_of_2048_octets_passes(line, bench):
    session = bench.session(bench.config(archive=NOWHERE))
    assert session.reply().code == 220
    assert len(line) == 2048
    assert session.cmd(line).code in (250, 501)
    assert session.cmd("NOOP").code == 250
    session.quit()


@pytest.mark.parametrize("data", (b"NOOP\nNOOP\r\n", b"\nNOOP\r\n",
                                  b"NOOP\n\r\n"))
def test_bare_lf_in_a_command(data, bench):
    session = bench.accept(archive=NOWHERE)
    session.send(data)
    reply = session.reply()
    assert (reply.code, reply.status) == (500, "5.5.2")
    assert session.quiet()
    assert session.cmd("NOOP").code == 250
    session.quit()


def test_bare_cr_does_not_end_a_command(bench):
    session = bench.accept(archive=NOWHERE)
    session.send(b"NOOP\rNOOP\r\n")
    session.reply()
    assert session.quiet()
    session.quit()


# Recipients.

def test_unknown_recipient_is_450_by_default(bench):
    session = bench.accept(archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    reply = session.cmd("RCPT TO:<other@example.com>")
    assert (reply.code, reply.status) == (450, "4.1.1")
    session.quit()


@pytest.mark.parametrize("code", (450, 550))
def test_unknown_recipient_code(code, bench):
    session = bench.accept(SMTP={"unknown_recipient_code": code}, archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    reply = session.cmd("RCPT TO:<other@example.com>")
    assert (reply.code, reply.status) == (code, f"{code // 100}.1.1")
    session.quit()


def test_data_when_every_recipient_was_refused(bench):
    session = bench.accept(archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    assert session.cmd("RCPT TO:<other@example.com>").code == 450
    reply = session.cmd("DATA")
    assert (reply.code, reply.status) == (554, "5.5.1")
    session.quit()


@pytest.mark.parametrize("argument, code", (
    ("TO:<a b@example.com>", 501), ("TO:<>", 501),
    ("TO:<u\xfc@example.com>", 553), ("TO:<box@example.com> FOO=1", 555)))
def test_data_when_every_recipient_was_refused_for_its_form(argument, code,
                                                            bench):
    session = bench.accept(archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    assert session.cmd("RCPT " + argument).code == code
    reply = session.cmd("DATA")
    assert (reply.code, reply.status) == (554, "5.5.1")
    session.quit()


def test_too_many_recipients(bench, store):
    session = bench.accept(SMTP={"recipient_limit": "3"},
                           archive=store.account(recipients="*"))
    assert session.cmd("MAIL FROM:<>").code == 250
    for number in range(3):
        assert session.cmd(f"RCPT TO:<u{number}@example.com>").code == 250
    for number in range(3, 6):
        reply = session.cmd(f"RCPT TO:<u{number}@example.com>")
        assert (reply.code, reply.status) == (452, "4.5.3")
    session.data(MESSAGE)
    assert session.reply().code == 250
    put, = store.of("PUT")
    assert recipients_of(put) == [f"u{n}@example.com" for n in range(3)]
    # The limit is for a message, not for the session.
    assert session.deliver(MESSAGE, recipients=["a@b.org"] * 3).code == 250
    session.quit()


def test_1000_recipients_by_default(bench):
    session = bench.accept(archive=NOWHERE)
    session.send(b"MAIL FROM:<>\r\n" + b"".join(
        b"RCPT TO:<u%d@example.com>\r\n" % n for n in range(1001)))
    codes = [session.reply().code for _ in range(1002)]
    assert codes == [250] * 1001 + [452]
    session.quit()


# Size.

def test_message_size_limit(bench, store):
    session = bench.session(bench.config(
        SMTP={"message_size_limit": "1000"}, archive=store.account()))
    assert "SIZE 1000" in session.greet()
    reply = session.cmd("MAIL FROM:<a@example.org> SIZE=1001")
    assert (reply.code, reply.status) == (552, "5.3.4")
    exact = b"." * 998 + b"\r\n"  # stuffed it is longer than the limit
    assert session.deliver(exact).code == 250
    assert store.only[1] == exact
    reply = session.deliver(exact[2:] + b"x\r\n")
    assert str(reply) == "552 5.3.4 Message size exceeds fixed limit"
    reply = session.deliver(b"x" * 100000 + b"\r\n")
    assert str(reply) == "552 5.3.4 Message size exceeds fixed limit"
    assert len(store.of("PUT")) == 1
    assert session.deliver(MESSAGE).code == 250
    session.quit()


# 20 errors.

@pytest.mark.parametrize("command", (
    "NONSENSE", "RCPT TO:<a@b.org>", "EHLO", "MAIL FROM:<a@b.org> X=Y",
    "MAIL FROM:<a@b.org> SIZE=99999999999"))
def test_20_errors_end_the_session(command, bench):
    session = bench.accept(archive=NOWHERE)
    codes = []
    while not codes or codes[-1] != 421:
        assert len(codes) <= 21, codes
        if session.quiet(0):
            session.send(command.encode() + b"\r\n")
        reply = session.reply()
        codes.append(reply.code)
    assert reply.status == "4.7.0"
    assert len(codes) in (20, 21)
    session.end_of_stream()
    session.ends(0)


def test_refused_recipients_are_no_errors(bench):
    session = bench.accept(SMTP={"unknown_recipient_code": "550"}, archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    for number in range(60):
        assert session.cmd(f"RCPT TO:<u{number}@example.org>").code == 550
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    session.quit()


def test_refused_messages_are_errors(bench, store):
    """Every 5xx of ours but a refused recipient counts (section 7)."""
    session = bench.accept(SMTP={"message_size_limit": "100"},
                           archive=store.account())
    for number in range(20):
        session.envelope()
        session.data(b"x" * 200 + b"\r\n")
        reply = session.reply()
        if reply.code == 421:
            break
        assert reply.code == 552
        if number == 19:
            reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.7.0")
    session.ends(0)


# The end of data, and what must not be taken for it. Name, octets in the
# middle of the content, whether there is a bare LF in it.

SMUGGLED = (
    ("LF dot LF", b"\n.\n", True),
    ("LF dot CRLF", b"\n.\r\n", True),
    ("CRLF dot LF", b"\r\n.\n", True),
    ("CR dot LF", b"\r.\n", True),
    ("CR LF LF dot CRLF", b"\r\n\n.\r\n", True),
    ("LF CR dot CRLF", b"\n\r.\r\n", True),
    ("CR dot CR", b"\r.\r", False),
    ("CR dot CRLF", b"\r.\r\n", False),
    ("CRLF dot CR", b"\r\n.\r", False),
    ("CR CRLF dot CRLF", b"\r\r\n.x\r\n", False),
    ("CRLF NUL dot CRLF", b"\r\n\0.\r\n", False),
    ("CRLF dot NUL CRLF", b"\r\n.\0\r\n", False),
    ("CRLF dot blank CRLF", b"\r\n. \r\n", False),
    ("CRLF dot CR CRLF", b"\r\n.\r\r\n", False),
)


@pytest.mark.parametrize("octets, bare_lf", [row[1:] for row in SMUGGLED],
                         ids=[row[0] for row in SMUGGLED])
@pytest.mark.parametrize("cut", ("whole", "octets"))
def test_smuggling(octets, bare_lf, cut, bench, store):
    """Only CRLF dot CRLF ends the data, however it arrives."""
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    sent = (b"Subject: one\r\n\r\nbody" + octets
            + b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<box@example.com>\r\n"
            b"DATA\r\nSubject: two\r\n\r\nsmuggled\r\n")
    if cut == "whole":
        session.send(sent + b".\r\n")
    else:
        for octet in sent + b".\r\n":
            session.send(bytes([octet]))
    reply = session.reply()
    assert session.quiet(0.1)
    if bare_lf:
        assert (reply.code, reply.status) == (550, "5.5.2")
        assert store.of("PUT") == []
    else:
        assert reply.code == 250
        meant = sent.replace(b"\r\n.", b"\r\n")
        assert store.only[1] == meant
    assert session.cmd("NOOP").code == 250
    session.quit()


CONTENTS = (
    ("empty", b""),
    ("empty line", b"\r\n"),
    ("no header", b"text\r\n"),
    ("dots", b".\r\n..\r\n.a\r\n...\r\n"),
    ("NUL", b"Subject: x\r\n\r\na\0b\0\0\r\n"),
    ("bare CR", b"a\rb\r\r\n\r\r\n\r"b"c\r\n"),
    ("8 bit", bytes(range(128, 256)) + b"\r\n"),
    ("all octets", bytes(set(range(256)) - {10}) + b"\r\n"),
    ("long line", b"x" * 1000000 + b"\r\n"),
    ("long lines of dots", (b"." * 5000 + b"\r\n") * 100),
    ("at the memory's limit", b"x" * (262144 - 2) + b"\r\n"),
    ("above the memory's limit", b"x" * (262145 - 2) + b"\r\n"),
)


@pytest.mark.parametrize("content", [row[1] for row in CONTENTS],
                         ids=[row[0] for row in CONTENTS])
def test_content_is_stored_as_it_is(content, bench, store):
    session = bench.accept(archive=store.account())
    reply = session.deliver(content)
    assert reply.code == 250, reply
    name, stored = store.only
    assert stored == content
    assert name.endswith(f",S={len(content)}")
    session.quit()


def test_bare_lf_in_the_content(bench, store):
    session = bench.accept(archive=store.account())
    session.envelope()
    session.data(b"Subject: x\r\n\r\none\ntwo\r\n")
    reply = session.reply()
    assert (reply.code, reply.status) == (550, "5.5.2")
    assert store.of("PUT") == []
    assert session.deliver(MESSAGE).code == 250
    session.quit()


# Pipelining and pieces.

def script(messages):
    """A whole session in one piece, and the codes of its replies."""
    sent, codes = b"EHLO client.example\r\n", [220, 250]
    for number in range(messages):
        sent += (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<no@example.org>\r\n"
                 b"RCPT TO:<box@example.com>\r\nNONSENSE\r\nDATA\r\n"
                 + program.stuffed(b"Subject: %d\r\n\r\n.x\r\n" % number))
        codes += [250, 450, 250, 500, 354, 250]
    return sent + b"NOOP\r\nQUIT\r\n", codes + [250, 221]


@pytest.mark.parametrize("how", ("socketpair", "tcp", "pipe"))
@pytest.mark.parametrize("size", (1, 7, 1000000))
def test_everything_at_once_and_in_pieces(size, how, bench, store):
    sent, codes = script(3)
    session = bench.session(bench.config(archive=store.account()), how=how)
    for start in range(0, len(sent), size):
        session.send(sent[start:start + size])
    assert [session.reply().code for _ in codes] == codes
    assert session.end_of_stream() == b""
    session.ends(0)
    assert sorted(content for content, _ in store.objects.values()) == [
        b"Subject: %d\r\n\r\n.x\r\n" % number for number in range(3)]


def test_what_follows_the_end_of_data_is_the_next_command(bench, store):
    store.once("PUT", standin.answer(503))
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(program.stuffed(MESSAGE) + b"NOOP\r\nVRFY x\r\n")
    assert [session.reply().code for _ in range(3)] == [451, 250, 252]
    session.quit()


def test_several_messages_in_a_session(bench, store):
    session = bench.accept(archive=store.account())
    replies = [session.deliver(b"Subject: %d\r\n\r\n" % n) for n in range(5)]
    assert [reply.code for reply in replies] == [250] * 5
    assert len({reply.text for reply in replies}) == 5
    assert len(store.objects) == 5
    session.quit()


def test_envelope_does_not_outlive_its_message(bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.deliver(MESSAGE, recipients=["one@example.com"]).code == 250
    assert session.cmd("DATA").code == 503
    assert session.cmd("RCPT TO:<x@example.com>").code == 503
    assert session.deliver(MESSAGE, recipients=["two@example.com"]).code == 250
    assert [recipients_of(put) for put in store.of("PUT")] == [
        ["one@example.com"], ["two@example.com"]]
    session.quit()


# Which account a recipient routes to (the account key recipients).

ROUTES = (
    ("exact@example.com", "exact"),
    ("EXACT@Example.COM", "exact"),
    ("exact+tag@example.com", "exact"),
    ("exact+@example.com", "exact"),
    ("exact+a+b@example.com", "exact"),
    ('"exact"@example.com', "exact"),
    ("exact@example.com.", "exact"),
    ("with space", None),
    ('"with space"@example.com', "quoted"),
    ("other@example.com", "domain"),
    ("other+tag@example.com", "domain"),
    ("other@sub.example.com", "all"),
    ("exact@example.org", "all"),
    ("plus+kept@example.net", "plus"),
    ("plus@example.net", "all"),
    ("x@trailing.example", "trailing"),
)


@pytest.mark.parametrize("address, account", ROUTES)
def test_route(address, account, bench, store):
    patterns = {"all": "*", "domain": " @EXAMPLE.com ",
                "exact": "exact@example.com ,", "quoted":
                '"with space"@example.com', "plus": "plus+kept@example.net",
                "trailing": "@trailing.example."}
    store.containers |= set(patterns)
    session = bench.accept(**{
        name: store.account(recipients=pattern.strip(","), container=name)
        for name, pattern in patterns.items()})
    assert session.cmd("MAIL FROM:<>").code == 250
    reply = session.cmd(f"RCPT TO:<{address}>")
    if account is None:
        assert reply.code // 100 == 5
        return
    assert reply.code == 250, reply
    session.data(MESSAGE)
    assert session.reply().code == 250
    path, = store.objects
    assert path.split("/")[3] == account
    session.quit()


@pytest.mark.parametrize("delimiter, address, known", (
    ("-", "box-tag@example.com", True), ("-", "box+tag@example.com", False),
    ("", "box+tag@example.com", False), ("", "box@example.com", True),
    ("+-", "box-tag@example.com", True), ("+-", "box+tag@example.com", True)))
def test_recipient_delimiter(delimiter, address, known, bench):
    session = bench.accept(SMTP={"recipient_delimiter": delimiter},
                           archive=ONE)
    assert session.cmd("MAIL FROM:<>").code == 250
    assert session.cmd(f"RCPT TO:<{address}>").code == (250 if known else 450)
    session.quit()


# The greeting.

def test_greeting_does_not_wait_for_swift(bench, store):
    """No request before the first message is there."""
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    assert store.requests == []
    session.hang_up()
    session.ends(0)
    assert store.requests == []


@pytest.mark.parametrize("line", (b" folded", b"\tfolded", b" a: b", b" "))
def test_answer_that_begins_with_a_folded_line(line, bench, store):
    """libcurl 7.88.1 follows a freed pointer when the handle was used before:
    seen with a program built for it (`make san`), in any but the first
    request of a session."""
    def folded(exchange):
        exchange.read()
        exchange.send(b"HTTP/1.1 201 Created\r\n" + line + b"\r\nEtag: "
                      + b"0" * 32 + b"\r\nContent-Length: 0\r\n\r\n")
    store.once("PUT", folded, folded)
    session = bench.accept(archive=store.account())
    for _ in range(2):
        assert session.deliver(MESSAGE).code == 451
    assert session.deliver(MESSAGE).code == 250
    session.quit()
