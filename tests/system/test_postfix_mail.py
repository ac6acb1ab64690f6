# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail through a real Postfix and swiftdrop into a real Swift."""

import hashlib
import pathlib
import re
import smtplib
import ssl
import subprocess
import sysconfig

import dkim
import lab
import pytest
from lab.client import Raw, send, stored_name, without_trace

MAIL = (b"From: sender@client.example\r\nSubject: hello\r\n\r\n"
        b"one\r\n.\r\n..two\r\n\r\n")


def test_mail_is_stored_with_its_envelope(postfix, container):
    code, text = send(postfix.port, ["a@example.org", "b@example.org"], MAIL,
                      source="127.0.0.5")
    assert code == 250
    name, headers, content = container.only()
    assert name == "cur/" + stored_name(text)
    assert without_trace(content) == MAIL
    assert name.endswith(f",S={len(content)}")
    assert headers["content-type"] == "message/rfc822"
    metadata = container.metadata(name)
    assert metadata.pop("fingerprint") == hashlib.sha256(
        b"sender@client.example\na@example.org\nb@example.org\n\n"
        + hashlib.sha256(MAIL).hexdigest().encode()).hexdigest()
    assert metadata == {
        "envelope-count": "2",
        "envelope-from": "sender@client.example",
        "envelope-to": "a@example.org,b@example.org",
        "client-addr": "127.0.0.5",
        "client-helo": "client.example",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_postfix_logs_the_reply_and_swiftdrop_the_object(postfix, container):
    with postfix.new_log() as log:
        code, text = send(postfix.port, "a@example.org", MAIL)
        assert code == 250
        name, _, content = container.only()
        accepted = f"proxy-accept: END-OF-MESSAGE: 250 {text};"
        assert accepted in log(accepted)
        line = re.search(r" swiftdrop\[\d+\]: stored: (.*)",
                         log("]: stored: "))
        assert line, log()
    pairs = dict(pair.split("=", 1) for pair in line[1].split(", "))
    assert pairs["from"] == "<sender@client.example>"
    assert pairs["to"] == "<a@example.org>"
    assert pairs["nrcpt"] == "1"
    assert pairs["size"] == str(len(content))
    assert pairs["object"] == f"{container.name}/{name}"
    assert pairs["tries"] == "1"
    assert pairs["dsn"] == "2.0.0"
    assert pairs["client"].endswith("[127.0.0.1]")


def test_mails_of_one_session_are_stored_one_by_one(postfix, container):
    with Raw(postfix.port) as client:
        client.command("EHLO client.example")
        for number in range(3):
            assert client.command("MAIL FROM:<>")[:3] == "250"
            assert client.command("RCPT TO:<a@example.org>")[:3] == "250"
            assert client.command("DATA")[:3] == "354"
            reply = client.command(f"Subject: {number}\r\n\r\n.")
            assert reply[:3] == "250", reply
    assert sorted(without_trace(content) for _, _, content
                  in container.objects()) == [
        f"Subject: {number}\r\n\r\n".encode() for number in range(3)]


def test_mail_without_forwards_never_reaches_the_server_behind(postfix):
    with postfix.new_log() as log:
        assert send(postfix.port, "a@example.org", MAIL)[0] == 250
        assert "postfix/reinject" not in log()
        assert send(postfix.port, "away@example.org", MAIL)[0] == 250
        assert "postfix/reinject" in log("postfix/reinject")


def test_eight_bit_and_utf8_addresses_pass_unchanged(postfix, container):
    mail = "Subject: Grüße\r\n\r\näöü€\r\n".encode() + b"\xff\xfe\r\n"
    code, text = send(postfix.port, "müller@example.org", mail,
                      "jürgen@client.example", ["SMTPUTF8", "BODY=8BITMIME"])
    assert code == 250, text
    name, _, content = container.only()
    assert without_trace(content) == mail
    metadata = container.metadata(name)
    assert metadata["envelope-to"] == "m%C3%BCller@example.org"
    assert metadata["envelope-from"] == "j%C3%BCrgen@client.example"


def test_mail_by_tls_is_stored(postfix, container):
    context = ssl.create_default_context(cafile=postfix.certificate)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.example") as client:
        client.starttls(context=context)
        client.sendmail("sender@client.example", "a@example.org", MAIL)
    assert without_trace(container.only()[2]) == MAIL


def test_mail_is_sent_by_tls_where_the_other_side_has_it(postfix):
    with postfix.new_log() as log:
        postfix.sendmail("<>", ["unknown@tls.example"], MAIL)
        assert " starttls=1 " in log(" starttls=1 ")


@pytest.mark.parametrize("port", ["filter_port", "reinject_port"])
def test_there_is_no_tls_within_the_host(postfix, port):
    with Raw(getattr(postfix, port)) as client:
        assert "STARTTLS" not in client.command("EHLO client.example")


def test_bdat_is_stored_as_data_is(postfix, container):
    with Raw(postfix.port) as client:
        assert "250 CHUNKING" in client.command("EHLO client.example")
        client.command("MAIL FROM:<sender@client.example>")
        client.command("RCPT TO:<a@example.org>")
        for chunk, last in ((MAIL[:20], ""), (MAIL[20:], " LAST")):
            client.write(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
            reply = client.reply()
            assert reply[:3] == "250", reply
    assert without_trace(container.only()[2]) == MAIL


def test_long_lines_stay_whole(postfix, container):
    mail = b"Subject: long\r\n\r\n" + b"x" * 20000 + b"\r\n" + b"." * 5000 + \
        b"\r\n"
    assert send(postfix.port, "a@example.org", mail)[0] == 250
    assert without_trace(container.only()[2]) == mail


@pytest.mark.slow
def test_thousand_mails_by_fifty_sessions(postfix, container):
    subprocess.run(
        ["smtp-source", "-c", "-s", "50", "-m", "1000", "-l", "4096",
         "-f", "sender@client.example", "-t", "a@example.org",
         f"127.0.0.1:{postfix.port}"], check=True, stdout=subprocess.DEVNULL)
    objects = container.objects()
    assert len(objects) == 1000
    contents = {without_trace(content) for _, _, content in objects}
    assert len(contents) == 1000
    # smtp-source sends the same mail with another Message-Id each time.
    assert len({re.sub(rb"(?m)^Message-Id: .*\n", b"", content)
                for content in contents}) == 1
    assert {hashlib.sha256(content).hexdigest()
            for _, _, content in objects} == {
        headers["x-object-meta-sha256"] for _, headers, _ in objects}


def test_mail_of_exactly_the_limit_passes_and_no_more(postfix, container):
    limit = 52428800
    line = b"x" * 998 + b"\r\n"
    head = b"Subject: big\r\n\r\n"
    count, rest = divmod(limit - len(head), len(line))
    mail = head + line * count + b"y" * (rest - 2) + b"\r\n"
    assert len(mail) == limit
    code, text = send(postfix.port, "a@example.org", mail)
    assert code == 250, text
    assert without_trace(container.only()[2]) == mail
    code, text = send(postfix.port, "a@example.org",
                      mail[:-2] + b"y\r\n")
    assert code == 552, text
    assert len(container.names()) == 1
    assert send(postfix.port, "a@example.org", MAIL,
                options=[f"SIZE={limit + 1}"])[0] == 552


def test_filter_by_socket_activation(lab_folder, swiftdrop_binary, container,
                                     tmp_path):
    accounts = {"stored": {"recipients": "a@example.org",
                           **container.options()}}
    server = lab.Postfix(f"{lab_folder}/postfix-inet", swiftdrop_binary,
                         accounts, ["a@example.org"],
                         smtp={"log": "stderr"}, spawn=False)
    log = tmp_path / "activate.log"
    activator = lab.process.start(
        ["systemd-socket-activate", "--accept", "--inetd", "-l",
         f"127.0.0.1:{server.filter_port}", str(server.binary), "-c",
         str(server.ini)], log)
    try:
        server.start()
        lab.process.wait_until(
            lambda: "Listening" in log.read_text(), activator,
            "systemd-socket-activate", log)
        code, text = send(server.port, "a@example.org", MAIL)
        assert code == 250, text
        name, _, content = container.only()
        assert name == "cur/" + stored_name(text)
        assert without_trace(content) == MAIL
        assert "stored: " in log.read_text()
        # Mail that is born inside Postfix takes the same socket.
        server.sendmail("root@example.org", ["a@example.org"],
                        b"Subject: local\n\nhello\n")
        server.wait_for_empty_queue()
        assert len(container.names()) == 2
    finally:
        server.stop()
        lab.process.stop(activator)


def corpus():
    """Returns the paths of all mails in the packages' collections."""
    tests = pathlib.Path(sysconfig.get_path("stdlib"),
                         "test/test_email/data")
    signed = pathlib.Path(dkim.__file__).parent / "tests" / "data"
    return sorted([*tests.glob("msg_*.txt"), *signed.glob("*.msg"),
                   *signed.glob("*.message"), *signed.glob("*.mbox"),
                   *signed.glob("*.message.*")])


def as_sent(path):
    """Returns a mail's octets with CRLF at the end of each line."""
    content = re.sub(rb"\r?\n", b"\r\n", path.read_bytes())
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def as_taken(content):
    """Returns what Postfix makes of a content, its Received field aside."""
    if re.match(rb">*From ", content):
        return b"X-Mailbox-Line: " + content
    if content[:1] in (b" ", b"\t"):
        return b"\r\n" + content
    return content


def test_the_collections_are_there():
    # Two more with Python 3.13.
    assert len(corpus()) in (59, 61), corpus()


@pytest.mark.parametrize("path", corpus(), ids=lambda path: path.name)
def test_real_mail_comes_back_octet_for_octet(postfix, container, path):
    mail = as_sent(path)
    code, text = send(postfix.port, "a@example.org", mail)
    assert code == 250, text
    assert without_trace(container.only()[2]) == as_taken(mail)


def test_dkim_signatures_of_real_mail_still_verify(postfix, container):
    data = pathlib.Path(dkim.__file__).parent / "tests" / "data"
    key = (data / "test.private").read_bytes()

    def dns(name, timeout=5):
        assert name == b"test._domainkey.example.com."
        return (data / "test.txt").read_bytes()

    signed = 0
    for path in corpus():
        mail = as_sent(path)
        if as_taken(mail) != mail:
            continue
        try:
            # "simple" notices a single blank more or less.
            header = dkim.sign(mail, b"test", b"example.com", key,
                               canonicalize=(b"simple", b"simple"))
        except dkim.DKIMException:
            continue  # no From, or no mail at all: nobody signs that
        assert dkim.verify(header + mail, dnsfunc=dns)
        code, text = send(postfix.port, "a@example.org", header + mail)
        assert code == 250, text
        stored = container.get("cur/" + stored_name(text))[1]
        assert dkim.verify(stored, dnsfunc=dns), path
        # ... and would not, had anything been changed.
        changed = stored[:-2] + b"x\r\n"
        assert not dkim.verify(changed, dnsfunc=dns), path
        signed += 1
    assert signed > 40
