# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes that end with us, and the ports they listen on."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# Below the range from which the kernel takes the ports of outgoing
# connections (32768 up), so that none of them can take a server's port while
# that server is down for a test. A worker of pytest-xdist draws from a part of
# its own, gw0's being the first.
WORKERS = 16
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % WORKERS
PORTS = range(10240, 32768)[_worker::WORKERS]
_given = set()


class LabError(Exception):
    """A server did not come up or died; the text says which and why."""


def free_port():
    """Returns a port of 127.0.0.1 that nobody listens on, a new one each time.

    A server draws several before it listens on the first.
    """
    for _ in range(1000):
        port = random.choice(PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.add(port)
            return port
    raise LabError("no free port on 127.0.0.1")


def listen(port):
    """Returns a listening socket for a child to inherit."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen(512)
    return sock


def start(argv, log, session=True, **options):
    """Starts argv with its output in the file log; returns the Popen.

    The kernel kills the child when we are gone, however we went. A session
    of its own keeps the terminal's Ctrl-C for us, who stop the servers in
    order; session=False: the child sees to that.
    """
    parent = os.getpid()

    def before_exec():
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    with open(log, "ab") as output:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=session, preexec_fn=before_exec, **options)


def guard(process):
    """Returns a helper that ends the process's session when we are gone.

    For a server that changes its user: then the kernel forgets the signal
    that start() asks for. The helper is gone when its stdin is closed.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", 'read -r line || kill -- "-$1"', "guard",
         str(process.pid)], stdin=subprocess.PIPE, start_new_session=True)


def stop(process, seconds=10):
    """Ends the process and what is left of its session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait_until(ready, process, name, log, seconds=60):
    """Waits until ready() is true; fails with the log's end if it is not."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            why = f"ended with status {process.returncode}"
        elif time.monotonic() > deadline:
            why = f"was not ready after {seconds} s"
        else:
            time.sleep(0.02)
            continue
        raise LabError(f"{name} {why}; {log} ends:\n{tail(log)}")


def running():
    """Yields the id, the program's path and the folder of each process."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            yield (int(pid), os.readlink(f"/proc/{pid}/exe").removesuffix(
                " (deleted)"), os.readlink(f"/proc/{pid}/cwd"))


def tail(path, lines=30):
    """Returns the last lines of a file, or that there is none."""
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError as error:
        return f"({error})\n"


def connects(port):
    """Tells whether somebody accepts connections on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
