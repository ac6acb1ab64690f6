# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent, and what fails then: a seed repeats it."""

import dataclasses
import random

DEADLINE = 6    # seconds, as the filters are configured
TIMEOUT = 2
# An answer that takes longer than this is a hang.
PATIENCE = DEADLINE + 10

KIB, MIB = 1024, 1024 * 1024
SIZES = ((0, 0), (1, 300), (300, 20 * KIB), (300, 20 * KIB),
         (250 * KIB, 270 * KIB), (1 * MIB, 3 * MIB))
LARGE = (8 * MIB, 50 * MIB)
LARGE_ONE_IN = 60

# Where a mail goes: accounts, and the server behind.
TARGETS = ("a", "a", "ab", "af", "abf", "f")

STATUSES = (202, 204, 301, 304, 307, 400, 401, 403, 404, 408, 409, 412, 413,
            422, 429, 498, 499, 500, 502, 503, 504, 507, 599)
PUT_POINTS = ("part", "head", "body", "sent", "answer", "answered")
OTHER_POINTS = ("part", "head", "sent", "answer", "answered")
# Whose answer has a body.
AUTH_POINTS = (*OTHER_POINTS, "tail")
# The longest are past every time limit.
CUTS = ("cut", "reset", "kill", "term", "stop:1", "stop:8", "delay:1",
        "delay:3", "delay:8")

VERBS = ("EHLO", "XFORWARD", "MAIL", "RCPT", "DATA")
PHASES = ("before", "after", "inside", "answered")
CLIENT_POINTS = ("mail", "rcpt", "data", "content", "dot", "late")
# What rspamd might say with 200 that is no verdict.
NONSENSE = ("", "{", "[]", "null", '{"action": 7, "score": 1}',
            '{"action": "no action"}', '{"score": 3}', '{"action": "rej',
            '{"action": "reject", "score": "high"}')
TOKEN_FAULTS = ("missing", "garbled", "empty", "stale", "foreign", "revoked",
                "writable", "link", "folder", "fifo", "login", "kill:0.005",
                "kill:0.02", "kill:0.1")
CALLS = {"malloc": ("ENOMEM",), "calloc": ("ENOMEM",),
         "write": ("EIO", "EAGAIN", "EPIPE"),
         "pread": ("EIO",), "send": ("ECONNRESET", "EPIPE"),
         "recv": ("ECONNRESET", "ETIMEDOUT"), "poll": ("ENOMEM",),
         "connect": ("ECONNREFUSED", "EADDRNOTAVAIL", "ETIMEDOUT"),
         "getrandom": ("ENOSYS",), "socket": ("EMFILE", "ENOBUFS"),
         "read": ("EIO",), "open": ("ENOSPC", "EMFILE")}
CLOCKS = ("-3y", "+5y", "-1d", "+20d")
# A filter started as spawn(8) would, by spawn(8), by systemd's socket with
# $LISTEN_FDS and with descriptors 0 and 1, and as process 1 of a namespace:
# all of these have the same process id.
ENTRIES = (("direct", 20), ("postfix", 3), ("socket", 2), ("inetd", 2),
           ("pids", 3))
# Seconds for what has a time limit of its own, beside that of a whole mail.
SESSION_LIMIT = 3
SILENCE = 2
PROXY_TIMEOUT = 3
RECIPIENTS = 80
EXTENSION = "all-who-had-their-share-of-it-"
# What the content asks rspamd for.
VERDICTS = ("", "", "", "", "reject", "reject", "soft reject", "add header")


@dataclasses.dataclass
class Fault:
    """side: store, rspamd, token, behind, client, call, spool, clock or none;
    point: where; action: what; number: at which request of that kind, 0 for
    each."""
    side: str = "none"
    point: str = ""
    action: str = ""
    number: int = 1

    def __str__(self):
        return " ".join(filter(None, (
            self.side, self.point, self.number != 1 and f"#{self.number}",
            self.action)))


@dataclasses.dataclass
class Attempt:
    number: int
    size: int
    targets: str
    auth: str = "1"
    entry: str = "direct"
    faults: list = dataclasses.field(default_factory=list)
    refused: bool = False   # by the server behind, for its subject
    tls: bool = False       # to the store
    token_file: bool = False
    rspamd: str = ""        # asked, or required
    verdict: str = ""       # of rspamd, as the content asks for
    sanitized: bool = False     # the program built with ASan and UBSan
    limit: str = ""         # that is short: session, client or proxy
    many: bool = False      # recipients
    other_login: str = ""   # of the second account: operator or tempurl
    tries: int = 1          # how often it is sent, in one session

    @property
    def sender(self):
        return f"t{self.number}@client.example"

    @property
    def accounts(self):
        return [name for name in self.targets if name != "f"]

    @property
    def recipients(self):
        names = {"a": "a", "b": "b", "f": "away"}
        # Postfix gives more than 50 of a forward as several mails.
        count = RECIPIENTS // max(len(self.targets), 2) if self.many else 0
        return [f"{names[target]}{extension}@example.org"
                for target in self.targets
                for extension in [f"+{EXTENSION}{number}"
                                  for number in range(count)] or [""]]

    def container(self, account):
        return f"t{self.number}{account}"

    @property
    def ways(self):
        """In what way it is sent and stored, a word each."""
        return [f"entry {self.entry}", f"auth {self.auth}",
                *(["TLS"] if self.tls else ()),
                *(["token_file"] if self.token_file else ()),
                *([f"rspamd {self.rspamd}"] if self.rspamd else ()),
                *(["sanitized"] if self.sanitized else ()),
                *(["twice in a session"] if self.tries > 1 else ()),
                *([f"short limit of the {self.limit}"] if self.limit else ()),
                *([f"{RECIPIENTS} recipients"] if self.many else ()),
                *([f"another login, {self.other_login}"]
                  if self.other_login else ())]

    def has(self, side, *actions):
        return any(fault.side == side and
                   (not actions or fault.action.split(":")[0] in actions)
                   for fault in self.faults)

    def may_meet(self, event):
        """Whether an event of the world can touch it."""
        words = set(event.split())
        if words & {"filter", "spawn"}:
            return self.entry == "postfix"
        if words & {"smtpd", "cleanup"}:
            return self.entry == "postfix" or "f" in self.targets
        if "rspamd" in words:
            return bool(self.rspamd)
        with_keystone = words & {"keystone", "keystone-swift"}
        return bool(self.accounts) and \
            (self.auth == "3") == bool(with_keystone)


def store_fault(rng):
    kind = rng.choice(("AUTH", "PUT", "PUT", "PUT", "HEAD", "DELETE"))
    number = rng.choice((1, 1, 1, 2, 3, 0))
    style = rng.randrange(5)
    if style == 0:
        return Fault("store", f"{kind}.head",
                     f"answer:{rng.choice(STATUSES)}", number)
    if style == 1:
        status = rng.choice((202, 204, 500, 503, 504, 507))
        return Fault("store", f"{kind}.sent", f"answer:{status}", number)
    if style == 2 and kind == "PUT":
        etag = rng.choice(("wrong", "missing", "quoted", "weak"))
        return Fault("store", "PUT.answer", f"etag:{etag}", number)
    if style == 3:
        point, action = rng.choice((
            ("answer", "garble"), ("head", "interim"), ("head", "token"),
            ("sent", "interim"), ("head", "late"), ("head", "box"),
            ("body", "garble"), ("body", "damage"), ("body", "throttle"),
            ("answer", "throttle")))
        if kind != "PUT":
            point, action = rng.choice((("head", "token"),
                                        ("answer", "garble")))
        return Fault("store", f"{kind}.{point}", action, number)
    points = {"PUT": PUT_POINTS, "AUTH": AUTH_POINTS}.get(kind, OTHER_POINTS)
    return Fault("store", f"{kind}.{rng.choice(points)}", rng.choice(CUTS),
                 number)


def connection_fault(rng):
    point, action = rng.choice((
        ("TCP.accept", rng.choice(CUTS)),
        ("TLS.hello", rng.choice(("stranger", "garble", *CUTS)))))
    return Fault("store", point, action, rng.choice((1, 1, 2, 0)))


def rspamd_fault(rng):
    style = rng.randrange(4)
    if style == 0:
        return Fault("rspamd", "POST.head", f"answer:{rng.choice(STATUSES)}")
    if style == 1:
        return Fault("rspamd", rng.choice(("POST.head", "POST.sent")),
                     f"answer:200 {rng.choice(NONSENSE)}")
    if style == 2:
        return Fault("rspamd", *rng.choice((
            ("POST.answer", "garble"), ("POST.answer", "throttle"),
            ("POST.body", "throttle"), ("POST.head", "interim"))))
    point = rng.choice(("TCP.accept", *(
        f"POST.{name}" for name in (*PUT_POINTS, "tail"))))
    return Fault("rspamd", point, rng.choice(CUTS))


def token_fault(rng):
    return Fault("token", rng.choice(TOKEN_FAULTS))


def behind_fault(rng):
    style = rng.randrange(4)
    place = rng.choice((*VERBS, "dot", "dot", "dot"))
    if style == 0:
        code = rng.choice(("100 What", "250 2.0.0 Ok", "354 Go", "421 Bye",
                           "451 4.3.0 Later", "550 5.7.1 No", "554 No"))
        if place == "dot" and code[0] == "2":
            code = "452 4.3.1 Full"
        return Fault("behind", f"{place}.before", f"answer:{code}")
    if style == 1:
        return Fault("behind", f"{place}.after",
                     rng.choice(("garble", "throttle")))
    if style == 2:
        return rng.choice((
            Fault("behind", "greeting.after", rng.choice(CUTS)),
            Fault("behind", "content.before", rng.choice(CUTS)),
            Fault("behind", "content.inside", rng.choice(CUTS)),
            Fault("behind", "content.inside", "throttle"),
            Fault("behind", "content.inside", "early:421 4.3.2 Bye"),
            Fault("behind", f"{rng.choice(VERBS)}.before",
                  "early:250 2.0.0 Ok")))
    return Fault("behind", f"{place}.{rng.choice(PHASES)}", rng.choice(CUTS))


def client_fault(rng):
    return Fault("client", rng.choice(CLIENT_POINTS),
                 rng.choice(("cut", "reset", "half", "kill", "term", "stop:1",
                             "stop:8", "wait:4")))


def call_fault(rng):
    name = rng.choice(sorted(CALLS))
    last = 7000 if name in ("malloc", "calloc") else 40
    on = rng.choice(("", "+"))
    return Fault("call", name, rng.choice(CALLS[name]) + on,
                 rng.choice((rng.randint(1, 12), rng.randint(1, last))))


def other_fault(rng):
    return rng.choice((Fault("spool", "full"), Fault("spool", "inodes"),
                       Fault("spool", "missing"), Fault("store", "", "quota"),
                       Fault("clock", rng.choice(CLOCKS)),
                       Fault("clock", f"step:{rng.choice(CLIENT_POINTS)}",
                             rng.choice(CLOCKS))))


KINDS = ((store_fault, 10), (behind_fault, 6), (client_fault, 3),
         (call_fault, 6), (other_fault, 2), (connection_fault, 2),
         (rspamd_fault, 3), (token_fault, 2), (None, 3))
# What happens in Postfix's filter as elsewhere.
WITH_POSTFIX = ("store", "behind", "rspamd", "token")
# What unshare(1) in front of it does not mind.
IN_NAMESPACE = (*WITH_POSTFIX, "client", "spool")


def attempt(number, rng, entries=ENTRIES, kinds=KINDS):
    """Makes up one attempt."""
    low, high = LARGE if rng.randrange(LARGE_ONE_IN) == 0 else \
        rng.choice(SIZES)
    made = Attempt(number, rng.randint(low, high), rng.choice(TARGETS),
                   rng.choice(("1", "1", "tempurl", "3")),
                   rng.choices(*zip(*entries))[0])
    for _ in range(rng.choice((1, 1, 1, 2))):
        kind, = rng.choices(*zip(*kinds))
        fault = kind and kind(rng)
        if fault and fault.side == "behind":
            made.targets = rng.choice(("af", "abf", "f"))
        if fault and fault.side == "store" and made.targets == "f":
            made.targets = "abf"
        if fault and fault.side == "spool":
            made.size = max(made.size, 2 * MIB)
        if fault:
            made.faults.append(fault)
    made.refused = "f" in made.targets and rng.randrange(10) == 0
    if made.refused:
        made.size = max(made.size, 300)     # Its subject is why.
    possible = {"postfix": WITH_POSTFIX, "pids": IN_NAMESPACE}.get(made.entry)
    if possible:
        made.faults = [fault for fault in made.faults
                       if fault.side in possible]
    vary(made, rng)
    return made


def vary(made, rng):
    """What is around the filter of an attempt whose faults are known."""
    made.tls = rng.randrange(4) == 0 or \
        any(fault.point == "TLS.hello" for fault in made.faults)
    if made.has("token") and made.auth == "tempurl":
        made.auth = rng.choice("13")
    made.token_file = made.has("token") or \
        made.auth != "tempurl" and rng.randrange(5) == 0
    if made.has("rspamd") or rng.randrange(5) == 0:
        made.rspamd = rng.choice(("asked", "asked", "asked", "required"))
        made.verdict = rng.choice(VERDICTS)
        # It takes a second for 2 MiB.
        made.size = min(max(made.size, 300), MIB)
    if rng.randrange(6) == 0:
        made.limit = "proxy" if made.entry == "postfix" else \
            rng.choice(("session", "client"))
    # Who waits before each of so many takes minutes.
    made.many = rng.randrange(12) == 0 and not any(
        f.point == "rcpt" and f.action.startswith("wait")
        for f in made.faults)
    if "b" in made.targets and made.auth == "1" and not made.token_file:
        made.other_login = rng.choice(("", "operator", "tempurl"))
    made.sanitized = made.entry not in ("postfix", "pids") and \
        rng.randrange(5) == 0 and not made.has("call") and \
        not made.has("clock") and made.size < LARGE[0]
    if rng.randrange(3) == 0 and made.entry != "postfix" and \
            made.size < LARGE[0]:
        made.tries = 2
    for fault in made.faults:
        if fault.side == "behind" and made.tries > 1:
            fault.number = rng.choice((1, 2))


# There is a Swift of its own behind Keystone.
EVENTS = tuple(
    f"{name} {what}" for name in ("swift", "keystone-swift", "keystone",
                                  "rspamd")
    for what in ("kill", "stop", "pause:3", "pause:8"))
POSTFIX_EVENTS = tuple(
    f"{what} {name}" for what in ("kill", "term", "stop", "stop:8")
    for name in ("filter", "smtpd", "cleanup", "spawn"))


def batches(seed, size=20):
    """Yields lists of attempts that run at the same time, with an event of
    the world, or None, that happens to them."""
    rng = random.Random(seed)
    number = 0
    while True:
        group = []
        for _ in range(size):
            number += 1
            group.append(attempt(number, rng))
        event = rng.choice(EVENTS) if rng.randrange(6) == 0 else None
        if any(one.entry == "postfix" for one in group) and \
                rng.randrange(2) == 0:
            event = rng.choice(POSTFIX_EVENTS)
        yield group, event
