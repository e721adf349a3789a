"""How new pieces should start: a small model continued with its own vocabulary, and with new pieces begun in four ways.

    python benchmarks/vocabulary_initialisation.py --corpora DIR                 about 18 minutes on two quiet cores
    python benchmarks/vocabulary_initialisation.py --corpora DIR --minutes 60    the same with more training

A base of a few million parameters is trained on English with a few per cent of Japanese, then continued on Japanese
with English replay: with its own vocabulary, and with new pieces whose rows are the mean of old pieces (with and
without noise), drawn as old rows are distributed, or drawn at random. The learning rate is constant, so that any two
points of a curve compare. DIR holds en-books.jsonl.zst and ja-literature.jsonl.zst (a document a line, key `text`).

Every run is a recipe file, run by `tsugiki run` in a process of its own. The same command skips runs that are finished
and continues others. Writes docs/results/vocabulary-initialisation.md and .png.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from real_model import ROOT, environment, stage, tsugiki
from real_model_extension import EXTENDED, PLAIN, Curve, crossing, read_curve

from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.named_texts import read_texts
from tsugiki.errors import TsugikiError
from tsugiki.files import read_json, write_atomically, xxh3_file
from tsugiki.plots import COLOURS, MARKERS
from tsugiki.quickstart.base import architecture, first_bytes, train_tokenizer
from tsugiki.quickstart.machine import choose_precision, choose_threads
from tsugiki.quickstart.run import is_finished
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import load_recipe

NAME = "vocabulary-initialisation"
JAPANESE, ENGLISH = "japanese", "english"
FILES = {JAPANESE: ("ja-literature.jsonl.zst", "ja"), ENGLISH: ("en-books.jsonl.zst", "en")}
HELD_OUT = 0.02

VOCABULARY, NEW_PIECES = 8192, 4096
TOKENIZER_ENGLISH_BYTES = 4_000_000
TOKENIZER_DOCUMENTS, TOKENIZER_CHARACTERS = 40, 500
"""Of Japanese: so many beginnings of documents, so long. They leave Japanese at about a token a character, as it is
with bases that were trained on English."""
SAMPLE_CHARACTERS = 4_000_000
"""Of Japanese, that the new pieces are learned from."""

WIDTH, LAYERS, HEADS, SEQUENCE_LENGTH, BATCH = 192, 4, 6, 256, 8
BASE_RATE, RATE = 2.5e-3, 1e-3
BASE_MIXTURE = {JAPANESE: 4, ENGLISH: 96}
MIXTURE = {JAPANESE: 70, ENGLISH: 30}
MINUTES, BASE_STEPS, STEPS = 18.0, 1500, 300
"""Steps of the base and of each run in so many minutes; --minutes scales them."""
VALIDATIONS, DOCUMENTS = 20, 4
"""Of each run after the one before step 1, and held-out documents a language at each."""

MEAN, NO_NOISE, NORMAL, RANDOM = "mean", "mean, no noise", "normal", "random"
RUNS: dict[str, dict[str, Any] | None] = {
    PLAIN: None,
    MEAN: {"initialise": "mean"},
    NO_NOISE: {"initialise": "mean", "noise": 0},
    NORMAL: {"initialise": "normal"},
    RANDOM: {"initialise": "random"},
}
"""By run what differs in the vocabulary section; None: there is no such section."""
LINES = {PLAIN: "--", NO_NOISE: ":"}
POINTS = (0.0, 0.05, 0.2, 1.0)
"""Where the tables read the curves: shares of what every run has reached."""
AXES = {"tokens": (1e-6, "million training tokens"), "megabytes": (1.0, "MB of training text")}


def write_base_tokenizer(folder: Path, corpora: Path) -> None:
    """Learn the base's tokenizer from training text, unless it is there."""
    if (folder / "tokenizer_config.json").exists():
        return
    english, japanese = (
        (text.text for text in read_texts([corpora / FILES[name][0]]) if not is_held_out(text.text.encode(), HELD_OUT))
        for name in (ENGLISH, JAPANESE)
    )
    texts = [*first_bytes(english, TOKENIZER_ENGLISH_BYTES)]
    every = 30  # neighbours are of one author
    texts += [text[:TOKENIZER_CHARACTERS] for text in islice(japanese, 0, every * TOKENIZER_DOCUMENTS, every)]
    train_tokenizer(folder, texts, VOCABULARY)


def base_recipe(directory: Path, corpora: Path, scale: float, precision: str) -> dict[str, Any]:
    """The base: random weights, English with a little Japanese."""
    steps = max(20, round(BASE_STEPS * scale))
    config = architecture(VOCABULARY, hidden_size=WIDTH, layers=LAYERS, heads=HEADS, sequence_length=SEQUENCE_LENGTH)
    return {
        "run_dir": str(directory / "base"),
        # Two matrices, as Mistral has: input and output rows start apart.
        "model": {"architecture": config | {"tie_word_embeddings": False}, "tokenizer": str(directory / "tokenizer")},
        "data": data_section(directory / "data", corpora, BASE_MIXTURE),
        "training": training_section(steps, precision)
        | {"learning_rate": BASE_RATE, "min_lr": BASE_RATE / 10, "warmup_steps": steps // 10},
        "parallel": {"shard": "none"},
    }


def continued_recipe(directory: Path, run: str, corpora: Path, scale: float, precision: str) -> dict[str, Any]:
    """The base continued, as one of `RUNS`."""
    steps = VALIDATIONS * max(1, round(STEPS * scale / VALIDATIONS))
    vocabulary = RUNS[run]
    extension = {"add": NEW_PIECES, "language": "ja", "sample_characters": SAMPLE_CHARACTERS}
    stores = directory / ("data" if vocabulary is None else "data-extended")
    return {
        "run_dir": str(directory / run.replace(",", "").replace(" ", "-")),
        "model": {"name_or_path": str(directory / "base/export")},
        **({} if vocabulary is None else {"vocabulary": extension | vocabulary}),
        "data": data_section(stores, corpora, MIXTURE),
        "training": training_section(steps, precision)
        | {"learning_rate": RATE, "lr_scheduler": "constant", "warmup_steps": min(20, steps // 10)}
        | {"eval_steps": steps // VALIDATIONS, "eval_documents": DOCUMENTS},
        "parallel": {"shard": "none"},
    }


def data_section(stores: Path, corpora: Path, weights: Mapping[str, float]) -> dict[str, Any]:
    sources = {
        name: {"path": str(corpora / file), "weight": weights[name], "language": language}
        for name, (file, language) in FILES.items()
    }
    return {
        "sequence_length": SEQUENCE_LENGTH, "held_out": HELD_OUT, "prepared_dir": str(stores), "sources": sources,
    }  # fmt: skip


def training_section(steps: int, precision: str) -> dict[str, Any]:
    return {
        "max_steps": steps, "global_batch_size": BATCH, "micro_batch_size": BATCH, "precision": precision,
        "save_steps": -(-steps // 2), "logging_steps": max(1, steps // VALIDATIONS),
    }  # fmt: skip


def write_recipe(path: Path, content: Mapping[str, Any]) -> Recipe:
    """The recipe in `path`, written unless it is there. SystemExit when another one is."""
    text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        sys.exit(f"{path} is of a run with other settings: give them again, or another --run-dir, or remove this one")
    if not path.exists():
        write_atomically(path, text)
    return load_recipe(path)


def precision_of(base: Path) -> str:
    """The number format that runs were begun with, else what is fast here."""
    return load_recipe(base).training.precision if base.exists() else choose_precision()


def finish(path: Path, recipe: Recipe, threads: int) -> None:
    """`tsugiki run` on a recipe, its output in a log beside it. Raises RuntimeError when it fails."""
    if is_finished(recipe):
        print(f"{path.stem}: finished before", flush=True)
        return
    begun = time.monotonic()
    log = path.with_suffix(".log")
    with log.open("w", encoding="utf-8") as out:
        limits = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        done = subprocess.run(
            tsugiki("run", str(path)), env=environment() | limits, stdout=out, stderr=subprocess.STDOUT
        )
    if done.returncode:
        raise RuntimeError(f"{path.stem} ended with exit code {done.returncode}; see {log}")
    print(f"{path.stem}: {time.monotonic() - begun:.0f} s", flush=True)


def require_one_tokenizer(recipes: Mapping[str, Recipe]) -> None:
    """All extended runs must have learnt the same pieces. SystemExit when they have not."""
    files = {xxh3_file(recipes[run].vocabulary_dir / "model/tokenizer.json") for run in RUNS if RUNS[run] is not None}
    if len(files) > 1:
        sys.exit("the extended runs have different tokenizers: remove --run-dir and run this again")


def reached(curve: Curve, axis: str, source: str, bits: float) -> float | None:
    """From where on a curve is at or below `bits` for good, by `axis`; None where it does not get there."""
    places = np.linspace(0, getattr(curve, axis)[-1], 1001)
    above = np.flatnonzero(np.array([curve.at(axis, place, source) for place in places]) > bits)
    last = int(above[-1]) if len(above) else -1
    return None if last == 1000 else float(places[last + 1])


def table(curves: Mapping[str, Curve], axis: str) -> list[str]:
    """Bits per byte of each run at `POINTS` of what all have reached by `axis`, both languages."""
    unit, label = AXES[axis]
    end = min(getattr(curve, axis)[-1] for curve in curves.values())
    places = " | ".join("start" if not share else f"{share:.0%}" for share in POINTS)
    lines = [
        f"100 % is {end * unit:.2f} {label}; Japanese on the left, English on the right.",
        "",
        f"| run | {places} | {places} |",
        "|---|" + 2 * len(POINTS) * "---:|",
    ]
    for run, curve in curves.items():
        figures = [f"{curve.at(axis, share * end, name):.3f}" for name in (JAPANESE, ENGLISH) for share in POINTS]
        lines.append(f"| {run} | {' | '.join(figures)} |")
    return lines


def draw(curves: Mapping[str, Curve], output: Path) -> None:
    """Japanese above, English below; over training tokens on the left, over training text on the right.

    The first point of a curve is before step 1. Where it lies far above all that follows, words say where.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(2, 2, sharex="col", sharey="row")
    for row, source in zip(rows, (JAPANESE, ENGLISH), strict=True):
        lowest = min(curve.bits[source].min() for curve in curves.values())
        highest = max(curve.bits[source][1:].max() for curve in curves.values())
        top = highest + 0.25 * (highest - lowest)
        for panel, (axis, (unit, label)) in zip(row, AXES.items(), strict=True):
            end = min(getattr(curve, axis)[-1] for curve in curves.values()) * unit
            for number, (run, curve) in enumerate(curves.items()):
                panel.plot(
                    getattr(curve, axis) * unit, curve.bits[source], LINES.get(run, "-"), color=COLOURS[number],
                    marker="" if run == NO_NOISE else MARKERS[number], ms=4, lw=1.4, label=run,
                )  # fmt: skip
            off = ", ".join(f"{run} {c.bits[source][0]:.2f}" for run, c in curves.items() if c.bits[source][0] > top)
            if off:
                panel.text(0.98, 0.97, f"start, above: {off}", transform=panel.transAxes, ha="right", va="top")
            panel.set_ylim(lowest - 0.05 * (highest - lowest), top)
            panel.set_xlim(-0.02 * end, 1.02 * end)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            if source == ENGLISH:
                panel.set_xlabel(label)
        row[0].set_ylabel(f"{source.capitalize()}: held-out bits per byte")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(curves), frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, format="png")


def lessons(curves: Mapping[str, Curve]) -> list[str]:
    """What the curves say, in sentences, each computed from them."""
    plain, mean = curves[PLAIN], curves[MEAN]
    end = min(curve.tokens[-1] for curve in curves.values())
    noise = curves[NO_NOISE].at("tokens", end, JAPANESE) - mean.at("tokens", end, JAPANESE)
    lines = [
        "- Start: the base's own vocabulary costs "
        f"{plain.bits[JAPANESE][0]:.3f} bits per byte of Japanese and {plain.bits[ENGLISH][0]:.3f} of English; with "
        "new pieces it is "
        + ", ".join(
            f"{curve.bits[JAPANESE][0]:.3f} and {curve.bits[ENGLISH][0]:.3f} ({run})"
            for run, curve in curves.items() if run != PLAIN
        )
        + ".",
    ]  # fmt: skip
    for run in (NORMAL, RANDOM):
        other = curves[run]
        gaps = [
            other.at("tokens", share * end, JAPANESE) - mean.at("tokens", share * end, JAPANESE) for share in POINTS
        ]
        line = f"- mean against {run}: Japanese is {describe(gaps[1])} after 5 % of the tokens, {describe(gaps[2])} "
        line += f"after 20 %, {describe(gaps[3])} at the end."
        place = reached(mean, "tokens", JAPANESE, other.at("tokens", end, JAPANESE))
        if place is not None and place < end:
            line += f" What {run} reaches at the end, mean has after {place / end:.0%} of the tokens."
        lines.append(line)
    lines.append(
        f"- mean with noise against without: Japanese is {describe(noise)} at the end. The noise only parts pieces "
        "whose rows would be equal: take a difference of that size between two runs for chance."
    )
    for axis, words in (("tokens", "tokens"), ("megabytes", "text")):
        last = min(getattr(plain, axis)[-1], getattr(mean, axis)[-1])
        for name in (JAPANESE, ENGLISH):
            gap = plain.at(axis, last, name) - mean.at(axis, last, name)
            place = crossing({PLAIN: plain, EXTENDED: mean}, axis, name)
            since = "never ahead for good" if place is None else f"ahead for good from {place / last:.0%} on"
            lines.append(
                f"- New pieces (mean) against the base's own, at equal {words}, {name.capitalize()}: {describe(gap)} "
                f"at the end, {since}."
            )
    return lines


def describe(gap: float) -> str:
    """How far something is ahead, in bits per byte."""
    words = f"{abs(gap):.3f}"
    return "level" if float(words) == 0 else f"{words} {'ahead' if gap > 0 else 'behind'}"


def render(recipes: Mapping[str, Recipe], curves: Mapping[str, Curve], base_steps: int) -> str:
    """The page: what was run, the curves, the figures, what they say."""
    sizes = read_json(recipes[MEAN].vocabulary_dir / "report.json")["vocabulary_size"]
    training = recipes[MEAN].training
    tokens = BATCH * SEQUENCE_LENGTH
    parameters = 12 * LAYERS * WIDTH**2 + 2 * VOCABULARY * WIDTH
    width = {run: 1e6 * curve.megabytes[-1] / curve.tokens[-1] for run, curve in curves.items()}
    lines = [
        "# How new pieces should start",
        "",
        f"`python benchmarks/{NAME.replace('-', '_')}.py`: a base of {parameters / 1e6:.1f} million parameters "
        f"(Mistral shape, untied, vocabulary {sizes['before']:,}) was trained on "
        f"{base_steps * tokens / 1e6:.2f} million tokens, {BASE_MIXTURE[ENGLISH]} % English books and "
        f"{BASE_MIXTURE[JAPANESE]} % Japanese literature. Each run continues it for {training.max_steps} steps of "
        f"{tokens:,} tokens, {MIXTURE[JAPANESE]} % Japanese and {MIXTURE[ENGLISH]} % English, in the same order, at a "
        f"constant learning rate of {training.learning_rate:g} ({training.precision}): with the base's own vocabulary, "
        f"and with {sizes['after']:,} pieces whose rows "
        "are the mean of the rows of their old pieces (with noise of a thousandth of the rows' spread, and without), "
        "drawn around the mean of all old rows with their covariance (normal), or drawn around 0 (random). A token of "
        f"the mixture is {width[PLAIN]:.2f} bytes of text with the base's vocabulary, {width[MEAN]:.2f} with the "
        "larger.",
        "",
        "## What was seen",
        "",
        *lessons(curves),
        "",
        "One seed, one small model: trust the order of the curves and their shape, not the third digit.",
        "",
        f"![Held-out bits per byte over tokens and text]({NAME}.png)",
    ]
    for axis, title in (("tokens", "At equal tokens"), ("megabytes", "At equal text")):
        lines += ["", f"## {title}: held-out bits per byte", "", *table(curves, axis)]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, default=Path("data"), help="folder of the two corpora (data)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"length in all, about ({MINUTES:g})")
    parser.add_argument("--run-dir", type=Path, default=Path(f"runs/{NAME}"), help="where to work")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results", help="folder for page and plot")
    options = parser.parse_args()
    missing = [file for file, _ in FILES.values() if not (options.corpora / file).exists()]
    if missing:
        sys.exit(f"{options.corpora} lacks {' and '.join(missing)}: give the folder that has them by --corpora")
    directory, scale, cores = options.run_dir, options.minutes / MINUTES, os.cpu_count() or 1
    settings = (options.corpora, scale, precision_of(directory / "base.yaml"))
    begun = time.monotonic()
    try:
        write_base_tokenizer(directory / "tokenizer", options.corpora)
        base = write_recipe(directory / "base.yaml", base_recipe(directory, *settings))
        finish(directory / "base.yaml", base, choose_threads())
        paths = {run: (directory / run.replace(",", "").replace(" ", "-")).with_suffix(".yaml") for run in RUNS}
        recipes = {run: write_recipe(paths[run], continued_recipe(directory, run, *settings)) for run in RUNS}
        for run, path in paths.items():  # one by one, since stores are shared
            if RUNS[run] is not None:
                stage(f"vocabulary: {run}", tsugiki("vocabulary", str(path)))
            stage(f"prepare: {run}", tsugiki("prepare", str(path)))
        require_one_tokenizer(recipes)
        # Two at once with half of the cores each: small products gain little from a second core.
        with ThreadPoolExecutor(min(2, cores)) as pool:
            threads = max(1, cores // 2)
            list(pool.map(lambda run: finish(paths[run], recipes[run], threads), RUNS))
        curves = {run: read_curve(recipe) for run, recipe in recipes.items()}
    except (TsugikiError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    draw(curves, options.output / f"{NAME}.png")
    page = render(recipes, curves, base.training.max_steps or 0)
    (options.output / f"{NAME}.md").write_text(page, encoding="utf-8")
    print(page)
    print(f"written: {options.output / NAME}.md and .png, after {(time.monotonic() - begun) / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
