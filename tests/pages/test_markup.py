"""Text stays text: what is put into a page is escaped, wherever it stands."""

from html.parser import HTMLParser

import pytest

from tsugiki.pages.markup import Markup, element, escape, join, number
from tsugiki.pages.table import Column, facts, table

HOSTILE = [
    "<script>alert(1)</script>", "</style><img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='alert(1)",
    "<!--", "]]>", "&lt;b&gt;", "\u202egnp.exe", "\x1b[31m", "\x00", "\ud800",
]  # fmt: skip


class Reader(HTMLParser):
    """Tags, attributes and text as another parser than ours reads them."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_never_markup(text):
    seen = read(element("p", text, element("b", text), title=text, data_stops=text))
    assert seen.tags == ["p", "b"]
    assert [name for name, _ in seen.attributes] == ["title", "data-stops"]
    shown = escape(text)
    assert seen.text == read(shown).text * 2
    assert not any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 or letter == "\u202e" for letter in shown)


def test_what_can_be_shown_is_shown_as_it_is():
    text = "日本語 & <b>\n\t“x” می\u200cخواهم"
    assert read(element("p", text)).text == text


def test_markup_goes_through_and_parts_that_are_none_are_left_out():
    assert element("p", element("b", "x"), None, " & ", hidden=True, title=None) == "<p hidden><b>x</b> &amp; </p>"
    assert isinstance(join("a", Markup("<i>b</i>")), Markup)
    assert join("<", Markup("<i>b</i>")) == "&lt;<i>b</i>"


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (0.04, "0"), (-0.04, "0"), (12.345, "12.3"), (-0.5, "-0.5"), (-10.0, "-10")]
)
def test_coordinates_are_short(value, text):
    assert number(value) == text


def test_figures_stand_to_the_right_and_rows_have_names():
    seen = table(["run", Column("loss")], [["<a>", "1.5"], ["b", None]], caption="losses")
    assert '<th scope="row">&lt;a&gt;</th><td class="number">1.5</td>' in seen
    assert read(seen).tags.count("tr") == 3
    assert "<dt>b</dt>" not in facts([("a", "1"), ("b", None), ("c", "")])
