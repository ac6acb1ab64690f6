# SPDX-License-Identifier: GPL-3.0-or-later
"""The program and its connection (contract, section 1)."""

import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time
import tty

import pytest

import standin
from helpers import program

MESSAGE = (b"From: a@example.org\r\nSubject: session\r\n\r\n"
           b"text\r\n.dot\r\n..two\r\n")
NOWHERE = {"recipients": "box@example.com", "container": "mail",
           "auth_version": "1", "authurl": "http://127.0.0.1:9/auth/v1.0",
           "user": "u", "key": "k"}
TRANSPORTS = ("pipe", "socketpair", "spawn", "unix", "tcp", "tcp6", "mapped")


def served(session, store):
    """A message goes through, the session ends as it should."""
    keywords = session.greet()
    assert any(word.startswith("XFORWARD ") for word in keywords)
    reply = session.deliver(MESSAGE)
    assert reply.code == 250, reply
    name, content = store.only
    assert content == MESSAGE
    assert reply.text == "2.0.0 Ok: stored as " + name.removeprefix("cur/")
    session.quit()


# The table of calls.

@pytest.mark.parametrize("how", TRANSPORTS)
def test_session_over(how, bench, store):
    served(bench.session(bench.config(archive=store.account()), how=how),
           store)


def test_session_on_a_terminal(bench):
    """As an administrator tries it by hand; the terminal is raw, so that
    it neither echoes nor translates line ends."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    with subprocess.Popen(
            [program.BINARY, "-c", bench.config(archive=NOWHERE)],
            stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL,
            env=program.environment()) as process:
        os.write(ours, b"EHLO x\r\nQUIT\r\n")
        assert process.wait(20) == 0
        said = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert said.startswith(b"220 ") and b"XFORWARD" in said
    assert said.splitlines()[-1].startswith(b"221 ")


@pytest.mark.parametrize("spelling", ("-c {}", "-c{}", "--config={}",
                                      "--config {}"))
def test_option_config(spelling, bench, store):
    path = bench.config(archive=store.account())
    session = bench.session(arguments=spelling.format(path).split())
    served(session, store)


def test_default_configuration_file(bench, store, tmp_path):
    """/etc/swiftdrop.ini, in a mount namespace with an /etc of its own."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "swiftdrop.ini").write_text(program.ini(archive=store.account()))
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "ld.so.cache"):
        (etc / name).write_bytes(pathlib.Path("/etc", name).read_bytes())
    session = bench.session(
        arguments=(), prefix=("unshare", "-rm", *program.shell(
            f"mount --bind {etc} /etc")))
    served(session, store)


def test_version():
    done = program.run("--version")
    assert done.returncode == 0 and done.stderr == ""
    first, second, *_ = done.stdout.splitlines()
    assert re.fullmatch(r"swiftdrop \d[\d.]+", first)
    assert re.fullmatch(r"libcurl/\d[\d.]+ OpenSSL/3\.[\w.]+, linked shared",
                        second)


def test_help():
    done = program.run("--help")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Usage: ")
    for word in ("--config", "check", "config", "--write", "--version"):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", (
    ("--nonsense",), ("-x",), ("-c",), ("nonsense",), ("config", "extra"),
    ("config", "--write"), ("--write",)))
def test_usage_is_64(arguments):
    done = program.run(*arguments)
    assert done.returncode == 64
    assert done.stdout == ""
    said, hint = done.stderr.splitlines()
    assert said.startswith("swiftdrop: ") or "/swiftdrop: " in said
    assert hint == "Try 'swiftdrop --help' for more information."


@pytest.mark.parametrize("arguments, named", (
    (("-xy",), "'x'"), (("-yc", "x"), "'y'"), (("--wrote",), "'--wrote'"),
    (("check", "-w"), "'w'"), (("--config",), "'--config'")))
def test_the_option_that_is_wrong_is_named(arguments, named):
    done = program.run(*arguments)
    assert done.returncode == 64
    assert f" {named}\n" in done.stderr or f" {named} " in done.stderr


# LISTEN_FDS.

def listen_fds(bench, config, setup, how="tcp", prefix=(), **more):
    """A session whose socket is descriptor 3, and 0 and 1 are nothing."""
    return bench.session(config, how=how, prefix=(*prefix, *program.shell(
        f"exec 3<&0 0</dev/null 1>/dev/null\n{setup}\nexport LISTEN_FDS "
        "LISTEN_PID")), **more)


@pytest.mark.parametrize("how", ("tcp", "tcp6", "unix"))
def test_socket_passed_by_systemd(how, bench, store):
    served(listen_fds(bench, bench.config(archive=store.account()),
                      "LISTEN_FDS=1 LISTEN_PID=$$", how), store)


def test_listen_fds_of_another_process_is_ignored(bench, store):
    session = bench.session(
        bench.config(archive=store.account()), how="socketpair",
        prefix=program.shell("LISTEN_FDS=1 LISTEN_PID=1\n"
                             "export LISTEN_FDS LISTEN_PID"))
    served(session, store)


@pytest.mark.parametrize("setup", (
    "LISTEN_FDS=2", "LISTEN_FDS=0", "LISTEN_FDS=x", "LISTEN_FDS=-1",
    "exec 3>&-; LISTEN_FDS=1", "exec 3</dev/null; LISTEN_FDS=1"))
def test_wrong_listen_fds_is_78_and_nobody_is_answered(setup, bench,
                                                       tmp_path):
    """Said before the option log is read: on a host without syslog."""
    config = bench.config(archive=NOWHERE)
    session = listen_fds(bench, config, f"{setup}; LISTEN_PID=$$",
                         prefix=program.mounts(tmp_path, "/dev"))
    assert session.end_of_stream() == b""
    session.ends(78)
    assert "LISTEN_FDS" in str(session.log) or "socket" in str(session.log)


def test_wrong_listen_fds_says_nothing_on_the_clients_descriptor_2(bench):
    session = listen_fds(bench, bench.config(archive=NOWHERE),
                         "exec 4<&3 2>&3; LISTEN_FDS=2; LISTEN_PID=$$")
    assert session.end_of_stream() == b""
    session.ends(78)


def unfit_sockets():
    """Sockets that are not one connected stream."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(1)
    listening_unix = socket.socket(socket.AF_UNIX)
    listening_unix.bind(b"\0swiftdrop-test-" + os.urandom(8))
    listening_unix.listen(1)
    return {"listening": listening, "listening unix": listening_unix,
            "datagram": socket.socketpair(type=socket.SOCK_DGRAM)[0]}


@pytest.mark.parametrize("kind", ("listening", "listening unix",
                                  "datagram"))
def test_listen_fds_that_is_no_connected_stream_is_78(kind, bench):
    sockets = unfit_sockets()
    try:
        session = bench.session(
            bench.config(archive=NOWHERE), ends=socket.socketpair(),
            prefix=program.shell(
                f"exec 3<&{sockets[kind].fileno()}\n"
                "LISTEN_FDS=1 LISTEN_PID=$$\nexport LISTEN_FDS LISTEN_PID"),
            pass_fds=[sockets[kind].fileno()])
        assert session.end_of_stream() == b""
        session.ends(78)
    finally:
        for made in sockets.values():
            made.close()


def test_client_gone_before_the_start_is_0(bench):
    """A reset connection is one that was; Linux shows it as unconnected."""
    ours, theirs = program.meet(loopback())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    b"\1\0\0\0\0\0\0\0")
    ours.close()
    session = listen_fds(bench, bench.config(archive=NOWHERE),
                         "LISTEN_FDS=1 LISTEN_PID=$$",
                         ends=[socket.socket(), theirs])
    session.ends(0)


def loopback():
    """A bound socket."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


# Exit codes.

def test_exit_0_after_quit(bench):
    bench.accept(archive=NOWHERE).quit()


@pytest.mark.parametrize("how", ("pipe", "tcp", "socketpair"))
@pytest.mark.parametrize("step", ("greeting", "ehlo", "rcpt", "data"))
def test_exit_0_when_the_client_vanishes(step, how, bench, store):
    session = bench.session(bench.config(archive=store.account()), how=how)
    if step != "greeting":
        session.greet()
    if step in ("rcpt", "data"):
        session.envelope()
    if step == "data":
        assert session.cmd("DATA").code == 354
        session.send(b"Subject: cut\r\n\r\ncut off\r\n.\r")
    session.hang_up()
    session.ends(0)
    assert store.of("PUT") == []


def test_exit_0_when_nobody_reads_the_pipe(bench):
    """A reply into it raises no SIGPIPE."""
    session = bench.session(bench.config(archive=NOWHERE), how="pipe")
    session.greet()
    os.close(session.read_fd)
    session.read_fd = os.open("/dev/null", os.O_RDONLY)
    session.send("NOOP\r\nNOOP\r\n")
    session.ends(0)


def test_exit_0_after_a_reset(bench, store):
    session = bench.session(bench.config(archive=store.account()), how="tcp")
    session.greet()
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"Subject: cut\r\n\r\n")
    session.reset()
    session.ends(0)
    assert store.of("PUT") == []


def test_end_of_input_before_the_dot_stores_nothing(bench, store):
    """EOF in the data leaves by no door that the dot leaves by."""
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"Subject: half\r\n\r\nhalf\r\n")
    session.half_close()
    rest = session.end_of_stream()
    assert b"250" not in rest
    session.ends(0)
    assert store.of("PUT") == []


def test_half_closed_client_is_answered(bench, store):
    """Half-closed is not gone (section 7)."""
    session = bench.accept(archive=store.account())
    session.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<box@example.com>\r\n"
                 b"DATA\r\n" + program.stuffed(MESSAGE))
    session.half_close()
    codes = [session.reply().code for _ in range(4)]
    assert codes == [250, 250, 354, 250]
    session.end_of_stream()
    session.ends(0)
    assert store.only[1] == MESSAGE


BROKEN = "[archive]\nrecipients = box@example.com\nnonsense = yes\n"


@pytest.mark.parametrize("how", ("socketpair", "spawn", "tcp"))
def test_broken_configuration_is_421_and_exit_78(how, bench):
    session = bench.session(bench.config(BROKEN), how=how)
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.3.5")
    assert session.end_of_stream() == b""
    session.ends(78)


def test_missing_configuration_is_421_and_exit_78(bench, tmp_path):
    session = bench.session(tmp_path / "none.ini")
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.3.5")
    session.ends(78)


# Descriptors.

CLIENT_ON_2 = {"spawn": {"how": "spawn"},
               "pipe": {"how": "pipe", "prefix": program.shell("exec 2>&1")}}


@pytest.mark.parametrize("way", CLIENT_ON_2)
@pytest.mark.parametrize("log", ("stderr", "auto", "none"))
def test_only_smtp_on_descriptor_2(log, way, bench, store):
    """Under spawn(8) neither a warning nor a log line reaches the client."""
    store.always("PUT", standin.answer(503))
    config = bench.config(SMTP={"log": log}, archive=store.account())
    config.chmod(0o644)  # readable by others: a warning
    session = bench.session(config, **CLIENT_ON_2[way])
    session.greet()
    reply = session.deliver(MESSAGE)
    assert reply.raw == b"451 4.3.0 Error: queue file write error\r\n"
    session.quit()


def test_only_smtp_on_descriptor_2_on_systemd_socket(bench, store):
    store.always("PUT", standin.answer(503))
    config = bench.config(archive=store.account())
    session = bench.session(config, how="spawn", prefix=program.shell(
        "exec 3<&0 0</dev/null 1>/dev/null\nLISTEN_FDS=1 LISTEN_PID=$$\n"
        "export LISTEN_FDS LISTEN_PID"))
    session.greet()
    assert session.deliver(MESSAGE).code == 451
    session.quit()


def test_descriptors_above_2_are_closed(bench):
    read, write = os.pipe()
    other, another = socket.socketpair()
    session = bench.session(bench.config(archive=NOWHERE),
                            pass_fds=[write, other.fileno()])
    session.greet()
    os.close(write)
    other.close()
    for number in (read, another.fileno()):
        ready, _, _ = select.select([number], [], [], 10)
        assert ready, "the program holds the other end"
        assert os.read(number, 1) == b""
    session.quit()
    os.close(read)
    another.close()


# Whom it talks to.

ADDRESS = "192.0.2.77"
MEET = f"""
import socket, subprocess, sys, time
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", "{ADDRESS}/32", "dev", "lo"], check=True)
subprocess.run(["ip", "addr", "add", "2001:db8::77/128", "dev", "lo", "nodad"],
               check=True)
host = sys.argv[2]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.socket(family)
listener.bind((host, 0))
listener.listen(1)
for left in range(50, -1, -1):
    ours = socket.socket(family)
    try:
        ours.connect(listener.getsockname())
        break
    except OSError:  # the new address has no route yet
        if not left:
            raise
        time.sleep(0.02)
theirs, _ = listener.accept()
socket.send_fds(socket.socket(fileno=int(sys.argv[1])), [b"x"],
                [ours.fileno(), theirs.fileno()])
"""


def remote_pair(host=ADDRESS):
    """A connection between addresses that are not loopback, made in a
    network namespace of its own."""
    ours, theirs = socket.socketpair()
    subprocess.run(["unshare", "-rn", "/usr/bin/python3", "-c", MEET,
                    str(theirs.fileno()), host],
                   pass_fds=[theirs.fileno()], check=True)
    _, found, _, _ = socket.recv_fds(ours, 1, 2)
    ours.close()
    theirs.close()
    return [socket.socket(fileno=number) for number in found]


@pytest.mark.parametrize("host", (ADDRESS, "2001:db8::77"))
@pytest.mark.parametrize("how", ("inetd", "systemd"))
def test_remote_peer_is_421(how, host, bench):
    prefix = () if how == "inetd" else program.shell(
        "exec 3<&0 0</dev/null 1>/dev/null\nLISTEN_FDS=1 LISTEN_PID=$$\n"
        "export LISTEN_FDS LISTEN_PID")
    session = bench.session(bench.config(archive=NOWHERE),
                            ends=remote_pair(host), prefix=prefix)
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.7.0")
    assert session.end_of_stream() == b""
    session.ends(0)


def test_remote_peer_with_allow_remote(bench, store, relay):
    """No XFORWARD for it, and nothing re-injected."""
    config = bench.config(
        SMTP={"allow_remote": "yes", "reinject": relay.place},
        archive=store.account())
    session = bench.session(config, ends=remote_pair())
    keywords = session.greet()
    assert not any("XFORWARD" in word for word in keywords)
    reply = session.cmd("XFORWARD NAME=a.example ADDR=192.0.2.9")
    assert (reply.code, reply.status) == (550, "5.7.0")
    assert session.cmd("MAIL FROM:<a@example.org>").code == 250
    reply = session.cmd("RCPT TO:<other@example.com>")
    assert (reply.code, reply.status) == (450, "4.1.1")
    assert session.cmd("RCPT TO:<box@example.com>").code == 250
    session.data(MESSAGE)
    assert session.reply().code == 250
    session.quit()
    assert relay.mails == []


# The session's limits.

def test_idle_client_is_421(bench):
    session = bench.session(bench.config(SMTP={"timeout": "1"},
                                         archive=NOWHERE))
    start = time.monotonic()
    session.greet()
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.4.2")
    assert 0.9 < time.monotonic() - start < 4
    assert session.end_of_stream() == b""
    session.ends(0)


def test_idle_in_mail_data_is_421_and_nothing_is_stored(bench, store):
    session = bench.accept(SMTP={"timeout": "1"}, archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"Subject: slow\r\n\r\nnever ends")
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.4.2")
    assert session.end_of_stream() == b""
    session.ends(0)
    assert store.of("PUT") == []


def test_timeout_is_without_progress(bench):
    """A client that goes on slowly is not idle."""
    session = bench.accept(SMTP={"timeout": "2"}, archive=NOWHERE)
    for octet in b"NOOP\r\n":
        session.send(bytes([octet]))
        time.sleep(0.45)
    assert session.reply().code == 250
    session.quit()


def test_session_limit_is_421(bench):
    start = time.monotonic()
    session = bench.session(bench.config(
        SMTP={"session_limit": "2", "timeout": "60"}, archive=NOWHERE))
    session.greet()
    reply = session.cmd("NOOP")
    while reply.code == 250:
        assert time.monotonic() - start < 6
        time.sleep(0.1)
        reply = session.cmd("NOOP") if session.quiet(0) else session.reply()
    assert (reply.code, reply.status) == (421, "4.4.2")
    assert time.monotonic() - start > 1.9
    session.ends(0)


def test_session_limit_cuts_mail_data(bench, store):
    session = bench.accept(SMTP={"session_limit": "2"},
                           archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    start = time.monotonic()
    while session.quiet(0.2) and time.monotonic() - start < 6:
        session.send(b"line\r\n")
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.4.2")
    session.ends(0)
    assert store.of("PUT") == []


def test_session_limit_does_not_cut_a_message_received(bench, store):
    def slow(exchange):
        exchange.read()
        time.sleep(2.5)
        exchange.good()
    store.once("PUT", slow)
    session = bench.accept(SMTP={"session_limit": "2"},
                           archive=store.account())
    assert session.deliver(MESSAGE).code == 250
    assert store.only[1] == MESSAGE
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.4.2")
    session.ends(0)


# Signals.

def pipelined(count):
    """That many messages as one run of octets."""
    return (b"MAIL FROM:<a@example.org>\r\nRCPT TO:<box@example.com>\r\n"
            b"DATA\r\nSubject: one of many\r\n\r\ntext\r\n.\r\n") * count


def codes(session):
    """The codes of all that is still answered."""
    rest = session.end_of_stream()
    return [int(line[:3]) for line in rest.splitlines()]


@pytest.mark.parametrize("how", ("sigterm", "limit"))
def test_pipelined_commands_outrun_neither_sigterm_nor_the_limit(
        how, bench, store):
    """What waits unread does not keep a session alive."""
    limit = "1" if how == "limit" else "60"
    session = bench.session(bench.config(
        SMTP={"session_limit": limit}, archive=store.account()))
    session.greet()

    def slow(exchange):
        if how == "sigterm":
            session.signal()
        time.sleep(0.4)
        exchange.good()
    store.always("PUT", slow)
    session.send(pipelined(10))
    found = codes(session)
    assert found[-1] == 421
    done = 1 if how == "sigterm" else 4
    assert 1 <= len(store.of("PUT")) <= done
    # Each that was stored was answered.
    assert found[:-1] == [250, 250, 354, 250] * len(store.of("PUT"))
    session.ends(0)


def test_sigterm_while_waiting_for_a_command(bench):
    session = bench.accept(archive=NOWHERE)
    session.signal()
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.3.2")
    assert session.end_of_stream() == b""
    session.ends(0)


def test_sigterm_in_mail_data_stores_nothing(bench, store):
    session = bench.accept(archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"Subject: half\r\n\r\nhalf\r\n")
    time.sleep(0.2)
    session.signal()
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.3.2")
    assert session.end_of_stream() == b""
    session.ends(0)
    assert store.of("PUT") == []


def test_sigterm_after_the_end_of_data_finishes_the_message(bench, store):
    def slow(exchange):
        exchange.read()
        session.signal()
        time.sleep(1)
        exchange.good()
    store.once("PUT", slow)
    session = bench.accept(archive=store.account())
    assert session.deliver(MESSAGE).code == 250
    assert store.only[1] == MESSAGE
    reply = session.reply()
    assert (reply.code, reply.status) == (421, "4.3.2")
    assert session.end_of_stream() == b""
    session.ends(0)


def test_kill_before_the_reply_never_leaves_a_2xx(bench, store):
    """Section 5: what is answered 2xx is in Swift; the rest may be."""
    def kill(exchange):
        exchange.read()
        session.signal(signal.SIGKILL)
        session.process.wait()
        exchange.drop()
    store.once("PUT", kill)
    session = bench.accept(archive=store.account())
    session.envelope()
    session.data(MESSAGE)
    assert session.end_of_stream() == b""
    assert store.objects == {}


@pytest.mark.parametrize("size", (1000, 1 << 20))
def test_kill_leaves_nothing_in_the_spool(size, bench, store, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    session = bench.accept(SMTP={"spool_directory": spool},
                           archive=store.account())
    session.envelope()
    assert session.cmd("DATA").code == 354
    session.send(b"line of text\r\n" * (size // 14))
    time.sleep(0.2)
    assert os.listdir(spool) == []
    session.signal(signal.SIGKILL)
    session.process.wait()
    assert os.listdir(spool) == []


# The spool.

@pytest.mark.parametrize("where", ("option", "environment"))
def test_message_above_256_kib_waits_in_the_spool_directory(
        where, bench, store, tmp_path):
    """Seen by its absence: a smaller one does not need it."""
    spool = tmp_path / "spool"
    smtp = {"spool_directory": spool} if where == "option" else {}
    session = bench.session(
        bench.config(SMTP=smtp, archive=store.account()),
        env={"TMPDIR": str(spool)} if where == "environment" else {})
    session.greet()
    line = b"x" * 62 + b"\r\n"
    assert session.deliver(line * 4096).code == 250  # 256 KiB
    assert session.deliver(line * 4097).code // 100 == 4
    spool.mkdir()
    assert session.deliver(line * 4097).code == 250
    assert os.listdir(spool) == []
    session.quit()


def test_missing_spool_directory_defers_a_large_message(bench, store,
                                                        tmp_path):
    session = bench.accept(SMTP={"spool_directory": tmp_path / "none"},
                           archive=store.account())
    session.envelope()
    reply = session.cmd("DATA")
    if reply.code == 354:
        session.send(b"line\r\n" * 100000 + b".\r\n")
        reply = session.reply()
    assert reply.code in (451, 452)
    assert store.of("PUT") == []
    session.quit()


def test_full_spool_is_452(bench, store):
    session = bench.small_spool("512k", archive=store.account())
    session.greet()
    session.envelope()
    session.data(b"line\r\n" * 200000)
    reply = session.reply()
    assert str(reply) == "452 4.3.1 Insufficient system storage"
    assert store.of("PUT") == []
    # The next message does not suffer from the one before.
    assert session.deliver(MESSAGE).code == 250
    session.quit()


def test_file_size_limit_is_452(bench, store, tmp_path):
    """RLIMIT_FSIZE: a signal must not end the session."""
    session = bench.session(
        bench.config(SMTP={"spool_directory": tmp_path, "log": "none"},
                     archive=store.account()),
        prefix=("/bin/sh", "-c", 'ulimit -f 800; exec "$@"', "sh"))
    session.greet()
    reply = session.deliver(b"line\r\n" * 200000)
    assert str(reply) == "452 4.3.1 Insufficient system storage"
    session.quit()


def peak(session):
    """Peak resident memory in KiB."""
    status = pathlib.Path(f"/proc/{session.process.pid}/status").read_text(
        encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0])


@pytest.mark.slow
def test_50_mib_cost_at_most_4_mib_more_than_1_kib(bench, store):
    small, large = (bench.accept(archive=store.account()) for _ in range(2))
    line = b"x" * 1022 + b"\r\n"
    assert small.deliver(line).code == 250
    before = peak(small)
    assert large.deliver(line * 50 * 1024, timeout=60).code == 250
    assert peak(large) - before <= 4096
    assert len(store.objects) == 2
    for session in (small, large):
        session.quit()
