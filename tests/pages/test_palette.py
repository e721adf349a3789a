"""The colours of curves, as eyes see them that tell few colours apart."""

import math
import re
from itertools import combinations
from pathlib import Path

import pytest

from tsugiki import pages
from tsugiki.pages.canvas import COLOURS

CSS = (Path(pages.__file__).parent / "page.css").read_text("utf-8")
PARTS = {"light": ":root {", "dark": "(prefers-color-scheme: dark)", "print": "@media print"}
# Linear RGB as it looks without one of the three kinds of cones (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all three": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def colours(part: str) -> list[str]:
    text = CSS.split(PARTS[part], 1)[1]
    return [re.search(rf"--s{place}: (#\w{{6}});", text)[1] for place in range(COLOURS)]


def linear(colour: str) -> list[float]:
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]


def lab(rgb: list[float]) -> tuple[float, float, float]:
    """CIELAB of linear RGB, under D65."""
    r, g, b = (min(max(value, 0.0), 1.0) for value in rgb)
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047, 0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883,
    )  # fmt: skip
    x, y, z = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def seen(colour: str, eye: str) -> tuple[float, float, float]:
    return lab([sum(a * b for a, b in zip(row, linear(colour), strict=True)) for row in EYES[eye]])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("eye", EYES)
def test_any_two_colours_are_told_apart(part, eye):
    found = [seen(colour, eye) for colour in colours(part)]
    apart = {pair: math.dist(found[pair[0]], found[pair[1]]) for pair in combinations(range(COLOURS), 2)}
    assert min(apart.values()) >= 16, min(apart, key=apart.get)
    assert min(distance for pair, distance in apart.items() if max(pair) < 4) >= 20


@pytest.mark.parametrize(("part", "paper"), [("light", "#ffffff"), ("dark", "#14171a"), ("print", "#ffffff")])
def test_every_curve_stands_out_from_the_paper(part, paper):
    """WCAG 2.1 asks for 3 to 1 in graphics, and for 4.5 to 1 in text: gain and loss are words, too."""
    for place, colour in enumerate(colours(part)):
        light, dark = sorted(
            (0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (linear(colour), linear(paper))), reverse=True
        )
        assert (light + 0.05) / (dark + 0.05) >= (4.5 if place in (0, 1) else 3), colour
