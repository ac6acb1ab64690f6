# SPDX-License-Identifier: GPL-3.0-or-later
"""One mail given to a filter of its own, started as spawn(8) would."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from . import mails
from .behind import Behind
from .plan import DEADLINE
from .store import Store

# An answer that takes longer than this is a hang.
PATIENCE = DEADLINE + 10
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Gone(Exception):
    """The filter has ended, or we have."""


class Filter:
    """A process and what is around it."""

    def __init__(self, attempt, world, ledger, binary):
        self.attempt = attempt
        self.ledger = ledger
        self.folder = world.folder / f"t{attempt.number}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.process = None
        self.paused = 0
        self.stores = {
            kind: Store(target, attempt.faults, self.act, self.note)
            for kind, target in world.stores(attempt).items()}
        self.behind = Behind(world.behind, attempt.faults, self.act, self.note)
        self.spool = world.spool(attempt, self.folder)
        self.ini = self.folder / "ini"
        self.ini.write_text(world.ini(attempt, self.stores, self.behind.port,
                                      self.spool, "stderr"))
        self._world = world
        self._start(binary)

    def note(self, text):
        self.ledger.note(self.attempt, "fault", text=text)

    def _start(self, binary):
        listener = socket.create_server(("127.0.0.1", 0))
        self.socket = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        listener.close()
        self.socket.settimeout(PATIENCE + 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [binary, "-c", self.ini], stdin=theirs, stdout=theirs,
                stderr=log, env=self.environment(), cwd=self.folder)
        theirs.close()
        self.ledger.note(self.attempt, "started", pid=self.process.pid)

    def environment(self):
        env = {"PATH": "/usr/bin:/bin", "LANG": "C",
               "TMPDIR": str(self.folder)}
        for fault in self.attempt.faults:
            if fault.side == "call":
                error = fault.action.rstrip("+")
                env |= {"LD_PRELOAD": str(self._world.failcalls),
                        "FAIL_CALL": fault.point, "FAIL_WITH": error,
                        "FAIL_AT": str(fault.number)}
                if fault.action.endswith("+"):
                    env["FAIL_ON"] = "1"
                self.note(str(fault))
            if fault.side == "clock":
                env |= {"LD_PRELOAD": FAKETIME, "FAKETIME": fault.point,
                        "DONT_FAKE_MONOTONIC": "1"}
                self.note(str(fault))
        return env

    def act(self, action, argument=""):
        """Signals; returns whether the action was one."""
        if action == "kill":
            self.ledger.note(self.attempt, "killed", killed=True)
            self.process.kill()
        elif action == "term":
            self.process.terminate()
        elif action == "stop":
            self.pause(float(argument))
        elif action == "box":
            self._world.drop_containers(self.attempt)
        else:
            return False
        return True

    def pause(self, seconds):
        def resume():
            time.sleep(seconds)
            self.process.send_signal(signal.SIGCONT)
        self.paused += seconds
        self.process.send_signal(signal.SIGSTOP)
        threading.Thread(target=resume, daemon=True).start()

    # The dialogue.

    def at(self, point):
        for fault in self.attempt.faults:
            if fault.side != "client" or fault.point != point:
                continue
            self.note(str(fault))
            action, _, argument = fault.action.partition(":")
            if action == "half":
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
        self.at("mail")
        if self.say(f"MAIL FROM:<{self.attempt.sender}>") != 250:
            return
        for recipient in self.attempt.recipients:
            self.at("rcpt")
            if self.say(f"RCPT TO:<{recipient}>") != 250:
                return
        self.at("data")
        if self.say("DATA") != 354:
            return
        octets = mails.stuffed(content)
        half = len(octets) // 2
        self.socket.sendall(octets[:half])
        self.at("content")
        self.socket.sendall(octets[half:])
        self.ledger.note(self.attempt, "dot", ended=True)
        start = time.monotonic()
        try:
            self.socket.sendall(b".\r\n")
            self.at("dot")
            if any(f.point == "late" for f in self.attempt.faults):
                time.sleep(0.3)
                self.at("late")
            self.reply()
            self.ledger.note(self.attempt, "answer", answered=self.last)
        finally:
            self.ledger.note(self.attempt, "waited",
                             waited=time.monotonic() - start - self.paused)
        with contextlib.suppress(OSError):
            self.say("QUIT")

    def run(self, content):
        try:
            self.talk(content)
        except (Gone, OSError, ValueError) as error:
            self.ledger.note(self.attempt, "gone", gone=repr(error))
        finally:
            with contextlib.suppress(OSError):
                self.socket.close()
            self.end()

    def end(self):
        try:
            status = self.process.wait(PATIENCE + self.paused + 30)
        except subprocess.TimeoutExpired:
            status = "hangs"
            self.process.kill()
            self.process.wait()
        self.ledger.note(self.attempt, "ended", status=status)
        for proxy in (*self.stores.values(), self.behind):
            proxy.close()
        left = [name for name in os.listdir(self.folder)
                if name not in ("log", "ini")]
        if self.spool.exists():
            left += os.listdir(self.spool)
        if left:
            self.ledger.note(self.attempt, "left", left=left)


def deliver(attempt, world, ledger, binary):
    """Everything about one attempt; its outcome is in the ledger."""
    content = mails.content(attempt)
    ledger.note(attempt, "mail", sha256=mails.sha256(content),
                size=len(content))
    Filter(attempt, world, ledger, binary).run(content)
