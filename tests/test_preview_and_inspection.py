"""`validate`, `sample` and `inspect` on a prepared project: what they show is what training reads."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from extension_project import extension_recipe, make_base
from report_runs import step_line
from tokenizers import Tokenizer

from tsugiki.corpus.prepared import open_prepared, source_directory
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import is_ready
from tsugiki.errors import DataError, RecipeError
from tsugiki.inspection import inspect_path
from tsugiki.pipeline import run_prepare
from tsugiki.plan import Terms, plan_lines
from tsugiki.preview import preview_samples, show_sample
from tsugiki.recipe_file import parse_recipe, show
from tsugiki.recipe_inputs import load_tokenizer
from tsugiki.report.figures import mixture
from tsugiki.report.run_directory import read_run

TEXTS = [
    f"Document {number} says that {number} and {number} make {2 * number}. 第{number}の文書です。"
    for number in range(200)
]


@pytest.fixture
def recipe(tmp_path, tiny_tokenizer_folder):
    from tsugiki.recipe_file import parse_recipe

    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": text * 8}, ensure_ascii=False) + "\n" for text in TEXTS), encoding="utf-8"
    )
    values = {
        "run_dir": str(tmp_path / "run"),
        "model": {"architecture": {"model_type": "mistral", "vocab_size": 384}, "tokenizer": str(tiny_tokenizer_folder)},
        "data": {"sequence_length": 64, "held_out": 0.3, "workers": 1,
                 "sources": {"both": {"path": str(tmp_path / "text.jsonl"), "weight": 1}}},
        "training": {"max_steps": 3, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 3},
    }  # fmt: skip
    return parse_recipe(json.dumps(values))


def test_validate_shows_samples_before_and_after_preparing(recipe):
    from tsugiki.pipeline import run_prepare

    before = "\n".join(preview_samples(recipe, 2))
    assert "not prepared yet" in before
    assert "text.jsonl" in before
    run_prepare(recipe)
    after = "\n".join(preview_samples(recipe, 2))
    assert "not prepared yet" not in after
    assert "6 windows" in after
    assert "sample 1" in after


def test_packed_text_is_shown_told_of_and_made_anew_where_it_is_damaged(recipe, tmp_path):
    """What validate, prepare, plan, inspect, sample and the report say of packs is counted from the store."""
    packed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"packing": "best_fit"})})
    assert "pack 0 of " in "\n".join(preview_samples(packed, 2))
    run_prepare(recipe)
    before = "\n".join(preview_samples(recipe, 1))
    assert "of its documents cut by a window's end" in before
    tokenizer = load_tokenizer(recipe)
    assert not is_ready(packed, "both", tokenizer)
    with pytest.raises(DataError, match=r"train\.packs-64: No such file.*run tsugiki prepare"):
        list(show_sample(packed, 0))
    said: list[str] = []
    run_prepare(packed, say=said.append)
    assert is_ready(packed, "both", tokenizer)
    assert is_ready(recipe, "both", tokenizer)  # the store is one for both
    store = open_prepared(packed, tokenizer)["both"].train
    lengths = np.diff(store.document_starts[:])
    windows = store.window_count(64)
    held = sum(int(np.minimum(64, size - first)) for size in lengths for first in range(0, max(size - 1, 1), 64))
    figures = f"{(lengths > 65).mean():.2%} of its documents cut, {1 - held / windows / 64:.2%} padding"
    assert f"in {windows:,} packs of 64: {figures}" in said[0]
    assert any(figures in line for line in preview_samples(packed, 1) if isinstance(line, str))
    assert any(figures in line for line in plan_lines(packed, Terms()))
    folder = source_directory(packed, "both")
    lines, sound = inspect_path(folder)
    assert sound
    assert f"  {windows:,} packs of 64: {figures}" in lines
    shown = "\n".join(str(line) for line in show_sample(packed, windows - 1))
    assert f"of {windows:,}, epoch 0" in shown
    packed.run_dir.mkdir(exist_ok=True)
    (packed.run_dir / "recipe.yaml").write_text(show(packed), encoding="utf-8")
    (packed.run_dir / "metrics.jsonl").write_text(json.dumps(step_line(1)) + "\n", encoding="utf-8")
    (share,) = mixture(read_run(packed.run_dir))
    assert str(share.windows_of_text) == figures
    assert share.epochs == 2 / windows  # a step of two windows
    table = folder / "train.packs-64"
    whole = table.read_bytes()
    table.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    lines, sound = inspect_path(folder)
    assert not sound
    assert any("PROBLEM" in line and "train.packs-64: damaged" in line for line in lines)
    run_prepare(packed)
    assert table.read_bytes() == whole


def test_a_tokenizer_of_another_model_is_named_before_any_text_is_read(recipe, tmp_path, tiny_tokenizer_folder):
    """By the ids that text can become: a token that is only added may have no row, as in Gemma 3."""

    def shown(rows: int, folder: Path = tiny_tokenizer_folder) -> str:
        changes = {"architecture": {"model_type": "mistral", "vocab_size": rows}, "tokenizer": str(folder)}
        model = recipe.model.model_copy(update=changes)
        return "\n".join(preview_samples(recipe.model_copy(update={"model": model}), 1))

    assert "sample 0" in shown(384)
    message = r"model.tokenizer: the tokenizer in .* makes ids up to 383, and the model has rows for 383 \(vocab_size\)"
    with pytest.raises(RecipeError, match=message):
        shown(383)
    more = shutil.copytree(tiny_tokenizer_folder, tmp_path / "more")
    tokenizer = Tokenizer.from_file(str(more / "tokenizer.json"))
    tokenizer.add_special_tokens(["<image>"])
    tokenizer.save(str(more / "tokenizer.json"))
    assert TextTokenizer.from_folder(more).vocabulary_size == 385
    assert "sample 0" in shown(384, more)
    with pytest.raises(RecipeError, match="makes ids up to 383, and the model has rows for 383"):
        shown(383, more)


def test_a_folders_own_configuration_says_its_rows(recipe, tmp_path, tiny_language_model_folder):
    folder = shutil.copytree(tiny_language_model_folder, tmp_path / "base")
    model = recipe.model.model_copy(update={"architecture": None, "tokenizer": None, "name_or_path": str(folder)})
    of_folder = recipe.model_copy(update={"model": model})
    assert "sample 0" in "\n".join(preview_samples(of_folder, 1))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"text_config": {**config, "vocab_size": 300}}))
    with pytest.raises(RecipeError, match=r"model.name_or_path: .* the model has rows for 300"):
        list(preview_samples(of_folder, 1))


@pytest.mark.parametrize("sequence_length", [4096, 30_000])
def test_validate_reads_on_where_two_hundred_short_documents_fill_no_window(recipe, tmp_path, sequence_length):
    lines = sequence_length // 2 + 300  # of two or three tokens and a BOS and an EOS
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": f"{number % 97}."}) + "\n" for number in range(lines)), encoding="utf-8"
    )
    data = recipe.data.model_copy(update={"sequence_length": sequence_length})
    shown = "\n".join(preview_samples(recipe.model_copy(update={"data": data}), 1))
    assert "sample 0: source both" in shown


def test_validate_finds_what_prepare_would_refuse_in_every_small_source_at_once(recipe, tmp_path):
    """Before a minute of vocabulary extension is spent on it."""
    from tsugiki.pipeline import run_prepare

    (tmp_path / "few.jsonl").write_text("".join(json.dumps({"text": text * 50}) + "\n" for text in TEXTS[:50]))
    (tmp_path / "bad.jsonl").write_text('{"text": ""}\n' + '{"text": "A river."}\n' * 40)
    source = recipe.data.sources["both"]
    sources = {name: source.model_copy(update={"path": [str(tmp_path / f"{name}.jsonl")]}) for name in ("few", "bad")}
    data = recipe.data.model_copy(update={"sources": recipe.data.sources | sources})
    with pytest.raises(DataError) as caught:
        list(preview_samples(recipe.model_copy(update={"data": data}), 1))
    few, bad, *_ = str(caught.value).splitlines()
    assert "1 of 41 documents cannot be used (1 empty)" in bad
    assert "raise it to leave them out" in bad
    data = data.model_copy(update={"sources": {"few": sources["few"]}})
    with pytest.raises(DataError) as prepared:
        run_prepare(recipe.model_copy(update={"data": data}))
    assert few == str(prepared.value)
    assert "set data.sources.few.held_out to 0." in few


def test_validate_names_a_source_that_is_too_small_for_a_window(recipe, tmp_path):
    (tmp_path / "text.jsonl").write_text('{"text": "short"}\n' * 300, encoding="utf-8")
    data = recipe.data.model_copy(update={"sequence_length": 16_384, "held_out": 0.0})
    with pytest.raises(DataError, match="too little text to fill a single window"):
        list(preview_samples(recipe.model_copy(update={"data": data}), 1))


def test_validate_does_not_read_a_large_source_whole(recipe, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("tsugiki.preview.held_out_draw", lambda content: read.append(len(content)) or 0)
    (tmp_path / "text.jsonl").write_text((json.dumps({"text": "river " * 2000}) + "\n") * 500, encoding="utf-8")
    list(preview_samples(recipe, 1))
    assert 1_000_000 <= sum(read) < 1_000_000 + 12_000


def test_validate_tokenises_no_document_that_cannot_be_shown_and_each_of_the_others_whole(recipe, monkeypatch):
    """So that what is shown is what `prepare` would make of it; all 200 are read for the held-out part (see above)."""
    tokenizer, taken = load_tokenizer(recipe), []
    encode = TextTokenizer.encode
    monkeypatch.setattr(TextTokenizer, "encode", lambda self, text: taken.append(text) or encode(self, text))
    shown = "\n".join(preview_samples(recipe, 2))
    texts = [text * 8 for text in TEXTS]
    lengths = [len(encode(tokenizer, text)) + 2 for text in texts]  # BOS and EOS
    needed = next(count for count in range(200) if sum(lengths[:count]) > 2 * 64)
    assert taken == texts[:needed]
    assert f"of its {lengths[0]:,} tokens" in shown


def test_sample_shows_the_text_that_training_reads(recipe):
    from tsugiki.corpus.mixture import Mixture
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.corpus.windows import WindowReader
    from tsugiki.pipeline import run_prepare

    run_prepare(recipe)
    sources = open_prepared(recipe)
    mixture = Mixture.from_recipe(recipe, {"both": sources["both"].train})
    batch = WindowReader(sources, mixture, 64, False).read([4])
    middle = load_tokenizer(recipe).decode(batch.inputs[0, 10:30]).strip().splitlines()[0][:8]
    assert middle in "\n".join(show_sample(recipe, 4))


def test_sample_refuses_data_that_was_prepared_with_other_settings(recipe):
    from tsugiki.pipeline import run_prepare

    run_prepare(recipe)
    changed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"add_eos": False})})
    with pytest.raises(DataError, match=r"prepared with other settings: data\.add_eos was true; run tsugiki prepare"):
        list(show_sample(changed, 0))


def test_inspect_recognises_and_verifies_what_prepare_wrote(recipe):
    from tsugiki.pipeline import run_prepare

    run_prepare(recipe)
    source = recipe.prepared_dir / "both"
    lines, sound = inspect_path(source)
    assert sound
    assert "200" not in lines[1]
    assert any("recorded digests" in line for line in lines)
    assert inspect_path(source / "train")[0][0].startswith("token store")
    assert inspect_path(source / "train-00000.idx")[1]
    damaged = source / "train-00000.bin"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 4
    damaged.write_bytes(content)
    lines, sound = inspect_path(recipe.prepared_dir)
    assert not sound
    assert any("train-00000.bin" in line and "PROBLEM" in line for line in lines)


def test_what_a_checkpoint_says_of_its_data_keeps_the_shape_that_the_mixture_writes(recipe):
    from tsugiki.checkpoint_files import MixtureState
    from tsugiki.corpus.mixture import Mixture
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.pipeline import run_prepare
    from tsugiki.shapes import parse_json

    run_prepare(recipe)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"skip": [(3, 5)]})})
    sources = {name: source.train for name, source in open_prepared(recipe).items()}
    written = json.loads(json.dumps(Mixture.from_recipe(recipe, sources).describe()))
    told = parse_json(json.dumps(written), MixtureState, "state.json")
    assert told.keys() == {"stages", "skip"}
    assert all(json.loads(json.dumps(told[key])) == written[key] for key in told)


def test_inspect_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        inspect_path(tmp_path / "nothing")
    with pytest.raises(DataError, match="no token store"):
        inspect_path(tmp_path)


def test_validate_shows_the_bases_division_until_the_vocabulary_is_extended(tmp_path, tiny_model_folder, monkeypatch):
    from tsugiki import pipeline
    from tsugiki.vocabulary import stage

    base = make_base(tmp_path / "base", "qwen3", tiny_model_folder)
    recipe = parse_recipe(json.dumps(extension_recipe(tmp_path, base)))
    said = "vocabulary not extended with these settings yet: samples are shown as the base's tokenizer divides them"
    before = list(preview_samples(recipe, 1))
    assert before[0] == said
    monkeypatch.setattr(stage, "prove", lambda *_, **__: [])
    pipeline.run_vocabulary(recipe, lambda _: None)
    after = list(preview_samples(recipe, 1))
    assert said not in after
    assert after != before[1:]
    larger = parse_recipe(json.dumps(extension_recipe(tmp_path, base)), overrides=["vocabulary.add=300"])
    assert next(preview_samples(larger, 1)) == said
    for call in (lambda: next(show_sample(larger, 0)), lambda: pipeline.run_prepare(larger)):
        with pytest.raises(RecipeError, match=r"add was 200, is 300.*run tsugiki vocabulary RECIPE first"):
            call()


def test_neither_loads_a_model_library():
    code = "import sys, tsugiki.preview, tsugiki.inspection; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert out.stdout.strip() == "[]"
