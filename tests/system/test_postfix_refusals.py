# SPDX-License-Identifier: GPL-3.0-or-later
"""What the pair of Postfix and swiftdrop refuses, and that they agree."""

import pytest
from lab.client import Raw, send, without_trace

MAIL = b"Subject: hello\r\n\r\none\r\n"

# What stands after RCPT TO:, whether Postfix takes it, whether swiftdrop
# does. The two differ where Postfix alone judges: it is stricter about
# syntax (strict_rfc821_envelopes), and refuses to relay for an address that
# names another host in its local part, where swiftdrop has a catch-all.
# What Postfix takes, swiftdrop takes, without exception.
ADDRESSES = [
    ("<a@example.org>", True, True),
    ("<A@EXAMPLE.ORG>", True, True),
    ("<a+x@example.org>", True, True),
    ("<a++@example.org>", True, True),
    ("<+a@example.org>", False, False),
    ('<"a"@example.org>', True, True),
    ('<"a+x"@example.org>', True, True),
    ('<"\\a"@example.org>', True, True),
    ('<"a b"@example.org>', False, False),
    ("<a@example.org.>", True, True),
    ("<@relay.example:a@example.org>", True, True),
    ("<@one.example,@two.example:a@example.org>", True, True),
    (" <a@example.org>", True, True),
    ("< a@example.org >", True, True),
    ("<a @example.org>", True, True),
    ("<\\a@example.org>", True, True),
    ('<"a@example.org">', True, True),
    ('<"a"."b"@all.example.org>', True, True),
    ('<"a\tb"@all.example.org>', True, True),
    ("<a:b@all.example.org>", True, True),
    ("<:include:x@all.example.org>", True, True),
    ('<a"b"@all.example.org>', False, False),
    ('<"a"b@all.example.org>', False, False),
    ("<a,b@all.example.org>", False, False),
    ("<a;b@all.example.org>", False, False),
    ("<a[b@all.example.org>", False, False),
    ("<a b@all.example.org>", False, False),
    ("<a(c)@example.org>", False, False),
    ("<a@example.org>x", False, False),
    ("<a>", True, True),
    ("<postmaster>", True, True),
    ("<Postmaster>", True, True),
    ("<anything@all.example.org>", True, True),
    ("<any+thing@all.example.org>", True, True),
    ("<a@all.example.org.>", True, True),
    ("<a'b@all.example.org>", True, True),
    ("<=?x?=@all.example.org>", True, True),
    ('<"a\\"b"@all.example.org>', True, True),
    ("<|a@all.example.org>", True, True),
    ("</tmp/x@all.example.org>", True, True),
    ("<" + "l" * 64 + "@all.example.org>", True, True),
    ("<m\u00fcller@example.org>", True, True),
    ("<away@example.org>", True, True),
    ("<away+x@example.org>", True, True),
    ("<Away@Example.Org>", True, True),
    ('<"away"@example.org>', True, True),
    ("<unknown@example.org>", False, False),
    ("<.a@example.org>", False, False),
    ("<a.@example.org>", False, False),
    ("<a@sub.all.example.org>", False, False),
    ("<a@b.example.org>", False, False),
    ("<a@[127.0.0.1]>", False, False),
    ("<a@[203.0.113.9]>", False, False),
    ("<>", False, False),
    ("<a@>", False, False),
    ("<@example.org>", False, False),
    ('<""@example.org>', False, False),
    ("<a@example.org", False, False),
    ("<jane@elsewhere.example>", False, False),
    ("<jane%elsewhere.example@example.org>", False, False),
    ("<jane@elsewhere.example@example.org>", False, False),
    ('<"jane@elsewhere.example"@example.org>', False, False),
    ("<elsewhere.example!jane@example.org>", False, False),
    ("<elsewhere.example!jane>", False, False),
    ("<jane%elsewhere.example>", False, False),
    ("<@example.org:jane@elsewhere.example>", False, False),
    ('<"jane@elsewhere.example">', False, False),
    ("a@example.org", False, True),
    ("<-a@all.example.org>", False, True),
    ("<jane%elsewhere.example@all.example.org>", False, True),
    ("<elsewhere.example!jane@all.example.org>", False, True),
    ('<"jane@elsewhere.example"@all.example.org>', False, True),
]


def verdict(port, address):
    """Returns whether the server takes the recipient, and its reply."""
    with Raw(port) as client:
        client.command("EHLO client.example")
        utf8 = "" if address.isascii() else " SMTPUTF8"
        client.command(f"MAIL FROM:<sender@client.example>{utf8}")
        reply = client.command(f"RCPT TO:{address}")
        client.command("QUIT")
    assert reply[0] in "245", reply
    return reply[0] == "2", reply


@pytest.mark.parametrize("address, by_postfix, by_swiftdrop", ADDRESSES)
def test_postfix_and_swiftdrop_agree_on_an_address(
        postfix, address, by_postfix, by_swiftdrop):
    front, front_reply = verdict(postfix.port, address)
    direct, direct_reply = verdict(postfix.filter_port, address)
    assert (front, direct) == (by_postfix, by_swiftdrop), \
        (front_reply, direct_reply)
    assert direct or not front


def test_postfix_takes_nothing_that_swiftdrop_refuses():
    assert [row for row in ADDRESSES if row[1] and not row[2]] == []


def test_an_unknown_recipient_never_gets_to_swiftdrop(postfix):
    with postfix.new_log() as log:
        code, text = send(postfix.port, "unknown@example.org", MAIL)
        assert code == 550
        assert text.startswith("5.1.1 <unknown@example.org>: Recipient")
        assert "swiftdrop[" not in log()


def test_a_foreign_recipient_sent_to_swiftdrop_itself_is_refused(
        postfix, sink):
    code, text = send(postfix.filter_port, "jane@elsewhere.example", MAIL)
    assert (code, text) == (
        554, "5.7.1 <jane@elsewhere.example>: Relay access denied")
    assert sink.mails() == []


def test_what_swiftdrop_should_have_stored_is_deferred_behind(postfix):
    code, text = send(postfix.reinject_port, "a@example.org", MAIL)
    assert code == 450, text


def test_when_the_two_disagree_the_mail_is_deferred(postfix, container):
    postfix.configure({"stored": {"recipients": "b@example.org",
                                  **container.options()}})
    code, text = send(postfix.port, "a@example.org", MAIL)
    assert code == 450, text
    assert container.names() == []


def test_etrn_is_refused(postfix):
    with Raw(postfix.port) as client:
        client.command("EHLO client.example")
        assert client.command("ETRN example.org") == \
            "554 5.7.1 <example.org>: Etrn command rejected: Access denied"


def test_nothing_is_announced_that_swiftdrop_cannot_do(postfix):
    with Raw(postfix.port) as client:
        assert client.command("EHLO client.example").split("\n")[1:] == [
            "250-PIPELINING", "250-SIZE 52428800", "250-STARTTLS",
            "250-ENHANCEDSTATUSCODES", "250-8BITMIME", "250-SMTPUTF8",
            "250 CHUNKING"]


def test_mail_by_lmtp_is_deferred(postfix):
    with postfix.new_log() as log:
        postfix.sendmail("root@example.org", ["a@lmtp.example"], MAIL)
        line = next(line for line in log(" status=").splitlines()
                    if " status=" in line)
    assert "dsn=4.5.1, status=deferred" in line
    assert "421 4.5.1 Error: SMTP, not LMTP" in line


END = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r",
       b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\x00.\r\n", b"\r\n.\x00\r\n",
       b"\n.\r", b"\r.\n", b"\r\n\r.\r\n", b"\n\n.\r\n", b"\r\n.\n\r\n"]
SMUGGLED = (b"MAIL FROM:<smuggler@client.example>\r\n"
            b"RCPT TO:<away@example.org>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nsmuggled\r\n.\r\n")


@pytest.mark.parametrize("recipients", [["a@example.org"],
                                        ["a@example.org", "away@example.org"]],
                         ids=["stored", "mixed"])
@pytest.mark.parametrize("way", ["port", "filter_port", "reinject_port"])
@pytest.mark.parametrize("end", END, ids=repr)
def test_no_mail_is_smuggled(postfix, container, sink, end, way, recipients):
    """CVE-2023-51764: one mail stays one, whatever it seems to end with."""
    if way == "reinject_port":
        recipients = ["away@example.org"]
    with Raw(getattr(postfix, way)) as client:
        client.command("EHLO client.example")
        client.command("MAIL FROM:<sender@client.example>")
        for recipient in recipients:
            assert client.command(f"RCPT TO:<{recipient}>")[:3] == "250"
        assert client.command("DATA")[:3] == "354"
        reply = client.command(b"Subject: outer\r\n\r\nouter" + end
                               + SMUGGLED + b"QUIT")
    postfix.wait_for_empty_queue()
    stored = container.objects()
    forwarded = sink.mails()
    assert all(b"smuggler@client.example" not in mail.split(b"Subject:")[0]
               for mail in forwarded)
    if b"\n" in end.replace(b"\r\n", b""):
        # A bare newline is refused outright; Postfix may hang up over it.
        assert reply[:3] in ("550", "521", ""), reply
        assert stored == [] and forwarded == []
    else:
        assert reply[:3] == "250", reply
        assert len(stored) == ("a@example.org" in recipients)
        assert len(forwarded) == ("away@example.org" in recipients)
        for _, _, content in stored:
            meant = b"Subject: outer\r\n\r\nouter" + end + SMUGGLED
            meant = meant.removesuffix(b".\r\n").replace(b"\r\n.", b"\r\n")
            assert content.endswith(meant)


def test_an_ordinary_mail_still_ends(postfix, container):
    """The counterpart of the test above."""
    code, text = send(postfix.port, "a@example.org", MAIL)
    assert code == 250, text
    assert without_trace(container.only()[2]) == MAIL
