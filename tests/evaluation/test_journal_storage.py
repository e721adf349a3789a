"""What a disk refuses: one clear message, and what was written before is kept."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from tsugiki.errors import StorageError
from tsugiki.evaluation.journal import Journal, Key


def key(number):
    return Key("task", str(number), 0, "digest")


WRITER = """
import resource, signal, sys
from pathlib import Path
from tsugiki.errors import StorageError
from tsugiki.evaluation.journal import Journal, Key

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with Journal(Path(sys.argv[1])) as journal:
        for number in range(100):
            journal.add(Key("task", str(number), 0, "digest"), {"text": "x" * 50})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_earlier_answers_are_kept(tmp_path):
    """With a limit to the size of files in place of a small disk: the same refusal, from the same call."""
    path = tmp_path / "journal.jsonl"
    found = subprocess.run(
        [sys.executable, "-c", WRITER, path], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.startswith(f"Cannot write {path}")
    whole = [json.loads(line) for line in path.read_bytes().splitlines()[:-1]]
    with Journal(path) as journal:
        assert len(journal) == len(whole) > 5
        journal.add(key(100), {"text": "room again"})
    with Journal(path) as journal:
        assert journal.get(key(100)) == {"text": "room again"}
        assert journal.get(Key("task", "0", 0, "digest")) == {"text": "x" * 50}


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="no locks"), Journal(tmp_path / "journal.jsonl") as journal:
        journal.add(key(1), {"text": "answer"})
    assert (tmp_path / "journal.jsonl").read_text().count("\n") == 1


def test_a_lock_that_another_holds_is_no_missing_lock(tmp_path):
    with Journal(tmp_path / "journal.jsonl"), pytest.raises(StorageError, match="another evaluation"):
        Journal(tmp_path / "journal.jsonl")
