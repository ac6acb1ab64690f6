# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers, and what happens to them."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import lab
import swiftclient

from .plan import DEADLINE, TIMEOUT

FORWARDS = {"away@example.org": "jane@elsewhere.example"}
# The server behind refuses one subject at the end of data. Transactions that
# were given up, and processes that were killed, shall not slow it down.
MAIN = {"header_checks": "regexp:{{/^Subject: refuse me behind/ "
                         "REJECT refused by the server behind}}",
        "in_flow_delay": "0", "service_throttle_time": "1s",
        "notify_classes": ""}
SMALL = 1024 * 1024
TEMPURL_KEY = "tempurl-key"


class World:
    def __init__(self, folder, binary, keystone=True):
        self.folder = pathlib.Path(folder)
        self.failcalls = pathlib.Path(__file__).resolve().parents[2] / \
            "build/failcalls.so"
        self.swift = lab.Swift(f"{folder}/swift")
        self.keystone_swift = lab.Swift(f"{folder}/kswift", keystone=True) \
            if keystone else None
        self.sink = lab.Sink(f"{folder}/sink")
        self.postfix = lab.Postfix(
            f"{folder}/postfix", binary, {}, ("a@example.org",
                                              "b@example.org"),
            FORWARDS, relay_port=self.sink.port, main=MAIN)
        self._mounts = []

    def __enter__(self):
        try:
            self._mount("full", f"size={SMALL}")
            self._mount("inodes", "size=64m,nr_inodes=1")
            for server in self.servers:
                server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in reversed(self.servers):
            server.stop()
        for path in self._mounts:
            subprocess.run(["umount", "--lazy", path], check=True)

    @property
    def servers(self):
        return [server for server in (self.swift, self.keystone_swift,
                                      self.sink, self.postfix) if server]

    def _mount(self, name, options):
        path = self.folder / name
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{options},mode=1777",
                        "tmpfs", path], check=True)
        self._mounts.append(path)

    # What an attempt needs.

    def swift_of(self, attempt):
        return self.keystone_swift if attempt.auth == "3" else self.swift

    def stores(self, attempt):
        swift = self.swift_of(attempt)
        targets = {"swift": ("127.0.0.1", swift.port)}
        if swift.keystone:
            targets["keystone"] = ("127.0.0.1", swift.keystone.port)
        return targets

    @property
    def behind(self):
        return "127.0.0.1", self.postfix.reinject_port

    def spool(self, attempt, folder):
        """Where the attempt's content waits; outside of its folder."""
        kinds = [f.point for f in attempt.faults if f.side == "spool"]
        if "full" in kinds:
            return self.folder / "full"
        if "inodes" in kinds:
            return self.folder / "inodes"
        if "missing" in kinds:
            return folder / "nowhere"
        path = self.folder / "spool"
        path.mkdir(exist_ok=True)
        path.chmod(0o1777)
        return path

    def ini(self, attempt, stores, behind_port, spool, log):
        return lab.ini_text(self.sections(attempt, stores, behind_port, spool,
                                          log))

    def sections(self, attempt, stores, behind_port, spool, log):
        sections = {"SMTP": {
            "hostname": "mail.example.org", "origin": "example.org",
            "reinject": f"127.0.0.1:{behind_port}", "log": log,
            "deadline": DEADLINE, "timeout": 20, "spool_directory": spool}}
        url = f"http://127.0.0.1:{stores['swift'].port}"
        for account in "ab":
            options = {"recipients": f"{account}@example.org",
                       "timeout": TIMEOUT,
                       "container": attempt.container(account)}
            if attempt.auth == "tempurl":
                options |= {"auth_version": "tempurl",
                            "storage_url": f"{url}/v1/AUTH_test",
                            "temp_url_key": TEMPURL_KEY}
            elif attempt.auth == "3":
                keystone = self.keystone_swift.keystone
                options |= keystone.options() | {
                    "authurl":
                        f"http://127.0.0.1:{stores['keystone'].port}/v3",
                    "os_options_object_storage_url":
                        f"{url}/v1/AUTH_{keystone.project_id}"}
            else:
                options |= {"auth_version": "1", "user": self.swift.user,
                            "key": self.swift.key,
                            "authurl": f"{url}/auth/v1.0"}
            sections[account] = options
        return sections

    def connection(self, attempt):
        return self.swift_of(attempt).connection()

    def make_containers(self, attempt):
        headers = {"X-Container-Meta-Temp-URL-Key": TEMPURL_KEY}
        if attempt.has("store", "quota"):
            headers["X-Container-Meta-Quota-Bytes"] = "1"
        connection = self.connection(attempt)
        for account in attempt.accounts:
            connection.put_container(attempt.container(account), headers)

    def drop_containers(self, attempt):
        connection = self.connection(attempt)
        for account in attempt.accounts:
            # One with an object in it stays.
            with contextlib.suppress(swiftclient.ClientException):
                connection.delete_container(attempt.container(account))

    # What happens.

    def processes(self, name):
        """The process ids of our Postfix's daemons of this name, or of the
        filters that it started."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                exe = os.readlink(path / "exe").removesuffix(" (deleted)")
                queue = os.readlink(path / "cwd")
                if name == "filter" and exe == str(self.postfix.binary) or \
                        exe.endswith(f"/postfix/sbin/{name}") and \
                        queue == str(self.postfix.queue_directory):
                    found.append(int(path.name))
        return found

    def happen(self, what, how):
        """Lets it happen, and all is well again. Only in the main thread: a
        server ends with the thread that started it."""
        servers = {"swift": self.swift, "keystone": self.keystone_swift and
                   self.keystone_swift.keystone}
        time.sleep(0.2)
        if what not in servers:
            self.signal(what, how)
        elif servers[what]:
            self._hurt(servers[what], how)

    def signal(self, what, name):
        """kill, term or stop (for 4 s) all processes of a name."""
        pids = self.processes(name)
        signals = {"kill": [signal.SIGKILL], "term": [signal.SIGTERM],
                   "stop": [signal.SIGSTOP, signal.SIGCONT]}[what]
        for number in signals:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(4)

    @staticmethod
    def _hurt(server, how):
        pid = server._process.pid
        if how == "pause":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(3)
            os.kill(pid, signal.SIGCONT)
            return
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
        getattr(server, "go_down", server.stop)()
        time.sleep(1)
        server.start()

