"""Strict and loose, against forms written out by hand."""

from tsugiki.evaluation.instructions.prompts import Instruction, Prompt
from tsugiki.evaluation.instructions.scoring import judge, loose_forms


def prompt(*instructions: tuple[str, dict]) -> Prompt:
    return Prompt("1", "Say it.", "en", tuple(Instruction(name, arguments) for name, arguments in instructions))


def test_the_loose_forms_are_those_of_ifeval() -> None:
    assert set(loose_forms("Sure:\n*one* two\nBye")) == {
        "Sure:\n*one* two\nBye",
        "Sure:\none two\nBye",
        "*one* two\nBye",
        "one two\nBye",
        "Sure:\n*one* two",
        "Sure:\none two",
        "*one* two",
        "one two",
    }


def test_an_introduction_and_bold_text_cost_nothing_loosely() -> None:
    asked = prompt(("starts_with", {"phrase": "Dear"}), ("json", {}), ("one_of", {"options": ["yes"]}))
    assert judge(asked, "Here it is:\nDear Tom").strict == [False, False, False]
    assert judge(asked, "Here it is:\nDear Tom").loose == [True, False, False]
    assert judge(asked, '```\n{"a": 1}\n```\nDone').loose == [False, True, False]
    assert judge(asked, "**yes**").loose == [False, False, True]


def test_a_form_without_a_word_follows_nothing() -> None:
    asked = prompt(("no_digits", {}), ("without_characters", {"characters": ","}))
    assert judge(asked, "7, 8").loose == [False, False]
    assert judge(asked, "").loose == [False, False]
