# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq as systemd runs it: workers, recovery and purge, from the package.

The machine is booted as in test_systemd.py. Needs root.
"""

import os
import re
import shutil
import subprocess

import pytest

import lab
import test_readme
from conftest import TREE
from lab import nspawn
from swiftq_box import Box, wait_for

story = test_readme.story

UNITS = ("swiftq-run@.service", "swiftq-recover@.service",
         "swiftq-recover@.timer", "swiftq-purge@.service",
         "swiftq-purge@.timer")
IMPORT = "/usr/local/bin/import-mail"
EVERYTHING = ("swiftq-*@*.timer", "swiftq-*@*.service")


@pytest.fixture(scope="module")
def machine(lab_folder, package):
    with nspawn.Machine(f"{lab_folder}/readers") as booted:
        # The host may have it, and so the container.
        booted.run("dpkg", "--purge", "swiftdrop")
        shutil.copy(package, booted.path("/root/swiftdrop.deb"))
        booted.run("dpkg", "-i", "/root/swiftdrop.deb",
                   stdin=subprocess.DEVNULL)
        with booted.network():
            yield booted


@pytest.fixture(scope="module")
def local_swift(machine, lab_folder):
    server = lab.Swift(f"{lab_folder}/readers-swift")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def readers(machine, local_swift, ini, tmp_path):
    """A container with mail in it, and a command for each that takes it."""
    box = Box(local_swift.container(), ini, tmp_path)
    write_ini(machine, {"mail": box.container.options()})
    command(machine, 'cat > /dev/null')
    yield box
    machine.run("systemctl", "stop", *EVERYTHING)
    machine.run("systemctl", "reset-failed")
    machine.run("sh", "-c", "rm -f /etc/default/swiftq* /etc/swiftq.ini")
    box.close()
    local_swift.restore()


def write_ini(machine, sections):
    machine.write("/etc/swiftq.ini", lab.ini_text(sections), 0o640)
    machine.run("chgrp", "swiftq", "/etc/swiftq.ini")


def command(machine, text):
    machine.write(IMPORT, f"#!/bin/sh\n{text}\n", 0o755)
    machine.write("/etc/default/swiftq",
                  f"COMMAND={IMPORT}\nRUN_OPTIONS=--poll 0.2\n")


def start(machine, *units):
    machine.run("systemctl", "start", *units)


def by_hand(machine, *args, check=True):
    """What an administrator types: as the user who has the locks."""
    return machine.run("runuser", "-u", "swiftq", "--", "swiftq", "-c",
                       "/etc/swiftq.ini", *args, check=check)


def test_systemd_analyze_verify_is_silent(machine):
    done = machine.run("systemd-analyze", "verify", *(
        f"/lib/systemd/system/{unit}".replace("@.", "@mail.")
        for unit in UNITS))
    assert done.stdout + done.stderr == ""


def test_units_name_the_program_where_it_is_installed(tmp_path):
    subprocess.run(["make", "-s", "-C", str(TREE), "install",
                    f"DESTDIR={tmp_path}", "prefix=/usr/local"], check=True)
    for name in UNITS:
        path, = tmp_path.rglob(name)
        commands = re.findall("(?m)^ExecStart=(\\S+)", path.read_text())
        assert commands == ["/usr/local/bin/swiftq"] * name.endswith("service")


def test_installing_enables_nothing_and_makes_the_user(machine):
    assert machine.run("id", "-un", "swiftq").stdout == "swiftq\n"
    assert machine.run("systemctl", "list-units", "--all", "--no-legend",
                       *EVERYTHING).stdout == ""


def test_a_worker_by_the_readme(machine, readers, story):
    """From the reader's file to a mail that is done."""
    machine.run("rm", "/etc/swiftq.ini", "/etc/default/swiftq")
    name = readers.put(b"to be read")
    machine.write("/root/reader.ini",
                  lab.ini_text({"mail": readers.container.options()}))
    machine.write(IMPORT, "#!/bin/sh\ncat > /var/tmp/read\nid -un\n", 0o755)
    install, enable = (story.take("units/README.md", start_).text
                       for start_ in ("install -m 640", "systemctl enable"))
    machine.run("sh", "-e", "-c", f"cd /root\n{install}")
    machine.run("sh", "-e", "-c", enable)
    wait_for(lambda: readers.where() == {"done": [name]}, "it is done")
    for unit in ("swiftq-run@mail.service", "swiftq-recover@mail.timer",
                 "swiftq-purge@mail.timer"):
        assert machine.run("systemctl", "is-enabled", unit).stdout == \
            "enabled\n"
        assert machine.show(unit, "ActiveState") == "active"
    shown = machine.run("journalctl", "-u", "swiftq-run@mail", "-o",
                        "cat").stdout
    assert f"done {name}" in shown and "\nswiftq\n" in shown
    machine.run("systemctl", "disable", "--now", "swiftq-run@mail.service",
                "swiftq-recover@mail.timer", "swiftq-purge@mail.timer")


def test_a_second_worker_of_an_account(machine, readers):
    """Both are at work at the same time."""
    command(machine, 'echo x >> /var/tmp/at-work; '
            'until [ -e /var/tmp/go ]; do sleep 0.1; done')
    machine.write("/etc/default/swiftq-mail-2", "ACCOUNT=mail\n")
    with machine.drop_in("swiftq-run@.service",
                         "[Service]\nPrivateTmp=no\n"):
        names = sorted(readers.put(age=i) for i in range(2))
        start(machine, "swiftq-run@mail", "swiftq-run@mail-2")
        wait_for(lambda: readers.names("processing") == names, "both")
        machine.run("touch", "/var/tmp/go")
        wait_for(lambda: readers.names("done") == names, "both are done")
        machine.run("rm", "/var/tmp/go", "/var/tmp/at-work")


def test_stopping_lets_the_message_be_finished(machine, readers):
    """SIGTERM is for the worker alone: here the command would die of it."""
    command(machine, "sleep 2")
    name = readers.put()
    readers.put(age=-5)
    start(machine, "swiftq-run@mail")
    wait_for(lambda: readers.names("processing") == [name], "it is taken")
    machine.run("systemctl", "stop", "swiftq-run@mail")
    assert readers.names("done") == [name]
    assert len(readers.names("cur")) == 1
    assert machine.show("swiftq-run@mail", "Result") == "success"


def test_what_is_killed_is_recovered(machine, readers):
    command(machine, "sleep 1000")
    name = readers.put()
    start(machine, "swiftq-run@mail")
    wait_for(lambda: readers.names("processing") == [name], "it is taken")
    # While it runs neither the timer nor a person takes it away.
    machine.write("/etc/default/swiftq-mail", "RECOVER_AFTER=0\n")
    start(machine, "swiftq-recover@mail")
    assert readers.where() == {"processing": [name]}
    done = by_hand(machine, "finish", name, "failed", check=False)
    assert done.returncode == os.EX_TEMPFAIL
    machine.run("systemctl", "kill", "--signal=KILL", "swiftq-run@mail")
    machine.run("systemctl", "stop", "swiftq-run@mail")
    start(machine, "swiftq-recover@mail")
    assert readers.where() == {"cur": [name]}


def test_a_worker_comes_back(machine, readers):
    """From a container that is missing, once it is there."""
    container = readers.container.name
    readers.connection.delete_container(container)
    with machine.drop_in("swiftq-run@.service", "[Service]\nRestartSec=1\n"):
        start(machine, "swiftq-run@mail")
        wait_for(lambda: int(machine.show("swiftq-run@mail", "NRestarts"))
                 >= 2, "it is started again")
        readers.connection.put_container(container)
        name = readers.put()
        wait_for(lambda: readers.names("done") == [name], "it is done")


def test_a_command_that_is_missing_is_a_failure(machine, readers):
    """Which restarts would only hide."""
    machine.write("/etc/default/swiftq", "COMMAND=/no/such/command\n")
    start(machine, "swiftq-run@mail")
    wait_for(lambda: machine.show("swiftq-run@mail", "ActiveState")
             == "failed", "it fails")
    assert machine.show("swiftq-run@mail", "NRestarts",
                        "ExecMainStatus") == {
        "NRestarts": "0", "ExecMainStatus": "64"}


def test_purge(machine, readers):
    name = readers.put(folder="done/")
    failed = readers.put(folder="failed/")
    start(machine, "swiftq-purge@mail")
    assert readers.names("done") == [name]
    machine.write("/etc/default/swiftq-mail", "KEEP_DONE=0\n")
    start(machine, "swiftq-purge@mail")
    assert readers.where() == {"failed": [failed]}


@pytest.mark.parametrize("what", ["recover", "purge"])
def test_timers(machine, readers, what):
    unit = f"swiftq-{what}@mail"
    with machine.drop_in(f"swiftq-{what}@.timer",
                         "[Timer]\nOnActiveSec=0\nRandomizedDelaySec=0\n"):
        start(machine, f"{unit}.timer")
        wait_for(lambda: machine.show(
            f"{unit}.service", "ExecMainExitTimestampMonotonic") != "0",
            "it has run")
    assert machine.show(f"{unit}.service", "Result") == "success"


def test_a_broken_account_is_in_the_list_of_what_failed(machine, readers):
    write_ini(machine, {"mail": {**readers.container.options(),
                                 "key": "wrong"}})
    done = machine.run("systemctl", "start", "swiftq-recover@mail",
                       check=False)
    assert done.returncode != 0
    assert "swiftq-recover@mail" in machine.run(
        "systemctl", "--failed", "--no-legend").stdout


def test_without_a_configuration_nothing_runs(machine, readers):
    machine.run("rm", "/etc/swiftq.ini")
    start(machine, "swiftq-run@mail", "swiftq-recover@mail")
    for unit in ("swiftq-run@mail", "swiftq-recover@mail"):
        assert machine.show(unit, "ActiveState", "ConditionResult") == {
            "ActiveState": "inactive", "ConditionResult": "no"}


def test_removing_the_package_stops_workers(machine, readers):
    """The last test: a purge leaves nothing."""
    command(machine, "sleep 2")
    name = readers.put()
    start(machine, "swiftq-run@mail", "swiftq-recover@mail.timer")
    wait_for(lambda: readers.names("processing") == [name], "it is taken")
    machine.run("dpkg", "--purge", "swiftdrop")
    assert readers.names("done") == [name]
    assert machine.run("systemctl", "list-units", "--all", "--no-legend",
                       *EVERYTHING).stdout == ""
    assert machine.run("getent", "passwd", "swiftq",
                       check=False).stdout == ""
    assert not os.path.exists(machine.path("/etc/swiftq.ini"))
