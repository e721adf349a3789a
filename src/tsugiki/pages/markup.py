"""HTML that is escaped by construction: text becomes markup only inside `element`, which escapes it.

No page is made by putting strings together. Whatever comes from a recipe, a corpus, a model or a file name is a plain
`str`, and a plain `str` is always shown as text; only what `element` has made is taken as it is.
"""

from collections.abc import Iterable
from html import escape as escape_html

from tsugiki.printable import printable

KEPT = {letter: letter for letter in "\n\t\u200c\u200d"}
"""Besides letters, marks and spaces: the joiners, without which Persian and Hindi words fall apart. Marks that turn the
direction of what follows are shown as escapes."""
VOID = {"meta", "br", "col", "input"}
"""Elements without an end tag."""


class Markup(str):
    """Text that is HTML (or SVG) already; made by `element` and `join`."""

    __slots__ = ()


Part = str | None
"""A child of an element: `Markup` as it is, any other text escaped, None left out."""


def escape(text: str) -> Markup:
    """Text as HTML shows it, in an element or in a quoted attribute."""
    return Markup(escape_html(printable(text, KEPT), quote=True))


def join(*parts: Part) -> Markup:
    """Parts one after another."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts if part is not None))


def joined(parts: Iterable[Part]) -> Markup:
    """The same for what comes as one argument."""
    return join(*parts)


def element(tag: str, *children: Part, **attributes: str | float | bool | None) -> Markup:
    """An element; `class_="a"` is `class="a"`, `stroke_width=2` is `stroke-width="2"`, None and False leave an
    attribute out. Tags and names of attributes are our own words, values and children anybody's."""
    inside = "".join(_attribute(name, value) for name, value in attributes.items() if value not in (None, False))
    if tag in VOID:
        return Markup(f"<{tag}{inside}>")
    return Markup(f"<{tag}{inside}>{join(*children)}</{tag}>")


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{escape(value) if isinstance(value, str) else number(value or 0)}"'


def number(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0").replace("-0", "0" if abs(value) < 0.05 else "-0")
