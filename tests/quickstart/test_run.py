"""A whole quickstart of a few steps: same path as `tsugiki run`, ends in the table, skips what is done, continues."""

import io
import itertools
import json
import math
import os
import re
import signal

import pytest
from rich.console import Console

from tsugiki.errors import RESUMABLE
from tsugiki.quickstart import run as quickstart

RUNS = ("base", "continued", "without-extension", "without-replay")


def test_ends_in_the_table_and_says_when_promises_are_not_kept(session, first):
    code, text = first
    assert code == quickstart.NOT_SHOWN  # a dozen steps teach nothing
    assert re.search(r"NOT AS PROMISED: without replay English is only", text)
    assert re.search(r"NOT AS PROMISED: the new language takes 0\.\d\d of its tokens", text)  # 128 pieces are few
    for piece in (
        "held-out text, bits per byte",
        "no replay",
        "japanese",
        "english",
        "mathematics",
        "sample",
        "losses.png",
        "next",
    ):
        assert piece.lower() in text.lower()
    assert text.index("no replay") < text.index("sample  ")


def test_preflight_checks_each_of_the_four_runs(session, first):
    assert all((session.folder / run / "preflight.json").exists() for run in RUNS)


def test_leaves_recipes_results_picture_and_a_model_that_transformers_opens(session, first):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert (session.folder / "losses.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((session.folder / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["japanese", "english", "mathematics"]
    model = AutoModelForCausalLM.from_pretrained(session.folder / "continued" / "export")
    ids = AutoTokenizer.from_pretrained(session.folder / "continued" / "export")("朝の台所", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == 1024 + 128


def test_tokens_and_bytes_of_the_table_are_those_of_an_independent_count(session, first):
    """By transformers, over the texts as the corpus file has them, chosen by the digest alone."""
    from transformers import AutoTokenizer

    rows = {row["name"]: row for row in json.loads((session.folder / "results.json").read_text())["rows"]}
    tokenizers = [
        AutoTokenizer.from_pretrained(session.folder / folder) for folder in ("tokenizer", "vocabulary/model")
    ]
    for name, row in rows.items():
        held_out = held_out_texts(session.folder, name)
        assert row["documents"] == 2
        counts = [
            {len(text.encode()): len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in held_out}
            for tokenizer in tokenizers
        ]
        pairs = [pair for pair in itertools.combinations(counts[0], 2) if sum(pair) == row["size"]]
        found = [tuple(sum(count[size] for size in pair) for count in counts) for pair in pairs]
        assert (row["extension"]["tokens_before"], row["extension"]["tokens_after"]) in found, name
    assert rows["english"]["extension"]["tokens_after"] == rows["english"]["extension"]["tokens_before"]
    assert rows["japanese"]["extension"]["tokens_after"] < 0.95 * rows["japanese"]["extension"]["tokens_before"]


def held_out_texts(folder, name):
    from tsugiki.corpus.held_out import is_held_out
    from tsugiki.recipe_file import load_recipe

    share = load_recipe(folder / "base.yaml").data.sources[name].held_out
    lines = (folder / "corpora" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [text for text in (json.loads(line)["text"] for line in lines) if is_held_out(text.encode(), share)]


def test_pieces_are_learnt_from_no_held_out_document(session, first):
    """The longest new pieces that held-out text alone would give are not there: each stands in training text."""
    from tsugiki.corpus.tokenizer import TextTokenizer

    base, extended = (TextTokenizer.from_folder(session.folder / f) for f in ("tokenizer", "vocabulary/model"))
    held_out = set(held_out_texts(session.folder, "japanese"))
    lines = (session.folder / "corpora" / "japanese.jsonl").read_text(encoding="utf-8").splitlines()
    training = "\n".join(text for text in (json.loads(line)["text"] for line in lines) if text not in held_out)
    pieces = [extended.piece(token) for token in range(base.vocabulary_size, extended.vocabulary_size)]
    assert len(pieces) == 128
    assert all(training.count(piece) > 1 for piece in pieces)


def test_the_new_pieces_are_told_in_a_few_lines_with_the_place_of_the_report(session, first):
    _, text = first
    lines = text.splitlines()
    assert sum(line.startswith("fertility  ") for line in lines) == 3
    assert any(re.match(r"fertility  japanese: \d\.\d{3} -> \d\.\d{3} tokens a character", line) for line in lines)
    assert any(line.startswith("report     ") and "vocabulary/report.md" in line for line in lines)
    assert (session.folder / "vocabulary" / "report.md").exists()
    assert "most used new pieces" not in text
    assert text.count("learnt     ") == 1  # the other run shares them


def test_before_is_the_exported_base_scored_by_plain_transformers(session, first):
    import torch
    from transformers import AutoModelForCausalLM

    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.recipe_file import load_recipe

    recipe = load_recipe(session.folder / "without-extension.yaml")
    source = open_prepared(recipe)["english"]
    model = AutoModelForCausalLM.from_pretrained(session.folder / "base" / "export", dtype=torch.float32)
    nats = 0.0
    context, stride = recipe.data.sequence_length, recipe.data.sequence_length // 2
    for index in range(2):
        ids = torch.from_numpy(source.held_out.document(index).astype("int64"))[:-1]  # BOS and text, without EOS
        done, end = 1, min(len(ids), context + 1)
        while done < len(ids):  # each token once, with at least half a window before it
            window = ids[max(0, end - context - 1) : end]
            losses = torch.nn.functional.cross_entropy(model(window[None, :-1]).logits[0], window[1:], reduction="none")
            nats += float(losses[len(losses) - (end - done) :].detach().sum())
            done, end = end, min(len(ids), end + stride)
    row = json.loads((session.folder / "results.json").read_text())["rows"][1]
    assert row["before"] == pytest.approx(nats / math.log(2) / row["size"], rel=1e-4)


def test_again_skips_everything_and_shows_the_same_figures(session, first):
    stamps = {path: path.stat().st_mtime_ns for path in session.folder.rglob("checkpoints/*/*")}
    code, text = session.run()
    assert code == first[0]
    assert text.count("up to date:") == len(RUNS)
    assert "step 0/" not in text
    assert stamps == {path: path.stat().st_mtime_ns for path in session.folder.rglob("checkpoints/*/*")}

    def table(printed):
        return [line for line in printed.splitlines() if re.match(r"\s+(japanese|english|mathematics) +\d+ kB", line)]

    assert table(text) == table(first[1])
    assert len(table(text)) == 3


class PullsThePlug(io.StringIO):
    """A terminal at which someone presses Ctrl-C when a certain line appears."""

    def __init__(self, line):
        super().__init__()
        self.line = line

    def write(self, text):
        if self.line and self.line in text:
            self.line = ""
            os.kill(os.getpid(), signal.SIGINT)
        return super().write(text)


def test_interrupted_quickstart_is_resumable_and_ends_with_the_same_weights(session, first, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, "write_reports", lambda *_: None)  # nobody looks at these pages
    folder = tmp_path / "run"
    stream = PullsThePlug("step 5/12")
    assert quickstart.run_quickstart(folder, Console(file=stream, width=120)) == RESUMABLE
    assert "the same command continues" in stream.getvalue()
    assert not (folder / "continued").exists()
    stream = io.StringIO()
    assert quickstart.run_quickstart(folder, Console(file=stream, width=120)) == first[0]
    assert "continuing from" in stream.getvalue()
    for run in RUNS:
        ours, theirs = (path / run / "export" / "model.safetensors" for path in (folder, session.folder))
        assert ours.read_bytes() == theirs.read_bytes()
