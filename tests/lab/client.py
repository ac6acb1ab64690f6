# SPDX-License-Identifier: GPL-3.0-or-later
"""An SMTP client that sends what it is told, octet for octet."""

import re
import smtplib
import socket


def send(port, recipients, content, sender="sender@client.example", options=(),
         source="127.0.0.1"):
    """Sends a mail; returns code and text of the answer that ended it.

    content is octets with CRLF; dots are stuffed here.
    """
    if isinstance(recipients, str):
        recipients = [recipients]
    with smtplib.SMTP("127.0.0.1", port, "client.example", timeout=150,
                      source_address=(source, 0)) as client:
        client.command_encoding = "utf-8"
        client.ehlo()
        code, text = client.mail(sender, options)
        if code != 250:
            return code, text.decode()
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            if code != 250:
                return code, text.decode()
        try:
            code, text = client.data(content)
        except smtplib.SMTPDataError as error:
            code, text = error.smtp_code, error.smtp_error
        return code, text.decode()


def stored_name(text):
    """Returns the object's name without prefix that a reply tells."""
    match = re.fullmatch(r"2\.0\.0 Ok: stored as (\S+)", text)
    assert match, text
    return match[1]


def without_trace(content):
    """Returns a stored content without the Received field on its top."""
    assert content.startswith(b"Received: from "), content[:80]
    return re.sub(rb"\A.*\r\n(?:[ \t].*\r\n)*", b"", content, count=1)


class Raw:
    """A connection to 127.0.0.1:port; one reply has been read: the banner."""

    def __init__(self, port, timeout=60):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._file = self._socket.makefile("rb")
        self.banner = self.reply()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self._file.close()
        self._socket.close()

    def write(self, octets):
        self._socket.sendall(octets)

    def reply(self):
        """Returns a reply's lines as one text, or "" at the end."""
        lines = []
        while True:
            line = self._file.readline().decode(errors="replace").rstrip()
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def command(self, line):
        """Sends a line, str or octets, and returns the reply."""
        if isinstance(line, str):
            line = line.encode()
        self.write(line + b"\r\n")
        return self.reply()

    def replies(self, timeout):
        """Returns all replies until there is silence or an end."""
        self._socket.settimeout(timeout)
        found = []
        try:
            while text := self.reply():
                found.append(text)
        except TimeoutError:
            pass
        return found
