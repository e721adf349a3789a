"""A page of the report read back as text."""

import re
from html import unescape

HOSTILE = "</td><script>alert(1)</script>|`*\"'>"


def text_of(page: str) -> str:
    """What a reader sees."""
    page = re.sub(r"(?s)<style>.*?</style>|<script>.*?</script>", "", page)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    below = page[page.index(f">{heading}</h2>") :]
    table = below[below.index("<tbody>") : below.index("</tbody>")]
    return [
        [text_of(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table)
    ]
