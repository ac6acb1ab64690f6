# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds together what was said of each mail, what is in Swift, what was
forwarded and what the log says."""

import collections
import re

import swiftclient

from . import front, mails
from .client import PATIENCE
from .ledger import Entry

SENDER = re.compile(rb"(?m)^X-Mail-Args: <t(\d+)@client\.example>")
OBJECT = re.compile(r"\bt\d+[ab]/[^,\s]+,S=\d+")
# What no run may have.
WRONG = ("lost", "damaged", "phantom", "orphan", "wrong 5xx", "hang", "crash",
         "left")
# Calls without which there may be no line in the log, and no reply.
DUMB = ("malloc", "calloc", "write", "poll")


class Result:
    def __init__(self):
        self.wrong = {kind: [] for kind in WRONG}
        self.counts = collections.Counter()

    def add(self, kind, attempt, text):
        self.wrong[kind].append(
            f"{attempt.number} ({attempt.targets}, auth {attempt.auth}, "
            f"{attempt.entry}; {'; '.join(map(str, attempt.faults))}): {text}")

    @property
    def is_clean(self):
        return not any(self.wrong.values())


def forwarded(sink):
    """How often each attempt's mail came out behind."""
    counts = collections.Counter()
    for mail in sink.mails():
        found = SENDER.search(mail)
        if found:
            counts[int(found[1])] += 1
    return counts


class Reconciled:
    """One attempt."""

    def __init__(self, attempt, entry, world, copies, result):
        self.attempt = attempt
        self.entry = entry
        self.copies = copies    # that were forwarded
        self.result = result
        self.lines = self.log(world)
        self.named = self.objects_of("in-doubt: ")
        self.told = self.objects_of("stored: ")
        self.objects = self.look(world)

    def log(self, world):
        if self.attempt.entry == "postfix":
            return front.log_lines(world, self.attempt)
        path = world.folder / f"t{self.attempt.number}" / "log"
        return path.read_text(errors="replace").splitlines()

    def objects_of(self, verb):
        """The objects that lines of this verb name."""
        return {path for line in self.lines if verb in line
                for path in OBJECT.findall(line)}

    def look(self, world):
        """The content of each object by account and name."""
        connection = world.connection(self.attempt)
        found = {}
        for account in self.attempt.accounts:
            container = self.attempt.container(account)
            try:
                names = {entry["name"] for entry in connection.get_container(
                    container, full_listing=True)[1]}
            except swiftclient.ClientException as error:
                if error.http_status != 404:
                    raise
                names = set()
            # A listing can be behind: what was named is looked for as well.
            for path in self.named | self.told:
                if path.startswith(container + "/"):
                    names.add(path.split("/", 1)[1])
            for name in names:
                try:
                    found[account, name] = connection.get_object(
                        container, name)[1]
                except swiftclient.ClientException as error:
                    if error.http_status != 404:
                        raise
        return found

    @property
    def is_acknowledged(self):
        return self.entry.answered.startswith("2")

    def is_whole(self, content):
        if self.attempt.entry == "postfix":
            # With what Postfix puts on top.
            whole = mails.content(self.attempt)
            return content.endswith(whole)
        return mails.sha256(content) == self.entry.sha256

    def judge(self):
        add, attempt, entry = self.result.add, self.attempt, self.entry
        self.result.counts[entry.answered[:3] or "no answer"] += 1
        for fault in entry.faults:
            self.result.counts[f"met: {fault.split()[0]}"] += 1
        self.judge_objects()
        self.judge_forward()
        if entry.answered.startswith("5") and not self.may_refuse():
            add("wrong 5xx", attempt, entry.answered)
        if entry.waited > self.patience() or entry.status == "hangs":
            add("hang", attempt, f"{entry.waited:.1f} s, {entry.status}")
        if isinstance(entry.status, int) and entry.status < 0 and not \
                (entry.killed and entry.status == -9):
            add("crash", attempt, f"signal {-entry.status}")
        if isinstance(entry.status, int) and entry.status > 0 and \
                not (entry.status == 78 and self.has_call()):
            add("crash", attempt, f"status {entry.status}")
        if getattr(entry, "left", None):
            add("left", attempt, entry.left)

    def patience(self):
        """Seconds; Postfix begins with the filter when it has the data, and
        one step with the server behind may take its 60 s then."""
        return PATIENCE + (60 if self.attempt.entry == "postfix" else 0)

    def judge_objects(self):
        good = collections.Counter()
        for (account, name), content in self.objects.items():
            path = f"{self.attempt.container(account)}/{name}"
            if not self.is_whole(content):
                if path not in self.named:
                    self.result.add("damaged", self.attempt, path)
                continue
            good[account] += 1
            if self.is_acknowledged and path in self.told:
                self.result.counts["stored"] += 1
            else:
                self.judge_leftover(path)
        if self.is_acknowledged:
            for account in self.attempt.accounts:
                if good[account] == 0:
                    self.result.add("lost", self.attempt, f"account {account}")

    def judge_leftover(self, path):
        """An object that nobody was told to be stored."""
        cause = ("killed" if self.entry.killed else
                 "in doubt" if path in self.named else
                 "answer not heard" if path in self.told else
                 "no line could be written" if self.has_call(*DUMB) else None)
        if cause is None:
            self.result.add("orphan", self.attempt, path)
        else:
            self.result.counts[f"left: {cause}"] += 1

    def judge_forward(self):
        if "f" not in self.attempt.targets:
            if self.copies:
                self.result.add("phantom", self.attempt, "never asked for")
            return
        if self.is_acknowledged:
            if self.copies == 0:
                self.result.add("lost", self.attempt, "not forwarded")
            if self.copies > 1:
                self.result.counts["forwarded twice"] += 1
            self.result.counts["forwarded"] += 1
            return
        if self.copies == 0:
            return
        doubt = any("in-doubt: " in line and "relay=" in line
                    for line in self.lines)
        done = any("forwarded: " in line for line in self.lines)
        cause = ("killed" if self.entry.killed else
                 "in doubt" if doubt else
                 "answer not heard" if done and not self.entry.answered else
                 "no reply could be written" if self.has_call(*DUMB) else
                 "Postfix's own" if "kill cleanup" in self.entry.faults
                 else None)
        if cause is None:
            self.result.add("phantom", self.attempt, self.entry.answered)
        else:
            self.result.counts[f"forwarded, not acknowledged: {cause}"] += 1

    def may_refuse(self):
        """Whether the server behind says 5yz, or what it says is not its
        answer."""
        return self.attempt.refused or any(
            f.side == "behind" and f.action.startswith(("answer:", "early:"))
            for f in self.attempt.faults)

    def has_call(self, *names):
        return any(f.side == "call" and (not names or f.point in names)
                   for f in self.attempt.faults)


def reconcile(attempts, entries, world):
    """Returns the Result of all attempts."""
    world.postfix.wait_for_empty_queue(120)
    copies = forwarded(world.sink)
    result = Result()
    for attempt in attempts:
        Reconciled(attempt, entries.get(attempt.number, Entry()), world,
                   copies[attempt.number], result).judge()
    return result
