# SPDX-License-Identifier: GPL-3.0-or-later
"""status: how much is in which folder, and for how long."""
from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Iterable, Mapping

from .message import FOLDERS, Place
from .queue import Queue, age_s

METRICS = {
    'messages': 'Messages in the folder.',
    'bytes': 'Their octets.',
    'age_seconds': 'Since the oldest of them was received.',
    'stay_seconds': 'Since the one that came first came into the folder.',
}


@dataclass
class Folder:
    folder: str
    messages: int = 0
    bytes: int = 0
    age_seconds: int = 0
    stay_seconds: int = 0

    def add(self, place: Place, entry: Mapping[str, Any], now: float) -> None:
        stay = int(age_s(entry, now))
        age = stay if place.received is None else int(now) - place.received
        self.messages += 1
        self.bytes += entry['bytes']
        self.age_seconds = max(self.age_seconds, age)
        self.stay_seconds = max(self.stay_seconds, stay)


def count(queue: Queue) -> Iterable[Folder]:
    """Each folder, from one pass through the listing."""
    for name in FOLDERS:
        folder = Folder(name)
        for place, entry, now in queue.places(name):
            folder.add(place, entry, now)
        yield folder


def as_text(folder: Folder) -> str:
    text = f'{folder.folder:<10} {folder.messages:>9} messages ' \
        f'{folder.bytes:>13} bytes'
    if folder.messages:
        text += f', oldest {span(folder.age_seconds)}, ' \
            f'here for {span(folder.stay_seconds)}'
    return text


def span(seconds: int) -> str:
    """In the largest unit of which there are two; as TIME is written."""
    for unit, size in (('w', 604800), ('d', 86400), ('h', 3600), ('m', 60)):
        if seconds >= 2 * size:
            return f'{seconds // size}{unit}'
    return f'{seconds}s'


def as_prometheus(container: str, folders: Iterable[Folder]) -> str:
    """The text format 0.0.4, for node_exporter's textfile collector."""
    label = container.replace('\\', r'\\').replace('"', r'\"')
    rows = [asdict(folder) for folder in folders]
    lines = []
    for name, help_ in METRICS.items():
        lines += [f'# HELP swiftq_{name} {help_}',
                  f'# TYPE swiftq_{name} gauge',
                  *(f'swiftq_{name}{{container="{label}",'
                    f'folder="{row["folder"]}"}} {row[name]}'
                    for row in rows)]
    return '\n'.join(lines)
