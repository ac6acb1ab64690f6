# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker of our own: Debian's dockerd, whose folders and socket lie in one
folder. Only for root."""

import contextlib
import os
import pathlib
import subprocess

from . import process

CLIENT = "/usr/bin/docker"


class Docker:
    """Images are built on the host's network, containers run on ours.

    No rule of a firewall is made, and no bridge on the host's network.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.log = self.folder / "dockerd.log"
        self.socket = f"unix://{self.folder}/socket"
        self.environment = {**os.environ, "DOCKER_HOST": self.socket,
                            "DOCKER_BUILDKIT": "0"}

    @contextlib.contextmanager
    def running(self, *options):
        daemon = process.start(
            ["dockerd", "--data-root", self.folder / "data",
             "--exec-root", self.folder / "exec",
             "--pidfile", self.folder / "pid", "--host", self.socket,
             "--iptables=false", "--storage-driver=overlay2", *options],
            self.log)
        try:
            process.wait_until(
                lambda: self.run("version", check=False).returncode == 0,
                daemon, "dockerd", self.log)
            yield self
        finally:
            process.stop(daemon, 60)
            # It leaves the network of --network=host mounted there.
            subprocess.run(["umount", "-q", self.folder / "exec" / "netns"
                            / "default"])

    def run(self, *arguments, check=True, client=CLIENT, **options):
        """Runs docker; returns its CompletedProcess, output as text."""
        done = subprocess.run([client, *map(str, arguments)], text=True,
                              capture_output=True, env=self.environment,
                              **options)
        if check and done.returncode != 0:
            raise process.LabError(
                f"docker {arguments[0]}: {done.stdout[-4000:]}"
                f"{done.stderr.strip()}")
        return done
