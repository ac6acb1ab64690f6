# SPDX-License-Identifier: GPL-3.0-or-later
"""The token_file of an attempt, by `swiftdrop login`, and what happens to it.
"""

import contextlib
import json
import os
import subprocess
import time

from .plan import PATIENCE

TIMES = 5   # that somebody logs in while a session runs


def fault(attempt):
    """What is wrong with the file, or an empty text."""
    return next((f.point for f in attempt.faults if f.side == "token"), "")


class TokenFile:
    """path, for the filter that command begins; options are Popen's.

    process is the login that runs, or None.
    """

    def __init__(self, attempt, world, ledger, path, command, **options):
        self.path = path
        self.process = None
        self._attempt = attempt
        self._world = world
        self._ledger = ledger
        self._command = command
        self._options = options

    def prepare(self):
        self.log_in()
        how = fault(self._attempt)
        if not how:
            return
        self._ledger.note(self._attempt, "fault", text=f"token {how}")
        name, _, seconds = how.partition(":")
        if name == "kill":
            self.log_in(float(seconds))
        elif self.path.exists():
            self._hurt(name)

    def log_in(self, kill_after=None):
        log = self.path.with_name("login.log")
        with open(log, "ab") as output:
            process = subprocess.Popen(
                [*self._command, "login"], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, **self._options)
        self.process = process
        if kill_after:
            time.sleep(kill_after)
            process.kill()
        try:
            status = process.wait(PATIENCE + 30)
        except subprocess.TimeoutExpired:
            status = "hangs"
            process.kill()
            process.wait()
        self.process = None
        self._ledger.note(self._attempt, "login", status=status)

    def log_in_while(self, runs):
        """Again and again while the session runs, if that is the fault."""
        for _ in range(TIMES if fault(self._attempt) == "login" else 0):
            if runs():
                self.log_in()

    def _hurt(self, how):
        path = self.path
        text = path.read_text()
        held = json.loads(text)
        if how == "stale":
            held["ends"] = int(time.time()) - 1
            path.write_text(json.dumps(held))
        elif how == "revoked" and self._attempt.auth == "3":
            with contextlib.suppress(OSError):
                self._world.keystone_swift.keystone.revoke(held["token"])
        elif how in ("foreign", "revoked"):
            held["token"] = "AUTH_tkforeign"
            path.write_text(json.dumps(held))
        elif how in ("garbled", "empty"):
            path.write_text(text[:len(text) // 2] if how == "garbled" else "")
        elif how == "writable":
            path.chmod(0o666)
        elif how == "link":
            real = path.with_name("real")
            path.rename(real)
            path.symlink_to(real)
        elif how in ("missing", "folder", "fifo"):
            path.unlink()
            if how == "folder":
                path.mkdir()
            if how == "fifo":
                os.mkfifo(path, 0o600)
