# SPDX-License-Identifier: GPL-3.0-or-later
"""Scripted servers, for what the real ones cannot be made to do on demand.

Store answers as Swift (and version 1 or Keystone authentication) does, until
a fault is put in front of it: a function of one Exchange, used once for one
request, or always. Relay is an SMTP server of which each reply can be set.
Both write what happened, in order, to one list of events that can be shared.
"""

import collections
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
import urllib.parse


class Dropped(Exception):
    """The connection is over."""


class Server:
    """Accepts on a loopback socket; one thread for each connection."""

    def __init__(self, family=socket.AF_INET, address=None, events=None,
                 tls=None):
        self.events = events if events is not None else []
        self.tls = tls
        self.errors = []
        self.listener = socket.socket(family)
        self.listener.bind(address or ("::1" if family == socket.AF_INET6
                                       else "127.0.0.1", 0))
        self.listener.listen(64)
        self.address = self.listener.getsockname()
        self.live = set()
        self.threads = []
        self.closing = False

    def __enter__(self):
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for connection in list(self.live):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join(10)
        for thread in self.threads:
            thread.join(10)
        # A mistake in a test's script must not pass for a fault on purpose.
        assert not self.errors, self.errors

    @property
    def port(self):
        return self.address[1]

    def accept(self):
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self.connected,
                                      args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def connected(self, connection):
        self.live.add(connection)
        try:
            if self.tls:
                connection.settimeout(20)
                plain, connection = connection, self.tls.wrap_socket(
                    connection, server_side=True)
                self.live.discard(plain)
                self.live.add(connection)
            connection.settimeout(60)
            self.serve(connection)
        except ssl.SSLError as error:
            self.events.append(f"tls {error.reason}")
        except (Dropped, OSError):
            pass
        except Exception as error:  # pylint: disable=broad-except
            if not self.closing:
                self.errors.append(repr(error))
        finally:
            self.live.discard(connection)
            connection.close()


class Exchange:
    """One request as it came, and the ways to answer it."""

    def __init__(self, store, connection, head, number):
        self.store = store
        self.connection = connection
        self.number = number  # of the connection
        self.head = head
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ")
        self.fields = [tuple(line.split(":", 1)) for line in lines[1:]]
        self.fields = [(name, value.strip()) for name, value in self.fields]
        self.headers = {name.lower(): value for name, value in self.fields}
        path, _, self.query = self.target.partition("?")
        self.path = urllib.parse.unquote(path, errors="surrogateescape")
        self.body = None
        self.status = None
        self.when = time.monotonic()

    def read(self):
        """The request's body, whole."""
        if self.body is not None:
            return self.body
        if self.headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body = b""
        left = int(self.headers.get("content-length", 0))
        while left:
            more = self.store.receive(self.connection, left)
            self.body += more
            left -= len(more)
        return self.body

    def send(self, data):
        self.connection.sendall(data)

    def answer(self, status, body=b"", reason="Scripted", **headers):
        """Reads the body and answers; a header's underscores are dashes."""
        self.read()
        self.status = status
        head = f"HTTP/1.1 {status} {reason}\r\n"
        headers.setdefault("X_Trans_Id", f"tx{id(self):016x}")
        if status != 204:
            headers.setdefault("Content_Length", len(body))
        for name, value in headers.items():
            head += f"{name.replace('_', '-')}: {value}\r\n"
        if self.method == "HEAD":
            body = b""
        self.store.events.append(f"http {self.kind} {status}")
        self.send(head.encode("latin-1") + b"\r\n" + body)

    def drop(self):
        """Ends the connection without an answer."""
        raise Dropped()

    def reset(self):
        """Ends the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))
        raise Dropped()

    def good(self):
        """Answers as Swift would."""
        self.read()
        self.store.good(self)

    @property
    def kind(self):
        """AUTH, or the method."""
        if self.path.startswith("/auth/") or self.path == "/v3/auth/tokens":
            return "AUTH"
        return self.method

    @property
    def name(self):
        """The object's name in its container."""
        return self.path.split("/", 4)[4]

    def metadata(self):
        """The X-Object-Meta- headers without that word, in lower case."""
        return {name[14:]: value for name, value in self.headers.items()
                if name.startswith("x-object-meta-")}


def answer(status, body=b"", **headers):
    """A fault: this answer."""
    return lambda exchange: exchange.answer(status, body, **headers)


def hang(exchange):
    """A fault: the request is read, no answer ever comes."""
    exchange.read()
    while True:
        exchange.store.receive(exchange.connection, 1)


def lost(exchange):
    """A fault: the request is done as asked, its answer is lost."""
    exchange.read()
    exchange.store.apply(exchange)
    exchange.drop()


def drop(exchange):
    """A fault: the connection ends before an answer."""
    exchange.read()
    exchange.drop()


class Store(Server):
    """Swift with its authentication in one server."""

    user, password = "test:tester", "keysecret"

    def __init__(self, catalog=None, **more):
        super().__init__(**more)
        scheme = "https" if self.tls else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.storage_url = f"{self.url}/v1/AUTH_test"
        self.catalog = catalog
        self.containers = {"mail"}
        self.users = {self.user}
        self.ignores_if_none_match = False      # as Ceph RGW does
        self.objects = {}
        self.requests = []
        self.scripts = collections.defaultdict(collections.deque)
        self.standing = {}
        self.tokens = []
        self.connections = 0
        self.lock = threading.Lock()

    @property
    def authurl(self):
        return f"{self.url}/auth/v1.0"

    @property
    def keystone(self):
        return f"{self.url}/v3"

    def account(self, **options):
        """The options of an account that stores here."""
        return {"recipients": "box@example.com", "container": "mail",
                "auth_version": "1", "authurl": self.authurl,
                "user": self.user, "key": self.password, "retries": "0",
                **options}

    def once(self, kind, *faults):
        """The next requests of this kind meet these, one each."""
        self.scripts[kind].extend(faults)

    def always(self, kind, fault):
        self.standing[kind] = fault

    def of(self, kind):
        """The requests of one kind so far."""
        return [request for request in self.requests if request.kind == kind]

    def kinds(self):
        return [request.kind for request in self.requests]

    @property
    def only(self):
        """The only object: its name in the container, its content."""
        assert len(self.objects) == 1, sorted(self.objects)
        (path, (content, _)), = self.objects.items()
        return path.split("/", 4)[4], content

    @staticmethod
    def receive(connection, size):
        more = connection.recv(min(size, 1 << 20))
        if not more:
            raise Dropped()
        return more

    def serve(self, connection):
        with self.lock:
            self.connections += 1
            number = self.connections
        buffered = b""
        while True:
            while b"\r\n\r\n" not in buffered:
                # One octet at a time past the first blank line would be
                # slow; clients do not send a body before its head.
                buffered += self.receive(connection, 1)
            head, buffered = buffered[:-4], b""
            exchange = Exchange(self, connection, head, number)
            with self.lock:
                self.requests.append(exchange)
                script = self.scripts[exchange.kind]
                fault = script.popleft() if script else None
            self.events.append(f"http {exchange.kind}")
            fault = fault or self.standing.get(exchange.kind)
            if fault:
                fault(exchange)
            else:
                exchange.good()

    def good(self, exchange):
        if exchange.kind == "AUTH":
            return self.authenticate(exchange)
        status, headers = self.apply(exchange)
        return exchange.answer(status, **headers)

    def authenticate(self, exchange):
        token = f"AUTH_tk{len(self.tokens):02d}secrettoken"
        if exchange.path.startswith("/auth/"):
            headers = exchange.headers
            user = headers.get("x-auth-user") or headers.get("x-storage-user")
            key = headers.get("x-auth-key") or headers.get("x-storage-pass")
            if user not in self.users | {self.user} or key != self.password:
                return exchange.answer(401)
            self.tokens.append(token)
            return exchange.answer(200, X_Storage_Url=self.storage_url,
                                   X_Auth_Token=token)
        self.tokens.append(token)
        catalog = self.catalog or [endpoint(self.storage_url)]
        body = {"token": {"methods": ["password"],
                          "expires_at": "2099-01-01T00:00:00.000000Z",
                          "catalog": catalog}}
        return exchange.answer(201, json.dumps(body).encode(),
                               X_Subject_Token=token)

    def apply(self, exchange):
        """Does what a request asks; status and headers of the answer."""
        path, headers = exchange.path, exchange.headers
        token = headers.get("x-auth-token")
        if "temp_url_sig=" not in exchange.query and token not in self.tokens:
            return 401, {}
        parts = path.split("/", 4)
        if parts[3] not in self.containers:
            return 404, {}
        if len(parts) == 4:
            return 204, {"X_Container_Object_Count": len(self.objects)}
        if exchange.method == "PUT":
            etag = hashlib.md5(exchange.body).hexdigest()
            if headers.get("if-none-match") == "*" and \
                    path in self.objects and not self.ignores_if_none_match:
                return 412, {}
            if headers.get("etag", etag).strip('"') != etag:
                return 422, {}
            self.objects[path] = (exchange.body, exchange)
            return 201, {"Etag": etag}
        if path not in self.objects:
            return 404, {}
        if exchange.method == "DELETE":
            del self.objects[path]
            return 204, {}
        content = self.objects[path][0]
        return 200, {"Etag": hashlib.md5(content).hexdigest(),
                     "Content_Length": len(content)}


def endpoint(url, interface="public", region="RegionOne",
             service="object-store"):
    """A catalog's entry of one service with one endpoint."""
    return {"type": service, "name": "any", "id": "0" * 32,
            "endpoints": [{"interface": interface, "region": region,
                           "region_id": region, "id": "1" * 32, "url": url}]}


class Mail:
    """One connection to the Relay and what was said on it."""

    def __init__(self, relay, connection):
        self.relay = relay
        self.connection = connection
        self.buffer = b""
        self.commands = []
        self.content = b""   # mail data as it travelled, without the dot
        self.dot = False
        self.ended = None    # "quit" or "dropped"

    def send(self, text):
        self.connection.sendall(text.encode("latin-1"))

    def drop(self):
        raise Dropped()

    def fill(self):
        more = self.connection.recv(65536)
        if not more:
            raise Dropped()
        self.buffer += more

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line.decode("utf-8", "surrogateescape")

    def of(self, verb):
        """The commands with this verb."""
        return [line for line in self.commands
                if line.upper().split()[:1] == [verb]]

    def receive_content(self):
        """Mail data up to the dot; notes when content comes before it."""
        while not self.dot:
            if self.buffer:
                self.take()
            if not self.dot:
                self.fill()

    def take(self):
        if not self.content:
            self.relay.events.append("smtp content")
        data = self.content + self.buffer
        end = 0 if data.startswith(b".\r\n") else data.find(b"\r\n.\r\n")
        if data.startswith(b".\r\n"):
            self.content, self.buffer, self.dot = b"", data[3:], True
        elif end >= 0:
            self.content, self.buffer = data[:end + 2], data[end + 5:]
            self.dot = True
        else:
            self.content, self.buffer = data, b""

    @property
    def message(self):
        """The content with its dots un-stuffed."""
        data = b"\r\n" + self.content
        return data.replace(b"\r\n..", b"\r\n.")[2:]


class Relay(Server):
    """An SMTP server. replies: what to answer to GREETING, EHLO, XFORWARD,
    MAIL, RCPT, DATA, DOT, QUIT: a line, a list of lines used one after the
    other, or a function of the Mail."""

    extensions = ("PIPELINING", "SIZE 60000000", "8BITMIME", "SMTPUTF8",
                  "ENHANCEDSTATUSCODES", "DSN", "AUTH PLAIN",
                  "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT")

    def __init__(self, extensions=None, **more):
        super().__init__(**more)
        if extensions is not None:
            self.extensions = extensions
        self.mails = []
        self.replies = {}

    @property
    def place(self):
        """As the option reinject wants it."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        host, port = self.address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def mail(self):
        assert len(self.mails) == 1, [mail.commands for mail in self.mails]
        return self.mails[0]

    def default(self, verb):
        if verb == "GREETING":
            return "220 relay.example ESMTP"
        if verb == "EHLO":
            lines = ("relay.example",) + tuple(self.extensions)
            return "\r\n".join(
                f"250{' ' if number == len(lines) else '-'}{line}"
                for number, line in enumerate(lines, 1))
        return {"DATA": "354 Go ahead", "QUIT": "221 2.0.0 Bye",
                "DOT": "250 2.0.0 Ok: queued as RELAYID"}.get(
                    verb, "250 2.0.0 Ok")

    def say(self, mail, verb):
        """Sends the reply of this step; its code."""
        reply = self.replies.get(verb)
        if isinstance(reply, list):
            reply = reply.pop(0) if reply else None
        if callable(reply):
            reply = reply(mail)
        if reply is None:
            reply = self.default(verb)
        self.events.append(f"smtp {verb} {reply[:3]}")
        mail.send(reply + "\r\n")
        return reply[:1]

    def serve(self, connection):
        mail = Mail(self, connection)
        self.mails.append(mail)
        self.events.append("smtp connect")
        mail.ended = "dropped"
        try:
            self.say(mail, "GREETING")
            while True:
                line = mail.line()
                mail.commands.append(line)
                verb = line.split(" ", 1)[0].upper()
                if verb == "QUIT":
                    mail.ended = "quit"
                self.events.append(f"smtp {verb}")
                if self.say(mail, verb) == "3":
                    mail.receive_content()
                    self.events.append("smtp DOT")
                    self.say(mail, "DOT")
                if verb == "QUIT":
                    return
        finally:
            self.events.append(f"smtp {mail.ended}")
