"""A whole page in one file: styles and script inside it, nothing fetched, nothing executed but that one script.

The page states a content security policy with the digests of its style and its script, so that even text that had
escaped escaping could run nothing and fetch nothing.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsugiki.pages.markup import Markup, Part, element, join, joined

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading, which the list of contents names."""

    title: str
    anchor: str
    body: Markup


def section(title: str, *parts: Part, anchor: str | None = None) -> Section:
    """A section; `anchor` is its address within the page, made from the title where it is not given."""
    return Section(title, anchor or re.sub(r"\W+", "-", title.lower()).strip("-"), join(*parts))


def document(title: str, sections: Sequence[Section], *, lead: Part = None, foot: Part = None) -> str:
    """The page as text, to be written as UTF-8. `lead` stands between title and contents, `foot` at the end."""
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    policy = "; ".join([
        "default-src 'none'", f"style-src '{_digest(style)}'", f"script-src '{_digest(script)}'", "base-uri 'none'",
        "form-action 'none'",
    ])  # fmt: skip
    contents = [element("li", element("a", each.title, href=f"#{each.anchor}")) for each in sections]
    body = [
        element("section", element("h2", each.title), each.body, id=each.anchor, aria_label=each.title)
        for each in sections
    ]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", style),
    )
    main = element(
        "main",
        element("header", element("h1", title), lead),
        element("nav", element("ol", joined(contents)), aria_label="contents") if len(sections) > 1 else None,
        joined(body),
        element("footer", foot) if foot else None,
    )
    return (
        "<!doctype html>\n" + element("html", head, element("body", main, element("script", script)), lang="en") + "\n"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
