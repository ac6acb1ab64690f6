# SPDX-License-Identifier: GPL-3.0-or-later
"""swiftq status: how much is in which folder, in three forms."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from swiftq import status
from swiftq_box import add_rows

DAY = 86400


@pytest.fixture
def backlog(box):
    """What was received a day and two hours ago; a probe is no mail."""
    box.put(b"12345", age=7200)
    box.put(b"123", age=DAY)
    box.put(b"1234567", age=2 * DAY, folder="failed/")
    box.put(b"1", name=".swiftdrop-check-1")
    box.put(b"1", name="sub/1000000000.M1P1R1.h,S=1")
    box.put(b"1", folder="fingerprints/")
    return box


EXPECTED = {"cur": (2, 8, DAY), "processing": (0, 0, 0), "retry": (0, 0, 0),
            "failed": (1, 7, 2 * DAY), "done": (0, 0, 0)}


def test_json(backlog):
    events = backlog.events("status")
    assert [e.pop("event") for e in events] == 5 * ["folder"]
    for event in events:
        messages, octets, age = EXPECTED[event["folder"]]
        assert (event["messages"], event["bytes"]) == (messages, octets)
        assert age <= event["age_seconds"] < age + 60
        # All of it came into its folder just now.
        assert 0 <= event["stay_seconds"] < 60
    assert [e["folder"] for e in events] == list(EXPECTED)


def test_text(backlog):
    lines = backlog.swiftq("status").stdout.decode().splitlines()
    assert [line.split()[:5] for line in lines] == [
        [folder, str(messages), "messages", str(octets), "bytes" +
         ("," if messages else "")]
        for folder, (messages, octets, _) in EXPECTED.items()]
    assert ", oldest 24h, here for " in lines[0]
    assert ", oldest 2d, here for " in lines[3]


def test_prometheus_reads_it(backlog):
    for args in (["--prometheus"], ["--prometheus", "--json"]):
        text = backlog.swiftq("status", *args).stdout.decode()
        found = {family.name: family
                 for family in text_string_to_metric_families(text)}
        assert set(found) == {f"swiftq_{name}" for name in (
            "messages", "bytes", "age_seconds", "stay_seconds")}
        values = {}
        for name, family in found.items():
            assert family.type == "gauge" and family.documentation
            for sample in family.samples:
                assert sample.labels["container"] == backlog.name
                values[name, sample.labels["folder"]] = sample.value
        for folder, (messages, octets, age) in EXPECTED.items():
            assert values["swiftq_messages", folder] == messages
            assert values["swiftq_bytes", folder] == octets
            assert age <= values["swiftq_age_seconds", folder] < age + 60


def test_a_label_of_any_container():
    text = status.as_prometheus('a"b\\c', [status.Folder("cur", 1, 2, 3, 4)])
    family = next(text_string_to_metric_families(text))
    assert family.samples[0].labels == {"container": 'a"b\\c',
                                        "folder": "cur"}


def test_a_name_without_a_time_is_as_old_as_its_place(box):
    box.put(name="foreign.eml")
    time.sleep(1.1)
    row = box.events("status")[0]
    assert (row["messages"], row["age_seconds"]) == (1, row["stay_seconds"])


def test_a_clock_that_is_ahead_makes_nothing_younger_than_now(box):
    box.put(age=-1000)
    assert box.events("status")[0]["age_seconds"] == 0


def test_more_than_one_page(box):
    add_rows(box, [f"done/1000000000.M{i:06d}P1R1.host,S=4"
                   for i in range(10050)])
    row = box.events("status")[4]
    assert (row["messages"], row["bytes"]) == (10050, 40200)


@pytest.mark.parametrize("seconds, text", [
    (0, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"),
    (172800, "2d"), (1209600, "2w")])
def test_span(seconds, text):
    assert status.span(seconds) == text
