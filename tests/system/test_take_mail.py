# SPDX-License-Identifier: GPL-3.0-or-later
"""examples/take-mail.py: the reader to copy from, on a real Swift."""

import pytest

from swiftq_box import WAIT, TakeMail, wait_for

EX_TEMPFAIL = 75


@pytest.fixture
def reader(box):
    return TakeMail(box)


def test_exit_status_decides(box, reader):
    contents = [b"exit 0", b"exit 75", b"exit 3"]
    names = [box.put(content, age=30 - i)
             for i, content in enumerate(contents)]
    box.put(b"exit 0", name=".swiftdrop-check-1")
    before = dict(box.raw("cur/" + names[0]))
    assert f"cur/{names[1]}: exit status 75" in reader.run("sh", status=1)
    assert box.names("done") == [names[0]]
    assert box.names("cur") == [".swiftdrop-check-1", names[1]]
    assert box.names("failed") == [names[2]]
    after = dict(box.raw("done/" + names[0]))
    kept = [key for key in before if key.startswith("X-Object-Meta-")]
    assert len(kept) == 6
    assert {key: after[key] for key in kept} == \
        {key: before[key] for key in kept}


def test_command_gets_content_and_envelope(box, reader):
    content = b"Subject: x\r\n\r\n\x00\xff\r.\r\n"
    name = box.put(content, Envelope_From="%C3%A4@swift.test",
                   Client_Helo="a%00b")
    out = box.tmp_path / "out"
    reader.run("sh", "-c", 'cat > "$0"; env > "$0.env"', str(out))
    assert out.read_bytes() == content
    env = (box.tmp_path / "out.env").read_text().splitlines()
    assert {f"MAIL_NAME={name}", "MAIL_ENVELOPE_FROM=ä@swift.test",
            "MAIL_ENVELOPE_TO=a@swift.test", "MAIL_QUEUE_ID=4XyZ",
            "MAIL_CLIENT_HELO=a\ufffdb"} <= set(env)


def test_what_is_not_whole_is_left_where_it_is(box, reader):
    wrong = box.put(b"altered", age=9, Sha256="0" * 64)
    right = box.put(b"whole")
    assert f"cur/{wrong}: Sha256" in reader.run("true", status=1)
    assert box.where() == {"cur": [wrong], "done": [right]}


def test_one_at_a_time(box, reader):
    name = box.put()
    go = box.tmp_path / "go"
    first = reader.start("sh", "-c", WAIT, str(go))
    wait_for(box.ran(go).exists, "the command runs")
    reader.run("false", status=EX_TEMPFAIL)
    go.touch()
    assert first.wait() == 0
    assert box.where() == {"done": [name]}


def test_a_reader_that_died_has_lost_nothing(box, reader):
    name = box.put()
    box.copy("cur/" + name, "done/" + name)     # and then no delete
    reader.run("true")
    assert box.where() == {"done": [name]}
    name = box.put()
    reader.run("sh", "-c", "kill -9 $PPID", status=-9)
    assert box.names("cur") == [name]


def test_a_login_that_is_missing(reader):
    del reader.environ["ST_KEY"]
    assert "'ST_KEY' is not in the env" in reader.run("true", status=2)
