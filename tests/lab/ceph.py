# SPDX-License-Identifier: GPL-3.0-or-later
"""Ceph with one monitor, one OSD that keeps objects in memory, and its RADOS
gateway (RGW), which speaks Swift's API."""

import os
import subprocess
import sysconfig
import urllib.error
import urllib.request
import uuid

from . import process
from .keystone import Keystone
from .swift import Store

# Ceph's defaults suit many machines: three copies, a second for each change
# of a map, log files below /var/log. Debian 13's look for classes below the
# folder that they are started in.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{port}/0]
keyring = {folder}/keyring
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms bind ipv6 = false
admin socket =
run dir = {folder}
log to file = false
log to stderr = true
mon cluster log to file = false
debug rocksdb = 0
paxos propose interval = 0.02
paxos min wait = 0.01
auth allow insecure global id reclaim = false
mon data = {folder}/mon
mon data avail crit = 1
mon allow pool size one = true
osd data = {folder}/osd
osd class dir = /usr/lib/{multiarch}/rados-classes
osd objectstore = memstore
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw thread pool size = 32
"""

GATEWAY = """\
[client.{name}]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}
"""

# Keystone's catalog has the account in the URL, as Swift's.
KEYSTONE = """\
rgw keystone url = {url}
rgw keystone api version = 3
rgw keystone admin user = swift
rgw keystone admin password = swift-password
rgw keystone admin domain = Default
rgw keystone admin project = service
rgw keystone accepted roles = member
rgw swift account in url = true
"""

CAPABILITIES = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *"},
    "client.v1": {"mon": "allow rw", "osd": "allow rwx"},
    "client.keystone": {"mon": "allow rw", "osd": "allow rwx"},
}


class Ceph:
    """A cluster; gateway() adds what speaks HTTP."""

    def __init__(self, folder):
        self.folder = folder
        self.log = f"{folder}/ceph.log"
        self._configuration = f"{folder}/ceph.conf"
        self._port = process.free_port()
        self._processes = []
        self._gateways = []
        for name in ("mon", "osd"):
            os.makedirs(f"{folder}/{name}")
        fsid = str(uuid.uuid4())
        self._write("ceph.conf", CONFIGURATION.format(
            fsid=fsid, port=self._port, folder=folder,
            multiarch=sysconfig.get_config_var("MULTIARCH")))
        self._write("keyring", "".join(
            f"[{name}]\nkey = {self.run('ceph-authtool', '--gen-print-key')}"
            + "".join(f'caps {kind} = "{caps}"\n'
                      for kind, caps in of.items())
            for name, of in CAPABILITIES.items()))
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                 f"[v2:127.0.0.1:{self._port}]", f"{folder}/monmap")

    def start(self):
        self.run("ceph-mon", "-i", "a", "--mkfs", "--monmap",
                 f"{self.folder}/monmap")
        self.daemon("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        self.run("ceph", "osd", "new", osd, "0")
        self.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self.daemon("ceph-osd", "-i", "0")

    def stop(self):
        for gateway in self._gateways:
            gateway.stop()
        for daemon in reversed(self._processes):
            process.stop(daemon)

    def gateway(self, keystone=False):
        """Starts a gateway; returns it."""
        gateway = Gateway(self, keystone)
        self._gateways.append(gateway)
        gateway.start()
        return gateway

    def run(self, *argv, environment=()):
        """Runs one of Ceph's programs; returns what it says."""
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=120, check=False,
            env={**os.environ, "CEPH_CONF": self._configuration,
                 **dict(environment)})
        if done.returncode != 0:
            raise process.LabError(
                f"{' '.join(argv)}: {done.stderr or done.stdout}\n"
                f"{self.log} ends:\n{process.tail(self.log)}")
        return done.stdout

    def daemon(self, *argv):
        """Starts one of Ceph's daemons; returns its Popen."""
        self._processes.append(process.start(
            [*argv, "-f", "-c", self._configuration], self.log))
        return self._processes[-1]

    def add_configuration(self, text):
        self._write("ceph.conf", text, "a")

    def _write(self, name, text, how="w"):
        with open(f"{self.folder}/{name}", how) as file:
            file.write(text)


class Gateway(Store):
    """A RADOS gateway with users of its own (v1), or with a Keystone before it.

    Its users, user:subuser, password:
      test:tester      testing   owner of all
      limited:limited  limited   no right but what a container's ACL grants
    """

    honours_if_none_match = False
    has_container_temp_url_keys = False
    owner_reads_what_others_write = False
    token_life_s = 3600     # it does not say: an hour is taken for it
    limited_user, limited_grant = "limited:limited", "limited"

    def __init__(self, ceph, keystone):
        self._ceph = ceph
        version = int(ceph.run("radosgw", "--version").split()[2].split(".")[0])
        if version < 18:
            self.temp_url_digests = ("sha1",)
        self._name = "keystone" if keystone else "v1"
        self.port = process.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keystone = Keystone(f"{ceph.folder}/keystone",
                                 f"{self.url}/swift") if keystone else None

    @property
    def v1(self):
        return f"{self.url}/auth/v1.0"

    @property
    def storage_url(self):
        return f"{self.url}/swift/v1"

    def start(self):
        text = GATEWAY.format(name=self._name, port=self.port,
                              folder=self._ceph.folder)
        if self.keystone:
            self.keystone.start()
            text += KEYSTONE.format(
                url=self.keystone.url.removesuffix("/v3"))
        self._ceph.add_configuration(text)
        if not self.keystone:
            self._add_user(self.user, self.key)
            self._add_user(self.limited_user, "limited")
        daemon = self._ceph.daemon("radosgw", "-n", f"client.{self._name}")
        process.wait_until(self._healthy, daemon, "radosgw", self._ceph.log)

    def stop(self):
        if self.keystone:
            self.keystone.stop()

    def restore(self):
        """Nothing here is ever broken on purpose."""

    def administer(self, command):
        """Runs a shell's command in which radosgw-admin is this gateway's."""
        return self._ceph.run("/bin/sh", "-ec", command, environment={
            "CEPH_ARGS": f"-n client.{self._name}"})

    def _add_user(self, user, key):
        name = user.partition(":")[0]
        self.administer(
            f"radosgw-admin user create --uid={name} --display-name={name}"
            f" --subuser={user} --access=full --key-type=swift --secret={key}")

    def _healthy(self):
        try:
            urllib.request.urlopen(f"{self.url}/swift/info",
                                   timeout=60).close()
            return True
        except (OSError, urllib.error.URLError):
            return False
