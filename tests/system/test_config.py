# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration (contract, section 2), shown by `swiftdrop config`."""

import configparser
import io
import os
import re
import string
import subprocess
import tempfile

import hypothesis
import pytest
from hypothesis import configuration
from hypothesis import strategies as some

from helpers import program

# It keeps its tables where it is started, unless told otherwise.
configuration.set_hypothesis_home_dir(str(program.TOP / "build/hypothesis"))

ACCOUNT = """recipients = box@example.com
container = mail
authurl = https://keystone.example:5000/v3
user = u
key = k
os_options_project_name = p
"""
SMTP_DEFAULTS = {
    "message_size_limit": "52494336", "recipient_limit": "1000",
    "recipient_delimiter": "+", "unknown_recipient_code": "450",
    "allow_remote": "no", "timeout": "300", "session_limit": "900",
    "deadline": "90", "rspamd_timeout": "10", "rspamd_required": "no",
    "rspamd_reject": "yes", "log": "auto"}
ACCOUNT_DEFAULTS = {
    "prefix": "cur/", "auth_version": "3", "insecure": "no", "timeout": "60",
    "retries": "2", "content_type": "message/rfc822", "metadata": "yes"}


def parsed(text):
    """As the contract says the program reads it."""
    parser = configparser.ConfigParser(interpolation=None,
                                       allow_no_value=True)
    parser.read_string(text)
    return parser


def shown(path, env=None):
    """`swiftdrop config`, parsed; no warnings, no errors."""
    done = program.run("-c", path, "config", env=env)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def fault(path, env=None):
    """The message of a broken configuration."""
    done = program.run("-c", path, "config", env=env)
    assert done.returncode == 78, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.count("\n") >= 1
    return done.stderr


# What is printed.

def test_defaults(bench):
    text = program.run("-c", bench.config(f"[archive]\n{ACCOUNT}"), "config")
    config = parsed(text.stdout)
    for key, value in SMTP_DEFAULTS.items():
        assert config["SMTP"][key] == value, key
    for key, value in ACCOUNT_DEFAULTS.items():
        assert config["archive"][key] == value, key
    assert config["SMTP"]["hostname"] == os.uname().nodename
    assert config["SMTP"].get("origin") == os.uname().nodename
    assert config["SMTP"].get("spool_directory") in ("/tmp", None)


def test_secrets_are_stars(bench):
    secrets = {"key": "one", "temp_url_key": "two",
               "os_options_application_credential_secret": "four"}
    path = bench.config(archive={
        "recipients": "a@b.org", "container": "c", "authurl": "http://h/v3",
        "user": "u", "os_options_project_name": "p", **{
            key: f"hush-{value}" for key, value in secrets.items()
            if key == "key"}},
        tempurl={"recipients": "t@b.org", "container": "c", "auth_version":
                 "tempurl", "storage_url": "http://h/v1/a",
                 "temp_url_key": "hush-two"},
        query={"recipients": "q@b.org", "container": "c", "auth_version":
               "tempurl", "storage_url": "http://h/v1/a",
               "temp_url_query": "hush-three"},
        credential={"recipients": "c@b.org", "container": "c", "authurl":
                    "http://h/v3",
                    "os_options_application_credential_id": "i",
                    "os_options_application_credential_secret": "hush-four"})
    done = program.run("-c", path, "config")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout + done.stderr
    config = parsed(done.stdout)
    assert config["archive"]["key"] == "***"
    assert config["tempurl"]["temp_url_key"] == "***"
    assert config["query"]["temp_url_query"] == "***"
    assert config["credential"][
        "os_options_application_credential_secret"] == "***"


# A password as people write it, and how far it would reach if it were shown.
UNCLEAR = ("http://me:QQ#sh@p:3128", "http://me:QQ/sh@p:3128",
           "http://me:QQ?sh@p:3128", "me:QQ/sh@p:3128",
           "http://me:QQ@sh@p:3128", "http://me:QQ sh@p:3128",
           "http://me:QQsh@p:99999", "http://me:QQsh@[::1", "http://me:QQsh@",
           "socks5://me:QQsh@p:1080", "http://me:QQsh@p:3128/path")
CLEAR = ("proxy", "proxy:3128", "http://proxy:3128/", "https://[::1]:3128",
         "http://p.example", "http://me:hush%2F@p:3128", "me:hush@p:65535",
         "HTTP://me:@p")


@pytest.mark.parametrize("command", ("config", "check"))
@pytest.mark.parametrize("key, url", [("proxy", url) for url in UNCLEAR] + [
    ("authurl", "https://me/x:QQsh@h/v3"),
    ("os_options_object_storage_url", "https://me/x:QQsh@h/v1/AUTH_x"),
    ("rspamd", "https://me/x:QQsh@h")])
def test_password_that_may_be_taken_for_something_else_is_a_fault(
        key, url, command, bench):
    """Before anything could show it: no log, no subcommand does."""
    text = re.sub(f"(?m)^{key} = .*\n", "", ACCOUNT)
    line = f"{key} = {url}\n"
    section = "SMTP" if key == "rspamd" else "a"
    path = bench.config("[SMTP]\nlog = stderr\n" + (
        f"{line}[a]\n{text}" if section == "SMTP" else f"[a]\n{text}{line}"))
    done = program.run("-c", path, command)
    assert done.returncode == 78
    assert f"[{section}] {key}: must" in done.stderr
    assert "QQ" not in done.stdout + done.stderr


@pytest.mark.parametrize("url", CLEAR)
def test_user_and_password_of_a_proxy_are_stars(url, bench):
    done = program.run("-c", bench.config(f"[a]\n{ACCOUNT}proxy = {url}\n"),
                       "config")
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout + done.stderr
    before, user, host = re.fullmatch("(https?://)?(.*@)?(.*)", url,
                                      re.IGNORECASE).groups()
    assert parsed(done.stdout)["a"]["proxy"] == (
        (before or "") + ("***@" if user else "") + host)


EXAMPLES = {
    "one account": f"[archive]\n{ACCOUNT}",
    "default is an account": f"[DEFAULT]\n{ACCOUNT}",
    "default and others": f"[DEFAULT]\n{ACCOUNT}prefix = d/\n"
    "delete_after = 10\n"
    "[one]\nrecipients = one@example.com\ncontainer = one\n"
    "[two]\nrecipients = @two.example, *\nprefix =\ndelete_after =\n"
    "retries = 5\n",
    "session": "[SMTP]\nhostname = h.example\norigin = o.example\n"
    "message_size_limit = 1000\nrecipient_limit = 5\n"
    "recipient_delimiter =\nunknown_recipient_code = 550\n"
    "reinject = [::1]:10026\nallow_remote = yes\ntimeout = 10\n"
    "session_limit = 20\ndeadline = 30\nspool_directory = /var/tmp\n"
    "rspamd = http://127.0.0.1:11333\nrspamd_timeout = 5\n"
    "rspamd_required = yes\nrspamd_reject = no\nstatsd = [::1]:8125\n"
    f"log = postlog:/var/log/socket\n[a]\n{ACCOUNT}",
    "everything": "[a]\n" + ACCOUNT + "".join(
        f"os_options_{name} = {name}\n" for name in (
            "project_domain_name", "user_domain_name", "region_name",
            "endpoint_type", "service_type")
        if name != "endpoint_type")
    + "os_options_endpoint_type = internal\n"
    "os_options_object_storage_url = https://swift.example/v1/AUTH_x\n"
    "cacert = /etc/ssl/certs\ninsecure = yes\nproxy = http://proxy:3128\n"
    "timeout = 5\nretries = 0\ncontent_type = text/plain\n"
    "delete_after = 100\nmetadata = no\nprefix = new/\n",
    "recipients on lines": "[a]\n" + ACCOUNT.replace(
        "box@example.com", "one@example.com\n  @two.example\n\n  three"),
    "a byte order mark": f"\ufeff[a]\n{ACCOUNT}",
    "quoted recipients": f'[a]\n{ACCOUNT}'.replace(
        "box@example.com", '"a, b"@example.com, "c\\"d"@example.com, @e.org'),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_output_fed_back_is_the_same(example, bench):
    first = program.run("-c", bench.config(EXAMPLES[example]), "config")
    assert first.returncode == 0, first.stderr
    second = program.run("-c", bench.config(first.stdout), "config")
    assert (second.returncode, second.stderr) == (0, "")
    assert second.stdout == first.stdout


def test_recipients_on_lines_are_several(bench):
    config = shown(bench.config(EXAMPLES["recipients on lines"]))
    assert entries(config["a"]["recipients"]) == {
        "one@example.com", "@two.example", "three"}


def test_effective_values(bench):
    config = shown(bench.config(EXAMPLES["default and others"]))
    assert config["one"]["prefix"] == "d/"
    assert config["one"]["container"] == "one"
    assert config["one"]["delete_after"] == "10"
    assert config["one"]["recipients"] == "one@example.com"
    assert config["two"]["container"] == "mail"
    assert config["two"]["prefix"] == ""
    assert not config["two"].get("delete_after")
    assert config["two"]["retries"] == "5"
    assert config["one"]["retries"] == "2"
    assert config["DEFAULT"]["recipients"] == "box@example.com"


def test_every_value_is_shown(bench):
    config = shown(bench.config(EXAMPLES["everything"]))
    expected = parsed(EXAMPLES["everything"])["a"]
    for key in expected:
        if key != "key":
            assert config["a"][key] == expected[key], key
    config = shown(bench.config(EXAMPLES["session"]))
    expected = parsed(EXAMPLES["session"])["SMTP"]
    for key in expected:
        assert (config["SMTP"].get(key) or "") == expected[key], key


# The reading of files, against Python's configparser.

# Any text; a user with a colon is more than that.
KEYS = ("os_options_user_domain_id", "container", "content_type",
        "os_options_project_name", "os_options_region_name",
        "os_options_user_domain_name", "prefix", "os_options_service_type")
OCTETS = string.ascii_letters + string.digits + "=:;#[]%$\\'\"!?*&<>@^`{|}~,. "
VALUE = some.text(OCTETS + "é\u4f60", min_size=0, max_size=12)
BLANK = some.sampled_from(("", " ", "  ", "\t"))
SECTION = some.sampled_from(("one", "One", "ONE", "two words", "a]b", "x=y",
                             "#no comment", "ö"))
NOISE = some.sampled_from(("", "\n", "  \n", "# comment\n", "; comment\n",
                           "#key = value\n", "  # indented\n", ";\n",
                           "# [section]\n"))


@some.composite
def options(draw, own):
    """The lines of one section, with their keys in any spelling."""
    text = ""
    keys = draw(some.lists(some.sampled_from(KEYS), unique=True, max_size=5))
    for key in keys:
        spelled = "".join(draw(some.sampled_from((octet, octet.upper())))
                          for octet in key)
        value = draw(VALUE)
        if key == "container":
            value = "c" + value
        separator = draw(some.sampled_from("=:"))
        text += draw(NOISE)
        if not value.strip() and draw(some.booleans()):
            text += spelled + draw(BLANK) + "\n"
        else:
            text += (spelled + draw(BLANK) + separator + draw(BLANK) + value
                     + draw(BLANK) + "\n")
    if own is not None:
        addresses = [f"{own}{number}@example.com" for number in range(
            draw(some.integers(1, 4)))]
        lines = addresses[0]
        for address in addresses[1:]:
            lines += draw(some.sampled_from((
                ", ", ",", " , ", ",\n  ", "\n , ", ",\n\n\t",
                ",\n# within\n  ", ",\n ; within\n  "))) + address
        text += f"recipients{draw(BLANK)}={draw(BLANK)}{lines}\n"
    return text + draw(NOISE)


@some.composite
def files(draw):
    text = draw(NOISE)
    if draw(some.booleans()):
        text += "[DEFAULT]\n" + draw(options(None))
    for number, name in enumerate(draw(some.lists(
            SECTION, unique=True, min_size=1, max_size=4))):
        text += f"[{name}]" + draw(some.sampled_from(
            ("", " ", " trailing"))) + "\n"
        text += "authurl = https://k.example/v3\nkey = k\n"
        text += "os_options_user_id = i\nos_options_project_id = q\n"
        # The program requires it; the same key twice would be an error.
        body = draw(options(f"r{number}"))
        if not re.search("(?im)^container", body):
            body += "container = mail\n"
        text += body
    ending = draw(some.sampled_from(("\n", "\r\n")))
    return text.replace("\n", ending)


def entries(text):
    """A recipients list as a set of entries."""
    return {entry.strip() for entry in text.split(",") if entry.strip()}


@hypothesis.settings(max_examples=250, deadline=None, derandomize=True,
                     database=None, suppress_health_check=list(
                         hypothesis.HealthCheck))
@hypothesis.given(files())
def test_reads_as_configparser_does(text):
    with tempfile.NamedTemporaryFile("w", newline="", encoding="utf-8",
                                     suffix=".ini") as file:
        file.write(text)
        file.flush()
        expected = configparser.ConfigParser(interpolation=None,
                                             allow_no_value=True)
        with open(file.name, encoding="utf-8") as lines:
            try:
                expected.read_file(lines)
            except (configparser.Error, AttributeError):
                assert program.run("-c", file.name, "config").returncode == 78
                return
        done = program.run("-c", file.name, "config")
        assert done.returncode == 0, (text, done.stderr)
        config = parsed(done.stdout)
    assert set(expected.sections()) <= set(config.sections())
    for name in expected.sections():
        for key in KEYS:
            want = expected[name].get(key)
            got = config[name].get(key)
            if want:
                assert got == want, (text, name, key)
            elif key == "prefix" and key in expected[name]:
                assert (got or "") == "", (text, name)
            elif key == "prefix":
                assert got == "cur/", (text, name)
        assert entries(config[name]["recipients"]) == entries(
            expected[name]["recipients"]), (text, name)


WRITTEN = (
    ("no blank", "user=x", "x"),
    ("colon", "user: x", "x"),
    ("colon before equals", "user: x = y", "x = y"),
    ("equals before colon", "user = x : y", "x : y"),
    ("upper case", "USER = x", "x"),
    ("value with a hash", "user = x # y", "x # y"),
    ("value with a semicolon", "user = x ; y", "x ; y"),
    ("value with brackets", "user = [x]", "[x]"),
    ("value with percent", "user = %(x)s 100%", "%(x)s 100%"),
    ("value in quotes", 'user = "x"', '"x"'),
    ("value with a backslash", "user = x\\", "x\\"),
    ("blanks around", "user   =   x y   ", "x y"),
    ("comment before", "# user = y\n; user = z\nuser = x", "x"),
    ("indented comment", "container = c\n  # user = y\nuser = x", "x"),
    ("crlf", "user = x\r", "x"),
)


@pytest.mark.parametrize("line, value", [row[1:] for row in WRITTEN],
                         ids=[row[0] for row in WRITTEN])
def test_spelling(line, value, bench):
    text = "[a]\nauth_version = 1\n" + ACCOUNT.replace("user = u\n", "")
    if line.startswith("container"):
        text = text.replace("container = mail\n", "")
    config = shown(bench.config(f"{text}{line}\n"))
    assert config["a"]["user"] == value


def test_no_limit_on_line_length(bench):
    addresses = ", ".join(f"user{n}@example.com" for n in range(20000))
    text = f"[a]\n{ACCOUNT}".replace("box@example.com", addresses)
    text = text.replace("user = u\n", "user = " + "u" * 200000 + "\n")
    config = shown(bench.config(text))
    assert config["a"]["user"] == "u" * 200000
    assert entries(config["a"]["recipients"]) == entries(addresses)


def test_section_names_are_case_sensitive(bench):
    config = shown(bench.config(
        f"[a]\n{ACCOUNT}[A]\n{ACCOUNT}[smtp]\n{ACCOUNT}".replace(
            "box@", "x@", 1).replace("box@", "y@", 1)))
    assert {"a", "A", "smtp", "SMTP"} <= set(config.sections())


# Inheritance.

def test_smtp_inherits_nothing(bench):
    """timeout is a key of both kinds."""
    config = shown(bench.config(f"[DEFAULT]\ntimeout = 7\n[a]\n{ACCOUNT}"))
    assert config["a"]["timeout"] == "7"
    assert config["SMTP"]["timeout"] == "300"


def test_recipients_are_not_inherited(bench):
    """A section without its own is no account of any recipient."""
    config = shown(bench.config(f"[DEFAULT]\n{ACCOUNT}"
                                "[b]\nrecipients = b@example.com\n"))
    assert config["b"]["recipients"] == "b@example.com"
    assert config["DEFAULT"]["recipients"] == "box@example.com"


@pytest.mark.parametrize("spelling", ("{} =", "{}:", "{}"))
@pytest.mark.parametrize("key, default", (
    ("content_type", "message/rfc822"), ("delete_after", None),
    ("os_options_region_name", None), ("retries", "2"), ("proxy", None),
    ("timeout", "60")))
def test_an_empty_value_unsets(key, default, spelling, bench):
    config = shown(bench.config(
        f"[DEFAULT]\n{key} = 77\n".replace(
            "proxy = 77", "proxy = http://p:1")
        + f"[a]\n{ACCOUNT}{spelling.format(key)}\n"))
    assert (config["a"].get(key) or None) == default


@pytest.mark.parametrize("spelling", ("prefix =", "prefix:", "prefix"))
def test_an_empty_prefix_is_a_value(spelling, bench):
    config = shown(bench.config(
        f"[DEFAULT]\nprefix = d/\n[a]\n{ACCOUNT}{spelling}\n"))
    assert config["a"]["prefix"] == ""


@pytest.mark.parametrize("spelling", ("recipient_delimiter =",
                                      "recipient_delimiter"))
def test_an_empty_recipient_delimiter_is_a_value(spelling, bench):
    config = shown(bench.config(f"[SMTP]\n{spelling}\n[a]\n{ACCOUNT}"))
    assert (config["SMTP"]["recipient_delimiter"] or "") == ""


# Errors that have a line: the file, the line that is at fault, the reason.

SMTP = "[SMTP]\n"
A = f"[a]\n{ACCOUNT}"  # seven lines
LINES = (
    ("unknown key", A + "colour = blue\n", 8, "colour"),
    ("unknown key of the session", SMTP + "container = x\n" + A, 2,
     "container"),
    ("account's key in the session", SMTP + "recipients = x@y.org\n" + A, 2,
     "recipients"),
    ("session's key in an account", A + "hostname = x\n", 8, "hostname"),
    ("duplicate key", A + "user = v\n", 8, "user"),
    ("duplicate key in another case", A + "USER = v\n", 8, "user"),
    ("duplicate section", A + "[a]\n", 8, "a"),
    ("duplicate default", "[DEFAULT]\n[DEFAULT]\n" + A, 2, "DEFAULT"),
    ("key before a section", "user = u\n" + A, 1, ""),
    ("no section at all", "nonsense\n", 1, ""),
    ("empty section name", "[]\n" + A, 1, ""),
    ("section not closed", "[a\n" + ACCOUNT, 1, ""),
    ("no key", A + "= value\n", 8, ""),
    ("control character", A + "content_type = a\x01b\n", 8, "control"),
    ("delete", A + "content_type = a\x7fb\n", 8, "control"),
    ("tab within", A + "content_type = a\tb\n", 8, "control"),
    ("nul", A + "content_type = a\0b\n", 8, ""),
    ("line break", A + "content_type = a\n  b\n", (8, 9), ""),
    ("line break in the session", SMTP + "origin = a\n b\n" + A, (2, 3), ""),
    *[(f"{key} = {value}", A + f"{key} = {value}\n", 8, key)
      for key, value in (
          ("auth_version", "2"), ("auth_version", "x"), ("insecure", "maybe"),
          ("timeout", "0"), ("timeout", "-1"), ("timeout", "x"),
          ("timeout", "5s"), ("timeout", "99999999999999999999"),
          ("retries", "-1"), ("retries", "x"), ("retries", "1.5"),
          ("delete_after", "0"), ("delete_after", "-5"),
          ("delete_after", "x"), ("metadata", "perhaps"),
          ("temp_url_digest", "md5"))],
    *[(f"container = {value}", A.replace("container = mail",
                                         f"container = {value}"), 3,
       "container") for value in ("a/b", "/")],
    *[(f"authurl = {value}", A.replace("https://keystone.example:5000/v3",
                                       value), 4, "authurl")
      for value in ("ftp://x/v3", "keystone", "file:///x")],
    ("recipient longer than a command", A.replace("box@", "b" * 3000 + "@"),
     2, "recipients"),
    *[(f"recipients = {value}", A.replace("box@example.com", value), 2, "")
      for value in ("a@b c@d", "user@", "@", "a@b@c")],
    *[(f"recipients = {value}", A.replace("box@example.com", value), 2, word)
      for value, word in (
          ("*@example.org", '"*@example.org" is no pattern: write @domain'),
          ("a@b, **, c@d", '"**" is no pattern'),
          ("user*", "is no pattern"), ("@*.example.org", "is no pattern"),
          ('"a@x, b@x"', '"a@x, b@x"" is one address to its quotation marks'),
          ('c@x,\n "a@x,b@x", d@x', "take them away"))],
    *[(f"{key} lists", A + f"{key} = 2\n", 8, f"must be one of: {values}\n")
      for key, values in (
          ("auth_version", "3 3.0 1 1.0 tempurl"),
          ("os_options_endpoint_type",
           "public publicURL internal internalURL admin adminURL"),
          ("temp_url_digest", "sha1 sha256 sha512"))],
    *[(f"[SMTP] {key} = {value}", SMTP + f"{key} = {value}\n" + A, 2, key)
      for key, value in (
          ("message_size_limit", "0"), ("message_size_limit", "x"),
          ("message_size_limit", "-1"), ("message_size_limit", "50M"),
          ("recipient_limit", "0"), ("recipient_limit", "x"),
          ("unknown_recipient_code", "451"), ("unknown_recipient_code", "x"),
          ("reinject", "mail.example:25"), ("reinject", "127.0.0.1"),
          ("reinject", "127.0.0.1:0"), ("reinject", "127.0.0.1:65536"),
          ("reinject", "::1:25"), ("reinject", "[::1]"), ("reinject", "unix:"),
          ("reinject", "127.0.0.1:x"), ("reinject", "[127.0.0.1:25"),
          ("allow_remote", "perhaps"), ("timeout", "0"), ("timeout", "x"),
          ("session_limit", "0"), ("session_limit", "x"), ("deadline", "0"),
          ("deadline", "-1"), ("deadline", "x"), ("log", "file"),
          ("log", "postlog"), ("log", "postlog:"))],
)


@pytest.mark.parametrize("text, line, word", [row[1:] for row in LINES],
                         ids=[row[0] for row in LINES])
def test_error_with_a_line(text, line, word, bench):
    path = bench.config(text)
    message = fault(path)
    lines = line if isinstance(line, tuple) else (line,)
    assert any(re.search(re.escape(str(path)) + rf"\D{{1,12}}{number}\b",
                         message) for number in lines), message
    assert word.lower() in message.lower()
    reason = message.split(str(path), 1)[1]
    assert len(reason) > 10


# The C library without its locale C.UTF-8.
NO_LOCALE = ("unshare", "-rm", *program.shell(
    "mount -t tmpfs tmpfs /usr/lib/locale"))


@pytest.mark.parametrize("recipient", (
    "b\u00f6x@example.com", "box@ex\u00e4mple.com", "@ex\u00e4mple.com"))
def test_a_recipient_in_utf8_needs_the_locale(recipient, bench):
    path = bench.config(A.replace("box@example.com",
                                  f"a@example.com, {recipient}"))
    assert shown(path)["a"]["recipients"].endswith(recipient)
    done = subprocess.run(
        [*NO_LOCALE, program.BINARY, "-c", path, "config"], text=True,
        stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
        env=program.environment(), check=False)
    assert done.returncode == 78
    assert done.stderr == (
        f"swiftdrop: {path}:2: [a] recipients: \"{recipient}\" needs the "
        "locale C.UTF-8, which is missing here\n")


def test_without_the_locale_us_ascii_is_enough(bench):
    text = A.replace("box@example.com", "Box@example.com, @all.example")
    session = bench.session(bench.config(text), prefix=NO_LOCALE)
    session.greet()
    assert session.cmd("MAIL FROM:<\u00fc@example.org> SMTPUTF8").code == 250
    assert session.cmd("RCPT TO:<bOX@example.com>").code == 250
    assert session.cmd("RCPT TO:<\u00fc@all.example>").code == 250
    assert session.cmd("RCPT TO:<\u00fc@example.com>").code == 450
    session.quit()


CREDENTIAL = ("os_options_application_credential_id = i\n"
              "os_options_application_credential_secret = s\n")
TEMPURL = ("[t]\nrecipients = t@b.org\ncontainer = c\nauth_version = tempurl\n"
           "storage_url = https://swift.example/v1/AUTH_x\n")
# Errors without a line of their own: file and section, and a word.
WHOLE = (
    ("container missing", A.replace("container = mail\n", ""), "a",
     "container"),
    ("container empty", A.replace("container = mail", "container ="), "a",
     "container"),
    ("container unset", "[DEFAULT]\ncontainer = c\n" + A.replace(
        "container = mail", "container ="), "a", "container"),
    ("authurl missing for 3", re.sub("authurl.*\n", "", A), "a", "authurl"),
    ("authurl missing for 1", re.sub("authurl.*\n", "", A)
     + "auth_version = 1\n", "a", "authurl"),
    ("user missing", A.replace("user = u\n", ""), "a", "user"),
    ("key missing", A.replace("key = k\n", ""), "a", "key"),
    ("storage_url missing", TEMPURL.replace(
        "storage_url = https://swift.example/v1/AUTH_x\n",
        "temp_url_key = k\n"), "t", "storage_url"),
    ("temp_url_key missing", TEMPURL, "t", "temp_url_key"),
    ("credential without its secret", A.replace("user = u\nkey = k\n", "")
     + CREDENTIAL.splitlines()[0] + "\n", "a", "secret"),
    ("same recipient twice", A + A.replace("[a]", "[b]"), "b",
     "box@example.com"),
    ("same recipient, another case", A + A.replace("[a]", "[b]").replace(
        "box@example", "BOX@Example"), "b", "box@example.com"),
    ("same recipient, another case of UTF-8", A.replace("box@", "b\u00f6x@")
     + A.replace("[a]", "[b]").replace("box@", "B\u00d6X@"), "b", "x@"),
    ("same domain, another case of UTF-8", A.replace("box@", "@\u0444.") +
     A.replace("[a]", "[b]").replace("box@", "@\u0424."), "b", "@\u0444."),
    ("same recipient, trailing dot", A + A.replace("[a]", "[b]").replace(
        "example.com", "example.com."), "b", "box@example.com"),
    ("same recipient, quoted", A + A.replace("[a]", "[b]").replace(
        "box@", '"box"@'), "b", "box"),
    ("same domain twice", A.replace("box@", "@") + A.replace(
        "[a]", "[b]").replace("box@", "@"), "b", "@example.com"),
    ("everything twice", A.replace("box@example.com", "*") + A.replace(
        "[a]", "[b]").replace("box@example.com", "*"), "b", "*"),
)


@pytest.mark.parametrize("text, section, word", [row[1:] for row in WHOLE],
                         ids=[row[0] for row in WHOLE])
def test_error_with_a_section(text, section, word, bench):
    path = bench.config(text)
    message = fault(path)
    assert str(path) in message
    assert re.search(rf"\b{section}\b", message.replace(str(path), ""))
    assert word.lower() in message.lower()


@pytest.mark.parametrize("prefix", ("cur", "a/b", "mail-"))
def test_prefix_without_a_slash_is_a_warning(prefix, bench):
    done = program.run("-c", bench.config(f"{A}prefix = {prefix}\n"), "config")
    assert done.returncode == 0
    assert parsed(done.stdout)["a"]["prefix"] == prefix
    assert "[a] prefix: does not end in /" in done.stderr


def test_bare_local_part_is_one_at_the_origin(bench, store):
    session = bench.accept(
        SMTP={"log": "stderr", "origin": "Here.example"},
        archive=store.account(recipients="postmaster, *", container="mail"),
        other=store.account(recipients="root@here.example"))
    assert session.deliver(b"Subject: x\r\n\r\n", recipients=[
        "PostMaster@here.example"]).code == 250
    session.quit()
    message = fault(bench.config("[SMTP]\norigin = x.example\n" + A.replace(
        "box@example.com", "root") + A.replace("[a]", "[b]").replace(
            "box@example.com", "Root@x.example")))
    assert '"root@x.example" is claimed by [a] already' in message


def test_unknown_os_option_is_a_warning(bench):
    path = bench.config(A + "os_options_colour = blue\n")
    done = program.run("-c", path, "config")
    assert done.returncode == 0
    assert "os_options_colour" in done.stderr
    assert re.search(re.escape(str(path)) + r"\D{1,12}8\b", done.stderr)


def test_missing_file(bench, tmp_path):
    message = fault(tmp_path / "none.ini")
    assert "none.ini" in message and "No such file" in message


def test_file_that_is_a_folder(bench, tmp_path):
    assert str(tmp_path) in fault(tmp_path)


def test_unreadable_file(tmp_path):
    """By whatever error; a loop of links is one that root meets too."""
    path = tmp_path / "loop.ini"
    path.symlink_to(path)
    assert str(path) in fault(path)


# Environment.

def test_environment_overrides_the_file(bench):
    text = A.replace("[a]", "[ARCHIVE]")
    config = shown(bench.config(text), env={
        "SWIFTDROP_ARCHIVE_CONTAINER": "from-env",
        "SWIFTDROP_ARCHIVE_os_options_region_name": "Two",
        "SWIFTDROP_SMTP_HOSTNAME": "env.example",
        "SWIFTDROP_SMTP_MESSAGE_SIZE_LIMIT": "5000"})
    assert config["ARCHIVE"]["container"] == "from-env"
    assert config["ARCHIVE"]["os_options_region_name"] == "Two"
    assert config["ARCHIVE"]["user"] == "u"
    assert config["SMTP"]["hostname"] == "env.example"
    assert config["SMTP"]["message_size_limit"] == "5000"


def test_environment_of_default(bench):
    config = shown(bench.config(A + "[b]\nrecipients = b@c.org\n"
                                "container = c\n"), env={
        "SWIFTDROP_DEFAULT_AUTHURL": "https://env.example/v3",
        "SWIFTDROP_DEFAULT_USER": "env",
        "SWIFTDROP_DEFAULT_KEY": "env",
        "SWIFTDROP_DEFAULT_OS_OPTIONS_PROJECT_NAME": "env"})
    assert config["b"]["user"] == "env"
    assert config["a"]["user"] == "u"


def environment_of(section, text):
    parser = parsed("[x]\n" + text)
    return {f"SWIFTDROP_{section}_{key.upper()}": value
            for key, value in parser["x"].items()}


def test_environment_without_a_file(bench, tmp_path):
    config = shown(tmp_path / "none.ini", environment_of("ARCHIVE", ACCOUNT))
    assert config["ARCHIVE"]["recipients"] == "box@example.com"
    assert config["ARCHIVE"]["key"] == "***"


def test_session_from_the_environment_alone(bench, store, tmp_path):
    text = program.ini(x=store.account()).replace("[x]\n", "")
    session = bench.session(tmp_path / "none.ini",
                            env=environment_of("ARCHIVE", text))
    session.greet()
    assert session.deliver(b"Subject: x\r\n\r\n").code == 250
    session.quit()


def test_empty_environment_value_unsets(bench):
    text = f"[DEFAULT]\ndelete_after = 5\n{A.replace('[a]', '[A]')}"
    config = shown(bench.config(text),
                   env={"SWIFTDROP_A_DELETE_AFTER": "",
                        "SWIFTDROP_A_PREFIX": ""})
    assert not config["A"].get("delete_after")
    assert config["A"]["prefix"] == ""


@pytest.mark.parametrize("name, value", (
    ("SWIFTDROP_A_COLOUR", "blue"), ("SWIFTDROP_SMTP_COLOUR", "blue"),
    ("SWIFTDROP_SMTP_TIMEOUT", "x"), ("SWIFTDROP_A_RETRIES", "-1"),
    ("SWIFTDROP_A_USER", "a\nb"), ("SWIFTDROP_A_USER", "a\x01b")))
def test_error_in_the_environment_names_the_variable(name, value, bench):
    message = fault(bench.config(A.replace("[a]", "[A]")), env={name: value})
    assert name in message


# As Kubernetes names them for a service, and Docker for a link.
SERVICE = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_SMTP",
           "SERVICE_PORT_HTTP_2", "PORT", *[
               f"PORT_{port}_{protocol}{part}"
               for port in (25, 10025) for protocol in ("TCP", "UDP", "SCTP")
               for part in ("", "_PROTO", "_PORT", "_ADDR")])


@pytest.mark.parametrize("service", ("", "METRICS_", "A_", "MAIL_GATEWAY_2_"))
def test_variables_of_a_service_of_our_name_are_ignored(service, bench):
    config = shown(bench.config(A), env={
        f"SWIFTDROP_{service}{name}": "tcp://10.0.0.1:25" for name in SERVICE})
    assert set(config.sections()) == {"SMTP", "a"}


def test_variables_of_a_link_are_ignored(bench):
    config = shown(bench.config(A), env={
        "SWIFTDROP_NAME": "/web/swiftdrop", "SWIFTDROP_ENV_PATH": "/bin",
        "SWIFTDROP_ENV_SWIFTDROP_A_KEY": "k", "SWIFTDROP_ENV_container": "c"})
    assert set(config.sections()) == {"SMTP", "a"}


@pytest.mark.parametrize("section", ("PORT", "PORTAL", "SERVICE", "NAME",
                                     "SERVICES"))
def test_section_may_begin_as_the_name_of_a_service_does(section, bench,
                                                         tmp_path):
    config = shown(tmp_path / "none.ini", environment_of(section, ACCOUNT))
    assert config[section]["container"] == "mail"


@pytest.mark.parametrize("name, meaning", (
    ("IMAGE_TAG", '"tag" of [IMAGE]'), ("A_PORTS", '"ports" of [A]'),
    ("A_PORT_25", '"port_25" of [A]'), ("A_NAME", '"name" of [A]'),
    ("A_ENV_PATH", '"env_path" of [A]'), ("X_service_port", "[X]"),
    ("PORT_25_TCP_HOST", '"25_tcp_host" of [PORT]'),
    ("VERSION", "names no option"), ("_KEY", "names no option")))
def test_any_other_variable_is_a_fault_that_says_how_it_was_read(
        name, meaning, bench):
    message = fault(bench.config(A), env={f"SWIFTDROP_{name}": "x"})
    assert f"swiftdrop: SWIFTDROP_{name}: " in message
    assert meaning in message


# Secrets in files.

def stored(bench, store, options, env=None, **more):
    """A message arrives with this account: its secret was right."""
    session = bench.session(bench.config(archive=options, **more), env=env)
    session.greet()
    reply = session.deliver(b"Subject: x\r\n\r\n")
    session.quit()
    assert reply.code == 250, str(session.log)
    assert store.of("AUTH")[-1].headers["x-auth-key"] == store.password


def test_secret_relative_to_the_configuration_file(bench, store):
    bench.file("hush", store.password + "\n")
    stored(bench, store, store.account(key=None, key_file="hush"))


def test_secret_by_absolute_path(bench, store, tmp_path):
    path = bench.file("hush", store.password)
    stored(bench, store, store.account(key=None, key_file=path))


def test_secret_in_the_credentials_directory(bench, store, tmp_path):
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "hush").write_text(store.password + "\n")
    (folder / "hush").chmod(0o600)
    bench.file("hush", "the wrong one")
    stored(bench, store, store.account(key=None, key_file="hush"),
           env={"CREDENTIALS_DIRECTORY": str(folder)})


@pytest.mark.parametrize("content, key", (
    ("x y ", "x y "), ("x\n", "x"), ("x", "x")))
def test_one_trailing_newline_is_dropped(content, key, bench, store):
    bench.file("hush", content)
    store.password = key
    path = bench.config(archive=store.account(key=None, key_file="hush"))
    session = bench.session(path)
    session.greet()
    session.deliver(b"Subject: x\r\n\r\n")
    assert store.of("AUTH")[0].headers["x-auth-key"] == key.strip()
    session.quit()


@pytest.mark.parametrize("secret", (
    "key", "temp_url_key", "temp_url_query",
    "os_options_application_credential_secret"))
def test_each_secret_has_a_file(secret, bench):
    bench.file("hush", "value")
    path = bench.config(f"{A}".replace("key = k\n", "")
                        + ("" if secret == "key" else "key = k\n")
                        + f"{secret}_file = hush\n")
    done = program.run("-c", path, "config")
    assert done.returncode == 0, done.stderr
    both = bench.config(path.read_text().replace(
        f"{secret}_file = hush\n", f"{secret}_file = hush\n{secret} = x\n"))
    message = fault(both)
    assert secret in message and str(both) in message


def test_own_secret_beats_the_inherited_form(bench, store):
    bench.file("right", store.password)
    bench.file("wrong", "wrong")
    stored(bench, store, store.account(key=None, key_file="right"),
           DEFAULT={"key": "wrong"})
    stored(bench, store, store.account(), DEFAULT={"key_file": "wrong"})
    stored(bench, store, store.account(key=None, key_file="right"),
           DEFAULT={"key_file": "wrong"})
    stored(bench, store, store.account(key=None), DEFAULT={
        "key_file": "right"})


def test_secret_file_that_cannot_be_read(bench):
    path = bench.config(A.replace("key = k", "key_file = none"))
    message = fault(path)
    assert "key_file" in message or "none" in message
    assert str(path) in message


@pytest.mark.parametrize("content, reason", (
    (b"p\xe4ss", "is not text in UTF-8"), (b"", "is empty"),
    (b"\n", "is empty"), (b"key\r\n", "ends its line with CR LF"),
    (b"\xef\xbb\xbfkey\n", "begins with a byte order mark"),
    (b"k\0y", "holds a control character"),
    (b"key\n\n", "holds a control character")))
def test_secret_file_that_is_not_one_line_of_text(content, reason, bench,
                                                  store):
    """Keystone, whose JSON cannot hold it, is not asked without it."""
    hush = bench.file("hush", content)
    path = bench.config(archive=store.account(
        auth_version="3", authurl=store.keystone, key=None, key_file="hush"))
    assert f"[archive] key_file: {hush}: {reason}" in fault(path)
    session = bench.session(path)
    assert session.reply().code == 421
    session.hang_up()
    session.ends(78)
    assert store.requests == []


def test_secret_file_that_nobody_uses_is_not_read(bench):
    text = A.replace("[a]\n", "[DEFAULT]\nkey_file = none\n[a]\n")
    assert shown(bench.config(text))["a"]["key"] == "***"


def test_secret_file_from_the_environment(bench, store):
    path = bench.file("hush", store.password)
    text = program.ini(ARCHIVE=store.account(key=None))
    session = bench.session(bench.config(text), env={
        "SWIFTDROP_ARCHIVE_KEY_FILE": str(path)})
    session.greet()
    assert session.deliver(b"Subject: x\r\n\r\n").code == 250
    session.quit()


@pytest.mark.parametrize("which", ("configuration", "secret"))
def test_secret_readable_by_others_is_a_warning(which, bench, store):
    secret = bench.file("hush", store.password)
    options = store.account()
    if which == "secret":
        options = store.account(key=None, key_file="hush")
    path = bench.config(archive=options)
    at_fault = path if which == "configuration" else secret
    for mode in (0o600, 0o640, 0o644):
        at_fault.chmod(mode)
        session = bench.session(path)
        session.greet()
        assert session.deliver(b"Subject: x\r\n\r\n").code == 250
        session.quit()
        warned = str(at_fault) in str(session.log)
        assert warned == (mode == 0o644), (oct(mode), str(session.log))


def test_configuration_without_secrets_may_be_read(bench, store):
    bench.file("hush", store.password)
    path = bench.config(archive=store.account(key=None, key_file="hush"))
    path.chmod(0o644)
    session = bench.session(path)
    session.greet()
    assert session.deliver(b"Subject: x\r\n\r\n").code == 250
    session.quit()
    assert str(path) not in str(session.log)


def test_error_goes_to_the_log_of_a_session(bench, tmp_path):
    """Not to that which is configured; here to a host's without syslog."""
    path = bench.config("[SMTP]\nlog = stderr\n" + A + "colour = blue\n")
    session = bench.session(path, prefix=program.mounts(tmp_path, "/dev"))
    assert session.reply().code == 421
    session.ends(78)
    assert "colour" in str(session.log)


def test_output_can_be_read_by_configparser(bench):
    """Values that look like something else stay what they are."""
    text = A.replace("user = u", "auth_version = 1\n"
                     "user = # not ; a [comment] = : %(x)s")
    config = shown(bench.config(text))
    assert config["a"]["user"] == "# not ; a [comment] = : %(x)s"
    buffer = io.StringIO()
    config.write(buffer)
    assert buffer.getvalue()
