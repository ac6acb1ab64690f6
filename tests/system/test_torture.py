# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/torture finds in two minutes of it, and that it finds what it is
for."""

import itertools
import pathlib
import subprocess

import pytest

from conftest import TREE
from torture import ledger, mutants, plan, run, world

SEED = 17
MAILS = 120


@pytest.fixture(scope="module")
def around(lab_folder, swiftdrop_binary):
    subprocess.run(["make", "-s", "-C", TREE, "build/failcalls.so",
                    "build/san/swiftdrop"], check=True)
    folder = pathlib.Path(lab_folder, "torture")
    folder.mkdir()
    with world.World(folder, swiftdrop_binary) as made:
        yield made


def renumbered(attempts, first):
    """One world has each number once."""
    for number, attempt in enumerate(attempts, first):
        attempt.number = number
    return attempts


def test_nothing_is_lost_whatever_fails(around, swiftdrop_binary):
    result = run.torture(around, swiftdrop_binary,
                         run.some(plan.batches(SEED), MAILS),
                         TREE / "build/san/swiftdrop")
    print(run.report(result))
    assert result.is_clean
    # It was no idle walk.
    assert result.counts["250"] > MAILS / 4
    assert result.counts["451"] > MAILS / 10
    assert result.counts["forwarded"] > MAILS / 10
    met = {what.split()[1] for what in result.counts if "met: " in what}
    assert {"store", "behind", "client", "call", "rspamd", "token", "spool",
            "clock"} <= met
    assert {"by: TLS", "by: entry postfix", "by: entry socket",
            "by: entry inetd", "by: rspamd asked", "by: sanitized",
            "by: token_file", "by: entry pids", "by: 80 recipients",
            "by: short limit of the session", "by: short limit of the client",
            "by: short limit of the proxy", "by: another login, operator",
            "by: twice in a session", "at: store TCP.accept",
            "at: store TLS.hello", "at: behind content.inside"} <= \
        set(result.counts)


def test_results_are_what_the_runs_say():
    done = subprocess.run([TREE / "tests/torture/report", "--check"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_seed_repeats_the_plan():
    def begin(seed):
        return list(itertools.islice(plan.batches(seed), 20))
    assert begin(7) == begin(7) != begin(8)


@pytest.mark.parametrize("event, those", (
    ("kill filter", {"postfix"}), ("stop spawn", {"postfix"}),
    ("term smtpd", {"postfix", "forward"}),
    ("kill cleanup", {"postfix", "forward"}),
    ("rspamd pause:8", {"rspamd"}), ("swift kill", {"postfix", "rspamd"}),
    ("keystone-swift stop", {"keystone"}), ("keystone kill", {"keystone"})))
def test_an_event_touches_whom_it_can(event, those):
    mails = {"postfix": plan.Attempt(1, 9, "a", entry="postfix"),
             "forward": plan.Attempt(2, 9, "f"),
             "rspamd": plan.Attempt(3, 9, "ab", "tempurl", rspamd="asked"),
             "keystone": plan.Attempt(4, 9, "a", "3")}
    assert {name for name, one in mails.items()
            if one.may_meet(event)} == those


def test_an_event_is_noted_where_it_has_hit(around, tmp_path):
    path = tmp_path / "ledger"
    crowd = run.Crowd(around, ledger.Ledger(path), {})
    crowd._running = {1: plan.Attempt(1, 9, "a", entry="postfix"),
                      2: plan.Attempt(2, 9, "a", rspamd="asked")}
    crowd.meet("kill filter")   # There is none.
    assert not ledger.read(path)
    crowd.meet("rspamd pause:3")
    assert {number: entry.faults for number, entry in
            ledger.read(path).items()} == {2: ["rspamd pause:3"]}


@pytest.mark.parametrize("first, name", enumerate(mutants.MUTANTS))
def test_a_fault_of_the_program_is_found(first, name, around, tmp_path):
    mutant = mutants.MUTANTS[name]
    attempts = renumbered(mutant.attempts(), 10000 + first * 100)
    result = run.torture(around, mutant.build(tmp_path), [(attempts, None)])
    assert any(mutant.text in text for text in result.wrong[mutant.kind]), \
        run.report(result)


def test_the_program_passes_where_its_faults_are_found(around,
                                                       swiftdrop_binary):
    attempts = renumbered(
        [attempt for mutant in mutants.MUTANTS.values()
         for attempt in mutant.attempts()], 20000)
    result = run.torture(around, swiftdrop_binary, [(attempts, None)])
    assert result.is_clean, run.report(result)
