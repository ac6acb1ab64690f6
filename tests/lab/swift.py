# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenStack Swift with one replica, all its servers in one process; what it
has in common with other stores, and a container."""

import atexit
import os
import shutil
import signal
import ssl
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

from . import process
from .keystone import Keystone
from .tls import Tls

SHARED_MEMORY = "/dev/shm"
SERVER = os.path.join(os.path.dirname(__file__), "servers",
                      "swift_server.py")


def takes_metadata(folder):
    """Whether an extended attribute may be as large as Swift's can get."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            os.setxattr(file.name, "user.swift.metadata", b"x" * 16384)
        except OSError:
            return False
    return True


class Store:
    """What speaks Swift's API: url, v1, storage_url; and where it differs.

    v1 is the authurl of v1; storage_url is that of its user's account, without
    a Keystone. keystone and authority are those of lab.Swift.
    """

    user = "test:tester"
    key = "testing"
    keystone = None
    authority = None

    # What Swift 2.30 does; another store says what it does instead.
    honours_if_none_match = True
    has_container_temp_url_keys = True      # beside those of the account
    temp_url_digests = ("sha1", "sha256", "sha512")
    owner_reads_what_others_write = True    # by the ACL of a container
    encrypts = False
    token_life_s = 86400                    # of v1, as a client has to take it
    limited_user = limited_grant = "test:limited"   # and how an ACL names it

    @property
    def authurl(self):
        return self.keystone.url if self.keystone else self.v1

    def options(self, container):
        """Returns the keys of a swiftdrop account that stores here."""
        options = {"container": container, "authurl": self.authurl}
        if self.keystone:
            options |= self.keystone.options()
        else:
            options |= {"auth_version": "1", "user": self.user,
                        "key": self.key}
        if self.authority:
            options["cacert"] = self.authority.certificate
        return options

    def connection(self, user=None, key=None):
        """Returns a swiftclient.Connection of the account's owner."""
        import swiftclient
        cacert = self.authority and self.authority.certificate
        if self.keystone:
            return swiftclient.Connection(
                authurl=self.authurl, user=self.keystone.user,
                key=self.keystone.password, auth_version="3", cacert=cacert,
                os_options={"project_name": self.keystone.project,
                            "project_domain_name": "Default",
                            "user_domain_name": "Default"})
        return swiftclient.Connection(
            authurl=self.authurl, user=user or self.user,
            key=key or self.key, auth_version="1", cacert=cacert)

    def container(self, user=None, key=None):
        """Makes a new container of the account's owner; returns it."""
        return Container(self, user, key)


class Swift(Store):
    """A Swift whose proxy knows either tempauth's users or Keystone's.

    folder      where it keeps everything; made when missing
    keystone    True: with a Keystone of its own in front, see .keystone
    authority   a tls.Authority: the proxy (and Keystone) speak HTTPS only
    scheme      what tempauth's storage URLs begin with, for one that
                disagrees with the way in; default: as the client came
    cloud       True: with the pipeline of a cloud, see swift_server.py
    port        where it listens; default: a free one
    of_keystone what else that Keystone is given

    Users of tempauth, account:user, password:
      test:tester    testing   administrator of its account
      test:limited   limited   no right but what a container's ACL grants
      test:reader    reader    the same, another one
      full:tester, frozen:tester   testing   administrators of theirs
      other:operator   testing   may change every account
    """

    def __init__(self, folder, keystone=False, authority=None, scheme=None,
                 cloud=False, port=None, **of_keystone):
        self.folder = folder
        self.log = f"{folder}/swift.log"
        self.authority = authority
        self.port = port or process.free_port()
        self._inner = process.free_port() if authority else self.port
        self._backends = [process.free_port() for _ in range(3)]
        self._process = None
        os.makedirs(folder, exist_ok=True)
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        self.tls = authority and Tls(f"{folder}/tls", authority, self._inner,
                                     port=self.port)
        self.keystone = Keystone(f"{folder}/keystone", self.url, authority,
                                 **of_keystone) if keystone else None
        self._cloud = cloud
        self.encrypts = cloud
        self._scheme = scheme or ("https" if authority else "default")
        self._make_devices()

    def _make_devices(self):
        """Swift keeps metadata in extended attributes; ext4 has room for 4 KiB.

        Where the folder's file system cannot take what Swift allows, the
        devices lie in memory (a kernel from 6.6 on).
        """
        devices = f"{self.folder}/devices"
        if os.path.lexists(devices):
            return
        if not takes_metadata(self.folder) and takes_metadata(SHARED_MEMORY):
            memory = tempfile.mkdtemp(prefix="swiftdrop-lab-",
                                            dir=SHARED_MEMORY)
            os.symlink(memory, devices)
            # Not in stop(): a later start() finds its objects.
            atexit.register(shutil.rmtree, memory, ignore_errors=True)

    @property
    def v1(self):
        return f"{self.url}/auth/v1.0"

    @property
    def storage_url(self):
        return f"{self.url}/v1/AUTH_test"

    def start(self):
        """Starts what is down; the objects of an earlier start are there."""
        if self.keystone and not self.keystone.running:
            self.keystone.start()
        sockets = [process.listen(port)
                   for port in (*self._backends, self._inner)]
        argv = ["/usr/bin/python3", SERVER, self.folder,
                *(str(sock.fileno()) for sock in sockets),
                "--scheme", self._scheme]
        if self.keystone:
            argv += ["--keystone", self.keystone.url]
        if self._cloud:
            argv += ["--cloud"]
        if self.authority:
            argv += ["--cafile", self.authority.certificate]
        try:
            self._process = process.start(
                argv, self.log, pass_fds=[s.fileno() for s in sockets])
        finally:
            for sock in sockets:
                sock.close()
        process.wait_until(self._healthy, self._process, "Swift", self.log)
        if self.tls:
            self.tls.start()

    def stop(self):
        """Stops everything, Keystone included."""
        self.go_down()
        if self.keystone:
            self.keystone.stop()

    def go_down(self):
        """Stops the proxy and its back ends: connections are refused."""
        if self.tls:
            self.tls.stop()
        if self._process:
            process.stop(self._process)
            self._process = None

    def pause(self):
        """Connections are taken, and nothing is ever answered."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self._process.pid, signal.SIGCONT)

    def freeze(self, user):
        """Makes a user's account read-only, as an operator does: by the
        account's server. The proxy forgets what it knows of it.
        """
        account = f"AUTH_{user.partition(':')[0]}"
        urllib.request.urlopen(urllib.request.Request(
            f"http://127.0.0.1:{self._backends[0]}/d1/0/{account}",
            method="POST", headers={
                "X-Timestamp": f"{time.time():.5f}",
                "X-Account-Sysmeta-Read-Only": "true"}), timeout=60).close()
        self.connection(user).post_account({})

    def fault(self, word=None):
        """Makes the proxy fail as swift_parts.Fault says; None: no more."""
        path = f"{self.folder}/fault"
        if word is None:
            if os.path.exists(path):
                os.unlink(path)
            return
        with open(path + ".new", "w") as file:
            file.write(word)
        os.rename(path + ".new", path)

    def restore(self):
        """Ends whatever a test did to this Swift."""
        self.fault()
        if self._process:
            self.resume()
        if not self._process or self._process.poll() is not None:
            self.start()

    def _healthy(self):
        try:
            with urllib.request.urlopen(
                    f"http://127.0.0.1:{self._inner}/healthcheck",
                    timeout=60) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False


class Container:
    """A container, empty at first, and what a test wants to know of it."""

    def __init__(self, swift, user=None, key=None):
        self.swift = swift
        self.name = f"box-{uuid.uuid4().hex[:12]}"
        self._connection = swift.connection(user, key)
        self._connection.put_container(self.name)

    def options(self):
        """Returns the keys of a swiftdrop account that stores here."""
        return self.swift.options(self.name)

    def post(self, headers):
        """Sets the container's own metadata, ACLs among them."""
        self._connection.post_container(self.name, headers)

    def names(self, prefix=""):
        """Returns the names of all objects, in order."""
        return [entry["name"] for entry in self._connection.get_container(
            self.name, prefix=prefix, full_listing=True)[1]]

    def head(self, name):
        """Returns an object's headers, in lower case and percent-decoded."""
        return self._connection.head_object(self.name, name)

    def metadata(self, name):
        """Returns the object's X-Object-Meta-*, as they are in the answer.

        The names are in lower case and without that prefix.
        """
        url, token = self._connection.get_auth()
        request = urllib.request.Request(
            f"{url}/{self.name}/{urllib.parse.quote(name)}", method="HEAD",
            headers={"X-Auth-Token": token})
        context = None
        if self.swift.authority:
            context = ssl.create_default_context(
                cafile=self.swift.authority.certificate)
        with urllib.request.urlopen(request, context=context) as answer:
            return {key.lower().removeprefix("x-object-meta-"): value
                    for key, value in answer.headers.items()
                    if key.lower().startswith("x-object-meta-")}

    def get(self, name):
        """Returns an object's headers, in lower case, and its content."""
        return self._connection.get_object(self.name, name)

    def put(self, name, content):
        self._connection.put_object(self.name, name, content)

    def delete(self, name):
        self._connection.delete_object(self.name, name)

    def objects(self):
        """Returns (name, headers, content) of each object, by name."""
        return [(name, *self.get(name)) for name in self.names()]

    def only(self):
        """Returns the one object's (name, headers, content)."""
        objects = self.objects()
        assert len(objects) == 1, [name for name, _, _ in objects]
        return objects[0]
