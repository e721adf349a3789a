"""Instruction checks as tasks: what a model is sent, its four scores, their records and files."""

import json
from pathlib import Path

import numpy as np
import pytest

from tsugiki.errors import DataError
from tsugiki.evaluation.conversations import Reply
from tsugiki.evaluation.instructions.prompts import Instruction, Prompt, own_prompts
from tsugiki.evaluation.instructions.tasks import (
    BUDGETS,
    OWN,
    TITLES,
    instructions_digest,
    prompts_of,
    questions_of,
    score_replies,
    scores_of,
)
from tsugiki.evaluation.results import write_results
from tsugiki.evaluation_files import ModelResult, read_results
from tsugiki.recipe_evaluation import INSTRUCTION_TASKS

ROW = {"key": 7, "prompt": "No comma, please.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def said(*texts: str) -> list[Reply]:
    return [Reply(text, "end", f"hash {number}", 7, len(text)) for number, text in enumerate(texts)]


def written(language: str) -> dict[str, str]:
    lines = Path(__file__).with_name(f"answers_{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["answer"] for row in map(json.loads, lines)}


@pytest.mark.parametrize("name", OWN)
def test_a_perfect_stub_scores_one_and_an_empty_one_nothing(name: str) -> None:
    prompts = own_prompts(OWN[name])
    questions, answers = questions_of(prompts), written(OWN[name])
    assert [(one.messages[0].role, one.messages[0].content) for one in questions] == [
        ("user", one.text) for one in prompts
    ]
    assert all(len(one.messages) == 1 for one in questions)
    for text_of, score in ((answers.__getitem__, 1.0), (lambda item: "", 0.0)):
        found = score_replies(name, prompts, said(*(text_of(one.id) for one in questions)), "t")
        assert [result.task for result, _ in found] == scores_of(name)
        assert [result.sample.score for result, _ in found] == [score] * 4
        assert all(len(result.ids) == result.total == len(records) == len(prompts) for result, records in found)


def test_no_written_answer_comes_near_the_budget() -> None:
    for name, language in OWN.items():
        most = BUDGETS[name].characters
        assert most is not None
        assert max(map(len, written(language).values())) * 4 < most
        assert BUDGETS[name].tokens >= most * (3 if language == "ja" else 0.5)


def test_answers_that_did_not_stop_are_counted_once() -> None:
    prompts = own_prompts("en")[:3]
    replies = [Reply("a", ended, "", 1, 1) for ended in ("characters", "end", "tokens")]
    found = [result.notes for result, _ in score_replies("instructions_en", prompts, replies, "t")]
    assert found == [["2 of 3 answers were cut at their budget: the model had not stopped"], [], [], []]
    assert score_replies("instructions_en", prompts, said("a", "b", "c"), "t")[0][0].notes == []


def test_thinking_is_no_part_of_an_answer() -> None:
    prompts = [Prompt("a", "1", "en", (Instruction("no_digits", {}),))]
    (result, records), *_ = score_replies("ifeval", prompts, said("<think>\n1, 2\n</think>\n\nNone."), "t")
    assert result.sample.score == 1.0
    assert (records[0]["answer"], records[0]["output"]) == ("None.", "<think>\n1, 2\n</think>\n\nNone.")


def test_the_four_scores_are_shares_of_prompts_and_of_instructions() -> None:
    """By hand: the first prompt is followed, the second by half, strictly by one of three, the third not."""
    prompts = [
        Prompt("a", "1", "en", (Instruction("no_digits", {}),)),
        Prompt("b", "2", "en", (Instruction("json", {}), Instruction("bullets", {"at_least": 1}), Instruction("no_digits", {}))),
        Prompt("c", "3", "en", (Instruction("starts_with", {"phrase": "So"}), Instruction("no_digits", {}))),
    ]  # fmt: skip
    found = score_replies("instructions_en", prompts, said("Yes.", "- one", "Sure:\nSo be it"), "t")
    assert [result.sample.score for result, _ in found] == pytest.approx([1 / 3, 2 / 3, 4 / 6, 5 / 6])
    assert [result.values.shape for result, _ in found] == [(3, 1), (3, 1), (3, 2), (3, 2)]
    record = found[3][1][2]
    assert record["statistics"] == [2.0, 2.0]
    assert record["output"] == "Sure:\nSo be it"
    assert record["instructions"] == [
        {"id": "starts_with", "phrase": "So", "strict": False, "loose": True},
        {"id": "no_digits", "strict": True, "loose": True},
    ]


def test_a_limit_takes_the_first_prompts_and_is_told_apart_from_the_whole(tmp_path: Path) -> None:
    prompts = own_prompts("ja")
    found = score_replies("instructions_ja", prompts, said(*["はい"] * 5), "t")
    assert all((len(result.ids), result.total) == (5, len(prompts)) for result, _ in found)
    assert {result.digest for result, _ in found} == {instructions_digest("instructions_ja", None, "t")}


def test_results_are_written_and_read_like_those_of_other_tasks(tmp_path: Path) -> None:
    found = score_replies("instructions_en", own_prompts("en"), said("An apple.", "A baker bakes."), "t")
    result = ModelResult("m", {"suite": "quick"}, {one.task: one for one, _ in found})
    write_results(tmp_path / "out", result, {one.task: records for one, records in found})
    again = read_results(tmp_path / "out").scored()
    assert list(again) == scores_of("instructions_en")
    for one, _ in found:
        assert np.array_equal(again[one.task].values, one.values)
        assert again[one.task].sample.score == one.sample.score


@pytest.mark.parametrize(
    ("name", "file"), [("ifeval", "ifeval/input_data.jsonl"), ("m_ifeval_ja", "m_ifeval/ja_input_data.jsonl")]
)
def test_files_of_others_are_found_in_the_data_folder_and_named_where_they_are_not(
    tmp_path: Path, name: str, file: str
) -> None:
    with pytest.raises(DataError, match=f"{name}: put the file of its authors at .*{file}"):
        prompts_of(name, tmp_path)
    assert instructions_digest(name, tmp_path, "t") is None
    (tmp_path / file).parent.mkdir()
    row = ROW if name == "ifeval" else {**ROW, "instruction_id_list": ["ja:punctuation:no_comma"]}
    (tmp_path / file).write_text(json.dumps(row) + "\n", encoding="utf-8")
    (prompt,) = prompts_of(name, tmp_path)
    assert (prompt.id, prompt.text) == ("7", "No comma, please.")
    assert (
        instructions_digest(name, tmp_path, "t") == instructions_digest(f"{name}_each_loose", tmp_path, "t") is not None
    )


def test_the_digest_belongs_to_these_tasks_their_prompts_and_the_template() -> None:
    digests = {name: instructions_digest(name, None, "t") for name in [*TITLES, "code"]}
    assert digests["instructions_en"] != digests["instructions_ja"]
    assert digests["code"] is digests["ifeval"] is None
    assert instructions_digest("instructions_en", None, "another") != digests["instructions_en"]


def test_a_recipe_names_the_same_tasks() -> None:
    assert list(INSTRUCTION_TASKS) == list(TITLES) == list(BUDGETS)
    assert {name: INSTRUCTION_TASKS[name] for name in OWN} == OWN
