# SPDX-License-Identifier: GPL-3.0-or-later
"""The same in each store that is known: the account keys of contract, section
2, and the object of section 4. Where a store differs from Swift it says so in
tests/lab, in the table of its class."""

import base64
import email.utils
import hashlib
import hmac
import json
import pathlib
import re
import time
import urllib.parse
import urllib.request

import pytest
import swiftclient

import test_readme
from helpers import objects, program
from helpers.stores import (CONFIGURATION, DEFERRED, FULL, MESSAGE, account,
                            deliver, is_stored, metadata)

story = test_readme.story


def new_container(request, store):
    store = request.getfixturevalue(store)
    yield store.container()
    store.restore()


@pytest.fixture(params=("swift", "cloud", "ceph"))
def container(request):
    """An empty container in each store."""
    yield from new_container(request, request.param)


@pytest.fixture(params=("swift", "cloud", "ceph", "keystone_swift",
                        "keystone_ceph"))
def any_container(request):
    """The same, and behind Keystone."""
    yield from new_container(request, request.param)


@pytest.fixture(params=("swift", "cloud"))
def swift_container(request):
    """The same where it is a Swift, which fails as it is told."""
    yield from new_container(request, request.param)


@pytest.fixture
def cloud_container(request):
    yield from new_container(request, "cloud")


# The object.

def test_object(bench, any_container):
    assert is_stored(any_container, deliver(bench, account(any_container)))


def test_object_by_an_application_credential(bench, keystone_ceph):
    container = keystone_ceph.container()
    options = {"recipients": "*", "container": container.name,
               "authurl": keystone_ceph.authurl,
               **keystone_ceph.keystone.application_credential_options()}
    assert is_stored(container, deliver(bench, options))


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
    found = [container.metadata(name)["fingerprint"]
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
def test_prefix(prefix, bench, any_container):
    assert deliver(bench, account(any_container, prefix=prefix)).code == 250
    assert any_container.only()[0].startswith(
        prefix + str(int(time.time()))[:6])


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
    {"user": "limited", "key": "limited"}))
def test_configuration_at_fault(options, bench, container):
    if options.get("user") == "limited":
        options = {**options, "user": container.swift.limited_user}
    assert str(deliver(bench, account(container, **options))) == CONFIGURATION
    assert container.names() == []


def test_right_to_write_only(bench, container):
    """A user that a container's ACL lets write, and nothing else."""
    store = container.swift
    container.post({"X-Container-Write": store.limited_grant})
    assert deliver(bench, account(container, user=store.limited_user,
                                  key="limited")).code == 250
    if not store.owner_reads_what_others_write:
        with pytest.raises(swiftclient.ClientException) as caught:
            container.only()
        assert caught.value.http_status == 403
        container.post({"X-Container-Read": store.user.partition(":")[0]})
    assert container.only()[2] == MESSAGE


@pytest.mark.parametrize("path", ("auth", "auth/", "auth/1.0", "auth/v1.0/"))
def test_authurl_of_the_gateway(path, bench, ceph):
    container = ceph.container()
    assert is_stored(container, deliver(bench, account(
        container, authurl=f"{ceph.url}/{path}")))


def test_users_of_the_gateway(bench, story, ceph):
    """By the README: the filter may write, and what it writes is its user's,
    so that the reader can read it."""
    said = ceph.administer(
        story.take("README.md", "radosgw-admin user create").text)
    keys = dict(re.findall(
        r'"user": "(mail:\w+)",\s*"secret_key": "(\w+)"', said))
    key = keys["mail:filter"]
    container = ceph.container("mail:reader", keys["mail:reader"])
    options = account(container, user="mail:filter", key=key)
    assert is_stored(container, deliver(bench, options))
    with pytest.raises(swiftclient.ClientException) as caught:
        ceph.connection("mail:filter", key).get_object(container.name,
                                                       container.names()[0])
    assert caught.value.http_status == 403
    done = program.run("-c", bench.config(archive=options), "check", "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: no right to look at the container (403)" in done.stdout


def test_quota(bench, container):
    container.post({"X-Container-Meta-Quota-Bytes": str(len(MESSAGE) - 1)})
    assert str(deliver(bench, account(container))) == FULL
    container.post({"X-Container-Meta-Quota-Bytes": str(len(MESSAGE))})
    assert deliver(bench, account(container)).code == 250


def test_token_file(bench, container, tmp_path):
    options = account(container, token_file=tmp_path / "token")
    before = time.time()
    done = program.run("-c", bench.config(archive=options), "login")
    assert done.returncode == 0, done.stdout + done.stderr
    ends = json.loads((tmp_path / "token").read_text())["ends"]
    # tempauth hands out the token that it has, which is as old as the run.
    assert -1800 < ends - before - container.swift.token_life_s < 60
    # It is this token that stores, not the password.
    assert is_stored(container, deliver(bench, {**options, "key": "wrong"}))


# TempURL.

KEY = "a-temp-url-key"


@pytest.fixture
def tempurl(container):
    """An account that has the TempURL key of the container, or of the store's
    account, and no other right."""
    store = container.swift
    if store.has_container_temp_url_keys:
        container.post({"X-Container-Meta-Temp-Url-Key": KEY})
    else:
        store.connection().post_account({"X-Account-Meta-Temp-Url-Key": KEY})
    return {"recipients": "*", "container": container.name, "retries": "0",
            "auth_version": "tempurl", "temp_url_key": KEY,
            "temp_url_digest": store.temp_url_digests[0],
            "storage_url": store.storage_url}


@pytest.mark.parametrize("digest", ("sha1", "sha256", "sha512"))
@pytest.mark.parametrize("prefix", ("cur/", "50% a?b#/"))
def test_tempurl_key(digest, prefix, bench, container, tempurl):
    reply = deliver(bench, {**tempurl, "temp_url_digest": digest,
                            "prefix": prefix})
    if digest in container.swift.temp_url_digests:
        assert reply.code == 250
        assert container.only()[2] == MESSAGE
    else:
        assert str(reply) == CONFIGURATION
        assert container.names() == []


def test_tempurl_key_of_a_container(bench, container, tempurl):
    container.post({"X-Container-Meta-Temp-Url-Key": "the container's own"})
    reply = deliver(bench, {**tempurl, "temp_url_key": "the container's own"})
    if container.swift.has_container_temp_url_keys:
        assert reply.code == 250
    else:
        assert str(reply) == CONFIGURATION


def test_tempurl_key_of_an_account_of_keystone(bench, keystone_ceph):
    """The storage URL is the one in the catalog."""
    container = keystone_ceph.container()
    owner = keystone_ceph.connection()
    owner.post_account({"X-Account-Meta-Temp-Url-Key": KEY})
    options = {"recipients": "*", "container": container.name, "retries": "0",
               "auth_version": "tempurl", "temp_url_key": KEY,
               "temp_url_digest": keystone_ceph.temp_url_digests[0],
               "storage_url": owner.get_auth()[0]}
    assert deliver(bench, options).code == 250
    assert container.only()[2] == MESSAGE
    assert str(deliver(bench, {**options, "temp_url_key": "wrong"})) == \
        CONFIGURATION


def test_tempurl_wrong_key(bench, container, tempurl):
    assert str(deliver(bench, {**tempurl, "temp_url_key": "wrong"})) == \
        CONFIGURATION
    assert container.names() == []


def ready_query(container, prefix="cur/", expires=None):
    """As `swift tempurl --prefix-based` makes it."""
    store = container.swift
    expires = expires or int(time.time()) + 3600
    path = urllib.parse.urlsplit(store.storage_url).path
    text = f"PUT\n{expires}\nprefix:{path}/{container.name}/{prefix}"
    signature = hmac.new(KEY.encode(), text.encode(),
                         store.temp_url_digests[0]).hexdigest()
    return (f"temp_url_sig={signature}&temp_url_expires={expires}"
            f"&temp_url_prefix={urllib.parse.quote(prefix)}")


def test_tempurl_query(bench, container, tempurl):
    options = {**tempurl, "temp_url_key": None, "temp_url_digest": None,
               "temp_url_query": ready_query(container)}
    assert deliver(bench, options).code == 250
    assert container.only()[2] == MESSAGE
    # Outside its prefix it can do nothing.
    assert str(deliver(bench, {**options, "prefix": "new/"})) == CONFIGURATION


def test_tempurl_query_expired(bench, container, tempurl):
    options = {**tempurl, "temp_url_key": None, "temp_url_digest": None, "temp_url_query":
               ready_query(container, expires=int(time.time()) - 10)}
    assert str(deliver(bench, options)) == CONFIGURATION


# An answer that is lost, and If-None-Match.

def deliver_twice(bench, options, container):
    """The reply to a message whose first PUT arrives, but not its answer."""
    container.swift.fault("lost:503")
    session = bench.accept(archive=options)
    session.envelope()
    session.data(MESSAGE)
    end = time.monotonic() + 5
    while not container.names() and time.monotonic() < end:
        time.sleep(0.02)
    container.swift.fault()
    reply = session.reply()
    session.quit()
    return reply


@pytest.mark.parametrize("quoted", (False, True))
@pytest.mark.parametrize("tempurl", (False, True))
def test_lost_answer(tempurl, quoted, bench, swift_container):
    """The second try is answered 412; HEAD, also with the signature of a PUT,
    finds what the first one stored: the ETag is that of the mail, even where
    the store encrypts it."""
    swift_container.post({"X-Container-Meta-Temp-Url-Key": KEY,
                          "X-Container-Rfc-Compliant-Etags": str(quoted)})
    options = account(swift_container, retries="2")
    if tempurl:
        options = {"recipients": "*", "container": swift_container.name,
                   "auth_version": "tempurl", "temp_url_key": KEY,
                   "storage_url": swift_container.swift.storage_url}
    assert is_stored(swift_container, deliver_twice(bench, options,
                                                    swift_container))


# What a cloud has in its pipeline.

def test_etag_is_quoted(bench, cloud_container):
    cloud_container.post({"X-Container-Rfc-Compliant-Etags": "true"})
    assert is_stored(cloud_container, deliver(bench, account(cloud_container)))
    etag = hashlib.md5(MESSAGE).hexdigest()
    assert cloud_container.only()[1]["etag"] == f'"{etag}"'
    done = program.run("-c", bench.config(archive=account(cloud_container)),
                       "check", "--write")
    assert done.returncode == 0, done.stdout + done.stderr


def test_object_is_encrypted(bench, swift_container):
    """What lies on the disk is not what comes back."""
    marked = hashlib.sha256(swift_container.name.encode()).hexdigest()
    message = MESSAGE + marked.encode() + b"\r\n"
    assert deliver(bench, account(swift_container), message).code == 250
    assert swift_container.only()[2] == message
    store = swift_container.swift
    on_disk = any(marked.encode() in path.read_bytes() for path in
                  pathlib.Path(store.folder, "devices").glob("**/*.data"))
    assert on_disk != store.encrypts


def test_account_quota(bench, cloud):
    options = {**account(cloud.container("full:tester")),
               "user": "full:tester"}
    operator = cloud.connection("other:operator")
    operator.get_auth()
    operator.url = f"{cloud.url}/v1/AUTH_full"
    operator.post_account({"X-Account-Meta-Quota-Bytes": "1"})
    assert str(deliver(bench, options)) == FULL
    operator.post_account({"X-Account-Meta-Quota-Bytes": "100000"})
    assert deliver(bench, options).code == 250


def test_account_that_is_read_only(bench, cloud):
    """405, of which the contract says nothing: it may pass."""
    container = cloud.container("frozen:tester")
    options = {**account(container), "user": "frozen:tester"}
    cloud.freeze("frozen:tester")
    assert str(deliver(bench, options)) == DEFERRED
    assert container.names() == []


def test_name_that_the_store_forbids(bench, cloud_container):
    options = account(cloud_container, prefix="<new>/")
    assert str(deliver(bench, options)) == CONFIGURATION
    assert cloud_container.names() == []


@pytest.mark.parametrize("header, left", (
    ("X-Versions-Enabled", 0), ("X-History-Location", 0),
    ("X-Versions-Location", 1)))
def test_container_with_versions(header, left, bench, cloud_container):
    """A second try makes no second object. Where a DELETE brings back the
    version before, that may be one kept for a PUT that was answered 412."""
    versions = cloud_container.swift.container()
    cloud_container.post({header: "true" if header.endswith("Enabled")
                          else versions.name})
    options = account(cloud_container)
    done = program.run("-c", bench.config(archive=options), "check", "--write")
    assert done.stdout == f"archive: ok, container={cloud_container.name}\n"
    probes = cloud_container.names()
    assert len(probes) == left
    for name in probes:
        assert "x-delete-at" in cloud_container.head(name)
        cloud_container.delete(name)
    assert is_stored(cloud_container, deliver_twice(
        bench, {**options, "retries": "2"}, cloud_container))


def test_object_by_s3(bench, cloud_container):
    assert deliver(bench, account(cloud_container)).code == 250
    store = cloud_container.swift
    name = urllib.parse.quote(cloud_container.only()[0])
    path = f"/{cloud_container.name}/{name}"
    date = email.utils.formatdate(usegmt=True)
    signature = base64.b64encode(hmac.digest(
        store.key.encode(), f"GET\n\n\n{date}\n{path}".encode(), "sha1"))
    request = urllib.request.Request(store.url + path, headers={
        "Date": date,
        "Authorization": f"AWS {store.user}:{signature.decode()}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == MESSAGE
        assert answer.headers["x-amz-meta-envelope-from"] == "from@example.org"


def test_more_mails_than_the_rate_that_swift_takes(bench, cloud_container):
    """498 says that we are too many: all arrive within their deadlines."""
    for number in range(10):
        cloud_container.put(f"new/{number}", b"")
    cloud_container.post({})    # makes Swift forget that it was empty
    sessions = [bench.accept(archive=account(cloud_container, retries="2"))
                for _ in range(12)]
    for session in sessions:
        session.envelope()
        session.data(MESSAGE)
    for session in sessions:
        assert session.reply(100).code == 250
        session.quit()
    assert len(cloud_container.names("cur/")) == 12
    tries = [int(session.log.one("stored")["tries"]) for session in sessions]
    assert max(tries) > 3


# check.

def test_check(bench, any_container):
    """Where If-None-Match counts for nothing it says so, and is content."""
    path = bench.config(archive=account(any_container))
    done = program.run("-c", path, "check")
    assert done.stdout == f"archive: ok, container={any_container.name}\n"
    done = program.run("-c", path, "check", "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert ("warning: If-None-Match is ignored" in done.stdout) != \
        any_container.swift.honours_if_none_match
    assert any_container.names() == []


def test_check_with_a_write_only_user(bench, container):
    store = container.swift
    container.post({"X-Container-Write": store.limited_grant})
    done = program.run("-c", bench.config(archive=account(
        container, user=store.limited_user, key="limited")), "check")
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
