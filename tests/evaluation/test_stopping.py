"""When an answer ends, seen in its text: with several tokenizers, one of them extended."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import extend_sentencepiece, sentencepiece_base
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bases import llama3_like, qwen_like, real_mistral

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.stopping import Answer


def extended(folder: Path) -> Path:
    return extend_sentencepiece(sentencepiece_base(folder / "base"), folder / "extended")


MAKERS = [real_mistral, llama3_like, qwen_like, extended]


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__, scope="module")
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    return TextTokenizer.from_folder(request.param(tmp_path_factory.mktemp("tokenizer") / "tokenizer"))


def written(answer: Answer, ids: list[int]) -> tuple[list[int], bool]:
    """The tokens up to where the answer is over."""
    new: list[int] = []
    for token in ids:
        new.append(token)
        if answer.is_over(new):
            return new, True
    return new, False


def continuation(tokenizer: TextTokenizer, prompt: str, text: str) -> tuple[list[int], list[int]]:
    before = tokenizer.encode(prompt)
    whole = tokenizer.encode(prompt + text)
    assert whole[: len(before)] == before
    return before, whole[len(before) :]


@pytest.mark.parametrize(
    ("prompt", "text", "until", "expected"),
    [
        ("Question: who?\nAnswer:", " Natsume Soseki\nQuestion: next", ["\n"], " Natsume Soseki"),
        ("Q: x?\nA:", " I think Question: no", ["Question:", "</s>"], " I think "),
        ("Q: x?\nA:", " one, two. three", ["\n", ".", ","], " one"),
        ("答え：", "吾輩は猫である。\n\n次の問題", ["\n\n"], "吾輩は猫である。"),
    ],
)
def test_ends_at_the_first_stop_string_and_not_before(
    tokenizer: TextTokenizer, prompt: str, text: str, until: list[str], expected: str
):
    before, after = continuation(tokenizer, prompt, text)
    answer = Answer(tokenizer, before, until, None)
    new, over = written(answer, after)
    assert over
    assert answer.text(new, ended=True) == (expected, "stop")
    assert not Answer(tokenizer, before, until, None).is_over(new[:-1])


def test_a_stop_string_may_be_cut_into_any_tokens(tokenizer: TextTokenizer):
    """`###` written as three tokens ends an answer as well as written as one."""
    before = tokenizer.encode("Answer:")
    pieces = [tokenizer.encode("a#")[-1:]] * 3
    new = [*tokenizer.encode("x")[-1:], *(token for piece in pieces for token in piece)]
    answer = Answer(tokenizer, before, ["###"], None)
    found, over = written(answer, new)
    assert over
    assert len(found) == len(new)
    assert answer.text(found, ended=False)[1] == "stop"


def test_without_stop_the_reason_is_the_end_token_or_the_budget(tokenizer: TextTokenizer):
    before, after = continuation(tokenizer, "Answer:", " forty two")
    answer = Answer(tokenizer, before, ["\n"], None)
    assert written(answer, after) == (after, False)
    assert answer.text(after, ended=True) == (" forty two", "end")
    assert answer.text(after, ended=False) == (" forty two", "tokens")
    assert answer.text([], ended=True) == ("", "end")


@settings(max_examples=40)
@given(text=st.text("猫でáあ🙂 ab\n", min_size=1, max_size=12), limit=st.integers(min_value=1, max_value=12))
def test_budget_is_in_whole_characters(tokenizer: TextTokenizer, text: str, limit: int):
    prompt = "答え:"
    before, whole = tokenizer.encode(prompt), tokenizer.encode(prompt + text)
    if whole[: len(before)] != before:
        return
    answer = Answer(tokenizer, before, [], limit)
    new, over = written(answer, whole[len(before) :])
    found, reason = answer.text(new, ended=True)
    assert found == text[:limit]
    assert over == (len(text) >= limit)
    assert reason == ("characters" if over else "end")


def test_spaces_at_the_beginning_are_kept(tokenizer: TextTokenizer):
    """SentencePiece drops the space of a text that it decodes by itself."""
    before, after = continuation(tokenizer, "The answer is", " yes")
    assert Answer(tokenizer, before, [], None).text(after, ended=True)[0] == " yes"


Make = Callable[[Path], Any]
