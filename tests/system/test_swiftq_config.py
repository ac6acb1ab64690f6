# SPDX-License-Identifier: GPL-3.0-or-later
"""Where swiftq finds its account, and that it reads swiftdrop.ini as the
filter does."""

import configparser
import os
import re

import pytest

from conftest import TREE
from helpers import program
from swiftq_box import run
from swiftq import config
from swiftq.faults import Problem

CORPUS = TREE / "tests" / "corpus" / "config"
EX_USAGE, EX_NOPERM, EX_CONFIG = 64, 77, 78


def test_one_account_of_several(box, ini):
    path = ini({"DEFAULT": box.container.options(),
                "SMTP": {"hostname": "x"},
                "one": {"recipients": "a@b", "container": "none"},
                "two": {"recipients": "c@d"}}, "several.ini")
    assert "one, two" in box.swiftq("list", ini=path, status=EX_USAGE).err
    assert "no account [TWO]" in box.swiftq(
        "list", "--account", "TWO", ini=path, status=EX_USAGE).err
    box.swiftq("list", "--account", "two", ini=path)
    assert "no container none" in box.swiftq(
        "--account", "one", "list", ini=path, status=EX_CONFIG).err


def test_secrets_in_files(box, ini):
    options = box.container.options()
    key = options.pop("key")
    (box.tmp_path / "key").write_text(key + "\n")
    path = ini({"DEFAULT": {**options, "key": "wrong"},
                "box": {"recipients": "*", "key_file": "key"}}, "file.ini")
    box.swiftq("list", ini=path)
    credentials = box.tmp_path / "credentials"
    credentials.mkdir()
    environ = {**os.environ, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert "credentials/key: No such file" in box.swiftq(
        "list", ini=path, env=environ, status=EX_CONFIG).err
    (credentials / "key").write_text(key)
    box.swiftq("list", ini=path, env=environ)
    path = box.config("both.ini", key_file="key")
    assert "both key and key_file" in box.swiftq(
        "list", ini=path, status=EX_CONFIG).err
    # Not a reader's: the filter's user alone may read it.
    box.swiftq("list", ini=box.config("both.ini", temp_url_key_file="no"))
    # A variable beats both forms; an empty one is none beside the other.
    box.swiftq("list", ini=ini({"BOX": {**options, "key_file": "no"}}),
               env={**os.environ, "SWIFTDROP_BOX_KEY": key,
                    "SWIFTDROP_BOX_KEY_FILE": ""})


@pytest.mark.parametrize("content", [b"", b"\n", b"testing\r\n", b"test\xe4",
                                     b"\xef\xbb\xbftesting", b"a\nb\n"])
def test_a_secret_that_is_none(box, ini, content):
    (box.tmp_path / "key").write_bytes(content)
    options = box.container.options()
    del options["key"]
    done = box.swiftq("list", ini=ini({"box": {**options, "key_file": "key"}}),
                      status=EX_CONFIG)
    assert "[box] key_file: " in done.err and "/key: is " in done.err
    assert "testing" not in done.err


def test_environment_beats_the_file(box, ini):
    path = ini({"BOX": {"recipients": "*", **box.container.options(),
                        "key": "wrong"}}, "wrong.ini")
    box.swiftq("list", ini=path, status=EX_NOPERM)
    box.swiftq("list", ini=path, env={
        **os.environ, "SWIFTDROP_BOX_KEY": box.swift.key,
        "SWIFTDROP_SERVICE_PORT": "25", "SWIFTDROP_PORT_25_TCP": "tcp://x"})


def test_variables_that_kubernetes_makes_up_are_no_accounts():
    mine = {"SWIFTDROP_PORTAL_CONTAINER": "p", "SWIFTDROP_A_USER": "u"}
    made_up = [
        "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_SMTP", "PORT",
        "PORT_25_TCP", "PORT_25_TCP_PROTO", "PORT_25_TCP_PORT",
        "PORT_25_TCP_ADDR", "NAME", "ENV_PATH", "BEHIND_SERVICE_HOST",
        "BEHIND_SERVICE_PORT_SMTP", "BEHIND_PORT_9125_UDP_ADDR"]
    sections = config.read(None, mine | {
        "SWIFTDROP_" + name: "tcp://10.0.0.1:25" for name in made_up})
    assert sections == {"PORTAL": {"container": "p"}, "A": {"user": "u"}}


@pytest.mark.parametrize("options, reason", [
    ({"auth_version": "tempurl"}, "neither list nor move"),
    ({"auth_version": "2"}, "auth_version: must be 3, 1 or tempurl"),
    ({"authurl": ""}, "authurl: is missing"),
    ({"authurl": "swift.test/auth/v1.0"}, "authurl: must be http"),
    ({"authurl": "http://k/v2.0", "auth_version": "3"}, "no longer exists"),
    ({"user": ""}, "user: is missing"),
    ({"user": "a\tb"}, "user: is not one line"),
    ({"key": ""}, "key: is missing"),
    ({"container": ""}, "container: is missing"),
    ({"container": "a/b"}, "container: must be"),
    ({"container": "c" * 257}, "container: must have at most 256"),
    ({"timeout": "soon"}, "timeout: must be a whole number"),
    ({"timeout": "0"}, "timeout: must be from 1 to"),
    ({"retries": "101"}, "retries: must be from 0 to 100"),
    ({"insecure": "perhaps"}, "insecure: must be yes or no"),
    ({"key_file": "nowhere", "key": ""}, "both key"),
])
def test_configuration_that_cannot_work(box, options, reason):
    path = box.config("bad.ini", **options)
    assert reason in box.swiftq("list", ini=path, status=EX_CONFIG).err


@pytest.mark.parametrize("text, reason", [
    ("", "there is no account"),
    ("[SMTP]\n[DEFAULT]\ncontainer = c\n", "there is no account"),
    ("[box]\nrecipients = a\n  [b\n[box]\n", "already exists"),
    ("[box]\nrecipients\n  a@b\n", "cannot go on"),
    ("secret = x\n", "no.ini:1: no section"),
    ("[box]\n= secret\n", "no.ini:2: no section comes before this line, or"),
    ("[box]\nuser = \udcff\n", "utf-8"),
])
def test_configuration_file_that_is_none(tmp_path, text, reason):
    path = tmp_path / "no.ini"
    path.write_text(text, errors="surrogateescape")
    done = run(["-c", str(path), "list"], status=EX_CONFIG)
    assert reason in done.err and "secret" not in done.err
    assert "No such file" in run(["-c", "/no/such.ini", "list"],
                                 status=EX_CONFIG).err


def test_byte_order_mark_is_skipped(box):
    with open(box.ini, "r+b") as file:
        text = file.read()
        file.seek(0)
        file.write(b"\xef\xbb\xbf" + text)
    box.swiftq("list")


# The filter's own reading of the same.

# Not judged by a reader: who gets mail, where else it goes, a token's file,
# secrets that it does not use, variables in [DEFAULT], and what libcurl alone
# would read in another way (proxies, an @ behind a /).
FILTER_ALONE = {
    "comments", "default_other_option", "nul_at_the_end", "proxies",
    "recipients_bad", "recipients_twice", "reinject_bad", "reinject_host_long",
    "reinject_name", "reinject_no_host", "reinject_no_port", "reinject_port_0",
    "reinject_port_large", "reinject_port_text", "reinject_port_trailing",
    "reinject_unix_empty", "reinject_unix_long", "reinject_v6_bare",
    "reinject_v6_open", "secret_file_twice", "smtp_texts", "smtp_texts_more",
    "token_file_relative", "token_file_twice", "url_user_with_slash"}
# Good enough to store, not to read.
WRITES_ONLY = {"same_store", "tempurl_digests", "tempurl_key", "tempurl_query",
               "tempurl_query_bad", "tempurl_query_ended",
               "tempurl_query_in_words"}
# What a project is called today; the filter shows no other name.
ALIASES = {"os_options_tenant_name": "os_options_project_name",
           "tenant_name": "os_options_project_name",
           "os_options_tenant_id": "os_options_project_id"}
FILTER_DEFAULTS = {"content_type", "metadata", "temp_url_digest"}
# Of use for nobody that we know; swiftclient might.
READER_ALONE = {"os_options_foo"}


def plain(key, value):
    """A value as it is compared."""
    if key in ("insecure", "metadata"):
        return configparser.ConfigParser.BOOLEAN_STATES[value.lower()]
    if value.isdigit():
        return int(value)
    if key == "recipients":     # on as many lines as one likes
        return [entry.strip() for entry in re.split("[,\n]", value)
                if entry.strip()]
    # Of a URL's user part swiftdrop shows nothing.
    return re.sub("(?<=://)[^/]*@", "***@", value)


def filters_accounts(path, environ):
    """What swiftdrop makes of the file; None: refused."""
    done = program.run("-c", path, "config", env=environ)
    if done.returncode == EX_CONFIG:
        return None
    assert done.returncode == 0, done.stderr
    shown = configparser.ConfigParser(interpolation=None, default_section="")
    shown.read_string(done.stdout)
    return {name: {k: plain(k, v) for k, v in shown[name].items()
                   if k not in config.SECRETS and (v or k == "prefix")}
            for name in shown.sections() if name != "SMTP"}


def readers_accounts(path, environ):
    """What swiftq makes of it; None: refused, one of its accounts or all."""
    try:
        names = list(config.accounts(path, environ))
        loaded = [config.load(path, name, environ)
                  for name in names or [None]]
    except Problem as problem:
        assert problem.status == EX_CONFIG
        return None
    secrets = {*config.SECRETS, *(key + "_file" for key in config.SECRETS)}
    for account in loaded:
        for old, new in ALIASES.items():
            if old in account:
                account.setdefault(new, account.pop(old))
    return {account.name: {k: plain(k, v) for k, v in account.items()
                           if k not in secrets and k not in READER_ALONE}
            for account in loaded}


def compare(path, environ, name=None):
    filters = filters_accounts(path, environ)
    reader = readers_accounts(path, environ)
    if name in WRITES_ONLY:
        assert filters and reader is None
    elif name in FILTER_ALONE:
        assert filters is None and reader
    elif filters is None or reader is None:
        assert filters is reader, (filters, reader)
    else:
        for account, values in filters.items():
            for key in FILTER_DEFAULTS - reader[account].keys():
                values.pop(key)
        assert reader == filters
        assert list(reader) == list(filters)    # in this order
    return reader


@pytest.mark.parametrize("name", sorted(os.listdir(CORPUS)))
def test_swiftq_reads_what_the_filter_reads(name):
    compare(str(CORPUS / name), {"CREDENTIALS_DIRECTORY": "/proc/sys/kernel"},
            name)


@pytest.mark.parametrize("variables, want", [
    ({"A_USER": "other"}, {"user": "other"}),
    ({"a_user": "other", "A_PREFIX": ""}, {"user": "other", "prefix": ""}),
    ({"A_TIMEOUT": "7", "DEFAULT_RETRIES": "0"}, {"timeout": 7, "retries": 0}),
    ({"A_TIMEOUT": ""}, {"timeout": 60}),
    ({"A_KEY_FILE": "ostype"}, {}),
    ({"A_CONTAINER": ""}, None),
    ({"B_CONTAINER": "b"}, {"container": "c"}),
    ({"DEFAULT_RECIPIENTS": "d@b", "DEFAULT_CONTAINER": "d", "B_USER": "b"},
     {"container": "c"}),
    ({"SERVICE_HOST": "10.0.0.1", "PORT_25_TCP_ADDR": "10.0.0.1"}, {}),
], ids=str)
def test_swiftq_reads_variables_as_the_filter_does(ini, variables, want):
    path = ini({"DEFAULT": {"auth_version": "1", "user": "u", "key": "k",
                            "timeout": "9", "authurl": "http://h/auth/v1.0"},
                "A": {"recipients": "a@b", "container": "c"}})
    environ = {"SWIFTDROP_" + name: value
               for name, value in variables.items()}
    got = compare(path, {"CREDENTIALS_DIRECTORY": "/proc/sys/kernel",
                         **environ})
    assert want is got is None or want.items() <= got["A"].items()


def test_swiftq_needs_no_file_where_variables_say_all():
    environ = {f"SWIFTDROP_A_{key.upper()}": value for key, value in {
        "container": "c", "auth_version": "1.0", "user": "u", "key": "k",
        "authurl": "http://h/auth/v1.0", "recipients": "*"}.items()}
    assert compare("/no/such.ini", environ)["A"]["container"] == "c"
    assert compare("/no/such.ini", {}) is None
