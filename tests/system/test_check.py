# SPDX-License-Identifier: GPL-3.0-or-later
"""`swiftdrop check` (contract, section 1), with the scripted store; against
the real one in test_swift.py."""

import re
import signal
import subprocess
import time

import pytest

import standin
from helpers import program
from standin import answer


def check(path, *arguments, **more):
    return program.run("-c", path, "check", *arguments, **more)


def line_of(done, name):
    """The one line of this account on stdout."""
    found = [line for line in done.stdout.splitlines()
             if re.search(rf"\b{name}\b", line)]
    assert len(found) == 1, done.stdout
    return found[0]


@pytest.fixture
def two(bench, store):
    """Two accounts and a default one that is none."""
    store.containers |= {"one", "two"}
    return bench.config(**{name: store.account(
        recipients=f"{name}@example.com, @{name}.example", container=name)
        for name in ("one", "two")})


def test_every_account(two, store):
    done = check(two)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    line_of(done, "one")
    line_of(done, "two")
    assert sorted(request.path.split("/")[-1]
                  for request in store.of("HEAD")) == ["one", "two"]
    assert {"PUT", "DELETE"}.isdisjoint(store.kinds())


@pytest.mark.parametrize("address", ("two@example.com", "TWO@example.com",
                                     "x@two.example", "two+tag@example.com"))
def test_only_accounts_of_the_addresses(address, two, store):
    done = check(two, address)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    line_of(done, "two")
    assert len(store.of("HEAD")) == 1


def test_sigterm_ends_it(two, store):
    """A server that never answers does not hold a timer's check for long."""
    store.always("AUTH", standin.hang)
    with subprocess.Popen([program.BINARY, "-c", two, "check"],
                          env=program.environment(),
                          stdout=subprocess.DEVNULL) as running:
        end = time.monotonic() + program.PATIENCE
        while not store.of("AUTH") and time.monotonic() < end:
            time.sleep(0.01)
        running.terminate()
        assert running.wait(5) == -signal.SIGTERM


def test_several_addresses_of_one_account(two, store):
    done = check(two, "two@example.com", "x@two.example")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1


def test_address_that_no_account_claims_is_65(two):
    done = check(two, "three@example.com")
    assert done.returncode == 65
    assert "three@example.com" in done.stderr


def test_account_that_fails_is_69_and_the_others_are_tried(two, store):
    store.containers.remove("one")
    done = check(two)
    assert done.returncode == 69
    assert "404" in done.stdout + done.stderr
    line_of(done, "one")
    line_of(done, "two")
    assert len(store.of("HEAD")) == 2


def test_wrong_password_is_69(bench, store):
    done = check(bench.config(archive=store.account(key="wrong")))
    assert done.returncode == 69
    assert "401" in done.stdout + done.stderr
    assert "wrong" not in done.stdout + done.stderr


def test_missing_right_is_a_warning(bench, store):
    store.always("HEAD", answer(403))
    done = check(bench.config(archive=store.account()))
    assert done.returncode == 0
    assert "403" in done.stdout + done.stderr
    line_of(done, "archive")


def test_tempurl_is_a_warning(bench, store):
    store.always("HEAD", answer(401))
    done = check(bench.config(archive={
        "recipients": "*", "container": "mail", "auth_version": "tempurl",
        "storage_url": store.storage_url, "temp_url_key": "keysecret"}))
    assert done.returncode == 0, done.stderr
    assert "keysecret" not in done.stdout + done.stderr
    assert store.of("AUTH") == []


@pytest.mark.parametrize("prefix", ("cur/", "", "a b/"))
def test_write(prefix, bench, store):
    done = check(bench.config(archive=store.account(prefix=prefix)),
                 "--write")
    assert done.returncode == 0, done.stderr
    kinds = [kind for kind in store.kinds() if kind != "AUTH"]
    assert kinds[-3:] == ["PUT", "HEAD", "DELETE"]
    put, = store.of("PUT")
    assert re.fullmatch(re.escape(prefix) + r"\.swiftdrop-check-\w+",
                        put.name)
    assert int(put.headers["x-delete-after"]) > 0
    assert store.requests[-2].name == store.requests[-1].name == put.name
    assert store.objects == {}


def test_write_twice_has_two_names(bench, store):
    path = bench.config(archive=store.account())
    assert check(path, "--write").returncode == 0
    assert check(path, "--write", "box@example.com").returncode == 0
    assert len({put.name for put in store.of("PUT")}) == 2


@pytest.mark.parametrize("kind, status, code", (
    ("PUT", 403, 69), ("PUT", 503, 69), ("HEAD", 404, 69),
    # Rights that a write-only user or query lacks.
    ("HEAD", 403, 0), ("DELETE", 403, 0)))
def test_write_that_fails(kind, status, code, bench, store):
    def refuse(exchange):
        if exchange.path.endswith("/mail"):
            exchange.good()
        else:
            exchange.answer(status)
    store.always(kind, refuse)
    done = check(bench.config(archive=store.account()), "--write")
    assert done.returncode == code, done.stdout + done.stderr
    assert str(status) in done.stdout + done.stderr


def test_spool_directory_is_tried(bench, store, tmp_path):
    done = check(bench.config(
        SMTP={"spool_directory": tmp_path / "none"}, archive=store.account()))
    assert done.returncode != 0
    assert str(tmp_path / "none") in done.stdout + done.stderr


def test_broken_configuration_is_78(bench):
    path = bench.config("[a]\ncolour = blue\n")
    done = check(path)
    assert done.returncode == 78
    assert done.stdout == ""
    assert str(path) in done.stderr


def test_nothing_listens(bench, store):
    done = check(bench.config(archive=store.account(
        authurl="http://127.0.0.1:9/auth/v1.0")))
    assert done.returncode == 69


def test_default_that_is_an_account(bench, store):
    done = check(bench.config(DEFAULT=store.account(),
                              other={"recipients": "o@example.com",
                                     "container": "none"}))
    assert done.returncode == 69
    line_of(done, "DEFAULT")
    line_of(done, "other")


def test_section_that_is_no_account_is_not_tried(bench, store):
    """[DEFAULT] without recipients."""
    options = store.account(recipients=None)
    done = check(bench.config(DEFAULT=options,
                              one={"recipients": "o@example.com"}))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_keystone(bench):
    with standin.Store() as store:
        done = check(bench.config(archive=store.account(
            auth_version="3", authurl=store.keystone,
            os_options_project_name="mail")))
        assert done.returncode == 0, done.stderr
        assert store.kinds() == ["AUTH", "HEAD"]


# Faults that are no account's, and where they are said.

@pytest.mark.parametrize("arguments, fault, status", (
    (("check",), "swiftdrop: {}: No such file or directory", 78),
    (("config",), "swiftdrop: {}: No such file or directory", 78),
    (("chekc",), "swiftdrop: unknown command chekc", 64)))
def test_a_fault_is_said_where_stdout_and_stderr_are_one(
        arguments, fault, status, tmp_path):
    """A pipe, as with 2>&1; systemd's journal is a socket of that kind."""
    path = tmp_path / "none.ini"
    done = subprocess.run([program.BINARY, "-c", path, *arguments],
                          text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=program.environment(), timeout=60)
    assert done.returncode == status
    assert done.stdout.startswith(fault.format(path) + "\n")


def test_a_fault_has_a_priority_in_the_journal(bench, store, tmp_path):
    """systemd takes it off the line again: sd-daemon(3)."""
    spool = tmp_path / "none"
    path = bench.config(SMTP={"spool_directory": spool},
                        good=store.account(),
                        bad=store.account(recipients="bad@example.com",
                                          container="missing"))
    path.chmod(0o644)  # readable by others: a warning
    journal = tmp_path / "journal"
    with open(journal, "w") as file:
        found = journal.stat()
        done = subprocess.run(
            [program.BINARY, "-c", path, "check"], stdin=subprocess.DEVNULL,
            stdout=file, stderr=file, timeout=60, env=program.environment({
                "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}))
    assert done.returncode == 69
    warning, good, bad, fault = journal.read_text().splitlines()
    assert warning.startswith("<4>config: ")
    assert good.startswith("good: ok, ")
    assert bad.startswith("<3>bad: failed, ")
    assert fault == (f"<3>swiftdrop: spool_directory {spool}: "
                     "No such file or directory")
