"""A report as files: the page, a model card a run, and all figures as JSON.

Whatever looks like a credential is hidden in each of them, wherever it came from.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tsugiki import __version__
from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, write_atomically
from tsugiki.metrics_file import last_attempt
from tsugiki.pages.buckets import thin
from tsugiki.recipe_secrets import hide_secrets
from tsugiki.recipe_yaml import read
from tsugiki.release_file import Release
from tsugiki.report.attribution_facts import read_attribution
from tsugiki.report.attribution_markdown import make_attribution_markdown
from tsugiki.report.attribution_page import make_attribution_page
from tsugiki.report.card import make_card
from tsugiki.report.figures import mixture, speed
from tsugiki.report.measures import gains
from tsugiki.report.page import make_page
from tsugiki.report.parts import Runs
from tsugiki.report.provenance import differences
from tsugiki.report.run_directory import RunDirectory, read_run
from tsugiki.report.sweep_facts import read_sweep
from tsugiki.report.sweep_markdown import make_sweep_markdown
from tsugiki.report.sweep_page import make_sweep_page
from tsugiki.report.words import summary

PAGE, CARD, FIGURES = "report.html", "model-card.md", "report.json"
MARKDOWN = "report.md"
"""Of a sweep or an attribution."""
FORMAT = 1
"""Of report.json; another number is another layout."""


def write_report(folders: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Write the report of one run directory, or of several side by side, into `output`; returns the files.

    Default: `<run>/report` for one run, `report` for several. Raises RecipeError for what is no run directory,
    StorageError where the disk refuses.
    """
    runs = with_names([read_run(folder) for folder in folders])
    output = output or (folders[0] / "report" if len(folders) == 1 else Path("report"))
    cards = {CARD if len(runs) == 1 else f"model-card-{run.name}.md": make_card(run) for run in runs}
    contents = {PAGE: make_page(runs), **cards, FIGURES: _figures_text(runs)}
    _write(output, contents)
    return [output / name for name in contents]


def write_sweep_report(folder: Path, output: Path | None = None) -> list[Path]:
    """Write the page of a sweep's folder, and the same as Markdown, into `output` (default: the folder itself);
    returns the files. Raises RecipeError or DataError for a `sweep.json` of another layout, StorageError where the disk
    refuses."""
    sweep, output = read_sweep(folder), output or folder
    contents = {PAGE: make_sweep_page(sweep, output), MARKDOWN: make_sweep_markdown(sweep)}
    _write(output, contents)
    return [output / name for name in contents]


def write_attribution_report(folder: Path, output: Path | None = None) -> list[Path]:
    """The same of an attribution's folder and its `attribution.json`."""
    attribution, output = read_attribution(folder), output or folder
    contents = {PAGE: make_attribution_page(attribution, output), MARKDOWN: make_attribution_markdown(attribution)}
    _write(output, contents)
    return [output / name for name in contents]


def write_release_pages(run: Path, folder: Path, release: Release) -> None:
    """README.md, which is the card of a released folder, and the page and figures of its run in `report/`."""
    found = read_run(run)
    _write(folder / "report", {PAGE: make_page([found]), FIGURES: _figures_text([found])})
    _write(folder, {"README.md": make_card(found, release)})


def _write(output: Path, contents: Mapping[str, str]) -> None:
    """Write files by name, without credentials. Raises StorageError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(explain_os_error(error, output)) from error
    for name, text in contents.items():
        write_atomically(output / name, hide_secrets(text))


def with_names(runs: Runs) -> list[RunDirectory]:
    """The runs under names that differ: where two folders share theirs, with the folder above or a number."""
    names = Counter(run.name for run in runs)
    named: list[RunDirectory] = []
    for run in runs:
        name = f"{run.folder.resolve().parent.name}-{run.name}" if names[run.name] > 1 else run.name
        while any(other.name == name for other in named):
            name += "-2"
        named.append(replace(run, name=name))
    return named


def figures(runs: Runs) -> dict[str, Any]:
    """Every figure of the page, by run."""
    return {
        "format": FORMAT, "tsugiki": __version__, "runs": [_figures(run) for run in runs],
        "recipe_differences": {key: dict(zip([run.name for run in runs], values, strict=True))
                               for key, values in differences(runs)} if len(runs) > 1 else {},
    }  # fmt: skip


def _figures_text(runs: Runs) -> str:
    return json.dumps(_finite(figures(runs)), ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def _figures(run: RunDirectory) -> dict[str, Any]:
    return {
        "name": run.name, "summary": summary(run), "state": run.state, "step": run.step,
        "gains": [asdict(one) for one in gains(run)],
        "mixture": [asdict(one) for one in mixture(run)],
        "speed": asdict(speed(run)),
        "curves": _curves(run),
        "validations": run.metrics.validations, "evaluations": run.metrics.evaluations, "spikes": run.metrics.spikes,
        "checkpoints": [{"name": name, "step": step} for name, step in run.checkpoints],
        "vocabulary": run.vocabulary, "scores": run.scores, "samples": run.samples, "starts": run.starts,
        "preflight": run.preflight,
        "tokenizer": run.tokenizer,
        "sources": {name: manifest.fingerprint for name, manifest in run.manifests.items()},
        "recipe": read(run.recipe_text, run.name).tree,
    }  # fmt: skip


def _curves(run: RunDirectory) -> dict[str, list[list[float | None]]]:
    """By name: [first step, last step, smallest, largest] of at most 600 stretches."""
    lines = last_attempt(run.metrics.steps)
    steps = [line["step"] for line in lines]
    curves = {
        "loss": [line.get("loss") for line in lines], "grad_norm": [line.get("grad_norm") for line in lines],
        "learning_rate": [line.get("learning_rate") for line in lines],
        "tokens_per_second": [line.get("tokens_per_second") for line in lines],
    }  # fmt: skip
    for name in dict.fromkeys(name for line in lines for name in line.get("loss_by_source", {})):
        curves[f"loss/{name}"] = [line.get("loss_by_source", {}).get(name) for line in lines]
    return {
        name: [[b.first_x, b.last_x, b.low, b.high] for b in thin([(steps, values)])[0] if b is not None]
        for name, values in curves.items()
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
