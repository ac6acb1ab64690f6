# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests/torture/RESULTS.md says of the fuzz targets."""

import json
import shutil
import subprocess

import pytest
from conftest import TREE


@pytest.fixture
def record(tmp_path):
    """A copy of the record, and what tests/run-fuzzers --check says of it."""
    for name in ("tests/run-fuzzers", "tests/fuzzed.json", "bench/marked.py",
                 "tests/torture/RESULTS.md", *(
                     f"tests/{path.name}"
                     for path in (TREE / "tests").glob("fuzz_*.c"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TREE / name, tmp_path / name)

    def check():
        done = subprocess.run([tmp_path / "tests/run-fuzzers", "--check"],
                              stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout.splitlines()

    return tmp_path, check


def test_the_table_is_what_the_runs_say(record):
    """The hours too: one of a processor for each target since a finding."""
    folder, check = record
    path = folder / "tests/torture/RESULTS.md"
    assert check()[0] == 0, check()[1]
    path.write_text(path.read_text().replace("| `fuzz_scan` | ",
                                             "| `fuzz_scan` | 1"))
    assert check() == (1, [f"{path} is not what tests/run-fuzzers writes"])


def test_a_target_without_its_hour_is_found(record):
    """One that found something just now, and one that nobody has run."""
    folder, check = record
    path = folder / "tests/fuzzed.json"
    runs = json.loads(path.read_text())
    last = max(n for n, run in enumerate(runs)
               if run["target"] == "fuzz_config")
    runs[last]["found"] = 1
    path.write_text(json.dumps(runs))
    (folder / "tests/fuzz_new.c").touch()
    code, found = check()
    assert code == 1
    assert found[:-1] == [
        f"{name}: 0.00 hours of a processor since its last finding"
        for name in ("fuzz_config", "fuzz_new")]
