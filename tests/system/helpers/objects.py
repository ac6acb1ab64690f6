# SPDX-License-Identifier: GPL-3.0-or-later
"""What an object must look like (contract, section 4), computed here."""

import hashlib
import re
import urllib.parse

NAME = re.compile(r"(\d{10})\.M(\d{6})P(\d+)R([0-9a-f]{16})"
                  r"\.([^/:,]+),S=(\d+)")


def fingerprint(sender, recipients, content):
    """The contract's fingerprint."""
    lines = content.split(b"\r\n")
    if lines[0].lower().startswith(b"received:"):
        del lines[0]
        while lines and lines[0][:1] in (b" ", b"\t"):
            del lines[0]
    text = sender + "\n"
    for recipient in sorted(address.lower() for address in recipients):
        text += recipient + "\n"
    text += "\n" + hashlib.sha256(b"\r\n".join(lines)).hexdigest()
    return hashlib.sha256(text.encode()).hexdigest()


def recipients(metadata):
    """Envelope-To and what continues it; metadata in lower case."""
    listed = series(metadata, "envelope-to")
    return [urllib.parse.unquote(address)
            for value in listed for address in value.split(",")]


def sender(metadata):
    """Envelope-From and what continues it; metadata in lower case."""
    return urllib.parse.unquote("".join(series(metadata, "envelope-from")))


def series(metadata, name):
    """A value and what continues it, whose numbers have no gap."""
    found = [name] if name in metadata else []
    while f"{name}-{len(found) + 1}" in metadata:
        found.append(f"{name}-{len(found) + 1}")
    assert len(found) == sum(re.fullmatch(rf"{name}(-\d+)?", other) is not None
                             for other in metadata), sorted(metadata)
    return [metadata[name] for name in found]


def in_limits(metadata):
    """Swift's limits but for 256 octets, which are the readers', and nothing
    that needs a header's encoding."""
    total = 0
    for name, value in metadata.items():
        assert len(value) <= 256, (name, len(value))
        assert len(name) <= 128, name
        assert all(0x21 <= ord(octet) <= 0x7e for octet in value), value
        total += len(name) + len(value)
    assert total <= 4096 - 256, total
    assert len(metadata) <= 90
