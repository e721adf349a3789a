"""The sections on what was gained and lost: scores against the base, held-out text and probes over steps."""

from collections.abc import Callable, Iterator

from tsugiki.pages.axes import Axis
from tsugiki.pages.document import Section, section
from tsugiki.pages.dot_chart import Dot, dot_chart, verdict
from tsugiki.pages.line_chart import Line, line_chart
from tsugiki.pages.markup import Markup, Part, element, join
from tsugiki.pages.table import Column, table
from tsugiki.report.measures import BITS, Limits, Measure, ends, gains, untrained_base
from tsugiki.report.parts import BITS_AXIS, STEP, Runs, colours, heading, paragraph, signed
from tsugiki.report.run_directory import RunDirectory

DIFFERENCE = {
    True: Axis("difference in bits per byte (below 0 is better)", digits="+.3f"),
    False: Axis("difference in score (above 0 is better)", digits="+.3f"),
}

GROUPS: dict[str, Callable[[Measure], bool]] = {
    "Held-out text, bits per byte": lambda one: one.is_text,
    "Tasks": lambda one: one.metric != BITS,
    "True continuations of the tasks, bits per byte": lambda one: one.metric == BITS and not one.is_text,
}
"""By title: what has different units, or is of other things, stands apart."""
HELD_OUT = "Held-out documents, which no model of this run was trained on; each is scored alone."


def gained_and_lost(runs: Runs) -> Section | None:
    """Base against final: table and chart of each group."""
    measured = {run.name: gains(run) for run in runs}
    parts: list[Part] = []
    for title, belongs in GROUPS.items():
        chosen = {name: [one for one in found if belongs(one)] for name, found in measured.items()}
        if not any(chosen.values()):
            continue
        bits = any(one.metric == BITS for found in chosen.values() for one in found)
        parts += [heading(title), _table(chosen), _chart(f"{title}: difference to the base", chosen, bits)]
        if any(one.from_validation for found in chosen.values() for one in found):
            parts.append(paragraph(HELD_OUT, "note"))
        for name, found in chosen.items():
            if which := untrained_base(found):
                parts.append(paragraph(f"{name}: {which}" if len(runs) > 1 else which, "note"))
    parts += [_where_answers_end(run, len(runs) > 1) for run in runs]
    if not any(parts):
        return section("Gained and lost", paragraph(_nothing(runs), "soft"))
    parts += [_published(run, len(runs) > 1) for run in runs]
    parts += [_notes(run, len(runs) > 1) for run in runs]
    return section("Gained and lost", *parts)


def _where_answers_end(run: RunDirectory, named: bool) -> Part:
    """Of chat sources, the probability of the end token in held-out answers, before and after."""
    before, after = ends(run)
    if before is None or after is None:
        return None
    rows: list[list[Part]] = []
    for name, scored in after["sources"].items():
        probabilities = [
            line["sources"].get(name, scored).get(key)
            for key in ("end_probability", "false_end_probability") for line in (before, after)
        ]  # fmt: skip
        if any(each is not None for each in probabilities):
            rows.append([name, *("–" if each is None else f"{each:.2%}" for each in probabilities)])
    if not rows:
        return None
    columns: list[Column | str] = [
        "", Column("at the end, base"), Column("final"), Column("within, base"), Column("final")
    ]  # fmt: skip
    return join(
        heading(f"Where answers of {run.name} end" if named else "Where answers end"),
        table(columns, rows, caption="Mean probability of the end token, in held-out conversations"),
        paragraph("At the end of an answer it should be near 1, within it near 0.", "note"),
    )


def _nothing(runs: Runs) -> str:
    """Why there is nothing to compare."""
    if all(run.recipe.training.eval_steps is None and run.recipe.evaluation is None for run in runs):
        return "Nothing to compare: give the recipe a section evaluation, or training.eval_steps."
    return "Nothing to compare yet: no score of the base and of a trained model has been measured."


def _table(chosen: dict[str, list[Measure]]) -> Markup:
    columns: list[Column | str]
    if len(chosen) == 1:
        (measures,) = chosen.values()
        columns = ["", "verdict", Column("difference"), Column("base"), Column("final"), Column("items"), "language"]
        rows = [
            [_name(one), _verdict(one), _difference(one), _score(one.before, one.before_limits),
             _score(one.after, one.after_limits), f"{one.items:,}" if one.items else "", one.language]
            for one in measures
        ]  # fmt: skip
        return table(columns, rows)
    keys: dict[str, Measure] = {}
    for measures in chosen.values():
        for one in measures:
            keys.setdefault(one.key, one)
    columns = ["", "language", *(Column(name) for name in chosen)]
    rows = []
    for key, first in keys.items():
        cells: list[Part] = []
        for measures in chosen.values():
            mine = next((one for one in measures if one.key == key), None)
            cells.append(None if mine is None else join(
                _score(mine.after, mine.after_limits), element("br"), _difference(mine, element("br"))
            ))  # fmt: skip
        rows.append([_name(first), first.language, *cells])
    return table(columns, rows, caption="Final score, and below it the difference to the run's own base")


def _name(one: Measure) -> Part:
    return element("b", one.name) if one.average else one.name


def _score(value: float | None, limits: Limits | None) -> Markup:
    if value is None:
        return join("–")
    return join(
        f"{value:.3f}", element("span", f" ±{(limits[1] - limits[0]) / 2:.3f}", class_="range") if limits else None
    )


def _difference(one: Measure, before_range: Part = " ") -> Markup:
    if one.difference is None:
        return join("–")
    found = verdict(one.difference, one.difference_limits, one.better)
    limits = one.difference_limits
    difference = element("span", signed(one.difference), class_=found if found != "noise" else None)
    if limits is None:
        return difference
    reach = element("span", f"[{signed(limits[0])}, {signed(limits[1])}]", class_="range")
    return join(difference, before_range, reach)


def _verdict(one: Measure) -> Part:
    if one.difference is None:
        return ""
    if one.difference_limits is None:
        return element("span", "no interval known", class_="range whole")
    found = verdict(one.difference, one.difference_limits, one.better)
    return element("span", {"gain": "● gain", "loss": "● loss", "noise": "○ noise"}[found],
                   class_=f"{found if found != 'noise' else 'range'} whole")  # fmt: skip


def _chart(title: str, chosen: dict[str, list[Measure]], bits: bool) -> Markup | None:
    several = len(chosen) > 1
    dots = []
    keys = dict.fromkeys((one.key, one.name, one.language) for found in chosen.values() for one in found)
    for key, name, language in keys:
        for run, found in chosen.items():
            one = next((each for each in found if each.key == key), None)
            if one is not None and one.difference is not None:
                group = f"{name} ({language})" if several else language
                dots.append(Dot(run if several else name, one.difference, one.difference_limits, one.better, group))
    if not several:
        languages = list(dict.fromkeys(dot.group for dot in dots))
        dots.sort(key=lambda dot: languages.index(dot.group))
    note = "Bars: 95 % intervals of the difference on the same items." if any(dot.limits for dot in dots) else ""
    return dot_chart(title, dots, DIFFERENCE[bits], note=note) if dots else None


def _published(run: RunDirectory, named: bool) -> Part:
    """All rows of the run's own table of scores, where it has more than base and final."""
    if run.scores is None or len(run.scores["rows"]) <= 2:
        return None
    parts: list[Part] = [heading(f"All models in the evaluation of {run.name}" if named else "All models")]
    for block in run.scores["languages"]:
        rows: list[list[Part]] = []
        for row in run.scores["rows"]:
            cells = [row["averages"].get(block["language"]), *(row["tasks"].get(task) for task in block["tasks"])]
            if row["published"] and not any(cell and cell["score"] is not None for cell in cells):
                continue
            name = row["name"] + (" (published)" if row["published"] else "")
            intervals = [cell.get("interval") if cell else None for cell in cells]
            rows.append([name, *(
                _score(cell["score"] if cell else None, (limits[0], limits[1]) if limits else None)
                for cell, limits in zip(cells, intervals, strict=True)
            )])  # fmt: skip
        columns: list[Column | str] = [
            "model",
            Column("average"),
            *(Column(title) for title in block["tasks"].values()),
        ]
        parts.append(table(columns, rows, caption=block["language"]))
    return join(*parts)


def _notes(run: RunDirectory, named: bool) -> Part:
    if run.scores is None:
        return None
    title = f"How the scores of {run.name} were made" if named else "How the scores were made"
    lines = [element("li", note) for note in (f"Suite {run.scores['suite']}.", *run.scores["notes"])]
    return element("details", element("summary", title), element("ul", *lines, class_="soft"))


def over_steps(runs: Runs) -> Section | None:
    """Held-out text by source, the change since the first validation, and probes."""
    parts = [*_held_out(runs), *_probes(runs)]
    return section("Gained and forgotten over steps", *parts) if parts else None


def _held_out(runs: Runs) -> Iterator[Part]:
    if len(runs) == 1:
        lines = _by_source(runs[0])
        if lines:
            yield line_chart("Held-out text by source (lower is better)", lines, STEP, BITS_AXIS)
            changes = [since_start(line) for line in lines]
            if len(changes[0].x) > 1:
                axis = Axis("change in bits per byte", digits="+.3f")
                note = "Above 0 the model has forgotten: it reads this text worse than before step 1."
                yield line_chart("Change since the start", changes, STEP, axis, zero=True, note=note)
        return
    for source in dict.fromkeys(line.name for run in runs for line in _by_source(run)):
        lines = []
        for place, run in enumerate(runs):
            found = next((line for line in _by_source(run) if line.name == source), None)
            if found is not None:
                lines.append(Line(run.name, found.x, found.y, points=True, colour=place))
        yield line_chart(f"Held-out text: {source} (lower is better)", lines, STEP, BITS_AXIS)


def _by_source(run: RunDirectory) -> list[Line]:
    found = {
        line["step"]: {name: scored["bits_per_byte"] for name, scored in line["sources"].items()}
        for line in run.metrics.validations
    }
    return _lines(found, colours(run))


def _lines(values: dict[int, dict[str, float | None]], colour: dict[str, int]) -> list[Line]:
    """Curves by name, from values by step and name; of a step that was measured again the later ones."""
    names = dict.fromkeys(name for found in values.values() for name in found)
    steps = {name: [step for step in sorted(values) if name in values[step]] for name in names}
    return [
        Line(name, steps[name], [values[step][name] for step in steps[name]], points=True, colour=colour.get(name))
        for name in names
    ]


def since_start(line: Line) -> Line:
    """A curve as its difference to its first value."""
    first = next((value for value in line.y if value is not None), None)
    changes = [None if value is None or first is None else value - first for value in line.y]
    return Line(line.name, line.x, changes, points=line.points, colour=line.colour)


def _probes(runs: Runs) -> Iterator[Part]:
    """Accuracy of the questions that were asked in the middle of training."""
    axis = Axis("share of right answers", digits=".1%", low=0.0)
    if len(runs) == 1:
        lines = _answers(runs[0])
        if lines:
            yield line_chart("Questions in the middle of training", lines, STEP, axis, height=320)
        return
    for probe in dict.fromkeys(line.name for run in runs for line in _answers(run)):
        lines = [
            Line(run.name, line.x, line.y, points=True, colour=place)
            for place, run in enumerate(runs) for line in _answers(run) if line.name == probe
        ]  # fmt: skip
        yield line_chart(f"Questions in the middle of training: {probe}", lines, STEP, axis)


def _answers(run: RunDirectory) -> list[Line]:
    found = {
        line["step"]: {name: answered["accuracy"] for name, answered in line["probes"].items()}
        for line in run.metrics.evaluations
    }
    return _lines(found, {})
