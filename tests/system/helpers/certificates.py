# SPDX-License-Identifier: GPL-3.0-or-later
"""A certification authority for a test, and what it signs."""

import datetime
import ipaddress
import ssl
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates into a folder."""

    def __init__(self, folder, name="Test CA"):
        self.folder = folder
        folder.mkdir(parents=True)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.sign(
            self.name, self.key,
            x509.BasicConstraints(ca=True, path_length=None))
        self.path = folder / "ca.pem"
        self.path.write_bytes(self.certificate.public_bytes(
            serialization.Encoding.PEM))

    def sign(self, subject, key, *extensions, days=(-2, 30)):
        now = datetime.datetime.utcnow()
        builder = x509.CertificateBuilder(
            issuer_name=self.name, subject_name=subject,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now + days[0] * DAY,
            not_valid_after=now + days[1] * DAY)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name, *addresses, days=(-2, 30)):
        """A certificate for IP addresses; paths of it and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [x509.SubjectAlternativeName([
            x509.IPAddress(ipaddress.ip_address(address))
            for address in addresses])] if addresses else []
        certificate = self.sign(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key,
            *extensions, days=days)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(
            serialization.Encoding.PEM))
        paths[1].write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        return paths

    def hashed_folder(self, path):
        """The authority in a folder as /etc/ssl/certs is one."""
        path.mkdir()
        found = subprocess.run(
            ["openssl", "x509", "-noout", "-subject_hash", "-in", self.path],
            check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        (path / f"{found}.0").write_bytes(self.path.read_bytes())
        return path

    def server(self, *addresses, days=(-2, 30)):
        """A server's context with a certificate for these addresses."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server", *addresses, days=days))
        return context
