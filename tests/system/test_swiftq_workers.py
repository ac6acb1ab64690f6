# SPDX-License-Identifier: GPL-3.0-or-later
"""Many workers of examples/swiftq.py, their locks, and how they die."""

import hashlib
import itertools
import os
import random
import signal
import time
from collections import Counter

import pytest
import redis

from lab import process
from swiftq_box import Box, events_of, swiftq, wait_for

EX_UNAVAILABLE = 69


@pytest.fixture
def box(container, ini, tmp_path):
    box = Box(container, ini, tmp_path)
    yield box
    box.close()


class RedisServer:
    """A Redis that keeps nothing: after stop() and start() it is empty."""

    def __init__(self, folder):
        self.port = process.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self._argv = ["redis-server", "--bind", "127.0.0.1",
                      "--port", str(self.port), "--dir", str(folder),
                      "--save", "", "--appendonly", "no"]
        self._log = f"{folder}/redis.log"

    def start(self):
        self._process = process.start(self._argv, self._log)
        process.wait_until(lambda: process.connects(self.port),
                           self._process, "Redis", self._log)

    def stop(self):
        self._process.kill()
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path):
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


# Crashes


def at_request(number, before=None, after=None):
    """Makes a worker call before() or after() around its Nth request to
    Swift, whatever comes of it; for start()."""
    def install():
        real, count = swiftq.Store.call, itertools.count(1)

        def call(store, *args, **kwargs):
            hit = next(count) == number
            if hit and before:
                before()
            try:
                return real(store, *args, **kwargs)
            finally:
                if hit and after:
                    after()

        swiftq.Store.call = call
    return install


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def lose_answer():
    with open(os.environ["LOST"], "w"):
        raise swiftq.Passing("the answer is lost")


@pytest.mark.parametrize("source, status, target", [
    ("cur/", 0, "done"), ("retry/1000000000.1/", 75, "retry")])
def test_a_worker_may_die_at_any_step(box, source, status, target):
    log = box.tmp_path / "ran"
    run = ("run", "--once", "--dedupe", "--", "sh", "-c",
           f'echo $SWIFTQ_NAME >> "$0"; exit {status}', str(log))
    deaths = 0
    for step in itertools.count(1):
        for moment in ("before", "after"):
            name = box.put(folder=source, age=100 - step)
            before = box.raw(source + name)
            worker = box.start(*run, before=at_request(step, **{moment: die}))
            if worker.wait() != 0:
                deaths += 1
                assert worker.exitcode == -signal.SIGKILL, events_of(worker)
                copies = box.container.names()
                assert any(name in n for n in copies), "lost"
                box.swiftq("recover", "--older-than", "0")
                box.swiftq(*run)
            else:
                step = 0        # it got through
            assert box.where() == {target: [name]}
            object_, = box.container.names(target + "/")
            assert box.raw(object_)["Etag"] == before["Etag"]
            assert box.raw(object_)["X-Object-Meta-Envelope-To"] == \
                before["X-Object-Meta-Envelope-To"]
            assert 1 <= log.read_text().split().count(name) <= 2
            box.connection.delete_object(box.name, object_)
        if step == 0:
            break
    # Nothing would be shown if it died nowhere.
    assert deaths >= 20


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
        assert name in box.names("done")
        assert log.read_text().split().count(name) == 1
        if not lost.exists():
            break
        lost.unlink()
    assert step >= 10
    assert list(box.where()) == ["done"]


@pytest.mark.parametrize("kind, messages, workers, kills", [
    ("redis", 500, 8, 12), ("flock", 150, 4, 6)])
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
    run = ("--lock-ttl", "5", "run", "--poll", "0.5", "--", "sh", "-c",
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
                 seconds=400)
        victim = running.pop(random.randrange(len(running)))
        victim.kill()
        victim.join()
        killed.add(victim.pid)
        running.append(box.start(*run, before=tell_pid))
        if random.random() < 0.3:
            box.swiftq("recover", "--older-than", "0")
    deadline = time.monotonic() + 400   # 25 s on an idle machine
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


# Redis


def test_redis_away_for_five_seconds(box, redis_server):
    names = [box.put(age=60 - i) for i in range(24)]
    log = box.tmp_path / "ran"
    workers = [box.start("--lock-ttl", "18", "run", "--", "sh", "-c",
                         'sleep 0.3; echo $SWIFTQ_NAME >> "$0"', str(log),
                         lock=redis_server.url) for _ in range(4)]
    wait_for(lambda: box.names("done"), "the first message")
    redis_server.stop()
    time.sleep(5)
    # Four at a time, 0.4 s each: without Redis they would all be done.
    assert len(box.names("done")) < len(names)
    redis_server.start()
    wait_for(lambda: len(box.names("done")) == 24, "all are done", 120)
    for worker in workers:
        worker.terminate()
    assert [worker.wait() for worker in workers] == [0] * 4
    assert box.where() == {"done": sorted(names)}
    assert sorted(log.read_text().split()) == sorted(names)
    for worker in workers:
        kinds = [e["event"] for e in events_of(worker)]
        assert "waiting" in kinds and "lost" not in kinds


def test_redis_away_for_too_long(box, redis_server):
    """The lock has run out: the command must not go on."""
    name = box.put()
    pid = box.tmp_path / "pid"
    worker = box.start("--lock-ttl", "3", "run", "--", "sh", "-c",
                       'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 99',
                       str(pid), lock=redis_server.url)
    wait_for(pid.exists, "the command runs")
    redis_server.stop()
    wait_for(lambda: "lost" in [e["event"] for e in events_of(worker)],
             "the worker notices")
    assert not os.path.exists(f"/proc/{pid.read_text().strip()}")
    assert worker.exitcode is None
    worker.terminate()
    assert worker.wait() == 0
    assert box.where() == {"processing": [name]}
    done = box.swiftq("recover", "--older-than", "0", lock=redis_server.url,
                      status=EX_UNAVAILABLE)
    assert "Redis" in done.err
    assert box.where() == {"processing": [name]}
    redis_server.start()
    box.swiftq("recover", "--older-than", "0", lock=redis_server.url)
    assert box.where() == {"cur": [name]}


def test_a_lock_that_another_got(box, redis_server):
    name = box.put()
    running = box.tmp_path / "running"
    worker = box.start("--lock-ttl", "2", "run", "--", "sh", "-c",
                       'touch "$0"; exec sleep 99', str(running),
                       lock=redis_server.url)
    wait_for(running.exists, "the command runs")
    key, = redis_server.client.keys()
    assert key.decode() == f"swiftq:/v1/AUTH_test/{box.name}:{name}"
    redis_server.client.set(key, "another's")
    wait_for(lambda: "lost" in [e["event"] for e in events_of(worker)],
             "the worker notices")
    worker.terminate()
    assert worker.wait() == 0
    assert redis_server.client.get(key) == b"another's"
    assert box.where() == {"processing": [name]}


def test_a_message_that_was_given_to_another(box):
    """Its worker lost the lock without noticing; it leaves it alone."""
    name = box.put()
    go = box.tmp_path / "go"
    worker = box.start("run", "--once", "--", "sh", "-c",
                       'while [ ! -e "$0" ]; do sleep 0.1; done', str(go))
    wait_for(lambda: box.names("processing"), "the message is taken")
    box.copy("processing/" + name, "processing/" + name,
             Swiftq_Claim="flock-another")
    go.touch()
    assert worker.wait() == 0
    event = events_of(worker)[0]
    assert event["event"] == "lost" and "another" in event["reason"]
    assert box.where() == {"processing": [name]}


def test_redis_lock_belongs_to_its_owner(redis_server):
    first = swiftq.Redis(redis_server.url, 1.5)
    second = swiftq.Redis(redis_server.url, 30)
    lease = first.lock("key")
    assert second.lock("key") is None
    time.sleep(2)                       # renewed meanwhile
    assert not lease.lost and second.lock("key") is None
    redis_server.client.delete("key")   # as a Redis that was restarted
    wait_for(lambda: redis_server.client.exists("key"), "it is set again")
    redis_server.client.delete("key")
    other = second.lock("key")
    wait_for(lambda: lease.lost, "it is noticed")
    lease.release()
    assert first.lock("key") is None, "released what is another's"
    other.release()
    assert redis_server.client.keys() == []
    lease = first.lock("key")
    lease.release()
    time.sleep(1)
    assert redis_server.client.keys() == [], "renewed after the release"


def test_redis_lock_ends_with_its_owner(redis_server):
    first = swiftq.Redis(redis_server.url, 3)
    first.renew = lambda lease: None    # as if it were dead
    lease = first.lock("key")
    second = swiftq.Redis(redis_server.url, 30)
    assert second.lock("key") is None
    time.sleep(3.2)
    assert lease.lost
    assert second.lock("key") is not None


def test_flock(tmp_path):
    first, second = (swiftq.Flock(str(tmp_path / "locks")) for _ in range(2))
    lease = first.lock("key")
    assert second.lock("key") is None
    other = second.lock("another key")
    lease.release()
    lease = second.lock("key")
    assert first.lock("key") is None
    lease.release()
    other.release()
    assert os.listdir(tmp_path / "locks") == []


def test_flock_of_another_user(tmp_path):
    foreign = "/"
    if os.geteuid() == 0:
        foreign = tmp_path / "locks"
        foreign.mkdir()
        os.chown(foreign, 65534, -1)
    with pytest.raises(swiftq.Problem, match="belongs to user"):
        swiftq.Flock(str(foreign))
    with pytest.raises(swiftq.Problem, match="No such file"):
        swiftq.Flock(str(tmp_path / "no" / "locks"))
