# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that stand between us and Swift at a cloud (HAProxy, nginx, Apache,
stunnel), HTTP proxies on the way there (squid, tinyproxy), and IPv6: the real
ones, before a real Swift. What is named is what the operator has to set
(doc/OPERATING.md, "Behind HAProxy, nginx, Apache")."""

import hashlib
import re
import socket
import subprocess
import threading
import time

import lab
import pytest
from lab import fronts

from helpers import objects, program

SMALL = b"Subject: front\r\n\r\n.text\r\n"
# Above what a front keeps in memory, and above what makes us ask first.
LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 175000
DEFERRED = "451 4.3.0 Error: queue file write error"
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
FULL = "452 4.3.1 Insufficient system storage"
AWKWARD = "50% a+b&c;d=e/ümläut/"
PROXIES = ("squid", "tinyproxy")


class Fronts:
    """All of them, by name, before one Swift."""

    def __init__(self, folder, swift, authority):
        self.authority = authority
        self.servers = {}
        crt, key = authority.issue("front", "IP:127.0.0.1,IP:::1")
        places = {"swift": swift.port, "crt": crt, "key": key,
                  "ca": authority.certificate}
        try:
            for name in ("haproxy", "nginx", "apache"):
                self.start(name, getattr(fronts, name), folder, places)
            for name in PROXIES:
                self.start(name, getattr(fronts, name), folder)
            self.nobody = self.servers["nginx"].nobody
            for name, port in (
                    ("stunnel", swift.port), ("stunnel-down", self.nobody),
                    ("stunnel-squid", self.servers["squid"].port("proxy"))):
                self.start(name, lab.Tls, folder, authority, port, None,
                           (crt, key))
        except BaseException:
            self.stop()
            raise

    def start(self, name, make, folder, *values):
        """At once: until it listens, another may take its ports."""
        self.servers[name] = make(f"{folder}/{name}", *values)
        self.servers[name].start()

    def stop(self):
        for server in self.servers.values():
            server.stop()

    def url(self, place, host="127.0.0.1"):
        """Of a place such as "nginx plain"."""
        if place.startswith("stunnel"):
            return f"https://{host}:{self.servers[place].port}"
        name, way = place.split()
        scheme = "https" if way in ("tls", "tls13", "closed") else "http"
        return f"{scheme}://{host}:{self.servers[name].port(way)}"

    def account(self, container, url, **options):
        """An account that stores in container by this URL; or by a place."""
        if "://" not in url:
            url = self.url(url)
        made = {"recipients": "*", "retries": "0", **container.options(),
                "authurl": f"{url}/auth/v1.0"}
        if url.startswith("https:"):
            # This Swift does not know of the TLS before it.
            made["os_options_object_storage_url"] = f"{url}/v1/AUTH_test"
            made["cacert"] = self.authority.certificate
        return {**made, **options}

    def proxy(self, name, password=fronts.PROXY_PASSWORD):
        port = self.servers[name].port("proxy")
        return f"http://{fronts.PROXY_USER}:{password}@127.0.0.1:{port}"


@pytest.fixture(scope="module")
def way(lab_folder, swift, authority):
    made = Fronts(f"{lab_folder}/fronts", swift, authority)
    yield made
    made.stop()


def opened(bench, account, **more):
    session = bench.session(bench.config(archive=account), **more)
    session.greet()
    return session


def deliver(bench, account, content=SMALL, **more):
    """The reply to one message, and the session's log."""
    session = opened(bench, account, **more)
    reply = session.deliver(content)
    session.quit()
    return reply, session.log


def reason(log):
    line, = log.lines("deferred")
    return line.partition(', reason="')[2].rstrip('"')


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


# A mail arrives whole.

@pytest.mark.parametrize("place", (
    "haproxy plain", "haproxy tls",
    "nginx plain", "nginx unbuffered", "nginx tls",
    "apache plain", "apache tls", "stunnel"))
def test_mails_are_stored_whole(place, bench, container, way):
    session = opened(bench, way.account(container, place))
    contents = (SMALL, b"", LARGE)
    for content in contents:
        reply = session.deliver(content)
        assert reply.code == 250
        name = "cur/" + reply.text.removeprefix("2.0.0 Ok: stored as ")
        headers, stored = container.get(name)
        assert stored == content
        assert headers["etag"] == hashlib.md5(content).hexdigest()
    session.quit()
    assert len(container.names()) == len(contents)
    for line in session.log.lines("stored"):
        assert "tries=1" in line


@pytest.mark.parametrize("place", ("haproxy plain", "nginx plain",
                                   "nginx unbuffered", "apache plain"))
def test_201_that_swift_did_not_mean(place, bench, container, way):
    """Only Swift's ETag confirms; a 201 from who did not read the mail."""
    container.swift.fault("late:201")
    reply, log = deliver(bench, way.account(container, place))
    assert str(reply) == DEFERRED
    assert reason(log).endswith(" answered 201, but not our ETag")
    container.swift.restore()
    assert container.names() == []


@pytest.mark.parametrize("place", ("haproxy plain", "nginx plain",
                                   "apache plain"))
def test_metadata_and_names_pass(place, bench, container, way):
    """As much metadata as there may be, in 20 header fields of which HAProxy
    makes lower case; and a name that Apache escapes in its own way."""
    recipients = [f"recipient{number:03d}@some.long.domain.example"
                  for number in range(300)]
    found = []
    for url in (container.swift.url, place):
        session = opened(bench, way.account(container, url, prefix=AWKWARD))
        reply = session.deliver(SMALL, recipients=recipients)
        assert reply.code == 250
        session.quit()
        found.append(container.metadata(
            AWKWARD + reply.text.removeprefix("2.0.0 Ok: stored as ")))
    direct, passed = [{name: value for name, value in some.items()
                       if name.startswith(("envelope", "sha", "finger"))}
                      for some in found]
    assert passed == direct
    objects.in_limits(passed)
    assert passed["envelope-truncated"] == "yes"


@pytest.mark.parametrize("place", ("haproxy tls", "nginx tls", "apache tls"))
def test_tempurl_passes(place, bench, container, way):
    """What is signed is the path: no front may change what it means."""
    container.post({"X-Container-Meta-Temp-URL-Key": "signed"})
    reply, _ = deliver(bench, {
        "recipients": "*", "container": container.name, "prefix": AWKWARD,
        "auth_version": "tempurl", "temp_url_key": "signed",
        "storage_url": f"{way.url(place)}/v1/AUTH_test",
        "cacert": way.authority.certificate})
    assert reply.code == 250
    assert container.only()[2] == SMALL


# HTTP/2 and TLS.

@pytest.mark.parametrize("binary", (program.BINARY,
                                    program.TOP / "swiftdrop.static"),
                         ids=("shared", "static"))
@pytest.mark.parametrize("place", ("haproxy tls13", "nginx tls13"))
def test_http_2_is_offered_and_not_taken(place, binary, bench, container, way,
                                         monkeypatch):
    port = way.url(place).rpartition(":")[2]
    offer = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn",
         "h2,http/1.1"], stdin=subprocess.DEVNULL, capture_output=True,
        check=False).stdout
    assert b"ALPN protocol: h2" in offer
    monkeypatch.setattr(program, "BINARY", binary)
    access = way.servers[place.split()[0]].access
    before = access()
    assert deliver(bench, way.account(container, place), LARGE)[0].code == 250
    assert container.only()[2] == LARGE
    until(lambda: " PUT " in access().removeprefix(before))
    assert [line for line in access().removeprefix(before).splitlines()
            if " PUT " in line] == ["HTTP/1.1 TLSv1.3 PUT 201"]


@pytest.mark.parametrize("place, code, words", (
    ("haproxy closed", DEFERRED, "alert certificate required"),
    ("nginx closed", CONFIGURATION,
     "answered 400: 400 No required SSL certificate was sent")))
def test_client_certificate(place, code, words, bench, container, way):
    account = way.account(container, place)
    reply, log = deliver(bench, account)
    assert str(reply) == code
    assert words in reason(log)
    assert container.names() == []
    cert, key = way.authority.issue(f"client-{container.name}")
    reply, _ = deliver(bench, {**account, "cert": cert, "cert_key": key})
    assert reply.code == 250
    assert container.only()[2] == SMALL


# Limits of a front.

def test_client_max_body_size(bench, container, way):
    """nginx as it comes: 1 MiB."""
    account = way.account(container, "nginx default")
    reply, log = deliver(bench, account, LARGE)
    assert str(reply) == FULL
    line = log.one("deferred")
    assert (line["status"], line["tries"]) == ("413", "1")
    assert reason(log).endswith(
        " answered 413: 413 Request Entity Too Large; that is the limit of a "
        "server in front of Swift (nginx: client_max_body_size)")
    assert deliver(bench, account)[0].code == 250
    assert container.only()[2] == SMALL


def test_large_client_header_buffers(bench, container, way):
    """A front with little room for headers: the mail is stored, its envelope
    is not, and the log says why. 8 KiB, as they come, are enough."""
    session = opened(bench, way.account(container, "nginx narrow"))
    assert session.deliver(SMALL, recipients=[
        f"recipient{number:03d}@some.long.domain.example"
        for number in range(300)]).code == 250
    session.quit()
    line, = session.log.lines("account")
    assert line.endswith(
        ' answered 400: 400 Request Header Or Cookie Too Large, tried once '
        'more without metadata"')
    name, _, content = container.only()
    assert content == SMALL
    assert "envelope-to" not in container.metadata(name)


def test_limit_req_with_429_is_waited_for(bench, container, way):
    session = opened(bench, way.account(container, "nginx limited_429"))
    for _ in range(2):
        assert session.deliver(SMALL).code == 250
    session.quit()
    assert len(container.names()) == 2
    waits = session.log.lines("account")
    assert waits
    for line in waits:
        assert ", status=429, " in line


def test_limit_req_with_503_counts_as_a_retry(bench, container, way):
    """Other fronts' 503 comes when they wait no longer: it is named."""
    session = opened(bench, way.account(container, "nginx limited"))
    assert session.deliver(SMALL).code == 250
    assert str(session.deliver(SMALL)) == DEFERRED
    session.quit()
    assert reason(session.log).endswith(
        " answered 503: 503 Service Temporarily Unavailable")
    assert "possible duplicate" in session.log.one("in-doubt")["reason"]
    assert len(container.names()) == 1


# Swift is down or slow behind a front.

@pytest.mark.parametrize("place, words", (
    ("haproxy down", " answered 503"),
    ("nginx down", " answered 502: 502 Bad Gateway"),
    ("apache down", " answered 503: 503 Service Unavailable"),
    ("stunnel-down", ": ")))    # no answer; how it ends is chance
def test_login_while_swift_is_down(place, words, bench, container, way):
    reply, log = deliver(bench, way.account(container, place))
    assert str(reply) == DEFERRED
    address = way.url(place).partition("://")[2]
    assert reason(log).startswith(address + words)
    assert log.one("deferred")["request"] == "GET"


def test_put_while_swift_is_down(bench, container, way):
    """All at once, as each asks for seconds whether something is there."""
    places = ("haproxy down", "nginx down", "apache down")
    sessions = []
    for place in places:
        storage_url = f"{way.url(place)}/v1/AUTH_test"
        sessions.append(bench.session(bench.config(
            SMTP={"deadline": "1"}, archive=way.account(
                container, container.swift.url,
                os_options_object_storage_url=storage_url))))
        sessions[-1].greet()
        sessions[-1].envelope()
        sessions[-1].data(SMALL)
    for session, status in zip(sessions, ("503", "502", "503")):
        assert str(session.reply()) == DEFERRED
        session.quit()
        line = session.log.one("deferred")
        assert (line["request"], line["status"]) == ("PUT", status)
        # That nothing was stored can be asked only when Swift is back.
        assert "possible duplicate" in str(session.log.lines("in-doubt"))
    assert container.names() == []


@pytest.mark.parametrize("place, status", (
    ("haproxy hurried", "504"), ("nginx hurried", "504"),
    ("apache hurried", "502")))
def test_a_front_that_does_not_wait_leaves_a_doubt(place, status, bench,
                                                   container, way):
    """The upload arrives after we were told that it had failed, and after it
    was deleted in vain: the log names it."""
    container.swift.fault("slow:2")
    reply, log = deliver(bench, way.account(container, place))
    container.swift.fault()
    assert str(reply) == DEFERRED
    assert log.one("deferred")["status"] == status
    until(container.names)
    name, _, content = container.only()
    assert content == SMALL
    assert f", object={container.name}/{name}, reason=\"possible duplicate" \
        in str(log.lines("in-doubt"))


def test_a_front_that_does_not_wait_and_a_second_try(bench, container, way):
    """The second try meets the first under its name: one object."""
    container.swift.fault("slow:0.9")
    end = threading.Timer(0.4, container.swift.fault)
    end.start()
    reply, log = deliver(bench, way.account(container, "nginx hurried",
                                            retries="5"))
    end.join()
    assert reply.code == 250
    assert ", status=504, " in log.lines("account")[0]
    assert log.lines("in-doubt") == []
    time.sleep(1)       # the first has ended, whichever way
    assert container.only()[2] == SMALL


@pytest.mark.parametrize("place", ("haproxy plain", "nginx plain",
                                   "apache plain"))
def test_an_answer_that_is_lost_behind_a_front(place, bench, container, way):
    """The second try is answered 412, and HEAD finds the object."""
    container.swift.fault("lost:503")
    session = opened(bench, way.account(container, place, retries="9"))
    session.envelope()
    session.data(SMALL)
    until(lambda: "status=503" in str(session.log))
    container.swift.fault()
    reply = session.reply()
    session.quit()
    assert reply.code == 250
    name, _, content = container.only()
    assert content == SMALL
    assert name == "cur/" + reply.text.removeprefix("2.0.0 Ok: stored as ")


@pytest.mark.parametrize("place", ("haproxy forgetful", "nginx forgetful",
                                   "apache forgetful"))
def test_a_front_that_closes_idle_connections(place, bench, container, way):
    """Between two mails of a session; nothing has to be tried again."""
    session = opened(bench, way.account(container, place))
    for _ in range(2):
        assert session.deliver(SMALL).code == 250
        time.sleep(0.3)
    session.quit()
    assert session.log.lines("account") == []
    assert len(container.names()) == 2


# By an HTTP proxy.

PLACES = ("nginx plain", "nginx tls")       # as it is, and by CONNECT


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("content", (SMALL, LARGE), ids=("small", "large"))
def test_proxy(content, proxy, place, bench, container, way):
    reply, _ = deliver(bench, way.account(
        container, place, proxy=way.proxy(proxy)), content)
    assert reply.code == 250
    assert container.only()[2] == content
    # The request itself, or that for a tunnel.
    address = way.url(place).partition("://")[2]
    assert re.search(f"PUT http://{address}/v1/AUTH_test/{container.name}/cur/"
                     if place == "nginx plain" else f"CONNECT {address}",
                     way.servers[proxy].access())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("trusted", (True, False))
def test_proxy_over_tls(trusted, place, bench, container, way):
    """Its certificate is judged by cacert, whatever Swift's URL is."""
    url = way.proxy("squid").replace("http://", "https://").rpartition(":")[0]
    reply, log = deliver(bench, way.account(
        container, place, proxy=f"{url}:{way.servers['stunnel-squid'].port}",
        cacert=way.authority.certificate if trusted else "/etc/ssl/certs"))
    assert reply.code == (250 if trusted else 451)
    assert len(container.names()) == trusted
    assert trusted or "certificate" in reason(log)


# tinyproxy has another status for a password than for none.
@pytest.mark.parametrize("proxy, place, code, words", (
    ("squid", "nginx plain", DEFERRED, " answered 407"),
    ("squid", "nginx tls", DEFERRED, "CONNECT tunnel failed\\054 response 407"),
    ("tinyproxy", "nginx plain", CONFIGURATION, " answered 401"),
    ("tinyproxy", "nginx tls", DEFERRED,
     "CONNECT tunnel failed\\054 response 401")))
def test_wrong_password_of_a_proxy(proxy, place, code, words, bench,
                                   container, way):
    reply, log = deliver(bench, way.account(
        container, place, proxy=way.proxy(proxy, "wr0ng")))
    assert str(reply) == code
    port = way.servers[proxy].port("proxy")
    assert f" by proxy 127.0.0.1:{port}" in reason(log)
    assert words in reason(log)
    assert not re.search(f"wr0ng|{fronts.PROXY_USER}:", str(log))
    assert container.names() == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("proxy", PROXIES)
def test_no_password_for_a_proxy(proxy, place, bench, container, way):
    port = way.servers[proxy].port("proxy")
    reply, log = deliver(bench, way.account(
        container, place, proxy=f"127.0.0.1:{port}"))
    assert str(reply) == DEFERRED
    assert f" by proxy 127.0.0.1:{port}" in reason(log)
    assert " 407" in reason(log)


@pytest.mark.parametrize("place", PLACES)
def test_proxy_that_is_down(place, bench, container, way):
    reply, log = deliver(bench, way.account(
        container, place, proxy=f"http://me:wr0ng@127.0.0.1:{way.nobody}"))
    assert str(reply) == DEFERRED
    assert re.search(f" by proxy 127.0.0.1:{way.nobody}: Failed to connect",
                     reason(log))
    assert "wr0ng" not in str(log)


# IPv6.

@pytest.mark.parametrize("place", ("haproxy plain", "haproxy tls",
                                   "nginx plain", "nginx tls"))
def test_address_of_ipv6(place, bench, container, way):
    reply, _ = deliver(bench, way.account(container,
                                          way.url(place, "[::1]")))
    assert reply.code == 250
    assert container.only()[2] == SMALL


def named(bench, *lines):
    """A prefix for a session on a host that knows these names."""
    hosts = bench.file("hosts", "".join(f"{line}\n" for line in lines))
    return ("unshare", "-rm", *program.shell(
        f"mount --bind {hosts} /etc/hosts"))


def test_name_with_an_ipv6_address_alone(bench, container, way):
    """At the same port of 127.0.0.1 there is another server, whose Swift is
    down."""
    url = way.url("haproxy six", "swift.example")
    reply, _ = deliver(bench, way.account(container, url),
                       prefix=named(bench, "::1 swift.example"))
    assert reply.code == 250
    assert container.only()[2] == SMALL


@pytest.mark.parametrize("silent", (False, True))
def test_name_whose_ipv6_address_is_dead(silent, bench, container, way):
    """Swift itself listens at 127.0.0.1 alone; at ::1 nobody, or one whose
    backlog is full and who says nothing."""
    port = container.swift.port
    with socket.socket(socket.AF_INET6) as dead, \
            socket.socket(socket.AF_INET6) as first:
        if silent:
            dead.bind(("::1", port))
            dead.listen(0)
            first.connect(("::1", port))
            with socket.socket(socket.AF_INET6) as second, \
                    pytest.raises(TimeoutError):
                second.settimeout(0.2)
                second.connect(("::1", port))
        reply, log = deliver(
            bench, way.account(container, f"http://swift.example:{port}"),
            prefix=named(bench, "::1 swift.example",
                         "127.0.0.1 swift.example"))
    assert reply.code == 250
    assert log.lines("account") == []
    assert container.only()[2] == SMALL
