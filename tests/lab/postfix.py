# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Postfix with the configuration that the project documents."""

import contextlib
import json
import os
import pathlib
import pwd
import shutil
import subprocess
import time

from . import process

PAIR = pathlib.Path(__file__).resolve().parents[2] / "postfix"
STOCK = pathlib.Path("/usr/share/postfix/master.cf.dist")

LENIENT = """
  -o smtpd_proxy_filter=$swiftdrop_filter
  -o smtpd_proxy_options=speed_adjust
  -o strict_rfc821_envelopes=no
  -o strict_smtputf8=no
"""


def replace(text, *pairs):
    """Replaces in the documented files what only a real host has."""
    for old, new in pairs:
        if old not in text:
            raise process.LabError(f"postfix/ does not have {old!r} any more")
        text = text.replace(old, new)
    return text


class Postfix:
    """mail.example.org, which takes mail for example.org. Only for root.

    folder      where it keeps everything; other users must be able to reach
                it
    binary      swiftdrop, copied into the folder as its user cannot see into
                everybody's home
    accounts    the sections of swiftdrop.ini but [SMTP], a dict of dicts
    recipients  addresses (or @domain) that Postfix knows as stored
    forwards    a dict of addresses, each with its targets
    relay_port  the 127.0.0.1 port that takes mail for everywhere else
    smtp        further keys of the [SMTP] section
    main        further lines of main.cf, a dict
    spawn       False: swiftdrop comes from elsewhere, such as systemd, and
                listens at 127.0.0.1:filter_port

    Mail enters at 127.0.0.1:port, and at lenient_port, which reads addresses
    as Postfix does by default; filter_port is swiftdrop itself and
    reinject_port the server behind it. Mail for lmtp.example goes to
    swiftdrop by LMTP, as if somebody had made that mistake, and mail for
    tls.example to 127.0.0.1:port, as another host would send it.
    certificate is that of the server in front.
    """

    filter_user = "nobody"

    def __init__(self, folder, binary, accounts, recipients=(), forwards=(),
                 relay_port=None, smtp=(), main=(), spawn=True,
                 domains=("example.org",)):
        self.folder = pathlib.Path(folder)
        self.log = self.folder / "mail.log"
        self.configuration = self.folder / "etc"
        self.queue_directory = self.folder / "queue"
        self.ini = self.configuration / "swiftdrop.ini"
        self.binary = self.folder / "swiftdrop"
        self.port = process.free_port()
        self.lenient_port = process.free_port()
        self.filter_port = process.free_port()
        self.reinject_port = process.free_port()
        self._process = None
        self._spawn = spawn
        self._smtp = {"hostname": "mail.example.org", "origin": "example.org",
                      "reinject": f"127.0.0.1:{self.reinject_port}",
                      "log": f"postlog:{self.queue_directory}/swiftdrop/log",
                      **dict(smtp)}
        self._main = {
            "queue_directory": self.queue_directory,
            "data_directory": self.folder / "data",
            "maillog_file": self.log,
            "maillog_file_prefixes": self.folder,
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "smtp_dns_support_level": "disabled",
            # Every test's mail comes from there; tests of the limits come
            # from another address.
            "smtpd_client_event_limit_exceptions": "127.0.0.1",
            "relayhost": f"[127.0.0.1]:{relay_port or 9}",
            **dict(main)}

        self.configuration.mkdir(parents=True)
        self.install(binary)
        postfix = pwd.getpwnam("postfix")
        filter_group = pwd.getpwnam(self.filter_user).pw_gid
        for path, user, group, mode in (
                (self.folder / "data", postfix.pw_uid, postfix.pw_gid, 0o700),
                (self.queue_directory, 0, 0, 0o755),
                (self.queue_directory / "swiftdrop", postfix.pw_uid,
                 filter_group, 0o750)):
            path.mkdir()
            os.chown(path, user, group)
            path.chmod(mode)
        tables = self.configuration / "swiftdrop"
        tables.mkdir()
        (tables / "domains").write_text("".join(
            f"{domain} swiftdrop-client:[127.0.0.1]:{self.filter_port}\n"
            for domain in domains)
            + f"lmtp.example lmtp:[127.0.0.1]:{self.filter_port}\n"
            f"tls.example smtp:[127.0.0.1]:{self.port}\n")
        self.certificate = tables / "tls.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
             "-subj", "/CN=mail.example.org", "-addext",
             "subjectAltName=DNS:mail.example.org", "-keyout",
             self.certificate, "-out", self.certificate],
            check=True, capture_output=True)
        (tables / "recipients").write_text("".join(
            f"{address} stored\n" for address in recipients))
        (tables / "forwards").write_text("".join(
            f"{address} {targets}\n"
            for address, targets in dict(forwards).items()))
        self.configure(accounts)
        self._write_main(tables)
        self._write_master()

    def install(self, binary):
        """Puts a swiftdrop where spawn(8) looks for it."""
        new = self.binary.with_suffix(".new")
        shutil.copy(binary, new)
        new.chmod(0o755)
        new.rename(self.binary)

    def configure(self, accounts):
        """Writes swiftdrop.ini anew; the next connection reads it."""
        from . import ini_text
        new = self.ini.with_suffix(".new")
        new.write_text(ini_text({"SMTP": self._smtp, **accounts}))
        os.chown(new, 0, pwd.getpwnam(self.filter_user).pw_gid)
        new.chmod(0o640)
        new.rename(self.ini)

    def _write_main(self, tables):
        path = self.configuration / "main.cf"
        path.write_text(replace((PAIR / "main.cf").read_text(),
                                ("/etc/postfix/swiftdrop", str(tables))))
        if not self._spawn:
            self._main["swiftdrop_filter"] = \
                f"inet:127.0.0.1:{self.filter_port}"
        self.set_main(self._main)

    def set_main(self, lines):
        """Sets parameters of main.cf; before start()."""
        self._postconf("-e", *(f"{name} = {value}"
                               for name, value in lines.items()))
        self._backdate("main.cf")

    def _backdate(self, name):
        """A daemon sleeps until its configuration is older than a second."""
        os.utime(self.configuration / name, (time.time() - 60,) * 2)

    def _write_master(self):
        path = self.configuration / "master.cf"
        path.write_text(STOCK.read_text())
        self._postconf("-F", "*/*/chroot = n")
        self._postconf("-MX", "smtp/inet")
        text = (PAIR / "master.cf").read_text()
        if self._spawn:
            text += replace(
                (PAIR / "master-spawn.cf").read_text(),
                ("\n127.0.0.1:10025 ", f"\n127.0.0.1:{self.filter_port} "),
                ("user=swiftdrop argv=/usr/sbin/swiftdrop",
                 f"user={self.filter_user} argv={self.binary} -c {self.ini}"),
                ("\n#../swiftdrop/log ", "\n../swiftdrop/log "))
        text = replace(
            text, ("\nsmtp      inet ", f"\n127.0.0.1:{self.port} inet "),
            ("\n127.0.0.1:10026 inet", f"\n127.0.0.1:{self.reinject_port} inet"))
        text += f"127.0.0.1:{self.lenient_port} inet n - n - - smtpd" + LENIENT
        with path.open("a") as file:
            file.write(text)
        self._backdate("main.cf")  # postconf(1) wrote it
        self._backdate("master.cf")

    def _postconf(self, *arguments):
        subprocess.run(["postconf", "-c", self.configuration, *arguments],
                       check=True)

    def start(self):
        # 3.10 tells on stdout what it updates.
        subprocess.run(["postfix", "-c", self.configuration, "check"],
                       check=True, stdout=subprocess.DEVNULL)
        # "postfix start-fg" would put a shell between us and master(8).
        self._process = process.start(
            ["/usr/lib/postfix/sbin/master", "-s", "-c", self.configuration],
            self.log, session=False)
        self._guard = process.guard(self._process)
        process.wait_until(
            lambda: process.connects(self.port), self._process, "Postfix",
            self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._guard.communicate(b"done\n")
            self._process = None

    def processes(self):
        """Returns {pid: name} of its daemons and of the filters that they
        started, which are called "filter"."""
        found = {}
        for pid, program, folder in process.running():
            if program == str(self.binary):
                found[pid] = "filter"
            elif "/postfix/sbin/" in program and \
                    folder == str(self.queue_directory):
                found[pid] = os.path.basename(program)
        return found

    def queue(self):
        """Returns the queue's entries as postqueue(1) -j describes them."""
        output = self._run("postqueue", "-j")
        return [json.loads(line) for line in output.splitlines()]

    def wait_for_empty_queue(self, seconds=60):
        """Waits until everything is delivered; flushes what was deferred."""
        deadline = time.monotonic() + seconds
        while entries := self.queue():
            if time.monotonic() > deadline:
                raise process.LabError(f"still in the queue: {entries}")
            if all(entry["queue_name"] == "deferred" for entry in entries):
                self.flush()
            time.sleep(0.1)

    def flush(self):
        self._run("postqueue", "-f")

    def clear(self):
        """Deletes all mail in the queue."""
        self._run("postsuper", "-d", "ALL")

    def sendmail(self, sender, recipients, content):
        """Submits a mail as a program of this host does."""
        self._run("sendmail", "-i", "-f", sender, "--", *recipients,
                  input=content)

    def _run(self, command, *arguments, **options):
        argv = [command, "-C" if command == "sendmail" else "-c",
                str(self.configuration), *arguments]
        return subprocess.run(argv, check=True, capture_output=True,
                              **options).stdout.decode()

    def log_text(self):
        return self.log.read_text(errors="replace")

    @contextlib.contextmanager
    def new_log(self):
        """Yields a function that returns what was logged since.

        postlogd(8) writes a line some time after it was sent: the function
        waits, not for ever, for the text that it is given.
        """
        start = self.log.stat().st_size

        def since(text=""):
            end = time.monotonic() + 10
            while True:
                with self.log.open("rb") as file:
                    file.seek(start)
                    found = file.read().decode(errors="replace")
                if text in found or time.monotonic() > end:
                    return found
                time.sleep(0.02)
        yield since


def install(machine):
    """What the comments in postfix/main.cf and master.cf say, done in a
    machine of .nspawn; orders@example.org is stored."""
    for name in ("main.cf", "master.cf"):
        shutil.copy(PAIR / name,
                    machine.path(f"/etc/postfix/{name}.swiftdrop"))
    machine.run("sh", "-e", "-c", """
        cd /etc/postfix
        cp /usr/share/postfix/master.cf.dist master.cf
        mv main.cf.swiftdrop main.cf
        postconf -MX smtp/inet
        cat master.cf.swiftdrop >> master.cf
        mkdir -p swiftdrop
        echo 'example.org swiftdrop-client:[127.0.0.1]:10025' \\
            > swiftdrop/domains
        echo 'orders@example.org stored' > swiftdrop/recipients
        : > swiftdrop/forwards
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \\
            -nodes -subj /CN=mail.example.org -keyout swiftdrop/tls.pem \\
            -out swiftdrop/tls.pem
        # Each daemon waits until its configuration is a second old.
        touch -d '1 minute ago' main.cf master.cf
        systemctl start postfix
    """)


class Sink:
    """smtp-sink(1): takes any mail and keeps each in a file."""

    def __init__(self, folder, port=None, options=()):
        self.folder = pathlib.Path(folder).resolve()
        self.port = port or process.free_port()
        self._options = options
        self._process = None
        self.folder.mkdir(parents=True)
        os.chown(self.folder, pwd.getpwnam("nobody").pw_uid, -1)

    def start(self):
        log = self.folder.with_suffix(".log")
        self._process = process.start(
            ["smtp-sink", "-d", f"{self.folder}/%s.", *self._options,
             f"127.0.0.1:{self.port}", "100"], log, user="nobody")
        process.wait_until(lambda: process.connects(self.port), self._process,
                           "smtp-sink", log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None

    def mails(self):
        """Returns what came, envelope in X-Mail-Args and X-Rcpt-Args.

        A mail counts when smtp-sink has closed its file, which is before it
        answers the end of data; until then the file is empty or half there.
        """
        found = sorted(self.folder.iterdir())
        unfinished = self._open_files()
        return [path.read_bytes() for path in found
                if str(path) not in unfinished]

    def _open_files(self):
        fds = pathlib.Path(f"/proc/{self._process.pid}/fd")
        paths = set()
        for fd in fds.iterdir():
            with contextlib.suppress(FileNotFoundError):
                paths.add(os.readlink(fd))
        return paths

    def clear(self):
        for path in self.folder.iterdir():
            path.unlink()
