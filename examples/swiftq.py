#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (C) 2026 the swiftdrop authors
"""Take the mail that swiftdrop(8) stored out of its Swift container.

A message moves through folders of one container, and always by a copy that
is verified and a delete that follows it:

    cur/ -> processing/ -> done/ | failed/ | retry/<due>.<tries>/ -> ...

So at any moment, whatever dies, at least one whole copy is there.  Each
message is worked on under a lock of its own name; what a dead worker leaves
in processing/ is given back by "recover".  The result is at-least-once: a
message is processed again only when a worker died or lost its lock.

The accounts come from swiftdrop's own configuration, /etc/swiftdrop.ini.
Needs python3-swiftclient; python3-redis only for --lock redis://.
examples/README.md describes names, folders, locks, duplicates and rights.
"""
from __future__ import annotations

import argparse
import configparser
import contextlib
import datetime
import email.utils
import fcntl
import hashlib
import heapq
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, Any, Callable, Iterable, Iterator, Mapping, Optional

import requests
import swiftclient
import urllib3.exceptions

try:
    from keystoneauth1 import exceptions as keystone
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
except ImportError:             # auth_version 1 does without
    keystone = session = v3 = None

CONFIG = '/etc/swiftdrop.ini'
FOLDERS = ('cur', 'processing', 'retry', 'failed', 'done')
LISTING_LIMIT = 10000       # Swift's container_listing_limit
TAKE_LIMIT = 50             # first page when looking for the oldest message
DUE_LIMIT = 1000            # due retries looked at in one go
RETRY_DELAY_MAX_S = 4000    # Postfix's maximal_backoff_time
FAULT_DELAY_MAX_S = 30      # between tries of "run" while a server is away
FINGERPRINT_DAYS = 30       # how long --dedupe remembers; Postfix queues for 5
KILL_AFTER_S = 10           # from SIGTERM to SIGKILL for a command

STATE = 'X-Object-Meta-Swiftq-'
SECRETS = ('key', 'temp_url_key', 'temp_url_query',
           'os_options_application_credential_secret')


class Problem(Exception):
    """Ends a command: a sysexits(3) status and a reason for people."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


class Passing(Problem):
    """A server is away or slow: worth another try, which "run" makes."""

    def __init__(self, reason: str):
        super().__init__(os.EX_UNAVAILABLE, reason)


class Missing(Exception):
    """404: the object is not, or no longer, there."""


class Lost(Exception):
    """The message is not ours any more: its lock or its claim is gone."""


class Garbled(Exception):
    """The content does not arrive as its ETag says; it may next time."""


class Damaged(Exception):
    """The content is what Swift was given, but not what Sha256 says."""

    def __init__(self, message: 'Message', reason: str):
        super().__init__(reason)
        self.message = message


# ---------------------------------------------------------------------------
# Configuration: the filter's file, read by the filter's rules.


def read_sections(path: Optional[str],
                  environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Each section as written, nothing inherited yet."""
    # An empty default_section makes [DEFAULT] a section like the others, as
    # what it hands down (not recipients, secrets by pairs) is decided below.
    parser = configparser.ConfigParser(interpolation=None,
                                       allow_no_value=True,
                                       default_section='')
    from_environment = [n for n in environ if re.match(
        r'SWIFTDROP_(?!SERVICE_|PORT)[^_]+_.', n)]
    try:
        with open(path or CONFIG, encoding='utf-8') as f:
            parser.read_file(f)
    except FileNotFoundError as e:
        if path or not from_environment:
            raise Problem(os.EX_CONFIG, f'{e.filename}: {e.strerror}')
    except OSError as e:
        raise Problem(os.EX_NOPERM, f'{e.filename}: {e.strerror}')
    except (configparser.Error, UnicodeDecodeError) as e:
        raise Problem(os.EX_CONFIG, f'{path or CONFIG}: {e}')
    sections = {name: {k: v or '' for k, v in parser[name].items()}
                for name in parser.sections()}
    for name in from_environment:
        section, option = name[len('SWIFTDROP_'):].split('_', 1)
        sections.setdefault(section.upper(), {})[option.lower()] = \
            environ[name]
    return sections


def inherit(sections: dict[str, dict[str, str]],
            name: str) -> dict[str, str]:
    """What holds for account NAME, [DEFAULT] included."""
    own = sections[name]
    values = dict(sections.get('DEFAULT', {}))
    if name != 'DEFAULT':
        values.pop('recipients', None)
    for secret in SECRETS:
        if secret in own and secret + '_file' in own:
            raise Problem(os.EX_CONFIG,
                          f'[{name}]: both {secret} and {secret}_file')
        if secret in own or secret + '_file' in own:
            values.pop(secret, None)
            values.pop(secret + '_file', None)
    values.update(own)
    return {k: v for k, v in values.items() if v or k == 'prefix'}


def load_account(path: Optional[str], wanted: Optional[str],
                 environ: Mapping[str, str]) -> dict[str, str]:
    sections = read_sections(path, environ)
    accounts = {name: inherit(sections, name) for name in sections
                if name != 'SMTP'}
    if wanted is None:
        names = [n for n, a in accounts.items() if 'recipients' in a]
        names = names or [n for n in accounts if n != 'DEFAULT']
        if len(names) != 1:
            raise Problem(os.EX_USAGE, 'name one with --account: '
                          + (', '.join(names) or '(there is no account)'))
        wanted = names[0]
    if wanted not in accounts:
        raise Problem(os.EX_USAGE, f'no account [{wanted}] in the '
                      'configuration, only: ' + ', '.join(accounts))
    account = accounts[wanted]
    account['section'] = wanted
    base = environ.get('CREDENTIALS_DIRECTORY') or \
        os.path.dirname(path or CONFIG)
    for secret in SECRETS:
        if secret + '_file' in account:
            try:
                with open(os.path.join(base, account[secret + '_file']),
                          encoding='utf-8') as f:
                    account[secret] = re.sub(r'\n\Z', '', f.read())
            except OSError as e:
                raise Problem(os.EX_CONFIG,
                              f'[{wanted}]: {e.filename}: {e.strerror}')
    if not account.get('container'):
        raise Problem(os.EX_CONFIG, f'[{wanted}]: container is missing')
    return account


# ---------------------------------------------------------------------------
# Names: which object is which message in which state.


@dataclass(frozen=True)
class Place:
    """An object's name, taken apart."""
    object: str
    folder: str
    name: str           # the Maildir name, the same in every folder
    due: int = 0        # retry/ only: seconds since 1970
    tries: int = 0      # retry/ only


class Layout:
    """The folders around the account's prefix.

    They stand beside "cur/" when the prefix ends in that, else below it.
    """

    def __init__(self, prefix: str):
        beside = prefix == 'cur/' or prefix.endswith('/cur/')
        root = prefix[:-len('cur/')] if beside else prefix
        self.prefix = {name: root + name + '/' for name in FOLDERS}
        self.prefix['cur'] = prefix
        self.fingerprints = root + 'fingerprints/'

    def at(self, folder: str, name: str) -> str:
        return self.prefix[folder] + name

    def at_retry(self, name: str, due: int, tries: int) -> str:
        # The time comes first: one short listing has all that is due, in
        # order, without a HEAD for each.  The number of tries is here as
        # well, for messages whose metadata has no room for it.
        return f'{self.prefix["retry"]}{due:010d}.{tries}/{name}'

    def parse(self, name: str) -> Optional[Place]:
        for folder in ('processing', 'retry', 'failed', 'done', 'cur'):
            if name.startswith(self.prefix[folder]):
                rest = name[len(self.prefix[folder]):]
                break
        else:
            return None
        due = tries = 0
        if folder == 'retry':
            match = re.fullmatch(r'(\d{10,})\.(\d+)/(.+)', rest)
            if not match:
                return None
            due, tries, rest = int(match[1]), int(match[2]), match[3]
        # Probes of "swiftdrop check" begin with a dot.
        if not rest or rest.startswith('.') or '/' in rest:
            return None
        return Place(name, folder, rest, due, tries)


@dataclass
class Message:
    """An object as Swift describes it, its metadata still encoded."""
    place: Place
    headers: Mapping[str, str]
    etag: str = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.etag = self.headers.get('ETag', '').strip('"').lower()
        self.size = int(self.headers.get('Content-Length', 0))

    def raw(self, key: str) -> str:
        return self.headers.get('X-Object-Meta-' + key, '')

    def meta(self, key: str) -> str:
        return decode(self.raw(key))

    @property
    def tries(self) -> int:
        value = self.raw('Swiftq-Tries')
        return max(int(value) if value.isdigit() else 0, self.place.tries)

    @property
    def age_s(self) -> float:
        """By the server's clock alone; ours may be wrong."""
        now = email.utils.parsedate_to_datetime(self.headers['Date'])
        # Date has no fraction: what was just written seems to come.
        return max(0.0,
                   now.timestamp() - float(self.headers['X-Timestamp']))

    def envelope(self) -> dict[str, Any]:
        """What the filter wrote down about the message, decoded."""
        lists = [self.raw('Envelope-To')]
        while self.raw(f'Envelope-To-{len(lists) + 1}'):
            lists.append(self.raw(f'Envelope-To-{len(lists) + 1}'))
        return {
            'name': self.place.name,
            'object': self.place.object,
            'bytes': self.size,
            'etag': self.etag,
            'sha256': self.meta('Sha256'),
            'fingerprint': self.meta('Fingerprint'),
            'envelope_from': re.sub(r'\A<(.*)>\Z', r'\1',
                                    self.meta('Envelope-From')),
            'envelope_to': [decode(a) for a in ','.join(lists).split(',')
                            if a],
            'envelope_count': self.meta('Envelope-Count'),
            'envelope_truncated': self.meta('Envelope-Truncated') == 'yes',
            'client_addr': self.meta('Client-Addr'),
            'client_name': self.meta('Client-Name'),
            'client_helo': self.meta('Client-Helo'),
            'queue_id': self.meta('Queue-Id'),
            'tries': self.tries,
            'claim': self.meta('Swiftq-Claim'),
            'note': self.meta('Swiftq-Note'),
        }


def decode(value: str) -> str:
    """Percent-decode; octets that are not UTF-8 survive as surrogates."""
    return urllib.parse.unquote(value, errors='surrogateescape')


def encode(value: str) -> str:
    """Percent-encode for a metadata value, within Swift's 256 bytes."""
    text = urllib.parse.quote(value, safe="!#$&'()*+,/:;=?@[]^_`{|}~-.<>",
                              errors='surrogateescape')
    return re.sub(r'%.?\Z', '', text[:256])


# ---------------------------------------------------------------------------
# Locks.  A lock belongs to a key and to one owner; it ends with its owner,
# at once (flock) or after a time (Redis).


def boottime() -> float:
    """Seconds that go on while the machine sleeps, as a server's do."""
    return time.clock_gettime(getattr(time, 'CLOCK_BOOTTIME',
                                      time.CLOCK_MONOTONIC))


class Lease:
    """A lock that is held.  lost: someone else may hold it by now."""
    lost = False
    fileno: Optional[int] = None

    def release(self) -> None:
        raise NotImplementedError


class Locks:
    """lock(key) is a Lease, or None when another holds it; never waits."""
    scheme = ''

    def lock(self, key: str) -> Optional[Lease]:
        raise NotImplementedError


class FlockLease(Lease):
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


class Flock(Locks):
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

    def lock(self, key: str) -> Optional[Lease]:
        digest = hashlib.sha256(os.fsencode(key)).hexdigest()
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


class RedisLease(Lease):
    def __init__(self, locks: 'Redis', key: str, token: str, end: float):
        self.locks, self.key, self.token = locks, key, token
        self.end = end      # boottime() until which the key is ours for sure
        self.taken = False  # Redis itself said that another has it

    @property
    def lost(self) -> bool:             # type: ignore[override]
        return self.taken or boottime() >= self.end

    def release(self) -> None:
        self.locks.release(self)


class Redis(Locks):
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

    def __init__(self, url: str, ttl_s: float):
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

    def lock(self, key: str) -> Optional[Lease]:
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


def open_locks(spec: str, ttl_s: float) -> Locks:
    if spec.startswith('flock:') and spec[len('flock:'):]:
        return Flock(spec[len('flock:'):])
    if re.match('(redis|rediss|unix)://', spec):
        return Redis(spec, ttl_s)
    raise Problem(os.EX_USAGE,
                  '--lock: flock:DIRECTORY or redis://HOST[:PORT][/DB]')


# ---------------------------------------------------------------------------
# Swift.


class Connection(swiftclient.Connection):
    def http_connection(self, url: Optional[str] = None) -> Any:
        url = url or self.url or ''
        if self.authurl.startswith('https:') and url.startswith('http:'):
            raise Problem(os.EX_CONFIG, 'the storage URL is not https as '
                          'authurl is: the token would be seen')
        return super().http_connection(url)


def connect(account: dict[str, str]) -> Connection:
    section = account['section']
    version = {'3.0': '3', '1.0': '1'}.get(
        account.get('auth_version', '3'), account.get('auth_version', '3'))
    if version == 'tempurl':
        raise Problem(os.EX_CONFIG, f'[{section}]: auth_version = tempurl can '
                      'store messages but neither list nor move them: the '
                      'reader needs a user of its own (--account or -c)')
    if version not in ('1', '3') or not account.get('authurl'):
        raise Problem(os.EX_CONFIG,
                      f'[{section}]: auth_version is not 1 or 3, or authurl '
                      'is missing')
    try:
        insecure = configparser.ConfigParser.BOOLEAN_STATES[
            account.get('insecure', 'no').lower()]
        timeout_s = float(account.get('timeout', '60'))
        retries = int(account.get('retries', '2'))
    except (KeyError, ValueError) as e:
        raise Problem(os.EX_CONFIG, f'[{section}]: bad value {e}')
    # As with the filter: no proxy but the configured one.  requests, below
    # swiftclient and keystoneauth, takes it from the environment.
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
        if account.get('proxy') and name in ('http_proxy', 'https_proxy'):
            os.environ[name] = account['proxy']
    options = {k[len('os_options_'):]: v for k, v in account.items()
               if k.startswith('os_options_')}
    tls = {'cacert': account.get('cacert'), 'cert': account.get('cert'),
           'cert_key': account.get('cert_key'), 'insecure': insecure}
    session = None
    if version == '3':
        session = keystone_session(account, options, tls, timeout_s)
    return Connection(
        account['authurl'], account.get('user'), account.get('key'),
        retries=retries, auth_version=version, os_options=options,
        timeout=timeout_s, session=session, **tls)


def keystone_session(account: dict[str, str], options: dict[str, str],
                     tls: dict[str, Any], timeout_s: float) -> Any:
    """A session of keystoneauth1.

    Given the credentials itself, swiftclient would ignore cacert, insecure,
    region and interface of an application credential.
    """
    if not keystone:
        raise Problem(os.EX_UNAVAILABLE, 'auth_version = 3 needs the Python '
                      'module keystoneauth1 (Debian: python3-keystoneauth1)')
    url = account['authurl'].rstrip('/')
    if not re.search(r'/v\d[\d.]*\Z', url):
        url += '/v3'
    if options.get('application_credential_id'):
        auth = v3.ApplicationCredential(
            url,
            application_credential_id=options['application_credential_id'],
            application_credential_secret=options.get(
                'application_credential_secret'))
    else:
        default = {kind: None if options.get(kind + '_domain_name')
                   else 'default' for kind in ('user', 'project')}
        auth = v3.Password(
            url, password=account.get('key'), username=account.get('user'),
            user_id=options.get('user_id'),
            user_domain_name=options.get('user_domain_name'),
            user_domain_id=options.get('user_domain_id', default['user']),
            project_id=options.get('project_id') or options.get('tenant_id'),
            project_name=(options.get('project_name')
                          or options.get('tenant_name')
                          or account.get('tenant_name')),
            project_domain_name=options.get('project_domain_name'),
            project_domain_id=options.get('project_domain_id',
                                          default['project']))
    cert = tls['cert']
    if cert and tls['cert_key']:
        cert = (cert, tls['cert_key'])
    return session.Session(auth, timeout=timeout_s, cert=cert,
                           verify=not tls['insecure']
                           and (tls['cacert'] or True))


class Store:
    """One container.  Every method raises Passing or Problem, and Missing
    where an object may be absent."""

    def __init__(self, account: dict[str, str]):
        self.container = account['container']
        self.connection = connect(account)
        # GET and HEAD ask every replica: the first to answer may not have
        # seen that another worker took the message away.
        self.newest = {'X-Newest': 'true'}

    def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(self.connection, method)(
                self.container, *args, **kwargs)
        except swiftclient.ClientException as e:
            status = e.http_status or 0
            if status == 404:
                raise Missing from e
            if status in (401, 403):
                raise Problem(os.EX_NOPERM, f'refused: {e}') from e
            if status in (408, 429, 498) or status >= 500:
                raise Passing(str(e)) from e
            raise Problem(os.EX_CONFIG, str(e)) from e
        except (OSError, urllib3.exceptions.HTTPError) as e:
            raise Passing(f'Swift: {e}') from e
        except (keystone.ClientException if keystone else ()) as e:
            status = getattr(e, 'http_status', None)
            if status in (401, 403):
                raise Problem(os.EX_NOPERM, f'Keystone: {e}') from e
            if (status in (400, 404)
                    or isinstance(e, keystone.CatalogException)):
                raise Problem(os.EX_CONFIG, f'Keystone: {e}') from e
            raise Passing(f'Keystone: {e}') from e

    def account_path(self) -> str:
        """/v1/AUTH_...: the same for all who see the same container."""
        while not self.connection.url:
            try:
                self.call('head_container')
            except Missing:
                raise self.no_container()
        return urllib.parse.urlsplit(self.connection.url).path

    def no_container(self) -> Problem:
        return Problem(os.EX_CONFIG,
                       f'there is no container {self.container}')

    def pages(self, prefix: str, limit: int = LISTING_LIMIT,
              end_marker: str = '', delimiter: str = ''
              ) -> Iterator[tuple[float, list[dict[str, Any]]]]:
        """The listing page by page, each with the server's time.

        A listing may lag behind: objects in it may be gone, and others are
        not in it yet.  Nothing here takes it for more than a hint.
        """
        marker = ''
        while True:
            try:
                headers, page = self.call(
                    'get_container', marker=marker, limit=limit,
                    prefix=prefix, end_marker=end_marker, delimiter=delimiter)
            except Missing:
                raise self.no_container()
            if not page:
                return
            now = email.utils.parsedate_to_datetime(headers['date'])
            yield now.timestamp(), [e for e in page if 'name' in e]
            marker = page[-1].get('name') or page[-1]['subdir']
            limit = min(limit * 4, LISTING_LIMIT)

    def head(self, place: Place) -> Message:
        self.call('head_object', place.object, headers=self.newest)
        return self.last(place)

    def last(self, place: Place) -> Message:
        # The headers as sent: those that swiftclient returns are
        # percent-decoded, after which a list cannot be told apart from a
        # comma in an address.
        return Message(place, self.connection.http_conn[1].resp.headers)

    def fetch(self, place: Place, out: IO[bytes]) -> Message:
        """Download, verified against ETag and Sha256."""
        _, body = self.call('get_object', place.object,
                            resp_chunk_size=65536, headers=self.newest)
        message = self.last(place)
        md5 = hashlib.md5(usedforsecurity=False)
        sha256 = hashlib.sha256()
        try:
            for chunk in body:
                md5.update(chunk)
                sha256.update(chunk)
                out.write(chunk)
        except (swiftclient.ClientException, requests.RequestException,
                urllib3.exceptions.HTTPError) as e:
            raise Passing(f'{place.object}: {e}')
        out.flush()
        out.seek(0)
        if md5.hexdigest() != message.etag:
            raise Garbled(f'{place.object} arrives damaged: its ETag is '
                          f'{message.etag}, not {md5.hexdigest()}')
        if message.raw('Sha256') not in ('', sha256.hexdigest()):
            raise Damaged(message, 'is not what was received: its Sha256 '
                          f'is not {message.raw("Sha256")}')
        return message

    def copy(self, message: Message, to: str,
             state: Mapping[str, str]) -> None:
        """Copy within Swift: all metadata and X-Delete-At go along.

        If-None-Match: * would be no protection of the target: in a COPY,
        Swift applies it to the source.
        """
        headers = {STATE + k: encode(v) for k, v in state.items()}
        response: dict[str, Any] = {}
        source = message.place.object
        try:
            try:
                self.call('copy_object', source,
                          f'/{self.container}/{to}', response_dict=response,
                          headers={'If-Match': message.etag, **headers})
            except Problem:
                # 400: the envelope of many recipients may fill the 4096
                # bytes of metadata.  The message goes on without our state.
                if response.get('status') != 400:
                    raise
                self.call('copy_object', source,
                          f'/{self.container}/{to}', response_dict=response,
                          headers={'If-Match': message.etag})
        except Problem:
            if response.get('status') == 412:
                raise Lost(f'{source} has changed')
            raise
        etag = response['headers'].get('etag', '').strip('"').lower()
        if response['status'] == 201 and etag == message.etag:
            return
        # 202: the cluster kept something newer; an answer without ETag.
        try:
            kept = self.head(Place(to, '', ''))
        except Missing:
            raise Passing(f'{to}: the copy did not arrive')
        if (kept.etag, kept.size) != (message.etag, message.size):
            raise Passing(f'{to}: the copy differs, ETag {kept.etag}')

    def delete(self, name: str) -> None:
        with contextlib.suppress(Missing):
            self.call('delete_object', name)

    def move(self, message: Message, to: str,
             state: Mapping[str, str]) -> None:
        self.copy(message, to, state)
        self.delete(message.place.object)


# ---------------------------------------------------------------------------
# What people and programs see.


class Report:
    """Events: a line of text on stderr, or with --json on stdout an object
    per line.  examples/README.md lists the events and their members."""

    def __init__(self, as_json: bool):
        self.json = as_json
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.progress = 0

    def event(self, event: str, text: str, **members: Any) -> None:
        self.counts[event] += 1
        self.bytes += members.get('bytes') or 0
        self.write(event, text, members)

    def write(self, event: str, text: str, members: Mapping[str, Any]) -> None:
        if self.json:
            print(to_json({'event': event, **members}), flush=True)
        else:
            self.clear()
            print(printable(text), file=sys.stderr, flush=True)

    def tick(self, what: str) -> None:
        """Progress, only for people who look at a terminal."""
        self.progress += 1
        if (self.progress % 100 == 0 and not self.json
                and sys.stderr.isatty()):
            print(f'\r{self.progress} {what}', end='', file=sys.stderr,
                  flush=True)

    def clear(self) -> None:
        if self.progress >= 100 and sys.stderr.isatty():
            print('\r\033[K', end='', file=sys.stderr)

    def summary(self, text: str = '') -> None:
        counts = dict(self.counts)
        text = text or ', '.join(f'{n} {event}' for event, n
                                 in counts.items()) or 'nothing to do'
        self.write('summary', text, {**counts, 'bytes': self.bytes})


def printable(text: str) -> str:
    return ''.join(c if c.isprintable() else '?' for c in text)


def to_json(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text.encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


# ---------------------------------------------------------------------------
# The queue.


@dataclass
class Taken:
    """A message in processing/ that is ours."""
    place: Place
    body: IO[bytes]
    leases: list[Lease]
    message: Message = field(init=False)
    claim: str = ''
    tries: int = 0

    @property
    def lost(self) -> bool:
        return any(lease.lost for lease in self.leases)

    def release(self) -> None:
        for lease in self.leases:
            lease.release()
        self.body.close()

    def envelope(self) -> dict[str, Any]:
        return {**self.message.envelope(), 'object': self.place.object,
                'tries': self.tries, 'claim': self.claim}


class Queue:
    """The moves of a message.  Each is a copy and then a delete, under the
    lock of the message's name."""

    def __init__(self, store: Store, locks: Locks, layout: Layout,
                 report: Report):
        self.store = store
        self.locks = locks
        self.layout = layout
        self.report = report
        self.impatient = lambda: True   # see persist(); "run" has more
        self.no_retry_until = 0.0
        self.damaged: dict[str, float] = {}

    def lock(self, name: str) -> Optional[Lease]:
        return self.locks.lock(f'swiftq:{self.store.account_path()}/'
                               f'{self.store.container}:{name}')

    def place(self, folder: str, name: str) -> Place:
        return Place(self.layout.at(folder, name), folder, name)

    def places(self, folder: str, **options: Any
               ) -> Iterator[tuple[Place, dict[str, Any], float]]:
        delimiter = '/' if folder == 'cur' else ''
        for now, page in self.store.pages(self.layout.prefix[folder],
                                          delimiter=delimiter, **options):
            for entry in page:
                place = self.layout.parse(entry['name'])
                if place and place.folder == folder:
                    yield place, entry, now

    # Taking.

    def candidates(self) -> Iterable[Place]:
        """What can be taken, oldest first."""
        due: list[Place] = []
        if boottime() >= self.no_retry_until:
            end = f'{self.layout.prefix["retry"]}{int(time.time()) + 1:010d}'
            for place, _, _ in self.places('retry', limit=DUE_LIMIT,
                                           end_marker=end):
                due.append(place)
                if len(due) == DUE_LIMIT:
                    break
            if not due:
                self.no_retry_until = boottime() + 1
        current = (place for place, _, _ in
                   self.places('cur', limit=TAKE_LIMIT))
        return heapq.merge(sorted(due, key=lambda p: p.name), current,
                           key=lambda p: p.name)

    def take(self, dedupe: bool = False) -> Optional[Taken]:
        for place in self.candidates():
            if self.damaged.get(place.object, 0) > boottime():
                continue
            lease = self.lock(place.name)
            if lease is None:
                continue
            taken = Taken(place, tempfile.TemporaryFile(), [lease])
            claimed = False
            try:
                claimed = self.claim(taken, dedupe)
            except (Lost, Missing):
                pass                # the listing lagged behind
            finally:
                if not claimed:
                    taken.release()
            if claimed:
                return taken
        return None

    def claim(self, taken: Taken, dedupe: bool) -> bool:
        """Move what TAKEN names to processing/; false: take another."""
        source = taken.place
        try:
            message = self.store.fetch(source, taken.body)
        except Damaged as e:
            self.store.move(e.message, self.layout.at('failed', source.name),
                            {'Note': str(e)})
            self.report.event('failed', f'failed {source.name}: it {e}',
                              name=source.name, note=str(e))
            return False
        except Garbled as e:
            self.damaged[source.object] = boottime() + 60
            self.report.event('error', str(e), name=source.name,
                              reason=str(e))
            return False
        if self.superseded(message, ('done', 'failed')):
            return False
        if dedupe and not self.is_first(message, taken):
            return False
        taken.message = message
        taken.claim = f'{self.locks.scheme}-{secrets.token_hex(8)}'
        taken.tries = message.tries + 1
        taken.place = self.place('processing', source.name)
        self.store.copy(message, taken.place.object,
                        {'Tries': str(taken.tries), 'Claim': taken.claim})
        # Died here: two copies, nothing was processed; recover sees to it.
        self.persist(lambda: self.store.delete(source.object),
                     lambda: taken.lost)
        # The command must not start unless the lock still is ours.
        if taken.lost:
            self.report.event('lost', f'lost {source.name}: the lock is gone',
                              name=source.name, reason='lock')
            return False
        return True

    def persist(self, action: Callable[[], None],
                pointless: Callable[[], bool] = lambda: False) -> None:
        """Do ACTION through any fault that may pass: we are in the middle
        of something that others can only undo with recover."""
        delay = 0.0
        while not pointless():
            try:
                return action()
            except Passing as e:
                if self.impatient():
                    raise
                if not delay:
                    self.report.event('waiting', str(e), reason=str(e))
                delay = min(max(1.0, delay * 2), FAULT_DELAY_MAX_S)
                time.sleep(delay * random.uniform(0.5, 1))

    def superseded(self, message: Message, folders: Iterable[str],
                   others: Iterable[Place] = ()) -> bool:
        """Is there another copy, in a state that counts for more?

        Then MESSAGE's object is what a crash between copy and delete left
        behind, and goes, once the two are known to be the same.
        """
        name = message.place.name
        for place in [*(self.place(f, name) for f in folders), *others]:
            try:
                other = self.store.head(place)
            except Missing:
                continue
            if (other.etag, other.size) != (message.etag, message.size):
                reason = f'differs from {place.object}: nothing was done'
                self.report.event('error', f'{message.place.object} {reason}',
                                  name=name, object=message.place.object,
                                  reason=reason)
                return True
            self.store.delete(message.place.object)
            self.report.event(
                'dropped', f'dropped {message.place.object}: the same as '
                f'{place.object}', name=name, object=message.place.object,
                same_as=place.object)
            return True
        return False

    def is_first(self, message: Message, taken: Taken) -> bool:
        """--dedupe: has no delivery of the same message been processed?"""
        fingerprint = message.meta('Fingerprint')
        if not re.fullmatch('[0-9a-f]{64}', fingerprint):
            return True
        marker = self.layout.fingerprints + fingerprint
        # Two deliveries at the same time must not both find no marker.
        lease = self.lock(marker)
        if lease is None:
            return False
        taken.leases.append(lease)
        try:
            first = self.store.head(Place(marker, '', '')).meta('Swiftq-Name')
        except Missing:
            return True
        name = message.place.name
        note = (f'duplicate of {first}' if first != name else
                'processed before')     # died between marker and move
        self.store.move(message, self.layout.at('done', name), {'Note': note})
        self.report.event('duplicate', f'duplicate {name}: {note}', name=name,
                          bytes=message.size, duplicate_of=first, note=note)
        return False

    # Finishing.

    def mark(self, message: Message) -> None:
        """--dedupe: write down that MESSAGE was processed.

        Before it is moved to done/, so that there is no moment at which it
        is done and a second delivery finds no marker.
        """
        fingerprint = message.meta('Fingerprint')
        if re.fullmatch('[0-9a-f]{64}', fingerprint):
            self.store.call(
                'put_object', self.layout.fingerprints + fingerprint, b'',
                content_type='application/octet-stream',
                headers={STATE + 'Name': encode(message.place.name),
                         'X-Delete-After': str(FINGERPRINT_DAYS * 86400)})

    def finish(self, source: Place, to: str, claim: str,
               state: Mapping[str, str]) -> None:
        """Move SOURCE to the object TO; may be called again after a fault.

        CLAIM: whose the message must be still; empty: anybody's.
        """
        try:
            message = self.store.head(source)
        except Missing:
            try:
                self.store.head(Place(to, '', ''))
                return
            except Missing:
                raise Lost(f'{source.object} is gone')
        if claim and message.raw('Swiftq-Claim') not in ('', claim):
            raise Lost(f'{source.object} was given to another')
        try:
            self.store.move(message, to, state)
        except Missing:
            raise Lost(f'{source.object} is gone')

    def find(self, name: str, folders: Iterable[str] = FOLDERS) -> Message:
        """NAME with or without its folder; Problem when it is nowhere."""
        place = self.layout.parse(name)
        tried = [place] if place and place.folder in folders else []
        if '/' not in name:
            tried = [self.place(f, name) for f in folders if f != 'retry']
        for place in tried:
            with contextlib.suppress(Missing):
                return self.store.head(place)
        if 'retry' in folders:
            for place, _, _ in self.places('retry'):
                if place.name == name:
                    with contextlib.suppress(Missing):
                        return self.store.head(place)
        raise Problem(os.EX_NOINPUT, f'{name}: no such message in '
                      + ' '.join(f + '/' for f in folders))

    # Tidying up.

    def recover(self, older_s: float) -> None:
        """Give back what dead workers left in processing/."""
        waiting: dict[str, list[Place]] = {}
        for place, _, _ in self.places('retry'):
            waiting.setdefault(place.name, []).append(place)
        for place, entry, now in self.places('processing'):
            self.report.tick('messages looked at')
            if age_s(entry, now) < older_s:
                self.skip(place, 'too young')
                continue
            lease = self.lock(place.name)
            if lease is None:
                self.skip(place, 'locked, so a worker has it')
                continue
            try:
                self.recover_one(place, older_s, waiting.get(place.name, []))
            finally:
                lease.release()

    def recover_one(self, place: Place, older_s: float,
                    waiting: list[Place]) -> None:
        try:
            message = self.store.head(place)
        except Missing:
            return
        scheme = message.raw('Swiftq-Claim').split('-')[0]
        if message.age_s < older_s:
            self.skip(place, 'too young')
        elif scheme in ('flock', 'redis') and scheme != self.locks.scheme:
            self.skip(place, f'its worker runs with --lock {scheme}:')
        elif not self.superseded(message, ('done', 'failed', 'cur'), waiting):
            try:
                self.store.move(message, self.layout.at('cur', place.name),
                                {'Note': 'recovered'})
            except (Lost, Missing):
                return
            self.report.event('recovered', f'recovered {place.name}',
                              name=place.name, bytes=message.size,
                              tries=message.tries)

    def skip(self, place: Place, reason: str) -> None:
        self.report.event('skipped', f'skipped {place.name}: {reason}',
                          name=place.name, reason=reason)

    def purge(self, folder: str, older_s: float, dry_run: bool) -> None:
        prefix = (self.layout.fingerprints if folder == 'fingerprints'
                  else self.layout.prefix[folder])
        verb = 'would purge' if dry_run else 'purged'
        for now, page in self.store.pages(prefix):
            for entry in page:
                self.report.tick('messages looked at')
                if age_s(entry, now) < older_s:
                    continue
                if not dry_run:
                    self.store.delete(entry['name'])
                self.report.event('purged', f'{verb} {entry["name"]}',
                                  object=entry['name'], bytes=entry['bytes'],
                                  last_modified=entry['last_modified'],
                                  dry_run=dry_run)


def age_s(entry: Mapping[str, Any], now: float) -> float:
    """By last_modified of a listing, which is UTC and does not say so."""
    text = entry['last_modified'].rstrip('Z')
    if '.' not in text:
        text += '.0'
    modified = datetime.datetime.strptime(text + ' +0000',
                                          '%Y-%m-%dT%H:%M:%S.%f %z')
    return max(0.0, now - modified.timestamp())


# ---------------------------------------------------------------------------
# run: a worker.


class Worker:
    def __init__(self, queue: Queue, args: argparse.Namespace,
                 environ: Mapping[str, str]):
        self.queue = queue
        self.report = queue.report
        self.args = args
        self.environ = environ
        self.signals = 0        # SIGTERM and SIGINT so far
        queue.impatient = lambda: self.signals >= 2
        if not shutil.which(args.command[0]):
            raise Problem(os.EX_USAGE, f'{args.command[0]}: no such command')

    def stop(self, *_: Any) -> None:
        """First signal: finish the message, then end.  Second: give it
        back, then end."""
        self.signals += 1

    def sleep(self, seconds: float) -> None:
        end = boottime() + seconds
        while not self.signals and boottime() < end:
            time.sleep(min(0.2, seconds))

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        delay = 0.0
        fault_since = 0.0
        while not self.signals:
            try:
                taken = self.queue.take(self.args.dedupe)
                if delay:
                    self.report.event('resumed', 'the fault is over')
                delay = 0.0
            except Passing as e:
                if not delay:
                    fault_since = boottime()
                    self.report.event('waiting', str(e), reason=str(e))
                elif self.args.once and boottime() - fault_since > 60:
                    raise
                delay = min(max(1.0, delay * 2), FAULT_DELAY_MAX_S)
                self.sleep(delay * random.uniform(0.5, 1))
                continue
            if taken:
                try:
                    self.work(taken)
                finally:
                    taken.release()
            elif self.args.once:
                return
            else:
                self.sleep(self.args.poll * random.uniform(0.5, 1))

    def work(self, taken: Taken) -> None:
        start = boottime()
        name = taken.place.name
        layout = self.queue.layout
        status: Optional[int] = None
        try:
            if taken.tries > self.args.max_tries:
                note = f'gave up: worker died in try {taken.tries - 1}'
                folder = 'failed'
            else:
                status = self.execute(taken)
                folder, note = self.judge(status, taken.tries)
            state = {'Note': note}
            due = None
            if folder == 'retry':
                due = int(time.time() + self.delay(taken.tries)) + 1
                to = layout.at_retry(name, due, taken.tries)
            else:
                to = layout.at(folder, name)
            if folder == 'cur':
                state['Tries'] = str(taken.tries - 1)
            self.settle(taken, folder, to, state)
        except Lost as e:
            self.report.event('lost', f'lost {name}: {e}; another may '
                              'process it again', name=name, reason=str(e))
            return
        seconds = boottime() - start
        folder = 'returned' if folder == 'cur' else folder
        self.report.event(
            folder, f'{folder} {name} {taken.message.size} bytes in '
            f'{seconds:.1f} s' + (f': {note}' if note else ''), name=name,
            bytes=taken.message.size, seconds=round(seconds, 3),
            tries=taken.tries, exit_status=status, note=note, due=due)

    def judge(self, status: Optional[int], tries: int) -> tuple[str, str]:
        """Folder and note for an exit status; None: ended at our order."""
        if status is None:
            return 'cur', 'stopped'
        if status == 0:
            return 'done', ''
        if status == os.EX_TEMPFAIL:
            if tries < self.args.max_tries:
                return 'retry', 'exit status 75'
            return 'failed', f'gave up after {tries} tries'
        if status < 0:
            return 'failed', f'killed by signal {-status}'
        return 'failed', f'exit status {status}'

    def delay(self, tries: int) -> float:
        """Doubles from try to try; spread, so that they do not come back
        all at once."""
        delay = self.args.retry_delay * 2.0 ** min(tries - 1, 30)
        return min(delay, max(RETRY_DELAY_MAX_S, self.args.retry_delay)
                   ) * random.uniform(0.9, 1.1)

    def settle(self, taken: Taken, folder: str, to: str,
               state: Mapping[str, str]) -> None:
        """Move to TO what the command has been run for."""
        def action() -> None:
            if folder == 'done' and self.args.dedupe:
                self.queue.mark(taken.message)
            self.queue.finish(taken.place, to, taken.claim, state)

        try:
            self.queue.persist(action)
        except Missing:
            raise Lost('the container is gone')
        except Passing:
            raise Lost(f'stopped before it could be moved to {to}')

    def execute(self, taken: Taken) -> Optional[int]:
        """Run the command; None when it was ended at our order."""
        try:
            process = subprocess.Popen(
                self.args.command, stdin=taken.body,
                stdout=sys.stderr if self.report.json else None,
                env={**self.environ, **self.variables(taken)},
                # A group of its own: Ctrl-C is for us to act on.
                start_new_session=True,
                # The command shares the lock.  When we are killed and it is
                # not, the message stays locked until it has ended as well.
                pass_fds=[lease.fileno for lease in taken.leases
                          if lease.fileno is not None])
        except OSError as e:
            self.settle(taken, 'cur',
                        self.queue.layout.at('cur', taken.place.name),
                        {'Tries': str(taken.tries - 1)})
            raise Problem(os.EX_OSERR, f'{self.args.command[0]}: '
                          f'{e.strerror}; {taken.place.name} is back in cur/')
        while True:
            try:
                return process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                pass
            if self.signals >= 2:
                self.end(process)
                return None
            if taken.lost:
                self.end(process)
                raise Lost('the lock is gone')

    @staticmethod
    def end(process: 'subprocess.Popen[bytes]') -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=KILL_AFTER_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def variables(self, taken: Taken) -> dict[str, str]:
        """The envelope for the command's environment.  Not SWIFTDROP_*,
        which a swiftdrop among its children would read as configuration."""
        variables = {'SWIFTQ_CONTAINER': self.queue.store.container}
        for key, value in taken.envelope().items():
            if isinstance(value, list):
                value = '\n'.join(value)
            if isinstance(value, bool):
                value = 'yes' if value else ''
            variables['SWIFTQ_' + key.upper()] = \
                str(value).replace('\0', '\ufffd')
        return variables


# ---------------------------------------------------------------------------
# Commands.


def command_list(queue: Queue, args: argparse.Namespace) -> None:
    totals = []
    for folder in [args.folder] if args.folder else FOLDERS:
        count = size = 0
        for place, entry, now in queue.places(folder):
            count += 1
            size += entry['bytes']
            members = {'folder': folder, 'name': place.name,
                       'object': place.object, 'bytes': entry['bytes'],
                       'etag': entry['hash'],
                       'last_modified': entry['last_modified']}
            text = f'{entry["last_modified"][:19]}Z {entry["bytes"]:>10} ' \
                f'{folder}/{place.name}'
            if folder == 'retry':
                members.update(due=place.due, tries=place.tries)
                text += f' due in {max(0, place.due - int(now))} s,' \
                    f' {place.tries} tries'
            print(to_json({'event': 'message', **members}) if args.json
                  else printable(text))
        queue.report.counts[folder] = count
        queue.report.bytes += size
        totals.append(f'{folder} {count} ({size} bytes)')
    queue.report.summary(', '.join(totals))


def show(envelope: Mapping[str, Any], body: IO[bytes],
         args: argparse.Namespace) -> None:
    """The message to stdout or --output, the envelope to what is left."""
    out = sys.stderr
    if args.output == '-':
        shutil.copyfileobj(body, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        with open(args.output, 'wb') as f:
            shutil.copyfileobj(body, f)
        out = sys.stdout
    if args.json:
        print(to_json({'event': 'envelope', **envelope}), file=out)
        return
    for key, value in envelope.items():
        if value not in ('', [], False):
            text = ', '.join(value) if isinstance(value, list) else str(value)
            print(printable(f'{key}: {text}'), file=out)


def command_show(queue: Queue, args: argparse.Namespace) -> None:
    with tempfile.TemporaryFile() as body:
        try:
            message = queue.store.fetch(queue.find(args.name).place, body)
        except Missing:
            raise Problem(os.EX_NOINPUT, f'{args.name} has just been moved')
        except (Damaged, Garbled) as e:
            raise Problem(os.EX_DATAERR, f'{args.name} {e}')
        show(message.envelope(), body, args)


def command_take(queue: Queue, args: argparse.Namespace) -> None:
    taken = queue.take(args.dedupe)
    if not taken:
        raise Problem(os.EX_NOINPUT, 'nothing to take')
    show(taken.envelope(), taken.body, args)
    taken.release()


def command_finish(queue: Queue, args: argparse.Namespace) -> None:
    name = args.name
    lease = queue.lock(name.rsplit('/', 1)[-1])
    if lease is None:
        raise Problem(os.EX_TEMPFAIL, f'{name}: a worker has it')
    try:
        message = queue.find(name, ('processing', 'failed'))
        place = message.place
        due = None
        if args.state == 'retry':
            due = int(time.time() + args.after)
            to = queue.layout.at_retry(place.name, due, message.tries)
        else:
            to = queue.layout.at(args.state, place.name)
        if to != place.object:
            if args.state == 'done' and args.dedupe:
                queue.mark(message)
            queue.finish(place, to, args.claim, {'Note': args.note})
    except (Lost, Missing) as e:
        raise Problem(os.EX_TEMPFAIL, f'{name}: {e}')
    finally:
        lease.release()
    queue.report.event(args.state, f'{args.state} {place.name}',
                       name=place.name, bytes=message.size, due=due)


def command_run(queue: Queue, args: argparse.Namespace) -> None:
    Worker(queue, args, args.environ).run()
    queue.report.summary()


def command_recover(queue: Queue, args: argparse.Namespace) -> None:
    queue.recover(args.older_than)
    queue.report.summary()


def command_purge(queue: Queue, args: argparse.Namespace) -> None:
    queue.purge(args.folder, args.older_than, args.dry_run)
    queue.report.summary(
        f'{queue.report.counts["purged"]} '
        f'{"would be " if args.dry_run else ""}purged, '
        f'{queue.report.bytes} bytes')


def duration(text: str) -> float:
    match = re.fullmatch(r'(\d+(?:\.\d+)?)([smhdw]?)', text)
    if not match:
        raise argparse.ArgumentTypeError(
            f'{text!r}: a number, with s, m, h, d or w behind it')
    return float(match[1]) * {'': 1, 's': 1, 'm': 60, 'h': 3600, 'd': 86400,
                              'w': 604800}[match[2]]


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: not a positive number')
    return int(text)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f'{self.prog}: {message}\n')


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    # The common options may stand before the command and after it; there
    # they have no default, which would undo what stood before.
    def common(parser: argparse.ArgumentParser, **default: Any) -> None:
        def add(*names: str, value: Any = None, **kwargs: Any) -> None:
            parser.add_argument(*names, **kwargs,
                                **(default or {'default': value}))
        add('-c', '--config', metavar='FILE',
            help=f"swiftdrop's configuration ({CONFIG})")
        add('--account', metavar='SECTION',
            help='which account, if there are several')
        add('--lock', value='flock:/run/lock/swiftq', metavar='WHERE',
            help='flock:DIRECTORY (default: flock:/run/lock/swiftq) for the '
            'workers of one host, redis://HOST[:PORT][/DB] for several')
        add('--lock-ttl', value=30.0, type=duration, metavar='TIME',
            help='when a dead owner loses a lock in Redis (30s)')
        add('--json', action='store_true', value=False,
            help='one JSON object per line on stdout')

    parser = Parser(prog='swiftq', description='Take mail that swiftdrop '
                    'stored out of its Swift container.')
    common(parser)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def command(function: Any, name: str,
                text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        common(sub, default=argparse.SUPPRESS)
        sub.set_defaults(function=function)
        return sub

    def option_dedupe(sub: argparse.ArgumentParser) -> None:
        sub.add_argument('--dedupe', action='store_true',
                         help='process equal deliveries (Fingerprint) once')

    sub = command(command_list, 'list', 'list messages')
    sub.add_argument('folder', nargs='?', choices=FOLDERS)
    sub = command(command_show, 'show', 'message to stdout, envelope to '
                  'stderr')
    sub.add_argument('name')
    sub.add_argument('--output', metavar='FILE', default='-',
                     help='message to FILE, envelope to stdout')
    sub = command(command_take, 'take', 'move the oldest message to '
                  'processing/ and show it')
    sub.add_argument('--output', metavar='FILE', default='-',
                     help='message to FILE, envelope to stdout')
    option_dedupe(sub)
    sub = command(command_finish, 'finish', 'say what became of a message in '
                  'processing/ or failed/')
    sub.add_argument('name')
    sub.add_argument('state', choices=('done', 'failed', 'retry'))
    sub.add_argument('--after', type=duration, default=60.0, metavar='TIME',
                     help='retry: not before that (60s)')
    sub.add_argument('--claim', default='', help='only if the message still '
                     'has this claim, which take has shown')
    sub.add_argument('--note', default='', help='kept with the message')
    option_dedupe(sub)
    sub = command(command_run, 'run', 'run COMMAND for each message: exit '
                  'status 0 is done, 75 retry, all else failed')
    sub.add_argument('--once', action='store_true',
                     help='end when nothing is left to take')
    sub.add_argument('--max-tries', type=positive, default=10, metavar='N')
    sub.add_argument('--retry-delay', type=duration, default=60.0,
                     metavar='TIME', help='after the first try (60s); '
                     'doubles with each, up to %d s' % RETRY_DELAY_MAX_S)
    sub.add_argument('--poll', type=duration, default=5.0, metavar='TIME',
                     help='how often to look when there was nothing (5s)')
    option_dedupe(sub)
    sub.add_argument('command', nargs='+', metavar='COMMAND')
    sub = command(command_recover, 'recover', 'give back what dead workers '
                  'left in processing/')
    sub.add_argument('--older-than', type=duration, required=True,
                     metavar='TIME')
    sub = command(command_purge, 'purge', 'delete old messages')
    sub.add_argument('folder', choices=('done', 'failed', 'fingerprints'))
    sub.add_argument('--older-than', type=duration, required=True,
                     metavar='TIME')
    sub.add_argument('--dry-run', action='store_true')
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = parse_arguments(argv)
    args.environ = dict(os.environ)
    report = Report(args.json)
    try:
        account = load_account(args.config, args.account, args.environ)
        queue = Queue(Store(account), open_locks(args.lock, args.lock_ttl),
                      Layout(account.get('prefix', 'cur/')), report)
        args.function(queue, args)
        # Not at exit, where a pipe that is closed would be an error.
        sys.stdout.flush()
    except Problem as e:
        report.event('error', f'swiftq: {e}', reason=str(e),
                     exit_status=e.status)
        return e.status
    except BrokenPipeError:
        # "list | head"; and nothing more to stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except OSError as e:
        report.event('error', f'swiftq: {e}', reason=str(e),
                     exit_status=os.EX_OSERR)
        return os.EX_OSERR
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return os.EX_OK


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
