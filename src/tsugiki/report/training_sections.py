"""The sections on the training itself: loss, gradient norm, learning rate, spikes; speed, memory and time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime

from tsugiki.amounts import duration, quantity
from tsugiki.metrics_file import SpikeLine, StepLine, last_attempt
from tsugiki.pages.axes import Axis
from tsugiki.pages.document import Section, section
from tsugiki.pages.line_chart import Line, line_chart
from tsugiki.pages.markup import Markup, Part, element, join
from tsugiki.pages.table import Column, table
from tsugiki.report.batch_texts import batch_texts
from tsugiki.report.figures import speed
from tsugiki.report.parts import STEP, Runs, colours, curve, heading, marks, marks_of_several, paragraph, side_by_side
from tsugiki.report.run_directory import RunDirectory

NATS = Axis("nats a token", digits=".3f")
NORM = Axis("norm before clipping", log=None, digits=".3g")
RATE = Axis("learning rate", digits=".3g", low=0.0)
MOST_SPIKES, WITH_TEXTS, SAMPLES_SHOWN = 50, 12, 8
"""Spikes described one by one, spikes whose batch is looked up, and samples shown of such a batch."""


def training(runs: Runs) -> Section | None:
    """Curves of the logged steps."""
    attempts = [(run, last_attempt(run.metrics.steps)) for run in runs if run.metrics.steps]
    if not attempts:
        return None
    marked = marks(runs[0]) if len(runs) == 1 else marks_of_several(runs, runs)
    colour = {run.name: place for place, run in enumerate(runs)}
    parts: list[Part] = [*_losses(runs, attempts, colour)]
    if len(attempts) == 1:
        by_source = _by_source(attempts[0][1], colours(attempts[0][0]))
        if len(by_source) > 1:
            parts.append(line_chart("Training loss by source", by_source, STEP, NATS))
    norms = [
        curve(run.name, lines, [line.get("grad_norm") for line in lines], colour[run.name]) for run, lines in attempts
    ]
    rates = [
        curve(run.name, lines, [line.get("learning_rate") for line in lines], colour[run.name])
        for run, lines in attempts
    ]
    parts += [
        line_chart("Gradient norm", norms, STEP, NORM, marks=marked, height=220),
        line_chart("Learning rate", rates, STEP, RATE, height=180),
        paragraph(_what_is_drawn(attempts), "note"),
        *(_spikes(run, len(runs) > 1) for run in runs),
    ]
    return section("Training", *parts)


def _losses(
    runs: Runs, attempts: Sequence[tuple[RunDirectory, list[StepLine]]], colour: Mapping[str, int]
) -> Iterator[Part]:
    """A chart for the runs of each tokenizer: a token of one is not a token of another, and so are their nats."""
    groups: dict[str, list[tuple[RunDirectory, list[StepLine]]]] = {}
    for run, lines in attempts:
        groups.setdefault(run.tokenizer or run.name, []).append((run, lines))
    for group in groups.values():
        losses = [
            curve(run.name, lines, [line.get("loss") for line in lines], colour[run.name]) for run, lines in group
        ]
        if len(runs) == 1:
            losses += _given_up(*group[0])
        named = f" of {', '.join(run.name for run, _ in group)}" if len(groups) > 1 else ""
        marked = marks(runs[0]) if len(runs) == 1 else marks_of_several(runs, [run for run, _ in group])
        yield line_chart(f"Training loss{named}", losses, STEP, NATS, marks=marked)
    if len(groups) > 1:
        yield paragraph(
            "A chart for each tokenizer: where a token holds more text, more nats a token are no worse. What can be "
            "compared is held-out text in bits per byte, above.", "note",
        )  # fmt: skip


def _what_is_drawn(attempts: Sequence[tuple[RunDirectory, list[StepLine]]]) -> str:
    lines = [line for _, steps in attempts for line in steps]
    refused = sum(line.get("applied") is False for line in lines)
    text = (
        "Loss: mean over the tokens since the logged step before. Gradient norm: of the logged step alone. Curves of "
        "more than 600 points go through the smallest and the largest value of 600 stretches, so that no spike is lost."
    )
    return text + (f" Steps that changed nothing (not finite, or skipped): {refused:,}." if refused else "")


def _given_up(run: RunDirectory, kept: Sequence[StepLine]) -> list[Line]:
    """What was logged of steps that were taken again later."""
    later = {id(line) for line in kept}
    lines = [line for line in run.metrics.steps if id(line) not in later]
    return [curve("given up", lines, [line.get("loss") for line in lines], colour=6)] if lines else []


def _by_source(lines: Sequence[StepLine], colour: dict[str, int]) -> list[Line]:
    names = dict.fromkeys(name for line in lines for name in line.get("loss_by_source", {}))
    found = []
    for name in names:
        mine = [line for line in lines if name in line.get("loss_by_source", {})]
        found.append(curve(name, mine, [line.get("loss_by_source", {})[name] for line in mine], colour.get(name)))
    return found


def _spikes(run: RunDirectory, named: bool) -> Part:
    """Each spike with what was done about it and the text that was in its batch."""
    spikes = run.metrics.spikes
    if not spikes:
        return None
    rows = [_spike(run, spike, with_texts=place < WITH_TEXTS) for place, spike in enumerate(spikes[:MOST_SPIKES])]
    left = len(spikes) - MOST_SPIKES
    note = "The text of any sample: tsugiki sample RECIPE NUMBER." + (
        f" {left:,} more spikes are in metrics.jsonl." if left > 0 else ""
    )
    columns: list[Column | str] = [
        Column("step"),
        Column("loss"),
        Column("gradient norm"),
        "what was done",
        "in the batch",
    ]
    title = f"Spikes of {run.name}" if named else "Spikes"
    return join(heading(title), table(columns, rows, names=False), paragraph(note, "note"))


def _spike(run: RunDirectory, spike: SpikeLine, *, with_texts: bool) -> list[Part]:
    first, end = [*spike.get("samples", []), 0, 0][:2]
    texts: list[Part] = []
    for each in batch_texts(run, range(first, end)[:SAMPLES_SHOWN]) if with_texts else []:
        summary = element("summary", f"sample {each['sample']:,}, {each['source']}")
        texts.append(element("details", summary, element("blockquote", each["text"], class_="sample")))
    batch = f"samples {first:,} to {end - 1:,}" if end > first else ""
    done = [spike.get("action", ""), spike.get("reason", "")]
    if "to" in spike:
        done.append(f"to step {spike['to']:,}")
    if len(skipped := spike.get("skip", [])) == 2:
        done.append(f"stepping over samples {skipped[0]:,} to {skipped[1] - 1:,}")
    return [
        f"{spike['step']:,}", _with_limit(spike.get("loss"), spike.get("loss_limit"), NATS),
        _with_limit(spike.get("grad_norm"), spike.get("norm_limit"), NORM), ", ".join(part for part in done if part),
        join(batch, *texts),
    ]  # fmt: skip


def _with_limit(value: float | None, limit: float | None, axis: Axis) -> Markup:
    """A figure, and what it should not have exceeded where it did."""
    exceeded = limit is not None and limit < 1e300 and (value is None or value > limit)
    return join(
        axis.write(value), element("span", f" (limit {axis.write(limit)})", class_="range") if exceeded else None
    )


def speed_and_memory(runs: Runs) -> Section | None:
    """Throughput, MFU with its formula and peak, memory, waiting, time and energy."""
    if not any(run.metrics.steps for run in runs):
        return None
    found = {run.name: speed(run) for run in runs}

    rows: list[tuple[str, Callable[[RunDirectory], Part]]] = [
        ("tokens trained on", lambda run: quantity(found[run.name].tokens)),
        ("of them a second (median)", lambda run: _rate(found[run.name].tokens_per_second)),
        ("time in steps", lambda run: duration(found[run.name].seconds)),
        ("from start to end", _wall_clock),
        ("model TFLOP/s (median)", lambda run: _written(found[run.name].tflops, ".3g")),
        ("MFU (median)", lambda run: _mfu(run, found[run.name].mfu)),
        ("most memory, rank 0", lambda run: _written(found[run.name].memory_gb, ".2f", " GB")),
        ("waiting for data", lambda run: _written(found[run.name].data_wait, ".2%")),
        ("energy", _energy),
    ]
    parts: list[Part] = [side_by_side(runs, rows)]
    logged = [(run.name, last_attempt(run.metrics.steps)) for run in runs if run.metrics.steps]
    rates = [curve(name, lines, [line.get("tokens_per_second") for line in lines]) for name, lines in logged]
    memory = [curve(name, lines, [line.get("memory_gb") for line in lines]) for name, lines in logged]
    parts.append(
        line_chart(
            "Tokens a second", rates, STEP, Axis("tokens trained on a second", digits=",.0f", low=0.0), height=180
        )
    )
    parts.append(line_chart("Memory of rank 0", memory, STEP, Axis("GB", digits=".2f", low=0.0), height=180))
    parts.append(paragraph(_formula(runs), "note"))
    return section("Speed and memory", *parts)


def _written(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else format(value, form) + unit


def _rate(value: float | None) -> str:
    return "" if value is None else quantity(value)


def _mfu(run: RunDirectory, value: float | None) -> str:
    if value is not None:
        return f"{value:.1%}"
    return "no peak known for this device" if run.starts else ""


def _energy(run: RunDirectory) -> str:
    """All attempts of the run together; of the GPU of rank 0 times their number, or of rank 0's processors."""
    joules = [each for line in run.metrics.steps if (each := line.get("joules")) is not None]
    if not joules:
        return "cannot be read here" if run.starts else ""
    start = run.starts[-1] if run.starts else None
    devices = start.get("devices", 1) if start else 1
    of = "processors" if start is None or start["device"] == "CPU" else f"rank 0's GPU × {devices}"
    return f"{sum(joules) * devices / 3.6e6:.3g} kWh ({of})"


def _wall_clock(run: RunDirectory) -> str:
    """From the first start to the last word of the run, pauses included."""
    if not run.starts or run.state is None:
        return ""
    try:
        begun, ended = (datetime.fromisoformat(text) for text in (run.starts[0]["time"], run.state["time"]))
    except ValueError:
        return ""
    starts = f", {len(run.starts)} starts" if len(run.starts) > 1 else ""
    return duration((ended - begun).total_seconds()) + starts


def _formula(runs: Runs) -> str:
    text = (
        "MFU is model FLOPs utilisation: tokens a second and device (all that windows hold, trained on or not) · FLOPs "
        "a token / peak of the device in dense bf16, with FLOPs a token = 6 · N + 12 · L · d · s (N parameters that "
        "multiply a token, L layers, d = heads · head size, s sequence length; recomputed activations do not count)."
    )
    for run in runs:
        start = run.starts[-1] if run.starts else None
        if start and start.get("flops_per_token"):
            peak = start.get("peak_tflops")
            told = f"peak {peak:,.0f} TFLOP/s" if peak else "no peak known for this device"
            text += f" {run.name}: {quantity(start.get('flops_per_token') or 0.0)} FLOPs a token, {told}."
    return text + " Rates leave out measuring and saving."
