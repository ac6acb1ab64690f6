# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds together what was said of each mail, what is in Swift, what was
forwarded and what the log says."""

import collections
import concurrent.futures
import re

import swiftclient

from . import front, mails
from .ledger import Entry
from .plan import PATIENCE, TIMEOUT

SENDER = re.compile(rb"(?m)^X-Mail-Args: <t(\d+)@client\.example>")
OBJECT = re.compile(r"\bt\d+[ab]/[^,\s]+,S=\d+")
# What no run may have.
WRONG = ("lost", "damaged", "phantom", "orphan", "twice", "verdict",
         "stranger", "wrong 5xx", "needless", "hang", "crash", "left", "tool")
# Calls without which there may be no line in the log, and no reply.
DUMB = ("malloc", "calloc", "write", "poll")
# What costs no mail.
HARMLESS = ("rspamd", "token")
# Swift that was slow: nobody's fault where the processors are busy.
SLOW = re.compile(r"^(account|deferred): .*(timed out|too long|deadline)")
# Who has points in its dialogue.
SIDES = ("store", "rspamd", "behind", "client")
SIGNALS = ("kill", "term", "stop")


class Result:
    def __init__(self):
        self.wrong = {kind: [] for kind in WRONG}
        self.counts = collections.Counter()
        self.suspects = set()   # numbers of attempts

    def add(self, kind, attempt, text):
        self.suspects.add(attempt.number)
        self.wrong[kind].append(
            f"{attempt.number} ({attempt.targets}, auth {attempt.auth}, "
            f"{', '.join(attempt.ways)}; "
            f"{'; '.join(map(str, attempt.faults))}): {text}")

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

    def __init__(self, attempt, entry, world, copies, lines, result):
        self.attempt = attempt
        self.entry = entry
        self.copies = copies    # that were forwarded
        self.result = result
        self.lines = self.log(world, lines)
        self.verdicts = set()   # that whole objects have
        self.named = self.objects_of("in-doubt: ")
        self.told = self.objects_of("stored: ")
        self.objects = self.look(world)

    def log(self, world, lines):
        if self.attempt.entry == "postfix":
            return lines
        path = world.folder / f"t{self.attempt.number}" / "log"
        if not path.exists():
            return []
        return path.read_text(errors="replace").splitlines()

    def objects_of(self, verb):
        """The objects that lines of this verb name."""
        return {path for line in self.lines if verb in line
                for path in OBJECT.findall(line)}

    def look(self, world):
        """Of each object, by account and name, whether it is whole."""
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
                    headers, content = connection.get_object(container, name)
                    found[account, name] = self.is_whole(content)
                    if found[account, name]:
                        self.verdicts.add(
                            headers.get("x-object-meta-verdict"))
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
        self.count()
        self.judge_objects()
        self.judge_forward()
        self.judge_verdict()
        if "stranger trusted" in entry.faults:
            add("stranger", attempt, entry.answered)
        if self.is_needless():
            add("needless", attempt, entry.answered or entry.replies[-1:])
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
        for status in entry.logins:
            if status not in (0, 69) and not (
                    status in (-9, -15) and self.has_signal()):
                add("hang" if status == "hangs" else "crash", attempt,
                    f"login: {status}")
        if entry.report:
            add("crash", attempt, entry.report)
        if entry.left:
            add("left", attempt, entry.left)
        if entry.tool:
            add("tool", attempt, entry.tool)

    def count(self):
        counts, answered = self.result.counts, self.entry.answered
        counts["mails"] += 1
        counts[answered[:3] or "no answer"] += 1
        for way in self.attempt.ways:
            counts[f"by: {way}"] += 1
        # What is there from the start is met as it is.
        standing = [str(fault) for fault in self.attempt.faults
                    if fault.side == "spool" or fault.action == "quota"]
        for kind in {fault_kind(text)
                     for text in (*self.entry.faults, *standing)}:
            counts[f"met: {kind}"] += 1

    def has_signal(self):
        return any(word in f"{f.point} {f.action}" for word in SIGNALS
                   for f in self.attempt.faults)

    def judge_verdict(self):
        """rspamd's, as the content asked for it."""
        attempt, entry = self.attempt, self.entry
        if not attempt.rspamd:
            return
        wanted = attempt.verdict
        # Nothing else has this reply.
        if entry.answered.startswith("451 4.7.1") and \
                wanted != "soft reject" and attempt.rspamd != "required":
            self.result.add("verdict", attempt, entry.answered)
        if not self.is_acknowledged:
            return
        stored = self.verdicts & {"reject", "soft-reject"}
        if None in self.verdicts and not attempt.has("store", "answer"):
            stored.add(None)
        if self.has_been_heard():
            if wanted in ("reject", "soft reject"):
                stored.add("acknowledged")
            elif not attempt.has("store", "answer"):
                stored |= self.verdicts - {wanted.replace(" ", "-") or
                                           "no-action"}
        if stored:
            self.result.add("verdict", attempt, f"{stored}, not {wanted}")
        self.result.counts["verdict none"] += "none" in self.verdicts

    def has_been_heard(self):
        """Whether the filter must know what rspamd said."""
        heard = self.entry.heard
        return heard is not None and heard < TIMEOUT / 2 and \
            not self.has_signal() and not self.has_call() and \
            not self.entry.paused and self.attempt.entry != "postfix"

    def is_needless(self):
        """Whether a mail was not taken where nothing was in its way."""
        attempt, entry = self.attempt, self.entry
        sides = {f.side for f in attempt.faults} | {
            text.split()[0] for text in entry.faults}
        return not (
            self.is_acknowledged or attempt.entry == "postfix" or
            attempt.refused or attempt.rspamd == "required" or
            attempt.verdict in ("reject", "soft reject") or
            sides - set(HARMLESS) or self.has_signal() or
            entry.tool or any(map(SLOW.search, self.lines)))

    def patience(self):
        """Seconds; Postfix begins with the filter when it has the data, and
        one step with the server behind may take its 60 s then."""
        return PATIENCE + (60 if self.attempt.entry == "postfix" else 0)

    def judge_objects(self):
        good = collections.Counter()
        told = collections.Counter()
        for (account, name), is_whole in self.objects.items():
            path = f"{self.attempt.container(account)}/{name}"
            if not is_whole:
                if path not in self.named:
                    self.result.add("damaged", self.attempt, path)
                continue
            good[account] += 1
            if self.is_acknowledged and path in self.told:
                self.result.counts["stored"] += 1
                told[account] += 1
            else:
                self.judge_leftover(path)
        if self.is_acknowledged:
            for account in self.attempt.accounts:
                if good[account] == 0:
                    self.result.add("lost", self.attempt, f"account {account}")
                if told[account] > 1:
                    self.result.add("twice", self.attempt,
                                    f"account {account}")

    def judge_leftover(self, path):
        """An object that nobody was told to be stored."""
        cause = ("killed" if self.entry.killed else
                 "in doubt" if path in self.named else
                 "answer not heard" if path in self.told else
                 "no line could be written" if self.has_call(*DUMB) else
                 "the store said it was deleted"
                 if self.is_lied_to() else None)
        if cause is None:
            self.result.add("orphan", self.attempt, path)
        elif self.is_acknowledged:
            self.result.counts[f"stored twice: {cause}"] += 1
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
        return self.attempt.refused or \
            bool(self.attempt.rspamd) and self.attempt.verdict == "reject" or \
            any(
            f.side == "behind" and f.action.startswith(("answer:", "early:"))
            for f in self.attempt.faults)

    def is_lied_to(self):
        """Whether a DELETE was answered 204 that Swift never saw."""
        return any(f.point == "DELETE.head" and f.action == "answer:204"
                   for f in self.attempt.faults)

    def has_call(self, *names):
        return any(f.side == "call" and (not names or f.point in names)
                   for f in self.attempt.faults)


def fault_kind(text):
    """Of what was noted of a fault: who, and what, without where and how
    much."""
    side, *words = text.split(" at ")[0].split()
    if side == "stranger":
        return text
    if side in ("call", "clock", "spool", "token"):
        return f"{side} {words[0].split(':')[0]}"
    if words == ["quota"]:
        return text
    if side in SIDES and len(words) > 1:
        action = next(word for word in words[1:] if word[0] != "#")
        return f"{side} {action.split(':')[0]}"
    return f"event: {text}"     # Of the world.


def reconcile(attempts, entries, world, result):
    """Adds what became of the attempts to the Result."""
    world.postfix.wait_for_empty_queue(120)
    copies = forwarded(world.sink)
    lines = front.logged(world)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        judged = list(pool.map(
            lambda attempt: Reconciled(
                attempt, entries.get(attempt.number, Entry()), world,
                copies[attempt.number], lines[attempt.number], result),
            attempts))
        for one in judged:
            one.judge()
        list(pool.map(lambda one: world.forget(one.attempt, one.objects), [
            one for one in judged
            if one.attempt.number not in result.suspects]))
    world.sink.clear()
