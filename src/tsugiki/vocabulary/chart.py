"""Tokens a character before and after a vocabulary extension, as bars."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from tsugiki.files import write_atomically
from tsugiki.plots import COLOURS
from tsugiki.vocabulary.gains import VocabularyReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(report: VocabularyReport, path: Path) -> Path:
    """Write `make_figure` to `path` as a PNG; returns `path`. Raises StorageError when the disk refuses."""
    image = io.BytesIO()
    make_figure(report).savefig(image, dpi=120, format="png")
    write_atomically(path, image.getvalue())
    return path


def make_figure(report: VocabularyReport) -> "Figure":
    """A pair of bars for each source's held-out text and sample, the first source on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = [
        (f"{name}\n{kind}", changes[name])
        for name in report.judged
        for kind, changes in (("held out", report.held_out), ("sample", report.sample))
        if name in changes
    ]
    figure = Figure(figsize=(8.0, 1.5 + 0.62 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: no global state, no display
    axes = figure.subplots()
    before = [change.before.tokens_per_character for _, change in groups]
    after = [change.after.tokens_per_character for _, change in groups]
    places = list(range(len(groups)))
    for values, shift, colour, label in (
        (before, -0.19, "#AAAAAA", f"before: {report.size_before:,} ids"),
        (after, 0.19, COLOURS[0], f"after: {report.size_after:,} ids"),
    ):
        axes.barh([place + shift for place in places], values, 0.36, color=colour, label=label)
    for place, (_, change) in enumerate(groups):
        for fertility, shift, words in (
            (change.before, -0.19, ""), (change.after, 0.19, f"  ({100 * change.ratio:.0f} % of before)"),
        ):  # fmt: skip
            value = fertility.tokens_per_character
            axes.annotate(
                f"{value:.3f}{words}", (value, place + shift), (4, 0), textcoords="offset points", va="center",
                fontsize=9,
            )  # fmt: skip
    axes.set_yticks(places, [name for name, _ in groups])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * max([*before, *after], default=1.0))  # room for the figures beside the bars
    axes.set_xlabel("tokens per character (fewer is better)")
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
