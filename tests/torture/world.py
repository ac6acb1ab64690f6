# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers, and what happens to them."""

import contextlib
import os
import pathlib
import shutil
import signal
import ssl
import subprocess
import threading
import time

import lab
import swiftclient
from lab import rspamd

from .plan import (DEADLINE, PROXY_TIMEOUT, SESSION_LIMIT, SILENCE, TIMEOUT,
                   VERDICTS)

REFUSED = "refused by the server behind"
FORWARDS = {"away@example.org": "jane@elsewhere.example"}
# The server behind refuses one subject at the end of data. Transactions that
# were given up, and processes that were killed, shall not slow it down.
MAIN = {"header_checks": "regexp:{{/^Subject: refuse me behind/ "
                         "REJECT %s}}" % REFUSED,
        "in_flow_delay": "0", "service_throttle_time": "1s",
        "notify_classes": "",
        # Of the lenient port; the other one has its own. Of spawn(8): before
        # Postfix 3.10 it cannot kill what runs longer.
        "smtpd_proxy_timeout": f"{PROXY_TIMEOUT}s",
        "command_time_limit": f"{DEADLINE}s"}
SMALL = 1024 * 1024
# Seconds: above the proxy's limit, and above the deadline and spawn(8)'s.
STOPPED, STOPPED_LONG = 4, 8
TEMPURL_KEY = "tempurl-key"
# rspamd judges by a field of ours alone: GTUBE it looks for in small mails.
VERDICT = """
{symbol} {{
    type = "header";
    header = "X-Verdict";
    regexp = true;
    map = "{path}";
    prefilter = true;
    action = "{verdict}";
    message = "{verdict}, as you wish";
}}
"""


class Stalls:
    """When this machine did not let us run: no filter's fault."""

    STEP = 0.1

    def __init__(self):
        self._found = []
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            start = time.monotonic()
            time.sleep(self.STEP)
            late = time.monotonic() - start - self.STEP
            if late > 1:
                self._found.append((start, late))

    def since(self, start):
        """Seconds of it since then."""
        return sum(late for when, late in list(self._found)
                   if when + late > start)


def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


class World:
    def __init__(self, folder, binary, keystone=True):
        self.folder = pathlib.Path(folder)
        self.failcalls = pathlib.Path(__file__).resolve().parents[2] / \
            "build/failcalls.so"
        self.swift = lab.Swift(f"{folder}/swift")
        self.keystone_swift = lab.Swift(f"{folder}/kswift", keystone=True) \
            if keystone else None
        self.dns = rspamd.Dns(f"{folder}/dns", {})
        self.rspamd = self._rspamd()
        self.authority = lab.Authority(f"{folder}/authority")
        # What the proxies in front of the store show; nobody trusts the other.
        stranger = lab.Authority(f"{folder}/stranger", "another authority")
        self.tls = {"own": server_context(self.authority.issue("store")),
                    "stranger": server_context(stranger.issue("store"))}
        self.stalls = Stalls()
        self._connections = threading.local()
        self.sink = lab.Sink(f"{folder}/sink")
        self.postfix = lab.Postfix(
            f"{folder}/postfix", binary, {}, ("a@example.org",
                                              "b@example.org"),
            FORWARDS, relay_port=self.sink.port, main=MAIN)
        self._mounts = []

    def _rspamd(self):
        rules = ""
        for verdict in filter(None, sorted(set(VERDICTS))):
            symbol = verdict.replace(" ", "_").upper()
            path = self.folder / f"{symbol}.map"
            path.write_text(f"/^{verdict}$/\n")
            rules += VERDICT.format(symbol=symbol, path=path, verdict=verdict)
        return rspamd.Rspamd(f"{self.folder}/rspamd", self.dns, {
            "multimap.conf": rules, "actions.conf":
                "reject = 1000;\nadd_header = 999;\ngreylist = 998;\n"})

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
        return [server for server in (
            self.swift, self.keystone_swift, self.dns, self.rspamd, self.sink,
            self.postfix) if server]

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

    @property
    def rspamd_place(self):
        return "127.0.0.1", self.rspamd.port

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

    def ini(self, *arguments):
        return lab.ini_text(self.sections(*arguments))

    def sections(self, attempt, proxies, spool, log, token_file):
        """proxies: by their names, each with a port."""
        ports = {name: proxy.port for name, proxy in proxies.items()}
        sections = {"SMTP": {
            "hostname": "mail.example.org", "origin": "example.org",
            "reinject": f"127.0.0.1:{ports['behind']}", "log": log,
            "deadline": DEADLINE, "spool_directory": spool,
            "timeout": SILENCE if attempt.limit == "client" else 20,
            "session_limit":
                SESSION_LIMIT if attempt.limit == "session" else 900}}
        if attempt.rspamd:
            sections["SMTP"] |= {
                "rspamd": f"http://127.0.0.1:{ports['rspamd']}",
                "rspamd_timeout": TIMEOUT, "rspamd_required":
                    "yes" if attempt.rspamd == "required" else "no"}
        scheme = "https" if attempt.tls else "http"
        url = f"{scheme}://127.0.0.1:{ports['swift']}"
        for account in "ab":
            options = {"recipients": f"{account}@example.org",
                       "timeout": TIMEOUT,
                       "container": attempt.container(account),
                       "cacert": self.authority.certificate}
            if attempt.token_file:
                options["token_file"] = token_file
            auth = attempt.auth
            if account == "b" and attempt.other_login == "tempurl":
                auth = "tempurl"
            if auth == "tempurl":
                options |= {"auth_version": "tempurl",
                            "storage_url": f"{url}/v1/AUTH_test",
                            "temp_url_key": TEMPURL_KEY}
            elif auth == "3":
                keystone = self.keystone_swift.keystone
                options |= keystone.options() | {
                    "authurl":
                        f"{scheme}://127.0.0.1:{ports['keystone']}/v3",
                    "os_options_object_storage_url":
                        f"{url}/v1/AUTH_{keystone.project_id}"}
            else:
                options |= {"auth_version": "1", "user": self.swift.user,
                            "key": self.swift.key,
                            "authurl": f"{url}/auth/v1.0"}
            if account == "b" and attempt.other_login == "operator":
                options |= {"user": "other:operator",
                            "os_options_object_storage_url":
                                f"{url}/v1/AUTH_test"}
            sections[account] = options
        return sections

    def connection(self, attempt):
        """A connection of this thread's own."""
        swift = self.swift_of(attempt)
        known = vars(self._connections)
        if swift.folder not in known:
            known[swift.folder] = swift.connection()
        return known[swift.folder]

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

    def forget(self, attempt, objects):
        """Deletes what it has stored, which may be all of our memory."""
        connection = self.connection(attempt)
        for account, name in objects:
            with contextlib.suppress(swiftclient.ClientException):
                connection.delete_object(attempt.container(account), name)
        shutil.rmtree(self.folder / f"t{attempt.number}", ignore_errors=True)

    # What happens.

    def processes(self, name):
        """The process ids of our Postfix's daemons of this name, or of the
        filters that it started."""
        return [pid for pid, called in self.postfix.processes().items()
                if called == name]

    def zombies(self):
        """Children of Postfix that nobody has waited for, as ps(1) calls
        them."""
        parents = set(self.postfix.processes())
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                name, _, rest = path.read_text().rpartition(")")
                state, parent = rest.split()[:2]
                if state == "Z" and int(parent) in parents:
                    found.append(f"{name}) of {parent}")
        return found

    def happen(self, what, how):
        """Lets it happen, and all is well again; returns whether there was
        anything for it to happen to. Only in the main thread: a server ends
        with the thread that started it."""
        servers = {"swift": self.swift, "rspamd": self.rspamd,
                   "keystone-swift": self.keystone_swift,
                   "keystone": self.keystone_swift and
                   self.keystone_swift.keystone}
        time.sleep(0.2)
        if what not in servers:
            # A filter is there for a moment.
            end = time.monotonic() + 2
            while not self.processes(how) and time.monotonic() < end:
                time.sleep(0.05)
            return self.signal(what, how)
        if servers[what]:
            self._hurt(servers[what], how)
        return bool(servers[what])

    def signal(self, what, name):
        """kill, term, stop or stop:SECONDS (for a while) all processes of a
        name; returns whether there was one."""
        what, _, seconds = what.partition(":")
        pids = self.processes(name)
        hit = False
        signals = {"kill": [signal.SIGKILL], "term": [signal.SIGTERM],
                   "stop": [signal.SIGSTOP, signal.SIGCONT]}[what]
        for number in signals:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                    hit = True
            if number == signal.SIGSTOP and hit:
                time.sleep(float(seconds or STOPPED))
        return hit

    @staticmethod
    def _hurt(server, how):
        pid = server._process.pid
        how, _, seconds = how.partition(":")
        if how == "pause":
            os.killpg(pid, signal.SIGSTOP)
            time.sleep(float(seconds))
            os.killpg(pid, signal.SIGCONT)
            return
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
        getattr(server, "go_down", server.stop)()
        time.sleep(1)
        server.start()

