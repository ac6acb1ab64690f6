# SPDX-License-Identifier: GPL-3.0-or-later
"""One container: what Swift's and Keystone's answers mean, and the requests
that a reader makes."""
from __future__ import annotations

import contextlib
import email.message
import email.parser
import email.utils
import hashlib
import os
import re
import urllib.parse
from typing import IO, Any, Iterator, Mapping, Optional

import requests
import swiftclient
import urllib3.exceptions

from .config import Account
from .faults import Damaged, Garbled, Lost, Missing, Passing, Problem
from .message import Message, Place, encode

try:
    from keystoneauth1 import exceptions as keystone
    from keystoneauth1 import session
    from keystoneauth1.identity import v3
except ImportError:             # auth_version 1 does without
    keystone = session = v3 = None

LISTING_LIMIT = 10000       # Swift's container_listing_limit
HEADER_LIMIT = 1 << 20      # octets of a message in which its header ends
# GET and HEAD ask every replica: the first to answer may not have seen that
# another worker took the message away.
NEWEST = {'X-Newest': 'true'}


class Connection(swiftclient.Connection):
    def http_connection(self, url: Optional[str] = None) -> Any:
        url = url or self.url or ''
        if self.authurl.startswith('https:') and url.startswith('http:'):
            raise Problem(os.EX_CONFIG, 'the storage URL is not https as '
                          'authurl is: the token would be seen')
        return super().http_connection(url)


def connect(account: Account) -> Connection:
    # As with the filter: no proxy but the configured one.  requests, below
    # swiftclient and keystoneauth, takes it from the environment.
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
        if 'proxy' in account and name in ('http_proxy', 'https_proxy'):
            os.environ[name] = account['proxy']
    return Connection(
        account['authurl'], account.get('user'), account.get('key'),
        retries=int(account['retries']), auth_version=account.version,
        os_options=account.os_options(), timeout=float(account['timeout']),
        cacert=account['cacert'], insecure=account.insecure,
        cert=account.get('cert'), cert_key=account.get('cert_key'),
        session=keystone_session(account) if account.version == '3' else None)


def keystone_session(account: Account) -> Any:
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
    option = account.os_options().get
    default = {kind: None if option(kind + '_domain_name') else 'default'
               for kind in ('user', 'project')}
    user = {'username': account.get('user'), 'user_id': option('user_id'),
            'user_domain_name': option('user_domain_name'),
            'user_domain_id': option('user_domain_id', default['user'])}
    if account.has_credential:
        auth = v3.ApplicationCredential(
            url,
            application_credential_id=option('application_credential_id'),
            application_credential_name=option('application_credential_name'),
            application_credential_secret=option(
                'application_credential_secret'), **user)
    else:
        auth = v3.Password(
            url, password=account['key'], **user,
            project_id=option('project_id') or option('tenant_id'),
            project_name=(option('project_name') or option('tenant_name')
                          or account.get('tenant_name')),
            project_domain_name=option('project_domain_name'),
            project_domain_id=option('project_domain_id',
                                     default['project']))
    cert = account.get('cert')
    if cert and 'cert_key' in account:
        cert = (cert, account['cert_key'])
    return session.Session(auth, timeout=float(account['timeout']), cert=cert,
                           verify=not account.insecure and account['cacert'])


class Store:
    """One container.  Every method raises Passing or Problem, and Missing
    where an object may be absent."""

    def __init__(self, account: Account):
        self.account = account
        self.container = account['container']
        self.connection = connect(account)

    def twin(self) -> Store:
        """Another one by the same login, for a thread of its own."""
        self.log_in()
        twin = Store(self.account)
        twin.connection.url = self.connection.url
        twin.connection.token = self.connection.token
        return twin

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

    def log_in(self) -> None:
        while not self.connection.url or not self.connection.token:
            try:
                self.call('head_container')
            except Missing:
                raise self.no_container()

    def account_path(self) -> str:
        """/v1/AUTH_...: the same for all who see the same container."""
        if not self.connection.url:
            self.log_in()
        return urllib.parse.urlsplit(self.connection.url).path

    def no_container(self) -> Problem:
        return Problem(os.EX_CONFIG,
                       f'there is no container {self.container}')

    def pages(self, prefix: str, limit: int = LISTING_LIMIT,
              marker: str = '', end_marker: str = '', delimiter: str = ''
              ) -> Iterator[tuple[float, list[dict[str, Any]]]]:
        """The listing page by page, each with the server's time.

        A listing may lag behind: objects in it may be gone, and others are
        not in it yet.  Nothing here takes it for more than a hint.
        """
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
            # A marker of a pseudo-directory ("cur/sub") is no message.
            yield now.timestamp(), [
                e for e in page if 'name' in e and
                e.get('content_type') != 'application/directory']
            marker = page[-1].get('name') or page[-1]['subdir']
            limit = min(limit * 4, LISTING_LIMIT)

    def head(self, place: Place) -> Message:
        self.call('head_object', place.object, headers=NEWEST)
        return self.last(place)

    def last(self, place: Place) -> Message:
        # The headers as sent: those that swiftclient returns are
        # percent-decoded, after which a list cannot be told apart from a
        # comma in an address.
        return Message(place, self.connection.http_conn[1].resp.headers)

    def fetch(self, place: Place, out: IO[bytes]) -> Message:
        """Download, verified against ETag and Sha256."""
        _, body = self.call('get_object', place.object,
                            resp_chunk_size=65536, headers=NEWEST)
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

    def header(self, message: Message) -> email.message.Message:
        """The header of the content, as far as HEADER_LIMIT goes."""
        content = b''
        if message.size:    # of nothing there is no range
            _, content = self.call(
                'get_object', message.place.object,
                headers={'Range': f'bytes=0-{HEADER_LIMIT - 1}'})
        return email.parser.BytesHeaderParser().parsebytes(content)

    def copy(self, message: Message, to: Place,
             state: Mapping[str, str]) -> None:
        """Copy within Swift: all metadata and X-Delete-At go along.

        If-None-Match: * would be no protection of the target: in a COPY,
        Swift applies it to the source.
        """
        unchanged = {'If-Match': message.etag}
        response: dict[str, Any] = {}

        def request(headers: Mapping[str, str]) -> None:
            self.call('copy_object', message.place.object,
                      f'/{self.container}/{to.object}',
                      response_dict=response, headers=headers)

        try:
            try:
                request({**unchanged, **state_headers(state)})
            except Problem:
                # 400: the envelope of many recipients may fill the 4096
                # bytes of metadata.  The message goes on without our state.
                if response.get('status') != 400:
                    raise
                request(unchanged)
        except Problem:
            if response.get('status') == 412:
                raise Lost(f'{message.place.object} has changed')
            raise
        etag = response['headers'].get('etag', '').strip('"').lower()
        if response['status'] == 201 and etag == message.etag:
            return
        # 202: the cluster kept something newer; an answer without ETag.
        try:
            kept = self.head(to)
        except Missing:
            raise Passing(f'{to.object}: the copy did not arrive')
        if not kept.same_as(message):
            raise Passing(f'{to.object}: the copy differs, ETag {kept.etag}')

    def put_marker(self, name: str, state: Mapping[str, str],
                   days: int) -> None:
        """An empty object that says no more than STATE."""
        self.call('put_object', name, b'',
                  content_type='application/octet-stream',
                  headers={'X-Delete-After': str(days * 86400),
                           **state_headers(state)})

    def delete(self, name: str) -> None:
        with contextlib.suppress(Missing):
            self.call('delete_object', name)

    def move(self, message: Message, to: Place,
             state: Mapping[str, str]) -> None:
        self.copy(message, to, state)
        self.delete(message.place.object)


def state_headers(state: Mapping[str, str]) -> dict[str, str]:
    return {f'X-Object-Meta-Swiftq-{k}': encode(v) for k, v in state.items()}
