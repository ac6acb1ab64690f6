# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends mail while everything around fails, and reconciles it."""

import concurrent.futures
import contextlib
import itertools
import pathlib
import shutil
import tempfile
import threading
import time
import traceback

import swiftclient

from . import client, front, ledger, reconcile

WORKERS = 28        # mails at the same time, and one by way of Postfix
BACKLOG = 8         # mails that wait for their turn, of each
PORTION = 40        # batches that are reconciled at a time
AFTERMATH = 2       # seconds that an event goes on, once it is over


class Crowd:
    """The attempts that are being made, and what happens to all of them."""

    def __init__(self, around, book, programs):
        self._around = around
        self._book = book
        self._programs = programs
        self._lock = threading.Lock()
        self._running = {}
        self._hit = None    # by the event that goes on

    def deliver(self, attempt):
        with self._lock:
            self._running[attempt.number] = attempt
            if self._hit is not None:
                self._hit[attempt.number] = attempt
        try:
            self._make_containers(attempt)
            program = self._programs[attempt.sanitized]
            of_entry = front if attempt.entry == "postfix" else client
            of_entry.deliver(attempt, self._around, self._book, program)
        except Exception:   # pylint: disable=broad-except
            self._book.note(attempt, "tool",
                            tool=traceback.format_exc(chain=False))
        finally:
            with self._lock:
                del self._running[attempt.number]

    def _make_containers(self, attempt):
        """Also when Swift is down for a while."""
        for _ in range(60):
            with contextlib.suppress(swiftclient.ClientException, OSError):
                return self._around.make_containers(attempt)
            time.sleep(1)
        return self._around.make_containers(attempt)

    def meet(self, event):
        """Lets it happen, and notes it of those that it can have touched."""
        with self._lock:
            self._hit = dict(self._running)
        happened = self._around.happen(*event.split())
        if happened and "filter" not in event:  # It has one mail.
            time.sleep(AFTERMATH)
        with self._lock:
            hit, self._hit = self._hit, None
        for attempt in filter(lambda one: happened and one.may_meet(event),
                              hit.values()):
            self._book.note(attempt, "fault", text=event)
            if event == "kill filter":
                self._book.note(attempt, "killed", killed=True)


class Pool(concurrent.futures.ThreadPoolExecutor):
    """Whoever gives it too much to do waits."""

    def __init__(self, workers):
        super().__init__(workers)
        self._room = threading.Semaphore(workers + BACKLOG)

    def do(self, *call):
        self._room.acquire()
        self.submit(*call).add_done_callback(lambda _: self._room.release())


def send(batches, around, book, programs):
    """Sends batch after batch; returns all attempts."""
    sent = []
    crowd = Crowd(around, book, programs)
    with Pool(WORKERS) as pool, Pool(1) as one_by_one:
        for group, event in batches:
            for attempt in group:
                chosen = one_by_one if attempt.entry == "postfix" else pool
                chosen.do(crowd.deliver, attempt)
            sent += group
            if event:
                crowd.meet(event)
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


def torture(around, binary, batches, sanitized=None, told=lambda _: None):
    """Sends the batches; returns the reconcile.Result, which is told after
    each portion of them.

    sanitized: the program of attempts that are.
    """
    folder = pathlib.Path(tempfile.mkdtemp(dir=around.folder))
    folder.chmod(0o755)
    # Copies: a make while it runs does not change them.
    programs = {False: shutil.copy(binary, folder / "swiftdrop"),
                True: shutil.copy(sanitized or binary, folder / "sanitized")}
    around.postfix.install(programs[False])
    result = reconcile.Result()
    batches = iter(batches)
    for number in itertools.count(1):
        path = folder / f"ledger.{number}"
        book = ledger.Ledger(path)
        try:
            sent = send(itertools.islice(batches, PORTION), around, book,
                        programs)
        finally:
            book.close()
        if not sent:
            return result
        reconcile.reconcile(sent, ledger.read(path), around, result)
        told(result)


def report(result):
    lines = [f"{count:6} {what}"
             for what, count in sorted(result.counts.items())]
    for kind, found in result.wrong.items():
        lines += [f"{len(found):6} {kind.upper()}"]
        lines += [f"       {text}" for text in found]
    return "\n".join(lines)
