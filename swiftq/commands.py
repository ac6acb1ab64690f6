# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, and what each command does."""
from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from typing import IO, Any, Callable, Mapping, Sequence

from . import __version__, config, lock, search, status
from .faults import Damaged, Garbled, Lost, Missing, Problem
from .message import FOLDERS, Layout, Message
from .queue import Queue
from .report import Report, printable, to_json
from .worker import RETRY_DELAY_MAX_S, Worker

EPILOG = """\
TIME is a number of seconds, or has s, m, h, d or w behind it.

exit status:
  0   done
  64  wrong usage; the command of "run" does not exist
  65  the content is damaged
  66  no such message, nothing found or to take
  69  Swift, Keystone or Redis cannot be reached; a Python module is missing
  71  the command of "run" cannot be started
  73  the lock directory cannot be used
  75  a worker has this message just now
  77  refused (401, 403); the lock directory is another user's
  78  the configuration; the container does not exist

examples:
  swiftq list
  swiftq run -- /usr/local/bin/import-mail
  swiftq run --once --dedupe -- sh -c 'cat > "/var/mail/$SWIFTQ_NAME"'
  swiftq find --to orders@example.org --since 2d
  swiftq retry --all-failed
  swiftq recover --older-than 1h
  swiftq purge done --older-than 30d

See swiftq(1).
"""
VERSION = f"""\
swiftq {__version__}
Copyright (C) 2026 the swiftdrop authors
License GPLv3+: GNU GPL version 3 or later <https://gnu.org/licenses/gpl.html>.
This is free software: you are free to change and redistribute it.
There is NO WARRANTY, to the extent permitted by law."""


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


def command_status(queue: Queue, args: argparse.Namespace) -> None:
    folders = status.count(queue)
    if args.prometheus:
        print(status.as_prometheus(queue.store.container, folders))
        return
    for folder in folders:
        print(to_json({'event': 'folder', **asdict(folder)}) if args.json
              else status.as_text(folder))


def command_find(queue: Queue, args: argparse.Namespace) -> None:
    wanted = {name: value for name in search.CRITERIA
              if (value := getattr(args, name)) is not None}
    if not wanted and not args.since:
        raise Problem(os.EX_USAGE, 'find what? --message-id, --from, --to, '
                      '--queue-id or --since')
    report = queue.report
    report.counts.update(found=0, searched=0, unknown=0)
    for message, verdict in search.Search(queue, wanted, int(args.since),
                                          args.text):
        report.counts['searched'] += 1
        if verdict is None:
            report.counts['unknown'] += 1
        elif verdict:
            report.counts['found'] += 1
            report.bytes += message.size
            report.result({'event': 'message', 'folder': message.place.folder,
                           **message.envelope()}, found(message))
        report.progress('{searched} looked at, {found} found, in {folder}/'
                        .format(folder=message.place.folder, **report.counts))
    text = '{found} found, {searched} looked at'.format(**report.counts)
    if report.counts['unknown']:
        text += ', {unknown} without that metadata: --text reads them' \
            .format(**report.counts)
    report.summary(text)
    if not report.counts['found']:
        raise Problem(os.EX_NOINPUT, 'no such message')


def found(message: Message) -> str:
    """One line, in the words of the filter's log."""
    envelope = message.envelope()
    pairs = [f'from=<{envelope["envelope_from"]}>',
             *(f'to=<{to}>' for to in envelope['envelope_to'])]
    pairs += [f'{key.replace("_", "-")}={envelope[key]}'
              for key in ('message_id', 'queue_id', 'note') if envelope[key]]
    return f'{message.place.object} {", ".join(pairs)}'


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


def each(names: Sequence[str], action: Callable[[str], None],
         report: Report) -> None:
    """ACTION for each name; one that is not there, or that a worker has, does
    not keep the others from it."""
    problems = []
    for name in names:
        try:
            action(name)
        except Problem as e:
            if (e.status not in (os.EX_NOINPUT, os.EX_TEMPFAIL)
                    or len(names) == 1):
                raise
            problems.append(e)
            report.event('error', f'swiftq: {e}', name=name, reason=str(e))
    if problems:
        raise Problem(problems[0].status,
                      f'{len(problems)} of {len(names)} stay where they are')


def command_finish(queue: Queue, args: argparse.Namespace) -> None:
    if args.claim and len(args.name) > 1:
        raise Problem(os.EX_USAGE, '--claim is that of one message')
    each(args.name, lambda name: finish(queue, name, args), queue.report)


def command_retry(queue: Queue, args: argparse.Namespace) -> None:
    if bool(args.name) == args.all_failed:
        raise Problem(os.EX_USAGE, 'names or --all-failed')
    names = args.name or [place.object for place, _, _
                          in queue.places('failed')]
    each(names, lambda name: finish(queue, name, args), queue.report)
    if args.all_failed:
        queue.report.summary()


def finish(queue: Queue, name: str, args: argparse.Namespace) -> None:
    lease = queue.lock(name.rsplit('/', 1)[-1])
    if lease is None:
        raise Problem(os.EX_TEMPFAIL, f'{name}: a worker has it')
    try:
        message = queue.find(name, args.folders)
        place = message.place
        due = None
        state = {'Note': args.note}
        to = queue.layout.at(args.state, place.name)
        if args.state == 'retry':
            due = int(time.time() + args.after)
            tries = message.tries
            if place.folder == 'failed':
                # A decision of a person's: the tries of before do not count.
                tries = 0
                state['Tries'] = '0'
            to = queue.layout.at_retry(place.name, due, tries)
        if to != place:
            if args.state == 'done' and args.dedupe:
                queue.mark(message)
            queue.finish(place, to, args.claim, state)
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


def since(text: str) -> float:
    """Seconds since 1970."""
    if re.match(r'\d{4}-', text):
        try:
            return datetime.datetime.fromisoformat(text).timestamp()
        except ValueError as e:
            raise argparse.ArgumentTypeError(e)
    return time.time() - duration(text)


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: not a positive number')
    return int(text)


def where(text: str) -> str:
    if not lock.SPEC.fullmatch(text):
        raise argparse.ArgumentTypeError(
            'flock:DIRECTORY or redis://HOST[:PORT][/DB]')
    return text


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        self.print_usage(sys.stderr)
        self.exit(os.EX_USAGE, f'{self.prog}: {message}\n')


# Of the options that may stand before the command and after it.
DEFAULTS = {'config': None, 'account': None, 'json': False,
            'lock': f'flock:{lock.DIRECTORY}', 'lock_ttl': lock.TTL_S}


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument('-c', '--config', metavar='FILE',
                        help=f"swiftdrop's configuration ({config.PATH})")
    common.add_argument('--account', metavar='SECTION',
                        help='which account, if there are several')
    common.add_argument('--lock', metavar='WHERE', type=where,
                        help='flock:DIRECTORY (default: %s) for the workers '
                        'of one host, redis://HOST[:PORT][/DB] for several'
                        % DEFAULTS['lock'])
    common.add_argument('--lock-ttl', metavar='TIME', type=duration,
                        help='when a dead owner loses a lock in Redis (30s)')
    common.add_argument('--json', action='store_true',
                        help='one JSON object per line on stdout')

    parser = Parser(prog='swiftq', parents=[common], epilog=EPILOG,
                    description='Take mail that swiftdrop stored out of its '
                    'Swift container.',
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version', version=VERSION)
    commands = parser.add_subparsers(metavar='COMMAND', required=True)

    def command(function: Any, name: str, text: str,
                locks: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text,
                                  parents=[common])
        sub.set_defaults(function=function, locks=locks)
        return sub

    def option_output(sub: argparse.ArgumentParser) -> None:
        sub.add_argument('--output', metavar='FILE', default='-',
                         help='message to FILE, envelope to stdout')

    def option_dedupe(sub: argparse.ArgumentParser) -> None:
        sub.add_argument('--dedupe', action='store_true',
                         help='process equal deliveries (Fingerprint) once')

    def option_older(sub: argparse.ArgumentParser) -> None:
        sub.add_argument('--older-than', type=duration, required=True,
                         metavar='TIME')

    sub = command(command_list, 'list', 'list messages', locks=False)
    sub.add_argument('folder', nargs='?', choices=FOLDERS)
    sub = command(command_status, 'status', 'how much is in which folder, '
                  'and for how long', locks=False)
    sub.add_argument('--prometheus', action='store_true',
                     help="metrics in Prometheus's text format")
    sub = command(command_find, 'find', 'find messages by what the filter '
                  'wrote down, in all folders', locks=False)
    sub.add_argument('--message-id', metavar='ID',
                     help='with angle brackets or without')
    sub.add_argument('--from', metavar='ADDRESS',
                     help="sender: an address, @domain, or '<>'")
    sub.add_argument('--to', metavar='ADDRESS',
                     help='recipient: an address or @domain')
    sub.add_argument('--queue-id', metavar='ID',
                     help='that the MTA in front gave it')
    sub.add_argument('--since', metavar='WHEN', type=since, default=0.0,
                     help='received in the last TIME, or from a date on '
                     '(2026-11-28, 2026-11-28T08:30)')
    sub.add_argument('--text', action='store_true', help="read a message's "
                     'header where the metadata is missing')
    sub = command(command_show, 'show', 'message to stdout, envelope to '
                  'stderr', locks=False)
    sub.add_argument('name')
    option_output(sub)
    sub = command(command_take, 'take', 'move the oldest message to '
                  'processing/ and show it')
    option_output(sub)
    option_dedupe(sub)
    sub = command(command_finish, 'finish', 'say what became of a message in '
                  'processing/ or failed/')
    sub.set_defaults(folders=('processing', 'failed'))
    sub.add_argument('name', nargs='+')
    sub.add_argument('state', choices=('done', 'failed', 'retry'))
    sub.add_argument('--after', type=duration, default=60.0, metavar='TIME',
                     help='retry: not before that (60s)')
    sub.add_argument('--claim', default='', help='only if the message still '
                     'has this claim, which take has shown')
    sub.add_argument('--note', default='', help='kept with the message')
    option_dedupe(sub)
    sub = command(command_retry, 'retry', 'let what failed, or waits for '
                  'another try, be taken again')
    sub.set_defaults(state='retry', folders=('failed', 'retry'), claim='')
    sub.add_argument('name', nargs='*')
    sub.add_argument('--all-failed', action='store_true',
                     help='all of failed/')
    sub.add_argument('--after', type=duration, default=0.0, metavar='TIME',
                     help='not before that (at once)')
    sub.add_argument('--note', default='', help='kept with the message')
    sub = command(command_run, 'run', 'run COMMAND for each message: exit '
                  'status 0 is done, 75 retry, all else failed')
    sub.add_argument('--once', action='store_true',
                     help='end when nothing is left to take')
    sub.add_argument('--max-tries', type=positive, default=10, metavar='N')
    sub.add_argument('--retry-delay', type=duration, default=60.0,
                     metavar='TIME', help='after the first try (60s); '
                     f'doubles with each, up to {RETRY_DELAY_MAX_S} s')
    sub.add_argument('--poll', type=duration, default=5.0, metavar='TIME',
                     help='how often to look when there was nothing (5s)')
    option_dedupe(sub)
    sub.add_argument('command', nargs='+', metavar='COMMAND')
    sub = command(command_recover, 'recover', 'give back what dead workers '
                  'left in processing/')
    option_older(sub)
    sub = command(command_purge, 'purge', 'delete old messages', locks=False)
    sub.add_argument('folder', choices=('done', 'failed', 'fingerprints'))
    option_older(sub)
    sub.add_argument('--dry-run', action='store_true')
    return parser.parse_args(argv, argparse.Namespace(**DEFAULTS))


def perform(args: argparse.Namespace, report: Report) -> None:
    """Do what the command line asks for; Problem when that is impossible."""
    try:
        from .store import Store    # --help does without
    except ImportError as e:
        raise Problem(os.EX_UNAVAILABLE, f'{e}; the Python module swiftclient '
                      'is needed (Debian: python3-swiftclient)')
    args.environ = dict(os.environ)     # before the store changes it
    account = config.load(args.config, args.account, args.environ)
    queue = Queue(Store(account), lock.open_locks(args.lock, args.lock_ttl)
                  if args.locks else None, Layout(account['prefix']), report)
    args.function(queue, args)
