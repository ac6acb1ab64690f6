# SPDX-License-Identifier: GPL-3.0-or-later
"""Storing in a real Swift, with tempauth and a real Keystone, over HTTPS, and
while it fails; what each store can do is in test_stores.py."""

import time

import pytest

from helpers import objects, program
from helpers.stores import (CONFIGURATION, DEFERRED, MESSAGE, account, deliver,
                            is_stored, metadata)


# The object.

@pytest.mark.parametrize("kind", ("tls_container", "keystone_container"))
def test_object(kind, bench, request):
    container = request.getfixturevalue(kind)
    assert is_stored(container, deliver(bench, account(container)))


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


# Faults of a real Swift.

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

@pytest.mark.parametrize("kind", ("tls_container", "keystone_container"))
def test_check(kind, bench, request):
    container = request.getfixturevalue(kind)
    path = bench.config(archive=account(container))
    for more in ((), ("--write",)):
        done = program.run("-c", path, "check", *more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert len(done.stdout.splitlines()) == 1
    assert container.names() == []


