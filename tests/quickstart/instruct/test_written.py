"""The written conversations: their form, their languages, and that nothing held out is among those trained on."""

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest

from tsugiki.quickstart.instruct.written import TEXT, written

FILES = sorted(TEXT.glob("*.jsonl"))
JAPANESE = re.compile("[\u3005-\u3007\u3041-\u309f\u30a0-\u30ff\u3400-\u9fff]")
LATIN = re.compile("[A-Za-zĀ-ſ]")


def answers(example):
    return [content for role, content in example.messages if role == "assistant"]


def questions(example):
    return tuple((role, content) for role, content in example.messages if role != "assistant")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_line_is_one_conversation_in_messages_form(path):
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert "\r" not in text
    assert unicodedata.normalize("NFC", text) == text
    for line in text.splitlines():
        record = json.loads(line)
        assert set(record) == {"messages"}
        assert json.dumps(record, ensure_ascii=False) == line
        assert all(set(message) == {"role", "content"} for message in record["messages"])


def test_roles_alternate_and_nothing_is_empty():
    for example in written() + written(held_out=True):
        roles = [role for role, _ in example.messages]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2), example
        assert turns, example
        for _, content in example.messages:
            assert content, example
            assert content == content.strip(), example


def test_there_are_as_many_as_promised():
    examples = written()
    for language in ("en", "ja"):
        mine = [example for example in examples if example.language == language]
        assert len(mine) >= 250
        assert sum(len(answers(example)) > 1 for example in mine) >= 80
        assert sum(example.messages[0][0] == "system" for example in mine) >= 50
        held_out = [example for example in written(held_out=True) if example.language == language]
        assert len(held_out) == 30


def test_answers_are_short():
    lengths = [len(answer) for example in written() for answer in answers(example)]
    assert max(lengths) <= 300
    assert sum(length < 200 for length in lengths) > 0.99 * len(lengths)


def test_no_conversation_stands_twice_and_no_held_out_question_is_trained():
    examples = written() + written(held_out=True)
    counts = Counter(example.messages for example in examples)
    assert max(counts.values()) == 1
    asked = {questions(example) for example in written()}
    assert len(asked) >= 0.98 * len(written())
    for example in written(held_out=True):
        assert questions(example) not in asked, example
        system = [message for message in example.messages if message[0] == "system"]
        turns = example.messages[len(system) :]
        for user in (message for message in turns if message[0] == "user"):
            assert not any(_asks(other, system, user) for other in written()), example


def _asks(example, system, user):
    """Whether a conversation asks the same under the same system message, in any turn."""
    return [message for message in example.messages if message[0] == "system"] == system and user in example.messages


REWORDED = 10


@pytest.mark.parametrize("language", ["en", "ja"])
def test_first_held_out_answers_are_stated_in_training(language):
    """A small model can only say what it was told: these show whether it understands another wording."""
    trained = "\n".join(answer for example in written() if example.language == language for answer in answers(example))
    held_out = [example for example in written(held_out=True) if example.language == language]
    stated = [example for example in held_out[:REWORDED] if example.answer() in trained]
    assert len(stated) == REWORDED, [example.answer() for example in held_out[:REWORDED] if example not in stated]


def test_english_is_english_and_japanese_is_japanese():
    for example in written() + written(held_out=True):
        text = "".join(content for _, content in example.messages)
        japanese, latin = len(JAPANESE.findall(text)), len(LATIN.findall(text))
        if example.kind == "lists":  # translations among them
            continue
        share = japanese / (japanese + latin)
        if example.language == "en":
            assert share == 0, example
        else:
            assert share > 0.6, example


def test_translations_are_few():
    for language in ("en", "ja"):
        lists = [example for example in written() if (example.language, example.kind) == (language, "lists")]
        mixed = [
            example
            for example in lists
            if JAPANESE.search(str(example.messages)) and re.search("[A-Za-z]{2}", _contents(example))
        ]
        assert 10 <= len(mixed) <= 20
        others = "".join(_contents(example) for example in lists if example not in mixed)
        assert not (JAPANESE if language == "en" else LATIN).search(others)


def _contents(example):
    return "".join(content for _, content in example.messages)


def test_japanese_is_typeset_as_japanese():
    """Full-width punctuation in Japanese, brackets closed, the wave dash and the like not mixed."""
    for example in written() + written(held_out=True):
        for role, content in example.messages:
            assert not re.search("[\ufffd\u200b\u3000$]", content.replace("（　）", "")), content
            for opening, closing in ("「」", "（）", "()"):
                assert content.count(opening) == content.count(closing), content
            if example.language == "ja":
                assert not re.search("[\u3041-\u9fff][,.!?;:]", content), content
                if role == "user" and "「" not in content:
                    assert not re.search("[!?]$", content), content
            else:
                assert not re.search("[“”‘’]", content), content


def test_no_message_holds_what_templates_use():
    for example in written() + written(held_out=True):
        for _, content in example.messages:
            assert not re.search(r"<\||\|>|\[/?INST\]|<</?SYS>>|</?s>|^(?:user|assistant|system):", content, re.I)


def test_lines_are_not_glued_together():
    """A message that continues over lines does so for lists, verse and speech alone."""
    for example in written():
        for _, content in example.messages:
            lines = content.split("\n")
            assert all(line == line.strip() and line for line in lines), content
            assert len(lines) <= 5
            assert all(first != second for first, second in pairwise(lines))
