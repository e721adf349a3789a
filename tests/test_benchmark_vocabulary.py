"""The vocabulary benchmarks: recipes that differ in one thing, curves read where they should be, pages that say what
the figures say, authors that were really held out."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from extended_tokenizers import ENGLISH, JAPANESE, byte_level_pair
from safetensors.numpy import save_file

from tsugiki.recipe_file import load_recipe
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.gains import VocabularyReport

MODULES = ("vocabulary_initialisation", "vocabulary_authors", "real_model_extension", "real_model", "smollm2_folder")


@pytest.fixture
def benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def initialisation(benchmarks):
    return benchmarks("vocabulary_initialisation")


@pytest.fixture
def authors(benchmarks):
    return benchmarks("vocabulary_authors")


def straight(module, japanese: tuple[float, float], english: tuple[float, float], width: float = 1.0):
    """A curve of 100 tokens with lines from one figure to another; a token is `width` MB of text."""
    places = np.linspace(0, 100, 11)
    bits = {"japanese": np.linspace(*japanese, 11), "english": np.linspace(*english, 11)}
    return module.Curve(places, places, width * places, bits, memory=1.0)


def curves_of(module):
    """The base's own vocabulary, two kinds of mean, normal and random: read off by hand below."""
    return {
        module.PLAIN: straight(module, (3.0, 2.0), (1.5, 1.5)),
        module.MEAN: straight(module, (2.8, 1.8), (1.6, 1.6), width=2.0),
        module.NO_NOISE: straight(module, (2.8, 1.81), (1.6, 1.6), width=2.0),
        module.NORMAL: straight(module, (4.0, 2.0), (1.7, 1.6), width=2.0),
        module.RANDOM: straight(module, (5.1, 2.3), (1.8, 1.6), width=2.0),
    }


def write_zst(path: Path, records: list[dict]) -> None:
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    path.write_bytes(zstandard.ZstdCompressor().compress(lines.encode()))


def make_inputs(folder: Path) -> None:
    """What the recipes of the benchmark name, as far as their check looks."""
    for name in ("ja-literature.jsonl.zst", "en-books.jsonl.zst"):
        write_zst(folder / name, [{"text": "text"}])
    for name in ("tokenizer", "base/export"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}", encoding="utf-8")
        (folder / name / "tokenizer.json").write_text("{}", encoding="utf-8")
    save_file({}, folder / "base/export/model.safetensors")


def test_every_run_is_a_valid_recipe_and_the_extended_ones_differ_in_the_new_rows_alone(initialisation, tmp_path):
    make_inputs(tmp_path)
    contents = {
        run: initialisation.continued_recipe(tmp_path, run, tmp_path, 0.5, "fp32") for run in initialisation.RUNS
    }
    contents["base"] = initialisation.base_recipe(tmp_path, tmp_path, 0.5, "fp32")
    recipes = {}
    for number, (run, content) in enumerate(contents.items()):
        recipes[run] = initialisation.write_recipe(tmp_path / f"{number}.yaml", content)
    assert len({recipe.run_dir for recipe in recipes.values()}) == len(recipes)
    starts = {}
    for run in set(initialisation.RUNS) - {initialisation.PLAIN}:
        vocabulary = recipes[run].vocabulary
        starts[run] = (vocabulary.initialise, vocabulary.noise)
        same = vocabulary.model_dump() | {"initialise": None, "noise": None}
        assert same == recipes["mean"].vocabulary.model_dump() | {"initialise": None, "noise": None}
        assert recipes[run].prepared_dir == recipes["mean"].prepared_dir != recipes["base"].prepared_dir
        assert recipes[run].training == recipes[initialisation.PLAIN].training
    assert starts == {
        "mean": ("mean", 1e-3), "mean, no noise": ("mean", 0.0), "normal": ("normal", 1e-3), "random": ("random", 1e-3),
    }  # fmt: skip
    assert recipes[initialisation.PLAIN].vocabulary is None
    assert recipes[initialisation.PLAIN].prepared_dir == recipes["base"].prepared_dir
    steps = recipes["mean"].training
    assert steps.max_steps % steps.eval_steps == 0  # the last validation is at the end, and all are as far apart
    assert steps.max_steps == pytest.approx(initialisation.STEPS / 2, abs=initialisation.VALIDATIONS / 2)
    assert recipes["base"].training.max_steps == initialisation.BASE_STEPS / 2


def test_a_recipe_of_another_length_is_not_overwritten(initialisation, tmp_path):
    make_inputs(tmp_path)
    path = tmp_path / "base.yaml"
    initialisation.write_recipe(path, initialisation.base_recipe(tmp_path, tmp_path, 1.0, "fp32"))
    before = path.read_text(encoding="utf-8")
    with pytest.raises(SystemExit, match="other settings"):
        initialisation.write_recipe(path, initialisation.base_recipe(tmp_path, tmp_path, 2.0, "fp32"))
    assert path.read_text(encoding="utf-8") == before
    assert initialisation.precision_of(path) == "fp32"


def test_a_curve_is_read_from_the_metrics_and_the_stores(benchmarks, tmp_path):
    module = benchmarks("real_model_extension")
    make_inputs(tmp_path)
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(
        f"run_dir: {tmp_path / 'run'}\nmodel: {{name_or_path: {tmp_path / 'base/export'}}}\n"
        f"data: {{sequence_length: 10, sources: {{x: {{path: {tmp_path}/en-books.jsonl.zst, weight: 3}}, "
        f"y: {{path: {tmp_path}/en-books.jsonl.zst, weight: 1}}}}}}\n"
        "training: {max_steps: 4, global_batch_size: 5, micro_batch_size: 5, learning_rate: 1e-3, save_steps: 4}\n",
        encoding="utf-8",
    )
    recipe = load_recipe(recipe_file)
    for name, size in (("x", 200), ("y", 600)):
        counts = {"documents": 1, "tokens": 100, "bytes": size, "characters": size}
        folder = tmp_path / "run/data" / name
        folder.mkdir(parents=True)
        manifest = {
            "name": name, "fingerprint": "", "tokenizer_fingerprint": "", "vocabulary_size": 9, "add_bos": True,
            "add_eos": True, "bos_id": 1, "eos_id": 2, "files": [], "train": counts, "held_out": counts,
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    records = [
        {"kind": "validation", "step": 0, "sources": {"x": {"bits_per_byte": 4.0}}},
        {"kind": "step", "step": 2, "tokens": 100, "tokens_per_second": 50.0, "memory_gb": 1.0},
        {"kind": "validation", "step": 2, "sources": {"x": {"bits_per_byte": 3.0}}},
        {"kind": "step", "step": 4, "tokens": 200, "tokens_per_second": 25.0, "memory_gb": 2.0},
        {"kind": "validation", "step": 4, "sources": {"x": {"bits_per_byte": 2.5}}},
    ]
    (tmp_path / "run/metrics.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    curve = module.read_curve(recipe)
    width = (3 * 2 + 1 * 6) / 4  # bytes a token: three quarters of x at 2, a quarter of y at 6
    np.testing.assert_allclose(curve.tokens, [0, 100, 200])
    np.testing.assert_allclose(curve.seconds, [0, 2, 6])
    np.testing.assert_allclose(curve.megabytes, [0, 100 * width / 1e6, 200 * width / 1e6])
    assert curve.at("tokens", 50, "x") == 3.5
    assert curve.at("seconds", 4, "x") == 2.75
    assert curve.memory == 2.0


def test_the_tables_read_every_run_at_shares_of_what_all_have_reached(initialisation):
    curves = curves_of(initialisation)
    tokens, text = (initialisation.table(curves, axis) for axis in ("tokens", "megabytes"))
    assert "| base vocabulary | 3.000 | 2.950 | 2.800 | 2.000 | 1.500 | 1.500 | 1.500 | 1.500 |" in tokens
    assert "| random | 5.100 | 4.960 | 4.540 | 2.300 | 1.800 | 1.790 | 1.760 | 1.600 |" in tokens
    # The base's own vocabulary sees half as much text a token: at its end, others are half-way.
    assert text[0].startswith("100 % is 100.00 MB")
    assert "| random | 5.100 | 5.030 | 4.820 | 3.700 | 1.800 | 1.795 | 1.780 | 1.700 |" in text
    assert "| base vocabulary | 3.000 | 2.950 | 2.800 | 2.000 | 1.500 | 1.500 | 1.500 | 1.500 |" in text


def test_what_was_seen_is_what_the_curves_say(initialisation):
    words = "\n".join(initialisation.lessons(curves_of(initialisation)))
    assert "3.000 bits per byte of Japanese and 1.500 of English" in words
    assert "2.800 and 1.600 (mean)" in words
    assert "5.100 and 1.800 (random)" in words
    # normal: 1.2 behind at the start, 0.2 at the end; mean is at 2.0 after 80 % of its way
    assert (
        "mean against normal: Japanese is 1.150 ahead after 5 % of the tokens, 1.000 ahead after 20 %, 0.200" in words
    )
    assert "What normal reaches at the end, mean has after 80% of the tokens." in words
    assert "What random reaches at the end, mean has after 50% of the tokens." in words
    assert "mean with noise against without: Japanese is 0.010 ahead at the end" in words
    assert "at equal tokens, Japanese: 0.200 ahead at the end, ahead for good from 0% on" in words
    assert "at equal tokens, English: 0.100 behind at the end, never ahead for good" in words
    # At equal text mean is half-way, at 2.3, when the base's own vocabulary has come to 2.0. They meet at 40 MB.
    assert "at equal text, Japanese: 0.300 behind at the end, never ahead for good" in words


def test_the_page_has_the_sizes_the_tables_and_what_was_seen(initialisation, tmp_path):
    make_inputs(tmp_path)
    content = initialisation.continued_recipe(tmp_path, "mean", tmp_path, 1.0, "fp32")
    recipe = initialisation.write_recipe(tmp_path / "mean.yaml", content)
    recipe.vocabulary_dir.mkdir(parents=True)
    report = VocabularyReport(8192, 12288, {}, {}, {}, [], [], [], 0, [])  # the stage's own
    (recipe.vocabulary_dir / "report.json").write_text(json.dumps(report.to_json()), encoding="utf-8")
    curves = curves_of(initialisation)
    page = initialisation.render({"mean": recipe}, curves, base_steps=1500)
    assert "vocabulary 8,192" in page
    assert "with 12,288 pieces" in page
    assert "3.07 million tokens" in page  # 1,500 steps of 8 x 256
    assert f"{initialisation.STEPS} steps of 2,048 tokens" in page
    for line in (*initialisation.lessons(curves), *initialisation.table(curves, "megabytes")):
        assert line in page


def test_a_difference_that_rounds_to_nothing_is_none(initialisation):
    assert [initialisation.describe(gap) for gap in (0.0004, -0.0004, 0.0006, -0.0006)] == [
        "level", "level", "0.001 ahead", "0.001 behind",
    ]  # fmt: skip


def test_a_figure_is_reached_where_the_curve_stays_below_it(initialisation):
    places = np.array([0.0, 10.0, 20.0, 30.0])
    curve = initialisation.Curve(places, places, places, {"japanese": np.array([3.0, 1.0, 3.0, 1.0])}, memory=1.0)
    assert initialisation.reached(curve, "tokens", "japanese", 2.0) == pytest.approx(25.0, abs=0.05)
    assert initialisation.reached(curve, "tokens", "japanese", 0.5) is None
    assert initialisation.reached(curve, "tokens", "japanese", 3.0) == 0.0


def test_the_plot_has_both_languages_over_tokens_and_over_text(initialisation, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **more: (drawn.append(figure), save(figure, *args, **more))
    )
    curves = curves_of(initialisation)
    initialisation.draw(curves, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    panels = drawn[0].axes
    assert len(panels) == 4
    for panel, (source, axis) in zip(
        panels, [(s, a) for s in ("japanese", "english") for a in initialisation.AXES], strict=True
    ):
        assert [line.get_label() for line in panel.get_lines()] == list(curves)
        for line, curve in zip(panel.get_lines(), curves.values(), strict=True):
            np.testing.assert_allclose(line.get_ydata(), curve.bits[source])
            np.testing.assert_allclose(line.get_xdata(), getattr(curve, axis) * initialisation.AXES[axis][0])
    assert panels[0].get_ylabel().startswith("Japanese")
    assert panels[2].get_ylabel().startswith("English")


def test_an_author_that_is_held_out_gives_no_piece(authors, tmp_path):
    tokenizer, _ = byte_level_pair(tmp_path)
    base = open_base(tokenizer, TargetCharacters.of_language("ja"))
    literature = [("a", JAPANESE[0]), ("b", JAPANESE[1])] * 30
    others = ["猫の目"] * 30
    row = authors.hold_out(tokenizer, base, "a", literature, others, ENGLISH, 20)
    assert row.author == "a"
    assert row.characters == 30 * len(JAPANESE[0])
    assert row.before == len(JAPANESE[0].encode()) / len(JAPANESE[0])  # three bytes a character, no piece
    assert row.after < row.before
    assert row.changed == 0
    # Its own text in the sample makes it cheaper: had it not been left out, the two would agree.
    known = authors.hold_out(
        tokenizer, base, "a", [("a", JAPANESE[0])] * 30 + [("b", JAPANESE[0])] * 30, others, ENGLISH, 20
    )
    assert known.after < row.after


def test_english_that_changed_is_counted(authors, tmp_path):
    base, extended = byte_level_pair(tmp_path)
    from tokenizers import Tokenizer

    texts = [*ENGLISH, JAPANESE[0]]
    found = authors.changed_documents(base, Tokenizer.from_file(str(extended.folder / "tokenizer.json")), texts)
    assert found == 1  # 川は has become a piece


def test_the_author_is_the_second_part_of_the_source(authors, tmp_path):
    write_zst(tmp_path / "x.jsonl.zst", [{"source": "cards/000148/a.txt", "text": "川"}, {"source": "b", "text": "谷"}])
    assert list(authors.documents(tmp_path / "x.jsonl.zst")) == [("000148", "川"), ("b", "谷")]


def test_a_section_has_the_mean_over_authors_and_replaces_the_one_before(authors):
    rows = [
        authors.Row("a", 1000, before=1.2, after=0.6, single=7, seconds=3.0, changed=0),
        authors.Row("b", 3000, before=1.0, after=0.6, single=9, seconds=5.0, changed=2),
    ]
    section = authors.render("Base: 10 + 5 pieces", rows, 2, 40)
    assert "| a | 1,000 | 1.200 | 0.600 | 0.500 | 7 | 3 |" in section
    assert "| mean | | 1.100 | 0.600 | 0.545 | | |" in section
    assert "other ids than the base's: 2 of 40" in section
    part = authors.render("Other: 1 + 1 pieces", rows[:1], 2, 40)
    assert "The 1 of 2 authors with most text." in part
    assert "authors with most text" not in section
    page = authors.with_section(authors.with_section("", "Base", section), "Other", part)
    changed = authors.with_section(page, "Base", section.replace("2 of 40", "0 of 40"))
    assert changed.count("## Base: 10 + 5 pieces") == 1
    assert changed.count("## Other: 1 + 1 pieces") == 1
    assert "2 of 40" in page
    assert "2 of 40" not in changed
