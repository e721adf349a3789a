"""Curves over steps: named at their ends, spikes and checkpoints marked, thinned to what a screen can show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsugiki.pages.axes import Axis, Scale
from tsugiki.pages.buckets import Bucket, Values, thin
from tsugiki.pages.canvas import COLOURS, Canvas, frame, line, marker, shortened, spread, text_width, words
from tsugiki.pages.figure import Margins, Series, Stops, figure, key_of
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.table import Column, table

Kind = Literal["spike", "checkpoint", "note"]
MARKS = {"spike": "▼ spike", "checkpoint": "▲ checkpoint", "note": "│ note"}
LONGEST_LABEL = 190.0
"""Pixels that names beside the lines may take."""


@dataclass(frozen=True)
class Line:
    """A curve; a y of None (not finite, not measured) is a gap."""

    name: str
    x: Sequence[float]
    y: Values
    points: bool = False
    """Whether its points are marked: for few of them."""
    colour: int | None = None
    """Place in the palette; None: that of the line."""


@dataclass(frozen=True)
class Mark:
    """Something that happened at an x."""

    x: float
    label: str
    kind: Kind = "note"
    colour: int | None = None
    """Place in the palette of the curve that it belongs to, where there are several."""


def line_chart(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, marks: Sequence[Mark] = (), note: str = "",
    height: int = 260, zero: bool = False,
) -> Markup:  # fmt: skip
    """A chart of curves that share both axes. `zero` draws the line y = 0, whatever the values."""
    colours = [(each.colour if each.colour is not None else place) % COLOURS for place, each in enumerate(lines)]
    curves = thin([(each.x, each.y) for each in lines])
    ends = [place for each in lines if len(each.x) for place in (min(each.x), max(each.x))] + [mark.x for mark in marks]
    x_scale = Scale.of(x, ends, margin=0.0)
    y_scale = Scale.of(y, (v for curve in curves for b in curve if b for v in (b.low, b.high)), zero=zero)
    room = min(max((text_width(each.name) for each in lines), default=0.0), LONGEST_LABEL) if len(lines) > 1 else 0.0

    def draw(canvas: Canvas) -> Markup:
        parts = [frame(canvas, x, x_scale, y, y_scale)]
        if y_scale.low < 0 < y_scale.high:
            parts.append(line(canvas.x(0), canvas.y(y_scale.place(0)), canvas.x(1), canvas.y(y_scale.place(0)), "axis"))
        parts += [_mark(canvas, mark, x_scale) for mark in marks]
        for each, colour, curve in zip(lines, colours, curves, strict=True):
            parts.append(_curve(canvas, curve, x_scale, y_scale, colour))
            if each.points:
                parts += [
                    marker(colour, canvas.x(x_scale.place(b.middle)), canvas.y(y_scale.place(b.high)))
                    for b in curve if b is not None and b.high is not None
                ]  # fmt: skip
        if room and not canvas.narrow:
            parts.append(_names(canvas, lines, colours, curves, x_scale, y_scale))
        return join(*parts)

    shown = dict.fromkeys(mark.kind for mark in marks)
    notes = [*([note] if note else []), *(["   ".join(MARKS[kind] for kind in shown)] if shown else [])]
    key = key_of([(each.name, c) for each, c in zip(lines, colours, strict=True)], narrow_only=True) if room else None
    return figure(
        title, Margins(height, right=room + 34 if room else 20), draw,
        _stops(lines, colours, curves, x, x_scale, y, y_scale), _values(lines, curves, marks, x, y),
        key=key, note="   ".join(notes),
    )  # fmt: skip


def _curve(canvas: Canvas, curve: Sequence[Bucket | None], x: Scale, y: Scale, colour: int) -> Markup:
    """A line through the smallest and largest value of each bucket, in the order in which they came; broken where a
    value is no number, not where a curve has no point (a source may miss an interval)."""
    path, broken = [], True
    for bucket in curve:
        if bucket is None:
            continue
        if bucket.low is None or bucket.high is None:
            broken = True
            continue
        place = canvas.x(x.place(bucket.middle))
        heights = [bucket.low, bucket.high] if bucket.low_first else [bucket.high, bucket.low]
        for value in dict.fromkeys(heights):
            path.append(f"{'M' if broken else 'L'}{place:.1f} {canvas.y(y.place(value)):.1f}")
            broken = False
        broken = bucket.gap
    return element("path", d="".join(path), class_=f"line s{colour}")


def _mark(canvas: Canvas, mark: Mark, x: Scale) -> Markup:
    place = canvas.x(x.place(mark.x))
    if mark.kind == "checkpoint":
        base = canvas.y(0)
        points = f"{place:.1f},{base - 7:.1f} {place - 4:.1f},{base:.1f} {place + 4:.1f},{base:.1f}"
        return element("polygon", element("title", mark.label), points=points, class_="checkpoint")
    top, kind = canvas.y(1), mark.kind if mark.colour is None else f"{mark.kind} s{mark.colour % COLOURS}"
    parts = [line(place, top, place, canvas.y(0), kind)]
    if mark.kind == "spike":
        points = f"{place:.1f},{top + 8:.1f} {place - 5:.1f},{top:.1f} {place + 5:.1f},{top:.1f}"
        parts.append(element("polygon", element("title", mark.label), points=points, class_=kind))
    else:
        parts.append(words(place + 4, top + 10, shortened(mark.label, 140), "start", "name"))
    return join(*parts)


def _names(
    canvas: Canvas,
    lines: Sequence[Line],
    colours: Sequence[int],
    curves: Sequence[Sequence[Bucket | None]],
    x: Scale,
    y: Scale,
) -> Markup:
    """The name of each curve beside its end."""
    ends = []
    for each, colour, curve in zip(lines, colours, curves, strict=True):
        last = next((b for b in reversed(curve) if b is not None and b.high is not None and b.low is not None), None)
        if last is not None:
            assert last.low is not None
            assert last.high is not None
            value = last.high if last.low_first else last.low
            end = canvas.x(x.place(last.middle))
            ends.append((canvas.y(min(max(y.place(value), 0.0), 1.0)), each.name, colour, end))
    parts = []
    for place, (own, name, colour, end) in zip(
        spread([end[0] for end in ends], 15, canvas.y(1) + 4, canvas.y(0) - 4), ends, strict=True
    ):
        if end < canvas.x(1) - 4:  # a curve that ends early
            parts.append(line(end + 6, own, canvas.x(1), own, f"leader s{colour}"))
        parts.append(element("path", d=f"M{canvas.x(1) + 2:.1f} {own:.1f}L{canvas.x(1) + 12:.1f} {place:.1f}"
                             f"L{canvas.x(1) + 18:.1f} {place:.1f}", class_=f"line s{colour}"))  # fmt: skip
        parts.append(words(canvas.x(1) + 22, place + 4, shortened(name, LONGEST_LABEL), "start"))
    return join(*parts)


def _stops(
    lines: Sequence[Line], colours: Sequence[int], curves: Sequence[Sequence[Bucket | None]], x: Axis, x_scale: Scale,
    y: Axis, y_scale: Scale,
) -> Stops:  # fmt: skip
    filled = [next(b for b in row if b is not None) for row in zip(*curves, strict=True)]
    series = [
        Series(
            each.name, colour,
            [None if b is None or b.high is None else y_scale.place(b.high) for b in curve],
            [_value(b, y) if b else "" for b in curve],
        )
        for each, colour, curve in zip(lines, colours, curves, strict=True)
    ]  # fmt: skip
    return Stops([x_scale.place(b.middle) for b in filled], [f"{x.label} {_span(b, x)}" for b in filled], series)


def _values(
    lines: Sequence[Line], curves: Sequence[Sequence[Bucket | None]], marks: Sequence[Mark], x: Axis, y: Axis
) -> Markup:
    rows = []
    for row in zip(*curves, strict=True):
        first = next(bucket for bucket in row if bucket is not None)
        rows.append([_span(first, x), *(_value(bucket, y) if bucket else "" for bucket in row)])
    parts = [table([Column(x.label), *(Column(each.name) for each in lines)], rows, caption=y.label)]
    if marks:
        parts.append(table([Column(x.label), "mark"], [[x.write(mark.x), mark.label] for mark in marks]))
    return join(*parts)


def _span(bucket: Bucket, x: Axis) -> str:
    if bucket.first_x == bucket.last_x:
        return x.write(bucket.first_x)
    return f"{x.write(bucket.first_x)} to {x.write(bucket.last_x)}"


def _value(bucket: Bucket, y: Axis) -> str:
    if bucket.low is None:
        return "not finite"
    if bucket.low == bucket.high:
        return y.write(bucket.low)
    return f"{y.write(bucket.low)} to {y.write(bucket.high)}"
