# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that mean no good, each kind of them a function.

Each takes the server's port and how long it goes on, in seconds, and returns
a collections.Counter of what it saw: replies, and connections that were
closed. A client is known to Postfix by its address, so each has one of
127/8; whoever wants to be a botnet takes many.
"""

import collections
import concurrent.futures
import contextlib
import re
import selectors
import socket
import time

BOTNET = [f"127.7.{n // 250}.{n % 250 + 1}" for n in range(1000)]
CLOSED = "closed"


def connect(port, address, timeout=60):
    """A connection; timeout 0: one that may come about later."""
    client = socket.socket()
    client.setsockopt(socket.SOL_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((address, 0))
    client.settimeout(timeout)
    if timeout:
        client.connect(("127.0.0.1", port))
    else:
        client.connect_ex(("127.0.0.1", port))
    return client


class Client:
    """A client at an address, which counts what it is told."""

    def __init__(self, port, address, seen):
        self.seen = seen
        self._socket = connect(port, address)
        self._file = self._socket.makefile("rb")

    def reply(self):
        """Returns the next reply's last line, "" at the end."""
        while True:
            try:
                line = self._file.readline().decode().rstrip()
            except OSError:
                line = ""
            if line[3:4] != "-":
                break
        self.seen[line or CLOSED] += 1
        return line

    def say(self, line):
        with contextlib.suppress(OSError):
            self._socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def pour(self, pieces, replies=1):
        """Sends them as fast as they are taken; reads what is answered."""
        with contextlib.suppress(OSError):
            for piece in pieces:
                self._socket.sendall(piece)
        for _ in range(replies):
            if not self.reply():
                break

    def close(self):
        self._file.close()
        self._socket.close()


def _repeat(seconds, clients, run):
    """Calls run(number, seen) again and again in so many threads."""
    end = time.monotonic() + seconds

    def loop(number):
        seen = collections.Counter()
        while time.monotonic() < end:
            run(number, seen)
        return seen

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(loop, range(clients)), collections.Counter())


def _hold(port, seconds, addresses, octets):
    """Holds a connection of each address; sends an octet a second on it."""
    seen = collections.Counter()
    end = time.monotonic() + seconds
    selector = selectors.DefaultSelector()
    for address in addresses:
        client = connect(port, address, timeout=0)
        selector.register(client, selectors.EVENT_READ, iter(octets))
    while (left := end - time.monotonic()) > 0 and selector.get_map():
        for key, _ in selector.select(min(left, 1)):
            try:
                said = key.fileobj.recv(4096)
            except OSError:
                said = b""
            for line in said.decode().splitlines() or [CLOSED]:
                seen[line] += 1
            if not said:
                selector.unregister(key.fileobj)
                key.fileobj.close()
        if int(left) != int(end - time.monotonic()):
            for key in list(selector.get_map().values()):
                with contextlib.suppress(OSError):
                    key.fileobj.send(next(key.data, b""))
    for key in list(selector.get_map().values()):
        key.fileobj.close()
    return seen


def connections(port, seconds, addresses=("127.6.0.1",) * 200):
    """Opens a connection of each address and says nothing."""
    return _hold(port, seconds, addresses, [])


def slow(port, seconds, addresses=BOTNET[:200]):
    """Sends a mail of which an octet comes each second."""
    mail = b"EHLO a.example\r\nMAIL FROM:<a@a.example>\r\n" + b"x" * 9999
    return _hold(port, seconds, addresses,
                 [mail[n:n + 1] for n in range(len(mail))])


def reconnect(port, seconds):
    """Connects and leaves, as fast as one client can."""
    def run(number, seen):
        client = Client(port, "127.6.0.2", seen)
        if client.reply().startswith("220"):
            client.say("QUIT")
        client.close()
    return _repeat(seconds, 4, run)


def dictionary(port, seconds, domain="example.org"):
    """Guesses addresses until it is thrown out, then comes again."""
    def run(number, seen):
        client = Client(port, "127.6.0.3", seen)
        line = client.reply()
        for text in ("HELO a.example", "MAIL FROM:<>"):
            line = client.say(text) if line[:1] == "2" else line
        n = 0
        while line and not line.startswith("421"):
            n += 1
            line = client.say(f"RCPT TO:<guess{number}-{n}@{domain}>")
        client.close()
    return _repeat(seconds, 10, run)


def nonsense(port, seconds):
    """Says what is no SMTP until it is thrown out."""
    def run(number, seen):
        client = Client(port, "127.6.0.4", seen)
        line = client.reply()
        while line and line[:3] not in ("421", "221"):
            line = client.say("GARBAGE")
        client.close()
    return _repeat(seconds, 10, run)


def _deliver(client, recipients, pieces):
    """Sends a mail; its content comes in pieces, and ends as the last does."""
    line = client.reply()
    for text in ("HELO a.example", "MAIL FROM:<>",
                 *(f"RCPT TO:<{recipient}>" for recipient in recipients),
                 "DATA"):
        line = client.say(text) if line[:1] in "23" and line else line
    if line.startswith("354"):
        client.pour(pieces)
    client.close()


def big(port, seconds, recipient="orders@example.org", size=50 * 1000 * 1000):
    """Sends mails of almost the largest size, many at once, to be stored."""
    lines = (b"x" * 998 + b"\r\n") * 1000

    def run(number, seen):
        client = Client(port, f"127.6.1.{number + 1}", seen)
        _deliver(client, [recipient],
                 [lines] * (size // len(lines)) + [b".\r\n"])
    return _repeat(seconds, 20, run)


def line(port, seconds, recipient="orders@example.org", size=100 * 1000 * 1000):
    """Sends a line that does not end, as a command and as a mail's only one."""
    pieces = [b"x" * 100_000] * (size // 100_000)

    def run(number, seen):
        client = Client(port, f"127.6.2.{number + 1}", seen)
        if number % 2:
            _deliver(client, [recipient], [*pieces, b"\r\n.\r\n"])
        else:
            client.reply()
            client.pour([*pieces, b"\r\n"])
            client.close()
    return _repeat(seconds, 4, run)


def header(port, seconds, recipient="orders@example.org",
           size=50 * 1000 * 1000):
    """Sends mails that are all header, half of them of one field."""
    def run(number, seen):
        client = Client(port, f"127.6.3.{number + 1}", seen)
        begin = b" " if number % 2 else b"X: "
        lines = (begin + b"x" * 900 + b"\r\n") * 100
        _deliver(client, [recipient], [
            b"X: y\r\n", *[lines] * (size // len(lines)), b"\r\n.\r\n"])
    return _repeat(seconds, 4, run)


def recipients(port, seconds, domain="example.org", number=10_000):
    """Names so many recipients of a mail, all of them one that is known."""
    commands = f"RCPT TO:<orders@{domain}>\r\n".encode() * 100

    def run(client_number, seen):
        client = Client(port, f"127.6.4.{client_number + 1}", seen)
        client.reply()
        client.say("EHLO a.example")
        said = client.say("MAIL FROM:<>")
        for _ in range(number // 100):
            client.pour([commands], replies=100)
        if said[:1] == "2" and client.say("DATA").startswith("354"):
            client.pour([b"Subject: many\r\n\r\n.\r\n"])
        client.close()
    return _repeat(seconds, 4, run)


def short(seen):
    """What was seen without what differs from one reply to the next."""
    counted = collections.Counter()
    for said, times in seen.items():
        said = re.sub(r"<(guess|orders)[^>]*>", "<...>", said)
        said = re.sub(r"stored as \S+", "stored as ...", said)
        counted[re.sub(r"127\.\d+\.\d+\.\d+", "...", said)] += times
    return counted
