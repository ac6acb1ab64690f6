# SPDX-License-Identifier: GPL-3.0-or-later
"""The log (contract, section 6, and the option log of section 2)."""

import json
import os
import re
import socket
import time

import pytest

import standin
from helpers import program
from helpers.journal import fields, received
from standin import answer

MESSAGE = b"From: a@example.org\r\nSubject: hush-content\r\n\r\ntext\r\n"
XFORWARD = "XFORWARD NAME=mx.example ADDR=192.0.2.9 HELO=h IDENT=4bXyz"


def logged(bench, store, relay=None, recipients=("box@example.com",),
           content=MESSAGE, smtp=(), **options):
    """The log of a session with one message, and its reply."""
    more = dict(smtp)
    if relay:
        more["reinject"] = relay.place
    session = bench.accept(SMTP=more, archive=store.account(**options))
    assert session.cmd(XFORWARD).code == 250
    session.envelope(recipients=recipients)
    session.data(content)
    reply = session.reply()
    session.quit()
    assert "hush-content" not in str(session.log)
    return session.log, reply


# The verbs.

def test_stored(bench, store):
    log, reply = logged(bench, store, recipients=["box@example.com"])
    line = log.one("stored")
    assert line["client"] == "mx.example[192.0.2.9]"
    assert line["from"] == "<from@example.org>"
    assert line["to"] == "<box@example.com>"
    assert line["nrcpt"] == "1"
    assert line["size"] == str(len(MESSAGE))
    assert line["object"] == "mail/" + store.only[0]
    assert reply.text.endswith(store.only[0][4:])
    assert re.fullmatch(r"tx[0-9a-f]+", line["trans"])
    assert line["tries"] == "1"
    assert re.fullmatch(r"\d+(\.\d+)?/\d+(\.\d+)?/\d+(\.\d+)?",
                        line["delays"])
    assert line["dsn"] == "2.0.0"


def test_stored_has_its_order_of_pairs(bench, store):
    log, _ = logged(bench, store)
    text, = log.lines("stored")
    names = re.findall(r"(?:: |, )([a-z_]+)=", text)
    expected = ["client", "from", "to", "nrcpt", "size", "account", "object",
                "trans", "tries", "delays", "dsn"]
    assert [name for name in names if name in expected] == expected


def test_stored_once_for_each_account(bench, store):
    store.containers |= {"one", "two"}
    session = bench.accept(**{
        name: store.account(recipients=f"@{name}.example", container=name)
        for name in ("one", "two")})
    assert session.deliver(MESSAGE, recipients=[
        "a@one.example", "b@two.example", "c@two.example"]).code == 250
    session.quit()
    lines = [program.pairs(line) for line in session.log.lines("stored")]
    assert [line["nrcpt"] for line in lines] == ["1", "2"]
    assert [line["object"].split("/")[0] for line in lines] == ["one", "two"]
    assert len({line["trans"] for line in lines}) == 2


def test_tries_are_counted(bench, store):
    store.once("PUT", answer(503))
    log, reply = logged(bench, store, retries="1")
    assert reply.code == 250
    assert log.one("stored")["tries"] == "2"


@pytest.mark.parametrize("status, dsn", ((503, "4.3.0"), (403, "4.3.5"),
                                         (404, "4.3.5"), (413, "4.3.1")))
def test_deferred(status, dsn, bench, store):
    store.always("PUT", answer(status))
    log, reply = logged(bench, store)
    assert reply.code // 100 == 4
    text, = log.lines("deferred")
    line = program.pairs(text)
    assert line["dsn"] == dsn
    assert line["client"] == "mx.example[192.0.2.9]"
    assert line["from"] == "<from@example.org>"
    assert re.search(r'reason="[^"]+"', text)
    # Which account, which request, which status.
    assert "archive" in str(log)
    assert "PUT" in str(log)
    assert str(status) in str(log)


def test_deferred_by_authentication(bench, store):
    log, reply = logged(bench, store, key="wrong")
    assert reply.code == 451
    assert log.lines("deferred")
    assert "archive" in str(log) and "401" in str(log)


def test_rejected(bench, store):
    log, reply = logged(bench, store, content=b"bare\nLF\r\n")
    assert reply.code == 550
    assert log.one("rejected")["dsn"] == "5.5.2"


def test_rejected_recipient(bench, store):
    session = bench.accept(SMTP={"unknown_recipient_code": "550"},
                           archive=store.account())
    assert session.cmd("MAIL FROM:<a@b.org>").code == 250
    assert session.cmd("RCPT TO:<no@example.org>").code == 550
    session.quit()
    text, = session.log.lines("rejected")
    assert "no@example.org" in text and "5.1.1" in text


def test_forwarded(bench, store, relay):
    log, _ = logged(bench, store, relay, recipients=["away@example.com"])
    line = log.one("forwarded")
    assert relay.place in line["relay"]
    assert line["to"] == "<away@example.com>"
    assert line["dsn"] == "2.0.0"
    assert not log.lines("stored")


def test_stored_and_forwarded(bench, store, relay):
    log, _ = logged(bench, store, relay,
                    recipients=["box@example.com", "away@example.com"])
    assert log.one("stored")["nrcpt"] == "1"
    assert log.one("forwarded")["nrcpt"] == "1"


def test_in_doubt(bench, store, relay):
    relay.replies["DOT"] = standin.Mail.drop
    log, reply = logged(bench, store, relay,
                        recipients=["box@example.com", "away@example.com"])
    assert reply.code == 451
    assert log.one("in-doubt")["from"] == "<from@example.org>"


def test_lost(bench, store):
    session = bench.session(bench.config(archive=store.account()))
    session.greet()
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"Subject: x\r\n")
    session.hang_up()
    session.ends(0)
    assert len(session.log.lines("lost")) == 1


def test_400_without_metadata_is_a_warning(bench, store):
    store.once("PUT", answer(400))
    log, reply = logged(bench, store)
    assert reply.code == 250
    account, = log.lines("account")
    assert program.pairs(account)["status"] == "400"


def test_new_name_after_412_is_logged(bench, store):
    store.once("PUT", answer(412))
    store.once("HEAD", answer(404))
    log, reply = logged(bench, store, retries="1")
    assert reply.code == 250
    assert re.search("412|name", "".join(log.lines("account")))


# What may not be in it.

def test_control_characters_are_escaped(bench, store):
    """Not one octet of a peer can forge or hide a line."""
    store.always("PUT", answer(503, X_Trans_Id="tx\x01\x1b[2J"))
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.cmd("XFORWARD HELO=x+20stored:+20client=y").code == 250
    assert session.cmd('MAIL FROM:<"a\\\x01b"@example.org>').code == 451
    reason = session.log.one("deferred")["reason"]
    assert r"MAIL FROM:\074\042a\134\001b\042@example.org\076" in reason
    session.cmd("RSET")
    assert session.cmd("MAIL FROM:<ä@example.org> SMTPUTF8").code == 250
    assert session.cmd('RCPT TO:<"x, dsn=2.0.0"@example.com>').code == 250
    session.data(MESSAGE)
    assert session.reply().code == 451
    session.quit()
    for octet in session.log.path.read_bytes():
        assert octet == 10 or octet >= 32 and octet != 127
    assert session.log.lines("stored") == []


FORGED = "x>, to=<ceo@example.org>, dsn=2.0.0, y=<"
ESCAPED = ("x\\076\\054 to=\\074ceo@example.org\\076\\054 dsn=2.0.0\\054 "
           "y=\\074")


def xtext(data):
    return "".join(f"+{octet:02X}" for octet in data)


@pytest.mark.parametrize("sender, shown", (
    (f'"{FORGED}"@e.example', f"\\042{ESCAPED}\\042@e.example"),
    ('"a\\\\b"@e.example', "\\042a\\134\\134b\\042@e.example"),
    ("a\u009b2J@e.example", "a\\302\\2332J@e.example"),
    ("a\u202eb@e.example", "a\\342\\200\\256b@e.example"),
    ("müller@e.example", "müller@e.example")))
def test_address_forges_no_pair(sender, shown, bench, store):
    session = bench.accept(archive=store.account(recipients="*"))
    for state in ("", "lost"):
        assert session.cmd(f"MAIL FROM:<{sender}> SMTPUTF8").code == 250
        assert session.cmd(f"RCPT TO:<{sender}>").code == 250
        if state == "":
            session.data(MESSAGE)
            assert session.reply().code == 250
    session.hang_up()
    session.ends(0)
    for verb in ("stored", "lost"):
        line = session.log.one(verb)
        assert line["from"] == line["to"] == f"<{shown}>"
        assert line["client"] == "localhost[unix]"
        assert set(line) <= {
            "client", "from", "to", "nrcpt", "size", "account", "object",
            "trans", "tries", "delays", "dsn", "reason"}


@pytest.mark.parametrize("name, shown", (
    (FORGED.encode(), ESCAPED), (b"caf\xe9", "caf\\351"),
    ("x\u202e\u2066".encode(),
     "x\\342\\200\\256\\342\\201\\246")))
def test_name_of_a_client_forges_no_pair(name, shown, bench, store):
    session = bench.accept(archive=store.account())
    assert session.cmd(f"XFORWARD NAME={xtext(name)} ADDR={xtext(b'1,2')}"
                       ).code == 250
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert session.log.one("stored")["client"] == f"{shown}[1\\0542]"


def test_answer_of_a_server_forges_no_pair(bench, store, relay):
    store.always("PUT", answer(503, X_Trans_Id='t", dsn=2.0.0, x="<\\'))
    relay.replies["RCPT"] = '550 5.1.1 no", dsn=2.0.0, x="<\\>'
    session = bench.accept(SMTP={"reinject": relay.place},
                           archive=store.account())
    session.envelope()
    assert session.cmd("RCPT TO:<other@example.org>").code == 550
    session.data(MESSAGE)
    assert session.reply().code == 451
    session.quit()
    assert session.log.one("deferred")["dsn"] == "4.3.0"
    assert session.log.one("deferred")["trans"] == (
        "t\\042\\054 dsn=2.0.0\\054 x=\\042\\074\\134")
    assert session.log.one("rejected")["dsn"] == "5.1.1"
    assert session.log.one("rejected")["reason"].endswith(
        'no\\042\\054 dsn=2.0.0\\054 x=\\042\\074\\134\\076"')


# to.

def test_to_has_the_recipients_of_the_place(bench, store):
    """Of all its sections: two of them lead to one container here."""
    store.containers |= {"two"}
    session = bench.accept(
        one=store.account(recipients="one@example.com"),
        two=store.account(recipients="two@example.com", container="two"),
        three=store.account(recipients="three@example.com"))
    assert session.deliver(MESSAGE, recipients=[
        f"{name}@example.com" for name in ("three", "two", "one")]).code == 250
    session.quit()
    found = [program.pairs(line) for line in session.log.lines("stored")]
    assert [(line["account"], line["to"], line["nrcpt"]) for line in found] \
        == [("one", "<one@example.com>,<three@example.com>", "2"),
            ("two", "<two@example.com>", "1")]


def test_to_of_a_forwarded_message(bench, store, relay):
    log, _ = logged(bench, store, relay, recipients=[
        "a@example.org", "box@example.com", "b@example.org"])
    line = log.one("forwarded")
    assert (line["to"], line["nrcpt"]) == ("<a@example.org>,<b@example.org>",
                                           "2")


def test_to_is_never_empty(bench, store):
    """No pair where nobody is known; a long address is cut."""
    long = "a" * 1500 + "@example.com"
    session = bench.accept(archive=store.account(recipients="*"))
    assert session.deliver(MESSAGE, recipients=[long]).code == 250
    assert session.cmd("MAIL FROM:<>").code == 250
    session.hang_up()
    session.ends(0)
    assert session.log.one("stored")["to"] == f"<{'a' * 256}...>"
    assert "to" not in session.log.one("lost")


def test_journal_has_a_field_for_each_recipient(bench, store, places):
    prefix, journal, _ = places
    names = [f"box+{number:030d}@example.com" for number in range(200)]
    session = bench.session(bench.config(
        SMTP={"log": "journal"}, archive=store.account()), prefix=prefix)
    session.greet()
    assert session.deliver(MESSAGE, recipients=names).code == 250
    session.quit()
    entry, = [text for text in received(journal) if b"stored: " in text]
    assert re.findall(rb"(?m)^TO=<(.*)>$", entry) == [
        name.encode() for name in names]
    line = program.pairs(fields(entry)["MESSAGE"])
    assert line["to"].startswith(f"<{names[0]}>,<{names[1]}>,")
    assert line["to"].endswith(">") and line["nrcpt"] == "200"
    assert line["dsn"] == "2.0.0"


def test_no_userinfo_of_an_url(bench, store):
    """Nor a query: test_auth.py, as only TempURL has one."""
    store.always("AUTH", answer(503))
    url = store.authurl.replace("//", "//someone:hush@")
    session = bench.accept(archive=store.account(authurl=url))
    assert session.deliver(MESSAGE).code == 451
    session.quit()
    assert "hush" not in str(session.log).replace("hush-content", "")
    assert "someone" not in str(session.log)


def test_proxy_password_is_not_logged(bench, store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://me:hush@127.0.0.1:{unused.getsockname()[1]}"
        log, reply = logged(bench, store, proxy=proxy)
        assert reply.code == 451
        assert "hush" not in str(log).replace("hush-content", "")


def test_proxy_that_libcurl_cannot_read_is_not_logged(bench, store):
    """It says "Unsupported proxy syntax in", and what it was given."""
    log, reply = logged(bench, store, proxy="http://me:hush@[::::]:3128")
    assert reply.code == 451
    assert "hush" not in str(log).replace("hush-content", "")
    assert "proxy" in log.one("deferred")["reason"]


# Where it goes.

def deliver_with_log(bench, store, target, prefix=(), **more):
    session = bench.session(bench.config(
        SMTP={"log": target}, archive=store.account()), prefix=prefix, **more)
    session.greet()
    assert session.cmd(XFORWARD).code == 250
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    return session


def test_journal(bench, store, places):
    prefix, journal, syslog = places
    session = deliver_with_log(bench, store, "journal", prefix)
    entries = [fields(datagram) for datagram in received(journal)]
    entry, = [entry for entry in entries
              if "stored: " in entry["MESSAGE"]]
    assert entry["SYSLOG_IDENTIFIER"] == "swiftdrop"
    assert entry["PRIORITY"] == "6"
    assert re.fullmatch(r"[0-9a-f]{32}", entry["MESSAGE_ID"])
    # The pairs are fields as well.
    values = set(entry.values())
    for value in ("<from@example.org>", "<box@example.com>",
                  "mx.example[192.0.2.9]", "mail/" + store.only[0], "2.0.0"):
        assert value in values or value.strip("<>") in values, entry
    assert received(syslog) == []
    assert str(session.log) == ""


def fail_each_way(session, store):
    """A message that is rejected, one deferred and one lost; the end."""
    assert session.deliver(b"a\nb\r\n").code == 550
    store.always("PUT", answer(503))
    assert session.deliver(MESSAGE).code == 451
    session.envelope()
    session.hang_up()
    session.ends(0)


def test_each_verb_has_a_message_id(bench, store, relay, places):
    prefix, journal, _ = places
    session = bench.session(bench.config(
        SMTP={"log": "journal", "reinject": relay.place},
        archive=store.account()), prefix=prefix)
    session.greet()
    both = ["box@example.com", "away@example.com"]
    assert session.deliver(MESSAGE, recipients=both).code == 250
    relay.replies["DOT"] = standin.Mail.drop
    assert session.deliver(MESSAGE, recipients=both).code == 451
    fail_each_way(session, store)
    identifiers = {}
    for entry in map(fields, received(journal)):
        verb = entry["MESSAGE"].split(": ")[0].split()[-1]
        if "MESSAGE_ID" in entry:
            identifiers.setdefault(verb, set()).add(entry["MESSAGE_ID"])
    verbs = {"stored", "forwarded", "in-doubt", "rejected", "deferred",
             "lost"}
    assert verbs <= set(identifiers)
    assert all(len(identifiers[verb]) == 1 for verb in verbs)
    assert len(set.union(*(identifiers[verb] for verb in verbs))) == len(verbs)


def test_journal_field_cannot_be_forged(bench, store, places):
    prefix, journal, _ = places
    session = bench.session(bench.config(
        SMTP={"log": "journal"}, archive=store.account(recipients="*")),
        prefix=prefix)
    session.greet()
    assert session.deliver(
        MESSAGE, recipients=['"PRIORITY=0 x"@example.com']).code == 250
    session.quit()
    entry, = [entry for entry in map(fields, received(journal))
              if "stored: " in entry["MESSAGE"]]
    assert entry["PRIORITY"] == "6"


def test_syslog(bench, store, places):
    prefix, journal, syslog = places
    session = deliver_with_log(bench, store, "syslog", prefix)
    lines = [datagram.decode() for datagram in received(syslog)]
    line, = [line for line in lines if "stored: " in line]
    # Facility mail (2), severity info (6); the session's process.
    assert line.startswith(f"<{2 * 8 + 6}>")
    assert f"swiftdrop[{session.process.pid}]: stored: client=" in line
    assert received(journal) == []
    assert str(session.log) == ""


def test_stderr(bench, store, places):
    prefix, journal, syslog = places
    session = deliver_with_log(bench, store, "stderr", prefix)
    assert len(session.log.lines("stored")) == 1
    assert received(journal) == received(syslog) == []


def test_none(bench, store, places):
    prefix, journal, syslog = places
    session = deliver_with_log(bench, store, "none", prefix)
    assert str(session.log) == ""
    assert received(journal) == received(syslog) == []


def test_postlog(bench, store, short_path):
    """A line as postlogd takes it, verbatim: date, host, program."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog:
        postlog.bind(str(short_path / "postlog"))
        postlog.setblocking(False)
        session = deliver_with_log(bench, store,
                                   f"postlog:{short_path}/postlog")
        lines = [datagram.decode() for datagram in received(postlog)]
    line, = [line for line in lines if "stored: " in line]
    assert re.match(
        r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d "
        + re.escape(socket.gethostname().split(".")[0]) + r"\S* "
        + rf"\S*swiftdrop\S*\[{session.process.pid}\]: stored: client=", line)
    assert str(session.log) == ""


def test_first_line_after_a_restart_of_postlogd(bench, store, short_path):
    """Its socket is a new one."""
    path = str(short_path / "postlog")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog:
        postlog.bind(path)
        session = bench.session(bench.config(
            SMTP={"log": f"postlog:{path}"}, archive=store.account()))
        session.greet()
        assert session.deliver(MESSAGE).code == 250
    os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog:
        postlog.bind(path)
        postlog.setblocking(False)
        assert session.deliver(MESSAGE).code == 250
        session.quit()
        lines = [datagram.decode() for datagram in received(postlog)]
    assert len([line for line in lines if "stored: client=" in line]) == 1


def test_postlog_that_nobody_reads_blocks_for_a_second_at_most(
        bench, store, short_path):
    """The queue of the socket is full; the mail goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        postlog.bind(str(short_path / "postlog"))
        filler.setblocking(False)
        filler.connect(str(short_path / "postlog"))
        with pytest.raises(BlockingIOError):
            while True:
                filler.send(b"x")
        start = time.monotonic()
        deliver_with_log(bench, store, f"postlog:{short_path}/postlog")
        assert time.monotonic() - start < 3.5


def test_postlog_socket_missing(bench, store, tmp_path):
    deliver_with_log(bench, store, f"postlog:{tmp_path}/none")


def test_journal_missing(bench, store, tmp_path):
    deliver_with_log(bench, store, "journal", program.mounts(tmp_path, "/run"))


# JSON.

def objects(data):
    """The lines of a log, each of them an object."""
    found = []
    for line in data.splitlines(keepends=True):
        assert len(line) < 4000
        entry = json.loads(line.decode())
        assert all(isinstance(value, str) or name == "TO" or
                   (name, value) == ("truncated", True)
                   for name, value in entry.items()), entry
        found.append(entry)
    return found


def test_json_has_the_fields_of_the_journal(bench, store, places):
    prefix, journal, _ = places
    deliver_with_log(bench, store, "journal", prefix)
    entry, = [found for found in map(fields, received(journal))
              if "stored: " in found["MESSAGE"]]
    before = time.time()
    session = deliver_with_log(bench, store, "json:stderr")
    line, = objects(session.log.path.read_bytes())
    assert before <= int(line.pop("__REALTIME_TIMESTAMP")) / 1e6 \
        <= time.time()
    assert line["SYSLOG_PID"] == str(session.process.pid)
    assert re.fullmatch(r"mail/cur/\d+\.\S+", line["OBJECT"])
    assert line["MESSAGE"].startswith("stored: client=mx.example[192.0.2.9], "
                                      "from=<from@example.org>, ")
    own = ("SYSLOG_PID", "OBJECT", "MESSAGE", "TRANS", "DELAYS")
    assert {name: None if name in own else value
            for name, value in line.items()} \
        == {name: None if name in own else value
            for name, value in entry.items()}


def test_json_of_each_verb(bench, store, relay):
    relay.replies["DOT"] = standin.Mail.drop
    session = bench.session(bench.config(
        SMTP={"log": "json:stderr", "reinject": relay.place},
        archive=store.account()))
    session.greet()
    assert session.deliver(MESSAGE, recipients=[
        "box@example.com", "away@example.com"]).code == 451
    fail_each_way(session, store)
    lines = objects(session.log.path.read_bytes())
    assert [(line["MESSAGE"].split(":")[0], line["PRIORITY"])
            for line in lines] == [("in-doubt", "4"), ("rejected", "6"),
                                   ("deferred", "4"), ("lost", "6")]
    assert lines[0]["TO"] == ["<box@example.com>", "<away@example.com>"]
    assert lines[2]["REASON"] and lines[2]["STATUS"] == "503"
    assert len({line["MESSAGE_ID"] for line in lines}) == len(lines)


@pytest.mark.parametrize("sender, shown", (
    (f'"{FORGED}"@e.example', f"\\042{ESCAPED}\\042@e.example"),
    ('"a\\\\b"@e.example', "\\042a\\134\\134b\\042@e.example"),
    ('"}\\""@e.example', "\\042}\\134\\042\\042@e.example"),
    ("a\u009b2J@e.example", "a\\302\\2332J@e.example"),
    ("a\u202eb@e.example", "a\\342\\200\\256b@e.example"),
    ("müller@e.example", "müller@e.example")))
def test_json_is_valid_whatever_an_envelope_holds(sender, shown, bench,
                                                  store):
    store.always("PUT", answer(503, X_Trans_Id='t","DSN":"2.0.0\\'))
    session = bench.session(bench.config(
        SMTP={"log": "json:stderr"}, archive=store.account(recipients="*")))
    session.greet()
    assert session.cmd(f"XFORWARD NAME={xtext(b'caf' + bytes([233]))} "
                       "ADDR=192.0.2.9").code == 250
    assert session.cmd(f"MAIL FROM:<{sender}> SMTPUTF8").code == 250
    assert session.cmd(f"RCPT TO:<{sender}>").code == 250
    session.data(MESSAGE)
    assert session.reply().code == 451
    session.quit()
    line, = objects(session.log.path.read_bytes())
    assert line["FROM"] == line["TO"] == f"<{shown}>"
    assert line["CLIENT"] == "caf\\351[192.0.2.9]"
    assert line["TRANS"] == "t\\042\\054\\042DSN\\042:\\0422.0.0\\134"
    assert line["DSN"] == "4.3.0"
    assert f"from=<{shown}>, to=<{shown}>, " in line["MESSAGE"]


def test_json_of_a_thousand_recipients_is_shortened(bench, store, short_path):
    names = [f"box+{number:030d}@example.com" for number in range(1000)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as postlog:
        postlog.bind(str(short_path / "postlog"))
        postlog.setblocking(False)
        session = bench.session(bench.config(
            SMTP={"log": f"json:postlog:{short_path}/postlog"},
            archive=store.account()))
        session.greet()
        assert session.deliver(MESSAGE, recipients=names).code == 250
        session.quit()
        line, = objects(b"\n".join(received(postlog)))
    assert line["truncated"] is True
    assert len(line["TO"]) > 20
    assert line["TO"] == [f"<{name}>" for name in names[:len(line["TO"])]]
    assert line["NRCPT"] == "1000" and line["DSN"] == "2.0.0"
    assert line["OBJECT"] == "mail/" + store.only[0]
    assert line["MESSAGE"].startswith("stored: client=")


def test_json_by_postfixs_postlogd(bench, store, postfix):
    """It writes the line to its file as it is."""
    with postfix.new_log() as log:
        deliver_with_log(
            bench, store,
            f"json:postlog:{postfix.queue_directory}/swiftdrop/log")
        found = re.findall(r"(?m)^\{.*\}$", log('"stored: client='))
    line, = objects("\n".join(found).encode())
    assert line["OBJECT"] == "mail/" + store.only[0]


def test_json_is_not_written_to_the_client(bench, store):
    deliver_with_log(bench, store, "json:stderr", how="spawn")


# auto.

def test_auto_is_the_journal_when_descriptor_2_is_it(bench, store, places,
                                                     tmp_path):
    prefix, journal, syslog = places
    path = tmp_path / "stream"
    path.touch()
    found = path.stat()
    deliver_with_log(bench, store, "auto", prefix, log=path, env={
        "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"})
    assert any(b"stored: " in datagram for datagram in received(journal))
    assert received(syslog) == [] and path.read_text() == ""


@pytest.mark.parametrize("stream", ("1:1", "x", ""))
def test_auto_is_syslog_when_the_journal_is_elsewhere(stream, bench, store,
                                                      places):
    prefix, journal, syslog = places
    session = deliver_with_log(bench, store, "auto", prefix,
                               env={"JOURNAL_STREAM": stream})
    assert any(b"stored: " in datagram for datagram in received(syslog))
    assert received(journal) == [] and str(session.log) == ""


def test_auto_is_stderr_without_syslog(bench, store, tmp_path):
    session = deliver_with_log(bench, store, "auto",
                               program.mounts(tmp_path, "/run", "/dev"))
    assert len(session.log.lines("stored")) == 1


def test_auto_is_stderr_when_nobody_listens_on_dev_log(bench, store, places):
    """What a syslog daemon that has ended leaves behind."""
    prefix, _, syslog = places
    syslog.close()
    session = deliver_with_log(bench, store, "auto", prefix)
    assert len(session.log.lines("stored")) == 1


def test_auto_is_a_syslog_that_listens_on_a_stream(bench, store, places,
                                                   short_path):
    prefix, _, syslog = places
    syslog.close()
    path = short_path / "dev/log"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        session = deliver_with_log(bench, store, "auto", prefix)
        assert str(session.log) == ""
        text = b""
        listener.settimeout(1)
        # The log is opened for the configuration's faults, then by it.
        while b"stored: " not in text:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as file:
                text = file.read()
        assert text.endswith(b"\0")


def test_auto_is_none_when_descriptor_2_is_the_client(bench, store, tmp_path):
    """Session checks each reply: nothing but SMTP."""
    deliver_with_log(bench, store, "auto",
                     program.mounts(tmp_path, "/run", "/dev"), how="spawn")
