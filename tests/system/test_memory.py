# SPDX-License-Identifier: GPL-3.0-or-later
"""No memory: whichever allocation fails, the client gets a reply, a mail that
was taken is stored, and none is refused for good.

A preloaded library (tests/failmalloc.c) makes them fail. $SWIFTDROP_STRIDE is
the distance between those that are tried; `make memory` tries them all.
"""

import json
import os
import select
import signal
import subprocess

import pytest

import standin
from helpers import program
from standin import answer

LIBRARY = program.TOP / "build/failmalloc.so"
STRIDE = int(os.environ.get("SWIFTDROP_STRIDE", "97"))
# Most are libcrypto's and libcurl's own; ours stand before and behind them.
LAST = 7300
OURS = 140
JUDGED = 1700   # where rspamd has refused the mail
MAIL = b"Subject: memory\r\n\r\n" + b"x" * 200 + b"\r\n"
DIALOGUE = ("EHLO client.example", "XFORWARD NAME=a.example ADDR=192.0.2.1",
            "MAIL FROM:<from@example.org> SIZE=300",
            "RCPT TO:<box@example.com>", "DATA")


@pytest.fixture(scope="module")
def preload():
    """The environment that makes an allocation fail."""
    # Not with what another make was told.
    subprocess.run(["make", "-s", "-C", program.TOP, LIBRARY.relative_to(
        program.TOP)], check=True, env={"PATH": os.environ["PATH"]})

    def environment(number, on):
        env = {"LD_PRELOAD": str(LIBRARY), "FAIL_AT": str(number)}
        return env | {"FAIL_ON": "1"} if on else env
    return environment


def account(store, kind):
    if kind == "tempurl":
        return {"recipients": "box@example.com", "container": "mail",
                "auth_version": kind, "storage_url": store.storage_url,
                "temp_url_key": "keysecret", "retries": "0"}
    more = {"auth_version": kind}
    if kind == "3":
        more |= {"authurl": store.keystone, "os_options_project_name": "p"}
    return store.account(**more)


def libcrypto_waits(session):
    """Whether no reply will come: libcrypto of OpenSSL 3.5, whose first locks
    get no memory, tells itself so and waits for its own start to end (its
    issue 32894 is of the same kind)."""
    process = f"/proc/{session.process.pid}/"
    with open(process + "syscall") as call, open(process + "maps") as maps:
        futex = int((call.read().split() + ["0", "0"])[1], 0)
        library = ""
        for line in maps:
            place, _, _, _, _, *name = line.split()
            library = name[0] if name else library    # without: its .bss
            begin, end = (int(number, 16) for number in place.split("-"))
            if begin <= futex < end:
                return "/libcrypto.so" in library
    return False


def talk(session):
    """The replies to DIALOGUE and MAIL, as far as they are positive; [None]
    where libcrypto keeps the last one."""
    replies = [session.reply()]
    for line in DIALOGUE:
        if replies[-1].code >= 400:
            return replies
        replies.append(session.cmd(line))
    if replies[-1].code == 354:
        session.send(program.stuffed(MAIL))
        if not select.select([session.read_fd], [], [], 3)[0] and \
                libcrypto_waits(session):
            session.process.kill()
            return [None]
        replies.append(session.reply())
    return replies


def check(session, store, kind):
    """One dialogue: what must hold whatever failed in it."""
    last = talk(session)[-1]
    if last is None:
        assert store.objects == {}
        return
    assert last.code < 500, last
    if last.code == 250:
        (content, put), = store.objects.values()
        assert content == MAIL
        assert {"etag", "if-none-match", "content-type"} <= set(put.headers)
    session.hang_up()
    # 78 where the configuration could not be read, never a signal.
    assert session.process.wait(program.PATIENCE) in (0, 78)


@pytest.mark.parametrize("on", (False, True), ids=("one", "all from it on"))
@pytest.mark.parametrize("kind", ("1", "3", "tempurl"))
def test_an_allocation_that_fails_ends_in_a_reply(kind, on, bench, store,
                                                  preload):
    store.always("HEAD", answer(500))
    config = bench.config(SMTP={"log": "none"}, box=account(store, kind))
    for number in [*range(1, OURS, min(STRIDE, 3)), *range(OURS, LAST, STRIDE)]:
        session = program.Session(("-c", config), env=preload(number, on))
        try:
            check(session, store, kind)
        except AssertionError as error:
            raise AssertionError(f"allocation {number}: {error}") from error
        finally:
            session.cleanup()
        store.objects.clear()
        store.requests.clear()
        store.tokens.clear()


def test_no_memory_for_a_reply_ends_the_session(bench, store, preload):
    """At whichever reply: that of a broken start, the greeting, or later."""
    config = bench.config(SMTP={"log": "none"}, box=account(store, "tempurl"))
    ends = set()
    for number in range(1, LAST, 10):
        session = program.Session(("-c", config), env=preload(number, True))
        *before, last = talk(session)
        if last is None:
            continue
        session.hang_up()
        status = session.process.wait(program.PATIENCE)
        if last.code == 250:    # it needed no more than that
            break
        assert last.raw == b"421 4.3.0 Error: insufficient resources\r\n"
        ends.add((status, len(before)))
    assert last.code == 250
    assert {status for status, _ in ends} == {0, 78}
    assert len(ends) > 3


def test_library_that_hangs_ends_with_the_session(bench, store, preload):
    """20 s above both limits the process is killed."""
    config = bench.config(
        SMTP={"log": "none", "session_limit": "1", "deadline": "1"},
        box=account(store, "tempurl"))
    session = program.Session(
        ("-c", config), env=preload(OURS, False) | {"FAIL_HANGS": "1"})
    assert [session.reply().code, *(session.cmd(line).code
                                    for line in DIALOGUE)][-1] == 354
    session.send(program.stuffed(MAIL))
    assert session.process.wait(40) == -signal.SIGALRM
    assert store.objects == {}


def replies_until_the_end(session):
    """The codes of talk(), of which the seventh is for the mail data.

    The program may end by SIGABRT: a token of JSON whose memory did not grow is
    read past its end by Jansson (its issue 362), which glibc notices.
    """
    try:
        return [reply.code for reply in talk(session) if reply]
    except AssertionError:
        assert session.process.wait(program.PATIENCE) == -signal.SIGABRT
        return []


@pytest.mark.parametrize("on", (False, True), ids=("one", "all from it on"))
@pytest.mark.parametrize("recipients", ("box@example.com", "other@example.com"),
                         ids=("stored", "forwarded"))
def test_no_allocation_that_fails_lets_spam_pass(recipients, on, bench, store,
                                                 relay, preload):
    with standin.Store() as rspamd:
        rspamd.always("POST", answer(200, json.dumps({
            "score": 20, "required_score": 15, "action": "reject",
            "symbols": {}}).encode()))
        config = bench.config(
            SMTP={"log": "none", "rspamd": rspamd.url,
                  "rspamd_required": "yes", "reinject": relay.place},
            box={**account(store, "tempurl"), "recipients": recipients})
        for number in [*range(1, OURS, min(STRIDE, 3)),
                       *range(OURS, JUDGED, STRIDE)]:
            session = program.Session(("-c", config),
                                      env=preload(number, on))
            codes = replies_until_the_end(session)
            session.cleanup()
            assert 250 not in codes[6:], number
            assert codes[-1:] != [550] or len(codes) == 7, number
            assert store.objects == {}, number
            assert not any(mail.dot for mail in relay.mails), number
        session = bench.session(config)
        assert str(talk(session)[-1]) == "550 5.7.1 Message refused as spam"
