# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy between one filter and Swift, Keystone or rspamd.

It knows where a request is: `part` (its head has begun to come), `head`
(nothing of it has been passed on), `body` (half of it), `sent` (all), `answer`
(half of the answer's head), `tail` (half of its body), `answered`. At such
a point of the request that a fault names it does what the fault says; at
`TCP.accept`, too, and with TLS at `TLS.hello`, before anything has been said.
"""

import contextlib
import re
import socket
import struct
import threading
import time


LATE = 2    # seconds
PART = 16   # octets
SLOWLY = 4096   # octets at a time


class Cut(Exception):
    """The connection ends here."""


class Proxy:
    """Listens at 127.0.0.1:port for one attempt; a thread a connection.

    tls: contexts of the servers that it shows itself as, "own" and "stranger".

    act(action) does what is not the wire's to do (signals to the filter) and
    tells whether it knew it.
    """

    side = None

    def __init__(self, target, faults, act, note, tls=None):
        self.target = target
        self.tls = tls
        self.met = False    # one of the faults
        self.faults = [f for f in faults if f.side == self.side]
        self._act = act
        self._note = note
        self.counts = {}
        self.lock = threading.Lock()
        self._open = set()
        self._threads = []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if any(fault.action == "throttle" for fault in self.faults):
            # Who sends shall feel it.
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                     SLOWLY)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for sock in list(self._open):
            try:
                # Not TLS's, which would change it under another thread.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass
        # What comes late shall have come.
        for thread in self._threads:
            thread.join(10 * LATE)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._connected, args=(client,),
                                      daemon=True)
            thread.start()
            self._threads.append(thread)

    def _connected(self, client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.settimeout(60)
        self._open.add(client)
        try:
            self.at("TCP.accept", self.count("TCP"), client)
            if self.tls:
                client = self._secure(client)
            self.serve(client)
        except (Cut, OSError):
            pass
        finally:
            self._open.discard(client)
            client.close()

    def _secure(self, client):
        """The same with TLS."""
        action, _ = self.at("TLS.hello", self.count("TLS"), client)
        if action == "garble":
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            raise Cut()
        secure = self.tls[action or "own"].wrap_socket(
            client, server_side=True, do_handshake_on_connect=False)
        self._open.discard(client)
        self._open.add(secure)
        try:
            secure.do_handshake()
        except OSError:
            self.forget(secure)
            raise
        if action == "stranger":
            self._note("stranger trusted")
        return secure

    def upstream(self):
        sock = socket.create_connection(self.target, 30)
        sock.settimeout(60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(sock)
        return sock

    def forget(self, sock):
        self._open.discard(sock)
        sock.close()

    def count(self, kind):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            return self.counts[kind]

    def at(self, point, number, client):
        """Returns the action and its argument for the caller to do, or
        (None, ""), when it is none that ends or holds the connection."""
        for fault in self.faults:
            if fault.point != point or fault.number not in (0, number):
                continue
            self.met = True
            self._note(f"{fault} at {number}")
            action, _, argument = fault.action.partition(":")
            if action == "cut":
                raise Cut()
            if action == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
                raise Cut()
            if action == "delay":
                time.sleep(float(argument))
            elif not self._act(action, argument):
                return action, argument
        return None, ""


def receive(sock, slowly=False, size=1 << 16):
    octets = sock.recv(SLOWLY if slowly else size)
    if not octets:
        raise Cut()
    return octets


def field(head, name):
    """A header field's value, or an empty text."""
    found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*(.*?)\r$", head)
    return found[1].decode() if found else ""


def without(head, name):
    return re.sub(rb"(?im)^" + name.encode() + rb":.*\r\n", b"", head)


class Store(Proxy):
    """In front of Swift."""

    side = "store"

    def serve(self, client):
        buffered = b""
        while True:
            # As much as kind() reads, and less than any head.
            while len(buffered) < PART:
                buffered += receive(client, size=PART - len(buffered))
            kind = self.kind(buffered)
            number = self.count(kind)
            self.at(f"{kind}.part", number, client)
            while b"\r\n\r\n" not in buffered:
                buffered += receive(client)
            head, _, buffered = buffered.partition(b"\r\n\r\n")
            buffered = self.request(client, kind, number,
                                    head + b"\r\n\r\n", buffered)

    @staticmethod
    def kind(head):
        method, path = head.split(b" ", 2)[:2]
        authenticates = path.startswith((b"/auth/", b"/v3/"))
        return "AUTH" if authenticates else method.decode()

    def request(self, client, kind, number, head, buffered):
        size = int(field(head, "Content-Length") or 0)
        if field(head, "Expect"):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = without(head, "Expect")
        action, argument = self.at(f"{kind}.head", number, client)
        if action == "answer":
            while len(buffered) < size:
                buffered += receive(client)
            self.say(client, kind, argument)
            return buffered[size:]
        if action == "late":
            while len(buffered) < size:
                buffered += receive(client)
            self.pass_on_late(client, head, buffered[:size])
        if action == "interim":
            client.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        if action == "token":
            head = re.sub(rb"(X-Auth-Token:).*", rb"\1 revoked\r", head)
            head = re.sub(rb"temp_url_sig=.", b"temp_url_sig=x", head)
        upstream = self.upstream()
        try:
            buffered = self.pass_on(client, upstream, kind, number, head, size,
                                    buffered)
            self.pass_back(client, upstream, kind, number)
        finally:
            self.forget(upstream)
        return buffered

    def pass_on_late(self, client, head, body):
        """Keeps a request until it has been given up, and a while longer."""
        with contextlib.suppress(OSError):
            while client.recv(1 << 16):
                pass
        time.sleep(LATE)
        with socket.create_connection(self.target, 30) as upstream:
            upstream.sendall(without(head, "Connection")[:-2] +
                             b"Connection: close\r\n\r\n" + body)
            while upstream.recv(1 << 16):
                pass
        raise Cut()

    def pass_on(self, client, upstream, kind, number, head, size, buffered):
        head = without(head, "Connection")
        if any(f.action == "damage" and f.number in (0, number)
               for f in self.faults):
            head = without(head, "ETag")
        upstream.sendall(head[:-2] + b"Connection: close\r\n\r\n")
        left, half, throttled = size, size // 2, False
        while left > 0:
            piece = buffered or receive(client, throttled)
            piece, buffered = piece[:left], piece[left:]
            if half >= 0 and size - left + len(piece) > half:
                action, _ = self.at(f"{kind}.body", number, client)
                if action in ("garble", "damage"):
                    piece = piece[:-1] + bytes([piece[-1] ^ 1])
                throttled = action == "throttle"
                half = -1
            upstream.sendall(piece)
            left -= len(piece)
            if throttled:
                time.sleep(0.1)
        return buffered

    def pass_back(self, client, upstream, kind, number):
        answer = b""
        # Read before the point, so that what was asked for has been done.
        while True:
            octets = upstream.recv(1 << 16)
            if not octets:
                break
            answer += octets
        if not answer:
            raise Cut()
        action, argument = self.at(f"{kind}.sent", number, client)
        if action == "answer":
            self.say(client, kind, argument)
            return
        if action == "interim":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, blank, body = answer.partition(b"\r\n\r\n")
        if self.tls:
            # As Swift would say with TLS of its own.
            head = re.sub(rb"(?im)^(X-Storage-Url: http):", rb"\1s:", head)
        answer = without(head + b"\r\n", "Connection")[:-2] + blank + body
        half = len(head) // 2
        sent = 0
        if not any(f.action.startswith(("etag", "garble", "throttle"))
                   for f in self.faults):
            client.sendall(answer[:half])
            sent = half
        action, argument = self.at(f"{kind}.answer", number, client)
        if body and any(f.point == f"{kind}.tail" for f in self.faults):
            half = len(answer) - (len(body) + 1) // 2
            client.sendall(answer[sent:half])
            sent = half
            self.at(f"{kind}.tail", number, client)
        if action == "etag":
            answer = new_etag(answer, argument)
        if action == "garble":
            answer = answer.replace(b"HTTP/1.1 ", b"HTTP/9 x", 1)
        while sent < len(answer):
            step = 40 if action == "throttle" else len(answer)
            client.sendall(answer[sent:sent + step])
            sent += step
            if action == "throttle":
                time.sleep(0.1)
        self.at(f"{kind}.answered", number, client)

    @staticmethod
    def say(client, kind, status):
        status, _, body = status.partition(" ")
        length = "" if status in ("204", "304") else \
            f"Content-Length: {len(body)}\r\n"
        client.sendall(
            f"HTTP/1.1 {status} Told\r\n{length}\r\n{body}".encode())


class Scanner(Store):
    """In front of rspamd; heard(seconds) is told when its answer was passed
    on as it is."""

    side = "rspamd"

    def __init__(self, *arguments, heard):
        self._heard = heard
        super().__init__(*arguments)

    def request(self, *arguments):
        self.start = time.monotonic()
        return super().request(*arguments)

    def pass_back(self, client, upstream, kind, number):
        super().pass_back(client, upstream, kind, number)
        if not self.met:
            self._heard(time.monotonic() - self.start)


def new_etag(answer, how):
    """The answer with another ETag; quoted and weak are none."""
    etag = field(answer, "ETag").strip('"')
    if how == "missing":
        return without(answer, "ETag")
    new = {"wrong": "0" * 32, "quoted": f'"{etag}"',
           "weak": f'W/"{etag}-gzip"'}[how]
    return re.sub(rb"(?im)^(etag:).*\r$", rb"\1 " + new.encode() + b"\r",
                  answer)
