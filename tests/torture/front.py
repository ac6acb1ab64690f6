# SPDX-License-Identifier: GPL-3.0-or-later
"""One mail given to the Postfix in front, which starts the filter itself."""

import collections
import contextlib
import re
import shutil
import smtplib
import threading
import time

from . import client, mails
from .plan import PATIENCE
from .tokens import TokenFile
from .world import STOPPED_LONG

OF_ATTEMPT = re.compile(r"<t(\d+)@client\.example>|object=t(\d+)[ab]/")
ENDED = re.compile(r"/spawn\[\d+\]: warning: command \S+ (.*)$", re.M)
# The configuration is one for all: one mail at a time.
lock = threading.Lock()


def deliver(attempt, world, ledger, binary):
    """Everything about one attempt; its outcome is in the ledger."""
    content = mails.content(attempt)
    ledger.note(attempt, "mail", sha256=mails.sha256(content),
                size=len(content))
    with lock:
        def act(action, argument):
            return signal_filters(world, action, argument, attempt, ledger)

        proxies = client.proxies(attempt, world, ledger, act)
        folder = world.folder / f"t{attempt.number}"
        folder.mkdir()
        shutil.chown(folder, world.postfix.filter_user)
        world.postfix.configure(world.sections(
            attempt, proxies, world.spool(attempt, None),
            f"postlog:{world.postfix.queue_directory}/swiftdrop/log",
            folder / "token"))
        token_file = TokenFile(
            attempt, world, ledger, folder / "token",
            [binary, "-c", world.postfix.ini], user=world.postfix.filter_user,
            group="nogroup", extra_groups=(), cwd=folder)
        done = threading.Event()
        logins = threading.Thread(target=token_file.log_in_while,
                                  args=(lambda: not done.is_set(),))
        try:
            if attempt.token_file:
                token_file.prepare()
                logins.start()
            with world.postfix.new_log() as since:
                send(attempt, world, ledger, content)
                wait_for_the_filter(world, ledger, attempt)
                # spawn(8) has seen it, and postlogd(8) has written it.
                time.sleep(0.2)
                ended(attempt, ledger, since())
        finally:
            done.set()
            if attempt.token_file:
                logins.join()
            for proxy in proxies.values():
                proxy.close()


def ended(attempt, ledger, text):
    """What spawn(8) says of its filters; the one of Postfix 3.10 kills what
    runs longer than command_time_limit, older ones may not."""
    spawned = ENDED.findall(text)
    if "command time limit exceeded" in text and \
            "killed by signal 9" in spawned:
        ledger.note(attempt, "killed", killed=True)
    ledger.note(attempt, "ended", spawned=spawned)


def signal_filters(world, action, argument, attempt, ledger):
    """The signal of an action to the filter, or False."""
    if action not in ("kill", "term", "stop"):
        return False
    if action == "kill":
        ledger.note(attempt, "killed", killed=True)
    world.signal(f"{action}:{argument}", "filter")
    return True


def send(attempt, world, ledger, content):
    start = time.monotonic()
    try:
        port = world.postfix.lenient_port if attempt.limit == "proxy" else \
            world.postfix.port
        with smtplib.SMTP(local_hostname="client.example",
                          timeout=PATIENCE + 60) as session:
            def do(what, *arguments):
                code, text = what(*arguments)
                text = f"{code} {text.decode()}"
                ledger.note(attempt, "reply", text=text)
                return code, text

            steps = ((session.connect, "127.0.0.1", port), (session.ehlo,),
                     (session.mail, attempt.sender),
                     *((session.rcpt, recipient)
                       for recipient in attempt.recipients),
                     (session.docmd, "DATA"))
            if any(do(*step)[0] >= 400 for step in steps):
                return
            session.send(mails.stuffed(content))
            ledger.note(attempt, "dot")
            session.send(b".\r\n")
            ledger.note(attempt, "answer", text=do(session.getreply)[1])
    except (OSError, smtplib.SMTPException) as error:
        ledger.note(attempt, "gone", gone=repr(error))
    finally:
        ledger.note(attempt, "waited", waited=time.monotonic() - start
                    - world.stalls.since(start))


def wait_for_the_filter(world, ledger, attempt):
    start = time.monotonic()
    while world.processes("filter"):
        # Events stop it for 8 s, or what it waits for.
        if time.monotonic() - start - world.stalls.since(start) > \
                PATIENCE + 2 * STOPPED_LONG:
            ledger.note(attempt, "ended", status="hangs")
            world.signal("kill", "filter")
            return
        time.sleep(0.05)


def logged(world):
    """What filters that Postfix started have logged, by the number of the
    attempt: lines that name its sender or its containers."""
    found = collections.defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for line in world.postfix.log_text().splitlines():
            if "swiftdrop[" not in line:
                continue
            for number in {int(a or b) for a, b in OF_ATTEMPT.findall(line)}:
                found[number].append(line.partition("]: ")[2])
    return found
