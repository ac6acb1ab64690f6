# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs swiftdrop as systemd, spawn(8) or a shell would, and talks to it.

Session is one process with the client's end of its connection. Nothing here
knows the program's code: only descriptors, environment, replies, exit codes.
"""

import dataclasses
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.path.abspath(
    os.environ.get("SWIFTDROP_BINARY") or str(TOP / "swiftdrop"))
PATIENCE = 20  # seconds to wait for what must come


def environment(more=None):
    """The environment of spawn(8), and what a sanitizer build needs."""
    env = {"PATH": "/usr/bin:/bin", "LANG": "C"}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    env.update(more or {})
    return env


def run(*arguments, env=None, timeout=60, **more):
    """swiftdrop as a command: check, config, --help."""
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([BINARY, *map(str, arguments)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment(env), timeout=timeout, check=False,
                          **more)


def ini(**sections):
    """The text of a configuration; a value of None is left out."""
    text = ""
    for name, options in sections.items():
        text += f"[{name}]\n"
        for key, value in options.items():
            if value is not None:
                text += f"{key} = {value}\n"
    return text


@dataclasses.dataclass
class Reply:
    """One reply: its code, its lines without code, and what was read."""
    code: int
    lines: list
    raw: bytes

    @property
    def text(self):
        return self.lines[-1]

    @property
    def status(self):
        """The enhanced status code, or an empty string."""
        word = self.text.split(" ", 1)[0]
        return word if word.count(".") == 2 else ""

    def __str__(self):
        return f"{self.code} {self.text}"


def pairs(line):
    """The key=value pairs of a log line."""
    found = {}
    for pair in line.partition(": ")[2].split(", "):
        key, equals, value = pair.partition("=")
        if equals:
            found[key] = value
    return found


class Log:
    """The log file of one process."""

    def __init__(self, path):
        self.path = path

    def __str__(self):
        return self.path.read_text(errors="surrogateescape")

    def lines(self, verb):
        """The lines of this verb, from the verb on."""
        return [match.group(1) for match in re.finditer(
            rf"(?m)^(?:\S+\[\d+\]: )?({verb}: .*)$", str(self))]

    def one(self, verb):
        """The only line of this verb, as pairs."""
        found = self.lines(verb)
        assert len(found) == 1, f"{verb}: {len(found)} lines in {self}"
        return pairs(found[0])


def connection(how):
    """A connected pair: descriptors of the client (read, write) and of the
    program (in, out), and the objects that own them."""
    if how == "pipe":
        in_read, in_write = os.pipe()
        out_read, out_write = os.pipe()
        return (out_read, in_write), (in_read, out_write), []
    if how in ("socketpair", "spawn"):
        ours, theirs = socket.socketpair()
    elif how == "unix":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(b"\0swiftdrop-test-" + os.urandom(8).hex().encode())
        ours, theirs = meet(listener)
    elif how == "tcp6":
        listener = socket.socket(socket.AF_INET6)
        listener.bind(("::1", 0))
        ours, theirs = meet(listener)
    elif how == "mapped":
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        ours, theirs = meet(listener, ("127.0.0.1", listener.getsockname()[1]))
    else:
        assert how == "tcp", how
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        ours, theirs = meet(listener)
    return ((ours.fileno(), ours.fileno()),
            (theirs.fileno(), theirs.fileno()), [ours, theirs])


def meet(listener, address=None):
    """Connects to a bound socket; both ends."""
    listener.listen(1)
    address = address or listener.getsockname()
    family = listener.family if len(address) != 2 else socket.AF_INET
    if listener.family == socket.AF_UNIX:
        family = socket.AF_UNIX
    ours = socket.socket(family)
    ours.connect(address)
    theirs, _ = listener.accept()
    listener.close()
    if ours.family != socket.AF_UNIX:
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


class Session:
    """One swiftdrop process and the client's side of its connection."""

    def __init__(self, arguments=(), how="socketpair", env=None, log=None,
                 ends=None, prefix=(), **popen):
        """how: pipe, socketpair, unix, tcp, tcp6, mapped, or spawn (where 2
        is the client's socket as well, as spawn(8) and inetd have it).
        ends: a connected pair of sockets made elsewhere."""
        if ends:
            keep = list(ends)
            mine = (ends[0].fileno(), ends[0].fileno())
            theirs = (ends[1].fileno(), ends[1].fileno())
        else:
            mine, theirs, keep = connection(how)
        self.read_fd, self.write_fd = mine
        self.socket = keep[0] if keep else None
        self.log = Log(log) if log else None
        self.buffer = b""
        self.open = True
        stderr = subprocess.DEVNULL
        if how == "spawn":
            stderr = theirs[1]
        elif log:
            stderr = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.process = subprocess.Popen(
            [*prefix, BINARY, *map(str, arguments)], stdin=theirs[0],
            stdout=theirs[1], stderr=stderr, env=environment(env), **popen)
        if log and how != "spawn":
            os.close(stderr)
        if keep:
            keep[1].close()
        else:
            os.close(theirs[0])
            os.close(theirs[1])

    # The client's side.

    def send(self, data):
        if isinstance(data, str):
            data = data.encode()
        while data:
            data = data[os.write(self.write_fd, data):]

    def fill(self, timeout):
        """Reads once more; False at the end of the stream."""
        ready, _, _ = select.select([self.read_fd], [], [], timeout)
        assert ready, f"nothing came in {timeout} s; so far {self.buffer!r}"
        try:
            more = os.read(self.read_fd, 65536)
        except ConnectionResetError:
            more = b""
        self.buffer += more
        return bool(more)

    def line(self, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            more = self.fill(max(0.0, end - time.monotonic()))
            assert more, f"stream ended in the line {self.buffer!r}"
        line, _, self.buffer = self.buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"bare LF from the program: {line!r}"
        return line[:-1]

    def reply(self, timeout=PATIENCE):
        """The next reply; its form (RFC 5321 4.2) is checked."""
        lines, raw = [], b""
        while True:
            line = self.line(timeout)
            raw += line + b"\r\n"
            assert len(line) <= 510, f"reply of {len(line)} octets"
            assert line[:3].isdigit() and 200 <= int(line[:3]) < 600, line
            assert all(0x20 <= octet < 0x7f for octet in line), line
            lines.append(line[4:].decode())
            if line[3:4] != b"-":
                assert line[3:4] == b" ", line
                return Reply(int(line[:3]), lines, raw)

    def cmd(self, line, timeout=PATIENCE):
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply(timeout)

    def quiet(self, seconds=0.3):
        """True when nothing comes for so long."""
        ready, _, _ = select.select([self.read_fd], [], [], seconds)
        return not ready and not self.buffer

    def end_of_stream(self, timeout=PATIENCE):
        """What still comes until the program closes."""
        end = time.monotonic() + timeout
        while self.fill(max(0.0, end - time.monotonic())):
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def hang_up(self):
        """The client goes away at once."""
        if not self.open:
            return
        self.open = False
        if self.socket:
            self.socket.close()
        else:
            os.close(self.read_fd)
            os.close(self.write_fd)

    def reset(self):
        """As hang_up(), by a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                               b"\1\0\0\0\0\0\0\0")
        self.hang_up()

    def half_close(self):
        if self.socket:
            self.socket.shutdown(socket.SHUT_WR)
        else:
            os.close(self.write_fd)
            self.write_fd = os.open("/dev/null", os.O_WRONLY)

    # Whole steps of a dialogue.

    def greet(self, name="client.example"):
        """Greeting and EHLO; the keywords that were announced."""
        greeting = self.reply()
        assert greeting.code == 220, greeting
        reply = self.cmd(f"EHLO {name}")
        assert reply.code == 250, reply
        return reply.lines[1:]

    def envelope(self, sender="from@example.org",
                 recipients=("box@example.com",)):
        """MAIL and RCPT, all accepted."""
        reply = self.cmd(f"MAIL FROM:<{sender}>")
        assert reply.code == 250, reply
        for recipient in recipients:
            reply = self.cmd(f"RCPT TO:<{recipient}>")
            assert reply.code == 250, reply

    def data(self, content):
        """DATA and the content, dot-stuffed; leaves out the reply."""
        reply = self.cmd("DATA")
        assert reply.code == 354, reply
        self.send(stuffed(content))

    def deliver(self, content, sender="from@example.org",
                recipients=("box@example.com",), timeout=PATIENCE):
        """One message; the reply to the end of data."""
        self.envelope(sender, recipients)
        self.data(content)
        return self.reply(timeout)

    def quit(self, code=0):
        """QUIT, end of stream and exit status."""
        reply = self.cmd("QUIT")
        assert reply.code == 221, reply
        assert self.end_of_stream() == b""
        self.ends(code)

    # The process.

    def ends(self, code=0, timeout=PATIENCE):
        status = self.process.wait(timeout)
        assert status == code, f"exit {status}, expected {code}; {self.log}"

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def cleanup(self):
        self.hang_up()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def stuffed(content):
    """Mail data as it travels: dots doubled, the final dot added."""
    assert not content or content.endswith(b"\r\n")
    if content.startswith(b"."):
        content = b"." + content
    return content.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def shell(command):
    """A prefix for Session: a shell that does this and becomes the
    program.

    bash(1), as dash knows no descriptor above 9; without .bashrc, which it
    reads when its input is a socket."""
    return ("/bin/bash", "--norc", "-ec", command + '\nexec "$@"', "bash")


def mounts(folder, *targets):
    """A prefix for Session that puts own folders in place of /run and /dev.

    They are empty but for some devices: nobody takes log lines there."""
    commands = []
    for target in targets:
        own = folder / target.strip("/")
        own.mkdir(parents=True, exist_ok=True)
        if target == "/dev":
            for device in ("null", "urandom", "zero"):
                (own / device).touch()
                commands.append(f"mount --bind /dev/{device} {own}/{device}")
        commands.append(f"mount --rbind {own} {target}")
    return ("unshare", "-rm", *shell("\n".join(commands)))
