# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -m torture [--minutes N | --mails N] [--seed S] [--record]"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from . import plan, run, world

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "results.json"


def commit():
    return subprocess.run(
        ["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"],
        check=True, capture_output=True, text=True).stdout.strip()


def record(result, about, seconds):
    """What tests/torture/report reads of a run."""
    return {**about, "minutes": round(seconds / 60),
            "counts": dict(sorted(result.counts.items())),
            "wrong": {kind: len(found)
                      for kind, found in result.wrong.items()}}


def add(made):
    """Adds a run to those that are in results.json and in RESULTS.md."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    RESULTS.write_text(json.dumps([*known, made], indent=1) + "\n")
    subprocess.run([HERE / "report"], check=True)


def main():
    parser = argparse.ArgumentParser(prog="torture", description=run.__doc__)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--mails", type=int, help="instead of minutes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--binary", default="swiftdrop")
    parser.add_argument("--sanitized", help="the program built with ASan and "
                        "UBSan, for some of the mails")
    parser.add_argument("--record", action="store_true",
                        help="add the run to results.json")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="swiftdrop-torture-")
    os.chmod(folder, 0o755)
    print(f"seed {arguments.seed}, {folder}", flush=True)
    length = f"--mails {arguments.mails}" if arguments.mails else \
        f"MINUTES={arguments.minutes:g}"
    about = {"command": f"make torture {length} SEED={arguments.seed}",
             "commit": commit(), "when": time.strftime("%Y-%m-%d %H:%M"),
             "seed": arguments.seed}
    start = time.monotonic()
    shown = set()

    def told(result):
        """Shows how far it is, and what is new of what is wrong."""
        print(f"{time.monotonic() - start:.0f} s, "
              f"{result.counts['mails']} mails", flush=True)
        for kind, found in result.wrong.items():
            for text in found:
                if text not in shown:
                    print(f"{kind.upper()} {text}", flush=True)
                shown.add(text)
        made = record(result, about, time.monotonic() - start)
        pathlib.Path(folder, "result.json").write_text(json.dumps(made))

    batches = run.some(plan.batches(arguments.seed), arguments.mails,
                       arguments.minutes)
    with world.World(folder, os.path.abspath(arguments.binary)) as around:
        result = run.torture(
            around, os.path.abspath(arguments.binary), batches,
            arguments.sanitized and os.path.abspath(arguments.sanitized), told)
    print(run.report(result))
    if arguments.record:
        add(record(result, about, time.monotonic() - start))
    sys.exit(0 if result.is_clean else 1)


main()
