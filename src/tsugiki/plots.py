"""Losses and learning rates of one run or several, as a PNG, from their `metrics.jsonl`.

A column a run, three rows: training loss by source (nats a token, the mean of a logged interval), held-out bits per
byte by source, learning rate. Rows share their axis, so that runs can be compared by eye.
"""

from collections.abc import Mapping
from pathlib import Path

from tsugiki.errors import DataError
from tsugiki.metrics_file import Metrics, last_attempt, read_metrics

# Okabe and Ito's palette, which colour-blind readers tell apart; markers differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
MARKERS = "osD^vP*X"


def plot_runs(runs: Mapping[str, Path], output: Path) -> Path:
    """Draw runs (title -> `metrics.jsonl`) side by side into `output` (a PNG); returns `output`.

    Raises DataError when a file of metrics is missing or empty.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = {title: _logged(path) for title, path in runs.items()}
    names = _source_names(records)
    style = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "label": name}
        for i, name in enumerate(names)
    }
    figure = Figure(figsize=(3.0 + 3.6 * len(records), 7.2), layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no global state, no display
    rows = figure.subplots(3, len(records), sharey="row", sharex="col", squeeze=False, height_ratios=(3, 3, 1.6))
    for column, (title, found) in enumerate(records.items()):
        steps, validations = last_attempt(found.steps), last_attempt(found.validations)
        losses, held_out, rates = (row[column] for row in rows)
        losses.set_title(title)
        for name in names:
            points = [(s["step"], s["loss_by_source"][name]) for s in steps if name in s.get("loss_by_source", {})]
            if points:
                losses.plot(*zip(*points, strict=True), lw=1.4, **{**style[name], "marker": ""})
            points = [(v["step"], v["sources"][name]["bits_per_byte"]) for v in validations if name in v["sources"]]
            if points:
                held_out.plot(*zip(*points, strict=True), lw=1.4, ms=5, **style[name])
        if not validations:
            held_out.text(0.5, 0.5, "not measured", transform=held_out.transAxes, ha="center", color="#777777")
        rates.plot([s["step"] for s in steps], [s.get("learning_rate") for s in steps], color="#555555", lw=1.4)
        rates.set_xlabel("step")
    for row, label in zip(
        rows, ("training loss\nnats per token", "held out\nbits per byte", "learning rate"), strict=True
    ):
        row[0].set_ylabel(label)
        for axes in row:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    handles = {
        label: handle for axes in rows[1] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not handles:
        handles = {
            label: handle for axes in rows[0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside upper center", ncols=min(len(handles), 6), frameon=False
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120, format="png")
    return output


def _logged(path: Path) -> Metrics:
    found = read_metrics(path)
    if not found.steps and not found.validations:
        raise DataError(f"{path}: no metrics there; the run has not logged anything yet")
    return found


def _source_names(records: Mapping[str, Metrics]) -> list[str]:
    """Sources of all runs, in order of first appearance, so that each has one colour everywhere."""
    names: dict[str, None] = {}
    for found in records.values():
        for validation in found.validations:
            names.update(dict.fromkeys(validation["sources"]))
        for step in found.steps:
            names.update(dict.fromkeys(step.get("loss_by_source", {})))
    return list(names)
