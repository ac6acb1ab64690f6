# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of objects when their message is not acknowledged (contract,
section 5): they are deleted, or a line of the log names them."""

import random
import threading
import time

import pytest

import standin
from helpers import program
from standin import answer, drop, hang, lost

MESSAGE = b"From: a@example.org\r\nSubject: withdraw\r\n\r\ntext\r\n"
DEFERRED = "451 4.3.0 Error: queue file write error"
FOREIGN = "0" * 32


def stored(then):
    """A fault: the object is there, whatever is said then."""
    def fault(exchange):
        exchange.read()
        exchange.store.apply(exchange)
        then(exchange)
    return fault


def garbage(exchange):
    exchange.read()
    exchange.send(b"HTTP/1.1 abc\r\n\r\n")
    exchange.drop()


def half(exchange):
    exchange.read()
    exchange.send(b"HTTP/1.1 201 Created\r\nEtag: ")
    exchange.drop()


def reset(exchange):
    exchange.read()
    exchange.reset()


# What may be said of an object that is there.
UNKNOWN = {"lost": drop, "reset": reset, "hang": hang, "garbage": garbage,
           "half": half, "202": answer(202), "204": answer(204),
           **{str(status): answer(status)
              for status in (500, 502, 503, 504, 507, 529)}}
# What can be said only of one that is not.
REFUSED = (301, 400, 401, 403, 404, 408, 413, 422, 429, 498, 499)


def deliver(bench, store, code=451, **options):
    """One message in a session; its log."""
    smtp = options.pop("smtp", {})
    session = bench.accept(SMTP=smtp, archive=store.account(**options))
    reply = session.deliver(MESSAGE)
    assert reply.code == code, reply
    session.quit()
    return session.log


def doubts(log):
    """The objects that the log names."""
    return sorted(program.pairs(line).get("object")
                  for line in log.lines("in-doubt"))


def places(paths):
    """Paths of requests as the log names objects."""
    return sorted(path.split("/", 3)[3] for path in paths)


# A try whose outcome is not known.

@pytest.mark.parametrize("fault", UNKNOWN)
def test_what_the_last_try_may_have_stored_is_deleted(fault, bench, store):
    store.always("PUT", stored(UNKNOWN[fault]))
    # No log in: over a connection that is kept libcurl would send it twice.
    log = deliver(bench, store, 452 if fault == "507" else 451, timeout="1",
                  auth_version="tempurl", temp_url_key="k",
                  storage_url=store.storage_url)
    assert [request.path for request in store.of("DELETE")] == [
        store.of("PUT")[0].path]
    assert store.objects == {}
    assert doubts(log) == []


@pytest.mark.parametrize("losses", (1, 2))
@pytest.mark.parametrize("status", (403, 413, 404, 429))
def test_an_earlier_try_may_have_stored_it(status, losses, bench, store):
    """The last one was refused for certain; the one before was libcurl's,
    over a connection that had served a request, or ours."""
    store.once("PUT", *[lost] * losses)
    store.always("PUT", answer(status, Retry_After="3600"))
    deliver(bench, store, 452 if status == 413 else 451, retries="1")
    assert len(store.of("PUT")) > losses
    assert len(store.of("DELETE")) == 1
    assert store.objects == {}


@pytest.mark.parametrize("status", REFUSED)
def test_what_was_refused_is_not_looked_for(status, bench, store):
    store.always("PUT", answer(status, Retry_After="3600"))
    deliver(bench, store, 452 if status == 413 else 451)
    assert {"HEAD", "DELETE"} & set(store.kinds()) == set()


def test_what_was_not_sent_is_not_looked_for(bench, store):
    """No connection, no doubt."""
    with standin.socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1/AUTH_test"
        log = deliver(bench, store, os_options_object_storage_url=url)
    assert store.kinds() == ["AUTH"]
    assert doubts(log) == []


@pytest.mark.parametrize("status", (202, 403))
@pytest.mark.parametrize("fault", ("lost", "503"))
def test_what_may_be_there_and_not_be_deleted_is_named(fault, status, bench,
                                                       store):
    """202: not yet (RFC 9110, section 9.3.5)."""
    store.always("PUT", stored(UNKNOWN[fault]))
    store.always("DELETE", answer(status))
    log = deliver(bench, store)
    assert len(store.objects) == 1
    assert doubts(log) == places(store.objects)
    assert log.one("in-doubt")["account"] == "archive"
    line, = log.lines("in-doubt")
    assert "possible duplicate: not deleted, 127.0.0.1:" in line
    assert f"answered {status}" in line


def test_a_look_takes_the_doubt_away(bench, store):
    """Who may write only can look, and it is not there."""
    store.always("PUT", answer(503))
    store.always("DELETE", answer(401))
    log = deliver(bench, store, auth_version="tempurl", temp_url_key="k",
                  storage_url=store.storage_url)
    assert store.kinds() == ["PUT", "DELETE", "HEAD"]
    assert doubts(log) == []


@pytest.mark.parametrize("status", (404, 401))
def test_what_may_still_arrive_is_named(status, bench, store):
    """A try without an answer, such as one that waits in a stalled proxy:
    that nothing is there yet says nothing."""
    store.always("PUT", drop)
    if status != 404:
        store.always("DELETE", answer(status))
    log = deliver(bench, store, auth_version="tempurl", temp_url_key="k",
                  storage_url=store.storage_url)
    first = store.of("PUT")[0]
    store.apply(first)
    assert doubts(log) == places(store.objects) == places([first.path])


@pytest.mark.parametrize("status", (500, 502, 503, 504))
def test_what_a_front_end_gave_up_may_still_arrive(status, bench, store):
    """Its own 5xx has no transaction id; Swift may be busy with the PUT."""
    store.always("PUT", answer(status, X_Trans_Id=""))
    log = deliver(bench, store, timeout="1")
    first = store.of("PUT")[0]
    assert len(store.of("DELETE")) == 1
    store.apply(first)
    assert doubts(log) == places([first.path])


def test_one_of_several_tries_may_still_arrive(bench, store):
    """What is deleted was the first; the second is not there yet."""
    store.once("PUT", lost)
    store.always("PUT", drop)
    log = deliver(bench, store, retries="1")
    assert store.objects == {}
    store.apply(store.of("PUT")[-1])
    assert doubts(log) == places(store.objects)


def test_what_libcurl_sends_again_may_still_arrive(bench, store):
    """A kept connection ends without an answer: it sends the upload again, and
    a server in front may still hand on the first one."""
    store.once("PUT", drop)
    store.always("PUT", answer(413))
    log = deliver(bench, store, 452)
    assert store.kinds() == ["AUTH", "PUT", "PUT", "DELETE"]
    store.apply(store.of("PUT")[0])
    assert doubts(log) == places(store.objects)


# DELETE is tried again.

def refused_behind(bench, store, relay, **smtp):
    relay.replies["DOT"] = "550 5.7.1 Spam"
    session = bench.accept(SMTP={"reinject": relay.place, **smtp},
                           archive=store.account())
    reply = session.deliver(MESSAGE, recipients=["box@example.com",
                                                 "away@example.com"])
    assert str(reply) == "550 5.7.1 Spam"
    session.quit()
    return session.log


@pytest.mark.parametrize("fault", (
    "lost", "reset", "hang", "garbage", "half", "408", "429", "498", "500",
    "503"))
def test_delete_is_tried_again(fault, bench, store, relay):
    """Whatever retries says (0 here), and also when one hangs."""
    store.once("DELETE", UNKNOWN[fault] if fault in UNKNOWN
               else answer(int(fault)))
    log = refused_behind(bench, store, relay)
    assert len(store.of("DELETE")) == 2
    assert store.objects == {}
    assert doubts(log) == []


def test_delete_gets_a_new_token(bench, store, relay):
    def expire(mail):
        store.tokens.clear()
        return "550 5.7.1 Spam"
    relay.replies["DOT"] = expire
    session = bench.accept(SMTP={"reinject": relay.place},
                           archive=store.account())
    assert session.deliver(MESSAGE, recipients=[
        "box@example.com", "away@example.com"]).code == 550
    assert store.kinds() == ["AUTH", "PUT", "DELETE", "AUTH", "DELETE"]
    assert store.objects == {}
    session.quit()


@pytest.mark.parametrize("status", (401, 403, 405))
def test_delete_that_is_refused_is_not_tried_again(status, bench, store,
                                                   relay):
    store.always("DELETE", answer(status))
    log = refused_behind(bench, store, relay)
    assert len(store.of("DELETE")) == (2 if status == 401 else 1)
    assert doubts(log) == places(store.objects)


def test_delete_ends_within_ten_seconds(bench, store, relay):
    """And within 8 s of the deadline; what is left is named."""
    store.always("DELETE", answer(503))
    relay.replies["DOT"] = "550 5.7.1 Spam"
    session = bench.accept(SMTP={"reinject": relay.place, "deadline": "1"},
                           archive=store.account())
    session.envelope(recipients=["box@example.com", "away@example.com"])
    session.data(MESSAGE)
    start = time.monotonic()
    assert session.reply().code == 550
    assert time.monotonic() - start < 10
    session.quit()
    assert len(store.of("DELETE")) > 2
    assert doubts(session.log) == places(store.objects)


def test_each_account_is_withdrawn(bench, store):
    """The first stored it, the second may have, the third refused."""
    store.containers |= {"one", "two", "three"}

    def by_container(exchange):
        container = exchange.path.split("/")[3]
        {"one": exchange.good, "two": lambda: lost(exchange),
         "three": lambda: exchange.answer(403)}[container]()
    store.always("PUT", by_container)
    store.once("DELETE", answer(503))
    session = bench.accept(
        **{"three": store.account(recipients="three@example.com",
                                  container="three")},
        **{name: store.account(recipients=f"{name}@example.com",
                               container=name) for name in ("one", "two")})
    assert session.deliver(MESSAGE, recipients=[
        "one@example.com", "two@example.com"]).code == 451
    assert store.objects == {}
    session.quit()


# Names that were given up.

def foreign(exchange):
    """A fault: stored, but the answer has another ETag."""
    exchange.read()
    exchange.store.apply(exchange)
    exchange.answer(201, Etag=FOREIGN)


def test_a_foreign_etag_that_cannot_be_deleted_is_named(bench, store):
    """Although the message is stored in the end, by another name."""
    store.once("PUT", foreign)
    store.always("DELETE", answer(403))
    log = deliver(bench, store, 250, retries="1")
    first, second = store.of("PUT")
    assert first.path != second.path
    assert doubts(log) == places([first.path])


def test_a_foreign_etag_at_the_last_try_is_deleted(bench, store):
    store.always("PUT", foreign)
    store.once("DELETE", answer(503))
    log = deliver(bench, store)
    assert store.objects == {}
    assert doubts(log) == []


@pytest.mark.parametrize("head", (answer(403),
                                  answer(200, Etag=FOREIGN)))
def test_a_lost_try_leaves_nothing_under_the_name_it_had(head, bench, store):
    """412, and HEAD does not show that it is ours: a new name, and what the
    lost try may have left under the old one goes."""
    store.once("PUT", lost)
    store.once("HEAD", head)
    log = deliver(bench, store, 250, retries="2")
    first, again, last = store.of("PUT")
    assert first.path == again.path != last.path
    assert list(store.objects) == [last.path]
    assert doubts(log) == []


def test_a_name_that_was_never_ours_is_not_deleted(bench, store):
    """412 to the first try: the object there is somebody else's."""
    store.once("PUT", answer(412))
    store.once("HEAD", answer(200, Etag=FOREIGN))
    deliver(bench, store, 250, retries="1")
    assert store.of("DELETE") == []


def test_412_with_an_expired_token_takes_no_new_name(bench, store):
    def expire(exchange):
        store.tokens.clear()
        exchange.answer(401)
    store.once("PUT", lost)
    store.once("HEAD", expire)
    deliver(bench, store, 250, retries="1")
    assert len({put.path for put in store.of("PUT")}) == 1
    assert len(store.objects) == 1


# All of it at once.

@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_an_object_is_acknowledged_or_named(seed, bench,
                                                             store):
    """Twelve sessions at a time against a store that fails at random."""
    chance, lock = random.Random(seed), threading.Lock()

    def at_random(exchange):
        with lock:
            fault = chance.choice(faults[exchange.kind])
        fault(exchange)

    def good(exchange):
        exchange.good()

    faults = {
        "AUTH": [good] * 6 + [answer(503), answer(429), drop],
        "PUT": [good, foreign, answer(412), answer(503), answer(429),
                answer(403), answer(401), drop] + [
            stored(fault) for fault in UNKNOWN.values()],
        "HEAD": [good] * 2 + [answer(403), answer(503), drop, hang],
        "DELETE": [good] * 2 + [answer(403), answer(503), answer(401), drop,
                                hang, lost, stored(answer(503))]}
    for kind in faults:
        store.always(kind, at_random)
    path = bench.config(SMTP={"deadline": "4"}, archive=store.account(
        retries="2", timeout="1"))
    sessions = [bench.session(path) for _ in range(12)]
    for session in sessions:
        session.greet()
        session.envelope()
        session.data(MESSAGE)
    acknowledged, named = [], []
    for session in sessions:
        reply = session.reply(30)
        if reply.code == 250:
            acknowledged.append("mail/cur/" + reply.text.split()[-1])
        session.quit()
        named += doubts(session.log)
    there = places(store.objects)
    print(seed, len(acknowledged), len(named), len(there))
    assert set(acknowledged) <= set(there)
    assert set(there) <= set(acknowledged) | set(named)
