# SPDX-License-Identifier: GPL-3.0-or-later
"""The moves of a message: take, finish, recover, purge."""
from __future__ import annotations

import contextlib
import datetime
import heapq
import os
import secrets
import tempfile
import time
from dataclasses import dataclass, field
from typing import (IO, TYPE_CHECKING, Any, Callable, Iterable, Iterator,
                    Mapping, Optional)

from .faults import (Damaged, Garbled, Lost, Missing, Passing, Problem,
                     delays)
from .lock import Lease, Locks, boottime
from .message import FOLDERS, Layout, Message, Place
from .report import Report

if TYPE_CHECKING:       # it takes half a second to load swiftclient
    from .store import Store

TAKE_LIMIT = 50             # first page when looking for the oldest message
DUE_LIMIT = 1000            # due retries looked at in one go
FINGERPRINT_DAYS = 30       # how long --dedupe remembers; Postfix queues for 5


@dataclass
class Taken:
    """A message in processing/ that is ours."""
    place: Place
    body: IO[bytes]
    leases: list[Lease]
    message: Message = field(init=False)
    claim: str = ''
    tries: int = 0

    @property
    def lost(self) -> bool:
        return any(lease.lost for lease in self.leases)

    def release(self) -> None:
        for lease in self.leases:
            lease.release()
        self.body.close()

    def envelope(self) -> dict[str, Any]:
        return {**self.message.envelope(), 'object': self.place.object,
                'tries': self.tries, 'claim': self.claim}


class Queue:
    """The moves of a message.  Each is a copy and then a delete, under the
    lock of the message's name.  LOCKS is None for who only reads."""

    def __init__(self, store: Store, locks: Optional[Locks], layout: Layout,
                 report: Report):
        self.store = store
        self.locks = locks
        self.layout = layout
        self.report = report
        self.impatient = lambda: True   # see persist(); "run" has more
        self.no_retry_until = 0.0
        self.damaged: dict[str, float] = {}

    def lock(self, name: str) -> Optional[Lease]:
        return self.locks.lock(f'swiftq:{self.store.account_path()}/'
                               f'{self.store.container}:{name}')

    def places(self, folder: str, **options: Any
               ) -> Iterator[tuple[Place, dict[str, Any], float]]:
        """What the listing shows, each with its entry and the server's
        time."""
        delimiter = '/' if folder == 'cur' else ''
        for now, page in self.store.pages(self.layout.prefix[folder],
                                          delimiter=delimiter, **options):
            for entry in page:
                place = self.layout.parse(entry['name'])
                if place and place.folder == folder:
                    yield place, entry, now

    # Taking.

    def candidates(self) -> Iterable[Place]:
        """What can be taken, oldest first."""
        due: list[Place] = []
        if boottime() >= self.no_retry_until:
            end = f'{self.layout.prefix["retry"]}{int(time.time()) + 1:010d}'
            for place, _, _ in self.places('retry', limit=DUE_LIMIT,
                                           end_marker=end):
                due.append(place)
                if len(due) == DUE_LIMIT:
                    break
            if not due:
                self.no_retry_until = boottime() + 1
        current = (place for place, _, _ in
                   self.places('cur', limit=TAKE_LIMIT))
        return heapq.merge(sorted(due, key=lambda p: p.name), current,
                           key=lambda p: p.name)

    def take(self, dedupe: bool = False) -> Optional[Taken]:
        for place in self.candidates():
            if self.damaged.get(place.object, 0) > boottime():
                continue
            lease = self.lock(place.name)
            if lease is None:
                continue
            taken = Taken(place, tempfile.TemporaryFile(), [lease])
            claimed = False
            try:
                claimed = self.claim(taken, dedupe)
            except (Lost, Missing):
                pass                # the listing lagged behind
            finally:
                if not claimed:
                    taken.release()
            if claimed:
                return taken
        return None

    def claim(self, taken: Taken, dedupe: bool) -> bool:
        """Move what TAKEN names to processing/; false: take another."""
        source = taken.place
        try:
            message = self.store.fetch(source, taken.body)
        except Damaged as e:
            self.store.move(e.message, self.layout.at('failed', source.name),
                            {'Note': str(e)})
            self.report.event('failed', f'failed {source.name}: it {e}',
                              name=source.name, note=str(e))
            return False
        except Garbled as e:
            self.damaged[source.object] = boottime() + 60
            self.report.event('error', str(e), name=source.name,
                              reason=str(e))
            return False
        if self.superseded(message, ('done', 'failed')):
            return False
        if dedupe and not self.is_first(message, taken):
            return False
        taken.message = message
        taken.claim = f'{self.locks.scheme}-{secrets.token_hex(8)}'
        taken.tries = message.tries + 1
        taken.place = self.layout.at('processing', source.name)
        self.store.copy(message, taken.place,
                        {'Tries': str(taken.tries), 'Claim': taken.claim})
        # Died here: two copies, nothing was processed; recover sees to it.
        self.persist(lambda: self.store.delete(source.object),
                     lambda: taken.lost)
        # The command must not start unless the lock still is ours.
        if taken.lost:
            self.report.event('lost', f'lost {source.name}: the lock is gone',
                              name=source.name, reason='lock')
            return False
        return True

    def persist(self, action: Callable[[], None],
                pointless: Callable[[], bool] = lambda: False) -> None:
        """Do ACTION through any fault that may pass: we are in the middle
        of something that others can only undo with recover."""
        waits = None
        while not pointless():
            try:
                return action()
            except Passing as e:
                if self.impatient():
                    raise
                if not waits:
                    waits = delays()
                    self.report.event('waiting', str(e), reason=str(e))
                time.sleep(next(waits))

    def superseded(self, message: Message, folders: Iterable[str],
                   others: Iterable[Place] = ()) -> bool:
        """Is there another copy, in a state that counts for more?

        Then MESSAGE's object is what a crash between copy and delete left
        behind, and goes, once the two are known to be the same.
        """
        name, object_ = message.place.name, message.place.object
        for place in [*(self.layout.at(f, name) for f in folders), *others]:
            try:
                other = self.store.head(place)
            except Missing:
                continue
            if not other.same_as(message):
                reason = f'differs from {place.object}: nothing was done'
                self.report.event('error', f'{object_} {reason}', name=name,
                                  object=object_, reason=reason)
                return True
            self.store.delete(object_)
            self.report.event(
                'dropped', f'dropped {object_}: the same as {place.object}',
                name=name, object=object_, same_as=place.object)
            return True
        return False

    # --dedupe.

    def marker(self, message: Message) -> str:
        """The object that says that MESSAGE was processed, or ''."""
        fingerprint = message.fingerprint
        return fingerprint and self.layout.fingerprints + fingerprint

    def is_first(self, message: Message, taken: Taken) -> bool:
        """Has no delivery of the same message been processed?"""
        marker = self.marker(message)
        if not marker:
            return True
        # Two deliveries at the same time must not both find no marker.
        lease = self.lock(marker)
        if lease is None:
            return False
        taken.leases.append(lease)
        try:
            first = self.store.head(Place(marker)).meta('Swiftq-Name')
        except Missing:
            return True
        name = message.place.name
        note = (f'duplicate of {first}' if first != name else
                'processed before')     # died between marker and move
        self.store.move(message, self.layout.at('done', name), {'Note': note})
        self.report.event('duplicate', f'duplicate {name}: {note}', name=name,
                          bytes=message.size, duplicate_of=first, note=note)
        return False

    def mark(self, message: Message) -> None:
        """Write down that MESSAGE was processed.

        Before it is moved to done/, so that there is no moment at which it
        is done and a second delivery finds no marker.
        """
        marker = self.marker(message)
        if marker:
            self.store.put_marker(marker, {'Name': message.place.name},
                                  FINGERPRINT_DAYS)

    # Finishing.

    def finish(self, source: Place, to: Place, claim: str,
               state: Mapping[str, str]) -> None:
        """Move SOURCE to TO; may be called again after a fault.

        CLAIM: whose the message must be still; empty: anybody's.
        """
        try:
            message = self.store.head(source)
        except Missing:
            try:
                self.store.head(to)
                return
            except Missing:
                raise Lost(f'{source.object} is gone')
        if claim and message.raw('Swiftq-Claim') not in ('', claim):
            raise Lost(f'{source.object} was given to another')
        try:
            self.store.move(message, to, state)
        except Missing:
            raise Lost(f'{source.object} is gone')

    def find(self, name: str, folders: Iterable[str] = FOLDERS) -> Message:
        """NAME with or without its folder; Problem when it is nowhere."""
        place = self.layout.parse(name)
        tried = [place] if place and place.folder in folders else []
        if '/' not in name:
            tried = [self.layout.at(f, name) for f in folders if f != 'retry']
        for place in tried:
            with contextlib.suppress(Missing):
                return self.store.head(place)
        if 'retry' in folders:
            for place, _, _ in self.places('retry'):
                if place.name == name:
                    with contextlib.suppress(Missing):
                        return self.store.head(place)
        raise Problem(os.EX_NOINPUT, f'{name}: no such message in '
                      + ' '.join(f + '/' for f in folders))

    # Tidying up.

    def recover(self, older_s: float) -> None:
        """Give back what dead workers left in processing/."""
        waiting: dict[str, list[Place]] = {}
        for place, _, _ in self.places('retry'):
            waiting.setdefault(place.name, []).append(place)
        for place, entry, now in self.places('processing'):
            if age_s(entry, now) < older_s:
                self.skip(place, 'too young')
                continue
            lease = self.lock(place.name)
            if lease is None:
                self.skip(place, 'locked, so a worker has it')
                continue
            try:
                self.recover_one(place, older_s, waiting.get(place.name, []))
            finally:
                lease.release()

    def recover_one(self, place: Place, older_s: float,
                    waiting: list[Place]) -> None:
        try:
            message = self.store.head(place)
        except Missing:
            return
        scheme = message.raw('Swiftq-Claim').split('-')[0]
        if message.age_s < older_s:
            self.skip(place, 'too young')
        elif scheme in ('flock', 'redis') and scheme != self.locks.scheme:
            self.skip(place, f'its worker runs with --lock {scheme}:')
        elif not self.superseded(message, ('done', 'failed', 'cur'), waiting):
            try:
                self.store.move(message, self.layout.at('cur', place.name),
                                {'Note': 'recovered'})
            except (Lost, Missing):
                return
            self.report.event('recovered', f'recovered {place.name}',
                              name=place.name, bytes=message.size,
                              tries=message.tries)

    def skip(self, place: Place, reason: str) -> None:
        self.report.event('skipped', f'skipped {place.name}: {reason}',
                          name=place.name, reason=reason)

    def purge(self, folder: str, older_s: float, dry_run: bool) -> None:
        prefix = (self.layout.fingerprints if folder == 'fingerprints'
                  else self.layout.prefix[folder])
        verb = 'would purge' if dry_run else 'purged'
        for now, page in self.store.pages(prefix):
            for entry in page:
                if age_s(entry, now) < older_s:
                    continue
                if not dry_run:
                    self.store.delete(entry['name'])
                self.report.event('purged', f'{verb} {entry["name"]}',
                                  object=entry['name'], bytes=entry['bytes'],
                                  last_modified=entry['last_modified'],
                                  dry_run=dry_run)


def age_s(entry: Mapping[str, Any], now: float) -> float:
    """By last_modified of a listing, which is UTC and does not say so."""
    modified = datetime.datetime.fromisoformat(
        entry['last_modified'].removesuffix('Z') + '+00:00')
    return max(0.0, now - modified.timestamp())
