# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that a program writes between two comments of a file."""


def replaced(old, begin, end, text):
    """Returns old with text, on lines of its own, between the comments."""
    head, found, rest = old.partition(begin)
    _, last, tail = rest.partition(end)
    if not found or not last:
        raise SystemExit(f"there is no {begin} with {end} behind it")
    return f"{head}{begin}\n{text}\n{end}{tail}"
