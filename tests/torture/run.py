# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends mail while everything around fails, and reconciles it at the end."""

import concurrent.futures
import pathlib
import shutil
import tempfile
import time

from . import client, front, ledger, reconcile


def deliver(attempt, around, book, binary):
    if attempt.entry == "postfix":
        front.deliver(attempt, around, book)
    else:
        client.deliver(attempt, around, book, binary)


def send(batches, around, book, binary):
    """Sends batch after batch; returns all attempts."""
    sent = []
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        for group, event in batches:
            for attempt in group:
                around.make_containers(attempt)
            jobs = [pool.submit(deliver, attempt, around, book, binary)
                    for attempt in group]
            if event:
                around.happen(*event.split())
            for job in jobs:
                job.result()
            for attempt in group if event else ():
                book.note(attempt, "fault", text=event)
                if event == "kill filter" and attempt.entry == "postfix":
                    book.note(attempt, "killed", killed=True)
            sent += group
    return sent


def some(batches, mails=None, minutes=None):
    """As many of the batches as have these mails, or take these minutes."""
    end = time.monotonic() + (minutes or 0) * 60
    count = 0
    for group, event in batches:
        if count >= mails if mails else time.monotonic() > end:
            return
        count += len(group)
        yield group, event


def torture(around, binary, batches):
    """Sends the batches; returns the reconcile.Result."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=around.folder))
    # A copy: a make while it runs does not change it.
    binary = shutil.copy(binary, folder / "swiftdrop")
    path = folder / "ledger"
    book = ledger.Ledger(path)
    try:
        sent = send(batches, around, book, binary)
    finally:
        book.close()
    return reconcile.reconcile(sent, ledger.read(path), around)


def report(result):
    lines = [f"{count:6} {what}"
             for what, count in sorted(result.counts.items())]
    for kind, found in result.wrong.items():
        lines += [f"{len(found):6} {kind.upper()}"]
        lines += [f"       {text}" for text in found]
    return "\n".join(lines)
