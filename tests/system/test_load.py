# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make load` does, in small: mails on many sessions at once, and what
became of each; that what is wrong with one of them is found."""

import collections
import contextlib
import dataclasses
import functools
import json
import pathlib
import shutil
import subprocess
import threading

import pytest

from conftest import TREE
from lab import floods
from load import account, sender, servers, watch

MAILS, SESSIONS = 300, 20


@pytest.fixture(scope="module")
def folder(lab_folder):
    path = pathlib.Path(lab_folder, "load")
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def front(folder, swiftdrop_binary):
    """A Postfix, which stores where a test says."""
    with contextlib.closing(servers.Spawned(folder, swiftdrop_binary)) as made:
        made.start()
        yield made


@contextlib.contextmanager
def stores_in(front, folder, *options):
    """A store of its own."""
    store = servers.Store(folder, *options)
    front.configure(store.account)
    with contextlib.closing(store):
        store.start()
        yield store


def sent(front, folder, mails, sessions):
    """A sender that has sent its mails."""
    made = sender.Sender(front.connect(), servers.RECIPIENT,
                         folder / "ledger", sessions, each=5)
    made.run(sender.mixed(mails))
    assert (made.stored, made.said) == (mails, {})
    return made.mails


def test_each_mail_is_stored_once(front, tmp_path):
    with stores_in(front, tmp_path) as store:
        before, of_store = front.state(), store.descriptors()
        with watch.Watch(front.filters, 0.05) as seen:
            mails = sent(front, tmp_path, MAILS, SESSIONS)
        assert account.settle(mails, store.kept()) == account.Account()
        assert 1 <= seen.most <= SESSIONS
        # The session's own memory, not the mail's: 2 MB are among them.
        assert 0 < seen.peak_kib < 16 << 10
        after = front.state()
        assert (after["left"], before["left"]) == ([], [])
        assert after["descriptors"] == before["descriptors"]
        assert store.descriptors() == of_store


@pytest.mark.parametrize("fault, found", [
    ("lose", "lost"), ("damage", "damaged"), ("twice", "twice")])
def test_what_a_store_does_wrong_once_is_found(fault, found, front, tmp_path):
    with stores_in(front, tmp_path, "-f", fault) as store:
        mails = sent(front, tmp_path, 20, 5)
        wrong = dataclasses.asdict(account.settle(mails, store.kept()))
    assert len(wrong.pop(found)) == 1
    assert not any(wrong.values())


LONG = "552 5.3.4 Message size exceeds fixed limit"


@pytest.mark.parametrize("flood, told", [
    (functools.partial(floods.line, size=60_000_000),
     {"500 5.5.2 Error: line too long", LONG}),
    (functools.partial(floods.header, size=20_000_000),
     {"250 2.0.0 Ok: stored as ..."}),
    (floods.recipients,
     {"452 4.5.3 Error: too many recipients", "250 2.0.0 Ok: stored as ..."}),
], ids=["line", "header", "recipients"])
def test_others_are_served_beside_a_flood_of_swiftdrop_itself(
        flood, told, front, tmp_path):
    """Postfix shields it from these; test_floods.py has Postfix."""
    with stores_in(front, tmp_path) as store:
        seen = collections.Counter()
        attack = threading.Thread(
            target=lambda: seen.update(flood(front.direct, 1)))
        attack.start()
        with watch.Watch(front.filters, 0.02) as watched:
            mails = sent(front, tmp_path, 20, 2)
            attack.join()
        kept = store.kept()
        assert all(mail.name in kept for mail in mails)
        assert told <= set(floods.short(seen)), seen
        assert 0 < watched.peak_kib < 16 << 10
        assert front.state()["left"] == []


@pytest.fixture
def bench(tmp_path):
    """A copy of bench/, and what bench/load --check says of it."""
    shutil.copytree(TREE / "bench", tmp_path / "bench")
    (tmp_path / "tests").symlink_to(TREE / "tests")

    def check():
        done = subprocess.run([tmp_path / "bench/load", "--check"],
                              stdout=subprocess.PIPE, text=True)
        return done.returncode, done.stdout.splitlines()

    return tmp_path / "bench", check


def test_text_says_what_was_measured(bench):
    """LOAD.md, and a number that nobody measured."""
    folder, check = bench
    path = folder / "LOAD.md"
    assert check()[0] == 0
    path.write_text(path.read_text().replace("10 MB", "11 MB"))
    assert check() == (1, [f"{path} is not what bench/load writes"])


def test_what_is_wrong_in_a_row_is_found(bench):
    """Each a row that was measured, and one thing of it changed."""
    folder, check = bench
    rows = json.loads((folder / "load.json").read_text())
    said = []

    def change(name, what, **changed):
        for key, value in changed.items():
            if isinstance(value, dict):
                rows[name][key].update(value)
            else:
                rows[name][key] = value
        said.append(f"{name}: {what}")

    def grown(name, kib):
        return {"kib": rows[name]["before"]["kib"] + kib}

    for name, what in zip(list(rows), ("lost", "refused", "damaged")):
        change(name, what, **{what: 1})
    change("Postfix, spawn(8)", "strange, twice", strange=1, twice=1)
    change("Postfix: none", "left", after={"left": ["filter"]})
    change("spawn: none", "descriptors", after={"descriptors": 130})
    for name, most in (("spawn: 500 idle clients", 128),
                       ("systemd: none", 4096)):
        change(name, "kib", after=grown(name, most + 1))
    for name, most in (("spawn: a line of 100 MB, 4 clients", 128),
                       ("Postfix, systemd", 4096)):
        rows[name]["after"].update(grown(name, most))
    change("systemd: a line of 100 MB, 4 clients", "nobody served", stored=2)
    change("systemd: 500 idle clients", "nobody served", seconds=34.1)
    change("Postfix: 500 idle clients", "nobody served", stored=0)
    (folder / "load.json").write_text(json.dumps(rows))
    code, found = check()
    assert code == 1
    assert found.pop() == f"{folder}/LOAD.md is not what bench/load writes"
    assert sorted(found) == sorted(said)
