# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters for statsd (contract, section 9)."""

import json
import re
import socket

import pytest
import yaml

from conftest import TREE
from helpers import program
from lab import statsd
from standin import answer
from swiftq_box import wait_for

MESSAGE = b"Subject: count me\r\n\r\ntext\r\n"


@pytest.fixture
def counter():
    """A socket in place of statsd."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.settimeout(program.PATIENCE)
        yield made


def place(counter):
    return f"127.0.0.1:{counter.getsockname()[1]}"


def lines(counter):
    """The lines of the only datagram, the milliseconds in them as MS."""
    text = counter.recv(65536).decode()
    counter.setblocking(False)
    with pytest.raises(BlockingIOError):
        counter.recv(1)
    counter.settimeout(program.PATIENCE)
    return re.sub(r":\d+\|ms", ":MS|ms", text).split("\n")


def stored(name, octets, tries=1):
    """The lines of a message in one account."""
    return [f"swiftdrop.messages:1|c|#outcome:stored,account:{name},dsn:2.0.0",
            f"swiftdrop.octets:{octets}|c|#account:{name}",
            f"swiftdrop.receive:MS|ms|#account:{name}",
            f"swiftdrop.auth:MS|ms|#account:{name}",
            f"swiftdrop.put:MS|ms|#account:{name}",
            f"swiftdrop.total:MS|ms|#account:{name}",
            f"swiftdrop.tries:{tries}|c"]


FORWARDED = "swiftdrop.messages:1|c|#outcome:forwarded,dsn:2.0.0"
DEFERRED = "swiftdrop.messages:1|c|#outcome:deferred,account:archive,dsn:4.3.0"


def test_stored_message(bench, store, counter):
    session = bench.accept(SMTP={"statsd": place(counter)},
                           archive=store.account(retries="1"))
    store.once("PUT", answer(503))
    assert session.deliver(MESSAGE).code == 250
    assert lines(counter) == stored("archive", len(MESSAGE), 2)
    assert session.deliver(MESSAGE * 2).code == 250
    assert lines(counter) == stored("archive", 2 * len(MESSAGE))
    session.quit()


def test_two_accounts_and_a_forward(bench, store, relay, counter):
    store.containers.add("more")
    session = bench.accept(
        SMTP={"statsd": place(counter), "reinject": relay.place},
        archive=store.account(),
        **{"b:d|#, ä": store.account(recipients="other@example.com",
                                    container="more")})
    reply = session.deliver(MESSAGE, recipients=(
        "box@example.com", "other@example.com", "away@example.com"))
    assert reply.code == 250
    assert lines(counter) == [
        *stored("archive", len(MESSAGE)),
        *stored("b_d______", len(MESSAGE)), FORWARDED]
    session.quit()


def test_forwarded_message(bench, store, relay, counter):
    session = bench.accept(
        SMTP={"statsd": place(counter), "reinject": relay.place},
        archive=store.account())
    assert session.deliver(MESSAGE,
                           recipients=("away@example.com",)).code == 250
    assert lines(counter) == [FORWARDED]
    session.quit()


def test_account_that_fails(bench, store, counter):
    session = bench.accept(SMTP={"statsd": place(counter)},
                           archive=store.account())
    store.always("PUT", answer(503))
    assert session.deliver(MESSAGE).code == 451
    assert lines(counter) == [DEFERRED]
    session.quit()


def test_rejected_message(bench, store, counter):
    session = bench.accept(SMTP={"statsd": place(counter)},
                           archive=store.account())
    session.envelope()
    session.cmd("DATA")
    session.send(b"a\nb\r\n.\r\n")
    assert session.reply().code == 550
    assert lines(counter) == [
        "swiftdrop.messages:1|c|#outcome:rejected,dsn:5.5.2"]
    session.quit()


def test_message_whose_forward_is_in_doubt(bench, store, relay, counter):
    relay.replies["DOT"] = lambda mail: mail.drop()
    session = bench.accept(
        SMTP={"statsd": place(counter), "reinject": relay.place},
        archive=store.account())
    reply = session.deliver(MESSAGE, recipients=("box@example.com",
                                                 "away@example.com"))
    assert reply.code == 451
    assert lines(counter) == [
        "swiftdrop.messages:1|c|#outcome:in_doubt,dsn:4.3.0"]
    session.quit()


def test_client_that_goes_away_in_the_data(bench, store, counter):
    session = bench.accept(SMTP={"statsd": place(counter)},
                           archive=store.account())
    session.envelope()
    session.cmd("DATA")
    session.send(b"Subject: half\r\n")
    session.hang_up()
    assert lines(counter) == ["swiftdrop.messages:1|c|#outcome:lost"]


def test_refused_recipient_is_no_message(bench, store, counter):
    session = bench.accept(SMTP={"statsd": place(counter)},
                           archive=store.account())
    session.cmd("MAIL FROM:<a@example.org>")
    assert session.cmd("RCPT TO:<nobody@example.com>").code == 450
    session.quit()
    counter.setblocking(False)
    with pytest.raises(BlockingIOError):
        counter.recv(1)


def test_reply_comes_before_the_counters(bench, store, counter, tmp_path):
    trace = tmp_path / "trace"
    session = bench.session(
        bench.config(SMTP={"statsd": place(counter)},
                     archive=store.account()),
        prefix=("strace", "-f", "-o", trace, "-e", "trace=sendto,write"))
    session.greet()
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    text = trace.read_text()
    assert 0 < text.index('"250 2.0.0 Ok: stored as') \
        < text.index('"swiftdrop.messages:1')


@pytest.mark.parametrize("kind", ("127.0.0.1:1", "[::1]:1", "unix:/nobody"))
def test_statsd_that_is_not_there_costs_nothing(bench, store, kind):
    session = bench.accept(SMTP={"statsd": kind}, archive=store.account())
    for _ in range(2):
        assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert len(session.log.lines("stored")) == 2
    assert len(str(session.log).splitlines()) == 2


def test_unix_socket(bench, store, short_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as counter:
        counter.bind(f"{short_path}/statsd")
        counter.settimeout(program.PATIENCE)
        session = bench.accept(SMTP={"statsd": f"unix:{short_path}/statsd"},
                               archive=store.account())
        assert session.deliver(MESSAGE).code == 250
        assert lines(counter) == stored("archive", len(MESSAGE))
        session.quit()


def test_statsd_itself_counts(bench, container, tmp_path):
    server = statsd.Statsd(tmp_path / "statsd")
    server.start()
    try:
        session = bench.accept(
            SMTP={"statsd": f"127.0.0.1:{server.port}"},
            archive={"recipients": "box@example.com", **container.options()})
        for _ in range(3):
            assert session.deliver(MESSAGE).code == 250
        session.quit()
        wait_for(lambda: server.ask("counters")["statsd.packets_received"] == 3,
                 "three datagrams")
        counters = {name: value
                    for name, value in server.ask("counters").items()
                    if not name.startswith("statsd.") or "bad" in name}
        timers = server.ask("timers")
    finally:
        server.stop()
    assert counters == {
        "statsd.bad_lines_seen": 0,
        "swiftdrop.messages;outcome=stored;account=archive;dsn=2.0.0": 3,
        "swiftdrop.octets;account=archive": 3 * len(MESSAGE),
        "swiftdrop.tries": 3}
    assert set(timers) == {f"swiftdrop.{name};account=archive"
                           for name in ("receive", "auth", "put", "total")}
    assert all(len(values) == 3 for values in timers.values())


def sent():
    """The metrics that are sent, each with its type and its tags."""
    lines = [*stored("archive", 1), FORWARDED, DEFERRED]
    found = {}
    for line in lines:
        name, kind, tags = re.fullmatch(
            r"swiftdrop\.(\w+):\w+\|(\w+)(?:\|#(.*))?", line).groups()
        found.setdefault(name, (kind, set()))[1].update(
            tag.split(":")[0] for tag in (tags or "").split(",") if tag)
    return found


def test_mapping_for_prometheus_has_every_metric():
    mapping = yaml.safe_load(
        (TREE / "examples/statsd_exporter.yml").read_text())
    assert {rule["match"]: rule["name"] for rule in mapping["mappings"]} == {
        f"swiftdrop.{name}": f"swiftdrop_{name}_"
        + {"c": "total", "ms": "seconds"}[kind]
        for name, (kind, _) in sent().items()}
    assert mapping["defaults"]["observer_type"] == "histogram"


def test_dashboard_asks_for_what_there_is():
    dashboard = json.loads((TREE / "examples/grafana.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"]
                   for target in panel["targets"]]
    account, = (variable["query"]["query"]
                for variable in dashboard["templating"]["list"]
                if variable["name"] == "account")
    known = {f"swiftdrop_{name}_" + {"c": "total", "ms": "seconds_bucket"}[
        kind]: tags for name, (kind, tags) in sent().items()}
    used = set()
    for expression in expressions:
        names = re.findall(r"swiftdrop_\w+", expression)
        assert names, expression
        labels = set(re.findall(r"(\w+)=~?\"", expression)) | {
            label.strip() for group in re.findall(r"by \((.*?)\)", expression)
            for label in group.split(",")}
        assert labels - {"le"} <= set().union(
            *(known[name] for name in names)), expression
        used.update(names)
    assert used == set(known)
    assert account == "label_values(swiftdrop_octets_total, account)"
