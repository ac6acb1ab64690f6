# SPDX-License-Identifier: GPL-3.0-or-later
"""Single sessions, and the programs that do less: time, CPU and memory."""

import hashlib
import hmac
import os
import re
import signal
import socket
import subprocess
import time

SIZES = {"4 KiB": 4 << 10, "1 MiB": 1 << 20, "50 MiB": 50 << 20}
KEY = "key-of-the-bench"


def content(size):
    """So many octets of mail, in lines without a leading dot."""
    head = b"Subject: bench\r\n\r\n"
    line = b"x" * 74 + b"\r\n"
    text = head + line * (size // len(line))
    return text[:size - 2] + b"\r\n"


def since_ms(started):
    return (time.perf_counter() - started) * 1000


def cpu_ms(usage):
    return (usage.ru_utime + usage.ru_stime) * 1000


class Session:
    """A filter on one end of a socket pair, as spawn(8) starts it."""

    def __init__(self, *argv):
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(60)
        started = time.perf_counter()
        # vfork and exec: no copy of this process is paid for.
        self.pid = os.posix_spawn(
            argv[0], argv, {}, setsigdef=[signal.SIGPIPE],
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), number)
                          for number in (0, 1, 2)])
        theirs.close()
        self._reply("220")
        self.greeting_ms = since_ms(started)

    def deliver(self, octets):
        """Stores a mail; ms from the write of the dot to the reply."""
        self._command("EHLO bench.example", "250")
        for line in ("MAIL FROM:<from@bench.example>",
                     "RCPT TO:<to@bench.example>"):
            self._command(line, "250")
        self._command("DATA", "354")
        self._socket.sendall(octets)
        started = time.perf_counter()
        self._socket.sendall(b".\r\n")
        self._reply("250 2.0.0 Ok: stored as ")
        return since_ms(started)

    def peak_kib(self):
        """Peak resident memory so far; ru_maxrss has that of before exec."""
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1])

    def end(self, say="QUIT"):
        """Ends the session; the CPU time it took, in ms."""
        if say:
            self._command(say, "221")
        self._socket.close()
        _, status, usage = os.wait4(self.pid, 0)
        if status != 0:
            raise SystemExit(f"a session ended with status {status}")
        return cpu_ms(usage)

    def _command(self, line, code):
        self._socket.sendall(line.encode() + b"\r\n")
        self._reply(code)

    def _reply(self, expected):
        text = b""
        while not re.search(rb"(?m)^\d{3} .*\r\n\Z", text):
            more = self._socket.recv(4096)
            if not more:
                raise SystemExit(f"the session ended after {text!r}")
            text += more
        if not text.decode().startswith(expected):
            raise SystemExit(f"got {text!r}, expected {expected}")


def signed(url):
    """The URL, and the right to PUT there for ten minutes."""
    expires = int(time.time()) + 600
    path = url.split("/", 3)[3]
    digest = hmac.new(KEY.encode(), f"PUT\n{expires}\n/{path}".encode(),
                      hashlib.sha256).hexdigest()
    return f"{url}?temp_url_sig={digest}&temp_url_expires={expires}"


def put(program, container_url, path, capath=""):
    """Runs bench/put: ms that its request takes, ms of CPU in all."""
    read, write = os.pipe()
    argv = [program, signed(f"{container_url}/put-{time.time():.6f}"), "",
            path, *filter(None, [capath])]
    pid = os.posix_spawn(argv[0], argv, {}, file_actions=[
        (os.POSIX_SPAWN_DUP2, write, 1)])
    _, status, usage = os.wait4(pid, 0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    if status != 0:
        raise SystemExit(f"bench/put ended with status {status}")
    return int(text) / 1000, cpu_ms(usage)


def measure(add, places, programs, folder, rounds):
    """Each round everything takes its turn; add(value, *names) keeps it.

    places      {name: (swiftdrop.ini, container's URL, capath)}
    programs    {name: (swiftdrop, put)} and "floor": greet
    """
    paths = {}
    contents = {name: content(size) for name, size in SIZES.items()}
    for name, octets in contents.items():
        paths[name] = os.path.join(folder, name.replace(" ", ""))
        with open(paths[name], "wb") as file:
            file.write(octets)

    def session(program, place, size):
        opened = Session(programs[program][0], "-c", places[place][0])
        add(opened.greeting_ms, program, "greeting")
        add(opened.deliver(contents[size]), program, place, size, "reply")
        add(opened.peak_kib(), program, place, size, "peak")
        add(opened.end(), program, place, size, "CPU")

    for number in range(rounds):
        floor = Session(programs["floor"])
        add(floor.greeting_ms, "floor", "greeting")
        floor.end(say=None)
        for program in ("swiftdrop", "swiftdrop.static"):
            for place, (_, url, capath) in places.items():
                session(program, place, "4 KiB")
                request, used = put(programs[program][1], url,
                                    paths["4 KiB"], capath)
                add(request, program, place, "4 KiB", "put")
                add(used, program, place, "4 KiB", "put CPU")
            if number % 6 == 0:
                session(program, "http", "1 MiB")
                session(program, "http", "50 MiB")


def libraries(program):
    """Version, and what --version says is in it."""
    return " ".join(subprocess.run(
        [program, "--version"], check=True, text=True,
        stdout=subprocess.PIPE).stdout.splitlines()[:2])
