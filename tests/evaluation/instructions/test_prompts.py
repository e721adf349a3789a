"""Our own prompts: enough of them, well formed, and each of them answerable, which answers written by hand show."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tsugiki.errors import DataError
from tsugiki.evaluation.instructions.languages import language_of
from tsugiki.evaluation.instructions.prompts import LANGUAGES, own_prompts, read_prompts
from tsugiki.evaluation.instructions.scoring import judge
from tsugiki.evaluation.instructions.verifiers import COMMON, ENGLISH, JAPANESE

OF_LANGUAGE = {
    "en": [*COMMON, *(f"en:{name}" for name in ENGLISH)],
    "ja": [*COMMON, *(f"ja:{name}" for name in JAPANESE)],
}
EVASIONS = {"en": "I am sorry, but I cannot help with that.", "ja": "申し訳ありませんが、お答えできません。"}


def answers(language: str) -> dict[str, str]:
    """Answers to our prompts, written by hand without looking at what a verifier counts."""
    lines = Path(__file__).with_name(f"answers_{language}.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["answer"] for row in map(json.loads, lines)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_are_enough_prompts_and_every_verifier_is_asked_for(language: str) -> None:
    prompts = own_prompts(language)
    assert len(prompts) >= 170
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    asked = Counter(instruction.id for prompt in prompts for instruction in prompt.instructions)
    assert set(asked) == set(OF_LANGUAGE[language])
    assert min(asked.values()) >= 3
    for prompt in prompts:
        assert language_of(prompt.text) == prompt.language == language
        assert prompt.text == prompt.text.strip()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_instructions_of_each_prompt_can_be_followed_together(language: str) -> None:
    written = answers(language)
    for prompt in own_prompts(language):
        assert judge(prompt, written[prompt.id]).strict == [True] * len(prompt.instructions), prompt
    assert len(written) == len(own_prompts(language))


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_answer_that_does_not_follow_is_found_out(language: str) -> None:
    """What is merely forbidden is avoided by an answer beside the point; most prompts ask for something to be there."""
    prompts = own_prompts(language)
    written = answers(language)
    evaded = [all(judge(prompt, EVASIONS[language]).strict) for prompt in prompts]
    others = [all(judge(prompt, written[prompts[place - 20].id]).strict) for place, prompt in enumerate(prompts)]
    assert sum(evaded) / len(prompts) < 0.2
    assert sum(others) / len(prompts) < 0.2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "1", "language": "en", "prompt": "a", "instructions": []}', "line 2: no instruction"),
        ('{"id": "1", "language": "en", "prompt": "a", "instructions": [{"id": "rhyme"}]}', 'line 2: no instruction is called "rhyme"; there are keywords'),
        ('{"id": "1", "language": "en", "prompt": "a", "instructions": [{"words": ["b"]}]}', "line 2: no instruction is called null"),
        ('{"id": "1", "language": "en", "prompt": "a", "instructions": [{"id": "keywords"}]}', "line 2: keywords needs words"),
        ('{"id": "1", "prompt": "a", "instructions": []}', "line 2: language is missing"),
        ('{"id": "0", "language": "en", "prompt": "a", "instructions": [{"id": "json"}]}', "two prompts have the id '0'"),
    ],
)  # fmt: skip
def test_a_line_in_error_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "mine.jsonl"
    first = '{"id": "0", "language": "en", "prompt": "Write JSON.", "instructions": [{"id": "json"}]}'
    path.write_text(f"{first}\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_prompts(path)
