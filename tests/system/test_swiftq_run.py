# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq run: commands, exit statuses, signals, duplicates, faults."""

import os
import signal
import time

import pytest

from swiftq_box import WAIT, events_of, wait_for

EX_USAGE, EX_NOINPUT, EX_OSERR, EX_NOPERM, EX_CONFIG = 64, 66, 71, 77, 78


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
        event, _ = box.events("run", "--once", "--retry-delay", "0", "--",
                              "sh", "-c", "exit 75")
        assert (event["event"], event["tries"]) == ("retry", tries)
        wait_for(lambda: time.time() >= event["due"], "it is due")
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
    go = box.tmp_path / "go"
    worker = box.start("run", "--", "sh", "-c", WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    worker.send_signal(number)
    go.touch()
    assert worker.wait() == 0
    assert box.where() == {"done": [first], "cur": [second]}
    assert events_of(worker)[-1] == {"event": "summary", "done": 1,
                                     "bytes": events_of(worker)[-1]["bytes"]}


def lives(pid):
    """Whether the process runs; nobody may have waited for it yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_second_signal_gives_the_message_back(box):
    name = box.put()
    pid = box.tmp_path / "pid"
    worker = box.start("run", "--", "sh", "-c",
                       'sleep 100 & echo $! > "$0.new"; mv "$0.new" "$0"; '
                       'wait', str(pid))
    wait_for(pid.exists, "the command runs")
    child = int(pid.read_text())
    worker.terminate()
    time.sleep(0.7)     # it looks for signals every half second
    assert lives(child)
    worker.terminate()
    assert worker.wait() == 0
    assert box.where() == {"cur": [name]}
    assert box.raw("cur/" + name)["X-Object-Meta-Swiftq-Tries"] == "0"
    assert events_of(worker)[0]["event"] == "returned"
    # The command's whole process group is gone.
    wait_for(lambda: not lives(child), "the command's child ends")


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


# Faults


def test_a_container_that_vanishes_ends_the_worker(box):
    worker = box.start("run", "--poll", "0.2", "--", "true")
    time.sleep(0.5)
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
    worker = box.start("run", "--", "sh", "-c", WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    box.swift.fault("token:503")
    go.touch()
    wait_for(lambda: "waiting" in [e["event"] for e in events_of(worker)],
             "the worker waits")
    box.swift.fault()
    wait_for(lambda: box.names("done"), "the message is moved to done/")
    worker.terminate()
    assert worker.wait() == 0
    assert box.ran(go).read_text() == "ran\n"
