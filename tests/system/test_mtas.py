# SPDX-License-Identifier: GPL-3.0-or-later
"""doc/MTAS.md, recipe by recipe, with the MTAs that Debian has.

test_readme.py has the table of all blocks. The machine has no DNS.
"""

import contextlib
import re
import subprocess

import pytest

import lab
import test_readme
from helpers import objects, readme
from lab import mtas, nspawn, process
from lab.client import Raw, send, without_trace
from swiftq_box import wait_for

story = test_readme.story

DOC = "doc/MTAS.md"
DROP_IN = "/etc/systemd/system/swiftdrop.socket.d/override.conf"
EXIM = "/etc/exim4/exim4.conf"
SMTPD = "/etc/smtpd.conf"
STORED = ["orders@example.org", "invoices@example.org"]
# Where a bounce can be seen: it is stored.
SENDER = "invoices@example.org"
CLIENT = "127.0.0.5"
OF_XFORWARD = {"client-addr", "client-name", "client-helo", "queue-id"}
HEADER = (b"From: a@example.net\r\nTo: orders@example.org\r\n"
          b"Subject: hello\r\nMessage-ID: <1@example.net>\r\n"
          b"Date: Sat, 28 Nov 2026 12:00:00 +0000\r\n\r\n")
# smtplib stuffs the dots.
MAIL = (HEADER + "Grüße\r\n".encode() + b".\r\n..\r\nFrom here\r\n\r\n"
        + b"x" * 3000 + b"\r\n")
LARGE = HEADER + (b"y" * 70 + b"\r\n") * 2000
# sendmail asks the DNS for the sender's domain, and takes no mail while the
# machine is busy.
NO_DNS = """\\g<0>
FEATURE(`accept_unresolvable_domains')dnl
define(`confQUEUE_LA', `999')dnl
define(`confREFUSE_LA', `999')dnl"""


def block_of(start):
    return next(block.text for block in readme.blocks(DOC)
                if block.begins(start))


def substitute(pattern, new, text):
    text, count = re.subn(pattern, new, text, flags=re.M)
    assert count == 1, pattern
    return text


class Host:
    """A booted Debian with the MTAs and swiftdrop's package, and a Swift."""

    def __init__(self, machine, swift):
        self.machine = machine
        self.swift = swift
        self.container = None

    def run(self, text):
        """Runs a block; its output."""
        done = self.machine.run(
            "env", "--chdir=/root", "bash", "-e", "-c", text, check=False,
            stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def configure(self, recipients=STORED, **smtp):
        """Writes swiftdrop.ini; the next connection reads it."""
        self.machine.write("/etc/swiftdrop.ini", lab.ini_text({
            "SMTP": {"hostname": self.machine.name, **smtp},
            "PRODUCTION": {"recipients": ", ".join(recipients),
                           "retries": 0, **self.container.options()}}),
            0o640, "swiftdrop")

    def listen(self):
        self.machine.write(DROP_IN, block_of("[Unit]"))
        self.run("systemctl daemon-reload; systemctl start swiftdrop.socket")

    def start(self, command):
        """Runs a block at whose end an MTA runs."""
        self.run(command)
        wait_for(lambda: process.connects(25), command)

    def journal(self, program):
        return self.run(f"journalctl --sync; journalctl -o cat -t {program}")

    def arrived(self):
        """Waits for one object; its metadata and content."""
        wait_for(self.container.names, "an object")
        name, _, content = self.container.only()
        return self.container.metadata(name), content

    def renew(self, **options):
        """Goes on with an empty container, and this configuration."""
        self.container = self.swift.container()
        self.configure(**options)
        if self.run("systemctl is-active opensmtpd || :") == "active\n":
            # It has kept a connection with the one before.
            self.start(block_of("systemctl restart opensmtpd"))


@pytest.fixture(scope="module")
def booted(lab_folder, package):
    with nspawn.Machine(f"{lab_folder}/mtas", "mail.example.org") as machine, \
            machine.network():
        mtas.install(machine, package)
        swift = lab.Swift(f"{lab_folder}/mtas-swift")
        swift.start()
        try:
            yield Host(machine, swift)
        finally:
            swift.stop()


@pytest.fixture
def host(booted):
    booted.renew()
    booted.listen()
    yield booted
    for program in ("exim", "smtpd", "sendmail", "sm-mta", "swiftdrop"):
        print(booted.journal(program))  # shown when the test failed
    mtas.stop(booted.machine)
    booted.swift.restore()


def post(content=MAIL, recipients=STORED):
    """Sends a mail from elsewhere; code and text of the answer."""
    return send(25, recipients, content, SENDER, ["BODY=8BITMIME"], CLIENT)


@contextlib.contextmanager
def data(recipients):
    """Yields a client that has said DATA, and the answer to that."""
    with Raw(25) as client:
        for command in ("EHLO client.example", f"MAIL FROM:<{SENDER}>",
                        *(f"RCPT TO:<{name}>" for name in recipients)):
            client.command(command)
        yield client, client.command("DATA")


def refuses_by_itself():
    """What the MTA knows: swiftdrop is not asked, and nobody gets a bounce."""
    assert post(recipients=["orders@example.org", "nobody@example.org"])[0] \
        == 550
    with Raw(25) as client:
        assert "\n250-SIZE 52428800\n" in client.command("EHLO x")


def is_whole(metadata, content, header=HEADER):
    """The object is the mail, and says what is known of it."""
    assert sorted(objects.recipients(metadata)) == sorted(STORED)
    assert metadata["envelope-count"] == "2"
    assert objects.sender(metadata) == SENDER
    assert metadata["message-id"] == "<1@example.net>"
    assert not OF_XFORWARD & set(metadata)
    text = without_trace(content)
    assert text == header + MAIL.removeprefix(HEADER)
    assert CLIENT.encode() in content[:-len(text)]


def waits_for_swift(host, retry):
    """By the queue: while Swift is down the sender has its 250, and no
    bounce."""
    host.renew()
    before = host.journal("swiftdrop").count("deferred: ")
    host.swift.fault("503")
    assert post()[0] == 250
    wait_for(lambda: host.journal("swiftdrop").count("deferred: ") > before,
             "swiftdrop to be asked")
    assert host.container.names() == []
    host.swift.fault()
    again(host, retry)
    is_whole(*host.arrived())


def again(host, retry):
    """Has the queue tried, until something is stored: a command that comes
    while the try before is not yet over does nothing."""
    def stored():
        host.run(retry)
        return host.container.names()
    wait_for(stored, retry, every_s=0.5)


def bounces(host):
    """By the queue: what swiftdrop refuses for good goes back."""
    host.renew(recipients=[SENDER], unknown_recipient_code=550)
    assert post(recipients=["orders@example.org"])[0] == 250
    metadata, content = host.arrived()
    assert objects.sender(metadata) == ""
    assert objects.recipients(metadata) == [SENDER]
    assert b"550 5.1.1 Recipient address rejected" in content


def keeps_all_in_its_queue(host, retry):
    """An MTA that runs: takes a mail, and gives it to swiftdrop from there."""
    refuses_by_itself()
    assert post()[0] == 250
    is_whole(*host.arrived())
    waits_for_swift(host, retry)
    bounces(host)


def test_the_socket(story, host):
    """Without Postfix the shipped one does not start, with the drop-in it
    does."""
    host.run(f"systemctl stop swiftdrop.socket; rm {DROP_IN}; "
             "systemctl daemon-reload; systemctl start swiftdrop.socket")
    assert host.machine.show("swiftdrop.socket", "ConditionResult") == "no"
    host.machine.write(DROP_IN, story.take(DOC, "[Unit]").text)
    host.run("systemctl daemon-reload")
    host.run(story.take(DOC, "systemctl start swiftdrop-check").text)
    assert host.machine.show("swiftdrop-check", "Result") == "success"
    assert "Ok" in send(10025, "orders@example.org", MAIL)[1]
    host.run("systemctl stop swiftdrop.socket; rm /etc/swiftdrop.ini; "
             "systemctl start swiftdrop.socket")
    assert not process.connects(10025)


def exim(host, recipe):
    host.machine.write(EXIM, recipe)
    host.machine.write("/etc/exim4/stored", block_of("invoices@"))
    host.start(block_of("systemctl restart exim4"))


def exim_queue(host):
    return int(host.run("exim4 -bpc"))


def test_exim_before_the_queue(story, host):
    recipe = story.take(DOC, "primary_hostname").text
    assert story.take(DOC, "invoices@").commands() == sorted(STORED)
    story.take(DOC, "systemctl restart exim4")
    assert story.take(DOC, "[SMTP]").text == "[SMTP]\ndeadline = 50\n"
    exim(host, recipe)
    refuses_by_itself()
    code, text = post()
    assert code == 250, text
    # Not waited for.
    assert len(host.container.names()) == 1
    is_whole(*host.arrived())

    host.renew()
    host.swift.fault("503")
    assert post() == (451, "4.3.0 Error: queue file write error")
    host.swift.fault()
    host.configure(message_size_limit=100_000)
    assert post(LARGE) == (552, "5.3.4 Message size exceeds fixed limit")
    # One recipient that swiftdrop does not know, last or first.
    host.configure(recipients=["orders@example.org"])
    for recipients in STORED, STORED[::-1]:
        with data(recipients) as (_, answer):
            assert answer.startswith("451 4.3.0 ")
    host.configure()
    host.run("systemctl stop swiftdrop.socket")
    assert post()[0] == 451
    host.listen()
    assert host.container.names() == []
    assert exim_queue(host) == 0

    # One that Exim itself refuses is no matter.
    with data([STORED[0], "nobody@example.org", STORED[1]]) as (client, _):
        assert client.command(HEADER + b".").startswith("250 ")
    assert host.arrived()[0]["envelope-count"] == "2"

    host.renew()
    exim(host, substitute("^swiftdrop:\n  driver = manualroute\n",
                          "\\g<0>" + story.take(DOC, "headers_remove").text,
                          recipe))
    forged = b"X-Client-Addr: 192.0.2.99\r\n" + MAIL
    assert post(forged)[0] == 250
    is_whole(*host.arrived(), HEADER.removesuffix(b"\r\n")
             + f"X-Client-Addr: {CLIENT}\r\n\r\n".encode())


def test_exim_queues_what_a_session_that_dies_leaves(host):
    """The one case, says the page."""
    exim(host, block_of("primary_hostname"))
    with data(STORED) as (client, _):
        client.write(LARGE)
        host.run("systemctl kill --signal=KILL 'swiftdrop@*'")
        wait_for(lambda: not host.run(
            "systemctl list-units --no-legend 'swiftdrop@*'"), "its end")
        assert client.command(LARGE + b".").startswith("250 ")
    assert without_trace(host.arrived()[1]) == LARGE + LARGE


@pytest.mark.long
def test_exim_waits_longer_than_the_deadline(host):
    """A minute, which is less than the deadline that Postfix waits for."""
    exim(host, block_of("primary_hostname"))
    for smtp, answer in (({"deadline": 50}, (451, "4.3.0 Error: queue file "
                                                  "write error")),
                         ({}, (450, "Onward transmission not accepted"))):
        host.configure(**smtp)
        host.swift.pause()
        assert post() == answer
        host.swift.resume()


def test_exim_by_the_queue(story, host):
    exim(host, block_of("primary_hostname"))
    host.start(story.take(DOC, "sed -i").text)
    retry = story.take(DOC, "exim4 -qff").text
    keeps_all_in_its_queue(host, retry)

    host.renew()
    with open(host.machine.path(EXIM)) as file:
        exim(host, substitute("^  port = 10025\n", "\\g<0>  protocol = lmtp\n",
                              file.read()))
    assert post()[0] == 250
    wait_for(lambda: "421 4.5.1 Error: SMTP, not LMTP" in host.run(
        "cat /var/log/exim4/mainlog"), "swiftdrop to be asked")
    assert exim_queue(host) == 1
    assert host.container.names() == []


def test_opensmtpd(story, host):
    recipe = story.take(DOC, "table stored").text
    retry = story.take(DOC, "smtpctl").text
    restart = story.take(DOC, "systemctl restart opensmtpd").text
    host.machine.write(SMTPD, recipe)
    host.start(restart)
    keeps_all_in_its_queue(host, retry)

    host.renew()
    host.machine.write(SMTPD, substitute("smtp://", "lmtp://", recipe))
    host.start(restart)
    assert post()[0] == 250
    wait_for(lambda: "421 4.5.1 Error: SMTP, not LMTP" in host.journal(
        "smtpd"), "swiftdrop to be asked")
    assert len(host.run("smtpctl show queue").splitlines()) == len(STORED)
    assert host.container.names() == []


def test_sendmail(story, host):
    host.machine.write("/etc/mail/sendmail.mc", substitute(
        "^DOMAIN.*", NO_DNS, story.take(DOC, "define(").text))
    for table in story.take(DOC, "mailertable").text.split("\n\n"):
        name, rows = table.split(" ", 1)
        host.machine.write(f"/etc/mail/{name}", "".join(
            row.strip() + "\n" for row in rows.splitlines()))
    host.start(story.take(DOC, "make -C").text)
    retry = story.take(DOC, "sendmail -q").text
    keeps_all_in_its_queue(host, retry)
