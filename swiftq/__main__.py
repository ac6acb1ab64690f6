# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq(1), as /usr/bin/swiftq and as python3 -m swiftq."""
from __future__ import annotations

import os
import signal
import sys

from .commands import parse_arguments, perform
from .faults import Problem
from .report import Report


def main(argv: list[str]) -> int:
    # Whatever the locale: programs read what we write.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding='utf-8', errors='backslashreplace')
    args = parse_arguments(argv)
    report = Report(args.json)
    try:
        perform(args, report)
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
