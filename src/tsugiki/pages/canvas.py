"""The area that a chart is drawn on: twice, for a wide page and for a phone, so that its letters have their size on
both."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from tsugiki.pages.axes import Axis, Scale, with_minus
from tsugiki.pages.markup import Markup, element, join

WIDE, NARROW = 760, 350
"""Pixels."""
COLOURS = 8
"""In the palette of `page.css`; `s0` to `s7` name them."""
LETTER = 6.7
"""Pixels of a letter, on average, in the charts' 12-pixel type."""


@dataclass(frozen=True)
class Canvas:
    """Sizes in pixels; fractions run from 0 to 1 to the right and upwards."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float

    @property
    def narrow(self) -> bool:
        return self.width < WIDE

    def x(self, fraction: float) -> float:
        return self.left + fraction * (self.width - self.left - self.right)

    def y(self, fraction: float) -> float:
        return self.height - self.bottom - fraction * (self.height - self.top - self.bottom)

    @property
    def box(self) -> str:
        """The plotting area as the page's script reads it: left, top, width, height, of a width and height."""
        left, top = self.x(0), self.y(1)
        sizes = (left, top, self.x(1) - left, self.y(0) - top, self.width, self.height)
        return " ".join(f"{size:.1f}" for size in sizes)


def frame(canvas: Canvas, x: Axis, x_scale: Scale, y: Axis, y_scale: Scale) -> Markup:
    """Grid, ticks and the names of both axes; that of y stands above, where it is read first."""
    parts = []
    for value, text in y_scale.ticks(max(int((canvas.y(0) - canvas.y(1)) / 32), 3)):
        place = canvas.y(y_scale.place(value))
        parts.append(line(canvas.x(0), place, canvas.x(1), place, "grid"))
        parts.append(words(canvas.x(0) - 7, place + 4, with_minus(text), "end"))
    for value, text in x_scale.ticks(4 if canvas.narrow else 8):
        place = canvas.x(x_scale.place(value))
        parts.append(line(place, canvas.y(0), place, canvas.y(0) + 4, "tick"))
        parts.append(words(place, canvas.y(0) + 17, with_minus(text), "middle"))
    parts.append(line(canvas.x(0), canvas.y(0), canvas.x(1), canvas.y(0), "axis"))
    parts.append(words(4, 12, y.label + (" (logarithmic)" if y_scale.log else ""), "start", "name"))
    below = x.label + (" (logarithmic)" if x_scale.log else "")
    parts.append(words(canvas.x(1), canvas.height - 3, below, "end", "name"))
    return join(*parts)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def words(x: float, y: float, text: str, anchor: str, class_: str | None = None) -> Markup:
    """Text at a place; `anchor` is start, middle or end."""
    return element("text", text, x=x, y=y, text_anchor=None if anchor == "start" else anchor, class_=class_)


def marker(kind: int, x: float, y: float, size: float = 4.0) -> Markup:
    """A point's mark in the palette's colour `kind`; shapes differ as well, for eyes that tell few colours apart."""
    colour, shape = f"fill s{kind % COLOURS}", kind % 4
    if shape == 0:
        return element("circle", cx=x, cy=y, r=size, class_=colour)
    if shape == 1:
        return element("rect", x=x - size * 0.9, y=y - size * 0.9, width=1.8 * size, height=1.8 * size, class_=colour)
    corners = {
        2: [(0, -1.25), (1.15, 0.85), (-1.15, 0.85)],
        3: [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    }[shape]  # fmt: skip
    points = " ".join(f"{x + dx * size:.1f},{y + dy * size:.1f}" for dx, dy in corners)
    return element("polygon", points=points, class_=colour)


def text_width(text: str) -> float:
    """Pixels that a text takes, about: a letter of Chinese or Japanese is twice as wide."""
    return LETTER * sum(1.8 if unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in text)


def shortened(text: str, most: float) -> str:
    """The text, or as much of it as `most` pixels hold."""
    if text_width(text) <= most:
        return text
    while text and text_width(text) + LETTER > most:
        text = text[:-1]
    return text + "…"


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places moved apart to at least `gap`, inside low to high where they fit, each as near to its own as its order
    allows."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    blocks: list[tuple[float, list[int]]] = []  # centre, members: neighbours that touch move together

    def start(block: tuple[float, list[int]]) -> float:
        reach = gap * (len(block[1]) - 1) / 2
        return min(max(block[0], low + reach), max(high - reach, low + reach)) - reach

    for index in order:
        blocks.append((places[index], [index]))
        while len(blocks) > 1 and start(blocks[-2]) + gap * len(blocks[-2][1]) > start(blocks[-1]) + 1e-9:
            (_, these), (_, those) = blocks[-2:]
            count = len(these) + len(those)
            # The mean of what each member would have its block's middle be.
            wished = math.fsum(
                places[member] - gap * (rank - (count - 1) / 2) for rank, member in enumerate([*these, *those])
            )
            blocks[-2:] = [(wished / count, [*these, *those])]
    moved = [0.0] * len(places)
    for block in blocks:
        for rank, member in enumerate(block[1]):
            moved[member] = start(block) + gap * rank
    return moved
