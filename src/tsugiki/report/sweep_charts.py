"""The charts of a sweep: gain against loss of what is to be kept, and every metric against the learning rate."""

from collections.abc import Iterable, Iterator

from tsugiki.experiment_results import JudgedTrial, Verdict
from tsugiki.pages.axes import Axis
from tsugiki.pages.canvas import shortened
from tsugiki.pages.dot_chart import Dot, dot_chart
from tsugiki.pages.markup import Markup, Part, element
from tsugiki.pages.scatter import Better, Level, Limits, Point, scatter
from tsugiki.report.experiment_folder import written
from tsugiki.report.sweep_facts import (
    WITH_THE_RATE,
    SweepFolder,
    end_losses,
)
from tsugiki.sweep_results import SweepMetric, SweepResult

BARS = "Bars: 95 % intervals of the difference to the base on the same items."
GROUPS = ("chosen by the judge", "lowest training loss", "other trials", "not considered")
LONGEST = 190
"""Pixels of a metric's name beside an axis."""


def gain_against_loss(result: SweepResult) -> Iterator[Markup]:
    """For each metric to be kept: what was gained in the first gain metric against what was lost in that one."""
    judgement = result.judgement
    if judgement is None:
        return
    by_name = {metric.name: metric for metric in result.metrics}
    finished = [trial for trial in judgement.trials if trial.gain]
    if not finished:
        return
    gain = by_name[judgement.gain[0].name]
    if not judgement.keep:
        dots = [
            Dot(trial.name, trial.gain[0].difference.value, trial.gain[0].difference.limits(), _better(gain))
            for trial in finished
        ]  # fmt: skip
        axis = Axis(f"{shortened(gain.name, LONGEST)}, difference to the base", digits="+.4f")
        yield dot_chart(f"{gain.name}: difference to the base", dots, axis, note=BARS if _barred(finished) else "")
        return
    for place, kept in enumerate(judgement.keep):
        metric = by_name[kept.name]
        points = [
            Point(
                _label(trial, result), trial.keep[place].fall, -trial.gain[0].fall,
                _worse(trial.keep[place], metric), _gained(trial.gain[0], gain), _group(trial, result),
                strong=trial.name == result.chosen,
            )
            for trial in finished
        ]  # fmt: skip
        note = "Up is gained, right is lost, each against the base; dashes join the trials that no other one betters in both."  # noqa: E501
        allowed = [Level(metric.tolerance, "allowed", "x", limit=True)] if metric.tolerance is not None else []
        yield scatter(
            f"{gain.name} gained against {metric.name} lost", _ordered(points),
            Axis(f"lost in {shortened(metric.name, LONGEST)}", digits="+.4f"),
            Axis(f"gained in {shortened(gain.name, LONGEST)}", digits="+.4f"),
            front=("lower", "higher"), zero=True, levels=allowed,
            note=f"{note} {BARS}" if _barred(finished) else note,
        )  # fmt: skip


def against_the_rate(sweep: SweepFolder) -> Part:
    """Small charts side by side: the training loss, then each metric; None where trials do not differ in their rate."""
    result, judgement = sweep.result, sweep.result.judgement
    rates = {trial.name: rate for trial in result.trials if (rate := sweep.rate(trial)) is not None}
    if judgement is None or len(set(rates.values())) < 2:
        return None
    drawn = [trial for trial in judgement.trials if trial.name in rates and trial.gain]
    lines = _lines(result, rates)
    axis = Axis("learning rate", log=True, digits="g")
    named = {trial.name: trial for trial in drawn}
    charts = []
    losses = {name: loss for name, loss in end_losses(result).items() if name in named}
    if losses:
        points = {
            name: _point(named[name], rates[name], value, reach, result) for name, (value, reach) in losses.items()
        }  # fmt: skip
        note = "Bars: from the lowest to the highest seed." if any(reach for _, reach in losses.values()) else ""
        charts.append(scatter(
            "Training loss at the end (less is better)", _ordered(points.values()), axis,
            Axis("training loss", digits=".4f"), joined=_through(points, lines), note=note,
        ))  # fmt: skip
    for place, metric in enumerate(result.metrics if drawn else ()):
        verdicts = {name: (*trial.gain, *trial.keep)[place] for name, trial in named.items()}
        points = {
            name: _point(named[name], rates[name], verdict.value, _around(verdict), result)
            for name, verdict in verdicts.items()
        }  # fmt: skip
        better = "more" if metric.higher_is_better else "less"
        charts.append(scatter(
            f"{metric.name} ({better} is better)", _ordered(points.values()), axis,
            Axis(shortened(metric.name, LONGEST), digits=".4f"), joined=_through(points, lines),
            levels=_levels(metric, judgement.base[metric.name]),
        ))  # fmt: skip
    return element("div", *charts, class_="multiples") if charts else None


def _lines(result: SweepResult, rates: dict[str, float]) -> list[list[str]]:
    """Trials that differ in their rate alone, each row from the lowest rate to the highest."""
    rows: dict[str, list[str]] = {}
    for trial in result.trials:
        if trial.name in rates:
            others = {key: value for key, value in trial.changes.items() if key not in WITH_THE_RATE}
            rows.setdefault(written(others), []).append(trial.name)
    return [sorted(row, key=lambda name: rates[name]) for row in rows.values()]


def _through(points: dict[str, Point], lines: list[list[str]]) -> list[list[Point]]:
    return [[points[name] for name in line if name in points] for line in lines]


def _levels(metric: SweepMetric, base: float) -> list[Level]:
    levels = [Level(base, "base")]
    if metric.tolerance:
        levels.append(
            Level(base + (-metric.tolerance if metric.higher_is_better else metric.tolerance), "allowed", limit=True)
        )
    return levels


def _point(trial: JudgedTrial, rate: float, value: float, reach: Limits | None, result: SweepResult) -> Point:
    strong = trial.name == result.chosen
    return Point(trial.name, rate, value, None, reach, _group(trial, result), strong=strong)


def _around(verdict: Verdict) -> Limits | None:
    """The interval of the difference to the base, moved to the value."""
    reach = verdict.difference.limits()
    base = verdict.value - verdict.difference.value
    return None if reach is None else (base + reach[0], base + reach[1])


def _worse(verdict: Verdict, metric: SweepMetric) -> Limits | None:
    """The interval of a fall."""
    reach = verdict.difference.limits()
    return (-reach[1], -reach[0]) if reach is not None and metric.higher_is_better else reach


def _gained(verdict: Verdict, metric: SweepMetric) -> Limits | None:
    reach = verdict.difference.limits()
    return reach if reach is None or metric.higher_is_better else (-reach[1], -reach[0])


def _better(metric: SweepMetric) -> Better:
    return "higher" if metric.higher_is_better else "lower"


def _barred(trials: list[JudgedTrial]) -> bool:
    return any(verdict.difference.limits() for trial in trials for verdict in (*trial.gain, *trial.keep))


def _label(trial: JudgedTrial, result: SweepResult) -> str:
    said = [note for note in result.notes_on(trial) if note in ("recommended", "nearest", "lowest loss")]
    return f"{shortened(trial.name, 150)} ({', '.join(said)})" if said else shortened(trial.name, 240)


def _group(trial: JudgedTrial, result: SweepResult) -> str:
    if trial.name == result.chosen:
        return GROUPS[0]
    if trial.name in result.chosen_by_loss:
        return GROUPS[1]
    return GROUPS[3] if trial.excluded else GROUPS[2]


def _ordered(points: Iterable[Point]) -> list[Point]:
    """By group, so that colours mean the same in every chart."""
    return sorted(points, key=lambda point: GROUPS.index(point.group))
