"""Files of HumanEval's and JHumanEval's format, and where a body ends."""

import gzip
import json
from pathlib import Path

import pytest

from tsugiki.errors import DataError
from tsugiki.evaluation.code.judge import why_wrong
from tsugiki.evaluation.code.problems import cut_body, read_problems

ROW = {
    "task_id": "HumanEval/900",
    "prompt": 'from typing import List\n\n\ndef helper(n: int) -> int:\n    return n + 1\n\n\ndef after(values: List[int]) -> List[int]:\n    """ Add one to each.\n    >>> after([1])\n    [2]\n    """\n',
    "entry_point": "after",
    "canonical_solution": "    return [helper(value) for value in values]\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == [2, 3]\n    assert candidate([]) == []\n",
}


def write(path: Path, *rows: object) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["HumanEval.jsonl", "HumanEval.jsonl.gz"])
def test_a_file_as_published_is_read_and_its_own_test_judges(tmp_path: Path, name: str) -> None:
    (problem,) = read_problems(write(tmp_path / name, ROW, ""))
    assert (problem.id, problem.prompt, problem.test) == (ROW["task_id"], ROW["prompt"], ROW["test"])
    assert why_wrong(problem, problem.solution, allow_code_execution=True) is None
    for body, said in (
        ("    return values\n", "AssertionError"),
        ("    return [helper(v)\n", "SyntaxError"),
        ("    exit()\n", ""),
    ):
        wrong = why_wrong(problem, body, allow_code_execution=True)
        assert wrong is not None
        assert said in wrong


def test_a_japanese_prompt_is_taken_wherever_it_stands(tmp_path: Path) -> None:
    japanese = ROW["prompt"].replace("Add one to each.", "それぞれに一を足す。")
    beside = {**ROW, "prompt_ja": japanese}
    instead = {**ROW, "prompt": japanese, "prompt_en": ROW["prompt"]}
    assert [problem.prompt for problem in read_problems(write(tmp_path / "j.jsonl", beside, instead))] == [japanese] * 2


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "the file is empty"),
        (("",), "no problem in it"),
        ((ROW, "{"), "line 2: not JSON"),
        ((ROW, "[1]"), "line 2: not a JSON object"),
        (({**ROW, "test": None},), "line 1: no text under test"),
        (({key: ROW[key] for key in ("task_id", "prompt")},), "no text under entry_point, canonical_solution, test"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(tmp_path: Path, rows: tuple, said: str) -> None:
    path = write(tmp_path / "broken.jsonl", *rows)
    with pytest.raises(DataError, match=said) as caught:
        read_problems(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"plain, not gzip",
        gzip.compress(b"x" * 99)[:-12],
        gzip.compress(b"x" * 99)[:12] + b"\xff" * 30,
        gzip.compress(b"\xff\xfe\n"),
    ],
    ids=[
        "absent",
        "plain",
        "cut off",
        "damaged",
        "not UTF-8",
    ],  # bytes would name the second in which they were compressed
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "HumanEval.jsonl.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"HumanEval\.jsonl\.gz"):
        read_problems(path)


@pytest.mark.parametrize(
    ("written", "body"),
    [
        ("    return 1\n", "    return 1\n"),
        ("    return 1", "    return 1\n"),
        ("    x = 1\n\n    return x\n\n\ndef other():\n    pass\n", "    x = 1\n\n    return x\n"),
        ("    return 1\n# a comment\n    return 2\n", "    return 1\n"),
        ("    if x:\n        return 1\n    return 2\nprint(f(1))", "    if x:\n        return 1\n    return 2\n"),
        ("\treturn 1\n\n", "\treturn 1\n"),
        ("return 1\n", "\n"),
        ("", "\n"),
        ("    return '''\nnot indented\n'''\n", "    return '''\n"),  # as every cut at a dedent does
    ],
)
def test_a_body_ends_at_the_first_line_that_is_not_indented(written: str, body: str) -> None:
    assert cut_body(written) == body
