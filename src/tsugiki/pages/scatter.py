"""Points with intervals on two measures, such as gain against loss, and the front of those that no other one beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsugiki.pages.axes import Axis, Scale
from tsugiki.pages.canvas import COLOURS, Canvas, frame, line, marker, shortened, spread, text_width, words
from tsugiki.pages.figure import Margins, Series, Stops, figure, key_of
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.table import Column, table

Limits = tuple[float, float]
Better = Literal["higher", "lower"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""
NAME_HEIGHT = 13
"""Pixels of a name's line."""
AROUND = ((1, -5), (-1, -5), (1, 15), (-1, 15), (0, -12), (0, 22), (1, -19), (-1, -19), (1, 29), (-1, 29))
"""Where a name may stand: to the right (1), to the left or across its point, so many pixels lower."""


@dataclass(frozen=True)
class Point:
    """A point; limits are those of its intervals."""

    name: str
    x: float
    y: float
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    group: str = ""
    """Points of a group share colour and shape."""
    strong: bool = False
    """The one to look at."""


@dataclass(frozen=True)
class Level:
    """A value that points are to be seen against, such as the base's or what is allowed: a line across the chart."""

    value: float
    label: str
    of: Literal["x", "y"] = "y"
    limit: bool = False
    """Whether it is one that points must not pass."""


def scatter(
    title: str, points: Sequence[Point], x: Axis, y: Axis, *, front: tuple[Better, Better] | None = None,
    zero: bool = False, joined: Sequence[Sequence[Point]] = (), levels: Sequence[Level] = (), note: str = "",
) -> Markup:  # fmt: skip
    """A chart of points. `front`: which way is better on x and on y, for the line through those that no other point
    beats on both; `zero`: lines at x = 0 and at y = 0; `joined`: points that a thin line runs through, in that order;
    `levels`: lines across, which stay in sight."""
    groups = list(dict.fromkeys(point.group for point in points))
    seen = {axis: [level.value for level in levels if level.of == axis] for axis in ("x", "y")}
    x_scale = Scale.of(x, seen["x"] + _reach([(p.x, p.x_limits) for p in points]), margin=0.08, zero=zero)
    y_scale = Scale.of(y, seen["y"] + _reach([(p.y, p.y_limits) for p in points]), margin=0.08, zero=zero)
    best = pareto(points, front) if front else []

    def draw(canvas: Canvas) -> Markup:
        parts = [frame(canvas, x, x_scale, y, y_scale)]
        if zero:
            across, up = canvas.y(y_scale.place(0)), canvas.x(x_scale.place(0))
            parts += [
                line(canvas.x(0), across, canvas.x(1), across, "axis"),
                line(up, canvas.y(0), up, canvas.y(1), "axis"),
            ]
        marks = _levels(canvas, levels, x_scale, y_scale)
        parts += [drawn for drawn, _, _ in marks]
        for class_, row in [("front", best), *(("joined", row) for row in joined)]:
            if len(row) > 1:
                corners = [f"{canvas.x(x_scale.place(p.x)):.1f},{canvas.y(y_scale.place(p.y)):.1f}" for p in row]
                parts.append(element("polyline", points=" ".join(corners), class_=class_))
        for point in points:
            parts.append(_point(canvas, point, groups.index(point.group), x_scale, y_scale))
        parts += [name for _, name, _ in marks]  # above the points, which may lie there
        parts.append(_names(canvas, points, x_scale, y_scale, [box for _, _, box in marks]))
        return join(*parts)

    stops = Stops(
        [x_scale.place(p.x) for p in points], [p.name for p in points],
        [Series("", 0, [y_scale.place(p.y) for p in points], [
            f"{x.label} {written(p.x, p.x_limits, x)}; {y.label} {written(p.y, p.y_limits, y)}" for p in points
        ])], nearest="xy",
    )  # fmt: skip
    rows = [
        [p.name, *([p.group] if any(groups) else []), written(p.x, p.x_limits, x), written(p.y, p.y_limits, y),
         *(["yes" if p in best else ""] if front else [])]
        for p in points
    ]  # fmt: skip
    columns: list[Column | str] = [
        "",
        *(["group"] if any(groups) else []),
        Column(x.label),
        Column(y.label),
        *(["front"] if front else []),
    ]
    key = key_of([(group, place) for place, group in enumerate(groups)], narrow_only=False) if len(groups) > 1 else None
    return figure(title, Margins(340, right=30), draw, stops, table(columns, rows, caption=title), key=key, note=note)


def pareto(points: Sequence[Point], better: tuple[Better, Better]) -> list[Point]:
    """The points that no other one matches on both measures and beats on one, from left to right."""
    signs = [1 if way == "higher" else -1 for way in better]

    def beats(one: Point, other: Point) -> bool:
        ahead = (signs[0] * (one.x - other.x), signs[1] * (one.y - other.y))
        return min(ahead) >= 0 and max(ahead) > 0

    front = [point for point in points if not any(beats(other, point) for other in points)]
    return sorted(front, key=lambda point: (point.x, point.y))


def written(value: float | None, limits: Limits | None, axis: Axis) -> str:
    """A value with its interval in words."""
    return axis.write(value) + (f" [{axis.write(limits[0])}, {axis.write(limits[1])}]" if limits else "")


def _reach(values: Sequence[tuple[float, Limits | None]]) -> list[float]:
    return [each for value, limits in values for each in (value, *(limits or ()))]


def _point(canvas: Canvas, point: Point, group: int, x: Scale, y: Scale) -> Markup:
    across, up = canvas.x(x.place(point.x)), canvas.y(y.place(point.y))
    parts = []
    if point.x_limits:
        low, high = (canvas.x(x.place(limit)) for limit in point.x_limits)
        parts.append(line(low, up, high, up, f"reach s{group % COLOURS}"))
    if point.y_limits:
        low, high = (canvas.y(y.place(limit)) for limit in point.y_limits)
        parts.append(line(across, low, across, high, f"reach s{group % COLOURS}"))
    if point.strong:
        parts.append(element("circle", cx=across, cy=up, r=10, class_="strong"))
    return join(*parts, marker(group, across, up, 5))


def _levels(canvas: Canvas, levels: Sequence[Level], x: Scale, y: Scale) -> list[tuple[Markup, Markup, Box]]:
    """The line of each, its name and where that stands; names of lines that lie close to each other are moved apart."""
    level_of_y = [canvas.y(y.place(level.value)) - 4 for level in levels if level.of == "y"]
    heights = iter(spread(level_of_y, NAME_HEIGHT, canvas.y(1) + NAME_HEIGHT - 3, canvas.y(0) - 3))
    drawn = []
    for level in levels:
        label, class_ = shortened(level.label, canvas.width / 3), "level limit" if level.limit else "level"
        width = text_width(label)
        if level.of == "x":
            place, height = canvas.x(x.place(level.value)), canvas.y(1) + 11
            left = place - 4 - width if place + 4 + width > canvas.width else place + 4
            mark = line(place, canvas.y(0), place, canvas.y(1), class_)
        else:
            place, height = canvas.y(y.place(level.value)), next(heights)
            left = canvas.x(1) - width
            mark = line(canvas.x(0), place, canvas.x(1), place, class_)
        name = words(left + width, height, label, "end", "name")
        drawn.append((mark, name, (left, height - 10, left + width, height + 3)))
    return drawn


def _names(canvas: Canvas, points: Sequence[Point], x: Scale, y: Scale, levels: Sequence[Box]) -> Markup:
    """Each name where it covers least: of the places around its point that meet no other name, nor one of `levels`, and
    stay within the axes, the one that meets the fewest points and intervals. A name that finds no such place is left to
    the pointer, the keys and the table: two names on each other are none."""
    spots = [(canvas.x(x.place(point.x)), canvas.y(y.place(point.y))) for point in points]
    taken: list[Box] = [(across - 6, up - 6, across + 6, up + 6) for across, up in spots]
    for point, (across, up) in zip(points, spots, strict=True):
        if point.x_limits:
            low, high = (canvas.x(x.place(limit)) for limit in point.x_limits)
            taken.append((low, up - 1, high, up + 1))
        if point.y_limits:
            low, high = (canvas.y(y.place(limit)) for limit in point.y_limits)
            taken.append((across - 1, high, across + 1, low))
    parts, names = [], list(levels)
    for point, (across, up) in sorted(zip(points, spots, strict=True), key=lambda pair: not pair[0].strong):
        name = shortened(point.name, canvas.width / 2)
        width = text_width(name)
        places: list[tuple[float, Box]] = []
        for rank, (side, rise) in enumerate(AROUND):
            left = across + 9 if side > 0 else across - 9 - width if side < 0 else across - width / 2
            box = (left, up + rise - 10, left + width, up + rise + 3)
            inside = canvas.x(0) <= box[0] and box[2] <= canvas.width
            inside = inside and canvas.y(1) <= box[1] and box[3] <= canvas.y(0)
            if inside and not any(_common(box, other) for other in names):
                places.append((sum(_common(box, other) for other in taken) + 0.5 * rank, box))
        if not places:
            continue
        box = min(places)[1]
        names.append(box)
        parts.append(words(box[0], box[3] - 3, name, "start", "strong" if point.strong else None))
    return join(*parts)


def _common(one: Box, other: Box) -> float:
    """Square pixels that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
