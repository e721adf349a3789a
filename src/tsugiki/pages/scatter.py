"""Points with intervals on two measures, such as gain against loss, and the front of those that no other one beats."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tsugiki.pages.axes import Axis, Scale
from tsugiki.pages.canvas import Canvas, frame, line, marker, shortened, spread, words
from tsugiki.pages.figure import Margins, Series, Stops, figure, key_of
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.table import Column, table

Limits = tuple[float, float]
Better = Literal["higher", "lower"]


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


def scatter(
    title: str, points: Sequence[Point], x: Axis, y: Axis, *, front: tuple[Better, Better] | None = None,
    zero: bool = False, note: str = "",
) -> Markup:  # fmt: skip
    """A chart of points. `front`: which way is better on x and on y, for the line through those that no other point
    beats on both; `zero`: lines at x = 0 and at y = 0."""
    groups = list(dict.fromkeys(point.group for point in points))
    x_scale = Scale.of(x, _reach([(p.x, p.x_limits) for p in points]), margin=0.08, zero=zero)
    y_scale = Scale.of(y, _reach([(p.y, p.y_limits) for p in points]), margin=0.08, zero=zero)
    best = pareto(points, front) if front else []

    def draw(canvas: Canvas) -> Markup:
        parts = [frame(canvas, x, x_scale, y, y_scale)]
        if zero:
            across, up = canvas.y(y_scale.place(0)), canvas.x(x_scale.place(0))
            parts += [
                line(canvas.x(0), across, canvas.x(1), across, "axis"),
                line(up, canvas.y(0), up, canvas.y(1), "axis"),
            ]
        corners = [f"{canvas.x(x_scale.place(p.x)):.1f},{canvas.y(y_scale.place(p.y)):.1f}" for p in best]
        if len(best) > 1:
            parts.append(element("polyline", points=" ".join(corners), class_="front"))
        for point in points:
            parts.append(_point(canvas, point, groups.index(point.group), x_scale, y_scale))
        parts.append(_names(canvas, points, x_scale, y_scale))
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
        parts.append(line(low, up, high, up, f"reach s{group % 8}"))
    if point.y_limits:
        low, high = (canvas.y(y.place(limit)) for limit in point.y_limits)
        parts.append(line(across, low, across, high, f"reach s{group % 8}"))
    if point.strong:
        parts.append(element("circle", cx=across, cy=up, r=10, class_="strong"))
    return join(*parts, marker(group, across, up, 5))


def _names(canvas: Canvas, points: Sequence[Point], x: Scale, y: Scale) -> Markup:
    """Each name beside its point, on the side where there is room, moved apart where they would meet."""
    parts = []
    for rightwards in (True, False):
        side = [p for p in points if (x.place(p.x) < 0.6) == rightwards]
        heights = spread([canvas.y(y.place(p.y)) - 8 for p in side], 14, canvas.y(1) + 8, canvas.y(0) - 4)
        for point, height in zip(side, heights, strict=True):
            place = canvas.x(x.place(point.x)) + (9 if rightwards else -9)
            room = canvas.width - place if rightwards else place
            name = shortened(point.name, room - 6)
            parts.append(
                words(place, height, name, "start" if rightwards else "end", "strong" if point.strong else None)
            )
    return join(*parts)
