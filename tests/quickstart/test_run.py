"""A whole quickstart of a few steps: same path as `tsugiki run`, ends in the table, skips what is done, continues."""

import io
import json
import math
import os
import re
import signal

import pytest
from rich.console import Console

from tsugiki.errors import RESUMABLE
from tsugiki.quickstart import run as quickstart
from tsugiki.quickstart.recipes import RUNS


def test_ends_in_the_table_and_says_when_promises_are_not_kept(session, first):
    code, text = first
    assert code == quickstart.NOT_SHOWN  # a dozen steps teach nothing
    assert re.search(r"NOT AS PROMISED: the new language fell by", text)
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


def test_preflight_checks_each_of_the_three_runs(session, first):
    assert all((session.folder / run / "preflight.json").exists() for run in RUNS)


def test_leaves_recipes_results_picture_and_a_model_that_transformers_opens(session, first):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert (session.folder / "losses.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((session.folder / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["japanese", "english", "mathematics"]
    model = AutoModelForCausalLM.from_pretrained(session.folder / "continued" / "export")
    ids = AutoTokenizer.from_pretrained(session.folder / "continued" / "export")("朝の台所", return_tensors="pt")
    assert model(**ids).logits.shape[-1] == 1024


def test_before_is_the_exported_base_scored_by_plain_transformers(session, first):
    import torch
    from transformers import AutoModelForCausalLM

    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.recipe_file import load_recipe

    recipe = load_recipe(session.folder / "continued.yaml")
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


def test_interrupted_quickstart_is_resumable_and_ends_with_the_same_weights(session, first, tmp_path):
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
