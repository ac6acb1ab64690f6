#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the mail in a Swift container through a command, once each.

    take-mail.py CONTAINER -- COMMAND...

A reader for one host, with nothing but the Swift client: list, get, check the
hash, work, copy, delete.  COMMAND has the message on its standard input and
what swiftdrop(8) wrote down about it in its environment: MAIL_NAME,
MAIL_ENVELOPE_FROM, MAIL_ENVELOPE_TO and so on, percent-decoded and from
strangers.  Its exit status decides: 0 moves the message from cur/ to done/,
75 leaves it for the next call, any other moves it to failed/.

The login is swift(1)'s own: ST_AUTH, ST_USER and ST_KEY, or OS_AUTH_URL,
OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and the names of their domains.

A message that was being worked on when everything died is worked on again:
at least once, never less.  swiftq(1) does that and more: many workers, on
many hosts, tries that wait, duplicates.
"""
import argparse
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile

import swiftclient

META = 'x-object-meta-'


def connect(environ):
    """As swift(1) logs in; KeyError names the variable that is missing."""
    if 'ST_AUTH' in environ:
        return swiftclient.Connection(environ['ST_AUTH'], environ['ST_USER'],
                                      environ['ST_KEY'])
    return swiftclient.Connection(
        environ['OS_AUTH_URL'], environ['OS_USERNAME'],
        environ['OS_PASSWORD'], auth_version='3', os_options={
            'project_name': environ['OS_PROJECT_NAME'],
            'project_domain_name': environ.get('OS_PROJECT_DOMAIN_NAME',
                                               'Default'),
            'user_domain_name': environ.get('OS_USER_DOMAIN_NAME',
                                            'Default')})


def names(swift, container):
    """The messages in cur/, oldest first; their names begin with the time.

    A listing lags behind: what it shows may be gone already.
    """
    marker = ''
    while True:
        _, page = swift.get_container(container, prefix='cur/',
                                      delimiter='/', marker=marker)
        if not page:
            return
        for entry in page:
            # Probes of "swiftdrop check" begin with a dot.
            if 'name' in entry and not entry['name'].startswith('cur/.'):
                yield entry['name']
        marker = page[-1].get('name') or page[-1]['subdir']


def get(swift, container, name, file):
    """Writes the content into FILE; returns the object's headers.

    ValueError: it is not what Swift was given, or what the filter received.
    """
    headers, body = swift.get_object(container, name, resp_chunk_size=65536,
                                     headers={'X-Newest': 'true'})
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    for chunk in body:
        md5.update(chunk)
        sha256.update(chunk)
        file.write(chunk)
    file.flush()
    file.seek(0)
    if md5.hexdigest() != headers['etag'].strip('"'):
        raise ValueError('the ETag is not that of the content')
    if headers.get(META + 'sha256', sha256.hexdigest()) != sha256.hexdigest():
        raise ValueError('Sha256 is not that of the content')
    return headers


def work(command, name, headers, file):
    """Runs the command for a message; returns its exit status."""
    environ = {'MAIL_' + key[len(META):].upper().replace('-', '_'):
               value.replace('\0', '\ufffd')
               for key, value in headers.items() if key.startswith(META)}
    environ['MAIL_NAME'] = name[len('cur/'):]
    return subprocess.run(command, stdin=file,
                          env={**os.environ, **environ}).returncode


def move(swift, container, name, folder, etag):
    """Copies within Swift, and deletes only what was copied whole.

    Who dies between the two leaves both; the next call finds the message in
    cur/ again.
    """
    answer = {}
    to = folder + name[len('cur/'):]
    swift.copy_object(container, name, f'/{container}/{to}',
                      headers={'If-Match': etag}, response_dict=answer)
    if (answer['status'] != 201
            or answer['headers'].get('etag', '').strip('"') != etag):
        raise ValueError(f'the copy to {to} was not confirmed')
    swift.delete_object(container, name)


def take(swift, container, name, command):
    """Works on one message; tells whether that went well."""
    with tempfile.TemporaryFile() as file:
        headers = get(swift, container, name, file)
        status = work(command, name, headers, file)
    if status != os.EX_TEMPFAIL:
        move(swift, container, name, 'failed/' if status else 'done/',
             headers['etag'].strip('"'))
    print(f'{name}: exit status {status}')
    return status in (0, os.EX_TEMPFAIL)


def main(argv):
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        epilog='Exit status: 0; 1 when a message failed; 75 when another '
        'call is still at work.')
    parser.add_argument('--lock', default='/run/lock/take-mail',
                        help='the lock file (%(default)s)')
    parser.add_argument('container')
    parser.add_argument('command', nargs='+')
    args = parser.parse_args(argv)
    try:
        connection = connect(os.environ)
    except KeyError as error:
        parser.error(f'{error} is not in the environment')
    with open(args.lock, 'a') as lock, contextlib.closing(connection) as swift:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.EX_TEMPFAIL
        good = True
        for name in names(swift, args.container):
            try:
                good &= take(swift, args.container, name, args.command)
            except ValueError as error:
                print(f'{name}: {error}', file=sys.stderr)
                good = False
            except swiftclient.ClientException as error:
                # 404: the listing lagged behind.  412: it has changed.
                if error.http_status not in (404, 412):
                    raise
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
