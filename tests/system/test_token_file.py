# SPDX-License-Identifier: GPL-3.0-or-later
"""The token_file that `swiftdrop login` keeps fresh (contract, sections 1 and
2): sessions use it, and never depend on it."""

import json
import os
import stat
import time

import pytest

import standin
from helpers import program
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


def stored(bench, path):
    """Stores a message in a session of its own; its log."""
    session = bench.session(path)
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


@pytest.mark.parametrize("kind", ("container", "keystone_container"))
def test_token_of_a_real_server(kind, bench, request, token_file):
    container = request.getfixturevalue(kind)
    path = logged_in(bench, {"recipients": "*", **container.options(),
                             "token_file": token_file})
    left = json.loads(token_file.read_text())["ends"] - time.time()
    assert 60 < left < 100000
    # Whoever would log in now has the wrong password.
    text = path.read_text()
    path.write_text(text.replace("\nkey = ", "\nkey = no"))
    assert stored(bench, path).lines("account") == []
    assert container.only()[2] == MESSAGE


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


def test_failed_login_leaves_the_old_file(bench, store, token_file):
    path = logged_in(bench, store.account(token_file=token_file))
    before = token_file.read_text()
    store.always("AUTH", answer(401))
    done = program.run("-c", path, "login")
    assert done.returncode == 69
    assert done.stdout.startswith("archive: failed, ")
    assert "status=401" in done.stdout
    assert token_file.read_text() == before


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
