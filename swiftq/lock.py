# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks.  A lock belongs to a key and to one owner; it ends with its owner,
at once (flock) or after a time (Redis).

lock(key) returns a lease, or None when another holds it; it never waits.  A
lease has release() and lost: someone else may hold the lock by now.
"""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
import time
from typing import Any, Optional, Union

from .faults import Passing, Problem

DIRECTORY = '/run/lock/swiftq'
TTL_S = 30.0        # when a dead owner loses a lock in Redis
SPEC = re.compile('flock:.+|(redis|rediss|unix)://.*')


def boottime() -> float:
    """Seconds that go on while the machine sleeps, as a server's do."""
    return time.clock_gettime(getattr(time, 'CLOCK_BOOTTIME',
                                      time.CLOCK_MONOTONIC))


class FlockLease:
    lost = False

    def __init__(self, fileno: int, path: str):
        self.fileno = fileno
        self.path = path

    def release(self) -> None:
        # The name goes first, while the lock is still held; see lock().
        # LOCK_UN and not only close(): a command's child that lives on in
        # the background has inherited the descriptor.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        fcntl.flock(self.fileno, fcntl.LOCK_UN)
        os.close(self.fileno)


class Flock:
    """flock(2) on one file for each key: for the workers of one host."""
    scheme = 'flock'

    def __init__(self, directory: str):
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o700)
            owner = os.stat(directory).st_uid
        except OSError as e:
            raise Problem(os.EX_CANTCREAT, f'{directory}: {e.strerror}; '
                          'choose another with --lock flock:DIRECTORY')
        if owner != os.geteuid():
            # Two users with a directory each would not see each other.
            raise Problem(os.EX_NOPERM, f'{directory} belongs to user '
                          f'{owner}: run all workers as one user')
        self.directory = directory

    def lock(self, key: str) -> Optional[FlockLease]:
        digest = hashlib.sha256(
            key.encode('utf-8', 'surrogateescape')).hexdigest()
        path = os.path.join(self.directory, digest[:32] + '.lock')
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC,
                             0o600)
            except OSError as e:
                raise Problem(os.EX_CANTCREAT, f'{path}: {e.strerror}')
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between open and flock the last holder may have removed
                # this file, and another may hold a new one of that name.
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return FlockLease(fd, path)
            except BlockingIOError:
                os.close(fd)
                return None
            except FileNotFoundError:
                pass
            os.close(fd)


class RedisLease:
    fileno = None       # nothing that a command could inherit

    def __init__(self, locks: Redis, key: str, token: str, end: float):
        self.locks, self.key, self.token = locks, key, token
        self.end = end      # boottime() until which the key is ours for sure
        self.taken = False  # Redis itself said that another has it

    @property
    def lost(self) -> bool:
        return self.taken or boottime() >= self.end

    def release(self) -> None:
        self.locks.release(self)


class Redis:
    """A Redis key that expires, renewed by a thread while it is held.

    The value is the owner's token, and only the owner of the token renews
    or deletes: both are scripts, as GET and then DEL would not be atomic.
    """
    scheme = 'redis'
    # 1: renewed.  0: another has it.  A key that vanished (Redis came back
    # empty) is set again: it was ours until a moment ago.
    RENEW = """
        local owner = redis.call('GET', KEYS[1])
        if owner == ARGV[1] then
            return redis.call('PEXPIRE', KEYS[1], ARGV[2])
        elseif not owner then
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
            return 1
        end
        return 0"""
    RELEASE = """
        if redis.call('GET', KEYS[1]) == ARGV[1] then
            return redis.call('DEL', KEYS[1])
        end
        return 0"""

    def __init__(self, url: str, ttl_s: float = TTL_S):
        try:
            import redis
        except ImportError:
            raise Problem(os.EX_UNAVAILABLE, '--lock redis:// needs the '
                          'Python module redis (Debian: python3-redis)')
        self.error = redis.exceptions.RedisError
        self.refused = (redis.exceptions.AuthenticationError,
                        redis.exceptions.NoPermissionError)
        self.ttl_s = ttl_s
        try:
            self.client = redis.Redis.from_url(url, socket_timeout=ttl_s / 6)
        except ValueError as e:
            raise Problem(os.EX_USAGE, f'--lock: {e}')
        self.held: dict[str, RedisLease] = {}
        self.mutex = threading.Lock()   # no renewal after a release
        threading.Thread(target=self.keep, daemon=True).start()

    def ask(self, command: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(self.client, command)(*args, **kwargs)
        except self.refused as e:
            raise Problem(os.EX_NOPERM, f'Redis: {e}')
        except self.error as e:
            raise Passing(f'Redis: {e}')

    def lock(self, key: str) -> Optional[RedisLease]:
        token = secrets.token_hex(16)
        start = boottime()
        if not self.ask('set', key, token, nx=True,
                        px=int(self.ttl_s * 1000)):
            return None
        lease = RedisLease(self, key, token, start + self.ttl_s * 0.9)
        self.held[key] = lease
        return lease

    def keep(self) -> None:
        while True:
            time.sleep(self.ttl_s / 6)
            for lease in list(self.held.values()):
                with self.mutex, contextlib.suppress(Problem):
                    self.renew(lease)

    def renew(self, lease: RedisLease) -> None:
        if lease.lost or lease.key not in self.held:
            return
        start = boottime()
        if self.ask('eval', self.RENEW, 1, lease.key, lease.token,
                    int(self.ttl_s * 1000)):
            lease.end = start + self.ttl_s * 0.9
        else:
            lease.taken = True

    def release(self, lease: RedisLease) -> None:
        # When Redis is away the key runs out by itself.
        with self.mutex, contextlib.suppress(Problem):
            del self.held[lease.key]
            self.ask('eval', self.RELEASE, 1, lease.key, lease.token)


Lease = Union[FlockLease, RedisLease]
Locks = Union[Flock, Redis]


def open_locks(where: str, ttl_s: float) -> Locks:
    """WHERE matches SPEC."""
    if where.startswith('flock:'):
        return Flock(where.removeprefix('flock:'))
    return Redis(where, ttl_s)
