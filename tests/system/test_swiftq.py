# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/swiftq.py, command by command, on a real Swift."""

import os
import signal
import subprocess
import time

import pytest

from swiftq_box import SWIFTQ, Box, events_of, quote, wait_for

EX_USAGE, EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE = 64, 65, 66, 69
EX_OSERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = 71, 75, 77, 78


@pytest.fixture
def box(container, ini, tmp_path):
    box = Box(container, ini, tmp_path)
    yield box
    box.close()


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
    name = box.put(content, Envelope_From="",
                   Envelope_To=quote(to[0]) + "," + quote(to[1]),
                   Envelope_To_2=quote(to[2]), Client_Helo="a%20b%E9")
    done = box.swiftq("show", name)
    assert done.stdout == content
    assert "envelope_to: " + ", ".join(to) in done.err
    envelope, = box.events("show", name, "--output",
                           str(box.tmp_path / "content"))
    assert (box.tmp_path / "content").read_bytes() == content
    assert envelope["envelope_to"] == to
    assert envelope["envelope_from"] == ""
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


# run


def test_run_gives_content_and_envelope_to_the_command(box):
    content = b"Subject: x\r\n\r\n.\r\n\x00\xff"
    box.put(content, Envelope_From="%C3%A4@swift.test",
            Envelope_To="%22a%2Cb%22@swift.test,c@swift.test",
            Client_Addr="192.0.2.1", Client_Helo="%FF%0Ax")
    out = box.tmp_path / "out"
    box.swiftq("run", "--once", "--", "sh", "-c",
               'cat > "$0"; env -0 > "$0.env"', str(out),
               env={**os.environ, "MINE": "kept"})
    assert out.read_bytes() == content
    env = dict(line.split(b"=", 1) for line in
               (box.tmp_path / "out.env").read_bytes().split(b"\0") if line)
    name, = box.names("done")
    assert env[b"SWIFTQ_NAME"] == name.encode()
    assert env[b"SWIFTQ_OBJECT"] == b"processing/" + name.encode()
    assert env[b"SWIFTQ_CONTAINER"] == box.name.encode()
    assert env[b"SWIFTQ_ENVELOPE_FROM"] == "ä@swift.test".encode()
    assert env[b"SWIFTQ_ENVELOPE_TO"] == b'"a,b"@swift.test\nc@swift.test'
    assert env[b"SWIFTQ_CLIENT_ADDR"] == b"192.0.2.1"
    assert env[b"SWIFTQ_CLIENT_HELO"] == b"\xff\nx"
    assert env[b"SWIFTQ_QUEUE_ID"] == b"4XyZ"
    assert env[b"SWIFTQ_TRIES"] == b"1"
    assert env[b"MINE"] == b"kept"


def test_exit_status_decides(box):
    names = [box.put(text, age=30 - i) for i, text in enumerate(
        [b"exit 0", b"exit 75", b"exit 3", b"kill -9 $$"])]
    *events, summary = box.events("run", "--once", "--", "sh")
    assert [(e["event"], e["name"], e["exit_status"], e["note"])
            for e in events] == [
        ("done", names[0], 0, ""),
        ("retry", names[1], 75, "exit status 75"),
        ("failed", names[2], 3, "exit status 3"),
        ("failed", names[3], -9, "killed by signal 9")]
    assert summary["done"] == summary["retry"] == 1
    assert summary["failed"] == 2
    assert box.where() == {"done": names[:1], "retry": names[1:2],
                           "failed": sorted(names[2:])}


def test_retry_is_delayed_more_and_more_and_then_given_up(box):
    name = box.put()
    delays = []
    for tries in (1, 2):
        event, _ = box.events("run", "--once", "--max-tries", "3", "--",
                              "sh", "-c", "exit 75")
        assert (event["event"], event["tries"]) == ("retry", tries)
        delays.append(event["due"] - time.time())
        # Not due yet: nothing happens.
        assert box.events("run", "--once", "--", "true") == [
            {"event": "summary", "bytes": 0}]
        object_, = box.container.names("retry/")
        box.copy(object_, f"retry/1000000000.{tries}/{name}")
        box.connection.delete_object(box.name, object_)
    assert 50 <= delays[0] <= 70 and 105 <= delays[1] <= 135
    event, _ = box.events("run", "--once", "--max-tries", "3", "--",
                          "sh", "-c", "exit 75")
    assert (event["event"], event["note"]) == ("failed",
                                               "gave up after 3 tries")
    assert box.where() == {"failed": [name]}


def test_tries_are_counted_where_metadata_has_no_room(box):
    # Of Swift's limits, 4096 bytes and 90 items, the items: ext4 takes little
    # more than half of those bytes, so it is the items here.
    full = {f"{i:02d}": "x" for i in range(90 - 6)}
    name = box.put(Fingerprint="x", **full)
    for tries in (1, 2):
        event, _ = box.events("run", "--once", "--retry-delay", "1", "--",
                              "sh", "-c", "exit 75")
        assert (event["event"], event["tries"]) == ("retry", tries)
        wait_for(lambda: time.time() > event["due"] + 1, "it is due")
        raw = box.raw(f"retry/{event['due']}.{tries}/{name}")
        assert "X-Object-Meta-Swiftq-Tries" not in raw
        assert raw["X-Object-Meta-83"] == "x"
    box.swiftq("run", "--once", "--max-tries", "3", "--", "true")
    assert box.where() == {"done": [name]}


def test_a_command_that_is_not_there_takes_nothing(box):
    name = box.put()
    assert "no such command" in box.swiftq(
        "run", "--once", "--", "/no/such/command", status=EX_USAGE).err
    assert box.where() == {"cur": [name]}


def test_a_command_that_cannot_run_leaves_the_message(box):
    name = box.put()
    bad = box.tmp_path / "bad"
    bad.write_text("#!/no/such/interpreter\n")
    bad.chmod(0o755)
    done = box.swiftq("run", "--once", "--", str(bad), status=EX_OSERR)
    assert "is back in cur/" in done.err
    assert box.where() == {"cur": [name]}
    assert box.raw("cur/" + name)["X-Object-Meta-Swiftq-Tries"] == "0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_lets_the_message_be_finished(box, number):
    first, second = box.put(age=9), box.put()
    worker = box.start("run", "--", "sh", "-c", "sleep 1.5; exit 0")
    wait_for(lambda: box.names("processing"), "the first message is taken")
    worker.send_signal(number)
    assert worker.wait() == 0
    assert box.where() == {"done": [first], "cur": [second]}
    assert events_of(worker)[-1] == {"event": "summary", "done": 1,
                                     "bytes": events_of(worker)[-1]["bytes"]}


def test_second_signal_gives_the_message_back(box):
    name = box.put()
    pid = box.tmp_path / "pid"
    worker = box.start("run", "--", "sh", "-c",
                       'sleep 100 & echo $! > "$0.new"; mv "$0.new" "$0"; '
                       'wait', str(pid))
    wait_for(pid.exists, "the command runs")
    worker.terminate()
    time.sleep(0.7)
    assert worker.exitcode is None
    worker.terminate()
    assert worker.wait() == 0
    assert box.where() == {"cur": [name]}
    assert box.raw("cur/" + name)["X-Object-Meta-Swiftq-Tries"] == "0"
    assert events_of(worker)[0]["event"] == "returned"
    # The command's whole process group is gone.
    wait_for(lambda: not os.path.exists(f"/proc/{pid.read_text().strip()}"),
             "the command's child ends")


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
                       'while [ ! -e "$0" ]; do sleep 0.1; done', str(go))
    wait_for(lambda: box.names("processing"), "the message is taken")
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
                       'touch "$0.ran"; while [ ! -e "$0" ]; do '
                       'sleep 0.1; done', str(go))
    wait_for((box.tmp_path / "go.ran").exists, "the command runs")
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


def add_rows(box, names):
    """Puts names into the container's listing that have no object: what a
    listing that lags behind shows, and a long one quickly made."""
    from swift.common.utils import Timestamp
    from swift.container.backend import ContainerBroker
    paths = [os.path.join(folder, file)
             for folder, _, files in os.walk(f"{box.swift.folder}/devices")
             for file in files
             if file.endswith(".db") and "/containers/" in folder]
    brokers = [ContainerBroker(path) for path in paths]
    broker, = [b for b in brokers if b.get_info()["container"] == box.name]
    now = Timestamp.now().internal
    broker.merge_items([
        {"name": name, "created_at": now, "size": 4, "deleted": 0,
         "content_type": "message/rfc822", "etag": "0" * 32,
         "storage_policy_index": 0} for name in names])


# --dedupe


def test_dedupe_processes_equal_deliveries_once(box):
    same = {"Fingerprint": "ab" * 32}
    first = box.put(b"one", age=9, **same)
    again = box.put(b"two", **same)
    other = box.put(b"three")
    done = box.swiftq("run", "--once", "--dedupe", "--", "cat")
    assert done.stdout == b"onethree"
    assert box.where() == {"done": sorted([first, again, other])}
    assert box.container.head("done/" + again)[
        "x-object-meta-swiftq-note"] == f"duplicate of {first}"
    third = box.put(b"four", **same)
    event, _ = box.events("run", "--once", "--dedupe", "--", "cat")
    assert (event["event"], event["name"], event["duplicate_of"]) == (
        "duplicate", third, first)
    assert int(box.raw("fingerprints/" + "ab" * 32)["X-Delete-At"]) > \
        time.time() + 29 * 86400


def test_without_dedupe_all_are_processed(box):
    for text in (b"one", b"two"):
        box.put(text, Fingerprint="ab" * 32)
    assert len(box.swiftq("run", "--once", "--", "cat").stdout) == 6
    assert box.container.names("fingerprints/") == []


def test_what_failed_is_no_reason_to_drop_a_second_delivery(box):
    failed = box.put(b"exit 1", age=9, Fingerprint="ab" * 32)
    second = box.put(b"exit 0", Fingerprint="ab" * 32)
    box.swiftq("run", "--once", "--dedupe", "--", "sh")
    assert box.where() == {"failed": [failed], "done": [second]}


def test_dedupe_by_hand(box):
    first = box.put(b"one", age=9, Fingerprint="ab" * 32)
    second = box.put(b"two", Fingerprint="ab" * 32)
    box.swiftq("take", "--dedupe")
    box.swiftq("finish", first, "done", "--dedupe")
    box.swiftq("take", "--dedupe", status=EX_NOINPUT)
    assert box.where() == {"done": sorted([first, second])}


# Configuration


def test_one_account_of_several(box, ini):
    config = ini({"DEFAULT": box.container.options(),
                  "SMTP": {"hostname": "x"},
                  "one": {"recipients": "a@b", "container": "none"},
                  "two": {"recipients": "c@d"}}, "several.ini")
    assert "one, two" in box.swiftq("list", ini=config, status=EX_USAGE).err
    assert "no account [TWO]" in box.swiftq(
        "list", "--account", "TWO", ini=config, status=EX_USAGE).err
    box.swiftq("list", "--account", "two", ini=config)
    assert "no container none" in box.swiftq(
        "--account", "one", "list", ini=config, status=EX_CONFIG).err


def test_secrets_in_files(box, ini):
    options = box.container.options()
    key = options.pop("key")
    (box.tmp_path / "key").write_text(key + "\n")
    config = ini({"DEFAULT": {**options, "key": "wrong"},
                  "box": {"recipients": "*", "key_file": "key"}}, "file.ini")
    box.swiftq("list", ini=config)
    credentials = box.tmp_path / "credentials"
    credentials.mkdir()
    environ = {**os.environ, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert "credentials/key: No such file" in box.swiftq(
        "list", ini=config, env=environ, status=EX_CONFIG).err
    (credentials / "key").write_text(key)
    box.swiftq("list", ini=config, env=environ)
    config = ini({"box": {**options, "key": key, "key_file": "key"}},
                 "both.ini")
    assert "both key and key_file" in box.swiftq(
        "list", ini=config, status=EX_CONFIG).err


def test_environment_beats_the_file(box, ini):
    config = ini({"BOX": {"recipients": "*", **box.container.options(),
                          "key": "wrong"}}, "wrong.ini")
    box.swiftq("list", ini=config, status=EX_NOPERM)
    box.swiftq("list", ini=config, env={
        **os.environ, "SWIFTDROP_BOX_KEY": box.swift.key,
        "SWIFTDROP_SERVICE_PORT": "25", "SWIFTDROP_PORT_25_TCP": "tcp://x"})


@pytest.mark.parametrize("options, reason", [
    ({"auth_version": "tempurl"}, "neither list nor move"),
    ({"authurl": ""}, "authurl"),
    ({"container": ""}, "container is missing"),
    ({"timeout": "soon"}, "bad value"),
    ({"insecure": "perhaps"}, "bad value"),
    ({"key_file": "nowhere", "key": ""}, "both key"),
])
def test_configuration_that_cannot_work(box, ini, options, reason):
    config = ini({"box": {"recipients": "*", **box.container.options(),
                          **options}}, "bad.ini")
    assert reason in box.swiftq("list", ini=config, status=EX_CONFIG).err


def test_configuration_file_that_is_none(box, tmp_path):
    assert "No such file" in box.swiftq("list", ini="/no/such.ini",
                                        status=EX_CONFIG).err
    (tmp_path / "no.ini").write_text("[box]\nrecipients = a\n  [b\n[box]\n")
    assert "already exists" in box.swiftq(
        "list", ini=str(tmp_path / "no.ini"), status=EX_CONFIG).err


@pytest.mark.parametrize("args", [
    [], ["tidy"], ["list", "new"], ["run"], ["purge", "done"],
    ["recover", "--older-than", "soon"], ["purge", "cur", "--older-than", "1"],
    ["run", "--max-tries", "0", "--", "true"], ["--lock", "flock:", "list"],
    ["--lock", "zookeeper://x", "list"]])
def test_usage(box, args):
    box.swiftq(*args, status=EX_USAGE)


def test_keystone(keystone_container, ini, tmp_path):
    box = Box(keystone_container, ini, tmp_path)
    name = box.put(b"by password")
    assert box.swiftq("take").stdout == b"by password"
    options = box.container.options()
    credential = box.swift.keystone.application_credential_options()
    config = ini({"box": {"authurl": options["authurl"],
                          "container": box.name, **credential}}, "ac.ini")
    box.swiftq("finish", name, "done", ini=config)
    assert box.where() == {"done": [name]}
    by_default = {k: v for k, v in options.items() if "domain" not in k}
    box.swiftq("list", ini=ini({"box": by_default}, "domain.ini"))
    config = ini({"box": {**options, "key": "wrong"}}, "wrong.ini")
    assert "Keystone" in box.swiftq("list", ini=config, status=EX_NOPERM).err
    config = ini({"box": {**options, "os_options_region_name": "None"}},
                 "region.ini")
    assert "not found" in box.swiftq(
        "list", ini=config, status=EX_CONFIG).err


def test_tls(tls_container, ini, tmp_path):
    box = Box(tls_container, ini, tmp_path)
    name = box.put(b"by TLS")
    assert box.swiftq("take").stdout == b"by TLS"
    box.swiftq("finish", name, "done")
    options = box.container.options()
    del options["cacert"]
    config = ini({"box": {**options, "retries": "0"}}, "stranger.ini")
    assert "certificate" in box.swiftq("list", ini=config,
                                       status=EX_UNAVAILABLE).err
    options["insecure"] = "yes"
    box.swiftq("list", ini=ini({"box": options}, "insecure.ini"))
    box.connection.head_account()
    options["os_options_object_storage_url"] = \
        box.connection.url.replace("https:", "http:")
    assert "not https as authurl" in box.swiftq(
        "list", ini=ini({"box": options}, "plain.ini"), status=EX_CONFIG).err


# Faults


def test_a_container_that_vanishes_ends_the_worker(box):
    worker = box.start("run", "--poll", "0.2", "--", "true")
    time.sleep(1.5)
    assert worker.exitcode is None
    box.connection.delete_container(box.name)
    assert worker.wait() == EX_CONFIG
    assert events_of(worker)[-1]["reason"] == \
        f"there is no container {box.name}"


def test_expired_token_and_swift_away_for_a_while(box):
    worker = box.start("run", "--poll", "0.2", "--", "true")
    box.put()
    wait_for(lambda: events_of(worker), "the first message is finished")
    # tempauth's tokens are in the proxy's memory: the worker's is refused
    # with 401 afterwards.
    box.swift.go_down()
    wait_for(lambda: "waiting" in [e["event"] for e in events_of(worker)],
             "the worker waits")
    box.swift.start()
    box.connection = box.swift.connection()
    box.put()
    wait_for(lambda: len(box.names("done")) == 2, "the second message")
    worker.terminate()
    assert worker.wait() == 0
    assert [e["event"] for e in events_of(worker)] == [
        "done", "waiting", "resumed", "done", "summary"], events_of(worker)


def test_credentials_refused_end_the_worker(box):
    box.swift.fault("token:401")
    worker = box.start("run", "--", "true")
    assert worker.wait() == EX_NOPERM, events_of(worker)
    assert "401" in events_of(worker)[-1]["reason"]


def test_a_message_is_done_though_swift_fails_when_it_ends(box):
    box.put()
    go = box.tmp_path / "go"
    worker = box.start("run", "--", "sh", "-c",
                       'echo >> "$0.ran"; while [ ! -e "$0" ]; do '
                       'sleep 0.1; done', str(go))
    wait_for((box.tmp_path / "go.ran").exists, "the command runs")
    box.swift.fault("token:503")
    go.touch()
    wait_for(lambda: "waiting" in [e["event"] for e in events_of(worker)],
             "the worker waits")
    box.swift.fault()
    wait_for(lambda: box.names("done"), "the message is moved to done/")
    worker.terminate()
    assert worker.wait() == 0
    assert (box.tmp_path / "go.ran").read_text() == "\n"


def test_list_into_a_closed_pipe(box):
    for _ in range(3):
        box.put()
    shell = subprocess.run(
        ["bash", "-c", '"$@" | true; exit ${PIPESTATUS[0]}', "bash", SWIFTQ,
         *box.argv("list")], capture_output=True, timeout=120,
        # What it prints is written at once with that, else at the end.
        env={name: value for name, value in os.environ.items()
             if name != "PYTHONUNBUFFERED"})
    assert shell.returncode == 0
    assert b"Traceback" not in shell.stderr
