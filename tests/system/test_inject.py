# SPDX-License-Identifier: GPL-3.0-or-later
"""Re-injection and the order of commitment (contract, sections 5 and 7)."""

import signal
import socket
import time

import pytest

import standin
from helpers import program
from standin import answer, hang

MESSAGE = b"From: a@example.org\r\nSubject: inject\r\n\r\ntext\r\n"
BOTH = ("box@example.com", "away@example.com")
AWAY = ("away@example.com",)
DEFERRED = "451 4.3.0 Error: queue file write error"
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"


@pytest.fixture
def pair():
    """A scripted store and a scripted SMTP server with one list of
    events."""
    events = []
    with standin.Store(events=events) as store, \
            standin.Relay(events=events) as relay:
        yield store, relay, events


def opened(bench, store, relay, smtp=(), **options):
    session = bench.accept(SMTP={"reinject": relay.place, **dict(smtp)},
                           archive=store.account(**options))
    return session


def first_refusal(session, recipients=BOTH, content=MESSAGE):
    """Says a message until something is refused; that reply."""
    reply = session.cmd("MAIL FROM:<from@example.org>")
    for recipient in recipients:
        if reply.code == 250:
            reply = session.cmd(f"RCPT TO:<{recipient}>")
    if reply.code == 250:
        reply = session.cmd("DATA")
    if reply.code == 354:
        session.send(standin_data(content))
        reply = session.reply()
    return reply


def standin_data(content):
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def settle(relay):
    """Waits until the server has seen the end of each connection."""
    wait_for(lambda: all(mail.ended is not None and
                         mail.connection not in relay.live
                         for mail in relay.mails))


def wait_for(condition, seconds=5):
    """Waits, not for ever: what follows asserts what it needs."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)


# The order.

def test_order_of_commitment(bench, pair):
    store, relay, events = pair

    def confirm(exchange):
        # It was sent before; the stand-in may read it later.
        wait_for(lambda: "smtp content" in events)
        exchange.good()
    store.once("PUT", confirm)
    session = opened(bench, store, relay)
    reply = session.deliver(MESSAGE, recipients=BOTH)
    assert reply.code == 250
    assert reply.text == "2.0.0 Ok: stored as " + store.only[0][4:]
    order = [events.index(event) for event in (
        "smtp connect", "smtp MAIL", "smtp RCPT", "smtp DATA", "http AUTH",
        "http PUT 201", "smtp DOT", "smtp DOT 250")]
    assert order == sorted(order), events
    # The content is with the server before the upload is confirmed.
    assert events.index("smtp content") < events.index("http PUT 201")
    assert relay.mail.message == MESSAGE
    session.quit()


def test_content_comes_whole_before_the_uploads(bench, pair):
    """All of it, but for the dot."""
    store, relay, _ = pair
    content = b"line of text\r\n" * 3000
    seen = []

    def look(exchange):
        exchange.read()
        wait_for(lambda: len(relay.mail.content) >= len(content))
        time.sleep(0.1)
        seen.append((len(relay.mail.content), relay.mail.dot))
        exchange.good()
    store.once("PUT", look)
    session = opened(bench, store, relay)
    assert session.deliver(content, recipients=BOTH).code == 250
    assert seen == [(len(content), False)]
    session.quit()


@pytest.mark.parametrize("place", ("ipv4", "ipv6", "localhost", "unix"))
def test_place(place, bench, store, short_path):
    more = {}
    if place == "ipv6":
        more = {"family": socket.AF_INET6}
    elif place == "unix":
        more = {"family": socket.AF_UNIX, "address": str(short_path / "smtp")}
    with standin.Relay(**more) as relay:
        text = relay.place
        if place == "localhost":
            text = f"localhost:{relay.port}"
        session = bench.accept(SMTP={"reinject": text},
                               archive=store.account())
        reply = session.deliver(MESSAGE, recipients=AWAY)
        assert str(reply) == "250 2.0.0 Ok: forwarded"
        assert relay.mail.message == MESSAGE
        session.quit()


def test_only_forwarded(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    reply = session.deliver(MESSAGE, recipients=AWAY)
    assert str(reply) == "250 2.0.0 Ok: forwarded"
    assert store.requests == []
    session.quit()


def test_not_contacted_before_a_recipient_needs_it(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    assert session.deliver(MESSAGE).code == 250
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    assert session.cmd("RSET").code == 250
    assert relay.mails == []
    session.envelope(recipients=BOTH)
    assert len(relay.mails) == 1
    session.quit()


def test_only_unclaimed_recipients(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    recipients = ("one@example.com", "box@example.com", "two@example.com")
    assert session.deliver(MESSAGE, recipients=recipients).code == 250
    assert [line.split()[1] for line in relay.mail.of("RCPT")] == [
        "TO:<one@example.com>", "TO:<two@example.com>"]
    assert len(relay.mail.of("MAIL")) == 1
    put, = store.of("PUT")
    assert put.metadata()["envelope-to"] == "box@example.com"
    session.quit()


def test_connection_ends_with_quit(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    assert session.deliver(MESSAGE, recipients=BOTH).code == 250
    settle(relay)
    assert relay.mail.ended == "quit"
    session.quit()


def test_each_message_has_its_own_connection(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    for number in range(3):
        content = b"Subject: %d\r\n\r\n" % number
        assert session.deliver(content, recipients=BOTH).code == 250
    assert [mail.message for mail in relay.mails] == [
        b"Subject: %d\r\n\r\n" % number for number in range(3)]
    session.quit()


@pytest.mark.parametrize("command", ("RSET", "EHLO again", "QUIT"))
def test_never_kept_after_rset(command, bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    session.envelope(recipients=AWAY)
    assert session.cmd(command).code in (250, 221)
    settle(relay)
    assert relay.mail.ended in ("quit", "dropped")
    assert not relay.mail.of("RSET") and not relay.mail.of("DATA")


@pytest.mark.parametrize("size", (100, 300000, 3000000))
def test_content_is_the_same(size, bench, pair):
    store, relay, _ = pair
    content = b".line\r\n..\r\nline\r\n" * (size // 18)
    session = opened(bench, store, relay)
    assert session.deliver(content, recipients=BOTH).code == 250
    assert store.only[1] == relay.mail.message == content
    session.quit()


@pytest.mark.parametrize("size", (100, 300000))
def test_bare_cr_becomes_a_space(size, bench, pair):
    """In the re-injected copy only (section 3)."""
    store, relay, _ = pair
    content = b"a\rb\r\r\n\r\r\n.\r.\r\n\r.\r\r\n" * (size // 20)
    session = opened(bench, store, relay)
    assert session.deliver(content, recipients=BOTH).code == 250
    assert store.only[1] == content
    meant = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    assert relay.mail.message == meant.replace(b"\n", b"\r\n")
    session.quit()


def test_empty_message(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    session.envelope(recipients=BOTH)
    assert session.cmd("DATA").code == 354
    session.send(b".\r\n")
    assert session.reply().code == 250
    assert relay.mail.message == b""
    session.quit()


# Refusals and failures behind the filter.

REFUSALS = ("450 4.2.0 Busy", "550 5.1.1 No such user", "552 5.2.2 Full",
            "554 5.7.1 Refused")


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("verb", ("MAIL", "RCPT", "DATA", "DOT"))
def test_refusal_is_passed_on(verb, refusal, bench, pair):
    store, relay, _ = pair
    relay.replies[verb] = refusal
    session = opened(bench, store, relay)
    assert str(first_refusal(session)) == refusal
    if verb in ("MAIL", "RCPT", "DATA"):
        assert store.of("PUT") == []
    assert store.objects == {}
    assert session.cmd("NOOP").code == 250
    session.quit()


@pytest.mark.parametrize("verb", ("MAIL", "RCPT", "DATA", "DOT"))
def test_421_counts_as_451(verb, bench, pair):
    store, relay, _ = pair
    relay.replies[verb] = "421 4.3.2 Shutting down"
    session = opened(bench, store, relay)
    reply = first_refusal(session)
    assert reply.code == 451
    assert reply.status.startswith("4.")
    assert store.objects == {}
    assert session.cmd("NOOP").code == 250
    session.quit()


def test_refused_recipient_leaves_the_others(bench, pair):
    store, relay, _ = pair
    relay.replies["RCPT"] = ["550 5.1.1 Who", "250 2.1.5 Ok"]
    session = opened(bench, store, relay)
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    assert session.cmd("RCPT TO:<no@example.org>").code == 550
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    assert session.cmd("RCPT TO:<yes@example.org>").code == 250
    session.data(MESSAGE)
    assert session.reply().code == 250
    assert relay.mails[-1].message == MESSAGE
    assert store.only[1] == MESSAGE
    session.quit()


def test_refused_recipients_and_stored_ones(bench, pair):
    """When only stored recipients are left, no copy goes behind."""
    store, relay, _ = pair
    relay.replies["RCPT"] = "550 5.1.1 Who"
    session = opened(bench, store, relay)
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    assert session.cmd("RCPT TO:<no@example.org>").code == 550
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    session.data(MESSAGE)
    assert session.reply().text.startswith("2.0.0 Ok: stored as ")
    assert not any(mail.of("DATA") for mail in relay.mails)
    session.quit()


OUR_FAULT = {
    "greeting refused": {"GREETING": "554 5.3.2 No"},
    "greeting 421": {"GREETING": "421 4.3.2 Busy"},
    "ehlo refused": {"EHLO": "502 5.5.1 What", "HELO": "502 5.5.1 What"},
    "xforward refused": {"XFORWARD": "550 5.7.0 You may not"},
    "greeting malformed": {"GREETING": "hello"},
    "ehlo malformed": {"EHLO": "25x"},
    "mail malformed": {"MAIL": "2"},
    "rcpt malformed": {"RCPT": "\x00\x01"},
    "rcpt of the wrong kind": {"RCPT": "354 Go ahead"},
    "greeting lost": {"GREETING": standin.Mail.drop},
    "ehlo lost": {"EHLO": standin.Mail.drop},
    "mail lost": {"MAIL": standin.Mail.drop},
    "rcpt lost": {"RCPT": standin.Mail.drop},
    "data lost": {"DATA": standin.Mail.drop},
    "data 250": {"DATA": "250 2.0.0 Ok"},
    "endless reply": {"RCPT": "250-x\r\n" * 100000 + "250 x"},
    "endless line": {"RCPT": "250 " + "x" * 1000000},
}


@pytest.mark.parametrize("kind", OUR_FAULT)
def test_fault_behind_is_deferred(kind, bench, pair):
    store, relay, _ = pair
    relay.replies.update(OUR_FAULT[kind])
    session = opened(bench, store, relay)
    assert session.cmd("XFORWARD NAME=mx.example ADDR=192.0.2.9").code == 250
    reply = first_refusal(session)
    assert str(reply) == DEFERRED
    assert store.objects == {}
    assert session.cmd("NOOP").code == 250
    session.quit()


def test_an_answer_out_of_step_defers_the_message(bench, pair):
    """What comes behind a malformed answer is not the next one's answer:
    recipients that were accepted must not bounce for it."""
    store, relay, _ = pair
    relay.replies["RCPT"] = ["250 2.1.5 Ok",
                             "garbage\r\n550 5.1.1 unknown second"]
    session = opened(bench, store, relay)
    assert session.cmd("MAIL FROM:<from@example.org>").code == 250
    assert session.cmd("RCPT TO:<first@example.com>").code == 250
    assert str(session.cmd("RCPT TO:<second@example.com>")) == DEFERRED
    session.data(MESSAGE)
    assert str(session.reply()) == DEFERRED
    session.quit()


@pytest.mark.parametrize("refusal", ("550 5.7.1 Not from you",
                                     "451 4.7.1 Greylisted"))
def test_refused_mail_is_asked_once_a_transaction(refusal, bench, pair):
    """Not again for each recipient, but again for the next message."""
    store, relay, _ = pair
    relay.replies["MAIL"] = [refusal]
    session = opened(bench, store, relay)
    assert session.cmd("MAIL FROM:<from@example.org>").code == 250
    for number in range(50):
        assert str(session.cmd(f"RCPT TO:<r{number}@example.org>")) == refusal
    assert len(relay.mails) == 1
    assert session.cmd("RSET").code == 250
    assert session.deliver(MESSAGE, recipients=AWAY).code == 250
    assert len(relay.mails) == 2
    session.quit()


# After the answer to each step, one that nobody asked for yet.
EARLY = {
    "before EHLO": {"GREETING": "220 relay.example\r\n250 2.0.0 Ok",
                    "MAIL": "550 5.7.1 Refused"},
    "before MAIL": {"EHLO": "250 relay.example\r\n250 2.0.0 Ok",
                    "MAIL": "550 5.7.1 Refused"},
    "before RCPT": {"MAIL": "250 2.1.0 Ok\r\n250 2.1.5 Ok",
                    "RCPT": "550 5.1.1 Refused"},
    "before DATA": {"RCPT": "250 2.1.5 Ok\r\n354 Go ahead",
                    "DATA": "550 5.7.1 Refused"},
    "before the dot": {"DATA": "354 Go ahead\r\n250 2.0.0 Ok",
                       "DOT": "550 5.7.1 Refused"},
    "malformed": {"DATA": "354 Go ahead\r\nx", "DOT": "550 5.7.1 Refused"},
}


@pytest.mark.parametrize("when", EARLY)
def test_an_answer_before_its_command_commits_nothing(when, bench, pair):
    """It belongs to no command: what comes behind it is out of step."""
    store, relay, events = pair
    relay.replies.update(EARLY[when])
    session = opened(bench, store, relay)
    assert str(first_refusal(session)) == DEFERRED
    session.quit()
    settle(relay)
    assert "smtp DOT" not in events
    assert store.objects == {}
    assert session.log.lines("in-doubt") == []


def test_server_unreachable(bench, store):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        session = bench.accept(SMTP={"reinject": place},
                               archive=store.account())
        assert session.cmd("MAIL FROM:<a@example.org>").code == 250
        assert str(session.cmd("RCPT TO:<away@example.com>")) == DEFERRED
        # What is stored does not need it.
        assert session.cmd("RCPT TO:<box@example.com>").code == 250
        session.data(MESSAGE)
        assert session.reply().code == 250
        session.quit()


def test_unix_socket_missing(bench, store, tmp_path):
    session = bench.accept(SMTP={"reinject": f"unix:{tmp_path}/none"},
                           archive=store.account())
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    assert str(session.cmd("RCPT TO:<away@example.com>")) == DEFERRED
    session.quit()


def fill_backlog(listener):
    """Connects until no more fit; the clients that wait now."""
    listener.listen(0)
    waiting = []
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(listener.getsockname())
        except BlockingIOError:
            client.close()
            return waiting
        waiting.append(client)


def test_a_full_backlog_is_waited_for(bench, store, short_path):
    """The server behind is busy, as Postfix is at its process limit: over a
    UNIX socket that is no failure either."""
    relay = standin.Relay(family=socket.AF_UNIX,
                          address=str(short_path / "smtp"))
    waiting = fill_backlog(relay.listener)
    session = opened(bench, store, relay)
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    session.send("RCPT TO:<away@example.com>\r\n")
    assert session.quiet(1)
    with relay:
        assert session.reply().code == 250
        session.data(MESSAGE)
        assert session.reply().code == 250
        # Which of those who waited is heard first is not said.
        assert MESSAGE in [mail.message for mail in relay.mails]
        for client in waiting:
            client.close()
        session.quit()


@pytest.mark.slow
def test_step_is_bounded_by_60_s(bench, pair):
    store, relay, _ = pair
    relay.replies["RCPT"] = lambda mail: time.sleep(75) or "250 2.1.5 Ok"
    session = opened(bench, store, relay)
    start = time.monotonic()
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    assert str(session.cmd("RCPT TO:<away@example.com>", 70)) == DEFERRED
    assert 55 < time.monotonic() - start < 65
    session.quit()


def test_connection_lost_during_the_content(bench, pair):
    store, relay, _ = pair

    def cut(mail):
        mail.send("354 Go ahead\r\n")
        mail.fill()
        mail.drop()
    relay.replies["DATA"] = cut
    session = opened(bench, store, relay)
    reply = session.deliver(b"line\r\n" * 200000, recipients=BOTH)
    assert str(reply) == DEFERRED
    assert store.objects == {}
    session.quit()


@pytest.mark.parametrize("reply, expected", (
    ("550-5.7.1 First\r\n550 5.7.1 Last", 550),
    ("550 5.7.1 Bell \x07 and \x1b[1m escape", 550),
    ("550 5.7.1 Gr\xfc\xdfe", 550),
    ("450 4.2.0 " + "x" * 400, 450),
    ("550", 550)))
@pytest.mark.parametrize("verb", ("RCPT", "DOT"))
def test_one_printable_line_is_passed_on(verb, reply, expected, bench, pair):
    """Session.reply() refuses other than printable octets."""
    store, relay, _ = pair
    relay.replies[verb] = reply
    session = opened(bench, store, relay)
    got = first_refusal(session)
    assert got.code == expected
    assert len(got.lines) == 1
    assert store.objects == {}
    session.quit()


# The dot.

def test_refused_dot_deletes_the_objects(bench, pair):
    store, relay, events = pair
    store.containers |= {"one", "two"}
    relay.replies["DOT"] = "550 5.7.1 Spam"
    session = bench.accept(SMTP={"reinject": relay.place}, **{
        name: store.account(recipients=f"{name}@example.com", container=name)
        for name in ("one", "two")})
    reply = session.deliver(MESSAGE, recipients=[
        "one@example.com", "two@example.com", "away@example.com"])
    assert str(reply) == "550 5.7.1 Spam"
    assert len(store.of("PUT")) == len(store.of("DELETE")) == 2
    assert store.objects == {}
    assert events.index("smtp DOT 550") < events.index("http DELETE")
    session.quit()


def test_refused_dot_and_a_delete_that_fails(bench, pair):
    store, relay, _ = pair
    relay.replies["DOT"] = "550 5.7.1 Spam"
    store.always("DELETE", answer(403))
    session = opened(bench, store, relay)
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == "550 5.7.1 Spam"
    assert "duplicate" in str(session.log)
    session.quit()


@pytest.mark.slow
def test_delete_may_take_10_s_more(bench, pair):
    store, relay, _ = pair
    relay.replies["DOT"] = "550 5.7.1 Spam"
    store.always("DELETE", hang)
    session = opened(bench, store, relay, smtp={"deadline": "3"})
    start = time.monotonic()
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == "550 5.7.1 Spam"
    assert time.monotonic() - start < 14
    assert "duplicate" in str(session.log)
    session.quit()


IN_DOUBT = {
    "lost": standin.Mail.drop,
    "malformed": "hello",
    "empty line": "",
    "short": "25",
    "wrong kind": "354 Go on",
    "number": "999 What",
}


@pytest.mark.parametrize("kind", IN_DOUBT)
def test_dot_in_doubt(kind, bench, pair):
    """The objects stay: the copy behind may have been taken."""
    store, relay, _ = pair
    relay.replies["DOT"] = IN_DOUBT[kind]
    session = opened(bench, store, relay)
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == DEFERRED
    name, content = store.only
    assert content == MESSAGE
    assert store.of("DELETE") == []
    line = session.log.one("in-doubt")
    assert line["object"].endswith("/" + name)
    assert line["account"] == "archive"
    assert line["relay"] == relay.place
    session.quit()


def test_each_object_in_doubt_is_named(bench, pair):
    """However many recipients there are before it in the line."""
    store, relay, _ = pair
    store.containers.add("other")
    relay.replies["DOT"] = IN_DOUBT["lost"]
    many = [f"{number:050d}@example.com" for number in range(60)]
    session = bench.accept(
        SMTP={"reinject": relay.place},
        archive=store.account(recipients=", ".join(many)),
        other=store.account(recipients="o@example.com", container="other"))
    reply = session.deliver(MESSAGE, recipients=(*many, "o@example.com",
                                                 "away@example.com"))
    assert str(reply) == DEFERRED
    session.quit()
    lines = session.log.lines("in-doubt")
    assert len(lines) == len(store.objects) == 2
    for account, line in zip(("archive", "other"), lines):
        path, = [path for path in store.objects
                 if ("/other/" in path) == (account == "other")]
        assert f", account={account}, object=" \
            + path.removeprefix("/v1/AUTH_test/") + ", " in line


def test_steps_of_the_server_behind_end_with_the_session(bench, pair):
    store, relay, _ = pair
    relay.replies["EHLO"] = lambda mail: time.sleep(5) or "250 relay"
    session = opened(bench, store, relay, smtp={"session_limit": "2"})
    start = time.monotonic()
    assert session.cmd("MAIL FROM:<from@example.org>").code == 250
    assert str(session.cmd(f"RCPT TO:<{BOTH[1]}>")).startswith("451 4.3.0")
    assert time.monotonic() - start < 4
    assert session.reply().code == 421


def test_dot_without_answer_until_the_deadline(bench, pair):
    store, relay, _ = pair
    relay.replies["DOT"] = lambda mail: mail.connection.recv(1) and "" or ""
    session = opened(bench, store, relay, smtp={"deadline": "2"})
    start = time.monotonic()
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == DEFERRED
    assert 1.5 < time.monotonic() - start < 10
    assert store.only[1] == MESSAGE
    assert len(session.log.lines("in-doubt")) == 1
    session.quit()


BEFORE_THE_DOT = {
    "answer": lambda mail: mail.send("250 2.0.0 Ok\r\n"),
    "refusal": lambda mail: mail.send("421 4.4.2 Timeout\r\n"),
    "half a line": lambda mail: mail.send("25"),
    "end": lambda mail: mail.connection.shutdown(socket.SHUT_WR),
    "hang-up": lambda mail: mail.connection.shutdown(socket.SHUT_RDWR),
}


@pytest.mark.parametrize("what", BEFORE_THE_DOT)
def test_what_comes_while_the_dot_is_held_back(what, bench, pair):
    """The dot is never sent, so there is no doubt: the object goes."""
    store, relay, events = pair

    def disturb(exchange):
        exchange.read()
        wait_for(lambda: "smtp content" in events)
        BEFORE_THE_DOT[what](relay.mail)
        time.sleep(0.1)
        exchange.good()
    store.once("PUT", disturb)
    session = opened(bench, store, relay)
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == DEFERRED
    settle(relay)
    assert "smtp DOT" not in events
    assert store.objects == {}
    assert session.log.lines("in-doubt") == []
    session.quit()


# The uploads.

@pytest.mark.parametrize("fault, expected", (
    (answer(503), DEFERRED), (answer(403), CONFIGURATION),
    (answer(413), "452 4.3.1 Insufficient system storage")))
def test_failed_upload_drops_the_connection(fault, expected, bench, pair):
    store, relay, events = pair
    store.always("PUT", fault)
    session = opened(bench, store, relay)
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == expected
    settle(relay)
    assert not relay.mail.dot
    assert relay.mail.ended == "dropped"
    assert "smtp DOT" not in events
    session.quit()


def test_deadline_is_checked_before_the_dot(bench, pair):
    """The upload arrives too late: no dot, no 250."""
    store, relay, events = pair

    def slow(exchange):
        exchange.read()
        time.sleep(2.5)
        exchange.good()
    store.once("PUT", slow)
    session = opened(bench, store, relay, smtp={"deadline": "2"})
    assert str(session.deliver(MESSAGE, recipients=BOTH)) == DEFERRED
    assert "smtp DOT" not in events
    session.quit()


@pytest.mark.parametrize("how", ("tcp", "socketpair"))
def test_client_gone_before_the_dot(how, bench, pair):
    """Nothing is forwarded, the objects just stored are deleted."""
    store, relay, events = pair

    def vanish(exchange):
        exchange.read()
        if how == "tcp":
            session.reset()
        else:
            session.hang_up()
        time.sleep(0.2)
        exchange.good()
    store.once("PUT", vanish)
    session = bench.session(bench.config(
        SMTP={"reinject": relay.place}, archive=store.account()), how=how)
    session.greet()
    session.envelope(recipients=BOTH)
    session.data(MESSAGE)
    session.ends(0)
    settle(relay)
    assert "smtp DOT" not in events
    assert store.objects == {}
    assert len(store.of("DELETE")) == 1
    assert session.log.lines("lost")


TWO = ("one@example.com", "two@example.com")


def two_accounts(bench, store, **more):
    store.containers |= {"one", "two"}
    session = bench.session(bench.config(**{
        name: store.account(recipients=f"{name}@example.com", container=name)
        for name in ("one", "two")}), **more)
    session.greet()
    return session


@pytest.mark.parametrize("how", ("tcp", "socketpair", "pipe"))
def test_client_gone_between_the_uploads(how, bench, store):
    """It is looked for before each: the second does not begin, the first
    object is deleted."""
    def vanish(exchange):
        exchange.read()
        if how == "tcp":
            session.reset()
        else:
            session.hang_up()
        time.sleep(0.2)
        exchange.good()
    store.once("PUT", vanish)
    session = two_accounts(bench, store, how=how)
    session.envelope(recipients=TWO)
    session.data(MESSAGE)
    session.ends(0)
    assert len(store.of("PUT")) == len(store.of("DELETE")) == 1
    assert store.objects == {}
    assert session.log.lines("lost")


@pytest.mark.parametrize("how", ("tcp", "socketpair"))
def test_half_closed_client_is_not_gone(how, bench, pair):
    store, relay, _ = pair
    store.containers |= {"one"}
    session = bench.session(bench.config(
        SMTP={"reinject": relay.place}, archive=store.account(),
        one=store.account(recipients="one@example.com", container="one")),
        how=how)
    session.greet()
    session.envelope(recipients=BOTH + ("one@example.com",))
    session.data(MESSAGE)
    session.half_close()
    assert session.reply().code == 250
    assert relay.mail.dot
    assert len(store.objects) == 2
    session.end_of_stream()
    session.ends(0)


@pytest.mark.parametrize("client", ("waits", "has closed"))
def test_deadline_begins_when_the_last_octet_arrives(client, bench, pair):
    """A session that is stopped before it reads the message commits nothing
    once it wakes after its deadline: over TCP it cannot see that the client
    has given up meanwhile, a FIN is no hang-up."""
    store, relay, events = pair
    session = bench.session(bench.config(
        SMTP={"reinject": relay.place, "deadline": "1"},
        archive=store.account()), how="tcp")
    session.greet()
    session.envelope(recipients=BOTH)
    assert session.cmd("DATA").code == 354
    session.signal(signal.SIGSTOP)
    session.send(standin_data(MESSAGE))
    time.sleep(1.5)
    if client == "has closed":
        session.hang_up()
    session.signal(signal.SIGCONT)
    if client == "waits":
        assert str(session.reply()) == DEFERRED
        session.quit()
    else:
        session.ends(0)
    settle(relay)
    assert store.requests == []
    assert "smtp DATA" not in events
    assert "deadline" in session.log.one("deferred")["reason"]


def test_a_stopped_session_sees_a_hang_up(bench, pair):
    """Over a UNIX socket."""
    store, relay, events = pair
    session = opened(bench, store, relay)
    session.envelope(recipients=BOTH)
    assert session.cmd("DATA").code == 354
    session.signal(signal.SIGSTOP)
    session.send(standin_data(MESSAGE))
    session.hang_up()
    session.signal(signal.SIGCONT)
    session.ends(0)
    settle(relay)
    assert store.requests == []
    assert "smtp DATA" not in events
    assert session.log.lines("lost")


def test_pipelined_client_is_not_gone(bench, pair):
    store, relay, _ = pair
    session = opened(bench, store, relay)
    session.envelope(recipients=BOTH)
    session.data(MESSAGE)
    session.send(b"NOOP\r\n" * 1000)
    assert session.reply().code == 250
    assert relay.mail.dot
    assert session.reply().code == 250


def test_kill_during_the_uploads_forwards_nothing(bench, pair):
    store, relay, events = pair

    def kill(exchange):
        exchange.read()
        session.process.kill()
        session.process.wait()
        exchange.good()
    store.once("PUT", kill)
    session = opened(bench, store, relay)
    session.envelope(recipients=BOTH)
    session.data(MESSAGE)
    assert session.end_of_stream() == b""
    settle(relay)
    assert "smtp DOT" not in events


def test_message_refused_for_itself_forwards_nothing(bench, pair):
    """A bare LF, or a message above the limit."""
    store, relay, events = pair
    session = opened(bench, store, relay,
                     smtp={"message_size_limit": "1000"})
    for content, code in ((b"a\nb\r\n", 550), (b"x" * 2000 + b"\r\n", 552)):
        assert session.deliver(content, recipients=BOTH).code == code
    settle(relay)
    assert "smtp DOT" not in events
    assert store.of("PUT") == []
    session.quit()


# What is said behind.

def said(bench, relay, store, mail="", rcpt="", sender="a@example.org",
         recipient="away@example.com", xforward=()):
    """The commands that the server behind got for one message."""
    session = bench.accept(SMTP={"reinject": relay.place},
                           archive=store.account())
    for line in xforward:
        assert session.cmd(f"XFORWARD {line}").code == 250
    assert session.cmd(f"MAIL FROM:<{sender}>{mail}").code == 250
    assert session.cmd(f"RCPT TO:<{recipient}>{rcpt}").code == 250
    session.data(MESSAGE)
    assert str(session.reply()) == "250 2.0.0 Ok: forwarded"
    session.quit()
    # The program does not wait for the answer to its QUIT.
    settle(relay)
    return relay.mail


def parameters(line):
    return sorted(line.split()[2:])


ALL_MAIL = " SIZE=100 BODY=8BITMIME SMTPUTF8 AUTH=<> RET=HDRS ENVID=abc"
ALL_RCPT = " NOTIFY=FAILURE ORCPT=rfc822;away@example.com"


def test_parameters_are_passed_on(bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store, ALL_MAIL, ALL_RCPT)
    line, = mail.of("MAIL")
    assert line.split()[1] == "FROM:<a@example.org>"
    got = parameters(line)
    # The size may be what the filter knows better: it is what it is given.
    assert got == sorted(ALL_MAIL.split())
    line, = mail.of("RCPT")
    assert parameters(line) == sorted(ALL_RCPT.split())


def test_an_empty_value_is_passed_on(bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store, " AUTH= ENVID=")
    line, = mail.of("MAIL")
    assert parameters(line) == ["AUTH=", "ENVID="]


@pytest.mark.parametrize("keyword, lost, where", (
    ("SIZE 60000000", {"SIZE=100"}, "MAIL"),
    ("8BITMIME", {"BODY=8BITMIME"}, "MAIL"),
    ("AUTH PLAIN", {"AUTH=<>"}, "MAIL"),
    ("DSN", {"RET=HDRS", "ENVID=abc"}, "MAIL"),
    ("DSN", {"NOTIFY=FAILURE", "ORCPT=rfc822;away@example.com"}, "RCPT")))
def test_parameters_only_where_announced(keyword, lost, where, bench, store):
    extensions = [word for word in standin.Relay.extensions if word != keyword]
    assert len(extensions) == len(standin.Relay.extensions) - 1
    with standin.Relay(extensions) as relay:
        mail = said(bench, relay, store, ALL_MAIL, ALL_RCPT)
        line, = mail.of(where)
        sent = ALL_MAIL if where == "MAIL" else ALL_RCPT
        assert parameters(line) == sorted(set(sent.split()) - lost)


def test_no_extension_at_all(bench, store):
    with standin.Relay(()) as relay:
        mail = said(bench, relay, store, " SIZE=100 BODY=8BITMIME RET=FULL",
                    ALL_RCPT, xforward=["NAME=mx.example"])
        assert mail.of("MAIL") == ["MAIL FROM:<a@example.org>"]
        assert mail.of("RCPT") == ["RCPT TO:<away@example.com>"]
        assert mail.of("XFORWARD") == []


@pytest.mark.parametrize("sender, recipient", (
    ("müller@example.org", "away@example.com"),
    ("a@example.org", "müller@example.com")))
def test_smtputf8_needed_but_not_offered(sender, recipient, bench, store):
    extensions = [word for word in standin.Relay.extensions
                  if word != "SMTPUTF8"]
    with standin.Relay(extensions) as relay:
        session = bench.accept(SMTP={"reinject": relay.place},
                               archive=store.account())
        assert session.cmd(f"MAIL FROM:<{sender}> SMTPUTF8").code == 250
        assert session.cmd(f"RCPT TO:<{recipient}>").code == 451
        assert relay.mail.of("RCPT") == []
        session.quit()


def test_smtputf8_address_is_passed_on(bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store, " SMTPUTF8", sender="ä@example.org",
                recipient="ö@example.com")
    assert mail.of("MAIL") == ["MAIL FROM:<ä@example.org> SMTPUTF8"]
    assert mail.of("RCPT") == ["RCPT TO:<ö@example.com>"]


@pytest.mark.parametrize("sender, recipient", (
    ("", '"quoted local"@example.com'), ('"a b"@example.org', "x@[192.0.2.1]"),
    ("a+b=c@example.org", "x+tag@example.com")))
def test_addresses_are_passed_on(sender, recipient, bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store, sender=sender, recipient=recipient)
    assert mail.of("MAIL") == [f"MAIL FROM:<{sender}>"]
    assert mail.of("RCPT") == [f"RCPT TO:<{recipient}>"]


XFORWARD = {"NAME": "mx.example", "ADDR": "192.0.2.9", "PORT": "25001",
            "PROTO": "ESMTP", "HELO": "helo+20x", "IDENT": "4bXyz",
            "SOURCE": "REMOTE"}


def attributes(mail):
    """What came by XFORWARD, and that its lines are short enough."""
    found = {}
    for line in mail.of("XFORWARD"):
        assert len(line) <= 510
        for word in line.split()[1:]:
            name, _, value = word.partition("=")
            found[name] = value
    return found


def test_xforward_is_passed_on(bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store, xforward=[
        " ".join(f"{name}={value}" for name, value in XFORWARD.items())])
    assert attributes(mail) == XFORWARD


def test_xforward_only_what_is_offered(bench, store):
    with standin.Relay(("XFORWARD NAME ADDR",)) as relay:
        mail = said(bench, relay, store, xforward=[
            " ".join(f"{name}={value}" for name, value in XFORWARD.items())])
        assert attributes(mail) == {"NAME": "mx.example", "ADDR": "192.0.2.9"}


def test_xforward_is_xtext_again(bench, pair):
    """A value cannot add a command or an attribute behind."""
    store, relay, _ = pair
    mail = said(bench, relay, store, xforward=[
        "NAME=a+20ADDR+3D192.0.2.66 HELO=x+2By+3Dz+C3+BC"])
    found = attributes(mail)
    assert set(found) - {"NAME", "HELO"} == set() or \
        all(value == "[UNAVAILABLE]" for name, value in found.items()
            if name not in ("NAME", "HELO"))
    assert found["NAME"].upper().startswith("A+20ADDR+3D192.0.2.66")
    assert found["HELO"].upper() == "X+2BY+3DZ+C3+BC"


def test_xforward_long_values(bench, pair):
    store, relay, _ = pair
    long = "h" * 200
    mail = said(bench, relay, store, xforward=[
        f"NAME={long}", f"HELO={long}", "IDENT=" + "i" * 100])
    found = attributes(mail)
    assert found["NAME"] == found["HELO"] == long


def test_no_xforward_when_none_came(bench, pair):
    store, relay, _ = pair
    mail = said(bench, relay, store)
    assert all(line.split()[1:] for line in mail.of("XFORWARD"))
    assert mail.commands[0].upper().startswith("EHLO ")


def test_commands_behind_are_not_pipelined_past_data(bench, pair):
    """EHLO, MAIL, RCPT, DATA, in this order, each once."""
    store, relay, _ = pair
    mail = said(bench, relay, store)
    verbs = [line.split()[0].upper() for line in mail.commands]
    assert [verb for verb in verbs if verb != "XFORWARD"] == [
        "EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


def test_one_spool_file_serves_all(bench, pair, tmp_path):
    """The uploads and the copy behind, in a spool that holds one."""
    store, relay, _ = pair
    content = b"line of text\r\n" * 75000
    spool = tmp_path / "spool"
    spool.mkdir()
    session = bench.session(
        bench.config(SMTP={"spool_directory": spool, "reinject": relay.place},
                     archive=store.account()),
        prefix=("unshare", "-rm", *program.shell(
            f"mount -t tmpfs -o size=1500k tmpfs {spool}")))
    session.greet()
    assert session.deliver(content, recipients=BOTH).code == 250
    assert store.only[1] == relay.mail.message == content
    session.quit()


@pytest.mark.parametrize("reply, dsn", (
    ("552 no code", "5.0.0"), ("450 2.3.4 of another class", "4.0.0"),
    ("550 5.7.1 as it is", "5.7.1"), ("421 no", "4.0.0")))
def test_dsn_is_of_the_class_of_the_reply(reply, dsn, bench, pair):
    store, relay, _ = pair
    relay.replies["RCPT"] = reply
    session = opened(bench, store, relay)
    session.cmd("MAIL FROM:<a@example.org>")
    assert session.cmd("RCPT TO:<other@example.net>").code >= 400
    session.quit()
    verb = "rejected" if dsn[0] == "5" else "deferred"
    assert session.log.one(verb)["dsn"] == dsn


@pytest.mark.parametrize("start", ("552 5.2.2 ", "552 "))
def test_reply_passed_on_has_512_octets_at_most(start, bench, pair):
    store, relay, _ = pair
    relay.replies["RCPT"] = start + "x" * 700
    session = opened(bench, store, relay)
    session.cmd("MAIL FROM:<a@example.org>")
    assert len(session.cmd("RCPT TO:<other@example.net>").raw) == 512
    session.quit()
