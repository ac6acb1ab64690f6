# SPDX-License-Identifier: GPL-3.0-or-later
"""SECURITY.md and README: what is promised names tests; they are there."""

import re

from helpers import program

TEXT = (program.TOP / "SECURITY.md").read_text("utf-8")
NAMED = re.compile(r"`((?:test|unit)_\w+\.(?:py|c))::(\w+)`")


def missing(text):
    """The tests that are named and are not there."""
    found = []
    for file, name in NAMED.findall(text):
        path = next((program.TOP / "tests").rglob(file), None)
        pattern = rf"^def {name}\(" if file.endswith(".py") else \
            rf"cmocka_unit_test\({name}\)"
        if path is None or not re.search(pattern, path.read_text("utf-8"),
                                         flags=re.M):
            found.append(f"{file}::{name}")
    return found


def rows(text, heading="## Threats"):
    """The rows of the table below a heading."""
    section = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\|.*\|$", section, flags=re.M)[2:]


def test_every_test_that_is_named_is_there():
    assert missing(TEXT) == []


def test_every_threat_names_a_test():
    assert len(rows(TEXT)) > 15
    assert [row for row in rows(TEXT) if not NAMED.search(row)] == []


def test_what_people_ask_for_is_shown_by_tests():
    asked = rows((program.TOP / "README.md").read_text("utf-8"),
                 "## What people ask for")
    assert len(asked) == 9
    assert [row for row in asked if not NAMED.search(row)] == []
    assert missing("\n".join(asked)) == []


def test_what_is_not_there_is_missed():
    assert missing("`test_none.py::test_x` `test_store.py::test_none` "
                   "`unit_smtp.c::test_none`") == [
        "test_none.py::test_x", "test_store.py::test_none",
        "unit_smtp.c::test_none"]
