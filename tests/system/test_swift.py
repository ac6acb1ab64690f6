# SPDX-License-Identifier: GPL-3.0-or-later
"""Storing in a real Swift, with tempauth, TempURL and a real Keystone: the
account keys of contract, section 2, and the object of section 4."""

import hashlib
import hmac
import time
import urllib.parse
import urllib.request

import lab
import pytest

from helpers import objects, program

MESSAGE = (b"Received: from mx by filter\r\n\tid 1\r\nFrom: a@example.org\r\n"
           b"Subject: swift\r\n\r\n.text\r\n\0 and \r octets \xff\r\n")
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
DEFERRED = "451 4.3.0 Error: queue file write error"
FULL = "452 4.3.1 Insufficient system storage"


def account(container, /, **options):
    return {"recipients": "*", "retries": "0", **container.options(),
            **options}


def deliver(bench, options, content=MESSAGE, recipients=("box@example.com",)):
    """The reply to one message in a session of its own."""
    session = bench.accept(archive=options)
    reply = session.deliver(content, recipients=recipients)
    session.quit()
    return reply


def metadata(container, name=None):
    """An object's metadata as they are; swiftclient would decode them."""
    url, token = container.swift.connection().get_auth()
    name = urllib.parse.quote(name or container.only()[0])
    request = urllib.request.Request(f"{url}/{container.name}/{name}",
                                     headers={"X-Auth-Token": token},
                                     method="HEAD")
    with urllib.request.urlopen(request, timeout=20) as answer:
        return {key.lower()[14:]: value
                for key, value in answer.headers.items()
                if key.lower().startswith("x-object-meta-")}


# The object.

@pytest.mark.parametrize("kind", ("container", "tls_container",
                                  "keystone_container"))
def test_object(kind, bench, request):
    container = request.getfixturevalue(kind)
    reply = deliver(bench, account(container))
    name, headers, content = container.only()
    assert str(reply) == "250 2.0.0 Ok: stored as " + name.removeprefix("cur/")
    assert objects.NAME.fullmatch(name.removeprefix("cur/"))
    assert content == MESSAGE
    assert headers["etag"] == hashlib.md5(MESSAGE).hexdigest()
    assert headers["content-type"] == "message/rfc822"
    assert "x-delete-at" not in headers
    if kind != "tls_container":
        assert metadata(container) == {
            "envelope-count": "1",
            "sha256": hashlib.sha256(MESSAGE).hexdigest(),
            "fingerprint": objects.fingerprint(
                "from@example.org", ["box@example.com"], MESSAGE),
            "envelope-from": "from@example.org",
            "envelope-to": "box@example.com"}


def test_metadata_of_xforward(bench, container):
    session = bench.accept(archive=account(container))
    assert session.cmd("XFORWARD NAME=mx.example ADDR=IPV6:2001:db8::9 "
                       "HELO=he+20lo IDENT=4bXyz").code == 250
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    found = metadata(container)
    assert found["client-addr"].endswith("2001:db8::9")
    assert found["client-name"] == "mx.example"
    assert found["client-helo"] == "he%20lo"
    assert found["queue-id"] == "4bXyz"
    assert found["fingerprint"] == objects.fingerprint(
        "from@example.org", ["box@example.com"], MESSAGE)


@pytest.mark.parametrize("count", (1, 40, 60))
def test_metadata_within_the_limits_of_swift(count, bench, container):
    recipients = [f"recipient,{n:03d}%@some.long.domain.example".replace(
        ",", "" if n % 2 else "_") for n in range(count)]
    assert deliver(bench, account(container),
                   recipients=recipients).code == 250
    found = metadata(container)
    objects.in_limits(found)
    # More of them: test_store.py. Swift keeps metadata in extended
    # attributes, of which ext4 takes less than Swift's limit of 4096.
    assert objects.recipients(found) == recipients
    assert found["envelope-count"] == str(count)
    assert found["fingerprint"] == objects.fingerprint(
        "from@example.org", recipients, MESSAGE)


def test_metadata_percent_encoded(bench, container):
    session = bench.accept(archive=account(container))
    assert session.cmd('MAIL FROM:<"a b,%"@exämple.org> SMTPUTF8').code == 250
    assert session.cmd('RCPT TO:<"x, y"@例子.example>').code == 250
    session.data(MESSAGE)
    assert session.reply().code == 250
    session.quit()
    found = metadata(container)
    assert found["envelope-from"] == '"a%20b,%25"@ex%C3%A4mple.org'
    assert objects.recipients(found) == ['"x, y"@例子.example']
    assert found["envelope-to"].count(",") == 0


def test_same_message_again_has_the_same_fingerprint(bench, container):
    """By another front, another Received."""
    session = bench.accept(archive=account(container))
    for number in range(2):
        assert session.cmd(f"XFORWARD NAME=mx{number}.example").code == 250
        assert session.deliver(
            b"Received: by %d\r\n" % number + MESSAGE).code == 250
    session.quit()
    found = [metadata(container, name)["fingerprint"]
             for name in container.names()]
    assert len(found) == 2 and len(set(found)) == 1


@pytest.mark.parametrize("size", (0, 1000, 262144, 262145, 1 << 20, 5 << 20))
def test_content_of_every_size(size, bench, container):
    content = b"\xffline %d\r\n" % size
    content = (content * (size // len(content) + 1))[:max(0, size - 2)]
    content = content.replace(b"\r", b"").replace(b"\n", b"") + b"\r\n" \
        if size else b""
    assert deliver(bench, account(container), content).code == 250
    assert container.only()[2] == content


# Account keys.

@pytest.mark.parametrize("prefix", ("", "new/", "50% a?b#/", "ümläut/"))
def test_prefix(prefix, bench, container):
    assert deliver(bench, account(container, prefix=prefix)).code == 250
    assert container.only()[0].startswith(prefix + str(int(time.time()))[:6])


def test_content_type_and_delete_after(bench, container):
    before = time.time()
    assert deliver(bench, account(container, content_type="text/plain",
                                  delete_after="3600")).code == 250
    headers = container.only()[1]
    assert headers["content-type"] == "text/plain"
    assert 3590 < int(headers["x-delete-at"]) - before < 3700


def test_metadata_off(bench, container):
    assert deliver(bench, account(container, metadata="no")).code == 250
    assert metadata(container) == {}


@pytest.mark.parametrize("options", (
    {"key": "wrong"}, {"user": "test:nobody"}, {"container": "none"},
    {"user": "test:limited", "key": "limited"}))
def test_configuration_at_fault(options, bench, container):
    assert str(deliver(bench, account(container, **options))) == CONFIGURATION
    assert container.names() == []


def test_right_to_write_only(bench, container):
    """A user that a container's ACL lets write, and nothing else."""
    container.post({"X-Container-Write": "test:limited"})
    assert deliver(bench, account(container, user="test:limited",
                                  key="limited")).code == 250
    assert container.only()[2] == MESSAGE


def test_quota(bench, container):
    container.post({"X-Container-Meta-Quota-Bytes": str(len(MESSAGE) - 1)})
    assert str(deliver(bench, account(container))) == FULL
    container.post({"X-Container-Meta-Quota-Bytes": str(len(MESSAGE))})
    assert deliver(bench, account(container)).code == 250


def test_object_storage_url(bench, keystone_container, keystone_swift):
    """It beats the catalog, which has no such region."""
    project = keystone_swift.keystone.project_id
    assert deliver(bench, account(
        keystone_container, os_options_region_name="Nowhere",
        os_options_object_storage_url=(
            f"{keystone_swift.url}/v1/AUTH_{project}"))).code == 250


# Keystone.

def test_application_credential(bench, keystone_container, keystone_swift):
    options = {"recipients": "*", "container": keystone_container.name,
               "authurl": keystone_swift.authurl,
               **keystone_swift.keystone.application_credential_options()}
    assert deliver(bench, options).code == 250
    assert keystone_container.only()[2] == MESSAGE
    options["os_options_application_credential_secret"] = "wrong"
    assert str(deliver(bench, options)) == CONFIGURATION


def test_application_credential_by_name(bench, keystone_container,
                                        keystone_swift):
    keystone = keystone_swift.keystone
    options = {"recipients": "*", "container": keystone_container.name,
               "authurl": keystone_swift.authurl,
               "os_options_application_credential_name": "lab",
               "os_options_application_credential_secret":
                   keystone.application_credential_secret}
    by_name = {**options, "user": keystone.user,
               "os_options_user_domain_name": "Default"}
    assert deliver(bench, by_name).code == 250
    assert deliver(bench, {
        **options, "os_options_user_id": keystone.user_id}).code == 250
    by_name["os_options_application_credential_name"] = "none"
    assert str(deliver(bench, by_name)) == CONFIGURATION


def test_keystone_by_ids(bench, keystone_container, keystone_swift):
    keystone = keystone_swift.keystone
    assert deliver(bench, {
        "recipients": "*", "container": keystone_container.name,
        "authurl": keystone.url, "key": keystone.password,
        "os_options_user_id": keystone.user_id,
        "os_options_project_id": keystone.project_id}).code == 250


@pytest.mark.parametrize("options", (
    {"tenant_name": "mail", "os_options_project_name": None},
    {"user": "mail:mailer", "os_options_project_name": None},
    {"user": "none:mailer"},
    {"os_options_project_domain_name": None,
     "os_options_user_domain_name": None,
     "os_options_project_domain_id": "default",
     "os_options_user_domain_id": "default"},
    {"os_options_region_name": "RegionOne"},
    {"os_options_endpoint_type": "internal"},
    {"os_options_service_type": "object-store"}))
def test_keystone_options(options, bench, keystone_container):
    assert deliver(bench, account(keystone_container, **options)).code == 250


@pytest.mark.parametrize("options", (
    {"key": "wrong"}, {"user": "nobody"}, {"os_options_project_name": "none"},
    {"os_options_user_domain_name": "Nowhere"},
    {"os_options_region_name": "Nowhere"},
    {"os_options_service_type": "mailbox"}, {"container": "none"}))
def test_keystone_configuration_at_fault(options, bench, keystone_container):
    reply = deliver(bench, account(keystone_container, **options))
    assert str(reply) == CONFIGURATION


# TempURL.

KEY = "container-temp-key"


@pytest.fixture
def tempurl(container):
    """An account that has the container's TempURL key, no other right."""
    container.post({"X-Container-Meta-Temp-Url-Key": KEY})
    return {"recipients": "*", "container": container.name, "retries": "0",
            "auth_version": "tempurl", "temp_url_key": KEY,
            "storage_url": f"{container.swift.url}/v1/AUTH_test"}


@pytest.mark.parametrize("digest", (None, "sha1", "sha256", "sha512"))
@pytest.mark.parametrize("prefix", ("cur/", "50% a?b#/"))
def test_tempurl_key(digest, prefix, bench, container, tempurl):
    options = {**tempurl, "temp_url_digest": digest, "prefix": prefix}
    assert deliver(bench, options).code == 250
    assert container.only()[2] == MESSAGE


def test_tempurl_wrong_key(bench, container, tempurl):
    assert str(deliver(bench, {**tempurl, "temp_url_key": "wrong"})) == \
        CONFIGURATION
    assert container.names() == []


def ready_query(container, prefix="cur/", expires=None, method="PUT"):
    """As `swift tempurl --prefix-based` makes it."""
    expires = expires or int(time.time()) + 3600
    path = f"prefix:/v1/AUTH_test/{container.name}/{prefix}"
    signature = hmac.new(KEY.encode(), f"{method}\n{expires}\n{path}".encode(),
                         "sha256").hexdigest()
    return (f"temp_url_sig={signature}&temp_url_expires={expires}"
            f"&temp_url_prefix={urllib.parse.quote(prefix)}")


def test_tempurl_query(bench, container, tempurl):
    options = {**tempurl, "temp_url_key": None,
               "temp_url_query": ready_query(container)}
    assert deliver(bench, options).code == 250
    assert container.only()[2] == MESSAGE
    # Outside its prefix it can do nothing.
    assert str(deliver(bench, {**options, "prefix": "new/"})) == CONFIGURATION


def test_tempurl_query_expired(bench, container, tempurl):
    options = {**tempurl, "temp_url_key": None, "temp_url_query":
               ready_query(container, expires=int(time.time()) - 10)}
    assert str(deliver(bench, options)) == CONFIGURATION


def test_tempurl_lost_answer(bench, container, tempurl):
    """With the signature of a PUT, HEAD finds what the first try stored."""
    container.swift.fault("lost:503")
    session = bench.accept(archive={**tempurl, "retries": "1"})
    session.envelope()
    session.data(MESSAGE)
    end = time.monotonic() + 5
    while not container.names() and time.monotonic() < end:
        time.sleep(0.02)
    container.swift.fault()
    assert session.reply().code == 250
    assert container.only()[2] == MESSAGE
    session.quit()


# Faults of a real Swift.

def test_lost_answer(bench, container):
    container.swift.fault("lost:503")
    session = bench.accept(archive=account(container, retries="2"))
    session.envelope()
    session.data(MESSAGE)
    end = time.monotonic() + 5
    while not container.names() and time.monotonic() < end:
        time.sleep(0.02)
    container.swift.fault()
    reply = session.reply()
    assert reply.code == 250
    assert container.only()[0] == "cur/" + reply.text.split()[-1]
    assert container.only()[2] == MESSAGE
    session.quit()


def test_swift_down(bench, container):
    session = bench.accept(archive=account(container))
    container.swift.go_down()
    assert str(session.deliver(MESSAGE)) == DEFERRED
    container.swift.start()
    assert session.deliver(MESSAGE).code == 250
    session.quit()


def test_swift_hangs(bench, container):
    session = bench.accept(SMTP={"deadline": "2"}, archive=account(container))
    container.swift.pause()
    start = time.monotonic()
    assert str(session.deliver(MESSAGE)) == DEFERRED
    assert time.monotonic() - start < 10
    container.swift.resume()
    session.quit()


def test_token_revoked_between_messages(bench, container):
    """tempauth's tokens live in the process that is started anew."""
    session = bench.accept(archive=account(container))
    assert session.deliver(MESSAGE).code == 250
    container.swift.go_down()
    container.swift.start()
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert len(container.names()) == 2


@pytest.fixture
def limited_container(lab_folder):
    """A container in a Swift with ratelimit: two PUTs a second."""
    server = lab.Swift(f"{lab_folder}/limited-swift", ratelimit=2)
    try:
        server.start()
        container = server.container()
        # An empty one has no rate; the second forgets that it was empty.
        container.put("new/first", b"")
        container.post({})
        yield container
    finally:
        server.stop()


def test_more_mails_than_the_rate_that_swift_takes(bench, limited_container):
    """498 says that we are too many: all arrive within their deadlines."""
    sessions = [bench.accept(archive=account(limited_container,
                                             retries="2"))
                for _ in range(12)]
    for session in sessions:
        session.envelope()
        session.data(MESSAGE)
    for session in sessions:
        assert session.reply(100).code == 250
        session.quit()
    assert len(limited_container.names("cur/")) == 12
    tries = [int(session.log.one("stored")["tries"]) for session in sessions]
    assert max(tries) > 3


# Several accounts.

def test_several_accounts_in_one_mail(bench, container, keystone_container):
    second = container.swift.container()
    session = bench.accept(
        one=account(container, recipients="@one.example"),
        two=account(second, recipients="@two.example"),
        three=account(keystone_container, recipients="@three.example"))
    reply = session.deliver(MESSAGE, recipients=[
        f"{user}@{name}.example" for user in "ab"
        for name in ("one", "two", "three")])
    assert reply.code == 250
    session.quit()
    name = reply.text.split()[-1]
    names = []
    for number, place in (("one", container), ("two", second),
                          ("three", keystone_container)):
        found, _, content = place.only()
        names.append(found)
        assert content == MESSAGE
        assert objects.recipients(metadata(place)) == [
            f"a@{number}.example", f"b@{number}.example"]
    assert names[0] == "cur/" + name
    assert len(set(names)) == 3


def test_same_place_is_stored_once(bench, container):
    session = bench.accept(
        one=account(container, recipients="@one.example", prefix="one/"),
        two=account(container, recipients="@two.example", prefix="two/"))
    assert session.deliver(MESSAGE, recipients=[
        "a@two.example", "a@one.example"]).code == 250
    session.quit()
    assert container.only()[0].startswith("one/")
    assert sorted(objects.recipients(metadata(container))) == [
        "a@one.example", "a@two.example"]


def test_refused_by_the_server_behind_is_deleted(bench, container, relay):
    relay.replies["DOT"] = "550 5.7.1 Spam"
    session = bench.accept(
        SMTP={"reinject": relay.place},
        archive=account(container, recipients="box@example.com"))
    reply = session.deliver(MESSAGE, recipients=["box@example.com",
                                                 "away@example.com"])
    assert str(reply) == "550 5.7.1 Spam"
    assert container.names() == []
    session.quit()


# check.

@pytest.mark.parametrize("kind", ("container", "tls_container",
                                  "keystone_container"))
def test_check(kind, bench, request):
    container = request.getfixturevalue(kind)
    path = bench.config(archive=account(container))
    for more in ((), ("--write",)):
        done = program.run("-c", path, "check", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == 1
    assert container.names() == []


def test_check_with_a_write_only_user(bench, container):
    container.post({"X-Container-Write": "test:limited"})
    done = program.run("-c", bench.config(archive=account(
        container, user="test:limited", key="limited")), "check")
    assert done.returncode == 0
    assert "403" in done.stdout + done.stderr


def test_check_with_tempurl(bench, container, tempurl):
    path = bench.config(archive=tempurl)
    done = program.run("-c", path, "check", "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert container.names() == []
    path = bench.config(archive={**tempurl, "temp_url_key": "wrong"})
    done = program.run("-c", path, "check", "--write")
    assert done.returncode == 69
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize("options", ({"key": "wrong"}, {"container": "none"},
                                     {"authurl": "http://127.0.0.1:9/v1"}))
def test_check_fails(options, bench, container):
    path = bench.config(archive=account(container, **options))
    done = program.run("-c", path, "check")
    assert done.returncode == 69
