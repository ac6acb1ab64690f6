# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks of swiftq's workers: flock and Redis, and when one is lost."""

import os
import time

import pytest

from swiftq_box import WAIT, events_of, wait_for
from swiftq import faults, lock

EX_UNAVAILABLE = 69


def test_redis_away_for_a_while(box, redis_server):
    names = [box.put(age=60 - i) for i in range(16)]
    log = box.tmp_path / "ran"
    workers = [box.start("--lock-ttl", "9", "run", "--", "sh", "-c",
                         'sleep 0.3; echo $SWIFTQ_NAME >> "$0"', str(log),
                         lock=redis_server.url) for _ in range(4)]
    wait_for(lambda: box.names("done"), "the first message")
    redis_server.stop()
    # Each can end what it has, and can take nothing: 16 would else be done.
    wait_for(lambda: all("waiting" in kinds(w) for w in workers),
             "each worker waits")
    assert len(box.names("done")) < len(names)
    redis_server.start()
    wait_for(lambda: len(box.names("done")) == len(names), "all are done")
    for worker in workers:
        worker.terminate()
    assert [worker.wait() for worker in workers] == [0] * 4
    assert box.where() == {"done": sorted(names)}
    assert sorted(log.read_text().split()) == sorted(names)
    assert "lost" not in [kind for w in workers for kind in kinds(w)]


def kinds(worker):
    return [event["event"] for event in events_of(worker)]


def test_redis_away_for_too_long(box, redis_server):
    """The lock has run out: the command must not go on."""
    name = box.put()
    pid = box.tmp_path / "pid"
    worker = box.start("--lock-ttl", "2", "run", "--", "sh", "-c",
                       'echo $$ > "$0.new"; mv "$0.new" "$0"; exec sleep 99',
                       str(pid), lock=redis_server.url)
    wait_for(pid.exists, "the command runs")
    redis_server.stop()
    wait_for(lambda: "lost" in kinds(worker), "the worker notices")
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
    wait_for(lambda: "lost" in kinds(worker), "the worker notices")
    worker.terminate()
    assert worker.wait() == 0
    assert redis_server.client.get(key) == b"another's"
    assert box.where() == {"processing": [name]}


def test_a_message_that_was_given_to_another(box):
    """Its worker lost the lock without noticing; it leaves it alone."""
    name = box.put()
    go = box.tmp_path / "go"
    worker = box.start("run", "--once", "--", "sh", "-c",
                       WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    box.copy("processing/" + name, "processing/" + name,
             Swiftq_Claim="flock-another")
    go.touch()
    assert worker.wait() == 0
    event = events_of(worker)[0]
    assert event["event"] == "lost" and "another" in event["reason"]
    assert box.where() == {"processing": [name]}


def test_redis_lock_belongs_to_its_owner(redis_server):
    first = lock.Redis(redis_server.url, 1.2)
    second = lock.Redis(redis_server.url, 30)
    lease = first.lock("key")
    assert second.lock("key") is None
    time.sleep(1.5)                     # renewed meanwhile
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
    first.renew(lease)      # as its thread might, which had just begun to
    assert redis_server.client.keys() == [], "renewed after the release"


def test_redis_lock_ends_with_its_owner(redis_server):
    first = lock.Redis(redis_server.url, 1)
    first.renew = lambda lease: None    # as if it were dead
    lease = first.lock("key")
    second = lock.Redis(redis_server.url, 30)
    assert second.lock("key") is None
    time.sleep(1.1)
    assert lease.lost
    assert second.lock("key") is not None


def test_flock(tmp_path):
    first, second = (lock.Flock(str(tmp_path / "locks")) for _ in range(2))
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
    with pytest.raises(faults.Problem, match="belongs to user"):
        lock.Flock(str(foreign))
    with pytest.raises(faults.Problem, match="No such file"):
        lock.Flock(str(tmp_path / "no" / "locks"))
