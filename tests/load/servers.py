# SPDX-License-Identifier: GPL-3.0-or-later
"""A Postfix with swiftdrop behind it, under spawn(8) or a booted systemd, and
the store that keeps a line of each object."""

import asyncio
import contextlib
import os
import pathlib
import pwd
import subprocess
import time

import lab
from lab import nspawn, postfix, process

from . import account, watch

TREE = pathlib.Path(__file__).resolve().parents[2]
RECIPIENT = "orders@example.org"
# What is there however long nothing was to do; anvil(8) for a minute.
RESIDENT = {"master", "pickup", "qmgr", "postlogd", "tlsmgr", "anvil"}
# max_idle is shorter than Postfix's 100 s, so that it can be told soon whether
# all is as it was; postfix/main.cf has the rest, 100 processes among it. All
# mails come from one address, which only a relay's exception lets do that. A
# postmaster, who would be told of what is refused, is nobody here.
MAIN = {"max_idle": "1s", "notify_classes": "", "smtpd_peername_lookup": "no",
        "smtpd_client_event_limit_exceptions": "127.0.0.1"}


class Store:
    """bench/store, with a line of each object in a file."""

    def __init__(self, folder, *options):
        self.objects = pathlib.Path(folder, "objects")
        self.port = process.free_port()
        self._argv = [TREE / "build/store", "-p", str(self.port), *options,
                      self.objects]
        self._log = f"{folder}/store.log"
        self.objects.touch()

    @property
    def account(self):
        return {"container": "mail", "auth_version": "tempurl",
                "storage_url": f"http://127.0.0.1:{self.port}/v1/AUTH_bench",
                "temp_url_key": "key"}

    def start(self):
        self._process = process.start(self._argv, self._log)
        process.wait_until(lambda: process.connects(self.port), self._process,
                           "bench/store", self._log)

    def close(self):
        process.stop(self._process)

    def kept(self):
        return account.kept(self.objects)

    def descriptors(self):
        return watch.descriptors(self._process.pid)


def queued(queue):
    """The files of mails in Postfix's queue."""
    return [str(path) for name in ("incoming", "active", "deferred",
                                   "maildrop", "hold", "corrupt")
            for path in pathlib.Path(queue, name).glob("**/*")
            if path.is_file()]


class Front:
    """What both have: the ports, and what must be as it was."""

    port = direct = None    # of Postfix, of swiftdrop itself
    program = None

    def processes(self):
        """{process id: name}, filters being called "filter"."""
        raise NotImplementedError

    def filters(self):
        return [pid for pid, name in self.processes().items()
                if name == "filter"]

    def connect(self, source="127.0.0.1", port=None):
        """A coroutine function for a sender.Sender."""
        return lambda: asyncio.open_connection(
            "127.0.0.1", port or self.port, local_addr=(source, 0))

    def rest(self, seconds=60):
        """Waits until nothing has been left of what was done for a second, as
        a server may be about to start; returns what is."""
        end = time.monotonic() + seconds
        quiet = 0
        while quiet < 5 and time.monotonic() < end:
            time.sleep(0.2)
            busy = sorted(set(self.processes().values()) - RESIDENT
                          - {"systemd"}) + self.left()
            quiet = 0 if busy else quiet + 1
        return busy

    def left(self):
        """Files, mails and units that should be gone."""
        raise NotImplementedError

    def server(self):
        """The process id of who starts everything."""
        return next(pid for pid, name in self.processes().items()
                    if name in ("master", "systemd"))

    def state(self):
        """Descriptors and memory of that process, and what is not at rest."""
        busy = self.rest()
        return {"descriptors": watch.descriptors(self.server()),
                "kib": watch.resident_kib(self.server()), "left": busy}


class Spawned(Front):
    """The shipped pair of postfix/, spawn(8) starts the filter."""

    def __init__(self, folder, program):
        self.program = pathlib.Path(program)
        self._spool = pathlib.Path(folder, "spool")
        self._spool.mkdir(parents=True)
        os.chown(self._spool, pwd.getpwnam(lab.Postfix.filter_user).pw_uid, -1)
        self._postfix = lab.Postfix(
            pathlib.Path(folder, "postfix"), program,
            {}, [RECIPIENT], smtp={"spool_directory": self._spool},
            main=MAIN)
        self.port = self._postfix.port
        self.direct = self._postfix.filter_port
        self.processes = self._postfix.processes
        self.start = self._postfix.start
        self.close = self._postfix.stop
        self.log_text = self._postfix.log_text

    def configure(self, account):
        """Stores there, from the next connection on."""
        self._postfix.configure(
            {"orders": {"recipients": RECIPIENT, **account}})

    def left(self):
        return (list(map(str, self._spool.iterdir()))
                + queued(self._postfix.queue_directory))


class Booted(Front):
    """The units as `make install` leaves them, under systemd in a container;
    Postfix in it as well. This thread is on its network until close()."""

    port, direct, program = 25, 10025, TREE / "swiftdrop"
    SESSIONS = "swiftdrop@*"

    def __init__(self, folder):
        self._stack = contextlib.ExitStack()
        self._machine = nspawn.Machine(folder, f"swiftdrop-load-{os.getpid()}")

    def boot(self):
        """Without the filter: what it shall store in needs the network."""
        machine = self._stack.enter_context(self._machine)
        self._network = os.stat(f"/proc/{machine.leader}/ns/net").st_ino
        postfix.install(machine)
        machine.run("postconf", "-e", *(f"{name}={value}"
                                        for name, value in MAIN.items()))
        machine.run("sh", "-e", "-c", "touch -d '1 minute ago' "
                    "/etc/postfix/main.cf; systemctl restart postfix")
        subprocess.run(["make", "-s", "-C", TREE, "install",
                        f"DESTDIR={machine.path('')}"], check=True)
        machine.run("systemd-sysusers")
        self._stack.enter_context(machine.network())

    def configure(self, account):
        self._machine.write("/etc/swiftdrop.ini", lab.ini_text({
            "SMTP": {"reinject": "127.0.0.1:10026"},
            "orders": {"recipients": RECIPIENT, **account}}), mode=0o640,
            group="swiftdrop")

    def start(self):
        machine = self._machine
        machine.write("/etc/systemd/system/swiftdrop.socket.d/loopback.conf",
                      (TREE / "units/loopback.conf").read_text())
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "start", "swiftdrop.socket")

    def close(self):
        self._stack.close()

    def processes(self):
        found = {}
        for pid, program, _ in process.running():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/net").st_ino != self._network:
                    continue
                if program == "/usr/sbin/swiftdrop":
                    found[pid] = "filter"
                elif "/postfix/sbin/" in program:
                    found[pid] = os.path.basename(program)
        return {self._machine.leader: "systemd", **found}

    def left(self):
        units = self._machine.run(
            "systemctl", "list-units", "--all", "--plain", "--no-legend",
            self.SESSIONS).stdout.split("\n")[:-1]
        # Fails where one goes away meanwhile.
        paths = self._machine.run(
            "find", "/var/tmp", "/tmp", "-name", "*swiftdrop@*",
            check=False).stdout.split()
        return units + paths + queued(
            self._machine.path("/var/spool/postfix"))

    def log_text(self):
        self._machine.run("journalctl", "--sync")
        return self._machine.run("journalctl", "-t", "swiftdrop", "-o", "cat",
                                 "--grep", "in-doubt", check=False).stdout
