# SPDX-License-Identifier: GPL-3.0-or-later
"""What a session must not cost: more instructions than it did, memory that
grows with the message, a library's start that it does not need, the whole
bundle of authorities.

Nothing here is timed: callgrind counts, strace(1) tells the order of what is
done, /proc the peak of memory. bench/run measures the times.
"""

import json
import os
import re
import shutil
import subprocess

import pytest

from helpers import program
from lab import debian

BUNDLES = ("ca-certificates.crt", "cert.pem", "ca-bundle.crt")
AUTHORITIES = 40
MAIL = b"Subject: cost\r\n\r\nhello\r\n"


class Trace:
    """A session under strace(1), and what it did, in order."""

    def __init__(self, bench, config):
        self._path = bench.folder / "trace"
        self.session = bench.session(config, prefix=(
            "strace", "-f", "-y", "-s", "40", "-e",
            "trace=openat,open,read,pread64,write,writev,sendto,sendmsg",
            "-o", str(self._path)))
        self.session.greet()

    def text(self):
        """The whole trace, once the session has ended."""
        self.session.quit()
        text = self._path.read_text()
        assert "220 " in text, "strace does not see what the program sends"
        return text


def opened(text):
    """The paths that a trace opens or tries to open, in order."""
    return re.findall(r'\bopen(?:at)?\((?:\S+, )?"([^"]+)"', text)


def named(paths, *words):
    return [path for path in paths
            if any(word in os.path.basename(path) for word in words)]


@pytest.fixture
def capath(tmp_path, authority):
    """A hashed folder in which the lab's authority is one of many."""
    folder = tmp_path / "authorities"
    folder.mkdir()
    key = tmp_path / "authority.key"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey",
                    "-noout", "-out", key], check=True)
    for number in range(AUTHORITIES):
        subprocess.run(
            ["openssl", "req", "-x509", "-new", "-key", key, "-days", "30",
             "-subj", f"/CN=authority {number}", "-out",
             folder / f"{number}.pem"], check=True)
    shutil.copy(authority.certificate, folder / "lab.pem")
    subprocess.run(["openssl", "rehash", folder], check=True)
    return folder


def box(container, **more):
    return {"recipients": "*", **container.options(), **more}


def test_static_program_says_what_is_in_it():
    """test_session.py has the other one."""
    static = program.TOP / "swiftdrop.static"
    shown = subprocess.run([static, "--version"], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    assert re.fullmatch(r"libcurl/\d[\d.]+ OpenSSL/3\.[\w.]+, "
                        "linked from archives", shown.splitlines()[1])
    needed = subprocess.run(["objdump", "-p", static], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    assert "libc.so" in needed
    assert not re.search("libcurl|libssl|libcrypto|libjansson", needed)


def test_a_session_without_mail_data_starts_no_library(bench, container):
    """OpenSSL's configuration is for TLS, libsystemd for LISTEN_FDS alone."""
    trace = Trace(bench, bench.config(box=box(container)))
    trace.session.envelope()
    assert trace.session.cmd("RSET").code == 250
    paths = opened(trace.text())
    assert named(paths, "libc.so")
    assert named(paths, "libsystemd", "openssl.cnf") == []
    trace = Trace(bench, bench.config(box=box(container)))
    assert trace.session.deliver(MAIL).code == 250
    paths = opened(trace.text())
    assert named(paths, "libsystemd", "openssl.cnf") == []


def test_a_session_reads_only_the_authority_it_needs(bench, tls_container,
                                                     capath):
    trace = Trace(bench, bench.config(box=box(tls_container, cacert=capath)))
    assert trace.session.deliver(MAIL).code == 250
    text = trace.text()
    files = [path for path in opened(text) if path.startswith(f"{capath}/")]
    assert len(os.listdir(capath)) > 2 * AUTHORITIES
    assert len(set(files)) == 1, files
    read = sum(int(count) for count in re.findall(
        rf"read(?:64)?\(\d+<{re.escape(str(capath))}/.* = (\d+)$", text, re.M))
    size = os.path.getsize(capath / "lab.pem")
    # Two requests, at most two connections, each of which looks it up.
    assert 0 < read <= 2 * size, (read, size)
    assert named(opened(text), *BUNDLES) == []
    assert tls_container.only()[2] == MAIL


def test_the_default_authorities_are_never_read_as_a_bundle(bench,
                                                            tls_container):
    """They do not know the lab's, so the mail is refused besides."""
    options = box(tls_container)
    del options["cacert"]
    trace = Trace(bench, bench.config(box=options))
    reply = trace.session.deliver(MAIL)
    assert (reply.code, reply.status) == (451, "4.3.5")
    paths = opened(trace.text())
    assert named(paths, "openssl.cnf")
    assert named(paths, *BUNDLES) == []
    assert tls_container.names() == []


def peak_kib(bench, container, size):
    """The peak memory of a session that stores a mail of this size."""
    session = bench.accept(box=box(container))
    line = b"x" * 78 + b"\r\n"
    content = (line * (size // len(line) + 1))[:size - 2] + b"\r\n"
    assert len(content) == size
    assert session.deliver(content, timeout=90).code == 250
    # ru_maxrss would also count what the process was before exec.
    with open(f"/proc/{session.process.pid}/status") as file:
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1])
    session.quit()
    return peak


def test_a_mail_of_50_mib_takes_at_most_4_mib_more_memory(bench, container):
    small = peak_kib(bench, container, 1 << 10)
    large = peak_kib(bench, container, 50 << 20)
    assert large - small <= 4096, (small, large)
    sizes = sorted(int(container.head(name)["content-length"])
                   for name in container.names())
    assert sizes == [1 << 10, 50 << 20]


def instructions(bench, store, recipients):
    """Those of a session that greets and settles two recipients."""
    names = ", ".join(f"user{number * 7919 % recipients}@example.com"
                      for number in range(recipients))
    session = bench.session(
        bench.config(SMTP={"log": "none"}, a=store.account(recipients=names)),
        prefix=("valgrind", "--tool=callgrind", "--callgrind-out-file="
                "/dev/null", f"--log-file={bench.folder}/callgrind"))
    assert session.reply(60).code == 220
    session.cmd("EHLO x")
    session.cmd("MAIL FROM:<>")
    assert session.cmd("RCPT TO:<user0+tag@example.com>").code == 250
    assert session.cmd("RCPT TO:<nobody@example.com>").code == 450
    session.quit()
    return int(re.search(r"Collected : (\d+)", (
        bench.folder / "callgrind").read_text())[1])


def test_a_recipient_costs_as_much_among_many_as_among_few(bench, store):
    """Sorted and searched: what a list costs grows as the list does."""
    none, few, many = (instructions(bench, store, count)
                       for count in (1, 1000, 20000))
    assert (many - none) / 20000 < 1.5 * (few - none) / 1000


def test_texts_say_what_was_measured(tmp_path):
    """RESULTS.md, and what README.md has of it."""
    copy = tmp_path / "bench"
    shutil.copytree(program.TOP / "bench", copy)
    shutil.copy(program.TOP / "README.md", tmp_path)

    def check():
        return subprocess.run([copy / "report", "--check"], text=True,
                              stdout=subprocess.PIPE)

    done = check()
    assert done.returncode == 0, done.stdout
    for name in ("README.md", "bench/RESULTS.md"):
        path = tmp_path / name
        text = path.read_text()
        path.write_text(re.sub(r"(\d) (ms of CPU|MiB)", r"\1.5 \2", text))
        done = check()
        assert done.returncode == 1
        assert done.stdout == f"{path} is not what bench/report writes\n"
        path.write_text(text)


COUNT = program.TOP / "bench/instructions"


@pytest.fixture(scope="module")
def counted():
    """What bench/instructions says of all scenes."""
    return subprocess.run([COUNT], stdout=subprocess.PIPE, text=True)


def test_no_session_costs_3_percent_more_than_it_did(counted):
    """Each scene, by both programs; `make baseline` accepts what is meant."""
    assert counted.returncode == 0, counted.stdout
    assert counted.stdout.count("50 MiB") == 2, counted.stdout


def test_a_rise_of_4_percent_is_found(counted, tmp_path):
    """A baseline that is less than what was counted, by 2 percent or by 4."""
    scenes = ["4 KiB", "4 KiB, HTTPS"]
    baseline = json.loads((COUNT.parent / "baseline.json").read_text())
    for name, scene, number in re.findall(
            r"^(\S+) +(.*?) +([\d,]{6,}) \(", counted.stdout, re.M):
        number = int(number.replace(",", ""))
        baseline[debian.RELEASE][name][scene] = number / (
            1.04 if name == "swiftdrop.static" else 1.02)
    planted = tmp_path / "planted.json"
    planted.write_text(json.dumps(baseline))
    done = subprocess.run([COUNT, planted, *scenes], stdout=subprocess.PIPE,
                          text=True)
    assert done.returncode == 1
    assert re.findall(r"^(\S+) .*RISES$", done.stdout, re.M) == \
        ["swiftdrop.static"] * 2, done.stdout


def test_a_release_without_a_baseline_fails(tmp_path):
    """What it costs with another release's libraries says nothing."""
    planted = tmp_path / "planted.json"
    planted.write_text('{"another": {}}')
    done = subprocess.run([COUNT, planted], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert f'has nothing of {debian.RELEASE}: "make baseline"' in done.stdout
