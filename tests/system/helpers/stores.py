# SPDX-License-Identifier: GPL-3.0-or-later
"""Mail into real stores."""

import hashlib

from helpers import objects

MESSAGE = (b"Received: from mx by filter\r\n\tid 1\r\nFrom: a@example.org\r\n"
           b"Subject: swift\r\n\r\n.text\r\n\0 and \r octets \xff\r\n")
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
DEFERRED = "451 4.3.0 Error: queue file write error"
FULL = "452 4.3.1 Insufficient system storage"


def account(container, /, **options):
    """An account that stores there."""
    return {"recipients": "*", "retries": "0", **container.options(),
            **options}


def deliver(bench, options, content=MESSAGE, recipients=("box@example.com",)):
    """The reply to one message in a session of its own."""
    session = bench.accept(archive=options)
    reply = session.deliver(content, recipients=recipients)
    session.quit()
    return reply


def metadata(container):
    """The metadata of the one object, as they are in the answer."""
    return container.metadata(container.only()[0])


def is_stored(container, reply):
    """MESSAGE is there as deliver() sent it, and the reply names it."""
    name, headers, content = container.only()
    assert str(reply) == "250 2.0.0 Ok: stored as " + name.removeprefix("cur/")
    assert objects.NAME.fullmatch(name.removeprefix("cur/"))
    assert content == MESSAGE
    assert headers["etag"].strip('"') == hashlib.md5(MESSAGE).hexdigest()
    assert headers["content-type"] == "message/rfc822"
    assert "x-delete-at" not in headers
    assert metadata(container) == {
        "envelope-count": "1",
        "sha256": hashlib.sha256(MESSAGE).hexdigest(),
        "fingerprint": objects.fingerprint(
            "from@example.org", ["box@example.com"], MESSAGE),
        "envelope-from": "from@example.org",
        "envelope-to": "box@example.com"}
    return True
