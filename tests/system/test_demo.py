# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo shows, and the picture of it that README opens with."""

import ast
import os
import pty
import re
import subprocess
import xml.etree.ElementTree

import pytest

from conftest import TREE

SVG = "{http://www.w3.org/2000/svg}"
COLOURED = ("import importlib.machinery as m; "
            f"d = m.SourceFileLoader('demo', '{TREE}/demo/demo').load_module()"
            "; print(d.coloured('shown', d.GREEN))")


def lines(picture):
    """Returns the texts of a picture by row, joined."""
    rows = {}
    for text in xml.etree.ElementTree.parse(picture).iter(f"{SVG}text"):
        rows.setdefault(int(text.get("y")), []).append(text.text)
    return {row: "".join(texts) for row, texts in rows.items()}


def on_a_terminal(**environment):
    """What the demo's coloured() writes on a terminal."""
    parent, child = pty.openpty()
    subprocess.run(["/usr/bin/python3", "-W", "ignore", "-c", COLOURED],
                   stdout=child, check=True,
                   env={"PATH": os.environ["PATH"], **environment})
    os.close(child)
    with open(parent, "rb", buffering=0) as terminal:
        return terminal.read(1000)


@pytest.mark.parametrize("environment, want", [
    ({"TERM": "xterm"}, b"\x1b[32mshown\x1b[0m\r\n"),
    ({"TERM": "xterm", "NO_COLOR": ""}, b"\x1b[32mshown\x1b[0m\r\n"),
    ({"TERM": "xterm", "NO_COLOR": "1"}, b"shown\r\n"),
    ({"TERM": "dumb"}, b"shown\r\n"),
])
def test_colours_are_for_a_terminal_that_wants_them(environment, want):
    assert on_a_terminal(**environment) == want


def test_no_colours_in_a_pipe():
    assert subprocess.run(["/usr/bin/python3", "-W", "ignore", "-c", COLOURED],
                          stdout=subprocess.PIPE, check=True).stdout \
        == b"shown\n"


def test_record_draws_what_was_on_the_terminal(tmp_path):
    picture = tmp_path / "it.svg"
    subprocess.run([
        f"{TREE}/demo/record", picture, "sh", "-c",
        r"printf '\033[1m== A <head> & more\033[0m\n'; stty size; "
        r"printf 'a %s\n' begun; sleep 0.3; printf 'half '; sleep 0.3; "
        r"printf '%0120d\n' 7"], check=True)
    shown = lines(picture)
    assert list(shown.values()) == [
        "== A <head> & more", "32 100", "a begun", "half " + "0" * 95,
        "0" * 24 + "7"]
    assert list(shown) == [13, 30, 47, 64, 81]
    texts = list(xml.etree.ElementTree.parse(picture).iter(f"{SVG}text"))
    assert texts[0].get("class") == "bold"
    times = [float(re.search(r"[\d.]+", text.get("style"))[0])
             for text in texts]
    assert times == sorted(times) and times[0] >= 1.5


def test_record_of_a_command_that_fails_draws_nothing(tmp_path):
    done = subprocess.run([f"{TREE}/demo/record", tmp_path / "it.svg", "sh",
                           "-c", "echo begun; exit 3"],
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "demo/record: sh ended with 3\n"
    assert not (tmp_path / "it.svg").exists()


def test_the_picture_is_of_this_demo():
    """`make record` draws it anew; here every heading of today is in it."""
    source = ast.parse((TREE / "demo/demo").read_text())
    headings = [call.args[0].value for call in ast.walk(source)
                if isinstance(call, ast.Call)
                and getattr(call.func, "id", "") == "step"]
    headings = [text for text in headings
                if "Ctrl-C" not in text and "yourself" not in text]
    assert len(headings) >= 6
    shown = lines(TREE / "doc/demo.svg").values()
    assert [text for text in headings if f"== {text}" not in shown] == []
    assert "identical" in shown
    xml.etree.ElementTree.parse(TREE / "doc/way.svg")
