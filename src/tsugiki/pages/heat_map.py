"""A matrix of values as coloured cells with their figures in them."""

import math
from collections.abc import Sequence

from tsugiki.pages.axes import with_minus
from tsugiki.pages.canvas import Canvas, shortened, text_width, words
from tsugiki.pages.figure import Margins, Series, Stops, figure
from tsugiki.pages.markup import Markup, element, join
from tsugiki.pages.scatter import Better
from tsugiki.pages.table import Column, table

CELL = 34
STEPS = 5
"""Depths of a colour: `page.css` has h1 to h5 for gains (and for size), l1 to l5 for losses, h0 for nothing."""


def heat_map(
    title: str, rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]], *,
    unit: str = "", digits: str = ".3f", better: Better | None = None, row_title: str = "", column_title: str = "",
    note: str = "",
) -> Markup:  # fmt: skip
    """A matrix [rows][columns]. With `better` colours part at 0, into gains and losses; without, they deepen from the
    smallest value to the largest."""
    known = [v for row in values for v in row if v is not None and math.isfinite(v)]
    names = max((text_width(name) for name in rows), default=0.0)
    height = CELL * len(rows)
    margins = Margins(
        height + 62,
        left=min(names + 20, 220),
        right=8,
        top=40,
        bottom=22,
        narrow={"left": min(names + 12, 92), "right": 4},
    )

    def write(value: float | None) -> str:
        return "–" if value is None or not math.isfinite(value) else with_minus(format(value, digits))

    def draw(canvas: Canvas) -> Markup:
        width = (canvas.x(1) - canvas.x(0)) / max(len(columns), 1)
        parts = [
            words(4, 14, row_title, "start", "name"),
            words(canvas.x(1), canvas.height - 6, column_title, "end", "name"),
        ]
        for place, name in enumerate(columns):
            parts.append(words(canvas.x(0) + width * (place + 0.5), 32, shortened(name, width - 8), "middle"))
        for place, (name, row) in enumerate(zip(rows, values, strict=True)):
            top = canvas.top + CELL * place
            parts.append(words(4, top + CELL / 2 + 4, shortened(name, canvas.left - 12), "start"))
            for column, value in enumerate(row):
                left = canvas.x(0) + width * column
                shade = shade_of(value, known, better)
                parts.append(
                    element("rect", x=left + 1, y=top + 1, width=width - 2, height=CELL - 2, class_=f"cell {shade}")
                )
                if text_width(write(value)) < width:
                    deep = " deep" if shade[1:] in ("4", "5") else ""
                    parts.append(words(left + width / 2, top + CELL / 2 + 4, write(value), "middle", f"value{deep}"))
        return join(*parts)

    cells = [(r, c) for r in range(len(rows)) for c in range(len(columns))]
    stops = Stops(
        [(c + 0.5) / len(columns) for _, c in cells],
        [f"{rows[r]} → {columns[c]}" for r, c in cells],
        [Series("", 0, [1 - (r + 0.5) / len(rows) for r, _ in cells],
                [f"{write(values[r][c])} {unit}".strip() for r, c in cells])], nearest="xy",
    )  # fmt: skip
    body = [[name, *map(write, row)] for name, row in zip(rows, values, strict=True)]
    return figure(
        title, margins, draw, stops, table([row_title, *map(Column, columns)], body, caption=unit or title), note=note
    )


def shade_of(value: float | None, known: Sequence[float], better: Better | None) -> str:
    """The class of a cell: `h` or `l` with the depth of its colour, 0 to STEPS."""
    if value is None or not math.isfinite(value):
        return "none"
    if better is None:
        low, high = min(known), max(known)
        return f"h{round(STEPS * (value - low) / (high - low)) if high > low else 0}"
    largest = max(map(abs, known))
    depth = math.ceil(STEPS * abs(value) / largest) if largest else 0
    return f"{'h' if (value > 0) == (better == 'higher') or not depth else 'l'}{depth}"
