# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that a program writes between two comments of a file, and tables in it.
"""


def table(head, rows):
    """Returns it in Markdown; each row has a value for each of the head's."""
    return "".join("| " + " | ".join(map(str, row)) + " |\n"
                   for row in (head, ["---"] * len(head), *rows))


def replaced(old, begin, end, text):
    """Returns old with text, on lines of its own, between the comments."""
    head, found, rest = old.partition(begin)
    _, last, tail = rest.partition(end)
    if not found or not last:
        raise SystemExit(f"there is no {begin} with {end} behind it")
    return f"{head}{begin}\n{text}\n{end}{tail}"
