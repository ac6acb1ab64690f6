# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq find: which message somebody asks about."""

import datetime
import os
import pty
import time

import pytest

from swiftq import search, store
from swiftq_box import add_rows, quote, run

EX_USAGE, EX_NOINPUT = 64, 66
ID = "<20261128.7F@mx.example.net>"


def found(box, *args, **kwargs):
    """Folder and name of each that is found."""
    *messages, _ = box.events("find", *args, **kwargs)
    return [(m["folder"], m["name"]) for m in messages]


def nothing(box, *args):
    """Runs a search that finds nothing; returns its summary."""
    *messages, summary, error = box.events("find", *args, status=EX_NOINPUT)
    assert messages == [] and error["reason"] == "no such message"
    return summary


@pytest.mark.parametrize("folder", [
    "cur/", "processing/", "retry/2000000000.3/", "failed/", "done/"])
def test_in_each_folder(box, folder):
    name = box.put(b"one", folder=folder, Message_Id=ID)
    box.put(b"two", Message_Id="<other@mx.example.net>")
    assert found(box, "--message-id", ID) == [(folder.split("/")[0], name)]


ENVELOPE = {
    "Message_Id": "<a%25b@x.example>", "Envelope_From": "Jane@Example.ORG",
    "Envelope_To": quote('"x, y"@swift.test') + ",b@swift.test",
    "Envelope_To_2": "c@swift.test", "Queue_Id": "4XyZ12"}
MATCHES = [
    ["--message-id", "<a%b@x.example>"], ["--message-id", "a%b@x.example"],
    ["--message-id", " <a%b@ x.example> "],
    ["--from", "jane@example.org"], ["--from", "<jane@example.org>"],
    ["--from", "@example.org"], ["--to", '"x, y"@swift.test'],
    ["--to", "B@swift.test"], ["--to", "c@swift.test"],
    ["--to", "@Swift.test"], ["--queue-id", "4XyZ12"],
    ["--from", "@example.org", "--to", "c@swift.test", "--since", "1h"]]
OTHERS = [
    ["--message-id", "A%b@x.example"], ["--message-id", "a%b"],
    ["--from", "ne@example.org"], ["--from", "@ample.org"], ["--from", "<>"],
    ["--from", "example.org"], ["--to", "d@swift.test"],
    ["--to", "jane@example.org"], ["--queue-id", "4xyz12"],
    ["--from", "@example.org", "--to", "d@swift.test"]]


@pytest.mark.parametrize("args", MATCHES, ids=" ".join)
def test_it_is_this_one(box, args):
    name = box.put(**ENVELOPE)
    assert found(box, *args) == [("cur", name)]


@pytest.mark.parametrize("args", OTHERS, ids=" ".join)
def test_it_is_another(box, args):
    box.put(**ENVELOPE)
    assert nothing(box, *args)["unknown"] == 0


def test_the_null_reverse_path(box):
    box.put(**ENVELOPE)
    bounce = box.put(headers={"X-Object-Meta-Envelope-From": ""})
    assert found(box, "--from", "<>") == [("cur", bounce)]


def test_since(box):
    day = 86400
    old = box.put(age=9 * day, folder="done/")
    new = box.put(age=2 * day, folder="done/")
    waiting = box.put(age=2 * day, folder="retry/1000000000.1/")
    box.put(age=9 * day, folder="retry/2000000000.1/")
    foreign = box.put(name="zz.eml")        # nobody knows when
    late = {("done", new), ("retry", waiting), ("cur", foreign)}
    assert set(found(box, "--since", "3d")) == late
    date = datetime.datetime.now() - datetime.timedelta(days=3)
    for text in (date.isoformat("T", "minutes"), date.date().isoformat()):
        assert set(found(box, "--since", text)) == late
    assert ("done", old) in found(box, "--since", "10d")


def test_since_asks_for_nothing_older(box, monkeypatch):
    """What is older is not even listed."""
    add_rows(box, [f"done/{1000000000 + i}.M000001P1R1.host,S=4"
                   for i in range(300)])
    name = box.put(Message_Id=ID)
    pages, listed = store.Store.pages, box.tmp_path / "listed"

    def counted(self, *args, **kwargs):
        for now, page in pages(self, *args, **kwargs):
            with open(listed, "a") as file:
                file.write(f"{len(page)}\n")
            yield now, page

    monkeypatch.setattr(store.Store, "pages", counted)
    *_, summary = box.events("find", "--since", "1h", "--message-id", ID)
    assert (summary["found"], summary["searched"]) == (1, 1)
    assert listed.read_text() == "1\n"
    # All of them are gone when they are asked for.
    assert found(box, "--message-id", ID) == [("cur", name)]


def test_text_finds_what_metadata_lacks(box):
    header = (b"Received: from x by y\r\n\tid 4Old1; Sat, 28 Nov 2026\r\n"
              b"From: Jane Doe\r\n <jane@example.org>\r\n"
              b"To: \"x, y\"@swift.test,\r\n Bob <bob@swift.test>\r\n"
              b"Message-ID:\r\n " + ID.encode() + b"\r\n\r\n")
    with_none = box.put(header + b"text", headers={})
    bare = {"Content-Type": "message/rfc822"}
    box.connection.delete_object(box.name, "cur/" + with_none)
    box.connection.put_object(box.name, "cur/" + with_none, header + b"text",
                              headers=bare)
    # In a text nothing of this counts.
    box.connection.put_object(
        box.name, "cur/1000000001.M1P1R2.host,S=1",
        b"Subject: fwd\r\n\r\n" + header, headers=bare)
    box.connection.put_object(box.name, "cur/1000000002.M1P1R3.host,S=0", b"",
                              headers=bare)
    for args in (["--message-id", ID], ["--from", "jane@example.org"],
                 ["--to", "bob@swift.test"], ["--to", '"x, y"@swift.test'],
                 ["--queue-id", "4Old1"]):
        assert found(box, *args, "--text") == [("cur", with_none)]
        assert nothing(box, *args)["unknown"] == 3
    assert nothing(box, "--queue-id", "4Old", "--text")["unknown"] == 0


def test_text_is_asked_only_for_what_metadata_lacks(box):
    """Metadata counts where there is any: this header is a forged one."""
    content = b"Message-ID: " + ID.encode() + b"\r\n\r\n"
    box.put(content, Message_Id="<true@mx.example.net>")
    without = box.put(content + b"x")
    assert found(box, "--message-id", ID, "--text") == [("cur", without)]
    # Also where the header is read for something else.
    both = box.put(b"Received: by x id 4Old1\r\n" + content,
                   Message_Id="<both@mx.example.net>", Queue_Id="")
    assert found(box, "--message-id", "both@mx.example.net", "--queue-id",
                 "4Old1", "--text") == [("cur", both)]


def test_recipients_that_did_not_fit(box):
    name = box.put(b"To: far@swift.test\r\n\r\n", Envelope_Truncated="yes")
    assert nothing(box, "--to", "far@swift.test")["unknown"] == 1
    assert found(box, "--to", "far@swift.test", "--text") == [("cur", name)]


def test_text_form(box):
    name = box.put(b"Subject: x\r\n\r\n", folder="failed/", Message_Id=ID,
                   Swiftq_Note="exit%20status%201")
    done = box.swiftq("find", "--to", "a@swift.test")
    assert done.stdout.decode() == (
        f"failed/{name} from=<from@swift.test>, to=<a@swift.test>, "
        f"message-id={ID}, queue-id=4XyZ, note=exit status 1\n")
    assert done.err == "1 found, 1 looked at\n"
    done = box.swiftq("find", "--message-id", "x@y", status=EX_NOINPUT)
    assert "0 found, 1 looked at\nswiftq: no such message\n" in done.err
    box.put()
    done = box.swiftq("find", "--message-id", "x@y", status=EX_NOINPUT)
    assert "1 without that metadata: --text reads them\n" in done.err


def test_what_moves_meanwhile_is_found_once(box, monkeypatch):
    """Forward, into a folder that comes later, and back to one that was."""
    forward, back = box.put(age=9), box.put(folder="failed/", age=8)
    moves = {f"cur/{forward}": f"done/{forward}",
             f"failed/{back}": f"cur/{back}"}
    head = store.Store.head

    def moved_first(self, place):
        if place.object in moves:
            to = moves.pop(place.object)
            box.copy(place.object, to)
            self.delete(place.object)
        return head(self, place)

    monkeypatch.setattr(store.Store, "head", moved_first)
    assert found(box, "--since", "1h") == [("done", forward), ("cur", back)]


def test_many_in_order_and_no_more_at_a_time_than_allowed(box, monkeypatch):
    names = [box.put(b"x", age=100 - i) for i in range(60)]
    monkeypatch.setattr(search, "THREADS", 3)
    head, now, most = store.Store.head, [], box.tmp_path / "most"

    def counted(self, place):
        now.append(place)
        with open(most, "a") as file:
            file.write(f"{len(now)}\n")
        try:
            return head(self, place)
        finally:
            now.remove(place)

    monkeypatch.setattr(store.Store, "head", counted)
    assert found(box, "--from", "from@swift.test") == [
        ("cur", name) for name in names]
    assert max(map(int, most.read_text().split())) == 3


def test_a_fault_ends_it(box, monkeypatch):
    """Also one that a thread meets, when it was all well for the listing."""
    for _ in range(3):
        box.put()
    head = store.Store.head

    def failing(self, place):
        box.swift.fault("token:503")
        return head(self, place)

    monkeypatch.setattr(store.Store, "head", failing)
    done = box.swiftq("find", "--since", "1h", status=69,
                      ini=box.config("once.ini", retries="0"))
    assert "503" in done.err and done.stdout == b""


def test_progress_on_a_terminal(box):
    for _ in range(3):
        box.put()
    ours, theirs = pty.openpty()
    with open(theirs, "wb") as terminal, \
            open(box.tmp_path / "out", "w+b") as out:
        process = box.process("find", "--to", "a@swift.test", out=out,
                              err=terminal)
        assert process.wait() == 0
        shown = os.read(ours, 65536).decode()
        os.close(ours)
        out.seek(0)
        assert len(out.read().splitlines()) == 3
    assert "1 looked at, 1 found, in cur/\033[K" in shown
    # Nothing of it stays.
    assert shown.endswith("\r\033[K3 found, 3 looked at\r\n")


def test_no_progress_elsewhere(box):
    box.put()
    assert "\r" not in box.swiftq("find", "--since", "1h").err


@pytest.mark.parametrize("args", [
    [], ["--text"], ["--since", "soon"], ["--since", "2026-13-01"]])
def test_usage(box, args):
    box.swiftq("find", *args, status=EX_USAGE)


def test_keystone(keystone_container, ini):
    """The threads share one token."""
    from swiftq import queue, config, report
    from swiftq.message import Layout
    path = ini({"box": {"recipients": "*", **keystone_container.options()}})
    account = config.load(path, None, {})
    first = store.Store(account)
    made = search.Search(queue.Queue(first, None, Layout("cur/"),
                                     report.Report(False)), {}, 0, False)
    assert len(made.stores) == search.THREADS
    assert {twin.connection.token for twin in made.stores} == {
        first.connection.token}
    keystone_container.put("cur/1000000000.M1P1R1.h,S=1", b"x")
    done = run(["-c", path, "find", "--since", str(int(time.time()))])
    assert done.err == "1 found, 1 looked at\n"
