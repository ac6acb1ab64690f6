# SPDX-License-Identifier: GPL-3.0-or-later
"""The image for another machine: the same Containerfile, built and run by
podman, with qemu where one of that machine would be."""

import contextlib
import pathlib
import smtplib
import subprocess

import pytest

import lab
from lab import image

pytestmark = pytest.mark.long

MACHINE = "arm64"
AARCH64 = 183       # ELF's e_machine
BINFMT = pathlib.Path("/proc/sys/fs/binfmt_misc")
# As systemd-binfmt would tell the kernel of it.
SETTING = pathlib.Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
MAIL = b"Subject: arm64\r\n\r\n..\r\n" + b"x" * 998 + b"\r\n"


@contextlib.contextmanager
def emulated():
    """The kernel has qemu run that machine's programs; not afterwards, unless
    it did before."""
    if (BINFMT / SETTING.stem).exists():
        yield
        return
    mounted = not (BINFMT / "register").exists()
    if mounted:
        subprocess.run(["mount", "-t", "binfmt_misc", "none", BINFMT],
                       check=True)
    try:
        (BINFMT / "register").write_text(SETTING.read_text())
        yield
    finally:
        (BINFMT / SETTING.stem).write_text("-1")
        if mounted:
            subprocess.run(["umount", BINFMT], check=True)


@pytest.fixture(scope="module")
def podman(lab_folder):
    with emulated():
        podman = image.Podman(f"{lab_folder}/podman-{MACHINE}")
        podman.image, podman.filter = podman.build(
            lab_folder, f"{lab_folder}/{MACHINE}.log", MACHINE)
        with image.network():
            yield podman


@pytest.fixture(scope="module")
def swift(podman, lab_folder):
    server = lab.Swift(f"{lab_folder}/{MACHINE}-swift")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize("target", ("image", "filter"))
def test_it_is_for_that_machine(podman, target, tmp_path):
    name = getattr(podman, target)
    shown = podman.run("image", "inspect", "-f", "{{.Architecture}}", name)
    assert shown.stdout.strip() == MACHINE
    container = podman.run("create", name).stdout.strip()
    podman.run("cp", f"{container}:/usr/sbin/swiftdrop", tmp_path)
    podman.run("rm", container)
    with open(tmp_path / "swiftdrop", "rb") as file:
        assert int.from_bytes(file.read(20)[18:], "little") == AARCH64


def test_filter_stores_a_mail(podman, swift, ini):
    box = swift.container()
    path = ini({"SMTP": {"hostname": "mx1", "log": "none"}, "a": {
        "recipients": "box@example.org", **box.options()}})
    pathlib.Path(path).chmod(0o644)
    done = podman.run(
        "run", "--rm", "-i", "--network=host", "--read-only",
        f"--volume={path}:/etc/swiftdrop.ini:ro", podman.filter,
        input="EHLO client\r\nMAIL FROM:<a@example.org>\r\n"
        "RCPT TO:<box@example.org>\r\nDATA\r\n" + MAIL.decode()
        + ".\r\nQUIT\r\n")
    name, _, content = box.only()
    assert "250 2.0.0 Ok: stored as " + name.removeprefix("cur/") in \
        done.stdout
    assert content == MAIL.replace(b"\r\n..", b"\r\n.")


def test_image_stores_a_mail(podman, swift, tmp_path):
    box = swift.container()
    with image.Container(podman, tmp_path, image.variables(
            {"A": {"recipients": "box@example.org", **box.options()}},
            ["box@example.org"]), image=podman.image):
        with smtplib.SMTP("127.0.0.1", 25, timeout=100) as client:
            client.sendmail("a@example.net", ["box@example.org"], MAIL)
    _, _, content = box.only()
    assert content.endswith(MAIL)
