# SPDX-License-Identifier: GPL-3.0-or-later
"""find: which messages somebody asks about.

What the filter wrote down as metadata answers by a HEAD for each message.
Where it has not (an older filter, a list that was too long, "metadata = no"),
the header of the content can be asked instead.
"""
from __future__ import annotations

import collections
import email.message
import email.utils
import re
from concurrent.futures import ThreadPoolExecutor
from typing import (Any, Callable, Iterable, Iterator, Mapping, Optional,
                    TypeVar)

from .faults import Missing
from .message import FOLDERS, Message, Place
from .queue import Queue

THREADS = 8         # requests at a time
SENDERS = ('From', 'Sender', 'Reply-To', 'Return-Path')
RECIPIENTS = ('To', 'Cc', 'Bcc', 'Resent-To', 'Resent-Cc', 'Delivered-To',
              'X-Original-To')

Header = email.message.Message
Item = TypeVar('Item')
Result = TypeVar('Result')


def bare(text: str) -> str:
    """Without blanks, and without a pair of angle brackets around it."""
    text = ''.join(text.split())
    return text[1:-1] if text[:1] == '<' and text[-1:] == '>' else text


def is_address(address: str, wanted: str) -> bool:
    """WANTED is an address or a @domain, as in the filter's recipients."""
    address, wanted = bare(address).casefold(), bare(wanted).casefold()
    if wanted.startswith('@'):
        return '@' + address.rpartition('@')[2] == wanted
    return address == wanted


def any_address(header: Header, fields: Iterable[str], wanted: str) -> bool:
    values = [str(value) for name in fields
              for value in header.get_all(name, [])]
    return any(is_address(address, wanted)
               for _, address in email.utils.getaddresses(values))


# What metadata says of a message: None when it says nothing.

def metadata_id(message: Message, wanted: str) -> Optional[bool]:
    value = message.meta('Message-Id')
    return bare(value) == bare(wanted) if value else None


def metadata_queue_id(message: Message, wanted: str) -> Optional[bool]:
    value = message.meta('Queue-Id')
    return value == wanted if value else None


def metadata_sender(message: Message, wanted: str) -> Optional[bool]:
    # Empty is the null reverse-path, which is not the same as none.
    if 'X-Object-Meta-Envelope-From' not in message.headers:
        return None
    return is_address(message.envelope()['envelope_from'], wanted)


def metadata_recipient(message: Message, wanted: str) -> Optional[bool]:
    envelope = message.envelope()
    if any(is_address(to, wanted) for to in envelope['envelope_to']):
        return True
    complete = envelope['envelope_to'] and not envelope['envelope_truncated']
    return False if complete else None


# What the header of the content says.

def header_id(header: Header, wanted: str) -> bool:
    return any(bare(str(value)) == bare(wanted)
               for value in header.get_all('Message-ID', []))


def header_queue_id(header: Header, wanted: str) -> bool:
    pattern = re.compile(rf'\bid\s+{re.escape(wanted)}(?![\w])')
    return any(pattern.search(str(value))
               for value in header.get_all('Received', []))


def header_sender(header: Header, wanted: str) -> bool:
    return any_address(header, SENDERS, wanted)


def header_recipient(header: Header, wanted: str) -> bool:
    return any_address(header, RECIPIENTS, wanted)


# Criterion, by the name of its option: whom to ask, first and then.
CRITERIA: Mapping[str, tuple[Callable[[Message, str], Optional[bool]],
                             Callable[[Header, str], bool]]] = {
    'message_id': (metadata_id, header_id),
    'from': (metadata_sender, header_sender),
    'to': (metadata_recipient, header_recipient),
    'queue_id': (metadata_queue_id, header_queue_id),
}


def judge(message: Message, wanted: Mapping[str, str],
          header: Optional[Header] = None) -> Optional[bool]:
    """Is MESSAGE what is wanted?  None when metadata does not tell and there
    is no HEADER."""
    verdicts = []
    for name, value in wanted.items():
        by_metadata, by_header = CRITERIA[name]
        verdict = by_metadata(message, value)
        if verdict is None and header is not None:
            verdict = by_header(header, value)
        verdicts.append(verdict)
    if False in verdicts:
        return False
    return None if None in verdicts else True


def in_order(function: Callable[[Item], Result], items: Iterable[Item]
             ) -> Iterator[Result]:
    """FUNCTION of each item, in their order, some at a time."""
    waiting: collections.deque[Any] = collections.deque()
    pool = ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == 4 * THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class Search:
    """Looks at what has been received since SINCE (0: ever)."""

    def __init__(self, queue: Queue, wanted: Mapping[str, str], since: int,
                 text: bool):
        self.queue = queue
        self.wanted = wanted
        self.since = since
        self.text = text
        self.stores = [queue.store.twin() for _ in range(THREADS)]

    def __iter__(self) -> Iterator[tuple[Message, Optional[bool]]]:
        """Each message, once, with what judge() says of it."""
        # Most messages move to a folder that is looked at later; those that
        # went the other way meanwhile are looked for again.
        gone: set[str] = set()
        for place, message, verdict in in_order(self.look, self.places()):
            if message:
                gone.discard(place.name)
                yield message, verdict
            else:
                gone.add(place.name)
        again = (place for place in self.places() if place.name in gone)
        for _, message, verdict in in_order(self.look, again if gone else ()):
            if message:
                yield message, verdict

    def places(self) -> Iterator[Place]:
        for folder in FOLDERS:
            # Names begin with the time; in retry/ something is before them.
            marker = ''
            if self.since and folder != 'retry':
                marker = f'{self.queue.layout.prefix[folder]}{self.since:010d}'
            for place, _, _ in self.queue.places(folder, marker=marker):
                if place.received is None or place.received >= self.since:
                    yield place

    def look(self, place: Place
             ) -> tuple[Place, Optional[Message], Optional[bool]]:
        store = self.stores.pop()
        try:
            message = store.head(place)
            verdict = judge(message, self.wanted)
            if verdict is None and self.text:
                verdict = judge(message, self.wanted, store.header(message))
            return place, message, verdict
        except Missing:
            return place, None, None
        finally:
            self.stores.append(store)
