"""One value a row with its interval, such as a task's difference to the base: gain, loss or noise at a glance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsugiki.pages.axes import Axis, Scale, with_minus
from tsugiki.pages.canvas import Canvas, line, marker, shortened, text_width, words
from tsugiki.pages.figure import Margins, Series, Stops, figure, key_of
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.scatter import Better, Limits, written
from tsugiki.pages.table import Column, table

ROW = 24
Verdict = Literal["gain", "loss", "noise"]
UNKNOWN = "no interval known"
GAIN, LOSS, NOISE, PLAIN = 0, 1, 6, 2
"""Places in the palette: blue, orange, grey; and green where nothing is better or worse."""


@dataclass(frozen=True)
class Dot:
    """A row; `better` says which way is a gain, and so colours it."""

    name: str
    value: float | None
    limits: Limits | None = None
    better: Better | None = None
    group: str = ""
    """Rows of a group stand under its heading."""
    points: Sequence[float] = ()
    """What the value is the mean of, such as one of each seed: drawn small."""


def verdict(value: float, limits: Limits | None, better: Better) -> Verdict:
    """What a difference to zero is: noise where zero lies inside its interval, or where no interval is known."""
    if limits is None or limits[0] <= 0 <= limits[1]:
        return "noise"
    return "gain" if (value > 0) == (better == "higher") else "loss"


def dot_chart(title: str, dots: Sequence[Dot], axis: Axis, *, zero: bool = True, note: str = "") -> Markup:
    """A chart with a row a dot, in the order given. `zero` draws the line at 0 and keeps it in sight."""
    reach = [each for dot in dots if dot.value is not None for each in (dot.value, *(dot.limits or ()), *dot.points)]
    scale = Scale.of(axis, reach, margin=0.06, zero=zero)
    heights, groups, place = [], [], 0.0  # pixels from the top of the plotting area
    for number, dot in enumerate(dots):
        if dot.group and (number == 0 or dots[number - 1].group != dot.group):
            groups.append((place + ROW * 0.7, dot.group))
            place += ROW
        heights.append(place + ROW / 2)
        place += ROW
    total = max(place, ROW)
    names = [text_width(dot.name) + 30 for dot in dots] + [1.1 * text_width(dot.group) + 14 for dot in dots]
    room = max(names, default=0.0)
    margins = Margins(total + 52, top=8, bottom=44, right=24, left=min(room, 270), narrow={"left": min(room, 140)})

    def draw(canvas: Canvas) -> Markup:
        parts = []
        for value, text in scale.ticks(4 if canvas.narrow else 8):
            across = canvas.x(scale.place(value))
            parts.append(line(across, canvas.y(0), across, canvas.y(1), "axis" if value == 0 and zero else "grid"))
            parts.append(words(across, canvas.y(0) + 16, with_minus(text), "middle"))
        parts.append(words(canvas.x(1), canvas.height - 6, axis.label, "end", "name"))
        parts += [
            words(4, canvas.top + height, shortened(group, (canvas.width - 8) / 1.1), "start", "strong")
            for height, group in groups
        ]
        for dot, height in zip(dots, heights, strict=True):
            parts.append(_row(canvas, dot, canvas.top + height, scale))
        return join(*parts)

    stops = Stops(
        [scale.place(dot.value or 0.0) for dot in dots], [_title(dot) for dot in dots],
        [Series("", 0, [1 - height / total for height in heights], [
            written(dot.value, dot.limits, axis) + (f" ({said})" if said else "")
            for dot in dots for said in [_verdict(dot) or _points(dot, axis)]
        ])], nearest="xy",
    )  # fmt: skip
    judged = any(dot.better for dot in dots)
    several = any(dot.points for dot in dots)
    rows = [
        [_title(dot), written(dot.value, dot.limits, axis),
         *([_verdict(dot)] if judged else []), *([_points(dot, axis)] if several else [])]
        for dot in dots
    ]  # fmt: skip
    columns: list[Column | str] = ["", Column(axis.label), *(["verdict"] if judged else [])]
    values = table([*columns, *([Column("mean of")] if several else [])], rows, caption=title)
    found = {_verdict(dot) for dot in dots}
    kinds = [("gain", GAIN), ("loss", LOSS), ("noise", NOISE), (UNKNOWN, NOISE)]
    key = key_of([(name, place) for name, place in kinds if name in found], narrow_only=False)
    return figure(title, margins, draw, stops, values, key=key, note=note)


def _verdict(dot: Dot) -> str:
    if dot.better is None or dot.value is None:
        return ""
    return UNKNOWN if dot.limits is None else verdict(dot.value, dot.limits, dot.better)


def _title(dot: Dot) -> str:
    """Its name where it stands alone."""
    return f"{dot.group}, {dot.name}" if dot.group else dot.name


def _points(dot: Dot, axis: Axis) -> str:
    return ", ".join(axis.write(point) for point in dot.points)


def _row(canvas: Canvas, dot: Dot, height: float, scale: Scale) -> Markup:
    indent = 16 if dot.group else 4
    parts = [
        words(indent, height + 4, shortened(dot.name, canvas.left - indent - 8), "start"),
        line(canvas.x(0), height, canvas.x(1), height, "row"),
    ]
    if dot.value is None:
        return join(*parts, words(canvas.x(0) + 4, height + 4, "not measured", "start", "name"))
    kind = {"gain": GAIN, "loss": LOSS}.get(_verdict(dot), NOISE) if dot.better else PLAIN
    if dot.limits:
        low, high = (canvas.x(scale.place(limit)) for limit in dot.limits)
        parts.append(line(low, height, high, height, f"reach s{kind}"))
    for point in dot.points:
        parts.append(element("circle", cx=canvas.x(scale.place(point)), cy=height, r=3, class_="part"))
    across = canvas.x(scale.place(dot.value))
    if dot.better and kind == NOISE:  # hollow: seen without colour, too
        return join(*parts, element("circle", cx=across, cy=height, r=4.5, class_="hollow"))
    return join(*parts, marker({GAIN: 0, LOSS: 1, PLAIN: 2}[kind], across, height, 5))
