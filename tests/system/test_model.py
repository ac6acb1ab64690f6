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
RESULTS = program.TOP / "tests/torture/RESULTS.md"
TRIES = int(os.environ.get("SWIFTDROP_TRIES", "2"))
FILES = ("session.c", "deliver.c", "inject.c", "swift.c")
# Requests for the object are the model's world_put(), world_head() and
# world_delete(); these other calls of what is modelled are not: where, what,
# and why not.
UNMODELLED = (
    (r"\w+", r"buf_\w+|calloc|login_of|settle|strerror",
     "memory of the program"),
    (r"\w+", r"log_\w+|deliver_log(_end)?|swift_log_\w+|begin_line|add_message|"
     r"warn_token_file|count(_place)?", "says what was decided"),
    (r"\w+", r"clock_\w+|stream_silence_ms|pause_ms|poll",
     "time and patience may come to an end at each step"),
    (r"refuse_(message|verdict)", r"message_finish|message_id|scan_message",
     "finds what is wrong with the message, or nothing"),
    (r"refuse_late", r"stream_peer_is_gone", "finds the client gone, or not"),
    (r"refuse_inject|accept_all", r"smtp_compose", "words of a reply"),
    (r"add_places", r"place_for", "one more account"),
    (r"store_all", r"swift_open|fill_places", "may fail: no memory"),
    (r"inject_\w+", r"command|failed|stuff|message_read|"
     r"stream_(write|flush|free)|close", "the server behind: world_dot()"),
    (r"try_store", r"is_our_etag|swift_is_ours", "looks at an answer"),
    (r"swift_delete", r"swift_put_init", "what is tried is on the stack"),
    (r"swift_store", r"object_name", "another name: name[i]++"),
    (r"send_reply|answer", r"smtp_(format|end_of_data)|give_up|"
     r"stream_(write|flush)", "the reply: sent"),
    (r"receive", r"deliver_(open|close)|smtp_data_decode|"
     r"stream_(peek|take|flush)", "before and behind the commitment"),
)

# Each fault of the program and what it breaks.
FAULTS = {"ANY_2XX": "stored", "NO_ETAG": "stored", "DOT_FIRST": "forwarded",
          "REPLY_FIRST": "stored", "TRUST_412": "stored",
          "TRUST_202": "named", "NO_WITHDRAW": "named",
          "NOT_FOUND_IS_GONE": "named", "ANY_5XX_IS_SWIFTS": "named",
          "RESENT_IS_OVER": "named",
          "NO_DELETE": "believed", "REFUSED_IS_IN_DOUBT": "believed",
          "SILENT_IN_DOUBT": "replied", "REFUSED_IS_5YZ": "permanent"}
# What is assumed of the world.
ASSUMED = ("LATE", "STALE_404", "REFUSED_LEAVES")

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
    # -O1 costs five seconds more than it saves; what is put in is found sooner
    # where the last choice goes first.
    run(folder, "gcc", "-DSAFETY", "-DT_REVERSE", "-o", "pan", "pan.c")
    text = run(folder, "./pan", "-m100000")
    assert "max search depth too small" not in text, text
    assert "Search not completed" not in text or "errors: 1" in text, text
    found = re.search(r"assertion violated holds_(\w+)", text)
    errors = re.search(r"errors: (\d+)", text)[1]
    assert errors == ("1" if found else "0"), text
    return Found(found and found[1],
                 int(re.search(r"(\d+) states, stored", text)[1]),
                 time.monotonic() - start)


def agrees(row, found):
    """Whether RESULTS.md has what was found, by the same spin; `make proven`,
    which tries more often, makes it new."""
    print(f"\n{found.states} states in {found.seconds:.1f} s")
    if TRIES > 2:
        return True
    text = RESULTS.read_text()
    spin_there = re.search(r"\nSpin Version [\d.]+ .*\n", text)[0].strip()
    return run(".", "spin", "-V").strip() != spin_there or \
        f"\n| {row} | {found.states:,} | " in text


@pytest.mark.parametrize("tries", range(2, TRIES + 1))
def test_nothing_is_wrong_in_any_state(tries, tmp_path):
    found = spin(tmp_path, f"TRIES={tries}")
    assert found.violated is None
    assert found.states > 100000
    assert agrees(f"as it is, {tries} tries", found)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows(fault, tmp_path):
    found = spin(tmp_path, "TRIES=2", fault)
    assert found.violated == FAULTS[fault]
    assert agrees(f"with `{fault}`", found)


@pytest.mark.parametrize("word", ASSUMED)
def test_what_is_assumed_of_the_world_is_needed(word, tmp_path):
    """Without it an object stays that no line names, as that of a PUT which
    Swift itself answers 5xx and which goes on behind the DELETE."""
    found = spin(tmp_path, "TRIES=2", word)
    assert found.violated == "named"
    assert agrees(f"with `{word}`", found)


def test_each_option_of_the_model_is_tried():
    assert set(re.findall(r"(?m)^#ifn?def (\w+)", MODEL.read_text())) == {
        "TRIES", "WITHOUT_LOST", "WITHOUT_QUEUED_4YZ", *FAULTS, *ASSUMED}


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


KEYWORDS = {"if", "for", "while", "switch", "return", "sizeof"}
REQUESTS = {"world_put", "world_head", "world_delete"}


def called(body):
    return set(re.findall(r"\b([a-z]\w+)\s*\(", body))


def unmodelled(caller, body):
    """The calls that no row of UNMODELLED allows there."""
    return {name for name in called(body)
            if not any(re.fullmatch(where, caller) and re.fullmatch(what, name)
                       for where, what, _ in UNMODELLED)}


def differences(sources, model):
    """What the C does and the model does not, and the other way round."""
    ours = {name: body for name, body in inlines(model).items()
            if not name.startswith("world_") and name != "may_die"}
    known = REQUESTS | set(ours)
    theirs = {name: body for text in sources
              for name, _, body in functions(text)}
    found = [f"{name}() is only in the model" for name in ours
             if name not in theirs]
    for caller in ours:
        more = unmodelled(caller, theirs.get(caller, "")) - known - KEYWORDS
        found += [f"{caller}() calls {name}(), the model does not"
                  for name in sorted(more)]
    for name in ours:
        made = calls(theirs.get(name, ""), known)
        modelled = calls(ours[name], known)
        if name in theirs and made != modelled:
            found.append(f"{name}() calls {made}, in the model {modelled}")
    return found


def sources():
    """The C, its requests for the object under the names of the model."""
    return [re.sub(r'\brequest\((.*?), "(PUT|HEAD|DELETE)"',
                   lambda found: f"world_{found[2].lower()}({found[1]}",
                   (program.TOP / name).read_text()) for name in FILES]


def test_the_model_makes_the_calls_of_the_program():
    assert differences(sources(), MODEL.read_text()) == []


def test_each_call_that_is_not_modelled_is_made():
    made = {(caller, name) for text in sources()
            for caller, _, body in functions(text) for name in called(body)}
    modelled = inlines(MODEL.read_text())
    idle = [what for where, row, _ in UNMODELLED
            for what in re.split(r"\|(?![^(]*\))", row)
            if not any(caller in modelled and re.fullmatch(where, caller) and
                       re.fullmatch(what, name) for caller, name in made)]
    assert idle == []


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
    (r"return &reply_forwarded;",
     "return swift_open(d->config) ? NULL : &reply_forwarded;",
     "accept_all() calls swift_open(), the model does not"),
    (r"return refuse_store\(", "swift_head(*d->swift, &p->put, false); \\g<0>",
     "store_all() calls swift_head(), the model does not"),
    (r"p->exists = 0;\n", "(void)request(s, p, verb, false);\n",
     "swift_withdraw() calls request(), the model does not"),
    (r"if \(p->exists == 0\)\n\t\t\tp", "world_delete(s, p, false);\n\\g<0>",
     "try_store() calls ['world_put', 'world_head', 'world_delete'], in the "
     "model ['world_put', 'world_head']"),
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
