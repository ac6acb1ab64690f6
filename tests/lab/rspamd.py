# SPDX-License-Identifier: GPL-3.0-or-later
"""rspamd as Debian has it, and a name server that knows our domains alone."""

import os
import shutil
import urllib.error
import urllib.request

from . import process

# What asks for names or servers of the Internet, and takes its time over it.
OFFLINE = ("asn", "bimi", "dcc", "fuzzy_check", "neural", "phishing", "rbl",
           "rspamd_update", "surbl")
# What judges how a mail is written or who sent it, where we mean one test.
OPINIONS = ("hfilter", "mid", "mime_types", "once_received", "whitelist")


class Dns:
    """unbound on a port of its own.

    records     a dict of names, each with its TXT record
    lost        zones whose server does not answer
    """

    def __init__(self, folder, records, lost=()):
        self.folder = folder
        self.port = process.free_port()
        self.log = f"{folder}/unbound.log"
        self._process = None
        os.makedirs(folder, exist_ok=True)
        nobody = process.free_port()
        lines = ["server:", "interface: 127.0.0.1", f"port: {self.port}",
                 f'directory: "{folder}"', 'chroot: ""', 'username: ""',
                 f'pidfile: "{folder}/unbound.pid"', "use-syslog: no",
                 'logfile: ""', "do-daemonize: no",
                 "do-not-query-localhost: no", 'module-config: "iterator"',
                 'local-zone: "." static']
        for name, text in records.items():
            # A string of a TXT record has 255 octets at most.
            parts = [text[i:i + 200] for i in range(0, len(text), 200)]
            lines.append(f"local-data: '{name}. TXT " + " ".join(
                f'"{part}"' for part in parts) + "'")
        lines += [f'local-zone: "{zone}." transparent' for zone in lost]
        for zone in lost:
            lines += ["forward-zone:", f'name: "{zone}"',
                      f"forward-addr: 127.0.0.1@{nobody}"]
        lines += ["remote-control:", "control-enable: no"]
        with open(f"{folder}/unbound.conf", "w") as file:
            file.write("\n".join(lines) + "\n")

    def start(self):
        self._process = process.start(
            ["/usr/sbin/unbound", "-d", "-c", f"{self.folder}/unbound.conf"],
            self.log)
        process.wait_until(lambda: process.connects(self.port), self._process,
                           "unbound", self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None


class Rspamd:
    """One normal worker of rspamd, with Debian's own configuration.

    dns         a Dns
    local       a dict of files in local.d, each with its text
    opinions    False: OPINIONS are off as well, so that the score is that of
                the modules whose words we pass on

    Names end in .example: of the top level domains rspamd reads no other, as
    it takes 16 s for all of them.
    """

    def __init__(self, folder, dns, local=(), opinions=False):
        self.folder = folder
        self.port = process.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = f"{folder}/rspamd.log"
        self._process = None
        files = {
            **{f"{name}.conf": "enabled = false;\n"
               for name in OFFLINE + (() if opinions else OPINIONS)},
            "options.inc": f"""
                dns {{
                    nameserver = ["127.0.0.1:{dns.port}"];
                    timeout = 1s;
                    retransmits = 2;
                }}
                local_addrs = [];
                max_message = 64M;
                url_tld = "{folder}/suffixes";
            """, **dict(local)}
        shutil.rmtree(folder, ignore_errors=True)
        for name in ("local.d", "db", "run"):
            os.makedirs(f"{folder}/{name}")
        for name, text in files.items():
            with open(f"{folder}/local.d/{name}", "w") as file:
                file.write(text)
        with open(f"{folder}/suffixes", "w") as file:
            file.write("example\n")
        with open(f"{folder}/rspamd.conf", "w") as file:
            file.write(f"""
                .include "$CONFDIR/common.conf"
                options {{
                    pidfile = "$RUNDIR/rspamd.pid";
                    .include "$CONFDIR/options.inc"
                    .include(priority=1,duplicate=merge) "$LOCAL_CONFDIR/local.d/options.inc"
                }}
                logging {{
                    type = "console";
                    .include "$CONFDIR/logging.inc"
                }}
                worker "normal" {{
                    bind_socket = "127.0.0.1:{self.port}";
                    .include "$CONFDIR/worker-normal.inc"
                    count = 1;
                }}
            """)

    def start(self):
        places = {"LOCAL_CONFDIR": self.folder, "DBDIR": f"{self.folder}/db",
                  "RUNDIR": f"{self.folder}/run", "LOGDIR": self.folder}
        self._process = process.start(
            ["/usr/bin/rspamd", "--no-fork", "--insecure",
             "-c", f"{self.folder}/rspamd.conf",
             *(f"--var={name}={place}" for name, place in places.items())],
            self.log)
        # Its workers do not notice that it is gone.
        self._guard = process.guard(self._process)
        process.wait_until(self._answers, self._process, "rspamd", self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None
            self._guard.communicate(b"done\n")

    def _answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as ping:
                return ping.read().strip() == b"pong"
        except (OSError, urllib.error.URLError):
            return False
