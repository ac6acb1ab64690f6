# SPDX-License-Identifier: GPL-3.0-or-later
"""What the shipped Postfix says to a flood, and that others get through.

bench/floods measures the same for README.
"""

import collections
import contextlib
import itertools
import re
import subprocess
import threading
import time

import lab
import pytest
from conftest import TREE
from lab import floods
from lab.client import send

MAIL = b"Subject: honest\r\n\r\nhello\r\n"
HONEST = "127.0.0.9"
TOO_MANY = "421 4.7.0 mail.example.org Error: too many connections from {}"
TOO_MANY_ERRORS = "421 4.7.0 mail.example.org Error: too many errors"
GREETING = "220 mail.example.org ESMTP Postfix"


@pytest.fixture
def front(lab_folder, swiftdrop_binary, container):
    """A function that starts a Postfix of its own, with lines for main.cf."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:
        def start(**main):
            server = lab.Postfix(
                f"{lab_folder}/floods-{container.name}-{next(numbers)}",
                swiftdrop_binary,
                {"stored": {"recipients": "a@example.org",
                            **container.options()}},
                ["a@example.org"],
                main={"smtpd_peername_lookup": "no", **main})
            stack.callback(server.stop)
            server.start()
            return server
        yield start


def is_stored(server, container):
    before = len(container.names("cur/"))
    code, text = send(server.port, "a@example.org", MAIL, source=HONEST)
    assert (code, len(container.names("cur/"))) == (250, before + 1), text


def test_twenty_connections_of_one_client_at_once(front, container):
    server = front()
    seen = []
    attack = threading.Thread(target=lambda: seen.append(floods.connections(
        server.port, 8, ["127.6.0.1"] * 30)))
    attack.start()
    time.sleep(2)
    is_stored(server, container)
    attack.join()
    assert seen == [{GREETING: 20, TOO_MANY.format("127.6.0.1"): 10,
                     floods.CLOSED: 10}]


def test_three_hundred_connections_a_minute(front, container):
    server = front()
    seen = collections.Counter()
    while seen.total() < 610:  # a greeting and QUIT's reply, 300 times
        seen += floods.reconnect(server.port, 1)
    assert seen.pop(TOO_MANY.format("127.6.0.2")) >= 10
    assert seen == {GREETING: 300, "221 2.0.0 Bye": 300}
    is_stored(server, container)


def test_a_thousand_recipients_a_minute(front, container):
    server = front()
    replies = recipients(server, 1001)
    assert replies == ["250 2.1.5 Ok"] * 1000 + [
        "450 4.7.1 Error: too many recipients from 127.6.0.5"]
    is_stored(server, container)


def recipients(server, number):
    """The replies to so many recipients of one client, two sessions."""
    replies = []
    for part in number // 2, number - number // 2:
        client = floods.Client(server.port, "127.6.0.5",
                               collections.Counter())
        client.reply()
        client.say("HELO a.example")
        client.say("MAIL FROM:<>")
        replies += [client.say("RCPT TO:<a@example.org>")
                    for _ in range(part)]
        client.close()
    return replies


@pytest.mark.parametrize("attack, answer", [
    (floods.dictionary,
     r"550 5\.1\.1 <guess\S+@example\.org>: Recipient address rejected: .*"),
    (floods.nonsense, r"500 5\.5\.2 Error: command not recognized"),
])
def test_twenty_errors_end_a_session(front, container, attack, answer):
    server = front(smtpd_error_sleep_time="0",
                   smtpd_client_connection_rate_limit="0",
                   smtpd_client_recipient_rate_limit="0")
    seen = attack(server.port, 1)
    sessions = seen[GREETING]
    refused = sum(times for line, times in seen.items()
                  if re.fullmatch(answer, line))
    assert sessions >= 10
    assert (refused, seen[TOO_MANY_ERRORS]) == (20 * sessions, sessions)
    is_stored(server, container)


def test_a_botnet_of_slow_clients_is_cut(front, container):
    """No limit per client meets it: a deadline for each command does."""
    server = front(default_process_limit="10", smtpd_timeout="6s")
    seen = []
    attack = threading.Thread(target=lambda: seen.append(
        floods.slow(server.port, 30, floods.BOTNET[:10])))
    attack.start()
    time.sleep(2)
    is_stored(server, container)
    attack.join()
    assert seen[0][GREETING] == 10
    assert seen[0]["421 4.4.2 mail.example.org Error: timeout exceeded"] == 10
    assert seen[0][floods.CLOSED] == 10


def test_the_image_has_the_limits_of_the_pair():
    """They stand in postfix/main.cf alone, which the image takes over."""
    names = re.findall(r"(?m)^(smtpd_client_\w+_limit) = ",
                       (TREE / "postfix/main.cf").read_text())
    assert len(names) == 3
    known = subprocess.run(["postconf", "-d", *names], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    assert len(known.splitlines()) == 3
    assert not any(name in (TREE / "image/postconf.c").read_text()
                   for name in names)
