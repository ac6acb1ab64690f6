# SPDX-License-Identifier: GPL-3.0-or-later
"""One mail given to a filter of its own, started as spawn(8) would or by
systemd's socket."""

import contextlib
import functools
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time

from . import mails, tokens
from .behind import Behind
from .plan import PATIENCE
from .store import Scanner, Store

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Gone(Exception):
    """The filter has ended, or we have."""


def child_of(parent, has_ended):
    """The process id of its first child, or 0."""
    path = f"/proc/{parent}/task/{parent}/children"
    for _ in range(500):
        with contextlib.suppress(FileNotFoundError):
            with open(path) as file:
                if children := file.read().split():
                    return int(children[0])
        if has_ended() is not None:
            break
        time.sleep(0.01)
    return 0


class Activated:
    """The process that systemd-socket-activate(1) starts for a connection; of
    subprocess.Popen's methods those that we use.

    inetd: its descriptors 0 and 1 are the connection, else $LISTEN_FDS says
    so. place: the path or the host and port to connect to.
    """

    def __init__(self, inetd, argv, folder, log, env):
        if inetd:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.place = probe.getsockname()
            listen = "{}:{}".format(*self.place)
        else:
            listen = self.place = f"{folder}/socket"
        self._log = log
        with open(log, "wb") as output:
            self._parent = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL",
                 "systemd-socket-activate", "--accept", "-l", listen,
                 *(("--inetd",) if inetd else ()),
                 *(f"--setenv={name}={value}" for name, value in env.items()),
                 *map(str, argv)],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                cwd=folder)

    def connect(self):
        for _ in range(500):
            sock = socket.socket(socket.AF_UNIX if isinstance(self.place, str)
                                 else socket.AF_INET)
            try:
                sock.connect(self.place)
                return sock
            except OSError:
                sock.close()
                time.sleep(0.02)
        raise OSError(f"nobody listens at {self.place}")

    @functools.cached_property
    def pid(self):
        return child_of(self._parent.pid, self._ended)

    def _ended(self):
        """How it ended: its status or its signal; None before."""
        with open(self._log, errors="replace") as file:
            found = re.search(r"^Child \d+ died with code (\d+)$", file.read(),
                              re.M)
        return found and int(found[1])

    def send_signal(self, number):
        if self.pid and self._ended() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def poll(self):
        return self._ended()

    def wait(self, seconds=None):
        end = time.monotonic() + (seconds or PATIENCE)
        try:
            while (status := self._ended()) is None:
                if time.monotonic() > end:
                    raise subprocess.TimeoutExpired("swiftdrop", seconds)
                time.sleep(0.01)
        finally:
            if status is not None or seconds is None:
                self._parent.terminate()
                self._parent.wait()
        # No status of ours is as small as a signal.
        return -status if status < 32 else status

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


class Namespaced:
    """The process that unshare(1) starts as number 1 of a namespace; of
    subprocess.Popen's methods those that we use."""

    def __init__(self, argv, **options):
        self._parent = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", *argv], **options)
        self._killed = False
        self.poll = self._parent.poll

    def wait(self, seconds=None):
        status = self._parent.wait(seconds)
        # So it ends when it cannot kill itself as its child was killed.
        return -signal.SIGKILL if self._killed and status == 1 else status

    @functools.cached_property
    def pid(self):
        return child_of(self._parent.pid, self.poll)

    def send_signal(self, number):
        if self.pid and self.poll() is None:
            self._killed |= number == signal.SIGKILL
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)


class Filter:
    """A process and what is around it."""

    def __init__(self, attempt, world, ledger, binary):
        self.attempt = attempt
        self.ledger = ledger
        self.folder = world.folder / f"t{attempt.number}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.clock = self.folder / "clock"
        self.process = None
        self.paused = 0
        self.tried = 0      # mails that were begun
        self.last_step = 0  # when the dot was sent, or the client went
        self.proxies = proxies(attempt, world, ledger, self.act)
        self.spool = world.spool(attempt, self.folder)
        self.ini = self.folder / "ini"
        self.ini.write_text(world.ini(attempt, self.proxies, self.spool,
                                      "stderr", self.folder / "token"))
        self._world = world
        self.argv = [binary, "-c", self.ini]
        self.logins = threading.Thread(target=self._log_in_again)
        self.token_file = tokens.TokenFile(
            attempt, world, ledger, self.folder / "token", self.argv,
            env=self.environment())
        if attempt.token_file:
            self.token_file.prepare()
        self._start()
        self.logins.start()

    def note(self, text):
        self.ledger.note(self.attempt, "fault", text=text)

    def _log_in_again(self):
        if self.attempt.token_file:
            self.token_file.log_in_while(lambda: self.process.poll() is None)

    def _start(self):
        env = self.environment() | self.failing()
        if self.attempt.entry in ("direct", "pids"):
            self._start_as_spawn_does(env)
        else:
            self.process = Activated(self.attempt.entry == "inetd", self.argv,
                                     self.folder, self.log, env)
            self.socket = self.process.connect()
        self.socket.settimeout(PATIENCE + 30)
        if self.socket.family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.ledger.note(self.attempt, "started", pid=self.process.pid)

    def _start_as_spawn_does(self, env):
        listener = socket.create_server(("127.0.0.1", 0))
        self.socket = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        listener.close()
        with open(self.log, "wb") as log:
            start = Namespaced if self.attempt.entry == "pids" else \
                subprocess.Popen
            self.process = start(
                self.argv, stdin=theirs, stdout=theirs, stderr=log, env=env,
                cwd=self.folder)
        theirs.close()

    def environment(self):
        env = {"PATH": "/usr/bin:/bin", "LANG": "C",
               "TMPDIR": str(self.folder)}
        if self.attempt.sanitized:
            # Descriptor 2 may be the client's.
            path = f"log_path={self.folder}/sanitizer"
            env |= {"ASAN_OPTIONS": path, "LSAN_OPTIONS": path,
                    "UBSAN_OPTIONS": f"{path}:print_stacktrace=1"}
        return env

    def failing(self):
        """What makes its calls fail or changes its clock."""
        env = {}
        for fault in self.attempt.faults:
            if fault.side == "call":
                error = fault.action.rstrip("+")
                env |= {"LD_PRELOAD": str(self._world.failcalls),
                        "FAIL_CALL": fault.point, "FAIL_WITH": error,
                        "FAIL_AT": str(fault.number)}
                if fault.action.endswith("+"):
                    env["FAIL_ON"] = "1"
            if fault.side == "clock":
                env |= {"LD_PRELOAD": FAKETIME, "DONT_FAKE_MONOTONIC": "1"}
                if fault.point.startswith("step:"):
                    self.set_clock("+0")
                    env |= {"FAKETIME_TIMESTAMP_FILE": str(self.clock),
                            "FAKETIME_NO_CACHE": "1"}
                else:
                    env["FAKETIME"] = fault.point
                    self.note(str(fault))
        return env

    def set_clock(self, to):
        new = self.clock.with_suffix(".new")
        new.write_text(to)
        new.rename(self.clock)

    def act(self, action, argument=""):
        """Signals; returns whether the action was one."""
        process = self.process or self.token_file.process
        if process is None:
            return action in ("kill", "term", "stop")
        if action == "kill":
            if process is self.process:
                self.ledger.note(self.attempt, "killed", killed=True)
            process.kill()
        elif action == "term":
            process.terminate()
        elif action == "stop":
            self.pause(process, float(argument))
        elif action == "box":
            self._world.drop_containers(self.attempt)
        else:
            return False
        return True

    def pause(self, process, seconds):
        def resume():
            time.sleep(seconds)
            process.send_signal(signal.SIGCONT)
        if process is self.process:
            self.paused += seconds
        process.send_signal(signal.SIGSTOP)
        threading.Thread(target=resume, daemon=True).start()

    # The dialogue.

    def at(self, point):
        if self.tried < self.attempt.tries:
            return  # What is ours happens to the last one.
        for fault in self.attempt.faults:
            if fault.side == "clock" and fault.point == f"step:{point}":
                self.note(str(fault))
                self.set_clock(fault.action)
            if fault.side != "client" or fault.point != point:
                continue
            self.note(str(fault))
            action, _, argument = fault.action.partition(":")
            if action == "wait":
                time.sleep(float(argument))
            elif action == "half":
                self.socket.shutdown(socket.SHUT_WR)
            elif not self.act(action, argument):
                if action == "reset":
                    self.socket.setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER,
                        struct.pack("ii", 1, 0))
                self.ledger.note(self.attempt, "cut", cut=True)
                self.socket.close()
                raise Gone()

    def reply(self):
        """Reads and notes a reply; its code."""
        line = b"   -"
        while line[3:4] == b"-":
            while b"\r\n" not in self.buffer:
                octets = self.socket.recv(4096)
                if not octets:
                    raise Gone()
                self.buffer += octets
            line, _, self.buffer = self.buffer.partition(b"\r\n")
        self.last = line.decode()
        self.ledger.note(self.attempt, "reply", text=self.last)
        return int(self.last[:3])

    def say(self, text):
        self.socket.sendall(text.encode() + b"\r\n")
        return self.reply()

    def talk(self, content):
        if self.reply() != 220:
            return
        self.say("EHLO client.example")
        self.say("XFORWARD NAME=client.example ADDR=192.0.2.1")
        while self.tried < self.attempt.tries:
            self.tried += 1
            if not self.give(mails.stuffed(content)):
                break
        with contextlib.suppress(OSError):
            self.say("QUIT")

    def give(self, octets):
        """One mail; returns whether another one may follow."""
        self.at("mail")
        if self.say(f"MAIL FROM:<{self.attempt.sender}>") != 250:
            return False
        for recipient in self.attempt.recipients:
            self.at("rcpt")
            if self.say(f"RCPT TO:<{recipient}>") != 250:
                return False
        self.at("data")
        if self.say("DATA") != 354:
            return False
        half = len(octets) // 2
        self.socket.sendall(octets[:half])
        self.at("content")
        self.socket.sendall(octets[half:])
        self.ledger.note(self.attempt, "dot")
        start, delay = time.monotonic(), self.delay()
        paused = self.paused
        self.last_step = start
        try:
            self.socket.sendall(b".\r\n")
            self.at("dot")
            if any(f.point in ("late", "step:late")
                   for f in self.attempt.faults):
                time.sleep(0.3)
                self.at("late")
            code = self.reply()
            self.ledger.note(self.attempt, "answer", text=self.last)
            return code != 421
        finally:
            self.ledger.note(
                self.attempt, "waited", paused=self.paused,
                waited=time.monotonic() - start - (self.paused - paused)
                - self._world.stalls.since(start)
                - max(self.delay() - delay, 0))

    def delay(self):
        """Seconds for which others had the processor that it waited for."""
        with contextlib.suppress(OSError):
            with open(f"/proc/{self.process.pid}/schedstat") as file:
                return int(file.read().split()[1]) / 1e9
        return 0

    def run(self, content):
        try:
            self.talk(content)
        except (Gone, OSError, ValueError) as error:
            self.ledger.note(self.attempt, "gone", gone=repr(error))
            with contextlib.suppress(Gone, OSError, ValueError):
                while self.reply():     # What it had to say before that.
                    pass
        finally:
            with contextlib.suppress(OSError):
                self.socket.close()
            self.last_step = self.last_step or time.monotonic()
            self.end()

    def wait(self):
        """Its status, if it ends in time: what it cannot help comes on top."""
        given = PATIENCE + self.paused
        while True:
            try:
                return self.process.wait(max(
                    self.last_step + given - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                more = PATIENCE + self.paused + self.delay() + \
                    self._world.stalls.since(self.last_step)
                if more < given + 0.1:
                    return "hangs"
                given = more

    def end(self):
        status = self.wait()
        if status == "hangs":
            self.process.kill()
            self.process.wait()
        self.ledger.note(self.attempt, "ended", status=status)
        self.logins.join()
        if self.attempt.has("clock"):
            # libfaketime's own, which it leaves; a process id comes again.
            for name in ("faketime_shm_", "sem.faketime_sem_"):
                path = pathlib.Path(f"/dev/shm/{name}{self.process.pid}")
                path.unlink(missing_ok=True)
        for proxy in self.proxies.values():
            proxy.close()
        left = [name for name in os.listdir(self.folder)
                if name not in OURS and not name.startswith("sanitizer.")]
        if self.spool.exists():
            left += os.listdir(self.spool)
        if tokens.fault(self.attempt).startswith("kill"):
            # What a login was writing when it was killed.
            left = [name for name in left if not name.startswith("token.")]
        if left:
            self.ledger.note(self.attempt, "left", left=left)
        for path in self.folder.glob("sanitizer.*"):
            self.ledger.note(self.attempt, "sanitizer",
                             report=path.read_text(errors="replace"))


# Files that are ours.
OURS = ("clock", "ini", "log", "login.log", "real", "socket", "token")


def proxies(attempt, world, ledger, act):
    """All that are between one filter and others, by their names."""
    def note(text):
        ledger.note(attempt, "fault", text=text)

    made = {kind: Store(target, attempt.faults, act, note,
                        world.tls if attempt.tls else None)
            for kind, target in world.stores(attempt).items()}
    made["behind"] = Behind(world.behind, attempt.faults, act, note)
    if attempt.rspamd:
        made["rspamd"] = Scanner(
            world.rspamd_place, attempt.faults, act, note,
            heard=lambda seconds: ledger.note(attempt, "heard", heard=seconds))
    return made


def deliver(attempt, world, ledger, binary):
    """Everything about one attempt; its outcome is in the ledger."""
    content = mails.content(attempt)
    ledger.note(attempt, "mail", sha256=mails.sha256(content),
                size=len(content))
    Filter(attempt, world, ledger, binary).run(content)
