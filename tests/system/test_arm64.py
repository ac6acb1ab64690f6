# SPDX-License-Identifier: GPL-3.0-or-later
"""Another machine: cross-built, with Debian's libraries for it, under qemu."""

import re
import subprocess

import pytest

from conftest import TREE

ARM64 = TREE / "build" / "arm64"
QEMU = ("qemu-aarch64-static", "-L", "/var/cache/swiftdrop-tests/arm64")
AARCH64 = 183       # ELF's e_machine


@pytest.fixture(scope="module", autouse=True)
def programs(lab_folder):
    """What is built is kept for the next time, the root as well."""
    with open(f"{lab_folder}/arm64.log", "w+") as log:
        done = subprocess.run(["make", "arm64-programs"], cwd=TREE,
                              stdout=log, stderr=log)
        log.seek(0)
        assert done.returncode == 0, log.read()[-4000:]


def test_the_image_is_made_without_a_machines_name():
    """Its build asks Debian for it, so that it is the same for all."""
    for path in sorted((TREE / "image").iterdir()):
        found = re.findall("x86.?64|amd64|aarch64|arm64", path.read_text())
        assert not found, (path, found)


@pytest.mark.parametrize("name", ("swiftdrop", "swiftdrop-entry"))
def test_program_is_for_that_machine(name):
    with open(ARM64 / name, "rb") as file:
        head = file.read(20)
    assert head[:4] == b"\x7fELF"
    assert int.from_bytes(head[18:], "little") == AARCH64


# unit_log alone takes as long as all the others.
@pytest.mark.parametrize("name", [
    pytest.param(path.stem, marks=[pytest.mark.long] * ("log" in path.stem))
    for path in sorted((TREE / "tests").glob("unit_*.c"))])
def test_unit_tests(name, tmp_path):
    done = subprocess.run([*QEMU, ARM64 / name], cwd=TREE, text=True,
                          capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[  PASSED  ]" in done.stdout + done.stderr


def test_a_session_against_a_store(container, ini):
    mail = b"Subject: arm64\r\n\r\n..\r\n" + b"x" * 998 + b"\r\n"
    path = ini({"SMTP": {"hostname": "mx1", "log": "none"}, "a": {
        "recipients": "box@example.org", **container.options()}})
    done = subprocess.run(
        [*QEMU, ARM64 / "swiftdrop", "-c", path], timeout=120,
        input=b"EHLO client\r\nMAIL FROM:<a@example.org>\r\n"
        b"RCPT TO:<box@example.org>\r\nDATA\r\n" + mail + b".\r\nQUIT\r\n",
        stdout=subprocess.PIPE)
    assert done.returncode == 0
    replies = done.stdout.decode().splitlines()
    name, _, content = container.only()
    assert replies[-2] == "250 2.0.0 Ok: stored as " + name.removeprefix(
        "cur/")
    assert replies[-1].startswith("221 ")
    assert content == mail.replace(b"\r\n..", b"\r\n.")
