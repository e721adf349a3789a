"""A model's functions: written greedily, cut, run, compared."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError
from tsugiki.evaluation.code import judge
from tsugiki.evaluation.code.judge import greedy
from tsugiki.evaluation.code.problems import Case, CodeProblem, own_problems
from tsugiki.evaluation.code.tasks import run_code
from tsugiki.evaluation.encoding import Encoder
from tsugiki.evaluation.journal import Journal
from tsugiki.model.cached.model import CachedModel

PROMPT = 'def twice(n: int) -> int:\n    """Return n times two."""\n'
CASES = (Case((2,), ["int", 4]), Case((0,), ["int", 0]))


def test_a_perfect_author_passes_and_others_are_told_why() -> None:
    right = own_problems()[:4]
    bodies = {problem.prompt: problem.solution + "\n\nprint('never run')\n" for problem in right}
    answers = {
        "wrong": "    return n + 2\n", "raises": "    return n.value\n", "nothing": "",
    }  # fmt: skip
    others = [CodeProblem(name, f"# {name}\n{PROMPT}", "twice", "    return 2 * n\n", CASES) for name in answers]
    bodies |= {problem.prompt: answers[problem.id] for problem in others}
    result, records = run_code(
        "code",
        [*right, *others],
        lambda prompts: [bodies[prompt] for prompt in prompts],
        limit=None,
        allow_code_execution=True,
    )
    assert result.values.tolist() == [[1]] * 4 + [[0]] * 3
    assert result.ids == [problem.id for problem in [*right, *others]]
    found = {record["item"]: record for record in records}
    assert found["wrong"]["error"] == "twice(0) gave ['int', 2], not ['int', 0]"
    assert found["raises"]["error"] == "AttributeError: 'int' object has no attribute 'value'"
    assert found["nothing"]["error"] == "twice(2) gave ['None', None], not ['int', 4]"
    assert found[right[0].id]["answer"] == right[0].solution
    assert found[right[0].id]["output"].endswith("print('never run')\n")
    assert found[right[0].id]["error"] is None


def test_nothing_is_written_and_nothing_runs_without_permission() -> None:
    with pytest.raises(RecipeError, match="off by default"):
        run_code("code", own_problems(), lambda _: pytest.fail("asked"), limit=1, allow_code_execution=False)


@pytest.fixture(scope="module")
def model(tiny_language_model_folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_language_model_folder, dtype=torch.float32).eval()


def test_greedy_completion_is_the_likeliest_token_each_time(
    model: Any, tiny_language_model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the body is over, which is soon with a model that writes what comes."""
    monkeypatch.setattr(judge, "MAX_NEW_TOKENS", 40)
    tokenizer = TextTokenizer.from_folder(tiny_language_model_folder)
    prompts, written = ["def f(x):\n", "def g(y):\n    return y\n\n\ndef f(x):\n    "], []
    for prompt in prompts:
        ids, text = [tokenizer.bos_id, *tokenizer.encode(prompt)], ""
        while len(text) < 40 and not re.search(r"^\S", text, re.MULTILINE):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            text = tokenizer.decode(ids)[len(tokenizer.decode(ids[: len(tokenizer.encode(prompt)) + 1])) :]
        written.append(text)
    engine, encoder = (
        CachedModel(model, batch_tokens=400, stop_ids=frozenset()),
        Encoder(tokenizer, add_bos=True, max_length=400),
    )
    with Journal(tmp_path / "journal.jsonl") as journal:
        completed = greedy(engine, encoder, journal, "code", numerics=())(prompts)
        for found, expected in zip(completed, written, strict=True):
            assert found[: len(expected)] == expected
            assert expected
        assert greedy(None, encoder, journal, "code", numerics=())(prompts) == completed, (
            "an answer in the journal is not asked again"
        )


def test_a_generator_that_writes_on_is_stopped_when_the_body_is_over(
    tiny_language_model_folder: Path, tmp_path: Path
) -> None:
    tokenizer = TextTokenizer.from_folder(tiny_language_model_folder)
    wanted = tokenizer.encode("    return x\n\n\ndef g(): pass\n")

    class Recited:
        def generate(self, requests: Any, done: Any) -> None:
            for index, request in enumerate(requests):
                new: list[int] = []
                while len(new) < request.max_new_tokens and not request.stop(new):
                    new.append(wanted[len(new)])
                done(index, new)

    encoder = Encoder(tokenizer, add_bos=True, max_length=400)
    with Journal(tmp_path / "journal.jsonl") as journal:
        (written,) = greedy(Recited(), encoder, journal, "code", numerics=())(["def f(x):\n"])
    assert written == "    return x\n\n\nd"
