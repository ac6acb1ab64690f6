# SPDX-License-Identifier: GPL-3.0-or-later
"""The model of the commitment, tests/model/commitment.pml: spin finds nothing
wrong in it, finds what is put in, and it makes the calls that the C makes.

$SWIFTDROP_TRIES is how often an upload is tried; `make model` says 3.
"""

import collections
import os
import re
import subprocess
import time

import pytest

from helpers import program
from test_house import code, functions

MODEL = program.TOP / "tests/model/commitment.pml"
TRIES = int(os.environ.get("SWIFTDROP_TRIES", "2"))
# What is modelled, and what of deliver_commit() has no part in the commitment.
FILES = ("session.c", "deliver.c", "inject.c", "swift.c")
UNMODELLED = {"clock_gettime", "clock_ms", "stream_silence_ms", "strerror"}

# Each fault of the program and what it breaks.
FAULTS = {"ANY_2XX": "stored", "NO_ETAG": "stored", "DOT_FIRST": "forwarded",
          "REPLY_FIRST": "stored", "TRUST_412": "stored",
          "TRUST_202": "named", "NO_WITHDRAW": "named",
          "NOT_FOUND_IS_GONE": "named", "ANY_5XX_IS_SWIFTS": "named"}

Found = collections.namedtuple("Found", "violated states seconds")


def run(folder, *argv):
    done = subprocess.run(argv, cwd=folder, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600)
    assert done.returncode == 0, done.stdout
    return done.stdout


def spin(folder, *defines):
    """Goes through all states, or up to what is violated."""
    start = time.monotonic()
    run(folder, "spin", "-a", *(f"-D{word}" for word in defines), MODEL)
    # -O1 costs five seconds more than it saves.
    run(folder, "gcc", "-DSAFETY", "-o", "pan", "pan.c")
    text = run(folder, "./pan", "-m100000")
    assert "max search depth too small" not in text, text
    assert "Search not completed" not in text or "errors: 1" in text, text
    found = re.search(r"assertion violated holds_(\w+)", text)
    errors = re.search(r"errors: (\d+)", text)[1]
    assert errors == ("1" if found else "0"), text
    return Found(found and found[1],
                 int(re.search(r"(\d+) states, stored", text)[1]),
                 time.monotonic() - start)


def test_nothing_is_wrong_in_any_state(tmp_path):
    found = spin(tmp_path, f"TRIES={TRIES}")
    print(f"\n{found.states} states in {found.seconds:.1f} s")
    assert found.violated is None
    assert found.states > 100000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault, tmp_path):
    found = spin(tmp_path, "TRIES=2", fault)
    print(f"\n{found.states} states in {found.seconds:.1f} s")
    assert found.violated == FAULTS[fault]


def test_what_is_assumed_of_the_world_is_needed(tmp_path):
    """A PUT that Swift itself answers 5xx and that goes on: nothing is found to
    delete, and then it is stored."""
    assert spin(tmp_path, "TRIES=2", "LATE").violated == "named"


@pytest.mark.parametrize("window", ("LOST", "QUEUED_4YZ"))
def test_each_window_is_needed(window, tmp_path):
    """Without it a message that was refused and is forwarded is found."""
    assert spin(tmp_path, "TRIES=2",
                f"WITHOUT_{window}").violated == "forwarded"


# The calls of both.

def calls(body, known):
    """The calls in the order in which they are made: what is called for an
    argument comes first. One that follows itself is one."""
    made, opened = [], []
    for found in re.finditer(r"\b(\w+)\s*\(|\(|\)", body):
        if found[0] != ")":
            opened.append(found[1])
        elif opened and (name := opened.pop()) in known and \
                made[-1:] != [name]:
            made.append(name)
    return made


def inlines(text):
    """Name and body of each function of the model, without its faults."""
    text = subprocess.run(["gcc", "-E", "-P", "-x", "c", "-"], input=text,
                          text=True, check=True, capture_output=True).stdout
    parts = re.split(r"\binline\s+(\w+)\s*\([^)]*\)", text)
    found = {}
    for name, rest in zip(parts[1::2], parts[2::2]):
        depth = 0
        for at, char in enumerate(rest):
            depth += (char == "{") - (char == "}")
            if char == "}" and depth == 0:
                break
        found[name] = rest[:at + 1]
    return found


def differences(sources, model):
    """What the C does and the model does not, and the other way round."""
    ours = {name: body for name, body in inlines(model).items()
            if not name.startswith("world_") and name != "may_die"}
    theirs = {name: body for text in sources
              for name, _, body in functions(text)}
    found = [f"{name}() is only in the model" for name in ours
             if name not in theirs]
    called = set(re.findall(r"\b([a-z]\w+)\(", theirs["deliver_commit"]))
    called -= UNMODELLED | {"if"}
    found += [f"deliver_commit() calls {name}(), the model does not"
              for name in sorted(called - set(ours))]
    for name in ours:
        made = calls(theirs.get(name, ""), ours)
        modelled = calls(ours[name], ours)
        if name in theirs and made != modelled:
            found.append(f"{name}() calls {made}, in the model {modelled}")
    return found


def sources():
    return [(program.TOP / name).read_text() for name in FILES]


def test_the_model_makes_the_calls_of_the_program():
    assert differences(sources(), MODEL.read_text()) == []


def test_the_parts_of_a_commitment_are_modelled():
    """Lest the list is empty."""
    assert {"deliver_commit", "store_all", "withdraw", "refuse_late",
            "refuse_store", "accept_all", "inject_commit", "swift_store",
            "try_store", "swift_withdraw", "send_reply"} <= \
        set(inlines(MODEL.read_text()))
    body = inlines(MODEL.read_text())["deliver_commit"]
    assert calls(body, {"store_all", "inject_commit", "accept_all"}) == [
        "store_all", "inject_commit", "accept_all"]


# A change of the program, and what is said of it.
BEGINS = ("deliver_commit() calls ['refuse_message', 'refuse_verdict', "
          "'add_places', 'refuse', 'refuse_late', 'inject_content', "
          "'refuse_inject', ")
CHANGES = (
    (r"\bstore_all\b", "upload_all", "store_all() is only in the model"),
    (r"\btry_store\b", "try_upload", "try_store() is only in the model"),
    (r"r = store_all\(d\);", "r = check(d);",
     "deliver_commit() calls check(), the model does not"),
    (r"(?s)(r = store_all\(d\);)(.*)(r = refuse_inject\(d, inject_co[^;]*;)",
     r"\3\2\1", BEGINS + "'inject_commit', "),
    (r"withdraw\(d\);\n\treturn replies", "return replies",
     "refuse_store() calls [], in the model ['withdraw']"),
    (r"refuse_inject\(d, (inject_commit\([^;]*)\);", r"\1;",
     BEGINS + "'store_all', 'refuse_late', 'inject_commit', 'inject_end', "
     "'accept_all']"),
)


@pytest.mark.parametrize("old, new, said", CHANGES,
                         ids=[row[0][:20] for row in CHANGES])
def test_a_change_of_the_program_is_noticed(old, new, said):
    changed = [re.sub(old, new, code(text)) for text in sources()]
    assert changed != [code(text) for text in sources()]
    assert any(line.startswith(said)
               for line in differences(changed, MODEL.read_text()))
