# SPDX-License-Identifier: GPL-3.0-or-later
"""No mail is lost: Swift away, swiftdrop killed."""

import os
import random
import signal
import smtplib
import threading
import time

import pytest
from lab.client import send, stored_name, without_trace

MAIL = b"Subject: hello\r\n\r\none\r\n"


def test_swift_down_leaves_the_mail_with_the_client(postfix, container):
    container.swift.go_down()
    with postfix.new_log() as log:
        code, text = send(postfix.port, "a@example.org", MAIL)
        assert (code, text) == (451,
                                "4.3.0 Error: queue file write error")
        assert " deferred: " in log(" deferred: ")
        assert "dsn=4.3.0" in log()
    container.swift.start()
    code, text = send(postfix.port, "a@example.org", MAIL)
    assert code == 250, text
    assert without_trace(container.only()[2]) == MAIL


def test_a_wrong_password_leaves_the_mail_with_the_client(postfix, container):
    postfix.configure({"stored": {"recipients": "a@example.org",
                                  **container.options(), "key": "wrong"}})
    code, text = send(postfix.port, "a@example.org", MAIL)
    assert (code, text) == (451,
                            "4.3.5 Error: mail system configuration error")
    assert container.names() == []


def filters(postfix):
    """Returns the process ids of the swiftdrops that run now."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.readlink(f"/proc/{entry}/exe") == str(postfix.binary):
                    found.append(int(entry))
            except OSError:
                continue
    return found


@pytest.mark.slow
def test_what_was_accepted_is_stored_though_swiftdrop_is_killed(
        postfix, container):
    accepted = {}
    refused = []
    killed = []
    done = threading.Event()

    def kill():
        while not done.wait(random.uniform(0, 0.3)):
            pids = filters(postfix)
            if pids:
                pid = random.choice(pids)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(pid)

    def client(first):
        for number in range(first, first + 20):
            mail = f"Subject: {number}\r\n\r\n".encode() + \
                b"%d\r\n" % number * random.choice((10, 100_000))
            try:
                code, text = send(postfix.port, "a@example.org", mail)
            except smtplib.SMTPException as error:
                code, text = 0, str(error)
            if code == 250:
                accepted[stored_name(text)] = mail
            else:
                refused.append((code, text))

    killer = threading.Thread(target=kill)
    clients = [threading.Thread(target=client, args=(first,))
               for first in range(0, 100, 20)]
    for thread in (killer, *clients):
        thread.start()
    for thread in clients:
        thread.join()
    done.set()
    killer.join()
    assert len(accepted) + len(refused) == 100
    assert killed and accepted and refused, (killed, accepted.keys(), refused)
    assert {code for code, _ in refused} == {451}, refused
    for name, mail in accepted.items():
        assert without_trace(container.get("cur/" + name)[1]) == mail
    # What was not accepted may be there, but then it is whole, too.
    for name in container.names():
        assert len(container.get(name)[1]) == int(name.rpartition(",S=")[2])


def test_a_paused_swift_is_given_up_before_postfix_gives_up(
        postfix, container):
    postfix.configure({"stored": {"recipients": "a@example.org",
                                  **container.options(), "timeout": "2",
                                  "retries": "1"}})
    container.swift.pause()
    began = time.monotonic()
    code, text = send(postfix.port, "a@example.org", MAIL)
    assert code == 451, text
    assert time.monotonic() - began < 20
