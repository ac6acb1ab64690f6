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
from helpers.journal import fields, received, run_for_journal
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
    assert kinds == ["HEAD", "PUT", "PUT", "HEAD", "DELETE"]
    put, again = store.of("PUT")
    assert (put.status, again.status) == (201, 412)
    assert put.name == again.name
    assert re.fullmatch(re.escape(prefix) + r"\.swiftdrop-check-\w+",
                        put.name)
    assert int(put.headers["x-delete-after"]) > 0
    assert store.requests[-2].name == store.requests[-1].name == put.name
    assert store.objects == {}


def test_store_that_ignores_if_none_match_is_a_warning(bench, store):
    path = bench.config(archive=store.account())
    words = "warning: If-None-Match is ignored"
    assert words not in line_of(check(path, "--write"), "archive")
    store.ignores_if_none_match = True
    done = check(path, "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in line_of(done, "archive")
    assert store.objects == {}


@pytest.mark.parametrize("second", (answer(503), answer(401), standin.drop))
def test_second_put_that_fails_says_nothing(second, bench, store):
    store.once("PUT", lambda exchange: exchange.good(), second)
    done = check(bench.config(archive=store.account()), "--write")
    assert done.returncode == 0, done.stdout + done.stderr
    assert line_of(done, "archive") == "archive: ok, container=mail"
    assert store.objects == {}


def test_write_twice_has_two_names(bench, store):
    path = bench.config(archive=store.account())
    assert check(path, "--write").returncode == 0
    assert check(path, "--write", "box@example.com").returncode == 0
    assert len(store.of("PUT")) == 4
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


def test_warning_is_not_lost_when_the_probe_fails(bench, store):
    store.always("HEAD", answer(403))
    store.always("PUT", answer(403))
    done = check(bench.config(archive=store.account()), "--write")
    assert done.returncode == 69
    line = line_of(done, "archive")
    assert "failed" in line and "request=PUT" in line
    assert "warning: no right to look at the container (403)" in line


@pytest.mark.parametrize("octets", (0, 5, 28, 1000, 300000))
def test_write_of_a_size(octets, bench, store):
    done = check(bench.config(archive=store.account()), f"--write={octets}")
    assert done.returncode == 0, done.stdout + done.stderr
    put = store.of("PUT")[0]
    assert len(put.read()) == octets
    assert re.fullmatch(r"cur/\.swiftdrop-check-\w+", put.name)
    assert store.objects == {}


def test_write_alone_is_of_28_octets(bench, store):
    assert check(bench.config(archive=store.account()), "--write"
                 ).returncode == 0
    assert len(store.of("PUT")[0].read()) == 28


@pytest.mark.parametrize("octets", ("", "x", "-1", "1k"))
def test_size_that_is_no_number_is_64(octets, bench, store):
    done = check(bench.config(archive=store.account()), f"--write={octets}")
    assert done.returncode == 64
    assert octets in done.stderr and store.requests == []


def test_limit_of_a_server_in_front_is_found_by_size(bench, store):
    """As nginx has it: 1 MiB unless it is told otherwise, and no Swift that
    could know the request."""
    def limit(exchange):
        if int(exchange.headers["content-length"]) > 1 << 20:
            exchange.answer(413, X_Trans_Id="")
        else:
            exchange.good()
    store.always("PUT", limit)
    path = bench.config(archive=store.account())
    assert check(path, "--write").returncode == 0
    done = check(path, f"--write={2 << 20}")
    assert done.returncode == 69
    assert "client_max_body_size" in line_of(done, "archive")


def expiring(store, text):
    return {"recipients": "*", "container": "mail", "auth_version": "tempurl",
            "storage_url": store.storage_url, "temp_url_query":
            f"temp_url_sig=00ff&temp_url_expires={text}&temp_url_prefix=cur/"}


def in_days(days, form="%s"):
    return time.strftime(form, time.gmtime(time.time() + days * 86400)) \
        if form != "%s" else str(int(time.time() + days * 86400))


@pytest.mark.parametrize("form", ("%s", "%Y-%m-%dT%H:%M:%SZ",
                                  "%Y-%m-%dT%H%%3A%M%%3A%SZ"))
@pytest.mark.parametrize("days, code, words", (
    (-1, 69, "temp_url_query has expired"), (8, 0, None),
    (6.5, 0, "warning: temp_url_query expires in 15"),
    (0.1, 0, "warning: temp_url_query expires in ")))
def test_query_that_expires(days, code, words, form, bench, store):
    done = check(bench.config(archive=expiring(store, in_days(days, form))))
    assert done.returncode == code
    line = line_of(done, "archive")
    assert words in line if words else "expires" not in line
    assert "00ff" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ("", "soon", "2017"))
def test_query_whose_end_swift_cannot_read_has_expired(text, bench, store):
    done = check(bench.config(archive=expiring(store, text)))
    assert done.returncode == 69
    assert "temp_url_query has expired" in line_of(done, "archive")


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


def test_a_fault_has_a_priority_in_the_journal(bench, store, places, tmp_path):
    """systemd takes it off the line again: sd-daemon(3). An account that
    failed and a warning are entries of their own."""
    prefix, journal, _ = places
    spool = tmp_path / "none"
    path = bench.config(SMTP={"spool_directory": spool},
                        good=store.account(),
                        bad=store.account(recipients="bad@example.com",
                                          container="missing"))
    path.chmod(0o644)  # readable by others: a warning
    status, text = run_for_journal(tmp_path / "journal", prefix, "-c", path,
                                   "check")
    assert status == 69
    good, fault = text.splitlines()
    assert good.startswith("good: ok, ")
    assert fault == (f"<3>swiftdrop: spool_directory {spool}: "
                     "No such file or directory")
    warning, bad = map(fields, received(journal))
    assert warning["PRIORITY"] == "4"
    assert warning["MESSAGE"].startswith("config: ")
    assert bad["MESSAGE"].startswith("check: account=bad, container=missing, ")
    assert (bad["PRIORITY"], bad["ACCOUNT"], bad["CONTAINER"], bad["REQUEST"],
            bad["STATUS"]) == ("3", "bad", "missing", "HEAD", "404")
    assert "container missing does not exist" in bad["REASON"]
    catalog = (program.TOP / "doc/swiftdrop.catalog").read_text()
    assert f"-- {bad['MESSAGE_ID']}\n" in catalog
    assert bad["MESSAGE_ID"] != warning["MESSAGE_ID"]
