# SPDX-License-Identifier: GPL-3.0-or-later
"""The image, built and run with podman, against a real Swift.

Everything here runs on a network of its own, so port 25 is ours.
"""

import contextlib
import email.message
import http.server
import json
import os
import pathlib
import re
import smtplib
import socket
import ssl
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

import lab
from lab import debian, image, process
from lab.rspamd import Dns, Rspamd

RECIPIENTS = ["a@example.org", "b@example.org"]
FORWARDS = {"away@example.org": "jane@elsewhere.example",
            "back@example.org": ["a@example.org"],
            "both@example.org": ["b@example.org", "jane@elsewhere.example"]}
POSTMASTER = "boss@elsewhere.example"


@pytest.fixture(scope="module", autouse=True)
def own_network(podman):
    """After the build, which needs the host's network."""
    with image.network():
        yield


def running(server):
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def own_swift(own_network, lab_folder):
    """A Swift on that network."""
    yield from running(lab.Swift(f"{lab_folder}/image-swift"))


@pytest.fixture
def box(own_swift):
    yield own_swift.container()
    own_swift.restore()


@pytest.fixture(scope="module")
def own_sink(own_network, lab_folder):
    yield from running(lab.Sink(f"{lab_folder}/image-sink"))


@pytest.fixture
def elsewhere(own_sink):
    own_sink.clear()
    return own_sink


@pytest.fixture
def settings(box, elsewhere):
    """A function that returns a container's environment."""
    def make(**others):
        return image.variables(
            {"A": {"recipients": ", ".join(RECIPIENTS), **box.options()}},
            RECIPIENTS, FORWARDS, **{
                "POSTMASTER": POSTMASTER,
                "POSTFIX_relayhost": f"[127.0.0.1]:{elsewhere.port}",
                "POSTFIX_disable_dns_lookups": "yes",
                **others})
    return make


@pytest.fixture
def run(podman, tmp_path):
    """A function that starts a container, which ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(environment, *arguments, **options):
            container = image.Container(podman, tmp_path, environment,
                                        *arguments, **options)
            stack.callback(lambda: print(container.text()))
            return stack.enter_context(container)
        yield start


def launch(podman, tmp_path, environment, *arguments, **options):
    """Runs a container to its end; returns exit status and log."""
    container = image.Container(podman, tmp_path, environment, *arguments,
                                **options).launch()
    try:
        return container.wait(), container.text()
    finally:
        container.kill()


def mail(subject="test", size=0):
    message = email.message.EmailMessage()
    message["From"] = "someone@foreign.example"
    message["Subject"] = subject
    message.set_content("text\n" + "x" * 60 + "\n" * (size > 0)
                        + ("y" * 62 + "\n") * (size // 64))
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def send(recipients, content=None, host="127.0.0.1", port=25):
    """Sends a mail; returns the reply to its end."""
    with smtplib.SMTP(host, port, timeout=60) as client:
        client.ehlo("client.foreign.example")
        assert client.mail("someone@foreign.example")[0] == 250
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            assert code == 250, (recipient, code, text)
        code, text = client.data(content or mail())
        return code, text.decode()


def eventually(check, seconds=30):
    """Returns check()'s first true result."""
    deadline = time.monotonic() + seconds
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.1)


# ---- what is in the image ---------------------------------------------------

@pytest.mark.parametrize("target", ["postfix", "filter"])
def test_holds_the_listed_files_and_no_others(podman, target):
    name = podman.image if target == "postfix" else podman.filter
    files = podman.files(name)
    found = set()
    for path, entry in files.items():
        if entry.isdir() or path.startswith(("/dev", "/proc", "/sys")) or \
                path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf",
                         "/run/.containerenv", "/etc/mtab"):
            continue
        path = re.sub(r"/(x86_64|aarch64)-linux-gnu/", "/ARCH/", path)
        path = re.sub(r"/ld-linux-(x86-64|aarch64)\.so", "/ld-linux-ARCH.so",
                      path).replace("/lib64/", "/lib/")
        path = re.sub(r"/[0-9a-f]{8}\.[0-9]$", "/HASH", path)
        path = re.sub("(/common-licenses)/.*", r"\1/NAME", path)
        path = re.sub("/doc/[^/]*/", "/doc/PACKAGE/", path)
        found.add(path)
        assert not entry.mode & (stat.S_ISUID | stat.S_ISGID), path
    release = "" if debian.RELEASE == "bookworm" else f".{debian.RELEASE}"
    listed = (image.TREE / "image" / f"files.{target}{release}"
              ).read_text().split()
    assert sorted(found - {"/lib64"}) == sorted(listed)
    size = sum(entry.size for entry in files.values())
    # libcrypto 3.5 and what it is linked with are 5 MB more.
    assert size < (25 if target == "postfix" else 16) * 2**20 \
        + (0 if release == "" else 8 * 2**20)


def test_says_what_it_is(podman):
    """Also when it is built again and all but that is taken from the cache."""
    again = f"{image.IMAGE}-again-{os.getpid()}"
    subprocess.run(
        ["make", "image-filter", f"IMAGE={again}", f"BASE={image.BASE}",
         "SOURCE=https://example.net", "REVISION=again"], cwd=image.TREE,
        env=podman.environment, check=True, capture_output=True)
    names = (podman.image, podman.filter, f"{again}-filter")
    said = [json.loads(podman.run("image", "inspect", "-f", "{{json .Labels}}",
                                  name).stdout) for name in names]
    podman.run("rmi", names[-1])
    version = re.search("(?m)^VERSION = (.*)$",
                        (image.TREE / "Makefile").read_text())[1]
    filter_alone = ("swiftdrop-filter", "GPL-3.0-or-later")
    for labels, (title, licences), source, revision in zip(
            said, (("swiftdrop", "GPL-3.0-or-later AND IPL-1.0 AND EPL-2.0"),
                   filter_alone, filter_alone),
            (image.SOURCE, image.SOURCE, "https://example.net"),
            (image.REVISION, image.REVISION, "again")):
        labels = {key.removeprefix("org.opencontainers.image."): value
                  for key, value in labels.items()}
        assert "OpenStack Swift" in labels.pop("description")
        time.strptime(labels.pop("created"), "%Y-%m-%dT%H:%M:%SZ")
        labels.pop("io.buildah.version")
        assert labels == {
            "title": title, "licenses": licences, "version": version,
            "revision": revision, "source": source, "url": source,
            "documentation": source}


def test_health_check_of_the_other_format(podman, run, settings, tmp_path):
    """The Containerfile's, which an image in the format of OCI cannot keep."""
    text = (image.TREE / "image" / "Containerfile").read_text()
    (tmp_path / "Containerfile").write_text(
        f"FROM {podman.image}\n"
        + re.search(r"(?m)^HEALTHCHECK (.*\\\n)*.*\n", text)[0])
    name = f"{image.IMAGE}-healthcheck-{os.getpid()}"
    podman.run("build", "--format", "docker", "-t", name, tmp_path)
    try:
        check, = re.findall('"Test":(.*?])', podman.run(
            "image", "inspect", "-f", "{{json .HealthCheck}}", name).stdout)
        _, *command = json.loads(check)
        assert run(settings(), image=name).execute(*command).returncode == 0
    finally:
        podman.run("rmi", "--force", name)


# ---- mail -------------------------------------------------------------------

def test_stores_mail_and_tells_so_on_stdout(run, settings, box):
    container = run(settings())
    content = mail("to be stored")
    code, text = send(["a@example.org"], content)
    assert (code, text.split(" as ")[0]) == (250, "2.0.0 Ok: stored")
    name, headers, stored = box.only()
    assert stored.endswith(content)
    assert headers["x-object-meta-envelope-to"] == "a@example.org"
    assert name == "cur/" + text.split(" as ")[1].strip()
    container.await_text(f"object={box.name}/{name}")
    container.await_text("proxy-accept: END-OF-MESSAGE: 250 2.0.0 Ok: stored")
    log = container.text()
    assert re.search(r"^\w{3} [ 0-9]\d \d\d:\d\d:\d\d \S+ swiftdrop\[\d+\]: "
                     r"stored: ", log, re.M)
    assert "warning" not in log.replace(
        "warning: TLS_CERT_FILE: is not set", "")
    assert "testing" not in log


def test_log_as_json(run, settings, box):
    container = run(settings(LOG_FORMAT="json", DEBUG="yes"))
    # What a peer says is no second member of an object.
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.docmd('HELO x","pid":"1')
        client.send(b"NOOP \xff\xfe\r\n")
        client.getreply()
    assert send(["a@example.org"])[0] == 250
    container.await_text("proxy-accept: END-OF-MESSAGE: 250 2.0.0 Ok: stored")
    container.signal()
    assert container.wait() == 0
    lines = [json.loads(line) for line in container.text().splitlines()
             if not line.startswith("time=")]
    stored = [line for line in lines
              if line["MESSAGE"].startswith("stored: ")]
    assert [line["ACCOUNT"] for line in stored] == ["A"]
    by_process = {line.get("process"): line for line in lines}
    for process_name in ("swiftdrop-entry", "postfix/master", "postfix/smtpd"):
        line = by_process[process_name]
        assert set(line) == {"MESSAGE", "process", "pid"}
        assert int(line["pid"]) > 0
    assert any(line["MESSAGE"] == "check: A: ok, container=" + box.name
               for line in lines)


def test_case_of_a_letter_outside_us_ascii_does_not_count(run, box):
    recipients = ["a@example.org", "müller@example.org"]
    run(image.variables(
        {"A": {"recipients": ",".join(recipients), **box.options()}},
        recipients, POSTMASTER=POSTMASTER))
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.sendmail("someone@foreign.example", "MÜLLER@example.org",
                        mail(), mail_options=["SMTPUTF8"])
    assert box.only()[1]["x-object-meta-envelope-to"] == "MÜLLER@example.org"


def test_domain_is_stored_for_as_u_label_and_as_a_label(run, box):
    """However it was configured, and with a letter in either case."""
    recipients = ["müller@bücher.example", "a@xn--mnchen-3ya.example"]
    run(image.variables(
        {"A": {"recipients": ",".join(recipients), **box.options()}},
        recipients, POSTMASTER=POSTMASTER))
    others = ["MÜLLER@xn--bcher-kva.example", "MÜLLER@BÜCHER.example",
              "a@xn--mnchen-3ya.example", "a@münchen.example"]
    for recipient in others:
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
            client.sendmail("someone@foreign.example", recipient, mail(),
                            mail_options=["SMTPUTF8"])
    assert len(box.names()) == len(others)


def test_large_mail_waits_on_the_spool_volume(run, settings, box):
    run(settings())
    content = mail("large", 2 * 2**20)
    assert send(["a@example.org"], content)[0] == 250
    assert box.only()[2].endswith(content)


def test_mail_of_the_largest_size_passes_and_no_larger(run, settings, box):
    run(settings(MESSAGE_SIZE_LIMIT="100000"))
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "100000"
    content = mail("edge", 90000)
    content += b"z\r\n" * ((100000 - len(content)) // 3)
    content += b"z" * (100000 - len(content))
    content = content[:-2] + b"\r\n"
    assert send(["a@example.org"], content)[0] == 250
    assert send(["a@example.org"], content + b"more\r\n" * 1000)[0] == 552
    assert len(box.names()) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_starttls_is_there_with_either_ip(run, settings, box, host):
    run(settings())
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP(host, 25, timeout=60) as client:
        assert client.starttls(context=context)[0] == 220
        certificate = client.sock.getpeercert(binary_form=True)
        assert b"mail.example.org" in certificate
        assert client.sock.version() in ("TLSv1.2", "TLSv1.3")
        client.sendmail("someone@foreign.example", "a@example.org", mail())
    assert b"(using TLS" in box.only()[2]
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with smtplib.SMTP(host, 25, timeout=60) as client:
        with pytest.raises((ssl.SSLError, OSError)):
            client.starttls(context=old)


def test_port_is_open_for_the_protocols_of_postfix_alone(run, settings, box):
    """A client of another would be taken for one on this host."""
    run(settings(POSTFIX_inet_protocols="ipv4"))
    assert send(["a@example.org"])[0] == 250
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", 25), timeout=60)


def test_forwards_are_relayed_and_stored_where_they_lead(
        run, settings, box, elsewhere):
    run(settings())
    content = mail("mixed")
    reply = send(["a@example.org", "away@example.org"], content)
    assert reply[1].startswith("2.0.0 Ok: stored as ")
    relayed = eventually(elsewhere.mails)
    assert len(relayed) == 1
    assert b"jane@elsewhere.example" in relayed[0]
    assert b"Subject: mixed" in relayed[0]
    assert box.only()[1]["x-object-meta-envelope-to"] == "a@example.org"
    elsewhere.clear()

    assert send(["back@example.org"])[1] == "2.0.0 Ok: forwarded"
    eventually(lambda: len(box.names()) == 2)
    assert elsewhere.mails() == []

    assert send(["both@example.org"])[1] == "2.0.0 Ok: forwarded"
    eventually(lambda: len(box.names()) == 3 and elsewhere.mails())


def test_postmaster_is_reached_by_either_name(run, settings, elsewhere):
    run(settings())
    for recipient in ("postmaster@example.org", "postmaster",
                      "Postmaster@mail.example.org"):
        assert send([recipient])[1] == "2.0.0 Ok: forwarded"
        mails = eventually(elsewhere.mails)
        assert POSTMASTER.encode() in mails[0]
        elsewhere.clear()


def test_bare_postmaster_that_nobody_owns_is_refused_at_once(run, settings):
    environment = settings()
    del environment["POSTMASTER"]
    run(environment)
    for recipient in ("postmaster", "POSTMASTER", '"postmaster"',
                      "postmaster@", "@relay.example:postmaster",
                      "postmaster@example.org"):
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
            client.ehlo()
            assert client.mail("forged@foreign.example")[0] == 250
            code, text = client.docmd(f"RCPT TO:<{recipient}>")
            assert code in (501, 550), (recipient, code, text)


def test_bounce_to_a_stored_recipient_is_stored(run, settings, box, podman,
                                                lab_folder):
    refusing = lab.Sink(f"{lab_folder}/refusing-{box.name}",
                        options=["-f", "rcpt"])
    refusing.start()
    try:
        run(settings(
            POSTFIX_relayhost=f"[127.0.0.1]:{refusing.port}"))
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
            client.sendmail("b@example.org", "away@example.org", mail())
        name, headers, content = eventually(
            lambda: box.names() and box.only())
        assert headers["x-object-meta-envelope-from"] == ""
        assert headers["x-object-meta-envelope-to"] == "b@example.org"
        assert b"Undelivered Mail Returned to Sender" in content
    finally:
        refusing.stop()


STRANGERS = [
    "nobody@example.org", "nobody@mail.example.org", "x@foreign.example",
    "x%foreign.example@example.org", "x@foreign.example@example.org",
    "foreign.example!x@example.org", '"x@foreign.example"@example.org',
    "@example.org:x@foreign.example", "x@[127.0.0.1]", "root@[127.0.0.1]",
    "root", "root@localhost", "x@localhost.localdomain", "x@example.com",
    "a@sub.example.org", "x@[192.0.2.1]",
    "a%example.org@foreign.example", "x@example.org.foreign.example"]


@pytest.mark.parametrize("others", [
    {}, {"DEBUG": "yes"}, {"MYDOMAIN": "example.com"},
    {"MAX_PROCESSES": "1"}, {"MESSAGE_SIZE_LIMIT": "2000"},
    {"STARTUP_CHECK": "warn"}])
def test_is_no_open_relay(run, settings, elsewhere, box, others):
    run(settings(**others))
    # Few of them a session: Postfix slows down those who err often.
    tries = [(peer, sender, STRANGERS[i:i + 9])
             for peer in ("127.0.0.1", "192.0.2.1")
             for sender in ("someone@foreign.example", "a@example.org", "")
             for i in range(0, len(STRANGERS), 9)]
    for peer, sender, recipients in tries:
        with smtplib.SMTP("127.0.0.1", 25, timeout=60,
                          source_address=(peer, 0)) as client:
            client.ehlo()
            assert client.mail(sender)[0] == 250
            for recipient in recipients:
                code, text = client.docmd(f"RCPT TO:<{recipient}>")
                assert code in (501, 550, 553, 554), (recipient, code, text)
    assert elsewhere.mails() == []
    assert box.names() == []


def test_unknown_recipient_is_refused_at_rcpt(run, settings):
    run(settings())
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.ehlo()
        client.mail("someone@foreign.example")
        code, text = client.rcpt("nobody@example.org")
        assert code == 550
        assert b"5.1.1" in text


def test_bare_newline_and_early_talk_are_refused(run, settings, box):
    run(settings())
    with socket.create_connection(("127.0.0.1", 25), timeout=60) as client:
        stream = client.makefile("rb")
        assert stream.readline().startswith(b"220")
        for line in (b"EHLO x\r\n", b"MAIL FROM:<x@foreign.example>\r\n",
                     b"RCPT TO:<a@example.org>\r\n", b"DATA\r\n"):
            client.sendall(line)
            while stream.readline()[3:4] == b"-":
                pass
        client.sendall(b"Subject: x\r\n\r\nfirst\n.\r\nMAIL FROM:<>\r\n")
        client.sendall(b"\r\n.\r\n")
        assert stream.readline().startswith((b"521", b"550"))
    assert box.names() == []


# ---- behind a proxy ---------------------------------------------------------

@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_proxy_protocol_names_the_client(run, settings, box, tmp_path,
                                         version):
    container = run(settings(UPSTREAM_PROXY_PROTOCOL="haproxy"))
    port = process.free_port()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen smtp
    bind 127.0.0.1:{port}
    server swiftdrop 127.0.0.1:25 {version}
""")
    proxy = process.start(["haproxy", "-db", "-f", str(configuration)],
                          tmp_path / "haproxy.log")
    try:
        process.wait_until(lambda: process.connects(port), proxy, "haproxy",
                           tmp_path / "haproxy.log")
        with smtplib.SMTP("127.0.0.1", port, timeout=60,
                          source_address=("192.0.2.1", 0)) as client:
            client.sendmail("someone@foreign.example", "a@example.org",
                            mail())
    finally:
        process.stop(proxy)
    assert box.only()[1]["x-object-meta-client-addr"] == "192.0.2.1"
    eventually(lambda: re.search(r" connect from \S+\[192\.0\.2\.1\]",
                                 container.text()))
    # A client that comes past the proxy is not believed to be anybody.
    with socket.create_connection(("127.0.0.1", 25), timeout=60) as client:
        client.sendall(b"EHLO past.the.proxy\r\n")
        assert not client.recv(100).startswith(b"250")


@pytest.mark.parametrize("proxy", ["", "haproxy"])
def test_health_probe(run, settings, own_swift, box, elsewhere, proxy):
    container = run(settings(UPSTREAM_PROXY_PROTOCOL=proxy))
    done = container.execute("swiftdrop-entry", "health")
    assert (done.returncode, done.stderr) == (0, "")
    check = container.execute("swiftdrop-entry", "check")
    assert (check.returncode, check.stdout.count("\n")) == (0, 1)
    assert container.execute("swiftdrop", "check").returncode == 0
    own_swift.go_down()
    assert container.execute("swiftdrop-entry", "check").returncode == 69
    assert container.execute("swiftdrop-entry", "health").returncode == 0
    own_swift.restore()
    assert box.names() == [] and elsewhere.mails() == []


def test_health_probe_fails_where_mail_would(run, settings):
    container = run(settings(
        POSTFIX_smtpd_recipient_restrictions="defer"))
    done = container.execute("swiftdrop-entry", "health")
    assert done.returncode == 69
    assert "answer to RCPT: 450" in done.stderr


@pytest.mark.parametrize("others", [
    {"POSTFIX_smtpd_helo_restrictions": "reject_non_fqdn_helo_hostname, "
                                        "reject_invalid_helo_hostname"},
    {"POSTFIX_smtpd_tls_security_level": "encrypt"},
    {"POSTFIX_smtpd_recipient_restrictions":
     "check_client_access static:DEFER_IF_PERMIT"}], ids=["helo", "tls",
                                                          "policy"])
def test_health_probe_passes_while_mail_flows(run, settings, others):
    container = run(settings(**others))
    done = container.execute("swiftdrop-entry", "health")
    assert (done.returncode, done.stderr) == (0, "")


def test_health_probe_knows_a_domain_in_utf_8(run, box):
    recipients = ["a@bücher.example"]
    container = run(image.variables(
        {"A": {"recipients": ",".join(recipients), **box.options()}},
        recipients))
    done = container.execute("swiftdrop-entry", "health")
    assert (done.returncode, done.stderr) == (0, "")


def test_health_probe_passes_while_idle_clients_have_all_servers(run,
                                                                 settings):
    container = run(settings(POSTFIX_smtpd_timeout="60s"))
    with contextlib.ExitStack() as stack:
        for i in range(160):
            stack.enter_context(socket.create_connection(
                ("127.0.0.1", 25), timeout=60,
                source_address=(f"127.0.0.{2 + i // 16}", 0)))
        done = container.execute("swiftdrop-entry", "health")
        assert (done.returncode, done.stderr) == (0, "")


# ---- start and end ----------------------------------------------------------

def test_check_before_the_port_opens(podman, tmp_path, run, settings):
    wrong = settings(SWIFTDROP_A_KEY="wrong")
    status, log = launch(podman, tmp_path, wrong)
    assert status == 69
    assert "401" in log and "port 25 is open" not in log
    assert "STARTUP_CHECK=warn" in log
    container = run({**wrong, "STARTUP_CHECK": "warn"})
    container.await_text("port 25 is open")
    assert send_refused(["a@example.org"]) == 451


def send_refused(recipients):
    code, _ = send(recipients)
    return code


@pytest.mark.parametrize("dropped", image.CAPABILITIES)
def test_needs_each_capability_and_no_other(podman, tmp_path, settings,
                                            dropped):
    kept = [name for name in image.CAPABILITIES if name != dropped]
    arguments = []
    if dropped == "NET_BIND_SERVICE":
        port = pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        port.write_text("1024")
    status, log = launch(podman, tmp_path, settings(), *arguments,
                         capabilities=kept)
    assert status == 78, log
    assert log.count("error: ") >= 1
    assert re.search(f"error: .*{dropped} is missing", log), log


def test_says_that_it_must_start_as_root(podman, tmp_path, settings):
    status, log = launch(podman, tmp_path, settings(), "--user=1000")
    assert status == 78, log
    assert log.count("error: ") == 1
    assert "error: user: is 1000: Postfix must start as root" in log


@pytest.fixture
def secret(tmp_path):
    """A file that only another user may read, in a folder of that user."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o755)
    file = folder / "key"
    file.write_text("testing")
    file.chmod(0o400)
    for path in (folder, file):
        os.chown(path, 1000, 1000)
    return file


def by_file(settings):
    environment = settings(SWIFTDROP_A_KEY_FILE="/secrets/key")
    del environment["SWIFTDROP_A_KEY"]
    return environment


def test_secret_of_another_user(run, settings, box, secret):
    """As compose mounts it; root has no right to all files."""
    run(by_file(settings), f"--volume={secret.parent}:/secrets:ro")
    assert send(["a@example.org"], mail("secret"))[0] == 250
    assert len(box.names()) == 1


def test_says_where_a_secret_cannot_be_read(podman, tmp_path, settings,
                                            secret):
    secret.parent.chmod(0o700)
    status, log = launch(podman, tmp_path, by_file(settings),
                         f"--volume={secret.parent}:/secrets:ro")
    assert status == 78, log
    assert "error: SWIFTDROP_A_KEY_FILE: cannot read /secrets/key: " in log
    assert "give it to root" in log


@pytest.mark.parametrize("address, written", [
    ("192.0.2.7", "192.0.2.7:8125"), ("2001:db8::7", "[2001:db8::7]:8125"),
    (None, None)])
def test_name_of_the_counter_is_looked_up(run, settings, address, written):
    container = run(settings(SWIFTDROP_SMTP_STATSD="counter.invalid:8125"),
                    *([f"--add-host=counter.invalid:{address}"]
                      if address else []))
    ini = pathlib.Path("/proc", container.pid(), "root/run/swiftdrop",
                       "swiftdrop.ini").read_text()
    assert re.findall("^statsd = (.*)$", ini, re.M) == \
        ([written] if written else [])
    told = "warning: SWIFTDROP_SMTP_STATSD: counter.invalid: "
    assert (told in container.text()) == (written is None)


def test_every_fault_is_named_at_once(podman, tmp_path):
    status, log = launch(podman, tmp_path, {
        "MYDOMAIN": "under_score.org",
        "RECIPIENTS": '["a@example.org", "*", 7, "b@example.org"]',
        "FORWARDS": '{"b@example.org": "c@example.org", "f": "x@y.org"}',
        "POSTMASTER": "nobody",
        "UPSTREAM_PROXY_PROTOCOL": "v1", "DEBUG": "1",
        "MESSAGE_SIZE_LIMIT": "50M", "MAX_PROCESSES": "0",
        "STARTUP_CHECK": "no", "DRAIN_TIMEOUT": "-1",
        "TLS_CERT_FILE": "/nowhere.crt", "TLS_KEY_FILE": "/nowhere.key",
        "POSTFIX_no_such_parameter": "x", "POSTFIX_queue_directory": "/tmp",
        "POSTFIX_myhostname": "x", "SWIFTDROP_SMTP_LOG": "none",
        "SWIFTDROP_A_RECIPIENTS": "b@example.org, z@example.org",
        "SWIFTDROP_A_CONTAINER": "c", "SWIFTDROP_A_AUTH_VERSION": "2",
        "SWIFTDROP_B_RECIPIENTS": "y@example.org",
        "SWIFTDROP_B_RETRIES": "x", "SWIFTDROP_C_KEY_FILE": "/nowhere",
        "SWIFTDROP_SERVICE_HOST": "10.0.0.1", "SWIFTDROP_PORT": "tcp://x"})
    assert status == 78
    for name in ("MYHOSTNAME: is required", 'MYDOMAIN: "under_score.org"',
                 'RECIPIENTS: "*"', "RECIPIENTS: element 3",
                 'FORWARDS: "f"', 'POSTMASTER: "nobody"',
                 "UPSTREAM_PROXY_PROTOCOL: ", 'DEBUG: "1"',
                 'MESSAGE_SIZE_LIMIT: "50M"', 'MAX_PROCESSES: "0"',
                 'STARTUP_CHECK: "no"', 'DRAIN_TIMEOUT: "-1"',
                 "TLS_CERT_FILE: /nowhere.crt: No such file",
                 "POSTFIX_no_such_parameter: is not a parameter",
                 "POSTFIX_queue_directory: is set by the image",
                 "POSTFIX_myhostname: has its own variable, MYHOSTNAME",
                 "SWIFTDROP_SMTP_LOG: is set by the image",
                 "SWIFTDROP_A_AUTH_VERSION: ", "SWIFTDROP_B_RETRIES: ",
                 "SWIFTDROP_C_KEY_FILE: cannot read /nowhere: No such file"):
        assert f"error: {name}" in log, name
    assert "SERVICE" not in log and "PORT:" not in log


def test_value_that_the_file_cannot_hold_is_named(podman, tmp_path, settings):
    status, log = launch(podman, tmp_path, settings(SWIFTDROP_A_KEY="key "))
    assert status == 78
    assert "error: SWIFTDROP_A_KEY: this, or the DEFAULT that it" in log
    assert log.count("error: ") == 1


def test_secrets_as_files_and_where_they_end_up(run, settings, box, tmp_path):
    secret = tmp_path / "key"
    secret.write_text("testing\n")
    secret.chmod(0o400)
    addresses = tmp_path / "recipients"
    addresses.write_text("a@example.org,\n b@example.org\n")
    environment = settings(
        SWIFTDROP_A_KEY_FILE="/secrets/key",
        SWIFTDROP_A_RECIPIENTS_FILE="/secrets/recipients")
    del environment["SWIFTDROP_A_KEY"], environment["SWIFTDROP_A_RECIPIENTS"]
    spool = tmp_path / "spool"
    spool.mkdir()
    container = run(environment, f"--volume={tmp_path}:/secrets:ro",
                    spool=spool)
    assert send(["b@example.org"])[0] == 250
    assert len(box.names()) == 1
    root = pathlib.Path("/proc", container.pid(), "root")
    ini = os.stat(root / "run/swiftdrop/swiftdrop.ini")
    assert (stat.S_IMODE(ini.st_mode), ini.st_uid, ini.st_gid) == \
        (0o640, 0, 901)
    found = subprocess.run(["grep", "-rlI", "testing", spool],
                           capture_output=True, text=True)
    assert found.stdout == ""
    for entry in ("environ", "cmdline"):
        assert b"testing" not in (root / f"proc/1/{entry}").read_bytes()


def test_secret_and_list_rewritten_in_a_running_image_are_taken(
        run, settings, box, tmp_path):
    def write(name, text):
        new = tmp_path / "new"
        new.write_text(text)
        new.chmod(0o400)
        new.rename(tmp_path / name)

    write("key", "testing\n")
    write("recipients", '["a@example.org", "b@example.org"]')
    write("own", "a@example.org, b@example.org")
    # A token would serve on when the key is wrong.
    environment = settings(LOGIN_INTERVAL="0",
                           SWIFTDROP_A_KEY_FILE="/files/key",
                           RECIPIENTS_FILE="/files/recipients",
                           SWIFTDROP_A_RECIPIENTS_FILE="/files/own")
    for name in ("RECIPIENTS", "SWIFTDROP_A_KEY", "SWIFTDROP_A_RECIPIENTS"):
        del environment[name]
    container = run(environment, f"--volume={tmp_path}:/files:ro")
    assert send(["a@example.org"])[0] == 250
    # A fault is told once and changes nothing.
    write("key", "blank \n")
    container.await_text("error: the settings stay as they were")
    assert send(["a@example.org"])[0] == 250
    write("key", "wrong\n")
    eventually(lambda: send(["a@example.org"])[0] == 451)
    write("key", "testing\n")
    eventually(lambda: send(["a@example.org"])[0] == 250)
    assert container.text().count("the changed settings are in use") == 2
    write("recipients", '["a@example.org", "b@example.org", '
                        '"c@example.org"]')
    write("own", "a@example.org, b@example.org, c@example.org")

    def takes_c():
        with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
            client.ehlo()
            client.mail("someone@foreign.example")
            return client.rcpt("c@example.org")[0] == 250

    eventually(takes_c)
    count = len(box.names())
    assert send(["c@example.org"])[0] == 250
    assert len(box.names()) == count + 1


def test_authorities_mounted_over_the_image_s_are_used_at_once(
        run, settings, box, own_swift, tmp_path):
    authority = lab.Authority(tmp_path / "authority")
    folder = tmp_path / "certs"
    folder.mkdir()
    tls = lab.Tls(f"{tmp_path}/tls", authority, own_swift.port)
    tls.start()
    try:
        url = f"https://127.0.0.1:{tls.port}"
        storage = own_swift.connection().get_auth()[0].split("/", 3)[3]
        container = run(settings(
                     STARTUP_CHECK="warn",
                     SWIFTDROP_A_AUTHURL=f"{url}/auth/v1.0",
                     SWIFTDROP_A_OS_OPTIONS_OBJECT_STORAGE_URL=(
                         f"{url}/{storage}")),
            f"--volume={folder}:/etc/ssl/certs:ro")
        assert "ca-certificates.crt" not in container.text()
        assert send_refused(["a@example.org"]) == 451
        for name in os.listdir(authority.hashed_folder):
            (folder / name).write_bytes(pathlib.Path(
                authority.hashed_folder, name).read_bytes())
        assert send(["a@example.org"])[0] == 250
    finally:
        tls.stop()
    assert len(box.names()) == 1


def test_sigterm_lets_a_running_upload_finish(run, settings, own_swift, box):
    container = run(settings())
    assert send(["a@example.org"])[0] == 250
    own_swift.pause()
    result = []
    sender = threading.Thread(
        target=lambda: result.append(send(["a@example.org"])))
    sender.start()
    eventually(lambda: "swiftdrop" in container.podman.run(
        "top", container.name, "comm").stdout.split()[2:])
    container.signal()
    container.await_text("port 25 is closed")
    eventually(lambda: not process.connects(25))
    time.sleep(1)
    assert not result
    own_swift.resume()
    sender.join(60)
    assert result[0][0] == 250
    assert container.wait() == 0
    assert len(box.names()) == 2


def test_sigterm_waits_no_longer_than_told(run, settings):
    container = run(settings(DRAIN_TIMEOUT="1"))
    with socket.create_connection(("127.0.0.1", 25), timeout=60) as client:
        assert client.recv(100).startswith(b"220")
        started = time.monotonic()
        container.signal()
        assert container.wait() == 0
        assert 0.9 < time.monotonic() - started < 10
    assert "1 sessions are cut after 1 s" in container.text()


def test_ends_when_master_does(run, settings):
    container = run(settings())
    pids = container.podman.run("top", container.name, "hpid", "comm").stdout
    master = int(re.search(r"^(\d+) +master", pids, re.M).group(1))
    os.kill(master, 9)
    assert container.wait() == 70
    assert "master(8) was killed by signal 9" in container.text()


def test_forwards_in_the_spool_survive_a_restart(
        run, settings, elsewhere, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    soon = {"POSTFIX_queue_run_delay": "2s",
            "POSTFIX_minimal_backoff_time": "1s",
            "POSTFIX_maximal_backoff_time": "2s"}
    container = run(settings(
        POSTFIX_relayhost=f"[127.0.0.1]:{process.free_port()}", **soon),
        spool=spool)
    assert send(["away@example.org"])[1] == "2.0.0 Ok: forwarded"
    container.await_text("status=deferred")
    container.signal()
    assert container.wait() == 0
    run(settings(**soon), spool=spool)
    mails = eventually(elsewhere.mails, 60)
    assert len(mails) == 1 and b"jane@elsewhere.example" in mails[0]


# ---- logins -----------------------------------------------------------------

class Logins(http.server.ThreadingHTTPServer):
    """A Keystone's front door, which counts the logins that pass."""

    def __init__(self, keystone):
        self.count = 0
        self.keystone = f"http://127.0.0.1:{keystone.port}"
        self.url = None
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v3"
        threading.Thread(target=self.serve_forever).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.count += self.path == "/v3/auth/tokens"
            try:
                answer = urllib.request.urlopen(urllib.request.Request(
                    self.server.keystone + self.path, body,
                    {"Content-Type": "application/json"}), timeout=60)
            except urllib.error.HTTPError as refusal:
                answer = refusal
            with answer:
                content = answer.read()
            self.send_response(answer.status)
            for name in ("X-Subject-Token", "Content-Type"):
                if answer.headers[name]:
                    self.send_header(name, answer.headers[name])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass


@pytest.fixture(scope="module")
def own_keystone_swift(own_network, lab_folder):
    yield from running(
        lab.Swift(f"{lab_folder}/image-keystone-swift", keystone=True))


@pytest.fixture
def logins(own_keystone_swift):
    with Logins(own_keystone_swift.keystone) as server:
        yield server


@pytest.fixture
def keystone_settings(own_keystone_swift, logins):
    """A function that returns the environment of two accounts with one login.
    """
    def make(**others):
        boxes = [own_keystone_swift.container() for _ in RECIPIENTS]
        accounts = {
            name: {"recipients": recipient, **box.options(),
                   "authurl": logins.url}
            for name, recipient, box in zip("AB", RECIPIENTS, boxes)}
        return image.variables(accounts, RECIPIENTS, POSTMASTER=POSTMASTER,
                               **others)
    return make


def test_one_login_serves_all_mails(run, keystone_settings, logins):
    container = run(keystone_settings())
    for i in range(20):
        assert send([RECIPIENTS[i % 2]])[0] == 250
    assert logins.count == 1
    assert "account: " not in container.text()
    root = pathlib.Path("/proc", container.pid(), "root/run/swiftdrop/token")
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_uid,
            root.stat().st_gid) == (0o770, 0, 901)
    [token] = root.iterdir()
    assert (stat.S_IMODE(token.stat().st_mode), token.stat().st_uid) == \
        (0o600, 901)


def test_each_mail_logs_in_where_that_is_asked_for(run, keystone_settings,
                                                   logins):
    run(keystone_settings(LOGIN_INTERVAL="0"))
    before = logins.count
    for _ in range(3):
        assert send([RECIPIENTS[0]])[0] == 250
    assert logins.count == before + 3


def test_tokens_are_kept_fresh(run, keystone_settings, logins, tmp_path,
                               own_keystone_swift):
    """A login that fails is told once, and what it is too late for."""
    def write(text):
        new = tmp_path / "new"
        new.write_text(text)
        new.chmod(0o400)
        new.rename(tmp_path / "key")

    password = own_keystone_swift.keystone.password
    write(password)
    environment = keystone_settings(LOGIN_INTERVAL="10",
                                    SWIFTDROP_A_KEY_FILE="/files/key",
                                    SWIFTDROP_B_KEY_FILE="/files/key")
    for name in "AB":
        del environment[f"SWIFTDROP_{name}_KEY"]
    container = run(environment, f"--volume={tmp_path}:/files:ro")
    eventually(lambda: logins.count == 3, 60)
    write("wrong")
    container.await_text("the changed settings are in use")
    failed = "warning: login: A: failed, token_file=/run/swiftdrop/token/0"
    container.await_text(failed)
    before = logins.count
    # The old token is good as long as Keystone says.
    assert send([RECIPIENTS[0]])[0] == 250
    eventually(lambda: logins.count == before + 2, 60)
    assert container.text().count(failed) == 1
    assert "status=401" in container.text()
    write(password)
    container.await_text("all accounts log in again", 60)


def test_wrong_password_at_the_start_is_told(podman, tmp_path, run,
                                             keystone_settings):
    wrong = keystone_settings(SWIFTDROP_A_KEY="wrong", SWIFTDROP_B_KEY="wrong")
    status, log = launch(podman, tmp_path, wrong)
    assert status == 69, log
    assert log.count("warning: login: A: failed, ") == 1
    container = run({**wrong, "STARTUP_CHECK": "warn"})
    assert send_refused([RECIPIENTS[0]]) == 451
    container.signal()
    assert container.wait() == 0


def test_sigterm_does_not_wait_for_a_login(run, keystone_settings, logins,
                                           own_keystone_swift):
    environment = keystone_settings(LOGIN_INTERVAL="10")
    container = run(environment)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        logins.keystone = f"http://127.0.0.1:{silent.getsockname()[1]}"
        count = logins.count
        eventually(lambda: logins.count > count)
        container.signal()
        assert container.wait(10) == 0


# ---- somebody hears of it ---------------------------------------------------

def over_again(box, container):
    """An account fails as its container is missing, and 20 mails with it."""
    box.swift.connection().delete_container(box.name)
    for _ in range(20):
        assert send_refused(["a@example.org"]) == 451
    container.await_text("reason=")


def test_failing_account_is_mailed_once_and_its_end(run, settings, box,
                                                    elsewhere):
    container = run(settings(ERRORMAIL="admin@elsewhere.example"))
    over_again(box, container)
    [begun] = eventually(elsewhere.mails)
    assert b"failing: mail is deferred for account A, " in begun
    assert b"status=404" in begun and b"dsn=4.3.5" in begun
    assert b"admin@elsewhere.example" in begun
    box.swift.connection().put_container(box.name)
    assert send(["a@example.org"])[0] == 250
    mails = eventually(lambda: len(elsewhere.mails()) == 2
                       and elsewhere.mails())
    [over] = [text for text in mails if text != begun]
    assert b"Subject: mail.example.org: over: mail is deferred for" in over
    assert b"account A, 20 times" in over
    for field in (b"From: ", b"Date: ", b"Message-Id: ",
                  b"Auto-Submitted: auto-generated"):
        assert b"\n" + field in over


@pytest.mark.parametrize("address", ["a@example.org", "back@example.org"])
def test_mail_that_would_go_to_the_failing_account_is_in_the_log(
        run, settings, box, elsewhere, address):
    container = run(settings(ERRORMAIL=address))
    over_again(box, container)
    told = "error: ERRORMAIL: failing: mail is deferred for account A, "
    container.await_text(told)
    box.swift.connection().put_container(box.name)
    assert send(["a@example.org"])[0] == 250
    eventually(lambda: len(box.names()) == 2)
    mails = [content for _, _, content in box.objects()]
    assert sum(b"over: mail is deferred for account A, 20 times" in content
               for content in mails) == 1
    assert container.text().count(told) == 1
    assert elsewhere.mails() == []


def test_bounce_of_a_forward_is_told(run, settings, elsewhere, box, lab_folder):
    """By a way that takes it: the other refuses all."""
    refusing = lab.Sink(f"{lab_folder}/errormail-{box.name}",
                        options=["-f", "rcpt"])
    refusing.start()
    try:
        run(settings(
            ERRORMAIL="a@example.org", POSTMASTER="b@example.org",
            POSTFIX_relayhost=f"[127.0.0.1]:{refusing.port}"))
        assert send(["away@example.org"])[1] == "2.0.0 Ok: forwarded"
        eventually(lambda: any(b"failing: forwards bounce, " in content
                               for _, _, content in box.objects()))
    finally:
        refusing.stop()
    assert elsewhere.mails() == []


# ---- certificates -----------------------------------------------------------

def peer_certificate():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP("127.0.0.1", 25, timeout=60) as client:
        client.starttls(context=context)
        return client.sock.getpeercert(binary_form=True)


def test_certificate_is_served_and_renewed(run, settings, tmp_path):
    authority = lab.Authority(tmp_path / "authority")
    pair = tmp_path / "pair"
    pair.mkdir()

    def install(name, days, key=None):
        made = authority.issue(name, days=days)
        for source, target in zip((made[0], key or made[1]),
                                  ("tls.crt", "tls.key")):
            (pair / (target + ".new")).write_bytes(
                pathlib.Path(source).read_bytes())
        for target in ("tls.key", "tls.crt"):
            (pair / (target + ".new")).rename(pair / target)
        return made

    first = install("first.example.org", 13)
    container = run(settings(TLS_CERT_FILE="/pair/tls.crt",
                             TLS_KEY_FILE="/pair/tls.key"),
                    f"--volume={pair}:/pair:ro")
    assert b"first.example.org" in peer_certificate()
    assert re.search(r"warning: TLS_CERT_FILE: /pair/tls.crt expires in 1[23]"
                     r" days", container.text())
    # A pair that does not belong together is not taken.
    install("second.example.org", 30, key=first[1])
    container.await_text("is not the key of the certificate")
    assert b"first.example.org" in peer_certificate()
    install("third.example.org", 30)
    container.await_text("the renewed certificate is in use")
    eventually(lambda: b"third.example.org" in peer_certificate())


def test_old_authorities_are_warned_of(run, settings, tmp_path):
    bundle = tmp_path / "bundle"
    bundle.write_text("")
    os.utime(bundle, (0, time.time() - 366 * 86400))
    path = "/etc/ssl/certs/ca-certificates.crt"
    container = run(settings(), f"--volume={bundle}:{path}:ro")
    assert f"warning: {path} is older than a year" in container.text()


# ---- the other target -------------------------------------------------------

def test_filter_alone_serves_a_session(podman, box, tmp_path):
    options = {"RECIPIENTS": "a@example.org", **box.options()}
    environment = [f"--env=SWIFTDROP_A_{key.upper()}={value}"
                   for key, value in options.items()]
    content = mail("filtered").decode()
    done = podman.run(
        "run", "--rm", "--interactive", "--network=host", "--read-only",
        "--cap-drop=all", "--security-opt=no-new-privileges", *environment,
        podman.filter, input="EHLO x\r\nMAIL FROM:<x@foreign.example>\r\n"
        f"RCPT TO:<a@example.org>\r\nDATA\r\n{content}.\r\nQUIT\r\n")
    assert "250 2.0.0 Ok: stored as " in done.stdout
    assert box.only()[2].decode() == content


# ---- rspamd beside it -------------------------------------------------------

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def test_rspamd_judges_what_the_image_takes(run, settings, box, lab_folder):
    dns = Dns(f"{lab_folder}/image-dns", {})
    rspamd = Rspamd(f"{lab_folder}/image-rspamd", dns)
    with contextlib.ExitStack() as stack:
        for server in dns, rspamd:
            stack.callback(server.stop)
            server.start()
        run(settings(SWIFTDROP_SMTP_RSPAMD=rspamd.url))
        code, text = send(["a@example.org"], mail() + GTUBE + b"\r\n")
        assert (code, text[:5]) == (550, "5.7.1"), text
        assert box.names() == []
        code, text = send(["a@example.org"])
        assert code == 250, text
    metadata = box.metadata(box.only()[0])
    assert metadata["verdict"] not in ("none", "reject")
    assert metadata["verdict-score"].endswith("/15.00")
