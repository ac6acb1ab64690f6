# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and programs see.  swiftq(1) lists the events."""
from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any, Mapping


class Report:
    """Events: a line of text on stderr, or with --json on stdout an object
    per line."""

    def __init__(self, as_json: bool):
        self.json = as_json
        self.counts: Counter[str] = Counter()
        self.bytes = 0

    def event(self, event: str, text: str, **members: Any) -> None:
        self.counts[event] += 1
        self.bytes += members.get('bytes') or 0
        self.write(event, text, members)

    def write(self, event: str, text: str, members: Mapping[str, Any]) -> None:
        if self.json:
            print(to_json({'event': event, **members}), flush=True)
        else:
            print(printable(text), file=sys.stderr, flush=True)

    def summary(self, text: str = '') -> None:
        counts = dict(self.counts)
        text = text or ', '.join(f'{n} {event}' for event, n
                                 in counts.items()) or 'nothing to do'
        self.write('summary', text, {**counts, 'bytes': self.bytes})


def printable(text: str) -> str:
    return ''.join(c if c.isprintable() else '?' for c in text)


def to_json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')
