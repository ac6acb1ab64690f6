# SPDX-License-Identifier: GPL-3.0-or-later
"""One mail given to the Postfix in front, which starts the filter itself."""

import contextlib
import smtplib
import threading
import time

from . import mails
from .behind import Behind
from .client import PATIENCE
from .store import Store

# The configuration is one for all: one mail at a time.
lock = threading.Lock()


def deliver(attempt, world, ledger):
    """Everything about one attempt; its outcome is in the ledger."""
    content = mails.content(attempt)
    ledger.note(attempt, "mail", sha256=mails.sha256(content),
                size=len(content))
    with lock:
        def note(text):
            ledger.note(attempt, "fault", text=text)

        def act(action, _):
            return signal_filters(world, action, attempt, ledger)

        stores = {kind: Store(target, attempt.faults, act, note)
                  for kind, target in world.stores(attempt).items()}
        behind = Behind(world.behind, attempt.faults, act, note)
        sections = world.sections(
            attempt, stores, behind.port, world.spool(attempt, None),
            f"postlog:{world.postfix.queue_directory}/swiftdrop/log")
        world.postfix.configure(sections)
        try:
            send(attempt, world, ledger, content)
            wait_for_the_filter(world, ledger, attempt)
        finally:
            for proxy in (*stores.values(), behind):
                proxy.close()


def signal_filters(world, action, attempt, ledger):
    """The signal of an action to the filter, or False."""
    if action not in ("kill", "term", "stop"):
        return False
    if action == "kill":
        ledger.note(attempt, "killed", killed=True)
    world.signal(action, "filter")
    return True


def send(attempt, world, ledger, content):
    start = time.monotonic()
    try:
        with smtplib.SMTP("127.0.0.1", world.postfix.port, "client.example",
                          timeout=PATIENCE + 60) as client:
            client.ehlo()
            code, text = client.mail(attempt.sender)
            for recipient in attempt.recipients:
                if code < 400:
                    code, text = client.rcpt(recipient)
            ledger.note(attempt, "reply", text=f"{code} {text.decode()}")
            if code >= 400:
                return
            ledger.note(attempt, "dot", ended=True)
            code, text = client.data(content)
            ledger.note(attempt, "answer", answered=f"{code} {text.decode()}")
    except smtplib.SMTPDataError as error:
        ledger.note(attempt, "answer", ended=False,
                    answered=f"{error.smtp_code} {error.smtp_error.decode()}")
    except (OSError, smtplib.SMTPException) as error:
        ledger.note(attempt, "gone", gone=repr(error))
    finally:
        ledger.note(attempt, "waited", waited=time.monotonic() - start)


def wait_for_the_filter(world, ledger, attempt):
    end = time.monotonic() + PATIENCE + 30
    while world.processes("filter"):
        if time.monotonic() > end:
            ledger.note(attempt, "ended", status="hangs")
            world.signal("kill", "filter")
            return
        time.sleep(0.05)


def log_lines(world, attempt):
    """What the filters of this attempt logged: those that name its sender or
    its containers."""
    words = (f"<{attempt.sender}>", f"object=t{attempt.number}a/",
             f"object=t{attempt.number}b/")
    with contextlib.suppress(FileNotFoundError):
        return [line.partition("]: ")[2] for line in
                world.postfix.log_text().splitlines()
                if "swiftdrop[" in line and any(w in line for w in words)]
    return []
