# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq, command by command, on a real Swift."""

import os
import re
import signal
import subprocess
import time
import urllib.parse

import pytest

from conftest import TREE
from swiftq_box import COMMAND, WAIT, add_rows, quote, run, wait_for

EX_USAGE, EX_NOINPUT, EX_UNAVAILABLE = 64, 66, 69
EX_CANTCREAT, EX_TEMPFAIL, EX_NOPERM = 73, 75, 77


# list and show


def test_list_is_what_swift_lists(box):
    first = box.put(b"one", age=9)
    second = box.put(b"four", folder="retry/2000000000.3/", age=5)
    box.put(b"probe", name=".swiftdrop-check-1")
    *messages, summary = box.events("list")
    assert [(m["folder"], m["name"], m["bytes"]) for m in messages] == [
        ("cur", first, 3), ("retry", second, 4)]
    assert messages[0]["etag"] == box.raw("cur/" + first)["Etag"]
    assert (messages[1]["due"], messages[1]["tries"]) == (2000000000, 3)
    assert summary == {"event": "summary", "cur": 1, "processing": 0,
                       "retry": 1, "failed": 0, "done": 0, "bytes": 7}
    text = box.swiftq("list", "cur")
    assert first in text.stdout.decode()
    assert text.err == "cur 1 (3 bytes)\n"


def test_show_gives_content_and_envelope(box):
    to = ['"x, y"@swift.test', "b%41@swift.test", "bäh@swift.test"]
    content = b"Subject: x\r\n\r\n\x00\xff\r.\r\n"
    name = box.put(content, Envelope_From="a%20b", Envelope_From_2="%40c",
                   Envelope_To=quote(to[0]) + "," + quote(to[1]),
                   Envelope_To_2=quote(to[2]), Client_Helo="a%20b%E9")
    done = box.swiftq("show", name)
    assert done.stdout == content
    assert "envelope_to: " + ", ".join(to) in done.err
    envelope, = box.events("show", name, "--output",
                           str(box.tmp_path / "content"))
    assert (box.tmp_path / "content").read_bytes() == content
    assert envelope["envelope_to"] == to
    assert envelope["envelope_from"] == "a b@c"
    assert envelope["client_helo"] == "a b\ufffd"
    assert envelope["bytes"] == len(content)
    assert box.where() == {"cur": [name]}


def test_show_of_nothing(box):
    for name in ("1.M1P1R1.h,S=1", "done/1.M1P1R1.h,S=1", "../x"):
        assert "no such message" in box.swiftq("show", name,
                                               status=EX_NOINPUT).err


@pytest.mark.parametrize("prefix", ["", "inbox/", "a/cur/", "in-"])
def test_any_prefix(box, ini, prefix):
    name = box.put(b"here", folder=prefix)
    config = ini({"box": {"recipients": "*", **box.container.options(),
                          "prefix": prefix}}, "prefix.ini")
    box.swiftq("run", "--once", "--", "false", ini=config)
    root = {"a/cur/": "a/"}.get(prefix, prefix)
    assert box.container.names() == [root + "failed/" + name]
    box.swiftq("finish", root + "failed/" + name, "retry", "--after", "0",
               ini=config)
    box.swiftq("run", "--once", "--", "true", ini=config)
    assert box.container.names() == [root + "done/" + name]


# take and finish


def test_take_moves_the_oldest_and_keeps_its_metadata(box):
    young = box.put(b"young", age=10)
    old = box.put(b"old", age=20, Envelope_To="%22a%2Cb%22@swift.test",
                  headers={"X-Delete-After": "86400"})
    before = dict(box.raw("cur/" + old))
    done = box.swiftq("take")
    assert done.stdout == b"old"
    assert box.where() == {"cur": [young], "processing": [old]}
    after = dict(box.raw("processing/" + old))
    kept = [k for k in before if k.lower().startswith("x-object-meta-")]
    assert len(kept) == 6
    for key in kept + ["X-Delete-At", "Content-Type", "Etag"]:
        assert after[key] == before[key]
    assert after["X-Object-Meta-Swiftq-Tries"] == "1"
    assert "claim: " + after["X-Object-Meta-Swiftq-Claim"] in done.err
    assert os.listdir(box.tmp_path / "locks") == []


def test_take_when_there_is_nothing(box):
    box.put(folder="retry/2000000000.1/")
    box.put(name=".swiftdrop-check-1")
    assert "nothing to take" in box.swiftq("take", status=EX_NOINPUT).err


def test_take_prefers_the_older_of_cur_and_due_retries(box):
    now = int(time.time())
    box.put(b"not due", folder=f"retry/{now + 3600}.1/", age=300)
    box.put(b"new", age=100)
    box.put(b"due", folder=f"retry/{now - 1}.2/", age=200)
    assert box.swiftq("take").stdout == b"due"
    assert box.raw("processing/" + box.names("processing")[0])[
        "X-Object-Meta-Swiftq-Tries"] == "3"
    assert box.swiftq("take").stdout == b"new"
    box.swiftq("take", status=EX_NOINPUT)


def test_take_skips_what_the_listing_has_and_swift_has_not(box):
    rows = [f"cur/1000000000.M{i:06d}P1R1.host,S=4" for i in range(120)]
    add_rows(box, rows)
    real = box.put(b"real")
    assert box.names("cur")[-1] == real and len(box.names("cur")) == 121
    assert box.swiftq("take").stdout == b"real"


def test_finish(box):
    for state in ("done", "failed", "retry"):
        name = box.put(age=9)
        box.swiftq("take")
        event, = box.events("finish", name, state, "--after", "1h",
                            "--note", "by hand: 100%")
        assert event["event"] == state
        assert box.names("processing") == []
        assert box.names(state) == [name]
        object_, = box.container.names(state + "/")
        assert box.raw(object_)["X-Object-Meta-Swiftq-Note"] == \
            "by%20hand:%20100%25"
        assert box.raw(object_)["X-Object-Meta-Queue-Id"] == "4XyZ"
    assert 3590 < event["due"] - time.time() <= 3600
    assert object_ == f"retry/{event['due']}.1/{name}"


def test_finish_what_failed_once_more(box):
    name = box.put(folder="failed/")
    box.swiftq("finish", name, "retry", "--after", "0")
    box.swiftq("run", "--once", "--", "true")
    assert box.where() == {"done": [name]}


def test_finish_many(box):
    first, second, third = (box.put(folder="failed/", age=9 - i)
                            for i in range(3))
    *events, last = box.events("finish", first, "failed/none", third, "done",
                               "--note", "by hand", status=EX_NOINPUT)
    assert [e["event"] for e in events] == ["done", "error", "done"]
    assert events[1]["name"] == "failed/none"
    assert last["reason"] == "1 of 3 stay where they are"
    assert box.where() == {"failed": [second],
                           "done": sorted([first, third])}
    box.swiftq("finish", first, second, "done", "--claim", "flock-00",
               status=EX_USAGE)
    # Refused is refused, for the next one as well.
    reader = box.config("reader.ini", user="test:reader", key="reader")
    done = box.swiftq("finish", second, second, "done", ini=reader,
                      status=EX_NOPERM)
    assert done.err.count("403") == 1


def test_retry_what_failed(box):
    """By a worker that has given up: the tries of before do not count."""
    name = box.put()
    box.swiftq("run", "--once", "--max-tries", "1", "--", "sh", "-c",
               "exit 75")
    assert box.where() == {"failed": [name]}
    event, = box.events("retry", name, "--note", "mended")
    assert (event["event"], event["name"]) == ("retry", name)
    event, _ = box.events("run", "--once", "--max-tries", "1", "--", "true")
    assert (event["event"], event["tries"]) == ("done", 1)
    box.copy("done/" + name, "failed/" + name, Swiftq_Tries="7")
    box.connection.delete_object(box.name, "done/" + name)
    box.swiftq("finish", name, "retry", "--after", "0")
    event, _ = box.events("run", "--once", "--max-tries", "1", "--", "false")
    assert (event["event"], event["note"]) == ("failed", "exit status 1")


def test_retry_all_that_failed(box):
    names = [box.put(folder="failed/", age=i) for i in range(3)]
    box.put(folder="processing/")
    *events, summary = box.events("retry", "--all-failed", "--after", "1h")
    assert sorted(e["name"] for e in events) == sorted(names)
    assert all(3590 < e["due"] - time.time() <= 3600 for e in events)
    assert summary["retry"] == 3
    assert box.names("retry") == sorted(names)
    assert box.names("failed") == []
    assert box.swiftq("retry", "--all-failed").err == "nothing to do\n"


def test_retry_sooner_what_waits(box):
    name = box.put(folder="retry/2000000000.3/")
    box.swiftq("retry", name)
    event, _ = box.events("run", "--once", "--", "true")
    assert (event["event"], event["tries"]) == ("done", 4)


def test_retry_is_for_nothing_else(box):
    for folder in ("cur/", "processing/", "done/"):
        name = box.put(folder=folder)
        box.swiftq("retry", name, status=EX_NOINPUT)
        box.swiftq("retry", folder + name, status=EX_NOINPUT)


def test_finish_refuses_what_is_not_ours(box):
    name = box.put()
    box.swiftq("finish", name, "done", status=EX_NOINPUT)
    box.swiftq("take")
    assert "given to another" in box.swiftq(
        "finish", name, "done", "--claim", "flock-00", status=EX_TEMPFAIL).err
    assert box.where() == {"processing": [name]}
    claim = box.raw("processing/" + name)["X-Object-Meta-Swiftq-Claim"]
    box.swiftq("finish", name, "done", "--claim", claim)
    assert box.where() == {"done": [name]}


def test_damaged_content_is_not_processed(box):
    wrong = box.put(b"altered", age=9, Sha256="0" * 64)
    right = box.put(b"whole")
    done = box.swiftq("run", "--once", "--", "cat")
    assert done.stdout == b"whole"
    assert box.where() == {"failed": [wrong], "done": [right]}
    assert "Sha256" in box.container.head("failed/" + wrong)[
        "x-object-meta-swiftq-note"]


def test_content_damaged_on_disk_is_not_processed(box):
    name = box.put(b"as it was received" * 1000)
    # Swift notices only after it has sent all of it.
    path, = [os.path.join(folder, file)
             for folder, _, files in os.walk(f"{box.swift.folder}/devices")
             for file in files if file.endswith(".data")
             and open(os.path.join(folder, file), "rb").read()
             == b"as it was received" * 1000]
    with open(path, "r+b") as file:
        file.write(b"AS")
    done = box.swiftq("run", "--once", "--", "cat")
    assert done.stdout == b""
    assert f"cur/{name} arrives damaged" in done.err


# Copies that are there twice


PAIRS = {
    # Died between copy and delete of a take: never processed.
    "taken": ("cur/", "processing/", "cur"),
    "taken again": ("retry/1000000000.1/", "processing/", "retry"),
    # Died between copy and delete of a finish: it counts.
    "done": ("processing/", "done/", "done"),
    "failed": ("processing/", "failed/", "failed"),
    "to retry": ("processing/", "retry/2000000000.1/", "retry"),
}


@pytest.mark.parametrize("case", PAIRS)
def test_recover_settles_two_copies(box, case):
    source, to, stays = PAIRS[case]
    name = box.put(folder=source)
    box.copy(source + name, to + name)
    event, _ = box.events("recover", "--older-than", "0")
    assert (event["event"], event["name"]) == ("dropped", name)
    assert box.where() == {stays: [name]}


@pytest.mark.parametrize("folder", ["done", "failed"])
def test_take_settles_two_copies(box, folder):
    name = box.put()
    box.copy("cur/" + name, f"{folder}/{name}")
    done = box.swiftq("run", "--once", "--", "cat")
    assert done.stdout == b""
    assert box.where() == {folder: [name]}


def test_two_that_differ_are_left_alone(box):
    name = box.put(b"one", folder="processing/")
    box.put(b"two", folder="done/", name=name)
    event, _ = box.events("recover", "--older-than", "0")
    assert event["event"] == "error" and "differs" in event["reason"]
    box.put(b"three", name=name)
    event, _ = box.events("run", "--once", "--", "cat")
    assert event["event"] == "error" and "differs" in event["reason"]
    assert box.where() == {"cur": [name], "processing": [name],
                           "done": [name]}


# recover and purge


def test_recover_gives_back_what_was_left(box):
    name = box.put()
    box.swiftq("take")
    event, _ = box.events("recover", "--older-than", "1h")
    assert (event["event"], event["reason"]) == ("skipped", "too young")
    assert box.where() == {"processing": [name]}
    event, _ = box.events("recover", "--older-than", "0s")
    assert event["event"] == "recovered"
    assert box.where() == {"cur": [name]}
    assert box.raw("cur/" + name)["X-Object-Meta-Swiftq-Tries"] == "1"
    assert box.raw("cur/" + name)["X-Object-Meta-Envelope-From"] == \
        "from@swift.test"


def test_recover_leaves_a_live_worker_alone(box):
    name = box.put()
    go = box.tmp_path / "go"
    worker = box.start("run", "--once", "--", "sh", "-c",
                       WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    event, _ = box.events("recover", "--older-than", "0")
    assert event["event"] == "skipped" and "locked" in event["reason"]
    assert "a worker has it" in box.swiftq("finish", name, "done",
                                           status=EX_TEMPFAIL).err
    go.touch()
    assert worker.wait() == 0
    assert box.where() == {"done": [name]}


def test_a_command_that_outlives_its_worker_keeps_the_lock(box):
    name = box.put()
    go = box.tmp_path / "go"
    worker = box.start("run", "--once", "--", "sh", "-c",
                       WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    worker.kill()
    worker.join()
    event, _ = box.events("recover", "--older-than", "0")
    assert event["event"] == "skipped" and "locked" in event["reason"]
    go.touch()
    wait_for(lambda: box.events("recover", "--older-than", "0")[0]["event"]
             == "recovered", "the command ended, and with it the lock")
    assert box.where() == {"cur": [name]}


def test_recover_refuses_a_foreign_kind_of_lock(box):
    name = box.put(folder="processing/", Swiftq_Claim="redis-0123456789ab")
    event, _ = box.events("recover", "--older-than", "0")
    assert event["event"] == "skipped" and "redis" in event["reason"]
    assert box.where() == {"processing": [name]}


def test_a_message_that_kills_its_worker_is_given_up(box):
    name = box.put()
    for _ in range(2):
        worker = box.start("run", "--max-tries", "2", "--", "sh", "-c",
                           "kill -9 $PPID")
        assert worker.wait() == -signal.SIGKILL
        wait_for(lambda: box.events("recover", "--older-than", "0")[0][
            "event"] == "recovered", "the message comes back")
    event, _ = box.events("run", "--once", "--max-tries", "2", "--", "cat")
    assert event["event"] == "failed" and "died in try 2" in event["note"]
    assert box.where() == {"failed": [name]}


def test_purge(box):
    old, other = box.put(b"12345", folder="done/"), box.put(folder="failed/")
    box.swiftq("purge", "done", "--older-than", "30d")
    assert box.names("done") == [old]
    event, _ = box.events("purge", "done", "--older-than", "0", "--dry-run")
    assert (event["event"], event["object"]) == ("purged", "done/" + old)
    assert box.names("done") == [old]
    done = box.swiftq("purge", "done", "--older-than", "0")
    assert done.err.endswith("1 purged, 5 bytes\n")
    assert box.where() == {"failed": [other]}


def test_more_than_one_listing(box):
    add_rows(box, [f"done/1000000000.M{i:06d}P1R1.host,S=4"
                   for i in range(10050)])
    *messages, summary = box.events("list", "done")
    assert len({m["name"] for m in messages}) == 10050
    assert summary["done"] == 10050
    *messages, summary = box.events("purge", "done", "--older-than", "0",
                                    "--dry-run")
    assert summary["purged"] == len(messages) == 10050


# The command line


@pytest.mark.parametrize("args", [
    [], ["tidy"], ["list", "new"], ["run"], ["purge", "done"],
    ["recover", "--older-than", "soon"], ["purge", "cur", "--older-than", "1"],
    ["run", "--max-tries", "0", "--", "true"], ["--lock", "flock:", "list"],
    ["--lock", "zookeeper://x", "list"], ["retry"],
    ["retry", "--all-failed", "1.M1P1R1.h,S=1"]])
def test_usage(box, args):
    box.swiftq(*args, status=EX_USAGE)


def test_who_only_looks_needs_no_lock(box):
    name = box.put(b"content", folder="done/")
    for args in (["list"], ["show", name], ["status"],
                 ["find", "--since", "1d"],
                 ["purge", "done", "--older-than", "1d"]):
        box.swiftq(*args, lock="flock:/no/such/folder/locks")
        box.swiftq(*args, lock="redis://127.0.0.1:1/0")
    for args in (["take"], ["finish", name, "done"],
                 ["retry", "--all-failed"], ["run", "--", "true"],
                 ["recover", "--older-than", "0"]):
        box.swiftq(*args, lock="flock:/no/such/folder/locks",
                   status=EX_CANTCREAT)


def test_help_and_version_without_swiftclient(swiftdrop_binary):
    def without(*args, program=(COMMAND[0], "-S", *COMMAND[1:])):
        return subprocess.run([*program, *args], capture_output=True,
                              text=True, timeout=60, cwd=TREE)

    for args in (["--help"], ["run", "--help"]):
        done = without(*args)
        assert done.returncode == 0 and done.stdout.startswith("usage: ")
    done = without("--help")
    assert "exit status:\n  0 " in done.stdout
    assert "examples:\n  swiftq " in done.stdout
    filters = without("--version", program=[swiftdrop_binary])
    done = without("--version")
    assert done.returncode == 0
    # But for the filter's line of its libraries.
    name, _, *rest = filters.stdout.splitlines()
    assert done.stdout.splitlines() == [
        name.replace("swiftdrop", "swiftq"), *rest]
    done = without("list")
    assert done.returncode == EX_UNAVAILABLE
    assert "python3-swiftclient" in done.stderr


def test_manual_page_has_all_that_the_help_has():
    text = (TREE / "doc/swiftq.1").read_text()
    described = text.partition(".Sh DESCRIPTION")[0] + "\n".join(
        re.findall(r"(?m)^\.It Fl .*", text))
    help_ = [run([*command, "--help"]).stdout.decode() for command in (
        [], ["list"], ["status"], ["find"], ["show"], ["take"], ["finish"],
        ["retry"], ["run"], ["recover"], ["purge"])]
    options = set(re.findall(r"(?<=\s)--?([a-z][a-z-]*)", "".join(help_)))
    assert len(options) >= 20
    for option in options - {"h"}:
        dashes = "" if len(option) == 1 else "-"
        assert re.search(rf"Fl {dashes}{option}\b", described), option
    for status in re.findall(r"(?m)^  (\d+) ", help_[0]):
        assert f".It {status}\n" in text, status


def test_list_into_a_closed_pipe(box):
    for _ in range(3):
        box.put()
    shell = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash",
         *COMMAND, *box.argv("list")], capture_output=True, timeout=120,
        cwd=TREE,
        # What it prints is written at once with that, else at the end.
        env={name: value for name, value in os.environ.items()
             if name != "PYTHONUNBUFFERED"})
    assert shell.returncode == 0
    assert b"Traceback" not in shell.stderr


JAPANESE = "\u9001\u4fe1\u8005@example.jp"


def test_a_locale_that_knows_no_japanese(box, tmp_path):
    """In the environment of the command and in the output all is UTF-8."""
    name = box.put(Envelope_From=urllib.parse.quote(JAPANESE))
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0",
           "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(TREE)}
    argv = ["/usr/bin/python3", "-m", "swiftq", *box.argv(
        "run", "--once", "--", "sh", "-c",
        f'printf %s "$SWIFTQ_ENVELOPE_FROM" > {tmp_path}/from')]
    subprocess.run(argv, env=env, check=True, timeout=60)
    assert (tmp_path / "from").read_text("utf-8") == JAPANESE
    shown = subprocess.run(
        ["/usr/bin/python3", "-m", "swiftq", *box.argv("show", name)],
        env=env, check=True, timeout=60, stderr=subprocess.PIPE).stderr
    assert JAPANESE in shown.decode("utf-8")


def test_a_marker_of_a_directory_is_no_message(box):
    box.connection.put_object(box.name, "cur/sub", b"",
                              content_type="application/directory")
    name = box.put()
    box.swiftq("run", "--once", "--", "true")
    assert box.names("cur") == ["sub"]
    assert box.names("done") == [name]
