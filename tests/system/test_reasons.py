# SPDX-License-Identifier: GPL-3.0-or-later
"""The reason of a deferred mail says what to change: which account, which
request to which host, which status and what it said (contract, section 6);
which file, which address."""

import json
import socket

import pytest

from standin import answer, endpoint

MESSAGE = b"Subject: reason\r\n\r\ntext\r\n"
UNAUTHORIZED = json.dumps({"error": {
    "code": 401, "title": "Unauthorized",
    "message": "The request you have made requires authentication."}})


def keystone(store, **options):
    return store.account(**{
        "auth_version": "3", "authurl": store.keystone, "user": "mailer",
        "os_options_project_name": "mail", **options})


def deferred(bench, account, content=MESSAGE, **smtp):
    """The pairs of the line about one message that was not stored, and its
    reason without the quotation marks."""
    session = bench.accept(SMTP=smtp, archive={**account, "recipients": "*"})
    session.envelope()
    session.data(content)
    reply = session.reply()
    assert reply.code // 100 == 4
    session.quit()
    line = session.log.one("deferred")
    assert line["dsn"] == reply.status
    return line, line["reason"].strip('"')


def host(store):
    return f"127.0.0.1:{store.port}"


def test_container_that_does_not_exist(bench, store):
    line, reason = deferred(bench, store.account(container="none"))
    assert (line["account"], line["request"], line["status"]) == (
        "archive", "PUT", "404")
    assert reason == (f"{host(store)} answered 404; container none does not "
                      "exist")


@pytest.mark.parametrize("options, user", (
    ({}, "mailer"), ({"user": None, "os_options_user_id": "u1"}, "u1"),
    ({"user": None, "key": None, "os_options_project_name": None,
      "os_options_application_credential_id": "c1",
      "os_options_application_credential_secret": "s"}, "c1")))
def test_user_whom_keystone_refuses(options, user, bench, store):
    store.always("AUTH", answer(401, UNAUTHORIZED.encode(),
                                Content_Type="application/json"))
    line, reason = deferred(bench, keystone(store, **{
        "os_options_user_domain_name": "D",
        "os_options_project_domain_name": "D", **options}))
    assert (line["request"], line["status"]) == ("POST", "401")
    assert reason == (
        f"{host(store)} answered 401: The request you have made requires "
        f"authentication.; user {user} is refused")


@pytest.mark.parametrize("options, told", (
    ({}, True), ({"os_options_user_domain_name": "D"}, True),
    ({"os_options_project_domain_id": "d"}, True),
    ({"os_options_user_domain_id": "d",
      "os_options_project_domain_name": "D"}, False),
    ({"os_options_user_domain_id": "d", "os_options_project_name": None,
      "os_options_project_id": "p"}, False),
    ({"user": None, "os_options_user_id": "u",
      "os_options_project_domain_id": "d"}, False),
    ({"os_options_application_credential_name": "n",
      "os_options_application_credential_secret": "s"}, True),
    ({"os_options_application_credential_name": "n",
      "os_options_application_credential_secret": "s",
      "os_options_user_domain_id": "d"}, False)))
def test_domain_that_was_not_set_may_be_why(options, told, bench, store):
    store.always("AUTH", answer(401))
    _, reason = deferred(bench, keystone(store, **options))
    assert reason.endswith(
        " is refused; a domain that is not set is default "
        "(os_options_user_domain_name or os_options_project_domain_name)"
        if told else " is refused")


def test_token_for_no_project(bench, store):
    store.always("AUTH", answer(201, b'{"token": {"methods": ["password"]}}',
                                X_Subject_Token="secrettoken"))
    line, reason = deferred(bench, keystone(store,
                                            os_options_project_name=None))
    assert line["dsn"] == "4.3.5"
    assert reason == (
        f"{host(store)} answered 201 with a token of no project and so without "
        "a catalog; set os_options_project_name or os_options_project_id")


def test_user_whom_version_1_refuses(bench, store):
    line, reason = deferred(bench, store.account(key="wrong"))
    assert (line["request"], line["status"]) == ("GET", "401")
    assert reason == f"{host(store)} answered 401; user test:tester is refused"


@pytest.mark.parametrize("options, words", (
    ({}, "project mail has no endpoint of type object-store and interface "
     "public in region (any)"),
    ({"os_options_project_name": None, "os_options_project_id": "p1",
      "os_options_region_name": "Two", "os_options_endpoint_type": "internal",
      "os_options_service_type": "s3"},
     "project p1 has no endpoint of type s3 and interface internal in region "
     "Two"),
))
def test_endpoint_that_the_catalog_does_not_have(options, words, bench, store):
    store.catalog = [endpoint(store.storage_url, "admin", "One")]
    line, reason = deferred(bench, keystone(store, **options))
    assert line["dsn"] == "4.3.5"
    assert reason == f"{host(store)} answered 201; the catalog of {words}"


@pytest.mark.parametrize("body", (b"<html>", b"[]", b"{}", b""))
def test_answer_that_is_not_keystones_may_pass(body, bench, store):
    store.always("AUTH", answer(200, body, X_Subject_Token="secrettoken"))
    line, _ = deferred(bench, keystone(store))
    assert line["dsn"] == "4.3.0"


def test_token_that_is_empty_is_none(bench, store):
    store.always("AUTH", answer(200, X_Storage_Url=store.storage_url,
                                X_Auth_Token=""))
    _, reason = deferred(bench, store.account())
    assert reason == f"{host(store)} answered 200 without a token"


@pytest.mark.parametrize("body, kind, shown", (
    (b"Service down, for <maintenance>\nuntil Monday", "text/plain",
     ": Service down\\054 for \\074maintenance\\076"),
    (b'{"faultstring": "no"}', "application/json",
     ": {\\042faultstring\\042: \\042no\\042}"),
    (b"x" * 200, "text/plain", ": " + "x" * 100 + "..."),
    (b"<html><h1>Not now</h1></html>", "text/html", ""),
    (b"<html>\r\n<head><title>400 No, not now</title></head>\r\n<body>",
     "text/html", ": 400 No\\054 not now"),
    (b"<title>Not", "text/html", ": Not"), (b"", "", "")))
def test_what_a_server_says_is_shown(body, kind, shown, bench, store):
    store.always("PUT", answer(503, body, Content_Type=kind))
    _, reason = deferred(bench, store.account())
    assert reason == f"{host(store)} answered 503{shown}"


@pytest.mark.parametrize("trans, told", (("", True), ("tx1", False)))
def test_limit_of_a_server_in_front_is_told_from_a_quota(trans, told, bench,
                                                         store):
    store.always("PUT", answer(413, X_Trans_Id=trans))
    line, reason = deferred(bench, store.account())
    assert line.get("trans", "") == trans
    assert line["dsn"] == "4.3.1"
    assert ("client_max_body_size" in reason) == told


@pytest.fixture
def closed():
    """An address that refuses connections while the test runs."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def test_address_that_refuses_the_connection(closed, bench, store):
    line, reason = deferred(bench, store.account(
        authurl=f"http://me:hush@{closed}/auth/v1.0"))
    assert (line["request"], line["status"]) == ("GET", "0")
    assert reason.startswith(f"{closed}: Failed to connect to 127.0.0.1 port ")
    assert "hush" not in reason


def test_server_behind_that_refuses_the_connection(closed, bench, store):
    session = bench.accept(SMTP={"reinject": closed}, archive=store.account())
    session.cmd("MAIL FROM:<>")
    assert session.cmd("RCPT TO:<other@example.org>").code == 451
    session.quit()
    assert session.log.one("deferred")["reason"] == (
        f'"{closed}: Connection refused"')


def test_server_behind_that_refuses_the_recipient(bench, store, relay):
    relay.replies["RCPT"] = "450 4.2.0 greylisted"
    session = bench.accept(SMTP={"reinject": relay.place},
                           archive=store.account())
    session.cmd("MAIL FROM:<>")
    assert session.cmd("RCPT TO:<other@example.org>").code == 450
    session.quit()
    assert session.log.one("deferred")["reason"] == (
        f'"{relay.place} answered 450 4.2.0 greylisted"')


LARGE = (b"x" * 78 + b"\r\n") * 4000


def test_spool_directory_that_is_missing(bench, store, tmp_path):
    _, reason = deferred(bench, store.account(), LARGE,
                         spool_directory=tmp_path / "none")
    assert reason == (f"spool_directory {tmp_path}/none: No such file or "
                      "directory")


def test_spool_directory_that_is_full(bench, store):
    session = bench.small_spool("64k", archive=store.account())
    session.greet()
    assert session.deliver(LARGE).code == 452
    session.quit()
    assert session.log.one("deferred")["reason"] == (
        f'"spool_directory {bench.folder}/spool: No space left on device"')


def test_answer_of_a_real_keystone(bench, keystone_container):
    """It says why; the user is ours to name."""
    options = keystone_container.options()
    line, reason = deferred(bench, {**options, "key": "wrong"})
    assert line["status"] == "401"
    assert ": The request you have made requires authentication.; user " \
        in reason
    line, reason = deferred(bench, {**options, "container": "none"})
    assert reason.endswith(" answered 404; container none does not exist")
