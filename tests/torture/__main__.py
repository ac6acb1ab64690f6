# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m torture [--minutes N | --mails N] [--seed S]"""

import argparse
import os
import sys
import tempfile
import time

from . import plan, run, world


def main():
    parser = argparse.ArgumentParser(prog="torture", description=run.__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--mails", type=int, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--binary", default="swiftdrop")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="swiftdrop-torture-")
    os.chmod(folder, 0o755)
    print(f"seed {arguments.seed}, {folder}", flush=True)
    binary = os.path.abspath(arguments.binary)
    batches = run.some(plan.batches(arguments.seed), arguments.mails,
                       arguments.minutes)
    with world.World(folder, binary) as around:
        result = run.torture(around, binary, batches)
    print(run.report(result))
    sys.exit(0 if result.is_clean else 1)


main()
