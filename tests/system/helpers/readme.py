# SPDX-License-Identifier: GPL-3.0-or-later
"""The code blocks of our Markdown files, to be run as a reader runs them."""

import dataclasses
import re

import markdown_it

from conftest import TREE


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block, fenced or indented: text as a reader copies it."""
    name: str
    line: int
    text: str

    def __str__(self):
        return f"{self.name}:{self.line}: {self.text.strip().splitlines()[0]}"

    def begins(self, start):
        return self.text.lstrip().startswith(start)

    def commands(self):
        """Returns its commands, where each has its explanation behind it.

        Two blanks or more lie between; a line that begins with blanks goes
        on with the explanation.
        """
        return [re.split(" {2,}", line)[0] for line in self.text.splitlines()
                if line and not line.startswith(" ")]


def files():
    """Returns the names of the Markdown files of the tree."""
    found = [path.relative_to(TREE) for path in TREE.rglob("*.md")]
    # What was built, or is of other programs, lies in folders like these.
    return sorted(str(path) for path in found
                  if not path.parts[0].startswith((".", "build", "debian")))


def blocks(name):
    """Returns the blocks of a file of the tree, in order."""
    tokens = markdown_it.MarkdownIt().parse((TREE / name).read_text())
    return [Block(name, token.map[0] + 1, token.content) for token in tokens
            if token.type in ("code_block", "fence")]


class Story:
    """What one test does with the blocks that decisions give it.

    decisions is a dict of file names; each has a list of how a block begins
    and the name of its test, one for each block of the file, in order.
    """

    def __init__(self, decisions, test):
        self.left = [
            block for name, rows in decisions.items()
            for block, (_, decision) in zip(blocks(name), rows)
            if decision == test]

    def take(self, name, start):
        """Returns the next block of a file that begins so, once."""
        for block in self.left:
            if block.name == name and block.begins(start):
                self.left.remove(block)
                return block
        raise AssertionError(f"{name}: {start}: not for this test")
