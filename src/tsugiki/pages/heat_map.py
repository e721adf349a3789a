"""A matrix of values as coloured cells with their figures in them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tsugiki.pages.axes import with_minus
from tsugiki.pages.canvas import Canvas, shortened, text_width, words
from tsugiki.pages.figure import Margins, Series, Stops, figure, key_of
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.scatter import Better, Limits
from tsugiki.pages.table import Column, table

CELL = 34
DIGITS = 3
"""Behind the point, where there is room."""
STEPS = 5
"""Depths of a colour: `page.css` has h1 to h5 for gains (and for size), l1 to l5 for losses, h0 for nothing."""
BLUE, ORANGE = 0, 1
"""Places in the palette of what the deepest cells look like."""


@dataclass(frozen=True)
class Cell:
    """A value with its interval, where it is known."""

    value: float | None
    """None: not measured."""
    limits: Limits | None = None
    mark: str = ""
    """Stands behind the value."""

    @property
    def known(self) -> bool:
        return self.value is not None and math.isfinite(self.value)


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Cell]], *,
    better: Better | None = None, row_title: str = "", column_title: str = "", note: str = "",
) -> Markup:  # fmt: skip
    """A matrix [rows][columns]. With `better` values are differences, whose colours part at 0 into gains and losses;
    without, colours deepen from the smallest value to the largest. Where a cell is narrow its value has fewer than
    `DIGITS` digits behind the point; interval and all digits are read off, and stand in the table."""
    known = [cell.value for row in cells for cell in row if cell.known and cell.value is not None]
    names = max((text_width(name) for name in rows), default=0.0)
    height = CELL * len(rows)
    margins = Margins(
        height + 62, left=min(names + 20, 220), right=8, top=40, bottom=22,
        narrow={"left": min(names + 12, 92), "right": 4},
    )  # fmt: skip

    def number(value: float, places: int = DIGITS) -> str:
        sign = "+" if better is not None and round(value, places) != 0 else ""
        return with_minus(format(round(value, places) + 0.0, f"{sign}.{places}f"))  # no -0.000

    def whole(cell: Cell) -> str:
        if not cell.known or cell.value is None:
            return "–"
        reach = f" [{number(cell.limits[0])}, {number(cell.limits[1])}]" if cell.limits else ""
        return number(cell.value) + reach + (f" {cell.mark}" if cell.mark else "")

    def short(cell: Cell, width: float) -> str:
        """As much of a value as a cell holds."""
        if not cell.known or cell.value is None:
            return "–"
        written = [number(cell.value, places) + cell.mark for places in range(DIGITS, 0, -1)]
        return next((text for text in written if text_width(text) < width), cell.mark)

    def draw(canvas: Canvas) -> Markup:
        width = (canvas.x(1) - canvas.x(0)) / max(len(columns), 1)
        parts = [
            words(4, 14, row_title, "start", "name"),
            words(canvas.x(1), canvas.height - 6, column_title, "end", "name"),
        ]
        for place, name in enumerate(columns):
            parts.append(words(canvas.x(0) + width * (place + 0.5), 32, shortened(name, width - 4), "middle"))
        for place, (name, row) in enumerate(zip(rows, cells, strict=True)):
            top = canvas.top + CELL * place
            parts.append(words(4, top + CELL / 2 + 4, shortened(name, canvas.left - 8), "start"))
            for column, cell in enumerate(row):
                left = canvas.x(0) + width * column
                shade = shade_of(cell.value, known, better)
                deep = " deep" if shade[1:] in ("4", "5") else ""
                parts += [
                    element("rect", x=left + 1, y=top + 1, width=width - 2, height=CELL - 2, class_=f"cell {shade}"),
                    words(left + width / 2, top + CELL / 2 + 4, short(cell, width), "middle", f"value{deep}"),
                ]
        return join(*parts)

    places = [(r, c) for r in range(len(rows)) for c in range(len(columns))]
    stops = Stops(
        [(c + 0.5) / len(columns) for _, c in places],
        [f"{rows[r]} → {columns[c]}" for r, c in places],
        [Series("", 0, [1 - (r + 0.5) / len(rows) for r, _ in places], [whole(cells[r][c]) for r, c in places])],
        nearest="xy",
    )  # fmt: skip
    body = [[name, *map(whole, row)] for name, row in zip(rows, cells, strict=True)]
    values = table([row_title, *map(Column, columns)], body, caption=title)
    key = key_of([("better", BLUE), ("worse", ORANGE)], narrow_only=False) if better else None
    return figure(title, margins, draw, stops, values, key=key, note=note)


def shade_of(value: float | None, known: Sequence[float], better: Better | None) -> str:
    """The class of a cell: `h` or `l` with the depth of its colour, 0 to STEPS."""
    if value is None or not math.isfinite(value):
        return "none"
    if better is None:
        low, high = min(known), max(known)
        return f"h{round(STEPS * (value - low) / (high - low)) if high > low else 0}"
    largest = max(map(abs, known))
    depth = math.ceil(round(STEPS * abs(value) / largest, 6)) if largest else 0  # what rounding left of 0 is 0
    return f"{'h' if (value > 0) == (better == 'higher') or not depth else 'l'}{depth}"
