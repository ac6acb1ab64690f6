# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and programs see.  swiftq(1) lists the events."""
from __future__ import annotations

import json
import sys
import time
from collections import Counter
from typing import Any, Mapping

PROGRESS_S = 0.5        # from one line to the next


class Report:
    """Events: a line of text on stderr, or with --json on stdout an object
    per line."""

    def __init__(self, as_json: bool):
        self.json = as_json
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.terminal = sys.stderr.isatty()
        self.progress_at = 0.0

    def event(self, event: str, text: str, **members: Any) -> None:
        self.counts[event] += 1
        self.bytes += members.get('bytes') or 0
        self.write(event, text, members)

    def result(self, members: Mapping[str, Any], text: str) -> None:
        """What a command was asked for; a line on stdout in either form."""
        self.clear()
        print(to_json(members) if self.json else printable(text), flush=True)

    def progress(self, text: str) -> None:
        """How far it is: on a terminal alone, in a line that goes again."""
        now = time.monotonic()
        if self.terminal and now - self.progress_at >= PROGRESS_S:
            self.progress_at = now
            sys.stderr.write(f'\r{printable(text)}\033[K')
            sys.stderr.flush()

    def clear(self) -> None:
        if self.progress_at:
            self.progress_at = 0.0
            sys.stderr.write('\r\033[K')
            sys.stderr.flush()

    def write(self, event: str, text: str, members: Mapping[str, Any]) -> None:
        self.clear()
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
