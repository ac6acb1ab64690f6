# SPDX-License-Identifier: GPL-3.0-or-later
"""What was acknowledged against what is stored."""

import collections
import dataclasses
import hashlib
import re
import urllib.parse

from lab import client

# What Postfix's Received field may take.
TRACE = range(100, 1000)


@dataclasses.dataclass
class Account:
    """Names of objects, and numbers of mails, by what is wrong with them."""
    lost: list = dataclasses.field(default_factory=list)
    damaged: list = dataclasses.field(default_factory=list)
    twice: list = dataclasses.field(default_factory=list)
    strange: list = dataclasses.field(default_factory=list)
    refused: list = dataclasses.field(default_factory=list)
    named: list = dataclasses.field(default_factory=list)   # twice, as logged

    @property
    def is_clean(self):
        return not (self.lost or self.damaged or self.twice or self.strange
                    or self.refused)


def settle(mails, objects, log=""):
    """Returns the Account.

    mails       those of a sender.Sender
    objects     {name: (octets, SHA-256 of what follows the first field)}
    log         swiftdrop's: it names what may be stored twice
    """
    in_doubt = set(re.findall(r"in-doubt: .*object=[^/]+/cur/([^ ,]+,S=\d+)",
                              log))
    found = Account()
    left = dict(objects)
    for mail in mails:
        if not mail.name:
            found.refused.append(mail.number)
            continue
        octets, sha256 = left.pop(mail.name, (0, ""))
        if not sha256:
            found.lost.append(mail.number)
        elif sha256 != mail.sha256 or octets - mail.size not in TRACE:
            found.damaged.append(mail.number)
    known = {mail.sha256 for mail in mails}
    others = collections.defaultdict(list)
    for name, (_, sha256) in left.items():
        others[sha256 in known, name in in_doubt].append(name)
    found.named = others[True, True]
    found.twice = others[True, False]
    found.strange = others[False, False] + others[False, True]
    return found


def kept(path):
    """What bench/store has kept in a file, as settle() wants it."""
    objects = {}
    with open(path) as file:
        for line in file:
            verb, path, *more = line.split()
            name = urllib.parse.unquote(path).partition("/cur/")[2]
            if verb == "PUT":
                objects[name] = int(more[0]), more[2]
            else:
                objects.pop(name, None)
    return objects


def stored(container):
    """The same of what a lab.Container has."""
    objects = {}
    for name in container.names("cur/"):
        _, content = container.get(name)
        rest = client.without_trace(content)
        objects[name.removeprefix("cur/")] = (
            len(content), hashlib.sha256(rest).hexdigest())
    return objects
