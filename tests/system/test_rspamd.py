# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts of a real rspamd with a name server of ours (contract, section 8).

What it cannot be made to answer on demand is in test_scan.py.
"""

import base64
import os
import subprocess

import dkim
import pytest

import lab
import standin
from helpers import objects
from lab import rspamd
from lab.client import send, without_trace
from swiftq_box import RedisServer, wait_for

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
EICAR = (rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!"
         rb"$H+H*")
HERE = "192.0.2.9"      # what the domains below let send
ELSEWHERE = "192.0.2.10"
LOST = "lost.example"   # its name server does not answer
RECORDS = {
    "here.example": f"v=spf1 ip4:{HERE} -all",
    "only.example": f"v=spf1 ip4:{HERE} -all",
    "softly.example": "v=spf1 ~all",
    "neutral.example": "v=spf1 ?all",
    "broken.example": "v=spf1 redirect=nowhere.example",
    "_dmarc.here.example": "v=DMARC1; p=reject",
    "_dmarc.refusing.example": "v=DMARC1; p=reject",
    "_dmarc.doubting.example": "v=DMARC1; p=quarantine",
    "_dmarc.watching.example": "v=DMARC1; p=none",
    "_dmarc.broken.example": "v=DMARC1; p=perhaps",
    "revoked._domainkey.here.example": "v=DKIM1; k=rsa; p=",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """A signer's key, and the record that others check it by."""
    path = tmp_path_factory.mktemp("key") / "key"
    subprocess.run(["openssl", "genrsa", "-out", path, "1024"], check=True,
                   capture_output=True)
    public = subprocess.run(
        ["openssl", "rsa", "-in", path, "-pubout", "-outform", "DER"],
        check=True, capture_output=True).stdout
    return (path.read_bytes(),
            f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}")


@pytest.fixture(scope="module")
def dns(lab_folder, key):
    server = rspamd.Dns(f"{lab_folder}/dns", {
        "good._domainkey.here.example": key[1],
        "good._domainkey.other.example": key[1], **RECORDS}, [LOST])
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def scanner(lab_folder, dns):
    """An rspamd that judges by what its modules say of the sender."""
    server = rspamd.Rspamd(f"{lab_folder}/rspamd", dns)
    server.start()
    yield server
    server.stop()


class Clamd(standin.Server):
    """Finds the one virus that everybody knows; so does a real clamd, once it
    has some 300 MB of signatures."""

    def serve(self, connection):
        data = b""
        while not data.endswith(b"\0\0\0\0"):
            more = connection.recv(65536)
            if not more:
                return
            data += more
        assert data.startswith(b"zINSTREAM\0")
        connection.sendall(b"stream: Eicar-Test-Signature FOUND\0"
                           if EICAR in data else b"stream: OK\0")


@pytest.fixture(scope="module")
def careful_scanner(lab_folder, dns, tmp_path_factory):
    """The same with a Redis, for greylisting, and a virus scanner."""
    redis = RedisServer(tmp_path_factory.mktemp("redis"))
    redis.start()
    with Clamd() as clamd:
        server = rspamd.Rspamd(f"{lab_folder}/careful-rspamd", dns, {
            "redis.conf": f'servers = "127.0.0.1:{redis.port}";\n',
            "greylist.conf": "timeout = 1s;\n",
            "antivirus.conf": f"""
                clamav {{
                    action = "reject";
                    message = '${{SCANNER}}: virus found: "${{VIRUS}}"';
                    scan_mime_parts = false;
                    symbol = "CLAM_VIRUS";
                    type = "clamav";
                    servers = "127.0.0.1:{clamd.port}";
                }}
            """})
        server.start()
        yield server
        server.stop()
    redis.stop()


def mail(domain, more=b""):
    """A mail with all that belongs into one."""
    return (f"Message-ID: <1@{domain}>\r\nFrom: Ann <ann@{domain}>\r\n"
            "To: box@example.com\r\nSubject: hello\r\n"
            "Date: Sat, 28 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain\r\n\r\nhello\r\n").encode() + more


class Sender:
    """Signs mails with the key that the name server knows."""

    def __init__(self, key):
        self.key = key[0]

    def signed(self, content, domain="here.example", selector="good"):
        return dkim.sign(content, selector.encode(), domain.encode(), self.key,
                         include_headers=[b"from", b"to", b"subject"]) + content

    def sealed(self, content, domain="here.example"):
        content = (f"Authentication-Results: mx.{domain}; spf=pass\r\n"
                   .encode() + content)
        return b"".join(dkim.arc_sign(
            content, b"good", domain.encode(), self.key,
            f"mx.{domain}".encode(),
            include_headers=[b"from", b"to", b"subject"])) + content


@pytest.fixture(scope="module")
def sender(key):
    return Sender(key)


def opened(bench, container, scanner, ip=HERE, **smtp):
    """A session that knows its client, as Postfix would tell it."""
    session = bench.accept(
        SMTP={"rspamd": scanner.url, **smtp},
        archive={"recipients": "box@example.com", **container.options()})
    reply = session.cmd(f"XFORWARD ADDR={ip} NAME=mx.here.example "
                        "HELO=mx.here.example IDENT=4XyZ")
    assert reply.code == 250
    return session


def judged(bench, container, scanner, content, domain="here.example",
           **more):
    """Stores a mail; its metadata, and its line in the log."""
    session = opened(bench, container, scanner, **more)
    reply = session.deliver(content, sender=f"ann@{domain}")
    assert reply.code == 250, (reply, str(session.log))
    session.quit()
    name, _, stored = container.only()
    assert stored == content
    return container.metadata(name), session.log.one("stored")


@pytest.mark.parametrize("domain,ip,word", (
    ("here.example", HERE, "pass"), ("here.example", ELSEWHERE, "fail"),
    ("softly.example", HERE, "softfail"), ("neutral.example", HERE, "neutral"),
    ("nowhere.example", HERE, "none"), (LOST, HERE, "temperror"),
    ("broken.example", HERE, "permerror")))
def test_words_for_spf(bench, container, scanner, domain, ip, word):
    metadata, _ = judged(bench, container, scanner, mail(domain), domain,
                         ip=ip)
    assert metadata["verdict-spf"] == word


def without_body(content):
    return content.replace(b"\r\n\r\nhello", b"\r\n\r\nhallo")


DKIM = {
    "none": lambda sender: mail("here.example"),
    "pass": lambda sender: sender.signed(mail("here.example")),
    "fail": lambda sender: without_body(sender.signed(mail("here.example"))),
    "temperror": lambda sender: sender.signed(mail("here.example"), LOST),
    "permerror": lambda sender: sender.signed(mail("here.example"),
                                              selector="revoked"),
}


@pytest.mark.parametrize("word", DKIM)
def test_words_for_dkim(bench, container, scanner, sender, word):
    metadata, _ = judged(bench, container, scanner, DKIM[word](sender))
    assert metadata["verdict-dkim"] == word


def test_one_signature_that_holds_is_a_pass(bench, container, scanner, sender):
    good = sender.signed(mail("here.example"))
    other = sender.signed(without_body(mail("here.example")), "other.example")
    bad = other[:other.index(b"Message-ID")]
    metadata, _ = judged(bench, container, scanner, bad + good)
    assert metadata["verdict-dkim"] == "pass"


@pytest.mark.parametrize("domain,word", (
    ("here.example", "pass"), ("refusing.example", "fail"),
    ("doubting.example", "fail"), ("watching.example", "fail"),
    ("nowhere.example", "none"), (LOST, "temperror"),
    ("broken.example", "permerror")))
def test_words_for_dmarc(bench, container, scanner, domain, word):
    metadata, _ = judged(bench, container, scanner, mail(domain), domain)
    assert metadata["verdict-dmarc"] == word


def test_dmarc_with_a_broken_signature_is_a_pass_by_spf(
        bench, container, scanner, sender):
    metadata, _ = judged(bench, container, scanner,
                         DKIM["fail"](sender))
    assert (metadata["verdict-spf"], metadata["verdict-dkim"],
            metadata["verdict-dmarc"]) == ("pass", "fail", "pass")


ARC = {
    "none": lambda sender: mail("here.example"),
    "pass": lambda sender: sender.sealed(mail("here.example")),
    "fail": lambda sender: without_body(sender.sealed(mail("here.example"))),
    "permerror": lambda sender: sender.sealed(mail("here.example")).replace(
        b"cv=none", b"cv=pass"),
}


@pytest.mark.parametrize("word", ARC)
def test_words_for_arc(bench, container, scanner, sender, word):
    metadata, _ = judged(bench, container, scanner, ARC[word](sender))
    assert metadata["verdict-arc"] == word


def test_verdict_is_in_the_metadata_and_in_the_log(bench, container, scanner,
                                                   sender):
    metadata, line = judged(bench, container, scanner,
                            sender.signed(mail("here.example")))
    assert metadata["verdict"] == "no-action"
    assert metadata["verdict-score"].endswith("/15.00")
    assert float(metadata["verdict-score"].split("/")[0]) < 0
    assert line["verdict"] == "no-action"
    assert line["score"] == metadata["verdict-score"]
    assert line["message-id"] == "<1@here.example>"
    assert "verdict-virus" not in metadata
    objects.in_limits(metadata)


def test_spam_is_refused_with_the_words_of_rspamd(bench, container, scanner,
                                                  relay):
    session = opened(bench, container, scanner, reinject=relay.place)
    reply = session.deliver(mail("here.example", GTUBE + b"\r\n"),
                            recipients=("box@example.com",
                                        "away@example.com"))
    assert str(reply) == "550 5.7.1 Gtube pattern"
    line = session.log.one("rejected")
    assert (line["verdict"], line["dsn"]) == ("reject", "5.7.1")
    assert line["score"].endswith("/15.00")
    session.quit()
    assert container.names() == []
    assert relay.mail.content == b"" and relay.mail.of("DATA") == []


def test_spam_is_only_marked_where_nothing_is_refused(bench, container,
                                                      scanner):
    metadata, line = judged(
        bench, container, scanner, mail("here.example", GTUBE + b"\r\n"),
        rspamd_reject="no")
    assert metadata["verdict"] == line["verdict"] == "reject"


def test_greylist_is_only_a_score_without_redis(bench, container, scanner):
    metadata, _ = judged(bench, container, scanner, mail("only.example"),
                         "only.example", ip=ELSEWHERE)
    assert metadata["verdict"] == "greylist"


def test_greylisted_mail_is_taken_when_it_comes_again(bench, container,
                                                      careful_scanner):
    content = mail("only.example")
    session = opened(bench, container, careful_scanner, ip=ELSEWHERE)
    reply = session.deliver(content, sender="ann@only.example")
    assert str(reply) == "451 4.7.1 Try again later"
    line = session.log.one("deferred")
    assert (line["verdict"], line["dsn"]) == ("soft-reject", "4.7.1")
    session.quit()
    assert container.names() == []

    def taken():
        again = opened(bench, container, careful_scanner, ip=ELSEWHERE)
        reply = again.deliver(content, sender="ann@only.example")
        again.quit()
        return reply.code == 250

    wait_for(taken, "the greylist's second", every_s=0.5)
    assert container.only()[2] == content


def test_virus_is_refused_and_named(bench, container, careful_scanner):
    content = mail("here.example", EICAR + b"\r\n")
    session = opened(bench, container, careful_scanner)
    reply = session.deliver(content, sender="ann@here.example")
    assert str(reply) == ('550 5.7.1 clamav: virus found: '
                          '"Eicar-Test-Signature"')
    session.quit()
    assert container.names() == []
    metadata, _ = judged(bench, container, careful_scanner, content,
                         rspamd_reject="no")
    assert metadata["verdict-virus"] == "Eicar-Test-Signature"
    assert metadata["verdict"] == "reject"


def test_mail_of_50_mib_is_judged_and_stored_as_it_came(bench, container,
                                                        scanner):
    line = os.urandom(36).hex().encode() + b"\r\n"
    content = mail("here.example", line * (50 * 1024 * 1024 // len(line)))
    session = opened(bench, container, scanner)
    reply = session.deliver(content, sender="ann@here.example", timeout=60)
    assert reply.code == 250, reply
    session.quit()
    name, _, stored = container.only()
    assert stored == content
    assert container.metadata(name)["verdict-spf"] == "pass"


def test_empty_mail_is_judged(bench, container, scanner):
    metadata, _ = judged(bench, container, scanner, b"")
    # rspamd 3.12 finds more to score in it than 3.4.
    assert metadata["verdict"] in ("no-action", "add-header")


def test_as_many_recipients_as_are_allowed(bench, container, scanner):
    session = bench.accept(
        SMTP={"rspamd": scanner.url},
        archive={"recipients": "@example.com", **container.options()})
    people = [f"{number:03}{'x' * 200}@example.com" for number in range(1000)]
    session.send("MAIL FROM:<ann@here.example>\r\n" + "".join(
        f"RCPT TO:<{person}>\r\n" for person in people))
    assert {session.reply().code for _ in range(1001)} == {250}
    session.data(mail("here.example"))
    assert session.reply().code == 250
    metadata = container.metadata(container.only()[0])
    assert metadata["verdict"] != "none"


def test_each_mail_of_a_session_has_a_verdict_of_its_own(bench, container,
                                                         scanner):
    session = opened(bench, container, scanner)
    codes = [session.deliver(content).code for content in (
        mail("here.example"), mail("here.example", GTUBE + b"\r\n"),
        mail("here.example"))]
    assert codes == [250, 550, 250]
    session.quit()
    assert [container.metadata(name)["verdict"]
            for name in container.names()] == ["no-action"] * 2


def test_dead_rspamd_costs_no_mail(bench, container, lab_folder, dns):
    server = rspamd.Rspamd(f"{lab_folder}/dead-rspamd", dns)
    content = mail("here.example")
    session = opened(bench, container, server)
    assert session.deliver(content).code == 250
    session.quit()
    name, _, stored = container.only()
    assert stored == content
    metadata = container.metadata(name)
    assert [key for key in metadata if key.startswith("verdict")] == \
        ["verdict"]
    assert metadata["verdict"] == "none"
    warning, = session.log.lines("rspamd")
    assert f'reason="127.0.0.1:{server.port}: ' in warning
    assert session.log.one("stored")["verdict"] == "none"
    session = opened(bench, container, server, rspamd_required="yes")
    assert str(session.deliver(content)) == "451 4.7.1 Try again later"
    session.quit()
    assert container.names() == [name]
    assert session.log.one("deferred")["dsn"] == "4.7.1"


@pytest.fixture
def postfix(lab_folder, swiftdrop_binary, scanner, container, sink):
    """A Postfix whose mail is judged; a@ is stored, away@ is forwarded."""
    server = lab.Postfix(
        f"{lab_folder}/judged-postfix", swiftdrop_binary,
        {"stored": {"recipients": "a@example.org", **container.options()}},
        ("a@example.org",), {"away@example.org": "jane@elsewhere.example"},
        relay_port=sink.port, smtp={"rspamd": scanner.url})
    server.start()
    yield server
    server.stop()


def test_behind_postfix_spam_is_refused_while_its_sender_waits(
        postfix, container, sink):
    both = ["a@example.org", "away@example.org"]
    assert send(postfix.port, both, mail("here.example", GTUBE + b"\r\n")) \
        == (550, "5.7.1 Gtube pattern")
    code, text = send(postfix.port, both, mail("here.example"))
    assert code == 250, text
    postfix.wait_for_empty_queue()
    name, _, content = container.only()
    assert without_trace(content) == mail("here.example")
    metadata = container.metadata(name)
    assert metadata["message-id"] == "<1@here.example>"
    assert metadata["verdict"] == "no-action"
    forwarded, = sink.mails()
    assert b"GTUBE" not in forwarded
