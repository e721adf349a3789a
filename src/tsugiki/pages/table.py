"""Tables: figures aligned by their digits, wide ones scrolling by themselves on a narrow screen."""

from collections.abc import Sequence
from dataclasses import dataclass

from tsugiki.pages.markup import Markup, Part, element, join, joined


@dataclass(frozen=True)
class Column:
    """A column's heading, and whether it holds figures, which stand to the right."""

    heading: str
    numeric: bool = True


def table(
    columns: Sequence[Column | str], rows: Sequence[Sequence[Part]], *, caption: str = "", names: bool = True
) -> Markup:
    """A table; a heading given as text is that of a column of words. `names`: the first column names the rows."""
    kinds = [Column(column, numeric=False) if isinstance(column, str) else column for column in columns]
    classes = ["number" if column.numeric else None for column in kinds]
    head = [
        element("th", column.heading, scope="col", class_=kind) for column, kind in zip(kinds, classes, strict=True)
    ]
    body = []
    for row in rows:
        cells = [
            element("th", cell, scope="row") if names and place == 0 else element("td", cell, class_=kind)
            for place, (cell, kind) in enumerate(zip(row, classes, strict=True))
        ]
        body.append(element("tr", *cells))
    inside = join(
        element("caption", caption) if caption else None,
        element("thead", element("tr", *head)), element("tbody", joined(body)),
    )  # fmt: skip
    return element("div", element("table", inside), class_="scroll", tabindex="0", role="region", aria_label=caption)


def facts(pairs: Sequence[tuple[str, Part]]) -> Markup:
    """Names with a value each; a pair without a value is left out."""
    rows = [
        element("div", element("dt", name), element("dd", value)) for name, value in pairs if value not in (None, "")
    ]
    return element("dl", *rows, class_="facts")
