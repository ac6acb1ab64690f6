# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate authority for the lab, and stunnel in front of a server."""

import os
import subprocess

from . import process

# In every server's certificate, for tests that make it an address of theirs.
HOST = "swift.example.net"


class Authority:
    """Makes keys and certificates with openssl(1) in one folder.

    certificate is the authority's own; hashed_folder holds it alone, named
    as OpenSSL wants it for a CApath.
    """

    def __init__(self, folder, name="swiftdrop lab authority"):
        self.folder = folder
        self.certificate = f"{folder}/ca.crt"
        self.key = f"{folder}/ca.key"
        self.hashed_folder = f"{folder}/hashed"
        os.makedirs(self.hashed_folder)
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
            "-subj", f"/CN={name}",
            # Python asks for it from 3.13 on.
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-keyout", self.key, "-out", self.certificate)
        os.symlink("../ca.crt", f"{self.hashed_folder}/ca.pem")
        self._openssl("rehash", self.hashed_folder)

    def issue(self, name, alt_names=f"IP:127.0.0.1,DNS:localhost,DNS:{HOST}",
              days=30):
        """Returns the paths of a new certificate and its key.

        A negative number of days makes one that has expired; openssl 3.5
        takes none, so it is made in the past.
        """
        past = {} if days >= 0 else {
            "LD_PRELOAD": "/usr/$LIB/faketime/libfaketime.so.1",
            "FAKETIME": f"{days - 1}d"}
        base = f"{self.folder}/{name}"
        self._openssl(
            "req", "-new", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}",
            "-addext", f"subjectAltName={alt_names}",
            "-keyout", f"{base}.key", "-out", f"{base}.csr")
        self._openssl(
            "x509", "-req", "-in", f"{base}.csr", "-copy_extensions",
            "copyall", "-CA", self.certificate, "-CAkey", self.key,
            "-CAcreateserial", "-days", str(days if days >= 0 else 1),
            "-out", f"{base}.crt", env={**os.environ, **past})
        return f"{base}.crt", f"{base}.key"

    @staticmethod
    def _openssl(*arguments, env=None):
        subprocess.run(["openssl", *arguments], check=True,
                       capture_output=True, env=env)


class Tls:
    """stunnel on a port of its own, in front of 127.0.0.1:to_port.

    options are further lines of stunnel's configuration for the service,
    for instance "sslVersionMax = TLSv1.1".
    """

    def __init__(self, folder, authority, to_port, port=None, certificate=None,
                 options=()):
        self.folder = folder
        self.port = port or process.free_port()
        self.log = f"{folder}/stunnel.log"
        self._process = None
        os.makedirs(folder, exist_ok=True)
        crt, key = certificate or authority.issue(f"server-{self.port}")
        with open(f"{folder}/stunnel.conf", "w") as file:
            file.write("\n".join((
                "foreground = yes",
                "pid =",
                "[lab]",
                f"accept = 127.0.0.1:{self.port}",
                f"connect = 127.0.0.1:{to_port}",
                f"cert = {crt}",
                f"key = {key}",
                *options, "")))

    def start(self):
        self._process = process.start(
            ["/usr/bin/stunnel4", f"{self.folder}/stunnel.conf"], self.log)
        process.wait_until(lambda: process.connects(self.port), self._process,
                           "stunnel", self.log)

    def stop(self):
        if self._process:
            process.stop(self._process)
            self._process = None
