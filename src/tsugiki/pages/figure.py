"""What every chart has: a title, the drawing for wide and narrow pages, values under the pointer and the arrow keys,
and all values as a table."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tsugiki.pages.canvas import NARROW, WIDE, Canvas
from tsugiki.pages.markup import Markup, Part, element, join


@dataclass(frozen=True)
class Series:
    """What is read off at each stop: a height (fraction, None for nothing) and the value in words."""

    name: str
    colour: int
    heights: Sequence[float | None]
    values: Sequence[str]


@dataclass(frozen=True)
class Stops:
    """Where the pointer or the arrow keys stop."""

    places: Sequence[float]
    """Fractions from the left."""
    titles: Sequence[str]
    series: Sequence[Series]
    nearest: Literal["x", "xy"] = "x"
    """By what the stop nearest to the pointer is found."""

    def to_json(self) -> str:
        """As `page.js` reads it."""
        return json.dumps(
            {
                "by": self.nearest,
                "x": [_short(place) for place in self.places],
                "t": list(self.titles),
                "s": [
                    {"n": each.name, "c": each.colour, "y": [_short(y) for y in each.heights], "v": list(each.values)}
                    for each in self.series
                ],
            },
            ensure_ascii=False, separators=(",", ":"),
        )  # fmt: skip


def _short(fraction: float | None) -> float | None:
    return None if fraction is None else round(fraction, 4)


@dataclass(frozen=True)
class Margins:
    """Pixels around the plotting area, and its whole height."""

    height: float
    left: float = 62
    right: float = 20
    top: float = 26
    bottom: float = 40
    narrow: dict[str, float] = field(default_factory=dict)
    """What is different on a phone."""

    def canvases(self) -> list[Canvas]:
        wide = {"height": self.height, "left": self.left, "right": self.right, "top": self.top, "bottom": self.bottom}
        return [Canvas(WIDE, **wide), Canvas(NARROW, **(wide | {"left": 50, "right": 14} | self.narrow))]


def figure(
    title: str,
    margins: Margins,
    draw: Callable[[Canvas], Markup],
    stops: Stops,
    values: Markup,
    *,
    key: Part = None,
    note: str = "",
) -> Markup:
    """A chart. `draw` makes the inside of the SVG for each of the two canvases; `key` explains colours where there is
    no room for names beside the lines; `note` stands below."""
    drawings = [
        element(
            "svg", draw(canvas), viewBox=f"0 0 {canvas.width:g} {canvas.height:g}", role="img", aria_label=title,
            data_box=canvas.box, class_="narrow" if canvas.narrow else "wide",
        )
        for canvas in margins.canvases()
    ]  # fmt: skip
    reading = f"{title}. Arrow keys read off values." if stops.places else title
    plot = element(
        "div", *drawings, class_="plot", tabindex="0", role="group", aria_label=reading, data_stops=stops.to_json()
    )
    return element(
        "figure",
        element("figcaption", title),
        key,
        plot,
        element("p", note, class_="note") if note else None,
        element("details", element("summary", "values"), values),
        class_="chart",
    )


def key_of(names: Sequence[tuple[str, int]], *, narrow_only: bool) -> Markup | None:
    """Names with their colours, for where they do not stand beside the lines."""
    items = [element("li", element("i", class_=f"swatch s{colour}"), name) for name, colour in names]
    return element("ul", join(*items), class_="key narrow" if narrow_only else "key") if items else None
