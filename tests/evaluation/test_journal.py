"""The journal: nothing answered is lost, nothing old is taken for new, damage is named."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsugiki.errors import StorageError
from tsugiki.evaluation.journal import Journal, Key, digest_of


def key(item: str = "a", part: int = 0) -> Key:
    return Key("task", item, part, "0" * 32)


def test_what_was_added_is_there_after_reopening(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(key("日本\n"), {"text": "答え\ud800"})
        journal.add(key("b", 3), {"logprob": -1.25, "greedy": True})
    with Journal(path) as journal:
        assert len(journal) == 2
        assert journal.get(key("日本\n")) == {"text": "答え\ud800"}
        assert journal.get(key("b", 3)) == {"logprob": -1.25, "greedy": True}
        assert journal.get(key("b", 2)) is None


@given(cut=st.integers(min_value=1, max_value=60))
def test_a_half_written_line_is_cut_off_and_only_that(tmp_path_factory: pytest.TempPathFactory, cut: int):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(key("a"), {"text": "one"})
        journal.add(key("b"), {"text": "two"})
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[: max(second, len(whole) - cut)])
    with Journal(path) as journal:
        assert journal.get(key("a")) == {"text": "one"}
        assert journal.get(key("b")) is None
        journal.add(key("b"), {"text": "again"})
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == ["one", "again"]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"task": "t"}', "7"])
def test_damage_in_the_middle_names_file_and_line(tmp_path: Path, line: str):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add(key(), {"text": "one"})
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(StorageError, match=r"journal\.jsonl, line 1: .*delete that line"):
        Journal(path)


def test_two_evaluations_do_not_write_the_same_journal(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    with Journal(path), pytest.raises(StorageError, match="another evaluation of this model"):
        Journal(path)
    with Journal(path):
        pass


def test_a_killed_process_loses_nothing_that_was_added(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    code = f"""
        import sys
        from pathlib import Path
        from tsugiki.evaluation.journal import Journal, Key
        journal = Journal(Path({str(path)!r}))
        for number in range(10**9):
            journal.add(Key("t", str(number), 0, "d"), {{"text": "x" * 50}})
            if number % 100 == 0:
                print(number, flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )
    assert child.stdout is not None
    for _ in range(3):
        child.stdout.readline()
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    with Journal(path) as journal:
        assert len(journal) > 200
        assert all(journal.get(Key("t", str(number), 0, "d")) for number in range(len(journal)))


def test_digest_depends_on_every_part_and_not_on_the_order_of_keys():
    base = digest_of("prompt", {"until": ["\n"], "max_gen_toks": 5}, None)
    assert base == digest_of("prompt", {"max_gen_toks": 5, "until": ["\n"]}, None)
    others = [
        digest_of("prompt ", {"until": ["\n"], "max_gen_toks": 5}, None),
        digest_of("prompt", {"until": ["\n\n"], "max_gen_toks": 5}, None),
        digest_of("prompt", {"until": ["\n"], "max_gen_toks": 6}, None),
        digest_of("prompt", {"until": ["\n"], "max_gen_toks": 5}, 3),
    ]
    assert len({base, *others}) == 5
