# SPDX-License-Identifier: GPL-3.0-or-later
"""Which object is which message in which state, and what it tells."""
from __future__ import annotations

import email.utils
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import Any, Iterator, Mapping, Optional

FOLDERS = ('cur', 'processing', 'retry', 'failed', 'done')


@dataclass(frozen=True)
class Place:
    """An object's name, taken apart."""
    object: str
    folder: str = ''
    name: str = ''      # the Maildir name, the same in every folder
    due: int = 0        # retry/ only: seconds since 1970
    tries: int = 0      # retry/ only

    @property
    def received(self) -> Optional[int]:
        """Seconds since 1970, by which the filter's names begin."""
        match = re.match(r'\d{1,18}(?=\.)', self.name)
        return int(match[0]) if match else None


class Layout:
    """The folders around the account's prefix.

    They stand beside "cur/" when the prefix ends in that, else below it.
    """

    def __init__(self, prefix: str):
        beside = prefix == 'cur/' or prefix.endswith('/cur/')
        root = prefix.removesuffix('cur/') if beside else prefix
        self.prefix = {name: root + name + '/' for name in FOLDERS}
        self.prefix['cur'] = prefix
        self.fingerprints = root + 'fingerprints/'

    def at(self, folder: str, name: str) -> Place:
        return Place(self.prefix[folder] + name, folder, name)

    def at_retry(self, name: str, due: int, tries: int) -> Place:
        # The time comes first: one short listing has all that is due, in
        # order, without a HEAD for each.  The number of tries is here as
        # well, for messages whose metadata has no room for it.
        return Place(f'{self.prefix["retry"]}{due:010d}.{tries}/{name}',
                     'retry', name, due, tries)

    def parse(self, name: str) -> Optional[Place]:
        # cur/ last: its prefix may be empty.
        for folder in FOLDERS[1:] + FOLDERS[:1]:
            if name.startswith(self.prefix[folder]):
                rest = name.removeprefix(self.prefix[folder])
                break
        else:
            return None
        due = tries = 0
        if folder == 'retry':
            match = re.fullmatch(r'(\d{10,})\.(\d+)/(.+)', rest)
            if not match:
                return None
            due, tries, rest = int(match[1]), int(match[2]), match[3]
        # Probes of "swiftdrop check" begin with a dot.
        if not rest or rest.startswith('.') or '/' in rest:
            return None
        return Place(name, folder, rest, due, tries)


@dataclass
class Message:
    """An object as Swift describes it, its metadata still encoded."""
    place: Place
    headers: Mapping[str, str]
    etag: str = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.etag = self.headers.get('ETag', '').strip('"').lower()
        self.size = int(self.headers.get('Content-Length', 0))

    def raw(self, key: str) -> str:
        return self.headers.get('X-Object-Meta-' + key, '')

    def meta(self, key: str) -> str:
        return decode(self.raw(key))

    def parts(self, key: str) -> Iterator[str]:
        """KEY and what continues it: KEY-2, KEY-3..., without a gap."""
        number, part = 1, self.raw(key)
        while part:
            yield part
            number += 1
            part = self.raw(f'{key}-{number}')

    @property
    def tries(self) -> int:
        value = self.raw('Swiftq-Tries')
        return max(int(value) if value.isdigit() else 0, self.place.tries)

    @property
    def fingerprint(self) -> str:
        """Empty when there is none that could be compared."""
        value = self.raw('Fingerprint')
        return value if re.fullmatch('[0-9a-f]{64}', value) else ''

    @property
    def age_s(self) -> float:
        """By the server's clock alone; ours may be wrong."""
        now = email.utils.parsedate_to_datetime(self.headers['Date'])
        # Date has no fraction: what was just written seems to come.
        return max(0.0,
                   now.timestamp() - float(self.headers['X-Timestamp']))

    def same_as(self, other: Message) -> bool:
        return (self.etag, self.size) == (other.etag, other.size)

    def envelope(self) -> dict[str, Any]:
        """What the filter wrote down about the message, decoded."""
        recipients = ','.join(self.parts('Envelope-To')).split(',')
        return {
            'name': self.place.name,
            'object': self.place.object,
            'bytes': self.size,
            'etag': self.etag,
            'sha256': self.meta('Sha256'),
            'fingerprint': self.meta('Fingerprint'),
            'envelope_from': decode(''.join(self.parts('Envelope-From'))),
            'envelope_to': [decode(a) for a in recipients if a],
            'envelope_count': self.meta('Envelope-Count'),
            'envelope_truncated': self.meta('Envelope-Truncated') == 'yes',
            'message_id': self.meta('Message-Id'),
            'client_addr': self.meta('Client-Addr'),
            'client_name': self.meta('Client-Name'),
            'client_helo': self.meta('Client-Helo'),
            'queue_id': self.meta('Queue-Id'),
            'tries': self.tries,
            'claim': self.meta('Swiftq-Claim'),
            'note': self.meta('Swiftq-Note'),
        }


def decode(value: str) -> str:
    """Percent-decode; octets that are not UTF-8 survive as surrogates."""
    return urllib.parse.unquote(value, errors='surrogateescape')


def encode(value: str) -> str:
    """Percent-encode for a metadata value, within Swift's 256 bytes."""
    text = urllib.parse.quote(value, safe="!#$&'()*+,/:;=?@[]^_`{|}~-.<>",
                              errors='surrogateescape')
    return re.sub(r'%.?\Z', '', text[:256])
