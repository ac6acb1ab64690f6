# SPDX-License-Identifier: GPL-3.0-or-later
"""What was sent and what was said of it, a line each, written before the next
step is made."""

import dataclasses
import json
import threading


class Ledger:
    def __init__(self, path):
        self._file = open(path, "a", buffering=1)
        self._lock = threading.Lock()

    def note(self, attempt, what, **more):
        with self._lock:
            self._file.write(json.dumps(
                {"attempt": attempt.number, "what": what, **more}) + "\n")

    def close(self):
        self._file.close()


@dataclasses.dataclass
class Entry:
    """What the ledger knows of an attempt."""
    sha256: str = ""
    size: int = 0
    replies: list = dataclasses.field(default_factory=list)
    answers: list = dataclasses.field(default_factory=list)     # to dots
    dots: int = 0           # that were sent
    waited: float = 0       # from a dot to the answer or its absence, at most
    killed: bool = False    # the filter, or who starts it, by us
    cut: bool = False       # by the client
    status: int = None      # how the filter ended
    spawned: list = dataclasses.field(default_factory=list)
    pid: int = 0
    faults: list = dataclasses.field(default_factory=list)
    paused: float = 0       # seconds, by us
    heard: list = dataclasses.field(default_factory=list)
    # Seconds until rspamd's answers had passed.
    left: list = dataclasses.field(default_factory=list)    # files
    logins: list = dataclasses.field(default_factory=list)  # how they ended
    report: str = ""        # of a sanitizer
    gone: str = ""          # why the dialogue ended early
    tool: str = ""          # what went wrong here, not in the filter


def read(path):
    """Returns what was noted, by number."""
    entries = {}
    with open(path) as file:
        for line in file:
            noted = json.loads(line)
            entry = entries.setdefault(noted.pop("attempt"), Entry())
            what = noted.pop("what")
            if what == "reply":
                entry.replies.append(noted["text"])
            elif what == "fault":
                entry.faults.append(noted["text"])
            elif what == "login":
                entry.logins.append(noted["status"])
            elif what == "answer":
                entry.answers.append(noted["text"])
            elif what == "dot":
                entry.dots += 1
            elif what == "waited":
                entry.waited = max(entry.waited, noted["waited"])
                entry.paused = noted.get("paused", 0)
            elif what == "heard":
                entry.heard.append(noted["heard"])
            else:
                for key, value in noted.items():
                    setattr(entry, key, value)
    return entries
