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
from .plan import MIB, PATIENCE, TIMEOUT
from .world import FORWARDS, REFUSED

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
         "stranger", "wrong 5xx", "needless", "silent", "hang", "crash", "left",
         "tool")
# What failcalls.c says in the log: that calls begin to fail, and that one for
# the log did, which the filter does not try again.
FAILS, LOG_FAILS = "failcalls: begins", "failcalls: the log"
# Lines of what became of a mail.
OUTCOME = re.compile("^(stored|forwarded|deferred|rejected|in-doubt|lost): ")
# What costs no mail.
HARMLESS = {"rspamd", "token"}
# What rspamd's verdict is for the client.
REPLIES = {"reject": "550 5.7.1 reject, as you wish",
           "soft reject": "451 4.7.1"}
# Faults of the server behind: what answers that it did not give, or what is
# out of sequence then; what says no and nothing else.
ANSWERS = re.compile(r"behind \S+ (?:#\d+ )?answer:[25]")
SAYS_NO = re.compile(r"behind \S+ (?:#\d+ )?answer:[45]")
# The filter is killed before the last dot can have been sent.
KILLED_EARLY = re.compile(
    r"store (AUTH\.|(TCP|TLS|PUT)\.(accept|hello|part|head|body|sent) ).*kill")
# Swift that was slow: nobody's fault where the processors are busy.
SLOW = re.compile(r"^(account|deferred): .*(timed out|too long|deadline)")
# Who has points in its dialogue.
POINTED = ("store", "rspamd", "behind")
SIDES = (*POINTED, "client")
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
    wanted = collections.Counter(forwards(attempt))
    wanted.subtract(RECIPIENT.findall(head))
    # To some RCPT the proxy said 250, and not the server.
    asked = [fault for fault in attempt.faults
             if fault.point == "RCPT.before" and "answer:2" in fault.action]
    return found in (content, b"\n" + content) and \
        min(wanted.values(), default=0) >= 0 and \
        sum(wanted.values()) <= len(asked)


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
    def acknowledged(self):
        """How often it was."""
        return sum(answer.startswith("2") for answer in self.entry.answers)

    @property
    def unheard(self):
        """How many answers the client has not heard as the filter said
        them."""
        return self.entry.dots - len(self.entry.answers) + (
            sum(UNHEARD in answer for answer in self.entry.answers)
            if self.attempt.entry == "postfix" else 0)

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
            add("stranger", attempt, entry.answers)
        if self.is_needless():
            add("needless", attempt, entry.answers or entry.replies[-1:])
        for reply in entry.replies:
            if reply.startswith("5") and not self.may_refuse(reply):
                add("wrong 5xx", attempt, reply)
        if self.named and not self.may_doubt():
            add("orphan", attempt, f"{self.named}: in doubt without a cause")
        if self.has_no_last_word() and not self.cause_of_no_answer():
            add("silent", attempt, f"{entry.replies[-1:]} {entry.gone}")
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
        counts, entry = self.result.counts, self.entry
        counts["mails"] += max(entry.dots, 1)
        for answer in entry.answers:
            counts[answer[:3]] += 1
        if entry.dots == 0 and not self.has_no_last_word():
            counts[self.said[:3]] += 1
        elif entry.dots == 0 or entry.dots > len(entry.answers):
            counts["no answer"] += 1
        if self.has_no_last_word():
            counts[f"no answer: {self.cause_of_no_answer()}"] += 1
        for way in self.attempt.ways:
            counts[f"by: {way}"] += 1
        # What is there from the start is met as it is.
        standing = [str(fault) for fault in self.attempt.faults
                    if fault.side == "spool" or fault.action == "quota" or
                    fault.side == "call" and FAILS in self.lines]
        for kind in {fault_kind(text)
                     for text in (*self.entry.faults, *standing)}:
            counts[f"met: {kind}"] += 1
        for point in {" ".join(text.split()[:2]) for text in entry.faults
                      if text.split()[0] in POINTED}:
            counts[f"at: {point}"] += 1

    @property
    def said(self):
        """The last word, which is no answer to QUIT."""
        said = [reply for reply in self.entry.replies
                if not reply.startswith("221")]
        return said[-1] if said else ""

    def has_no_last_word(self):
        """Whether the session ended before the client knew what became of
        its mail."""
        entry = self.entry
        return not self.said.startswith(("4", "5")) and (
            entry.dots < self.attempt.tries or
            entry.dots > len(entry.answers))

    def cause_of_no_answer(self):
        entry, attempt = self.entry, self.attempt
        return ("the client went" if entry.cut or attempt.has("client", "half")
                else "killed" if entry.killed else
                "a call failed" if self.has_call() else
                "Postfix's own" if any("smtpd" in text
                                       for text in entry.faults) else None)

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
        for answer in entry.answers:
            if answer.startswith("451 4.7.1") and \
                    wanted != "soft reject" and attempt.rspamd != "required":
                self.result.add("verdict", attempt, answer)
        if not self.acknowledged:
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
        """Whether the filter must know what rspamd said each time."""
        heard = self.entry.heard
        return len(heard) == self.entry.dots > 0 and \
            max(heard) < TIMEOUT / 2 and not self.has_signal() and \
            not self.has_call() and not self.entry.paused and \
            self.attempt.entry != "postfix"

    def is_needless(self):
        """Whether the answer is none of those that it has where nothing is
        in the mail's way."""
        attempt, entry = self.attempt, self.entry
        wanted = ["5" if attempt.refused else "2"]
        if attempt.rspamd and attempt.verdict in REPLIES:
            if self.has_been_heard():
                wanted = []
            wanted.append(REPLIES[attempt.verdict])
        as_wanted = len(entry.answers) == attempt.tries and all(
            answer.startswith(tuple(wanted)) for answer in entry.answers)
        return not (as_wanted or attempt.entry == "postfix" or
                    attempt.rspamd == "required" or
                    self.is_hurt(self.harmless))

    @property
    def harmless(self):
        """Sides whose faults cost no mail; with libcurl's Expect the proxy
        says 100 Continue itself, and a 401 is lost where Swift closes."""
        return HARMLESS - {"token"} if self.attempt.size > MIB else HARMLESS

    def is_hurt(self, harmless):
        """Whether anything but what is on these sides was in its way."""
        attempt, entry = self.attempt, self.entry
        sides = {f.side for f in attempt.faults} | {
            text.split()[0] for text in entry.faults}
        return (sides - harmless or self.has_signal() or attempt.limit or
                entry.tool or any(map(SLOW.search, self.lines)))

    def may_doubt(self):
        """Whether anything could leave an object in doubt."""
        harmless = self.harmless | {"spool"}
        if all(SAYS_NO.match(str(fault)) for fault in self.attempt.faults
               if fault.side == "behind"):
            harmless.add("behind")
        return self.attempt.entry == "postfix" or self.is_hurt(harmless)

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
            self.judge_account(account, set(good[account]))
        self.judge_names()

    def judge_account(self, account, paths):
        """The whole objects of an account."""
        add, attempt, wanted = self.result.add, self.attempt, self.acknowledged
        told = {path for path in self.told
                if path.startswith(attempt.container(account) + "/")}
        if len(paths) < wanted:
            add("lost", attempt, f"account {account}")
        if told - paths:
            add("lost", attempt, f"called stored: {told - paths}")
        told &= paths
        # Where no line says which one it is, any is.
        unnamed = sorted(paths - told)
        of_the_reply = max(wanted - len(told), 0)
        for path in unnamed[:of_the_reply]:
            if self.cause_of_leftover(path) is None:
                add("orphan", attempt, f"{path}: no line")
        self.result.counts["stored"] += min(len(paths), wanted)
        what = "stored twice" if wanted else "left"
        if len(told) - wanted > self.unheard:
            add("twice" if wanted else "orphan", attempt, f"{told}")
        elif len(told) > wanted:
            self.result.counts[f"{what}: answer not heard"] += \
                len(told) - wanted
        for path in unnamed[of_the_reply:]:
            self.count_leftover(what, path)

    def judge_names(self):
        """Those that replies to the end of data give."""
        for answer in self.entry.answers:
            if not answer.startswith("2") or not self.attempt.accounts:
                continue
            found = NAME.match(answer)
            named = self.attempt.accounts[0], f"cur/{found and found[1]}"
            if not self.objects.get(named):
                self.result.add("lost", self.attempt,
                                f"under the name in {answer}")

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

    def judge_forward(self):
        if not all(self.copies):
            self.result.add("damaged", self.attempt, "as it was forwarded")
        copies, wanted = len(self.copies), self.acknowledged
        if copies > self.attempt.tries:
            self.result.add("twice", self.attempt, f"{copies} forwards")
        if "f" not in self.attempt.targets:
            if self.copies:
                self.result.add("phantom", self.attempt, "never asked for")
            return
        if copies < wanted:
            self.result.add("lost", self.attempt, "not forwarded")
        self.result.counts["forwarded"] += min(copies, wanted)
        if copies <= wanted:
            return
        cause = self.cause_of_forward()
        if cause is None:
            self.result.add("phantom", self.attempt, self.entry.answers)
        else:
            self.result.counts[f"forwarded, not acknowledged: {cause}"] += \
                copies - wanted

    def cause_of_forward(self):
        """Of more than were acknowledged, or None."""
        faults = self.entry.faults
        kills = [text for text in faults if "kill" in text]
        early = kills and self.attempt.tries == 1 and \
            all(map(KILLED_EARLY.match, kills))
        doubt = any("in-doubt: " in line and "relay=" in line
                    for line in self.lines)
        done = sum("forwarded: " in line for line in self.lines)
        return ("killed" if self.entry.killed and not early else
                "in doubt" if doubt else
                "answer not heard"
                if done > self.acknowledged and self.unheard else
                "Postfix's own" if {"kill cleanup", "term cleanup"} &
                set(faults) else self.cause_of_silence())

    def may_refuse(self, reply):
        """Whether rspamd said so, or the server behind, to what is out of
        sequence for it as well."""
        attempt = self.attempt
        return attempt.refused and REFUSED in reply or \
            attempt.rspamd and attempt.verdict == "reject" and \
            reply == REPLIES["reject"] or \
            any(map(ANSWERS.match, self.entry.faults))

    def is_lied_to(self):
        """Whether a DELETE was answered that Swift never saw."""
        return any(f.point == "DELETE.head" and
                   f.action in ("answer:204", "answer:404")
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
