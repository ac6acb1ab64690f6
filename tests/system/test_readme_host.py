# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are set up by README.md and by units/README.md, block by block.

test_readme.py has the table of all blocks.
"""

import json
import os
import re
import shutil
import smtplib
import subprocess

import pytest

import lab
import test_readme
from conftest import TREE
from helpers import readme
from lab import nspawn, process, tls
from test_readme import SWIFT

story = test_readme.story

KEYSTONE = "keystone.example.org"
INI = "/etc/swiftdrop.ini"
MAIL = "From: a@example.net\r\nSubject: hello\r\n\r\nA line.\r\n"


class Host:
    """A booted Debian with the tree in /root/swiftdrop, and a cloud.

    The cloud is a Swift behind the Keystone of README.md's example.
    """

    tree = "/root/swiftdrop"

    def __init__(self, machine, folder, authority):
        self.machine = machine
        self.swift = lab.Swift(f"{folder}/swift", keystone=True,
                               authority=authority)
        self.keystone = self.swift.keystone
        self.swift.start()
        self.cloud = self.swift.connection()
        self._tls = tls.Tls(
            f"{folder}/tls", authority, self.keystone.http_port, port=5000,
            certificate=authority.issue("keystone", f"DNS:{KEYSTONE}"))
        self._tls.start()
        shutil.copytree(TREE, machine.path(self.tree), symlinks=True,
                        ignore=shutil.ignore_patterns(".git", "__pycache__"))
        shutil.copy(authority.certificate,
                    machine.path("/usr/local/share/ca-certificates/lab.crt"))
        # The machine is made of this host's files, and packages are those that
        # are installed: it reaches no archive. Debian's package has made
        # Postfix's master.cf; Postfix is not set up.
        self.run(f"""
            rm -rf /var/lib/apt/lists
            dpkg --purge swiftdrop
            update-ca-certificates
            echo 127.0.0.1 {KEYSTONE} >> /etc/hosts
            cp /usr/share/postfix/master.cf.dist /etc/postfix/master.cf
            rm -rf /etc/postfix/swiftdrop
        """)

    def close(self):
        self._tls.stop()
        self.swift.stop()

    def run(self, text, status=0):
        """Runs a block as it stands, at the top of the tree; its output.

        The variables are those of the swift client, and for a quick build.
        """
        variables = {
            "HOME": "/root", "DEB_BUILD_OPTIONS": "noopt",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:"
                    "/sbin:/bin",
            "OS_AUTH_URL": f"https://{KEYSTONE}:5000/v3",
            "OS_IDENTITY_API_VERSION": "3",
            "OS_USERNAME": self.keystone.user,
            "OS_PASSWORD": self.keystone.password,
            "OS_PROJECT_NAME": self.keystone.project,
            "OS_PROJECT_DOMAIN_NAME": "Default",
            "OS_USER_DOMAIN_NAME": "Default"}
        done = self.machine.run(
            "env", f"--chdir={self.tree}",
            *(f"{name}={value}" for name, value in variables.items()),
            "bash", "-e", "-c", text, check=False, timeout=500,
            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        assert done.returncode == status, f"{text}\n{done.stdout}"
        return done.stdout

    def run_until(self, text, path):
        """Runs a block whose last command does not end, until path is there.
        """
        return self.run(f"""{text.rstrip()} &
            until [ -e {path} ] || ! kill -0 $!; do sleep 0.1; done
            kill $!
            wait $!""")

    def write_secret(self, path, secret):
        """Writes a file with the owner, group and mode of the configuration."""
        self.machine.write(path, secret + "\n")
        self.run(f"chown --reference={INI} {path}")
        self.run(f"chmod --reference={INI} {path}")

    def check_unit(self):
        """Tells how swiftdrop-check.service ended."""
        return self.machine.show("swiftdrop-check", "Result")

    def start_postfix(self, configure, tables):
        """By the two blocks of README.md."""
        self.run(configure)
        for table in tables.rstrip("\n").split("\n\n"):
            name, rows = table.split(" ", 1)
            self.machine.write(f"/etc/postfix/swiftdrop/{name}", "".join(
                row.strip() + "\n" for row in rows.splitlines()))
        self.run("postfix check && systemctl restart postfix")

    def count(self, container, folder="cur/"):
        """Returns how many messages are there."""
        return len(self.cloud.get_container(container, prefix=folder)[1])

    def journal(self):
        return self.run("journalctl --sync; journalctl -t swiftdrop -o cat")


def readme_block(start):
    return next(block.text for block in readme.blocks("README.md")
                if block.begins(start))


def pairs(line):
    """Returns the pairs of a line of the log, which may be folded."""
    return dict(re.findall(r"([\w-]+)=(<[^>]*>|\"[^\"]*\"|[^,]*)",
                           " ".join(line.split())))


def send(recipient):
    """Sends a mail; returns the reply to its end."""
    with smtplib.SMTP("127.0.0.1", 25, timeout=120) as client:
        client.ehlo("client.example.net")
        client.mail("a@example.net")
        assert client.rcpt(recipient)[0] == 250, recipient
        code, text = client.data(MAIL)
        return f"{code} {text.decode()}"


@pytest.fixture
def host(lab_folder, request, authority):
    folder = f"{lab_folder}/{request.function.__name__}"
    with nspawn.Machine(folder, "mail") as machine, machine.network():
        host = Host(machine, folder, authority)
        try:
            yield host
        finally:
            host.close()


@pytest.mark.slow
def test_host_by_the_readme(story, host):
    def take(start):
        return story.take("README.md", start).text

    host.run(take("apt-get install -y gcc make"))
    host.run(take("adduser "))
    configuration, count = re.subn(
        "(?m)^(os_options_application_credential_id = ).*",
        rf"\g<1>{host.keystone.application_credential_id}", take("[SMTP]"))
    assert count == 1
    host.machine.write(INI, configuration, 0o640)
    secret = host.keystone.application_credential_secret
    host.write_secret("/etc/swiftdrop.secret", secret)

    # One container is missing when the example of a failure is taken.
    post, check = take("swift post mail-production"), take("runuser -u ")
    commands, _, sample = check.partition("\n\n")
    host.run(post.splitlines()[0])
    assert host.run("runuser -u swiftdrop swiftdrop check", status=69) == \
        sample.replace(SWIFT, f"127.0.0.1:{host.swift.port}")
    host.run(post)
    shown = host.run(commands)
    assert "***" in shown and secret not in shown
    assert "failed" not in shown

    host.start_postfix(take("cp postfix/main.cf"), take("domains "))
    for recipient in ("invoices", "orders", "invoices-test"):
        assert " Ok: stored as " in send(f"{recipient}@example.org")
    targets = set()
    for recipient in ("sales", "office", "postmaster"):
        assert send(f"{recipient}@example.org").startswith("250 ")
    for line in host.run("postqueue -j").splitlines():
        targets |= {r["address"] for r in json.loads(line)["recipients"]}
    assert targets == {f"{name}@elsewhere.example"
                       for name in ("anna", "bert", "clara", "dora")}
    assert host.count("mail-production") == 2
    assert host.count("mail-acceptance") == 1

    # The log as it is shown, but for the name of Swift's host.
    for entry in host.cloud.get_container("mail-production")[1]:
        host.cloud.delete_object("mail-production", entry["name"])
    host.cloud.delete_container("mail-production")
    assert send("orders@example.org").startswith("451 4.3.5 ")
    sample = pairs(take("deferred: client="))
    line = pairs(re.findall("^deferred: .*", host.journal(), re.M)[-1])
    assert list(line) == list(sample)
    for name in ("nrcpt", "account", "container", "request", "status",
                 "tries", "dsn", "reason"):
        assert line[name] == sample[name].replace(
            SWIFT, f"127.0.0.1:{host.swift.port}")
    host.cloud.put_container("mail-production")

    # The reader; the second time with one account, which need not be named.
    host.machine.write("/usr/local/bin/import-mail",
                       "#!/bin/sh\ncat > /root/imported\n", 0o755)
    assert " Ok: stored as " in send("orders@example.org")
    host.run_until(take("apt-get install -y python3-swiftclient"),
                   "/root/imported")
    host.run("rm /root/imported")
    host.run(f"sed -i '/^\\[ACCEPTANCE]/,$d' {INI}")
    assert " Ok: stored as " in send("orders@example.org")
    host.run_until(story.take("examples/README.md", "apt-get install").text,
                   "/root/imported")
    assert host.count("mail-production", "done/") == 2

    # The same under systemd: as on a new host, not configured yet.
    host.run(f"rm {INI} && postconf -MX swiftdrop/unix 127.0.0.1:10025/inet")
    host.run("postfix reload")
    host.run(take("tests/install build debian"))
    host.run(take("make install && systemd-sysusers"))
    host.machine.write(INI, configuration, 0o640, "swiftdrop")
    host.write_secret("/etc/swiftdrop.secret", secret)
    host.run(take("install -D -m 644"))
    host.run(take("systemctl start swiftdrop-check"))
    assert host.check_unit() == "success"
    assert " Ok: stored as " in send("orders@example.org")
    assert host.count("mail-production") == 1
    assert process.connects(10025)


@pytest.mark.slow
def test_units_step_by_step(story, host):
    def take(start):
        return story.take("units/README.md", start).text

    host.cloud.put_container("inbox")
    options = host.keystone.options()
    key = options.pop("key")
    host.machine.write("/root/edited.ini", lab.ini_text({
        "SMTP": {"reinject": "127.0.0.1:10026"},
        "orders": {"recipients": "orders@example.org", "container": "inbox",
                   "authurl": f"https://{KEYSTONE}:5000/v3",
                   "key_file": "orders.key", **options}}))
    host.machine.write("/usr/local/bin/editor",
                       '#!/bin/sh\ncat /root/edited.ini > "$1"\n', 0o755)
    host.machine.write("/etc/orders.key", key, 0o600)
    host.run(take("make && make install"))
    host.write_secret("/etc/orders.key", key)
    host.start_postfix(
        "".join(line for line in
                readme_block("cp postfix/main.cf").splitlines(True)
                if "# not under systemd" not in line),
        readme_block("domains "))
    host.run(take("install -D -m 644"))
    check = take("systemctl start swiftdrop-check")
    host.run(check)
    assert host.check_unit() == "success"
    stored = send("orders@example.org")
    assert " Ok: stored as " in stored
    assert process.connects(10025)

    with open(host.machine.path(INI), "a") as file:
        file.write(take("token_file = "))
    host.run(take("systemctl start swiftdrop-login"))
    token = host.machine.path("/run/swiftdrop/token")
    assert os.path.exists(token)
    assert " Ok: stored as " in send("orders@example.org")
    assert not re.search("^account: ", host.journal(), re.M)

    host.run(take("for unit in"))
    host.run(check)
    assert host.check_unit() == "success"
    assert " Ok: stored as " in send("orders@example.org")

    name = stored.split()[-1]
    for command in story.take("units/README.md",
                              "journalctl -t swiftdrop").commands():
        shown = host.run(command.replace("NAME", name))
        if command.startswith(("journalctl -t", "journalctl OBJECT")) \
                and "warning" not in command:
            assert name in shown, command

    host.run(take("systemctl disable --now"))
    assert not os.path.exists(host.machine.path("/usr/sbin/swiftdrop"))
    assert not os.path.exists(token)
    # The mount option is the kernel's, for all of the machine around.
    host.run(take("mount -o remount").replace("mount ", "mount --fake ", 1))
