# SPDX-License-Identifier: GPL-3.0-or-later
"""Every code block of our Markdown files, run as its reader would run it.

DECISIONS says of each block which test runs it, or that there is nothing to
run. Put in another's place is only what the author's network alone has
(names, credentials), what would run for hours, and waiting for it.
"""

import contextlib
import datetime
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest
import swiftclient

from conftest import TREE
from helpers import readme
from lab import image, process

PICTURE = "a picture: nothing to run"

# File: how each of its blocks begins, and who runs it, in their order.
DECISIONS = {
    "CONTRIBUTING.md": [
        ("make  ", "test_targets_of_make"),
        ("make build/unit_smtp", "test_one_test_of_each_kind"),
    ],
    "README.md": [
        ("apt-get install -y make git", "test_two_commands"),
        ("make demo ONCE=1", "test_two_commands"),
        ("sha256sum --ignore", "test_files_are_signed_and_verified"),
        ("apt-get install -y gcc make", "test_host_by_the_readme"),
        ("adduser ", "test_host_by_the_readme"),
        ("tests/install build debian", "test_host_by_the_readme"),
        ("make install && systemd-sysusers", "test_host_by_the_readme"),
        ("install -D -m 644", "test_host_by_the_readme"),
        ("systemctl start swiftdrop-check", "test_host_by_the_readme"),
        ("[SMTP]", "test_host_by_the_readme"),
        ("swift post mail-production", "test_host_by_the_readme"),
        ("runuser -u swiftdrop", "test_host_by_the_readme"),
        ("cp postfix/main.cf", "test_host_by_the_readme"),
        ("domains ", "test_host_by_the_readme"),
        ("smtpd, port 25 ", PICTURE),
        ("radosgw-admin user create", "test_users_of_the_gateway"),
        ("cur/1567067375", PICTURE),
        ("deferred: client=", "test_host_by_the_readme"),
        ("apt-get install -y python3-swiftclient", "test_host_by_the_readme"),
        ("make image", "test_first_look_at_the_image"),
        ("AUTHURL=", "test_first_look_at_the_image"),
        ("examples/send-mail.sh", "test_first_look_at_the_image"),
    ],
    "SECURITY.md": [],
    "bench/LOAD.md": [],
    "bench/RESULTS.md": [],
    "doc/ELSEWHERE.md": [
        ("umask 077\n{ echo", "test_an_openrc"),
        ("cat >> swiftdrop.ini", "test_an_openrc"),
        ("umask 077\npython3 -", "test_a_clouds_yaml"),
    ],
    "doc/MTAS.md": [
        ("[Unit]", "test_the_socket"),
        ("systemctl start swiftdrop-check", "test_the_socket"),
        ("primary_hostname", "test_exim_before_the_queue"),
        ("invoices@example.org", "test_exim_before_the_queue"),
        ("systemctl restart exim4", "test_exim_before_the_queue"),
        ("[SMTP]", "test_exim_before_the_queue"),
        ("sed -i", "test_exim_by_the_queue"),
        ("exim4 -qff", "test_exim_by_the_queue"),
        ("table stored", "test_opensmtpd"),
        ("systemctl restart opensmtpd", "test_opensmtpd"),
        ("smtpctl schedule", "test_opensmtpd"),
        ("define(", "test_sendmail"),
        ("mailertable ", "test_sendmail"),
        ("make -C /etc/mail", "test_sendmail"),
        ("sendmail -q", "test_sendmail"),
        ("headers_remove", "test_exim_before_the_queue"),
    ],
    "doc/OPERATING.md": [
        ("swiftq()", "test_a_complaint"),
        ("journalctl -t postfix/smtpd", "test_a_complaint"),
        ("swiftq find --to", "test_a_complaint"),
        ("swiftq status", "test_a_backlog"),
        ("systemctl list-units", "test_a_backlog"),
        ("echo ACCOUNT=mail", "test_a_backlog"),
        ("swiftq recover", "test_a_backlog"),
        ("swiftq find --since 7d", "test_what_failed_once_more"),
        ("swiftq finish --note", "test_what_failed_once_more"),
        ("swift post mail-production -m", "test_a_temp_url_key"),
        ("swift tempurl", "test_a_temp_url_key"),
        ("install -m 640 -g swiftdrop", "test_an_application_credential"),
        ("install -m 640 -g swiftq", "test_the_readers_secret"),
        ("podman logs", "test_forwards_in_the_image"),
        ("spool=", "test_forwards_in_the_image"),
        ("find $spool/deferred", "test_forwards_in_the_image"),
        ("systemctl --failed", "test_what_to_watch"),
        ("swift download", "test_a_backup_and_a_lost_container"),
        ("swift post mail-production", "test_a_backup_and_a_lost_container"),
        ("journalctl -t swiftdrop", "test_a_backup_and_a_lost_container"),
        ("apt-get install ./swiftdrop_NEW", "test_upgrade_and_back"),
        ("apt-get install -y --allow", "test_upgrade_and_back"),
    ],
    "doc/RELEASING.md": [
        ("version=", "test_a_version_by_the_chapter"),
        ("git log", "test_a_version_by_the_chapter"),
        ("make check", "test_a_version_by_the_chapter"),
        ("git commit", "test_a_version_by_the_chapter"),
        ("make release", "test_a_release_by_the_chapter"),
        ("make release", "test_more_that_a_release_takes"),
        ("diff ", "test_a_release_by_the_chapter"),
        ("cd build/release", "test_files_are_signed_and_verified"),
        ("sha256sum -c", "test_files_are_signed_and_verified"),
        ("apt-get install", "test_a_release_by_the_chapter"),
        ("git push", "test_a_release_by_the_chapter"),
        ("sed -n", "test_a_release_by_the_chapter"),
    ],
    "examples/README.md": [
        ("apt-get install python3-swiftclient", "test_host_by_the_readme"),
        ("ST_AUTH=", "test_rights_and_a_reader"),
        ("kubectl kustomize", "test_overlays_by_the_readme"),
        ("swift post mail --write-acl", "test_rights_and_a_reader"),
        ("swift post mail -m", "test_rights_and_a_reader"),
        ("[mail]", "test_rights_and_a_reader"),
        ("[mail]", "test_rights_and_a_reader"),
    ],
    "image/README.md": [
        ("make image ", "test_targets_of_make"),
        ("MYHOSTNAME=", "test_environment_of_the_readme_works"),
    ],
    "tests/torture/RESULTS.md": [],
    "units/README.md": [
        ("make && make install", "test_units_step_by_step"),
        ("install -D -m 644", "test_units_step_by_step"),
        ("systemctl start swiftdrop-check", "test_units_step_by_step"),
        ("token_file = ", "test_units_step_by_step"),
        ("systemctl start swiftdrop-login", "test_units_step_by_step"),
        ("for unit in", "test_units_step_by_step"),
        ("journalctl -t swiftdrop", "test_units_step_by_step"),
        ("systemctl disable --now", "test_units_step_by_step"),
        ("install -m 640", "test_a_worker_by_the_readme"),
        ("systemctl enable --now swiftq", "test_a_worker_by_the_readme"),
        ("mount -o remount", "test_units_step_by_step"),
    ],
}
# Tests of other files that run a block.
ELSEWHERE = {"test_environment_of_the_readme_works": "test_image_examples.py",
             "test_a_worker_by_the_readme": "test_swiftq_systemd.py",
             "test_an_openrc": "test_elsewhere.py",
             "test_a_clouds_yaml": "test_elsewhere.py",
             **{decision: "test_operating.py" for decision in (
                 "test_a_complaint", "test_a_backlog",
                 "test_what_failed_once_more", "test_a_temp_url_key",
                 "test_an_application_credential", "test_the_readers_secret",
                 "test_forwards_in_the_image", "test_what_to_watch",
                 "test_a_backup_and_a_lost_container",
                 "test_upgrade_and_back")},
             "test_overlays_by_the_readme": "test_kubernetes.py",
             **{decision: "test_release.py" for decision in (
                 "test_a_version_by_the_chapter",
                 "test_a_release_by_the_chapter",
                 "test_more_that_a_release_takes",
                 "test_files_are_signed_and_verified")},
             **{decision: "test_mtas.py" for decision in (
                 "test_the_socket", "test_exim_before_the_queue",
                 "test_exim_by_the_queue", "test_opensmtpd",
                 "test_sendmail")},
             "test_users_of_the_gateway": "test_stores.py",
             "test_host_by_the_readme": "test_readme_host.py",
             "test_units_step_by_step": "test_readme_host.py"}
SWIFT = "swift.example.org"


@pytest.fixture
def story(request):
    """The blocks for this test, which has to take them all."""
    made = readme.Story(DECISIONS, request.function.__name__)
    assert made.left
    failed = request.session.testsfailed
    yield made
    if request.session.testsfailed == failed:
        assert not made.left, "not run: " + ", ".join(map(str, made.left))


def test_every_block_has_a_decision():
    assert readme.files() == sorted(DECISIONS)
    for name, rows in DECISIONS.items():
        found = readme.blocks(name)
        for block, (start, _) in zip(found, rows):
            assert block.begins(start), f"{block} stands where {start} was"
        assert len(found) == len(rows), \
            [str(block) for block in found[len(rows):]]


def test_every_decision_is_carried_out():
    here = pathlib.Path(__file__)
    for rows in DECISIONS.values():
        for _, decision in rows:
            if decision == PICTURE:
                continue
            path = here.with_name(ELSEWHERE.get(decision, here.name))
            assert f"\ndef {decision}(" in path.read_text(), decision


def test_each_row_of_where_it_was_run_has_its_test():
    _, _, text = (TREE / "README.md").read_text().partition(
        "## Where it was run\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in text.partition("\n## ")[0].splitlines()
            if line.startswith("|")][2:]
    assert len(rows) >= 7
    for what, version, date, tests in rows:
        assert what and version
        assert datetime.date.fromisoformat(date) <= datetime.date.today()
        for test in tests.split(", "):
            name, _, function = test.strip("`").partition("::")
            if name.startswith("make "):
                targets = (TREE / "tests/tests.mk").read_text()
                assert f"\n{name.split()[1]}:" in targets, what
                continue
            source = (TREE / "tests/system" / name).read_text()
            assert f"\ndef {function or 'test_'}" in source, what


def at_a_prompt(environment):
    """Returns the variables: nothing of the make that runs the tests."""
    return {name: value for name, value in os.environ.items()
            if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
            and not name.startswith("SWIFTDROP_")} | environment


def shell(text, folder=TREE, **environment):
    """Runs a block as it stands; returns its output."""
    done = subprocess.run(
        ["bash", "-e", "-c", text], cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=500, env=at_a_prompt(environment))
    assert done.returncode == 0, f"{text}\n{done.stdout}"
    return done.stdout


class Terminal:
    """A block that runs until Ctrl-C."""

    def __init__(self, text, log, folder=TREE, **environment):
        self.log = log
        self._process = process.start(
            ["bash", "-e", "-c", text], log, cwd=folder,
            env=at_a_prompt(environment))

    def await_text(self, text, seconds=300):
        process.wait_until(lambda: text in self.log.read_text(),
                           self._process, text, self.log, seconds)

    def interrupt(self):
        """Presses Ctrl-C."""
        os.killpg(self._process.pid, signal.SIGINT)
        self._process.wait(60)

    def close(self):
        """Ends it, also when it was not interrupted; leaves nothing."""
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.interrupt()
        process.stop(self._process)


UP = "Ctrl-C ends the demo"


def demo(text, log, folder, **environment):
    """Runs a demo that stays up, until it does."""
    terminal = Terminal(text, log, folder, **environment)
    try:
        terminal.await_text(UP)
        terminal.interrupt()
        assert "\nending\n" in log.read_text()
    finally:
        terminal.close()


# ---- README.md: two commands ------------------------------------------------

@pytest.mark.slow
def test_two_commands(story, tmp_path):
    """From a clone to the demo; the tests do not run themselves."""
    origin = tmp_path / "origin" / "swiftdrop"
    shutil.copytree(TREE, origin, ignore=shutil.ignore_patterns(
        ".git", "build", "swiftdrop", "swiftdrop-entry", "__pycache__"))
    shell("git init -q && git add -A && git -c user.name=x -c user.email=x "
          "commit -qm x", origin)
    install, clone, make_demo, check = story.take(
        "README.md", "apt-get install -y make git").text.splitlines()
    shell(f"apt-get --simulate {install.removeprefix('apt-get ')}")
    assert "<this repository>" in clone
    clone = clone.replace("<this repository>", str(origin))
    # Compiled without optimising: the same commands, in a quarter of the time.
    quick = {"MAKEFLAGS": "CFLAGS=-O0"}
    demo(f"{clone}\nexec {make_demo}", tmp_path / "demo.log", tmp_path,
         **quick)
    tree = tmp_path / "swiftdrop"
    assert (tree / "swiftdrop").exists()
    shell(check.replace("make ", "make --dry-run "), tree)
    for command in story.take("README.md", "make demo ONCE=1").commands():
        log = tmp_path / f"{command}.log"
        if "ONCE=1" in command:
            log.write_text(shell(command, tree, **quick))
        else:
            demo(command, log, tree, **quick)
        assert "identical" in log.read_text()
        assert ("Keystone" in log.read_text()) == ("AUTH=3" in command)


# ---- README.md: as a container ----------------------------------------------

@pytest.mark.slow
def test_first_look_at_the_image(story, podman, tmp_path):
    """In three terminals, on a network where port 25 is free."""
    name = f"swiftdrop-test-{os.getpid()}"
    environment = {
        "CONTAINERS_CONF": podman.environment["CONTAINERS_CONF"],
        "BASE": image.BASE, "IMAGE": image.IMAGE, "NAME": name}
    first, second, third = (
        story.take("README.md", start).text
        for start in ("make image", "AUTHURL=", "examples/send-mail.sh"))
    with image.network():
        demo = Terminal(first, tmp_path / "demo.log", **environment)
        try:
            demo.await_text(UP)
            container = Terminal(second, tmp_path / "container.log",
                                 **environment)
            try:
                container.await_text("port 25 is open")
                sent = shell(third)
                container.interrupt()
            finally:
                container.close()
            stored, = re.findall("S: 250 2.0.0 Ok: stored as (.*)\n", sent)
            authurl, = re.findall("AUTHURL=([^ ]+)", second)
            names = [entry["name"] for entry in swiftclient.Connection(
                authurl, "test:tester", "testing",
                auth_version="1").get_container("production")[1]]
            assert f"cur/{stored}" in names
        finally:
            demo.close()
            podman.run("rm", "--force", "--time=0", "--ignore", name)
            podman.run("volume", "rm", "--force", f"{name}-spool")


# ---- examples/README.md: rights ---------------------------------------------

def test_rights_and_a_reader(story, swift, tmp_path, swiftdrop_binary):
    """The filter by ACL and by a ready query, readers by ACL.

    What they may not do is in test_swiftq_rights.py.
    """
    def take(start):
        return story.take("examples/README.md", start).text

    def write(name, text):
        path = tmp_path / name
        path.write_text(text.replace(f"https://{SWIFT}", swift.url))
        path.chmod(0o600)
        return path

    def store(account):
        dialogue = ("EHLO x\nMAIL FROM:<a@example.net>\n"
                    "RCPT TO:<orders@example.org>\nDATA\nSubject: x\n\n.\n"
                    "QUIT\n").replace("\n", "\r\n")
        done = subprocess.run(
            [swiftdrop_binary, "-c", write("swiftdrop.ini", account)],
            input=dialogue, text=True, capture_output=True, timeout=60,
            env=at_a_prompt({}))
        assert " Ok: stored as " in done.stdout, done.stdout + done.stderr

    owner = {"ST_AUTH": swift.authurl, "ST_USER": swift.user,
             "ST_KEY": swift.key}
    shell(take("swift post mail --write-acl"), **owner)
    url = shell(take("swift post mail -m"), **owner)
    write("query", url.split("?")[1])
    store(take("[mail]"))
    reader = take("[mail]").replace("/etc/swiftq.key", "key")
    assert "user = test:reader\n" in reader
    # The same form, for the filter's user.
    write("key", "limited\n")
    store(reader.replace("test:reader", "test:limited")
          + "recipients = orders@example.org\n")

    write("key", "reader\n")
    path = write("swiftq.ini", reader)
    assert "cur 2 " in shell(f"/usr/bin/python3 -m swiftq -c {path} list")
    write("import-mail", "#!/bin/sh\ncat > /dev/null\n").chmod(0o700)
    command = take("ST_AUTH=")
    for name, value in ("AUTH", swift.authurl), ("USER", "test:reader"), \
            ("KEY", "reader"):
        assert f"ST_{name}=... " in command
        command = command.replace(f"ST_{name}=...", f"ST_{name}={value}")
    shell(command, PATH=f"{TREE}/examples:{tmp_path}:{os.environ['PATH']}")
    listed = shell(f"/usr/bin/python3 -m swiftq -c {path} list done")
    assert "done 2 " in listed


# ---- CONTRIBUTING.md and image/README.md: make ------------------------------

def test_targets_of_make(story):
    """Each is there. They would take hours, and run this test.

    The image is built by the same command for all tests.
    """
    for command in (
            *story.take("CONTRIBUTING.md", "make  ").commands(),
            *story.take("image/README.md", "make image ").commands()):
        command = command.split(" #")[0].replace("[", "").replace("]", "")
        assert command.startswith("make")
        shell(command.replace("make", "make --dry-run", 1))


def test_one_test_of_each_kind(story):
    unit, system = story.take("CONTRIBUTING.md",
                              "make build/unit_smtp").text.splitlines()
    assert "[  PASSED  ] " in shell(unit)
    assert "collected" in shell(f"{system} --collect-only")
