# SPDX-License-Identifier: GPL-3.0-or-later
"""Content of any size, the same for the same number."""

import functools
import hashlib
import random

LINES = 4000


@functools.lru_cache(maxsize=1)
def block():
    """Lines of every kind: long, empty, of dots, of eight bits."""
    rng = random.Random(1)
    made = []
    for _ in range(LINES):
        kind = rng.randrange(12)
        if kind == 0:
            line = b"." * rng.randint(1, 4)
        elif kind == 1:
            line = b""
        elif kind == 2:
            line = "m\u00fcller \u20ac".encode() * rng.randint(1, 20)
        else:
            line = b"x%010d " % rng.randrange(10 ** 9) * rng.randint(1, 15)
        made.append(line + b"\r\n")
    return b"".join(made)


def content(attempt):
    """Of attempt.size octets, as far as a message can have that many."""
    if attempt.size < 4:
        return b"\r\n" if attempt.size >= 2 else b""
    subject = "refuse me behind" if attempt.refused else "torture"
    head = f"Subject: {subject}\r\nX-Torture: {attempt.number}\r\n"
    if attempt.verdict:
        head += f"X-Verdict: {attempt.verdict}\r\n"
    head = f"{head}\r\n".encode()
    if len(head) > attempt.size and not attempt.refused:
        return b"x" * (attempt.size - 2) + b"\r\n"
    left = max(attempt.size - len(head) - 2, 0)
    body = block() * (left // len(block()) + 1)
    body = body[:left]
    # Neither a bare CR nor a bare LF at the cut.
    if body.endswith(b"\r"):
        body = body[:-1] + b"x"
    return head + body + b"\r\n"


def stuffed(octets):
    """As it travels, without its end of data."""
    octets = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + octets if octets.startswith(b".") else octets


def sha256(octets):
    return hashlib.sha256(octets).hexdigest()
