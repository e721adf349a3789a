"""Preparing of conversations that was interrupted goes on from where it was, and makes the same bytes."""

import copy
import hashlib
import json

import pytest
from chat_tokenizers import family
from interruption import Interrupted, Stopping, count_batches

from tsugiki.corpus import pieces, unfinished
from tsugiki.corpus.conversation_work import ConversationWork
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import source_directory
from tsugiki.corpus.tokenizer import TextTokenizer


def contents(recipe):
    directory = source_directory(recipe, "talk")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


@pytest.fixture(scope="module")
def llama3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama3")
    copy.deepcopy(family("llama3")).save_pretrained(folder)
    return TextTokenizer.from_folder(folder)


@pytest.fixture
def talks(tmp_path):
    """Three files; every seventh record is none, every ninth conversation has an exchange that is too long."""
    (tmp_path / "in").mkdir()
    for file in range(3):
        lines = []
        for number in range(1 + 100 * file, 41 + 100 * file):
            answer = "長い答え " * (60 if number % 9 == 0 else 1 + number % 6)
            turns = [
                ("user", f"これは質問です {number}\x07"),
                ("assistant", f"答え {number}"),
                ("user", "more"),
                ("assistant", answer),
            ]
            said = [{"role": role, "content": content} for role, content in turns]
            lines.append("nothing" if number % 7 == 0 else json.dumps({"messages": said}))
        (tmp_path / f"in/{file}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "in/*.jsonl"


@pytest.fixture
def make(talks, llama3, make_recipe):
    """`make(run, **data keys)`."""

    def recipe(run, **data):
        made = make_recipe(
            {"talk": {"path": str(talks), "format": "chat"}}, run, chat={"template": "llama-3"},
            **{"sequence_length": 256, "held_out": 0.5, "max_bad_documents": 0.2, **data},
        )  # fmt: skip
        return made.model_copy(update={"model": made.model.model_copy(update={"tokenizer": str(llama3.folder)})})

    return recipe


@pytest.fixture
def rendered(monkeypatch):
    """Batches that were rendered, of a few records each and each saved; many exchanges may be too long."""
    monkeypatch.setattr(pieces, "RECORDS_PIECE", 3 << 11)
    monkeypatch.setattr(unfinished, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr("tsugiki.corpus.prepare_chat.MOST_DROPPED", 0.5)
    return count_batches(monkeypatch, ConversationWork)


def test_it_goes_on_from_every_batch_with_the_same_bytes(make, llama3, rendered):
    whole = make("whole")
    manifest = prepare(whole, llama3)["talk"]
    assert manifest.bad
    assert manifest.odd
    assert manifest.chat.counts["exchanges_dropped"] > 5
    expected, batches = contents(whole), len(rendered)
    assert batches >= 8
    for stop in range(batches):
        recipe = make(f"stopped-{stop}")
        with pytest.raises(Interrupted):
            prepare(recipe, llama3, progress=Stopping(stop))
        assert not source_directory(recipe, "talk").exists()
        rendered.clear()
        prepare(recipe, llama3)
        assert contents(recipe) == expected
        assert len(rendered) == batches - stop
        assert [path.name for path in recipe.prepared_dir.iterdir()] == ["talk"]


def test_windows_of_another_length_begin_anew(make, llama3, rendered):
    with pytest.raises(Interrupted):
        prepare(make("run"), llama3, progress=Stopping(5))
    rendered.clear()
    changed, fresh = make("run", sequence_length=128), make("fresh", sequence_length=128)
    prepare(changed, llama3)
    done = len(rendered)
    prepare(fresh, llama3)
    assert contents(changed) == contents(fresh)
    assert len(rendered) == 2 * done
