# SPDX-License-Identifier: GPL-3.0-or-later
"""Sends mails on many sessions at once and keeps a ledger of them."""

import asyncio
import collections
import dataclasses
import time

from torture import mails

# For a reply; the filter's deadline and Postfix's patience are shorter.
PATIENCE = 150
STORED = "250 2.0.0 Ok: stored as "
# Of 1,000 mails, 10 MB: how many have how many octets.
SIZES = ((1, 2_000_000), (4, 400_000), (40, 60_000), (200, 10_000),
         (755, 2_649))


@dataclasses.dataclass
class Mail:
    number: int
    size: int
    refused = False     # these two for torture.mails
    verdict = ""
    sha256: str = ""
    name: str = ""      # what it was stored as, once that was said
    replies: list = dataclasses.field(default_factory=list)

    def content(self):
        octets = mails.content(self)
        self.sha256 = mails.sha256(octets)
        self.size = len(octets)
        return octets


def mixed(count):
    """Yields so many mails, the sizes of SIZES in turn."""
    turn = [size for number, size in SIZES for _ in range(number)]
    for number in range(count):
        # 377 and 1,000 have no common factor.
        yield Mail(number, turn[number * 377 % len(turn)])


def timed(seconds, size=4096):
    """Yields mails for so long."""
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        yield Mail(number, size)
        number += 1


class Refused(Exception):
    """Another reply than was hoped for."""


class Sender:
    """Gives mails to a server until each has been answered 2yz or 5yz.

    connect     a coroutine function that returns (reader, writer)
    ledger      a file: a line of each try, number, SHA-256, seconds, reply
    sessions    how many at once
    each        mails on a connection
    again_s     how long a session waits after anything else than 2yz
    pause_s     the same after 2yz
    """

    def __init__(self, connect, recipient, ledger, sessions, each=1,
                 again_s=1, pause_s=0):
        self.mails = []         # all that were begun
        self.stored = 0
        self.seconds = []       # of each that was stored, from its beginning
        self.said = collections.Counter()   # other replies
        self._connect = connect
        self._recipient = recipient
        self._ledger = open(ledger, "a", buffering=1)
        self._sessions = sessions
        self._each = each
        self._again_s = again_s
        self._pause_s = pause_s
        self._again = collections.deque()

    def run(self, source, meanwhile=None):
        """Sends all; returns how long it took.

        meanwhile   a coroutine function that gets this sender
        """
        async def sessions():
            await asyncio.gather(*(self._session()
                                   for _ in range(self._sessions)),
                                 *([meanwhile(self)] if meanwhile else []))

        began = time.monotonic()
        self._source = iter(source)
        asyncio.run(sessions())
        self._ledger.close()
        return time.monotonic() - began

    def _next(self):
        if self._again:
            return self._again.popleft()
        mail = next(self._source, None)
        if mail:
            self.mails.append(mail)
        return mail

    async def _session(self):
        while mail := self._next():
            await self._connection(mail)

    async def _connection(self, mail):
        """One connection, of which this is the first mail."""
        began, writer = time.monotonic(), None
        try:
            reader, writer = await self._connect()
            await self._reply(reader, "220")
            writer.write(b"EHLO client.example\r\n")
            await self._reply(reader, "250")
            for left in reversed(range(self._each)):
                text = await self._send(reader, writer, mail)
                self._note(mail, began, text)
                await asyncio.sleep(self._pause_s)
                # What this session does not begin is another's.
                mail = self._next() if left else None
                began = time.monotonic()
                if not mail:
                    break
            writer.write(b"QUIT\r\n")
            await self._reply(reader, "221")
        except (OSError, EOFError, Refused) as error:
            if mail:
                self._note(mail, began, str(error) or repr(error))
                await asyncio.sleep(self._again_s)
        finally:
            if writer:
                writer.close()

    def _note(self, mail, began, text):
        took = time.monotonic() - began
        mail.replies.append(text)
        self._ledger.write(f"{mail.number} {mail.sha256} {took:.3f} {text}\n")
        if text.startswith(STORED):
            mail.name = text.removeprefix(STORED)
            self.stored += 1
            self.seconds.append(took)
            return
        self.said[text] += 1
        if text[:1] not in "25":
            self._again.append(mail)

    async def _send(self, reader, writer, mail):
        """The envelope in one piece, as the server announces PIPELINING."""
        content = mails.stuffed(mail.content())
        writer.write(
            f"MAIL FROM:<load@client.example> SIZE={mail.size}\r\n"
            f"RCPT TO:<{self._recipient}>\r\nDATA\r\n".encode())
        for code in ("250", "250", "354"):
            await self._reply(reader, code)
        writer.write(content + b".\r\n")
        return await self._reply(reader, "250")

    @staticmethod
    async def _reply(reader, code):
        """Returns the last line of a reply that begins so."""
        line = "   -"
        while line[3:4] == "-":
            octets = await asyncio.wait_for(reader.readline(), PATIENCE)
            if not octets:
                raise EOFError("closed")
            line = octets.decode(errors="replace").rstrip()
        if not line.startswith(code):
            raise Refused(line)
        return line
