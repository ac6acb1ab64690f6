# SPDX-License-Identifier: GPL-3.0-or-later
"""A booted systemd in a container made of this machine's own files.

The root is an overlay whose changes are in memory; the mounts are in a mount
namespace of the container's parent, so that nothing of it is left when the
container ends, however it ends.  The network is a loopback of its own; this
process enters it with Machine.network().  Needs root.
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import time

from . import process

CLONE_NEWNET = 0x40000000
CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)

# Controllers whose limits are tested.  Where they are cgroup v1 hierarchies
# the container gets a group of its own in each, which systemd-nspawn mounts
# read-only; _own_cgroups() opens them.
CONTROLLERS = ("memory", "pids")
CGROUP_V1 = "/sys/fs/cgroup/{}"

# What only a container has: masks over parts of /proc, files of the host's,
# cgroup v1 hierarchies that systemd in it does not use.  systemd goes through
# the list of mounts for each mount namespace that it makes, so a session
# would cost more here than on a host, which has some thirty mounts.
MASKS = """
for path in /proc/acpi /proc/bus /proc/fs /proc/irq {unused} \\
    /run/host /run/host /run/host/incoming /run/host/os-release; do
	umount --recursive "$path" 2>/dev/null || :
done
"""

# Run as root in a new mount namespace: $1 folder, $2 name.  --keep-unit
# and --register=no: the machine around may have no systemd at all.
# The host's policy-rc.d, machine-id, Postfix configuration and enabled units
# would be the container's otherwise.  Tests start a unit more often than five
# times in 10 s, which newer systemd counts across its reloads.
BOOT = """
set -e
for group in {groups}; do
	mkdir "$group"
	echo $$ > "$group/cgroup.procs"
done
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" \\
    overlay "$1/root"
cd "$1/root"
rm -rf usr/sbin/policy-rc.d etc/systemd/system etc/postfix/main.cf \\
    etc/swiftdrop.ini etc/hosts var/log/journal
: > etc/machine-id
mkdir -p etc/systemd/system etc/systemd/system.conf.d
printf '[Manager]\\nDefaultStartLimitIntervalSec=0\\n' \\
    > etc/systemd/system.conf.d/tests.conf
printf '127.0.0.1 localhost %s\\n' "$2" > etc/hosts
echo "$2" > etc/hostname
ln -s /dev/null etc/systemd/system/systemd-firstboot.service
cd /
exec systemd-nspawn -q -D "$1/root" -M "$2" --register=no --keep-unit \\
    --private-network --resolv-conf=off --timezone=off --console=pipe \\
    --boot systemd.unit=basic.target
"""


class Machine:
    """A container with systemd as PID 1.

    folder      where it is mounted and where its console is logged; made
                when missing
    name        its host name
    """

    def __init__(self, folder, name="swiftdrop-test"):
        self.folder = os.path.abspath(folder)
        self.name = name
        self.console = f"{self.folder}/console.log"
        self.leader = None
        self._process = None
        self._groups = [
            os.path.join(CGROUP_V1.format(c), f"{name}-{os.getpid()}")
            for c in CONTROLLERS
            if os.path.exists(CGROUP_V1.format(c) + "/cgroup.procs")]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Boots; returns when basic.target is reached."""
        os.makedirs(f"{self.folder}/mount", exist_ok=True)
        script = BOOT.format(groups=shlex.join(self._groups))
        self._process = process.start(
            # Killed when we are gone, systemd-nspawn would leave the container
            # running; at SIGTERM it powers it off.
            ["setpriv", "--pdeathsig", "TERM",
             "unshare", "--mount", "--propagation", "private", "sh", "-c",
             script, "sh", f"{self.folder}/mount", self.name], self.console)
        try:
            process.wait_until(self._booted, self._process, "systemd-nspawn",
                               self.console)
            self._own_cgroups()
            self._unmask()
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Powers off and leaves nothing behind."""
        if self._process is None:
            return
        process.stop(self._process, 60)
        self._process = None
        self.leader = None
        for group in self._groups:
            _remove_cgroup(group)

    def run(self, *argv, check=True, **options):
        """Runs a command inside; as subprocess.run, with text and output."""
        options = {"text": True, "stdout": subprocess.PIPE,
                   "stderr": subprocess.PIPE, "timeout": 120} | options
        done = subprocess.run(self.argv(*argv), **options)
        if check and done.returncode != 0:
            raise process.LabError(
                f"{shlex.join(argv)}: status {done.returncode}\n"
                f"{done.stdout}{done.stderr}")
        return done

    def argv(self, *argv):
        """Returns the command line that runs argv inside."""
        # Without --root the command would see the host's root directory
        # through a path of the container.
        return ["nsenter", "--target", str(self.leader), "--mount", "--uts",
                "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd=/",
                "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", *argv]

    def path(self, path):
        """Returns where a file of the container is found from outside."""
        return f"/proc/{self.leader}/root{path}"

    def write(self, path, text, mode=0o644, group=None):
        """Makes a file, and the folders above it; group is one of here."""
        outside = self.path(path)
        os.makedirs(os.path.dirname(outside), exist_ok=True)
        with open(outside, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
        if group is not None:
            self.run("chgrp", group, path)

    def show(self, unit, *names):
        """Returns properties of a unit; one name: its value alone."""
        text = self.run("systemctl", "show", unit,
                        *(f"--property={name}" for name in names)).stdout
        values = dict(line.split("=", 1) for line in text.splitlines())
        return values[names[0]] if len(names) == 1 else values

    @contextlib.contextmanager
    def drop_in(self, unit, text):
        """Has more in a unit, by a drop-in that is gone afterwards."""
        path = f"/run/systemd/system/{unit}.d/test.conf"
        self.write(path, text)
        self.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            shutil.rmtree(os.path.dirname(self.path(path)))
            self.run("systemctl", "daemon-reload")

    def network(self):
        """This thread, and what it starts, is on the container's network."""
        return self._namespace("net", CLONE_NEWNET)

    def processes(self):
        """What this thread starts is among the container's processes."""
        return self._namespace("pid", CLONE_NEWPID)

    @contextlib.contextmanager
    def _namespace(self, name, kind):
        ours = os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY)
        theirs = os.open(f"/proc/{self.leader}/ns/{name}", os.O_RDONLY)
        try:
            _setns(theirs, kind)
            yield
        finally:
            _setns(ours, kind)
            os.close(ours)
            os.close(theirs)

    def _booted(self):
        # unshare, sh and systemd-nspawn are one process by exec; its child
        # that has become systemd is PID 1 inside.
        pid = self._process.pid
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/task/{pid}/children") as file:
                children = file.read().split()
            for child in children:
                with open(f"/proc/{child}/comm") as file:
                    if file.read() == "systemd\n":
                        self.leader = int(child)
        return self.leader is not None and self.run(
            "systemctl", "is-active", "basic.target",
            check=False).stdout == "active\n"

    def _own_cgroups(self):
        """Lets systemd use the groups that the container has to itself."""
        if not self._groups:
            return
        for controller in CONTROLLERS:
            path = CGROUP_V1.format(controller)
            if os.path.exists(path + "/cgroup.procs"):
                self.run("mount", "-o", "remount,bind,rw", path)
        self.run("systemctl", "daemon-reexec")

    def _unmask(self):
        """Leaves about the mounts that a host has."""
        unused = (CGROUP_V1.format(name) for name in
                  ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer"))
        self.run("sh", "-c", MASKS.format(unused=shlex.join(unused)))


def _setns(fd, kind):
    if _libc.setns(fd, kind) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _remove_cgroup(group):
    """Removes a v1 group and those below; a dying process may hold it."""
    for _ in range(100):
        for path, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(path)
        if not os.path.exists(group):
            return
        time.sleep(0.05)
    raise process.LabError(f"{group} is still in use")
