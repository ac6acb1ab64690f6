# SPDX-License-Identifier: GPL-3.0-or-later
"""rspamd as it is asked, and answers that the real one cannot be made to give
(contract, section 8)."""

import json
import time

import pytest

import standin
from helpers import program
from standin import answer, drop, hang

MESSAGE = (b"Received: from here\r\nMessage-ID: <1@example.org>\r\n"
           b"Subject: judge me\r\n\r\n..\r\ntext\r\n")
LATER = "451 4.7.1 Try again later"


@pytest.fixture
def trio():
    """A scripted rspamd, Swift and SMTP server with one list of events."""
    events = []
    with standin.Store(events=events) as rspamd, \
            standin.Store(events=events) as store, \
            standin.Relay(events=events) as relay:
        yield rspamd, store, relay


def verdict(action="no action", score=1.0, symbols=(), message=None):
    """What rspamd answers, with an option for each symbol."""
    body = {"is_skipped": False, "score": score, "required_score": 15.0,
            "action": action, "messages": {},
            "symbols": {name: {"name": name, "score": 0.0, "options": [option]}
                        for name, option in dict(symbols).items()}}
    if message:
        body["messages"]["smtp_message"] = message
    return answer(200, json.dumps(body).encode(),
                  Content_Type="application/json")


def opened(bench, rspamd, store, relay=None, smtp=(), **options):
    return bench.accept(
        SMTP={"rspamd": rspamd.url, "reinject": relay and relay.place,
              **dict(smtp)},
        archive=store.account(**options))


def verdicts(store):
    """What the only object says of the verdict."""
    (_, put), = store.objects.values()
    return {name: value for name, value in put.metadata().items()
            if name.startswith("verdict")}


def test_what_rspamd_is_asked(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict())
    session = opened(bench, rspamd, store, smtp={"hostname": "mx.example.net"},
                     recipients="@example.com")
    assert session.cmd("XFORWARD ADDR=IPV6:2001:db8::9 NAME=mail.example.org "
                       "HELO=[192.0.2.1] IDENT=4XyZ").code == 250
    assert session.deliver(
        MESSAGE, sender="", recipients=(
            "box@example.com", '"a b,c>"@example.com')).code == 250
    session.quit()
    asked, = rspamd.requests
    assert (asked.method, asked.target) == ("POST", "/checkv2")
    assert asked.body == MESSAGE
    assert [field for field in asked.fields if field[0] not in (
        "Host", "User-Agent", "Accept", "Content-Length")] == [
            ("MTA-Name", "mx.example.net"), ("IP", "2001:db8::9"),
            ("Hostname", "mail.example.org"), ("Helo", "[192.0.2.1]"),
            ("Queue-Id", "4XyZ"), ("From", "<>"), ("Rcpt", "<box@example.com>"),
            ("Rcpt", '<"a b,c>"@example.com>')]


def test_what_is_not_known_is_not_said(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict())
    session = opened(bench, rspamd, store)
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert not {"ip", "hostname", "helo", "queue-id", "expect"} \
        & set(rspamd.requests[0].headers)


def test_addresses_in_utf8_stay_as_they_are(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict())
    session = opened(bench, rspamd, store, recipients="@example.com")
    assert session.cmd("MAIL FROM:<j\u00fcrgen@example.org> SMTPUTF8"
                       ).code == 250
    assert session.cmd("RCPT TO:<m\u00fcller@example.com>").code == 250
    session.data(MESSAGE)
    assert session.reply().code == 250
    fields = [(name, value.encode("latin-1").decode())
              for name, value in rspamd.requests[0].fields]
    assert ("From", "<j\u00fcrgen@example.org>") in fields
    assert ("Rcpt", "<m\u00fcller@example.com>") in fields


def test_url_with_a_path_and_a_slash(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict())
    session = opened(bench, rspamd, store, smtp={
        "rspamd": f"{rspamd.url}/behind/nginx/"})
    assert session.deliver(MESSAGE).code == 250
    assert rspamd.requests[0].target == "/behind/nginx/checkv2"


def test_without_rspamd_there_is_no_verdict(bench, trio):
    rspamd, store, _ = trio
    session = opened(bench, rspamd, store, smtp={"rspamd": None})
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert rspamd.requests == [] and verdicts(store) == {}
    line = session.log.one("stored")
    assert "verdict" not in line and "score" not in line
    assert line["message-id"] == "<1@example.org>"


# The words that real data did not bring about.
WORDS = (({"ARC_DNSFAIL": "x"}, {"verdict-arc": "temperror"}),
         ({"DMARC_POLICY_ALLOW_WITH_FAILURES": "x"},
          {"verdict-dmarc": "pass"}))


@pytest.mark.parametrize("symbols,want", WORDS)
def test_words_of_scripted_answers(bench, trio, symbols, want):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict(symbols=symbols))
    session = opened(bench, rspamd, store)
    assert session.deliver(MESSAGE).code == 250
    assert verdicts(store) == {"verdict": "no-action",
                               "verdict-score": "1.00/15.00", **want}


def test_virus_name_is_encoded_in_metadata(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict("add header", symbols={
        "A_VIRUS": "W\u00fcrm, 100 %|a.exe"}))
    session = opened(bench, rspamd, store)
    assert session.deliver(MESSAGE).code == 250
    assert verdicts(store)["verdict-virus"] == "W%C3%BCrm,%20100%20%25"


@pytest.mark.parametrize("action,message,reply,verb", (
    ("reject", "No thanks", "550 5.7.1 No thanks", "rejected"),
    ("reject", None, "550 5.7.1 Message refused as spam", "rejected"),
    ("discard", None, "550 5.7.1 Message refused as spam", "rejected"),
    ("quarantine", None, "550 5.7.1 Message refused as spam", "rejected"),
    ("soft reject", "Come back", "451 4.7.1 Come back", "deferred"),
    ("soft reject", None, LATER, "deferred"),
    ("reject", "a\r\n250 b\x1b\u00fc", "550 5.7.1 a??250 b???", "rejected"),
    ("reject", "", "550 5.7.1 Message refused as spam", "rejected")))
def test_refusals(bench, trio, action, message, reply, verb):
    rspamd, store, relay = trio
    rspamd.always("POST", verdict(action, 16.5, message=message))
    session = opened(bench, rspamd, store, relay)
    got = session.deliver(MESSAGE, recipients=("box@example.com",
                                               "away@example.com"))
    assert str(got) == reply
    session.quit()
    line = session.log.one(verb)
    assert (line["verdict"], line["score"]) == (action.replace(" ", "-"),
                                                "16.50/15.00")
    assert line["message-id"] == "<1@example.org>"
    assert store.requests == [] and relay.mail.of("DATA") == []
    assert relay.mail.ended == "dropped"


def test_a_long_message_of_rspamd_fits_a_reply(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict("reject", message="x" * 5000))
    session = opened(bench, rspamd, store)
    reply = session.deliver(MESSAGE)
    assert reply.code == 550 and len(reply.raw) <= 512
    assert reply.text.startswith("5.7.1 " + "x" * 390)


@pytest.mark.parametrize("action", ("reject", "discard", "quarantine",
                                    "soft reject"))
def test_only_marked_where_nothing_is_refused(bench, trio, action):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict(action, 99.0, message="No"))
    session = opened(bench, rspamd, store, smtp={"rspamd_reject": "no"})
    assert session.deliver(MESSAGE).code == 250
    assert verdicts(store) == {"verdict": action.replace(" ", "-"),
                               "verdict-score": "99.00/15.00"}


@pytest.mark.parametrize("action", ("no action", "greylist", "add header",
                                    "rewrite subject", "tag it"))
def test_other_actions_are_stored_and_marked(bench, trio, action):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict(action))
    session = opened(bench, rspamd, store)
    assert session.deliver(MESSAGE).code == 250
    assert verdicts(store)["verdict"] == action.replace(" ", "-")
    assert store.only[1] == MESSAGE


NONSENSE = {
    "another status": answer(500, b'{"score":1,"action":"reject"}'),
    "redirect": answer(302, Location="http://127.0.0.1:1/"),
    "page": answer(200, b"<html>"),
    "nothing": answer(200, b""),
    "error": answer(200, b'{"error":"invalid command"}'),
    "no score": answer(200, b'{"action":"reject"}'),
    "deep": answer(200, b"[" * 100000),
    "large": answer(200, b'{"score":1,"action":"reject","x":"'
                    + b"x" * 5000000 + b'"}'),
    "half": lambda exchange: (exchange.read(), exchange.send(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
        b'{"score":1,"action":"reject"'), exchange.drop()),
    "no HTTP": lambda exchange: (exchange.read(), exchange.send(
        b"220 smtp\r\n"), exchange.drop()),
    "closed": drop,
    "reset": lambda exchange: exchange.reset(),
    "silent": hang,
}


@pytest.mark.parametrize("required", (False, True))
@pytest.mark.parametrize("fault", NONSENSE)
def test_no_verdict_costs_no_mail(bench, trio, fault, required):
    rspamd, store, relay = trio
    rspamd.always("POST", NONSENSE[fault])
    session = opened(bench, rspamd, store, relay, smtp={
        "rspamd_timeout": "1", "rspamd_required": "yes" if required else "no"})
    reply = session.deliver(MESSAGE, recipients=("box@example.com",
                                                 "away@example.com"))
    session.quit()
    warning, = session.log.lines("rspamd")
    assert f'reason="127.0.0.1:{rspamd.port}' in warning
    assert len(rspamd.requests) == 1
    if required:
        assert str(reply) == LATER
        assert session.log.one("deferred")["verdict"] == "none"
        assert store.requests == [] and relay.mail.of("DATA") == []
    else:
        assert reply.code == 250
        assert verdicts(store) == {"verdict": "none"}
        assert store.only[1] == MESSAGE
        assert relay.mail.message == MESSAGE
        assert session.log.one("stored")["verdict"] == "none"
        assert session.log.one("forwarded")["verdict"] == "none"


def test_a_verdict_may_take_its_time(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", lambda exchange: (
        exchange.read(), time.sleep(1.5),
        verdict("add header")(exchange)))
    session = opened(bench, rspamd, store, smtp={"rspamd_timeout": "20"})
    assert session.deliver(MESSAGE).code == 250
    assert verdicts(store)["verdict"] == "add-header"


def test_user_and_password_stay_out_of_the_log(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", answer(403))
    session = opened(bench, rspamd, store, smtp={
        "rspamd": rspamd.url.replace("//", "//me:hidden@")})
    assert session.deliver(MESSAGE).code == 250
    session.quit()
    assert "hidden" not in str(session.log)
    assert f'"127.0.0.1:{rspamd.port} answered 403' in str(session.log)


def test_nothing_goes_anywhere_before_the_verdict(bench, trio):
    rspamd, store, relay = trio
    rspamd.always("POST", verdict("add header"))
    session = opened(bench, rspamd, store, relay)
    assert session.deliver(MESSAGE, recipients=(
        "box@example.com", "away@example.com")).code == 250
    session.quit()
    events = rspamd.events
    order = [events.index(event) for event in (
        "smtp RCPT", "http POST", "http POST 200", "smtp DATA",
        "smtp content", "http PUT", "http PUT 201", "smtp DOT")]
    assert order == sorted(order), events
    assert session.log.one("forwarded")["verdict"] == "add-header"


def test_client_that_goes_away_before_the_verdict(bench, trio):
    rspamd, store, _ = trio
    session = opened(bench, rspamd, store)

    def late(exchange):
        exchange.read()
        session.hang_up()
        verdict()(exchange)

    rspamd.always("POST", late)
    session.envelope()
    session.data(MESSAGE)
    session.ends()
    assert session.log.one("lost")["verdict"] == "no-action"
    assert store.requests == []


def test_message_that_is_not_taken_is_not_judged(bench, trio):
    rspamd, store, _ = trio
    session = opened(bench, rspamd, store, smtp={"message_size_limit": "1000"})
    for content in (b"x" * 2000 + b"\r\n", b"a\nb\r\n"):
        session.envelope()
        session.cmd("DATA")
        session.send(content + b".\r\n")
        assert session.reply().code >= 550
    session.quit()
    assert rspamd.requests == []


@pytest.mark.parametrize("size", (0, 300 * 1024, 3 * 1024 * 1024))
def test_content_of_any_size(bench, trio, size):
    """In memory, in a file, and where libcurl would ask for a 100."""
    rspamd, store, _ = trio
    rspamd.always("POST", verdict())
    content = b"line of text, 32 octets in all\r\n" * (size // 32)
    session = opened(bench, rspamd, store)
    assert session.deliver(content).code == 250
    asked, = rspamd.requests
    assert asked.body == content == store.only[1]
    assert "expect" not in asked.headers


def test_order_of_the_metadata(bench, trio):
    rspamd, store, _ = trio
    rspamd.always("POST", verdict("add header", symbols={
        "ARC_NA": "", "DMARC_NA": "", "R_DKIM_NA": "", "R_SPF_NA": "",
        "CLAM_VIRUS": "Eicar"}))
    session = opened(bench, rspamd, store)
    session.cmd("XFORWARD ADDR=192.0.2.1")
    assert session.deliver(MESSAGE).code == 250
    (_, put), = store.objects.values()
    assert list(put.metadata()) == [
        "envelope-count", "sha256", "fingerprint", "envelope-from",
        "message-id", "verdict", "verdict-score", "verdict-spf",
        "verdict-dkim", "verdict-dmarc", "verdict-arc", "verdict-virus",
        "envelope-to", "client-addr"]
    assert verdicts(store)["verdict-virus"] == "Eicar"


def test_keys_of_this_section_are_printed(bench, trio):
    rspamd, store, _ = trio
    path = bench.config(SMTP={"rspamd": rspamd.url}, archive=store.account())
    printed = program.run("-c", path, "config").stdout
    for line in (f"rspamd = {rspamd.url}", "rspamd_timeout = 10",
                 "rspamd_required = no", "rspamd_reject = yes"):
        assert line in printed.splitlines()
