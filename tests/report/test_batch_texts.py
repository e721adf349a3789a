"""The documents in a spike's batch, looked up in real token stores, against the reader that training uses."""

import html
import shutil
from pathlib import Path

import numpy as np
import pytest
from report_runs import step_line, write, write_lines
from tiny_project import prepare_tiny

from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.windows import WindowReader
from tsugiki.recipe_file import parse_recipe, show
from tsugiki.report.batch_texts import batch_texts
from tsugiki.report.figures import mixture
from tsugiki.report.page import make_page
from tsugiki.report.run_directory import read_run

SKIP = [[6, 12], [20, 21]]


@pytest.fixture(scope="module")
def spiked(tmp_path_factory, tiny_tokenizer_folder):
    """A run directory with a spike, and the parts that training would read its samples with."""
    tiny = prepare_tiny(tmp_path_factory.mktemp("spiked"), tiny_tokenizer_folder)
    recipe = parse_recipe(tiny.text, overrides=[f"data.skip={SKIP}"])
    folder = recipe.run_dir
    folder.mkdir()
    (folder / "recipe.yaml").write_text(show(recipe), encoding="utf-8")
    shutil.copytree(tiny_tokenizer_folder, folder / "model")
    spike = {"kind": "spike", "step": 2, "loss": 9.0, "samples": [12, 18], "action": "recorded"}
    write_lines(folder / "metrics.jsonl", [step_line(2), spike, step_line(4)])
    write(folder / "state.json", {"status": "running", "step": 4, "detail": "", "time": ""})
    order = Mixture.from_recipe(recipe, {name: source.train for name, source in tiny.sources.items()})
    return folder, tiny, order, recipe


def test_texts_are_those_that_training_reads(spiked):
    folder, tiny, order, recipe = spiked
    reader = WindowReader(tiny.sources, order, recipe.data.sequence_length, False)
    found = batch_texts(read_run(folder), range(12, 18))
    batch = reader.read(np.arange(12, 18))
    assert [one["source"] for one in found] == [order.names[place] for place in batch.source]
    for one, inputs in zip(found, batch.inputs, strict=True):
        assert one["text"].startswith(tiny.tokenizer.decode(inputs.tolist()).strip("\ufffd")[:8])
    page = html.unescape(make_page([read_run(folder)]))
    assert found[0]["text"] in page
    assert f"sample 12, {found[0]['source']}" in page


def test_samples_that_were_stepped_over_are_not_counted(spiked):
    """Against the numbers themselves."""
    folder, _, order, recipe = spiked
    samples = 4 * recipe.training.global_batch_size
    numbers = [n for n in range(100) if not any(a <= n < b for a, b in SKIP)][:samples]
    drawn = order.locate(numbers)
    for one in mixture(read_run(folder)):
        assert one.windows == int((drawn.source == order.names.index(one.name)).sum())
    assert sum(one.realised for one in mixture(read_run(folder))) == pytest.approx(1.0)


def test_where_stores_are_of_another_run_no_text_is_shown(spiked, tmp_path):
    folder = Path(shutil.copytree(spiked[0], tmp_path / "run"))
    assert batch_texts(read_run(folder), [12])
    write(
        folder / "checkpoints/step_00000004/state.json", {"step": 4, "samples": 24, "sources": {"ja": "x", "en": "y"}}
    )
    assert batch_texts(read_run(folder), [12]) == []
    shutil.rmtree(folder / "model")
    (folder / "checkpoints/step_00000004/state.json").unlink()
    run = read_run(folder)
    assert batch_texts(run, [12]) == []
    assert run.problems
