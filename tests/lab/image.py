# SPDX-License-Identifier: GPL-3.0-or-later
"""The container image, built and run by podman. Only for root."""

import contextlib
import ctypes
import json
import os
import pathlib
import subprocess
import time
import uuid

from . import debian, process

TREE = pathlib.Path(__file__).resolve().parents[2]
BASE = "localhost/swiftdrop-test-base"
IMAGE = "localhost/swiftdrop-test"
BASE_DAYS = 7
# What its labels say of it.
SOURCE = "https://git.example.org/swiftdrop"
REVISION = "0123456789abcdef0123456789abcdef01234567"
CLONE_NEWNET = 0x40000000
CAPABILITIES = ("SETUID", "SETGID", "NET_BIND_SERVICE")
# What podman makes writable below a read-only root. Its own option against
# that, --read-only-tmpfs=false, is no way: podman 5 closes /dev as well, and
# Postfix' log with it.
READ_ONLY = ("--tmpfs=/run:ro", "--tmpfs=/tmp:ro", "--tmpfs=/var/tmp:ro")

# A folder with a swiftdrop-entry built for gcov, which counts there: it takes
# the place of the image's own. Built on this Debian, it finds its libraries.
COVERAGE = os.environ.get("SWIFTDROP_COVERAGE")

# Hosts with both versions of cgroups, or none of systemd, need this.
CONF = """[containers]
default_ulimits=["nofile=20000:20000","nproc=32768:32768"]
[engine]
runtime="runc"
cgroup_manager="cgroupfs"
events_logger="file"
"""


class Podman:
    """podman(1) with a configuration of its own, kept in folder."""

    def __init__(self, folder):
        path = pathlib.Path(folder) / "containers.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONF)
        # The warning of podman 5 would stand in each container's log.
        self.environment = {**os.environ, "CONTAINERS_CONF": str(path),
                            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}

    def run(self, *arguments, check=True, **options):
        """Runs podman; returns its CompletedProcess, output as text."""
        done = subprocess.run(["podman", *map(str, arguments)], text=True,
                              capture_output=True, env=self.environment,
                              **options)
        if check and done.returncode != 0:
            raise process.LabError(
                f"podman {arguments[0]}: {done.stderr.strip()}")
        return done

    def build(self, folder, log, machine=None):
        """Builds both targets from the tree, for another machine where qemu
        runs its programs; returns the names."""
        base, name = BASE, IMAGE
        arch, options = [], []
        if machine:
            base, name = f"{BASE}-{machine}", f"{IMAGE}-{machine}"
            arch = [f"--arch={machine}"]
            options = [f"IMAGE_OPTIONS=--platform=linux/{machine}"]
        if not self._has(base):
            tar = pathlib.Path(folder) / "base.tar"
            with open(log, "ab") as output:
                sources = subprocess.run([TREE / "tests/sources"], check=True,
                                         stdout=subprocess.PIPE, stderr=output)
                subprocess.run(
                    ["mmdebstrap", "--variant=minbase", *arch,
                     "--include=ca-certificates", debian.RELEASE, tar,
                     "-"],
                    check=True, input=sources.stdout, stdout=output,
                    stderr=output)
            self.run("import", *arch, tar, base)
            tar.unlink()
        with open(log, "ab") as output:
            done = subprocess.run(
                ["make", "image", "image-filter", f"BASE={base}",
                 f"IMAGE={name}", f"SOURCE={SOURCE}",
                 f"REVISION={REVISION}", *options], cwd=TREE,
                env=self.environment, stdout=output, stderr=output)
        if done.returncode != 0:
            raise process.LabError("the image was not built:\n"
                                   + process.tail(log))
        return name, name + "-filter"

    def _has(self, base):
        done = self.run("image", "inspect", "-f", "{{.Created.Unix}}", base,
                        check=False)
        return done.returncode == 0 and \
            time.time() - int(done.stdout) < BASE_DAYS * 86400

    def files(self, image):
        """Returns the image's files: a dict of path to TarInfo."""
        import io
        import tarfile
        name = self.run("create", image).stdout.strip()
        try:
            done = subprocess.run(["podman", "export", name], check=True,
                                  stdout=subprocess.PIPE,
                                  env=self.environment)
        finally:
            self.run("rm", name)
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            return {"/" + entry.name: entry for entry in tar}


class Container:
    """The image in a container, on the network that we are on.

    The root file system is read-only and all capabilities but those needed
    are dropped. arguments are podman's own, command replaces the image's.
    """

    def __init__(self, podman, folder, environment, *arguments,
                 image=IMAGE, capabilities=CAPABILITIES, spool=None,
                 command=(), run_folder="tmpfs"):
        self.podman = podman
        self.name = f"swiftdrop-test-{uuid.uuid4().hex[:12]}"
        self.log = pathlib.Path(folder) / f"{self.name}.log"
        self._argv = [
            "podman", "run", "--rm", "--name", self.name, "--network=host",
            "--timeout=300", "--hostname=mx1", "--read-only",
            *READ_ONLY, "--cap-drop=all",
            *(f"--cap-add={name}" for name in capabilities),
            "--security-opt=no-new-privileges",
            *(["--tmpfs=/run/swiftdrop"] if run_folder == "tmpfs" else []),
            *(["--tmpfs=/var/spool/postfix"] if spool is None else
              [f"--volume={spool}:/var/spool/postfix"]),
            *(f"--env={name}={value}"
              for name, value in environment.items()),
            *(counted() if image == IMAGE else ()),
            *arguments, image, *command]
        self._process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def launch(self):
        """Starts without waiting for anything."""
        self._process = process.start(self._argv, self.log,
                                      env=self.podman.environment)
        return self

    def start(self):
        """Starts and waits until port 25 answers."""
        self.launch()
        try:
            process.wait_until(lambda: process.connects(25), self._process,
                               "the container", self.log)
        except process.LabError:
            self.kill()
            raise
        return self

    def wait(self, seconds=30):
        """Waits for the end; returns the exit status."""
        return self._process.wait(seconds)

    def signal(self, name="TERM"):
        self.podman.run("kill", "--signal", name, self.name)

    def kill(self):
        if self._process:
            # What is killed has counted in vain.
            self.podman.run("rm", "--force",
                            f"--time={30 if COVERAGE else 0}", "--ignore",
                            self.name, check=False)
            process.stop(self._process)
            self._process = None

    def execute(self, *command):
        """Runs a command inside; returns its CompletedProcess."""
        return self.podman.run("exec", self.name, *command, check=False)

    def pid(self):
        """The number of its first process here."""
        return self.podman.run("inspect", "-f", "{{.State.Pid}}",
                               self.name).stdout.strip()

    def text(self):
        """What the container wrote until now."""
        return self.log.read_text(errors="replace")

    def await_text(self, text, seconds=30):
        """Waits until the container has written text."""
        process.wait_until(lambda: text in self.text(), self._process,
                           f"{text!r} in the log", self.log, seconds)


def counted():
    """Returns the arguments of podman that put COVERAGE into a container."""
    if not COVERAGE:
        return []
    return [f"--volume={COVERAGE}:{COVERAGE}",
            f"--volume={COVERAGE}/swiftdrop-entry:"
            "/usr/sbin/swiftdrop-entry:ro"]


@contextlib.contextmanager
def network():
    """Puts us, and what we start, on a network with nothing on it.

    Its port 25 is free, whatever the host does; 192.0.2.1 is a client that
    is not this host itself.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as before:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        try:
            for command in (["link", "set", "lo", "up"],
                            ["address", "add", "192.0.2.1/32", "dev", "lo"]):
                subprocess.run(["ip", *command], check=True)
            yield
        finally:
            if libc.setns(before.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")


def variables(accounts, recipients, forwards=None, **others):
    """Returns the environment of a container; accounts is a dict of dicts."""
    environment = {"MYHOSTNAME": "mail.example.org",
                   "RECIPIENTS": json.dumps(recipients)}
    if forwards:
        environment["FORWARDS"] = json.dumps(forwards)
    for name, options in accounts.items():
        for key, value in options.items():
            environment[f"SWIFTDROP_{name}_{key}".upper()] = value
    return {**environment, **others}
