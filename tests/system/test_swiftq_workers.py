# SPDX-License-Identifier: GPL-3.0-or-later
"""Many workers of swiftq, and how they die."""

import hashlib
import itertools
import os
import random
import signal
import time
from collections import Counter

import pytest

from swiftq_box import events_of, wait_for
from swiftq import faults, store


def at_request(number, before=None, after=None):
    """Makes a worker call before() or after() around its Nth request to
    Swift, whatever comes of it; for start()."""
    def install():
        real, count = store.Store.call, itertools.count(1)

        def call(self, *args, **kwargs):
            hit = next(count) == number
            if hit and before:
                before()
            try:
                return real(self, *args, **kwargs)
            finally:
                if hit and after:
                    after()

        store.Store.call = call
    return install


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def lose_answer():
    with open(os.environ["LOST"], "w"):
        raise faults.Passing("the answer is lost")


@pytest.mark.parametrize("source, status, target", [
    ("cur/", 0, "done"), ("retry/1000000000.1/", 75, "retry")])
def test_a_worker_may_die_at_any_step(box, source, status, target):
    """To die after a request is the same as before the next one, but where
    the command runs between the two."""
    log = box.tmp_path / "ran"
    run = ("run", "--once", "--dedupe", "--", "sh", "-c",
           f'echo $SWIFTQ_NAME >> "$0"; exit {status}', str(log))

    def ran(name):
        return log.exists() and log.read_text().split().count(name)

    def live(step, **moment):
        """A worker dies, another follows: did the command run before?"""
        name = box.put(folder=source, age=100 - step)
        original = box.raw(source + name)
        worker = box.start(*run, before=at_request(step, **moment))
        died = worker.wait() != 0
        ran_before = ran(name)
        if died:
            assert worker.exitcode == -signal.SIGKILL, events_of(worker)
            assert any(name in n for n in box.container.names()), "lost"
            box.swiftq("recover", "--older-than", "0")
            box.swiftq(*run)
        assert box.where() == {target: [name]}
        object_, = box.container.names(target + "/")
        copy = box.raw(object_)
        for key in ("Etag", "X-Object-Meta-Envelope-To"):
            assert copy[key] == original[key]
        assert 1 <= ran(name) <= 2
        box.connection.delete_object(box.name, object_)
        return died, ran_before

    deaths = [live(1, before=die)]
    while deaths[-1][0]:
        deaths.append(live(len(deaths) + 1, before=die))
    # Nothing would be shown if it died nowhere.
    assert len(deaths) >= 10
    last = [ran_before for _, ran_before in deaths].index(True)
    assert live(last, after=die) == (True, False)


def test_any_answer_of_swift_may_be_lost(box, monkeypatch):
    """The request was carried out, and the worker does not know."""
    log, lost = box.tmp_path / "ran", box.tmp_path / "lost"
    monkeypatch.setenv("LOST", str(lost))
    for step in itertools.count(1):
        name = box.put(age=100 - step)
        worker = box.start("run", "--once", "--dedupe", "--", "sh", "-c",
                           'echo $SWIFTQ_NAME >> "$0"', str(log),
                           before=at_request(step, after=lose_answer))
        assert worker.wait() == 0, events_of(worker)
        assert "lost" not in [e["event"] for e in events_of(worker)]
        assert name in box.names("done")
        assert log.read_text().split().count(name) == 1
        if not lost.exists():
            break
        lost.unlink()
    assert step >= 10
    assert list(box.where()) == ["done"]


@pytest.mark.parametrize("kind, messages, workers, kills", [
    ("redis", 60, 5, 5), ("flock", 40, 3, 4)])
def test_workers_are_killed_and_nothing_is_lost(
        box, redis_server, kind, messages, workers, kills):
    seed = random.randrange(2 ** 32)
    print(f"random.seed({seed})")
    random.seed(seed)
    if kind == "redis":
        box.lock = redis_server.url
    contents = {}
    for i in range(messages):
        content = random.randbytes(random.randrange(1, 4000))
        contents[box.put(content, age=messages - i)] = content
    log = box.tmp_path / "ran"
    # It sleeps, so that a kill rather meets a message than an idle worker.
    run = ("--lock-ttl", "4", "run", "--poll", "0.5", "--", "sh", "-c",
           'echo $SWIFTQ_NAME $(sha256sum | cut -c1-64) $WORKER >> "$0"; '
           'sleep 0.1', str(log))

    def tell_pid():
        # Not the command's $PPID: that is 1 once the worker is killed.
        os.environ["WORKER"] = str(os.getpid())

    running = [box.start(*run, before=tell_pid) for _ in range(workers)]
    killed = set()
    # By what is left, not by the clock: fast workers are killed, too.
    # The last one early enough for each worker to have begun.
    for left in sorted(random.sample(range(workers, messages), kills),
                       reverse=True):
        wait_for(lambda: len(box.names("cur")) <= left, f"{left} are left",
                 seconds=400, every_s=0.2)
        victim = running.pop(random.randrange(len(running)))
        victim.kill()
        victim.join()
        killed.add(victim.pid)
        running.append(box.start(*run, before=tell_pid))
        box.swiftq("recover", "--older-than", "0")
    deadline = time.monotonic() + 400   # 4 s on an idle machine
    while len(box.names("done")) < messages:
        assert time.monotonic() < deadline, {
            k: len(v) for k, v in box.where().items()}
        time.sleep(0.5)
        box.swiftq("recover", "--older-than", "0")
    for worker in running:
        worker.terminate()
    assert [worker.wait() for worker in running] == [0] * workers
    # A finish whose delete was cut off.
    wait_for(lambda: "skipped" not in box.swiftq(
        "recover", "--older-than", "0").err, "the dead workers' locks end")

    assert len(killed) == kills
    assert box.where() == {"done": sorted(contents)}
    for entry in box.connection.get_container(
            box.name, prefix="done/", full_listing=True)[1]:
        assert entry["hash"] == hashlib.md5(
            contents[entry["name"][len("done/"):]]).hexdigest()
    runs = [line.split() for line in log.read_text().splitlines()]
    times = Counter(name for name, _, _ in runs)
    assert set(times) == set(contents)
    assert {(name, digest) for name, digest, _ in runs} == {
        (name, hashlib.sha256(content).hexdigest())
        for name, content in contents.items()}
    # Again only what a worker had that was killed.
    for name in times:
        pids = [int(pid) for n, _, pid in runs if n == name]
        assert sum(pid not in killed for pid in pids) <= 1, (name, pids)
    print(f"{messages} messages, {sum(times.values())} runs")
