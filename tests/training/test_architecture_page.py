"""docs/architecture.md names what is there, and its walk is the way that a batch goes."""

import ast
import re
import sys
import threading
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/tsugiki"
PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
NAMED = re.compile(r"`([\w.]+)`\s+\(`([\w/]+\.py)`\)")
"""`function` (`file.py`)"""


def defined_in(path: Path) -> set[str]:
    """Functions, classes and methods (`Class.method`) that a file defines."""
    names = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return names


def part(begin: str, end: str) -> list[tuple[str, str]]:
    """The names between two marks of the page, in order, with their files."""
    return NAMED.findall(PAGE.split(begin)[1].split(end)[0])


def test_every_name_is_defined_in_the_file_beside_it():
    found = NAMED.findall(PAGE)
    assert len(found) > 30
    assert [(name, file) for name, file in found if name not in defined_in(SOURCE / file)] == []


def test_every_file_and_room_that_is_named_exists_and_every_room_is_named():
    for file in re.findall(r"\b((?:\w+/)*\w+\.py)\b", PAGE):
        assert (SOURCE / file).exists() or (ROOT / file).exists(), file
    rooms = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert set(re.findall(r"(\w+)/", PAGE.split("```")[1])) == rooms


def test_the_page_is_one_screen():
    assert len(PAGE.splitlines()) <= 85


@pytest.fixture
def calls(open_tiny) -> list[tuple[str, str]]:
    """(function, file) of ours in the order of their first call, from the first step of a tiny run to its end."""
    from tsugiki.training.loop import train

    run = open_tiny(**{"training.max_steps": 1, "training.eval_steps": "null"})
    found: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(SOURCE)):
            found.setdefault((code.co_qualname, str(Path(code.co_filename).relative_to(SOURCE))))

    former = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        train(run, [])
    finally:
        sys.setprofile(former)
        threading.setprofile(None)
    return list(found)


@pytest.mark.parametrize(("begin", "end"), [("**Read**", "**Step**"), ("**Step**", "Around it")])
def test_a_batch_goes_the_way_of_the_walk(calls, begin, end):
    walk = part(begin, end)
    assert len(walk) >= 5
    assert [place for place in walk if place not in calls] == []
    assert [pair for pair in pairwise(walk) if calls.index(pair[0]) > calls.index(pair[1])] == []
