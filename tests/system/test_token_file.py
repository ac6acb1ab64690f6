# SPDX-License-Identifier: GPL-3.0-or-later
"""The token_file that `swiftdrop login` keeps fresh (contract, sections 1 and
2): sessions use it, and never depend on it."""

import json
import os
import stat
import time

import pytest

import lab
import standin
from helpers import program
from helpers.journal import fields, received, run_for_journal
from standin import answer

MESSAGE = b"Subject: token\r\n\r\ntext\r\n"


@pytest.fixture
def token_file(tmp_path):
    return tmp_path / "token"


def logged_in(bench, account, *names):
    """The configuration, after `swiftdrop login`."""
    path = bench.config(archive=account)
    done = program.run("-c", path, "login", *names)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return path


def real_account(container, token_file):
    return {"recipients": "*", **container.options(),
            "token_file": token_file}


def stored(bench, path, **more):
    """Stores a message in a session of its own; its log."""
    session = bench.session(path, **more)
    session.greet()
    reply = session.deliver(MESSAGE)
    session.quit()
    assert reply.code == 250, (reply, str(session.log))
    return session.log


def test_mails_need_one_login(bench, store, token_file):
    path = logged_in(bench, store.account(token_file=token_file))
    for _ in range(10):
        assert stored(bench, path).lines("account") == []
    assert store.kinds() == ["AUTH"] + ["PUT"] * 10
    assert len(store.objects) == 10


@pytest.mark.parametrize("kind, mails", (
    ("container", 20), ("keystone_container", 200),
    pytest.param("keystone_container", 1000, marks=pytest.mark.long)))
def test_one_login_at_a_real_server(kind, mails, bench, request, token_file):
    container = request.getfixturevalue(kind)
    path = logged_in(bench, real_account(container, token_file))
    left = json.loads(token_file.read_text())["ends"] - time.time()
    assert 60 < left < 100000
    # Whoever would log in now has the wrong password.
    text = path.read_text()
    path.write_text(text.replace("\nkey = ", "\nkey = no"))
    for _ in range(mails):
        assert stored(bench, path).lines("account") == []
    assert len(container.names()) == mails
    assert container.objects()[-1][2] == MESSAGE


def test_file_holds_no_secret_and_is_for_its_owner(bench, store, token_file):
    logged_in(bench, store.account(token_file=token_file))
    text = token_file.read_text()
    assert store.password not in text
    assert set(json.loads(text)) == {"token", "ends", "storage_url",
                                     "asked_with"}
    assert stat.S_IMODE(token_file.stat().st_mode) == 0o600
    assert not list(token_file.parent.glob("token.*"))


def test_login_replaces_the_file(bench, store, token_file):
    path = logged_in(bench, store.account(token_file=token_file))
    before = token_file.stat().st_ino
    done = program.run("-c", path, "login", "archive")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"archive: ok, token_file={token_file}, "
                                  "ends=20")
    assert token_file.stat().st_ino != before
    assert store.tokens[-1] in token_file.read_text()


@pytest.mark.parametrize("expires", ("99999999999999999",
                                     "9223372036854775807"))
def test_life_of_a_token_that_nobody_means(expires, bench, store, token_file):
    store.always("AUTH", lambda exchange: exchange.answer(
        200, X_Storage_Url=store.storage_url, X_Auth_Token="token",
        X_Auth_Token_Expires=expires))
    path = logged_in(bench, store.account(token_file=token_file))
    ends = json.loads(token_file.read_text())["ends"]
    assert 3000 < ends - time.time() < 3700
    assert "ends=20" in program.run("-c", path, "login").stdout


def test_failed_login_leaves_the_old_file(bench, store, token_file):
    path = logged_in(bench, store.account(token_file=token_file))
    before = token_file.read_text()
    store.always("AUTH", answer(401))
    done = program.run("-c", path, "login")
    assert done.returncode == 69
    assert done.stdout.startswith("archive: failed, ")
    assert "status=401" in done.stdout
    assert token_file.read_text() == before


def test_failed_login_is_an_entry_of_the_journal(bench, store, places,
                                                 token_file, tmp_path):
    prefix, journal, _ = places
    path = bench.config(archive=store.account(token_file=token_file, key="x"))
    assert run_for_journal(tmp_path / "journal", prefix, "-c", path,
                           "login") == (69, "")
    entry, = map(fields, received(journal))
    assert (entry["PRIORITY"], entry["ACCOUNT"], entry["TOKEN_FILE"],
            entry["REQUEST"], entry["STATUS"]) == (
                "3", "archive", str(token_file), "GET", "401")


def test_folder_that_cannot_be_written_to(bench, store, tmp_path):
    path = bench.config(archive=store.account(
        token_file=tmp_path / "none" / "token"))
    done = program.run("-c", path, "login")
    assert done.returncode == 69
    assert "No such file or directory" in done.stdout


@pytest.mark.parametrize("name", ("nobody", "plain"))
def test_login_of_what_has_no_token_file(name, bench, store):
    path = bench.config(plain=store.account())
    done = program.run("-c", path, "login", name)
    assert done.returncode == 65
    assert name in done.stderr
    assert store.requests == []
    assert program.run("-c", path, "login").returncode == 0


def test_accounts_that_share_a_file_log_in_once(bench, store, token_file):
    store.containers |= {"other"}
    path = bench.config(
        one=store.account(recipients="one@example.com",
                          token_file=token_file),
        two=store.account(recipients="two@example.com", container="other",
                          token_file=token_file))
    assert program.run("-c", path, "login").returncode == 0
    session = bench.session(path)
    session.greet()
    assert session.deliver(MESSAGE, recipients=[
        "one@example.com", "two@example.com"]).code == 250
    session.quit()
    assert store.kinds() == ["AUTH", "PUT", "PUT"]


def spoil(change):
    """A fault: the file's JSON, changed."""
    def apply(path):
        text = json.loads(path.read_text())
        change(text)
        path.write_text(json.dumps(text))
    return apply


def link(path):
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


FAULTS = {
    "is gone": os.unlink,
    "is empty": lambda path: path.write_text(""),
    "is cut short": lambda path: os.truncate(path, 50),
    "is not JSON": lambda path: path.write_text("token"),
    "is a link": link,
    "is a folder": lambda path: (path.unlink(), path.mkdir()),
    "is a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "is somebody's": lambda path: os.chown(path, 65534, 65534),
    "is writable by all": lambda path: path.chmod(0o666),
    "is writable by a group": lambda path: path.chmod(0o660),
    "has ended": spoil(lambda text: text.update(ends=int(time.time()) + 50)),
    "ended a day ago": spoil(lambda text: text.update(
        ends=int(time.time()) - 86400)),
    "has no end": spoil(lambda text: text.pop("ends")),
    "has no token": spoil(lambda text: text.pop("token")),
    "leads nowhere": spoil(lambda text: text.update(storage_url="none")),
    "was asked by another": spoil(lambda text: text["asked_with"].update(
        user="test:other")),
    "is large": lambda path: path.write_text(" " * 100000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_file_that_is_no_good(fault, bench, store, token_file):
    """The session logs in by itself, with one warning."""
    path = logged_in(bench, store.account(token_file=token_file))
    FAULTS[fault](token_file)
    log = stored(bench, path)
    warning = log.one("account")
    assert warning["account"] == "archive"
    assert warning["token_file"] == str(token_file)
    assert store.kinds() == ["AUTH", "AUTH", "PUT"]


def test_refused_token_is_asked_for_anew(bench, store, token_file):
    path = logged_in(bench, store.account(token_file=token_file))
    store.tokens.clear()
    log = stored(bench, path)
    assert "401" in log.one("account")["reason"]
    assert store.kinds() == ["AUTH", "PUT", "AUTH", "PUT"]


@pytest.mark.parametrize("key, value", (
    ("user", "test:other"), ("os_options_object_storage_url", None)))
def test_file_of_another_account(key, value, bench, store, token_file):
    logged_in(bench, store.account(token_file=token_file))
    store.users.add("test:other")
    path = bench.config(archive=store.account(
        token_file=token_file, **{key: value or store.storage_url}))
    assert "not asked" in stored(bench, path).one("account")["reason"]


FAULTY = {
    "tempurl": ("has no use with auth_version tempurl", {
        "a": {"auth_version": "tempurl", "storage_url": "http://h/v1/a",
              "temp_url_key": "k", "token_file": "/run/t"}}),
    "relative": ("must be an absolute path", {
        "a": {"auth_version": "1", "authurl": "http://h/auth", "user": "u",
              "key": "k", "token_file": "t"}}),
    "two logins": ("another login", {
        name: {"auth_version": "1", "authurl": "http://h/auth", "user": name,
               "key": "k", "token_file": "/run/t"} for name in "ab"}),
}


@pytest.mark.parametrize("case", FAULTY)
def test_configuration_that_cannot_be(case, bench):
    reason, sections = FAULTY[case]
    path = bench.config(**{
        name: {"recipients": f"{name}@example.com", "container": "c", **keys}
        for name, keys in sections.items()})
    done = program.run("-c", path, "config")
    assert done.returncode == 78
    assert "token_file: " in done.stderr
    assert reason in done.stderr


def test_end_that_nobody_tells(bench, token_file):
    """Ceph RGW sends no X-Auth-Token-Expires: an hour is taken for it."""
    with standin.Store() as store:
        logged_in(bench, store.account(token_file=token_file))
        left = json.loads(token_file.read_text())["ends"] - time.time()
        assert 3500 < left <= 3600


# What happens to a token at a real Keystone. Swift must not have seen it yet:
# it asks Keystone once in five minutes.

def token_in(path):
    return json.loads(path.read_text())["token"]


def given_a_day(path):
    """The file as it is when nobody has refreshed it for a day."""
    spoil(lambda text: text.update(ends=int(time.time()) - 86400))(path)


def test_revoked_token(bench, keystone_container, token_file):
    path = logged_in(bench, real_account(keystone_container, token_file))
    keystone_container.swift.keystone.revoke(token_in(token_file))
    log = stored(bench, path)
    assert "401" in log.one("account")["reason"]
    assert keystone_container.only()[2] == MESSAGE


def test_changed_password(bench, keystone_container, token_file):
    """The token ends with the old one; the new one is in the configuration."""
    keystone = keystone_container.swift.keystone
    old = keystone.password
    logged_in(bench, real_account(keystone_container, token_file))
    keystone.change_password(token_in(token_file), "another-password")
    try:
        path = bench.config(archive=real_account(keystone_container,
                                                 token_file))
        log = stored(bench, path)
        assert "401" in log.one("account")["reason"]
        assert keystone_container.only()[2] == MESSAGE
        assert program.run("-c", path, "login").returncode == 0
        assert stored(bench, path).lines("account") == []
    finally:
        assert program.run("-c", path, "login").returncode == 0
        keystone.change_password(token_in(token_file), old)


def test_nobody_logs_in_for_a_day(bench, keystone_container, token_file):
    path = logged_in(bench, real_account(keystone_container, token_file))
    keystone_container.swift.keystone.revoke(token_in(token_file))
    given_a_day(token_file)
    for _ in range(5):
        warning = stored(bench, path).one("account")
        assert warning["reason"] == '"holds a token that has ended"'
    assert len(keystone_container.names()) == 5
    # And then somebody does.
    assert program.run("-c", path, "login").returncode == 0
    assert stored(bench, path).lines("account") == []


SHORT_S = 3


@pytest.fixture(scope="module")
def forgetful_swift(lab_folder):
    """A Swift whose Keystone gives tokens for SHORT_S."""
    server = lab.Swift(f"{lab_folder}/forgetful", keystone=True,
                       token_life=SHORT_S)
    try:
        server.start()
        yield server
    finally:
        server.stop()


# Seconds that our clock is ahead, the warning about a token that has ended,
# and about one that has not.
CLOCKS = {
    "right": (0, "has ended", None),
    "an hour ahead": (3600, "has ended", "has ended"),
    "an hour behind": (-3600, "was refused (401)", None),
}


def by_clock(off_s):
    """The prefix of a program whose clock is so many seconds off."""
    return ("env", "LD_PRELOAD=/usr/$LIB/faketime/libfaketime.so.1",
            f"FAKETIME={off_s:+d}", "FAKETIME_DONT_FAKE_MONOTONIC=1")


def warned(log):
    """The reason in the only warning, or None where there is none."""
    return log.one("account")["reason"] if log.lines("account") else None


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("ended", (True, False))
def test_token_and_clock(ended, clock, bench, request, token_file):
    if ended:
        container = request.getfixturevalue("forgetful_swift").container()
    else:
        container = request.getfixturevalue("keystone_container")
    off_s, of_ended, of_good = CLOCKS[clock]
    path = logged_in(bench, real_account(container, token_file))
    ends = json.loads(token_file.read_text())["ends"]
    if ended:
        time.sleep(max(0, ends + 1 - time.time()))
    reason = warned(stored(bench, path, prefix=by_clock(off_s)))
    expected = of_ended if ended else of_good
    assert (reason is None) == (expected is None)
    assert expected is None or expected in reason
    name, _, content = container.only()
    assert content == MESSAGE
    told = int(name.removeprefix("cur/").partition(".")[0])
    assert abs(told - off_s - time.time()) < 60
