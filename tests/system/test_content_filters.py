# SPDX-License-Identifier: GPL-3.0-or-later
"""What README says of content filters beside rspamd."""

import email.message
import email.policy
import itertools
import re

import lab
import pytest
from lab.amavis import Amavis
from lab.client import send, without_trace

PLAIN = b"Subject: hello\r\n\r\n.\r\nhello\r\n"


@pytest.fixture
def front(lab_folder, swiftdrop_binary, container):
    """A function that makes a Postfix with lines for main.cf, not started."""
    numbers = itertools.count()
    servers = []

    def make(**main):
        servers.append(lab.Postfix(
            f"{lab_folder}/filters-{container.name}-{next(numbers)}",
            swiftdrop_binary,
            {"stored": {"recipients": "a@example.org", **container.options()}},
            ["a@example.org"], main=main))
        return servers[-1]
    yield make
    for server in servers:
        server.stop()


@pytest.fixture
def amavis(front, lab_folder, container):
    """A Postfix whose mail passes amavis before it gets to swiftdrop."""
    server = front()
    proxy = Amavis(f"{lab_folder}/amavis-{container.name}",
                   server.filter_port)
    server.set_main({"swiftdrop_filter": f"inet:127.0.0.1:{proxy.port}"})
    try:
        proxy.start()
        server.start()
        yield server
    finally:
        proxy.stop()


def with_attachment(name):
    mail = email.message.EmailMessage(policy=email.policy.SMTP)
    mail["Subject"] = "hello"
    mail.set_content("hello\n")
    mail.add_attachment(b"MZ", maintype="application",
                        subtype="octet-stream", filename=name)
    return mail.as_bytes()


def test_amavis_in_front_refuses_and_lets_pass(amavis, container):
    """Its answer is the sender's, and so is that of Swift."""
    code, text = send(amavis.port, "a@example.org", with_attachment("x.exe"))
    assert (code, container.names()) == (554, []), text
    assert "BANNED" in text
    mail = with_attachment("x.txt")
    code, text = send(amavis.port, "a@example.org", mail, source="127.0.0.5")
    assert code == 250
    name, _, content = container.only()
    assert name[len("cur/"):] in text
    assert without_trace(without_trace(content)) == mail
    assert container.metadata(name)["client-addr"] == "127.0.0.5"


def test_amavis_in_front_passes_on_that_swift_is_down(amavis, container,
                                                      swift):
    swift.fault("503")
    code, text = send(amavis.port, "a@example.org", PLAIN)
    assert code == 451, text
    swift.fault()
    assert container.names() == []


def test_after_the_queue_postfix_answers_and_swiftdrop_follows(
        front, container, swift):
    """The sender has its 250 before Swift has the mail: the queue keeps it.

    And header_checks, or a milter, get the content."""
    server = front(swiftdrop_filter="", header_checks="regexp:{{"
                   "/^Subject: refused/ REJECT by content}}")
    server.start()
    swift.fault("503")
    code, text = send(server.port, "a@example.org", PLAIN, source="127.0.0.5")
    assert code == 250 and re.fullmatch(r"2\.0\.0 Ok: queued as \w+", text)
    code, text = send(server.port, "a@example.org", b"Subject: refused\r\n\r\n")
    assert code == 550 and "by content" in text
    assert container.names() == []
    assert len(server.queue()) == 1
    swift.fault()
    server.wait_for_empty_queue()
    assert without_trace(container.only()[2]) == PLAIN
