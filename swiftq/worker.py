# SPDX-License-Identifier: GPL-3.0-or-later
"""run: a command for each message."""
from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any, Mapping, Optional

from .faults import Lost, Missing, Passing, Problem, delays
from .lock import boottime
from .message import Place
from .queue import Queue, Taken

RETRY_DELAY_MAX_S = 4000    # Postfix's maximal_backoff_time
KILL_AFTER_S = 10           # from SIGTERM to SIGKILL for a command


class Worker:
    def __init__(self, queue: Queue, args: argparse.Namespace,
                 environ: Mapping[str, str]):
        self.queue = queue
        self.report = queue.report
        self.args = args
        self.environ = environ
        self.signals = 0        # SIGTERM and SIGINT so far
        queue.impatient = lambda: self.signals >= 2
        if not shutil.which(args.command[0]):
            raise Problem(os.EX_USAGE, f'{args.command[0]}: no such command')

    def stop(self, *_: Any) -> None:
        """First signal: finish the message, then end.  Second: give it
        back, then end."""
        self.signals += 1

    def sleep(self, seconds: float) -> None:
        end = boottime() + seconds
        while not self.signals and boottime() < end:
            time.sleep(min(0.2, seconds))

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        waits = None
        fault_since = 0.0
        while not self.signals:
            try:
                taken = self.queue.take(self.args.dedupe)
            except Passing as e:
                if not waits:
                    waits, fault_since = delays(), boottime()
                    self.report.event('waiting', str(e), reason=str(e))
                elif self.args.once and boottime() - fault_since > 60:
                    raise
                self.sleep(next(waits))
                continue
            if waits:
                waits = None
                self.report.event('resumed', 'the fault is over')
            if taken:
                try:
                    self.work(taken)
                finally:
                    taken.release()
            elif self.args.once:
                return
            else:
                self.sleep(self.args.poll * random.uniform(0.5, 1))

    def work(self, taken: Taken) -> None:
        start = boottime()
        name = taken.place.name
        layout = self.queue.layout
        status: Optional[int] = None
        try:
            if taken.tries > self.args.max_tries:
                folder = 'failed'
                note = f'gave up: worker died in try {taken.tries - 1}'
            else:
                status = self.execute(taken)
                folder, note = self.judge(status, taken.tries)
            state = {'Note': note}
            due = None
            to = layout.at(folder, name)
            if folder == 'retry':
                due = int(time.time() + self.delay(taken.tries)) + 1
                to = layout.at_retry(name, due, taken.tries)
            if folder == 'cur':
                state['Tries'] = str(taken.tries - 1)
            self.settle(taken, to, state)
        except Lost as e:
            self.report.event('lost', f'lost {name}: {e}; another may '
                              'process it again', name=name, reason=str(e))
            return
        seconds = boottime() - start
        event = 'returned' if folder == 'cur' else folder
        self.report.event(
            event, f'{event} {name} {taken.message.size} bytes in '
            f'{seconds:.1f} s' + (f': {note}' if note else ''), name=name,
            bytes=taken.message.size, seconds=round(seconds, 3),
            tries=taken.tries, exit_status=status, note=note, due=due)

    def judge(self, status: Optional[int], tries: int) -> tuple[str, str]:
        """Folder and note for an exit status; None: ended at our order."""
        if status is None:
            return 'cur', 'stopped'
        if status == 0:
            return 'done', ''
        if status == os.EX_TEMPFAIL:
            if tries < self.args.max_tries:
                return 'retry', 'exit status 75'
            return 'failed', f'gave up after {tries} tries'
        if status < 0:
            return 'failed', f'killed by signal {-status}'
        return 'failed', f'exit status {status}'

    def delay(self, tries: int) -> float:
        """Doubles from try to try; spread, so that they do not come back
        all at once."""
        delay = self.args.retry_delay * 2.0 ** min(tries - 1, 30)
        return min(delay, max(RETRY_DELAY_MAX_S, self.args.retry_delay)
                   ) * random.uniform(0.9, 1.1)

    def settle(self, taken: Taken, to: Place,
               state: Mapping[str, str]) -> None:
        """Move to TO what the command has been run for."""
        def action() -> None:
            if to.folder == 'done' and self.args.dedupe:
                self.queue.mark(taken.message)
            self.queue.finish(taken.place, to, taken.claim, state)

        try:
            self.queue.persist(action)
        except Missing:
            raise Lost('the container is gone')
        except Passing:
            raise Lost(f'stopped before it could be moved to {to.object}')

    def execute(self, taken: Taken) -> Optional[int]:
        """Run the command; None when it was ended at our order."""
        try:
            process = subprocess.Popen(
                self.args.command, stdin=taken.body,
                stdout=sys.stderr if self.report.json else None,
                env=self.environment(taken),
                # A group of its own: Ctrl-C is for us to act on.
                start_new_session=True,
                # The command shares the lock.  When we are killed and it is
                # not, the message stays locked until it has ended as well.
                pass_fds=[lease.fileno for lease in taken.leases
                          if lease.fileno is not None])
        except OSError as e:
            self.settle(taken, self.queue.layout.at('cur', taken.place.name),
                        {'Tries': str(taken.tries - 1)})
            raise Problem(os.EX_OSERR, f'{self.args.command[0]}: '
                          f'{e.strerror}; {taken.place.name} is back in cur/')
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                pass
            if self.signals >= 2:
                self.end(process)
                return None
            if taken.lost:
                self.end(process)
                raise Lost('the lock is gone')

    @staticmethod
    def end(process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def environment(self, taken: Taken) -> dict[bytes, bytes]:
        """As octets: what a mail says is UTF-8 whatever the locale is."""
        return {**{os.fsencode(name): os.fsencode(value)
                   for name, value in self.environ.items()},
                **{name.encode(): value.encode('utf-8', 'surrogateescape')
                   for name, value in self.variables(taken).items()}}

    def variables(self, taken: Taken) -> dict[str, str]:
        """The envelope for the command's environment.  Not SWIFTDROP_*,
        which a swiftdrop among its children would read as configuration."""
        variables = {'SWIFTQ_CONTAINER': self.queue.store.container}
        for key, value in taken.envelope().items():
            if isinstance(value, list):
                value = '\n'.join(value)
            if isinstance(value, bool):
                value = 'yes' if value else ''
            variables['SWIFTQ_' + key.upper()] = \
                str(value).replace('\0', '\ufffd')
        return variables
