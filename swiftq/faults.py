# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, and how a command then ends."""
from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Iterator

if TYPE_CHECKING:
    from .message import Message

DELAY_MIN_S = 1.0           # between tries while a server is away
DELAY_MAX_S = 30.0


class Problem(Exception):
    """Ends a command: a sysexits(3) status and a reason for people."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Passing(Problem):
    """A server is away or slow: worth another try, which "run" makes."""

    def __init__(self, reason: str):
        super().__init__(os.EX_UNAVAILABLE, reason)


class Missing(Exception):
    """404: the object is not, or no longer, there."""


class Lost(Exception):
    """The message is not ours any more: its lock or its claim is gone."""


class Garbled(Exception):
    """The content does not arrive as its ETag says; it may next time."""


class Damaged(Exception):
    """The content is what Swift was given, but not what Sha256 says."""

    def __init__(self, message: Message, reason: str):
        super().__init__(reason)
        self.message = message


def delays() -> Iterator[float]:
    """Seconds to wait after each Passing, without end; spread, so that
    workers do not come back all at once."""
    delay = DELAY_MIN_S
    while True:
        yield delay * random.uniform(0.5, 1)
        delay = min(delay * 2, DELAY_MAX_S)
