# SPDX-License-Identifier: GPL-3.0-or-later
"""What is sent, and what fails then: a seed repeats it."""

import dataclasses
import random

DEADLINE = 6    # seconds, as the filters are configured
TIMEOUT = 2

KIB, MIB = 1024, 1024 * 1024
SIZES = ((0, 0), (1, 300), (300, 20 * KIB), (300, 20 * KIB),
         (250 * KIB, 270 * KIB), (1 * MIB, 3 * MIB))
LARGE = (8 * MIB, 50 * MIB)
LARGE_ONE_IN = 60

# Where a mail goes: accounts, and the server behind.
TARGETS = ("a", "a", "ab", "af", "abf", "f")

STATUSES = (202, 204, 301, 400, 401, 403, 404, 408, 413, 422, 429, 498, 499,
            500, 502, 503, 504, 507, 599)
PUT_POINTS = ("head", "body", "sent", "answer", "answered")
OTHER_POINTS = ("head", "sent", "answer", "answered")
CUTS = ("cut", "reset", "kill", "term", "stop:1", "stop:8", "delay:1",
        "delay:3")

VERBS = ("EHLO", "XFORWARD", "MAIL", "RCPT", "DATA")
PHASES = ("before", "after", "inside", "answered")
CLIENT_POINTS = ("mail", "rcpt", "data", "content", "dot", "late")
CALLS = {"malloc": ("ENOMEM",), "calloc": ("ENOMEM",),
         "write": ("EIO", "EAGAIN", "EPIPE"),
         "pread": ("EIO",), "send": ("ECONNRESET", "EPIPE"),
         "recv": ("ECONNRESET", "ETIMEDOUT"), "poll": ("ENOMEM",),
         "connect": ("ECONNREFUSED", "EADDRNOTAVAIL", "ETIMEDOUT"),
         "getrandom": ("ENOSYS",), "socket": ("EMFILE", "ENOBUFS"),
         "read": ("EIO",), "open": ("ENOSPC", "EMFILE")}
CLOCKS = ("-3y", "+5y", "-1d", "+20d")
ENTRIES = (("direct", 12), ("postfix", 2))


@dataclasses.dataclass
class Fault:
    """side: store, behind, client, call, spool, clock or none; point: where;
    action: what; number: at which request of that kind, 0 for each."""
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

    @property
    def sender(self):
        return f"t{self.number}@client.example"

    @property
    def accounts(self):
        return [name for name in self.targets if name != "f"]

    @property
    def recipients(self):
        names = {"a": "a@example.org", "b": "b@example.org",
                 "f": "away@example.org"}
        return [names[target] for target in self.targets]

    def container(self, account):
        return f"t{self.number}{account}"

    def has(self, side, *actions):
        return any(fault.side == side and
                   (not actions or fault.action.split(":")[0] in actions)
                   for fault in self.faults)


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
    points = PUT_POINTS if kind == "PUT" else OTHER_POINTS
    return Fault("store", f"{kind}.{rng.choice(points)}", rng.choice(CUTS),
                 number)


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
            Fault("behind", "content.inside", rng.choice(CUTS)),
            Fault("behind", "content.inside", "early:421 4.3.2 Bye"),
            Fault("behind", f"{rng.choice(VERBS)}.before",
                  "early:250 2.0.0 Ok")))
    return Fault("behind", f"{place}.{rng.choice(PHASES)}", rng.choice(CUTS))


def client_fault(rng):
    return Fault("client", rng.choice(CLIENT_POINTS),
                 rng.choice(("cut", "reset", "half", "kill", "term", "stop:1",
                             "stop:8")))


def call_fault(rng):
    name = rng.choice(sorted(CALLS))
    last = 7000 if name in ("malloc", "calloc") else 40
    on = rng.choice(("", "+"))
    return Fault("call", name, rng.choice(CALLS[name]) + on,
                 rng.choice((rng.randint(1, 12), rng.randint(1, last))))


def other_fault(rng):
    return rng.choice((Fault("spool", "full"), Fault("spool", "inodes"),
                       Fault("spool", "missing"), Fault("store", "", "quota"),
                       Fault("clock", rng.choice(CLOCKS))))


KINDS = ((store_fault, 10), (behind_fault, 6), (client_fault, 3),
         (call_fault, 6), (other_fault, 2), (None, 2))


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
    if made.entry == "postfix":
        made.faults = [fault for fault in made.faults
                       if fault.side in ("store", "behind")]
    return made


EVENTS = ("swift kill", "swift stop", "swift pause", "keystone stop",
          "keystone pause", "keystone kill")
POSTFIX_EVENTS = ("kill filter", "kill smtpd", "kill cleanup", "kill spawn",
                  "stop filter", "term filter")


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
