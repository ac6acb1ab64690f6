# SPDX-License-Identifier: GPL-3.0-or-later
"""Authentication as it is asked for (the account keys of contract, section
2), with the scripted store; the real servers are in test_swift.py."""

import hashlib
import hmac
import json
import time
import urllib.parse

import pytest

import standin
from standin import answer, endpoint

MESSAGE = b"Subject: auth\r\n\r\ntext\r\n"
CONFIGURATION = "451 4.3.5 Error: mail system configuration error"
TEMPORARY = "451 4.3.0 Error: queue file write error"


def keystone(store, **options):
    """An account that asks the scripted Keystone."""
    return store.account(**{
        "auth_version": "3", "authurl": store.keystone, "user": "mailer",
        "os_options_project_name": "mail",
        "os_options_user_domain_id": "default",
        "os_options_project_domain_id": "default", **options})


def asked(bench, store, **options):
    """Stores a message; the body of the authentication request."""
    session = bench.accept(archive=options)
    reply = session.deliver(MESSAGE)
    assert reply.code == 250, (reply, str(session.log))
    request, = store.of("AUTH")
    assert request.method == "POST"
    assert request.target == "/v3/auth/tokens"
    assert request.headers["content-type"].startswith("application/json")
    put, = store.of("PUT")
    assert put.headers["x-auth-token"] == store.tokens[0]
    session.quit()
    return json.loads(request.read())["auth"]


def test_version_1(bench, store):
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == 250
    request, = store.of("AUTH")
    assert (request.method, request.target) == ("GET", "/auth/v1.0")
    assert request.headers["x-auth-user"] == store.user
    assert request.headers["x-auth-key"] == store.password
    session.quit()


@pytest.mark.parametrize("version", ("1", "1.0"))
def test_spelling_of_version_1(version, bench, store):
    session = bench.accept(archive=store.account(auth_version=version))
    assert session.deliver(MESSAGE).code == 250
    session.quit()


def test_version_1_ignores_the_tenant(bench, store):
    session = bench.accept(archive=store.account(
        tenant_name="t", os_options_project_name=None))
    assert session.deliver(MESSAGE).code == 250
    request, = store.of("AUTH")
    assert request.headers["x-auth-user"] == store.user
    session.quit()


def test_version_1_with_object_storage_url(bench, store):
    url = f"{store.url}/v1/AUTH_other"
    session = bench.accept(archive=store.account(
        os_options_object_storage_url=url))
    assert session.deliver(MESSAGE).code == 250
    assert store.of("PUT")[0].path.startswith("/v1/AUTH_other/mail/cur/")
    session.quit()


@pytest.mark.parametrize("version", ("3", "3.0", None))
def test_password_in_a_project(version, bench, store):
    auth = asked(bench, store, **keystone(store, auth_version=version))
    assert auth == {
        "identity": {"methods": ["password"], "password": {"user": {
            "name": "mailer", "domain": {"id": "default"},
            "password": store.password}}},
        "scope": {"project": {"name": "mail", "domain": {"id": "default"}}}}


def test_domain_names(bench, store):
    auth = asked(bench, store, **keystone(
        store, os_options_user_domain_id=None,
        os_options_project_domain_id=None,
        os_options_user_domain_name="Users",
        os_options_project_domain_name="Projects"))
    user = auth["identity"]["password"]["user"]
    assert user["domain"] == {"name": "Users"}
    assert auth["scope"]["project"] == {"name": "mail",
                                        "domain": {"name": "Projects"}}


def test_user_id(bench, store):
    auth = asked(bench, store, **keystone(
        store, user=None, os_options_user_id="u123",
        os_options_user_domain_id=None))
    assert auth["identity"]["password"]["user"] == {
        "id": "u123", "password": store.password}


@pytest.mark.parametrize("option", ("os_options_project_id",
                                    "os_options_tenant_id"))
def test_project_id(option, bench, store):
    auth = asked(bench, store, **keystone(
        store, os_options_project_name=None,
        os_options_project_domain_id=None, **{option: "p123"}))
    assert auth["scope"] == {"project": {"id": "p123"}}


@pytest.mark.parametrize("option", ("tenant_name", "os_options_tenant_name"))
def test_tenant_name_is_the_project_name(option, bench, store):
    auth = asked(bench, store, **keystone(
        store, os_options_project_name=None, **{option: "mail2"}))
    assert auth["scope"]["project"]["name"] == "mail2"


def test_application_credential_has_no_scope(bench, store):
    auth = asked(bench, store, **keystone(
        store, user=None, key=None, os_options_project_name=None,
        os_options_user_domain_id=None, os_options_project_domain_id=None,
        os_options_application_credential_id="ac123",
        os_options_application_credential_secret="acsecret"))
    assert auth == {"identity": {
        "methods": ["application_credential"],
        "application_credential": {"id": "ac123", "secret": "acsecret"}}}


@pytest.mark.parametrize("options, user", (
    ({}, {"name": "mailer", "domain": {"id": "default"}}),
    ({"os_options_user_domain_id": None, "os_options_user_domain_name": "D"},
     {"name": "mailer", "domain": {"name": "D"}}),
    ({"user": "mail:mailer"},
     {"name": "mail:mailer", "domain": {"id": "default"}}),
    ({"user": None, "os_options_user_id": "u123"}, {"id": "u123"})))
def test_application_credential_by_name(options, user, bench, store):
    auth = asked(bench, store, **keystone(store, **{
        "key": None, "os_options_application_credential_name": "swiftdrop",
        "os_options_application_credential_secret": "acsecret", **options}))
    assert auth == {"identity": {
        "methods": ["application_credential"],
        "application_credential": {
            "name": "swiftdrop", "user": user, "secret": "acsecret"}}}


@pytest.mark.parametrize("options, project", (
    ({"os_options_project_name": None}, "acme"),
    ({"os_options_project_name": None, "tenant_name": "mail2"}, "acme"),
    ({}, "mail")))
def test_tenant_and_user_in_one(options, project, bench, store):
    auth = asked(bench, store, **keystone(store, user="acme:mailer",
                                          **options))
    assert auth["identity"]["password"]["user"]["name"] == "mailer"
    assert auth["scope"]["project"]["name"] == project


def test_json_is_escaped(bench, store):
    auth = asked(bench, store, **keystone(
        store, user='m"a\\i{l}er ü', os_options_project_name='p"'))
    user = auth["identity"]["password"]["user"]
    assert user["name"] == 'm"a\\i{l}er ü'
    assert auth["scope"]["project"]["name"] == 'p"'


def test_authurl_with_a_final_slash(bench, store):
    asked(bench, store, **keystone(store, authurl=store.keystone + "/"))


# The catalog.

def catalog(store):
    """Several services, regions and interfaces; the account in each URL
    says which it is."""
    def url(account):
        return f"{store.url}/v1/{account}"
    swift = endpoint(url("one-public"), "public", "One")
    swift["endpoints"] = [
        found for region in ("One", "Two")
        for interface in ("admin", "internal", "public")
        for found in endpoint(url(f"{region.lower()}-{interface}"), interface,
                              region)["endpoints"]]
    return [endpoint(url("volume"), service="volume"), swift,
            endpoint(url("rgw"), service="object-store-2")]


@pytest.mark.parametrize("options, account", (
    ({}, "one-public"),
    ({"region_name": "One"}, "one-public"),
    ({"region_name": "Two"}, "two-public"),
    ({"endpoint_type": "internal"}, "one-internal"),
    ({"endpoint_type": "admin", "region_name": "Two"}, "two-admin"),
    ({"service_type": "object-store-2"}, "rgw"),
    ({"object_storage_url": "{}/v1/own"}, "own"),
    ({"object_storage_url": "{}/v1/own", "region_name": "Nowhere"}, "own"),
    ({"object_storage_url": "{}/v1/own/"}, "own")))
def test_endpoint(options, account, bench, store):
    store.catalog = catalog(store)
    asked(bench, store, **keystone(store, **{
        "os_options_" + name: value.format(store.url)
        for name, value in options.items()}))
    assert store.of("PUT")[0].path.startswith(f"/v1/{account}/mail/cur/")


@pytest.mark.parametrize("options", ({"region_name": "Nowhere"},
                                     {"service_type": "object"},
                                     {"region_name": "one"}))
def test_no_matching_endpoint_is_configuration(options, bench, store):
    store.catalog = catalog(store)
    session = bench.accept(archive=keystone(store, **{
        "os_options_" + name: value for name, value in options.items()}))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    assert store.of("PUT") == []
    session.quit()


# A token that leads nowhere is ours to mend, what is no token may pass.
NOWHERE = ("endpoints are null", "url is a number", "no catalog")
BODIES = {
    "empty": b"", "no json": b"<html>", "list": b"[]", "null": b"null",
    "no catalog": b'{"token": {}}', "no token": b"{}", "token is a number": b'{"token": 1}',
    "catalog is a string": b'{"token": {"catalog": "x"}}',
    "endpoints are null":
        b'{"token": {"catalog": [{"type": "object-store", '
        b'"endpoints": null}]}}',
    "url is a number":
        b'{"token": {"catalog": [{"type": "object-store", "endpoints": '
        b'[{"interface": "public", "url": 5}]}]}}',
    "deep": b"[" * 100000,
    "large": b'{"token": "' + b"x" * (32 << 20) + b'"}',
    "not utf-8": b'{"token": {"catalog": "\xff\xfe"}}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_body_that_is_no_token(kind, bench, store):
    store.always("AUTH", lambda exchange: exchange.answer(
        201, BODIES[kind], X_Subject_Token="secrettoken"))
    session = bench.accept(archive=keystone(store))
    assert str(session.deliver(MESSAGE)) == (
        CONFIGURATION if kind in NOWHERE else TEMPORARY)
    assert store.of("PUT") == []
    session.quit()


def test_answer_without_a_subject_token(bench, store):
    store.always("AUTH", lambda exchange: exchange.answer(
        201, json.dumps({"token": {"catalog": [
            endpoint(store.storage_url)]}}).encode()))
    session = bench.accept(archive=keystone(store))
    assert session.deliver(MESSAGE).code == 451
    assert store.of("PUT") == []
    session.quit()


# TempURL.

def tempurl(store, **options):
    return {"recipients": "box@example.com", "container": "mail",
            "auth_version": "tempurl", "storage_url": store.storage_url,
            "temp_url_key": "keysecret", "retries": "0", **options}


def signed(request, digest):
    """True when the request's query is what Swift's tempurl wants."""
    query = dict(urllib.parse.parse_qsl(request.query))
    path = urllib.parse.unquote(request.target.partition("?")[0])
    expires = query["temp_url_expires"]
    assert time.time() < int(expires) < time.time() + 7 * 86400
    # A signature for PUT permits HEAD as well.
    methods = [request.method] + ["PUT"] * (request.method == "HEAD")
    return query["temp_url_sig"] in [
        hmac.new(b"keysecret", f"{method}\n{expires}\n{path}".encode(),
                 digest).hexdigest() for method in methods]


@pytest.mark.parametrize("digest", (None, "sha1", "sha256", "sha512"))
def test_tempurl_signs_each_request(digest, bench, store):
    store.containers |= {"a b%"}
    store.once("PUT", standin.lost)
    session = bench.accept(archive=tempurl(
        store, temp_url_digest=digest, container="a b%", prefix="x y?/",
        retries="1"))
    assert session.deliver(MESSAGE).code == 250
    assert store.kinds() == ["PUT", "PUT", "HEAD"]
    for request in store.requests:
        assert signed(request, getattr(hashlib, digest or "sha256"))
        assert "x-auth-token" not in request.headers
    session.quit()


def test_tempurl_delete_is_signed(bench, store, relay):
    relay.replies["DOT"] = "554 5.7.1 No"
    session = bench.accept(SMTP={"reinject": relay.place},
                           archive=tempurl(store))
    reply = session.deliver(MESSAGE, recipients=["box@example.com",
                                                 "else@example.com"])
    assert str(reply) == "554 5.7.1 No"
    request, = store.of("DELETE")
    assert signed(request, hashlib.sha256)
    assert store.objects == {}
    session.quit()


def test_tempurl_query_is_sent_as_it_is(bench, store):
    query = ("temp_url_sig=00ff&temp_url_expires=1999999999&"
             "temp_url_prefix=cur/")
    session = bench.accept(archive=tempurl(
        store, temp_url_key=None, temp_url_query=query))
    assert session.deliver(MESSAGE).code == 250
    request, = store.requests
    assert urllib.parse.unquote(request.query) == query
    session.quit()


def test_tempurl_refused_is_configuration(bench, store):
    store.always("PUT", answer(401))
    session = bench.accept(archive=tempurl(store, retries="2"))
    assert str(session.deliver(MESSAGE)) == CONFIGURATION
    assert set(store.kinds()) == {"PUT"}
    session.quit()


def test_tempurl_never_in_the_log(bench, store):
    store.always("PUT", answer(503))
    session = bench.accept(archive=tempurl(store))
    assert session.deliver(MESSAGE).code == 451
    session.quit()
    for secret in ("temp_url_sig", "temp_url_expires", "keysecret"):
        assert secret not in str(session.log)


# Secrets.

@pytest.mark.parametrize("kind, secret", (
    ("v1", "key"), ("keystone", "key"),
    ("keystone", "os_options_application_credential_secret"),
    ("tempurl", "temp_url_key"), ("tempurl", "temp_url_query")))
def test_a_session_shows_no_secret(kind, secret, bench, store, tmp_path):
    """Neither in the log, of a success or a failure, nor in proc(5)."""
    value = {"key": store.password,
             "temp_url_query": "temp_url_sig=00ff&temp_url_expires=1999999999"
             }.get(secret, "keysecret")
    options = {"v1": store.account, "keystone": lambda: keystone(store),
               "tempurl": lambda: tempurl(store, temp_url_key=None)}[kind]()
    if "credential" in secret:
        options.update(user=None, key=None, os_options_project_name=None,
                       os_options_user_domain_id=None,
                       os_options_project_domain_id=None,
                       os_options_application_credential_id="ac123")
    options[secret] = value
    store.once("PUT", answer(401), answer(503), answer(503))
    session = bench.session(
        arguments=("-c", tmp_path / "none.ini"),
        env={"SWIFTDROP_SMTP_LOG": "stderr",
             **{f"SWIFTDROP_ARCHIVE_{name.upper()}": text
                for name, text in options.items() if text is not None}})
    session.greet()
    assert [session.deliver(MESSAGE).code for _ in range(4)][-1] == 250
    folder = f"/proc/{session.process.pid}"
    with open(f"{folder}/environ", "rb") as environ, \
            open(f"{folder}/cmdline", "rb") as cmdline:
        seen = str(session.log).encode() + environ.read() + cmdline.read()
    assert b"deferred: " in seen and b"stored: " in seen
    assert b"SWIFTDROP_" not in seen
    for hidden in (value, "00ff", "secrettoken"):
        assert hidden.encode() not in seen
    session.quit()
