# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds together what was said of each mail, what is in Swift, what was
forwarded and what the log says."""

import collections
import concurrent.futures
import re
import time

import swiftclient

from . import front, mails
from .ledger import Entry
from .plan import PATIENCE, TIMEOUT
from .world import FORWARDS

SENDER = re.compile(rb"(?m)^X-Mail-Args: <t(\d+)@client\.example>")
RECIPIENT = re.compile(rb"(?m)^X-Rcpt-Args: <([^>\n]*)>")
# What servers put into the head of a mail.
ADDED = re.compile(
    rb"(?m)^(?:X-(?:Client|Helo|Mail|Rcpt)-\w+|Received|Message-Id|Date|From):"
    rb".*\n(?:[ \t].*\n)*")
# What Postfix alone puts on top of the mail for the filter.
TRACE = re.compile(rb"Received: .*\r\n(?:[ \t].*\r\n)*")
NAME = re.compile(r"250 2\.0\.0 Ok: stored as (\S+)")
# What Postfix says when it has not heard from the filter.
UNHEARD = "queue file write error"
OBJECT = re.compile(r"\bt\d+[ab]/[^,\s]+,S=\d+")
# What no run may have.
WRONG = ("lost", "damaged", "phantom", "orphan", "twice", "clash", "verdict",
         "stranger", "wrong 5xx", "needless", "hang", "crash", "left", "tool")
# What failcalls.c says in the log: that calls begin to fail, and that one for
# the log did, which the filter does not try again.
FAILS, LOG_FAILS = "failcalls: begins", "failcalls: the log"
# Lines of what became of a mail.
OUTCOME = re.compile("^(stored|forwarded|deferred|rejected|in-doubt|lost): ")
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
        self.names = {}         # of objects, and the attempt's number

    def add(self, kind, attempt, text):
        self.suspects.add(attempt.number)
        self.wrong[kind].append(
            f"{attempt.number} ({attempt.targets}, auth {attempt.auth}, "
            f"{', '.join(attempt.ways)}; "
            f"{'; '.join(map(str, attempt.faults))}): {text}")

    @property
    def is_clean(self):
        return not any(self.wrong.values())


def forwards(attempt):
    """To whom it goes from the server behind; an extension goes along."""
    (away, target), = FORWARDS.items()
    away, target = away.split("@")[0], target.replace("@", "{}@")
    return [target.format(recipient.split("@")[0].removeprefix(away)).encode()
            for recipient in attempt.recipients if recipient.startswith(away)]


def is_whole_forward(copy, attempt):
    """Whether what smtp-sink(1) has kept, which ends lines with LF and ends
    with one more, is the mail that was sent."""
    head, blank, body = copy.removesuffix(b"\n").partition(b"\n\n")
    found = ADDED.sub(b"", head + blank[:1]) + blank[1:] + body
    content = mails.content(attempt).replace(b"\r\n", b"\n")
    # What begins with no field gets an empty line before.
    return found in (content, b"\n" + content) and \
        sorted(RECIPIENT.findall(head)) == sorted(forwards(attempt))


def forwarded(sink, attempts):
    """Of each attempt's mail that came out behind, by number: a list of
    whether it was whole."""
    known = {attempt.number: attempt for attempt in attempts}
    found = collections.defaultdict(list)
    for copy in sink.mails():
        sender = SENDER.search(copy)
        if sender and int(sender[1]) in known:
            number = int(sender[1])
            found[number].append(is_whole_forward(copy, known[number]))
    return found


class Reconciled:
    """One attempt."""

    def __init__(self, attempt, entry, world, copies, lines, result):
        self.attempt = attempt
        self.entry = entry
        self.copies = copies    # that were forwarded: whether they are whole
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
            content = TRACE.sub(b"", content, 1)
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
        if entry.waited > self.patience() or entry.status == "hangs" or \
                "timed out" in entry.gone:
            add("hang", attempt,
                f"{entry.waited:.1f} s, {entry.status} {entry.gone}")
        if isinstance(entry.status, int) and entry.status < 0 and not \
                (entry.killed and entry.status == -9):
            add("crash", attempt, f"signal {-entry.status}")
        if isinstance(entry.status, int) and entry.status > 0 and \
                not (entry.status == 78 and self.has_call()):
            add("crash", attempt, f"status {entry.status}")
        for how in entry.spawned:
            # SIGTERM ends a filter that has not begun to wait for it.
            if not (entry.killed and how == "killed by signal 9") and not (
                    "term filter" in entry.faults
                    and how == "killed by signal 15"):
                add("crash", attempt, how)
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
                    if fault.side == "spool" or fault.action == "quota" or
                    fault.side == "call" and FAILS in self.lines]
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
            sides - set(HARMLESS) or self.has_signal() or attempt.limit or
            entry.tool or any(map(SLOW.search, self.lines)))

    def patience(self):
        """Seconds; Postfix begins with the filter when it has the data, and
        one step with the server behind may take its 60 s then."""
        return PATIENCE + (60 if self.attempt.entry == "postfix" else 0)

    def judge_objects(self):
        good = collections.defaultdict(list)
        for (account, name), is_whole in self.objects.items():
            path = f"{self.attempt.container(account)}/{name}"
            if is_whole:
                good[account].append(path)
            elif path not in self.named:
                self.result.add("damaged", self.attempt, path)
        for _, name in self.objects:
            other = self.result.names.setdefault(name, self.attempt.number)
            if other != self.attempt.number:
                self.result.add("clash", self.attempt, f"{other} has {name}")
        for account in self.attempt.accounts:
            if self.is_acknowledged:
                self.judge_stored(account, good[account])
            else:
                for path in good[account]:
                    self.count_leftover("left", path)
        self.judge_name()

    def judge_stored(self, account, paths):
        """The whole objects of an account that must have one."""
        told = [path for path in paths if path in self.told]
        if not paths:
            self.result.add("lost", self.attempt, f"account {account}")
        elif not told and self.cause_of_leftover(paths[0]) is None:
            self.result.add("orphan", self.attempt, f"{paths}: no line")
        else:
            self.result.counts["stored"] += 1
        if len(told) > 1:
            self.result.add("twice", self.attempt, f"account {account}")
        # Where no line says which one it is, any is.
        for path in sorted(set(paths) - set(told))[0 if told else 1:]:
            self.count_leftover("stored twice", path)

    def judge_name(self):
        """The name that the reply to the end of data gives."""
        if not self.is_acknowledged or not self.attempt.accounts:
            return
        found = NAME.match(self.entry.answered)
        named = self.attempt.accounts[0], f"cur/{found and found[1]}"
        if not self.objects.get(named):
            self.result.add("lost", self.attempt,
                            f"under the name in {self.entry.answered}")

    def count_leftover(self, what, path):
        """A whole object that nobody was told to be stored."""
        cause = self.cause_of_leftover(path)
        if cause is None:
            self.result.add("orphan", self.attempt, path)
        else:
            self.result.counts[f"{what}: {cause}"] += 1

    def cause_of_leftover(self, path):
        return ("killed" if self.entry.killed else
                "in doubt" if path in self.named else
                "answer not heard"
                if path in self.told and not self.has_answered() else
                self.cause_of_silence() or
                ("the store said it was deleted"
                 if self.is_lied_to() else None))

    def cause_of_silence(self):
        """Why a line may be missing in the log, or None."""
        if LOG_FAILS in self.lines:
            return "no line could be written"
        if FAILS not in self.lines or not self.has_call("malloc", "calloc"):
            return None
        after = self.lines[self.lines.index(FAILS):]
        # One line may have had no memory where the next one had.
        return "no memory for one line" if any(map(OUTCOME.match, after)) \
            else "no line could be written"

    def has_answered(self):
        """Whether what the client heard is what the filter said."""
        return self.entry.answered and not (
            self.attempt.entry == "postfix" and
            UNHEARD in self.entry.answered)

    def judge_forward(self):
        if not all(self.copies):
            self.result.add("damaged", self.attempt, "as it was forwarded")
        if len(self.copies) > 1:
            self.result.add("twice", self.attempt,
                            f"{len(self.copies)} forwards")
        if "f" not in self.attempt.targets:
            if self.copies:
                self.result.add("phantom", self.attempt, "never asked for")
            return
        if self.is_acknowledged:
            if not self.copies:
                self.result.add("lost", self.attempt, "not forwarded")
            self.result.counts["forwarded"] += 1
            return
        if not self.copies:
            return
        doubt = any("in-doubt: " in line and "relay=" in line
                    for line in self.lines)
        done = any("forwarded: " in line for line in self.lines)
        cause = ("killed" if self.entry.killed else
                 "in doubt" if doubt else
                 "answer not heard" if done and not self.has_answered() else
                 "Postfix's own" if {"kill cleanup", "term cleanup"} &
                 set(self.entry.faults) else self.cause_of_silence())
        if cause is None:
            self.result.add("phantom", self.attempt, self.entry.answered)
        else:
            self.result.counts[f"forwarded, not acknowledged: {cause}"] += 1

    def may_refuse(self):
        """Whether the server behind says 5yz, to what is out of sequence for
        it as well."""
        return self.attempt.refused or \
            bool(self.attempt.rspamd) and self.attempt.verdict == "reject" or \
            any(
            f.side == "behind" and f.action.startswith(
                ("answer:5", "early:5", "answer:2"))
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
    copies = forwarded(world.sink, attempts)
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
    end = time.monotonic() + 5
    while (zombies := world.zombies()) and time.monotonic() < end:
        time.sleep(0.1)
    result.wrong["left"] += zombies
