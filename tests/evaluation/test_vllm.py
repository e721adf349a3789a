"""The second backend over a module that behaves as vLLM does and computes with a tiny Hugging Face model."""

import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from evaluation_models import Naive, Quiet

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError
from tsugiki.evaluation.backends import open_backend
from tsugiki.evaluation.models import find_model
from tsugiki.model.cached import Continuation, Prompt


@dataclass
class SamplingParams:
    """The parameters that are used; vLLM refuses any other name as Python does."""

    temperature: float = 1.0
    max_tokens: int = 16
    prompt_logprobs: int | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True


class LLM:
    """`vllm.LLM` for prompts in ids: greedy answers that include the end token, log-probabilities as dictionaries."""

    opened: list[dict[str, Any]] = []  # noqa: RUF012 - what each was opened with, for the test

    def __init__(self, model: str, **settings: Any):
        LLM.opened.append(settings)
        self.naive, self.max_model_len, self.asked = Naive(Path(model)), settings["max_model_len"], 0

    def generate(self, prompts: Any, parameters: list[SamplingParams], use_tqdm: bool) -> list[Any]:
        assert len(prompts) == len(parameters)
        assert not use_tqdm
        return [self._answer(prompt["prompt_token_ids"], one) for prompt, one in zip(prompts, parameters, strict=True)]

    def _answer(self, ids: list[int], asked: SamplingParams) -> Any:
        assert asked.temperature == 0
        assert asked.max_tokens >= 1
        if len(ids) + asked.max_tokens > self.max_model_len:
            raise ValueError(f"a prompt of {len(ids)} tokens for {self.max_model_len} positions")
        self.asked += 1
        logprobs = None
        if asked.prompt_logprobs is not None:
            logits = self.naive.logits(ids)[:-1].log_softmax(-1)
            logprobs = [None, *(_entry(row, token) for row, token in zip(logits, ids[1:], strict=True))]
        new = self.naive.new_tokens(ids, asked.max_tokens, ends=asked.stop_token_ids)
        if len(new) < asked.max_tokens:
            new.append(int(self.naive.logits([*ids, *new])[-1].argmax()))  # the end token is part of the output
        return SimpleNamespace(prompt_logprobs=logprobs, outputs=[SimpleNamespace(token_ids=tuple(new))])


def _entry(row: torch.Tensor, token: int) -> dict[int, Any]:
    """The likeliest token and the prompt's own, each with its rank from 1."""
    entry = {}
    for one in (int(row.argmax()), token):
        entry[one] = SimpleNamespace(logprob=float(row[one]), rank=1 + int((row > row[one]).sum()))
    return entry


@pytest.fixture
def fake_vllm(monkeypatch):
    LLM.opened.clear()
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=SamplingParams))


@pytest.fixture
def both(language_model, tmp_path, fake_vllm):
    """The two backends of one model."""
    model = find_model(str(language_model()))
    tokenizer = TextTokenizer.from_folder(model.files)
    with ExitStack() as held:
        yield [
            open_backend(name, model, tokenizer, tmp_path, held, batch_tokens=1024, dtype=None)
            for name in ("hf", "vllm")
        ]


def answers(backend, ask, requests):
    found = {}
    getattr(backend, ask)(requests, found.__setitem__)
    return [found[number] for number in range(len(requests))]


def test_scores_equal_those_of_transformers(both):
    likely = answers(both[0], "generate", [Prompt([1, 9, 30], 3, lambda new: False)])[0]
    requests = [Continuation([1, 5, 8 + number], [20 + number, 4, 9][: number % 3 + 1]) for number in range(9)]
    requests.append(Continuation([1, 9, 30], likely))
    ours, theirs = (answers(backend, "score", requests) for backend in both)
    assert [one.logprob for one in theirs] == pytest.approx([one.logprob for one in ours], abs=1e-4)
    assert [one.greedy for one in theirs] == [one.greedy for one in ours]
    assert ours[-1].greedy


@pytest.mark.parametrize("rounds", [1, 3, 32])
def test_texts_equal_those_of_transformers_whatever_the_round(rounds, both, monkeypatch):
    monkeypatch.setattr("tsugiki.evaluation.vllm.ROUND_TOKENS", rounds)
    monkeypatch.setattr("tsugiki.evaluation.vllm.REQUESTS", 4)
    told: list[tuple[int, ...]] = []

    def stop(limit):
        def over(new):
            told.append(tuple(new))
            return len(new) >= limit

        return over

    requests = [Prompt([1, 5, 8 + number], 3 + number, stop(2 * number + 1)) for number in range(7)]
    ours, theirs = (answers(backend, "generate", requests) for backend in both)
    assert ours == theirs
    assert [len(new) for new in theirs] == [min(3 + number, 2 * number + 1) for number in range(7)]


def test_an_end_token_is_no_part_of_the_answer(both, language_model):
    naive = Naive(language_model())
    prompt = [1, 9, 30]
    written = naive.new_tokens(prompt, 6)
    both[1]._opened()._stop_ids = [written[3]]
    (new,) = answers(both[1], "generate", [Prompt(prompt, 6, lambda new: False)])
    assert new == written[: written.index(written[3])]


def test_it_runs_through_the_runner_with_the_same_scores(language_model, official_data, tmp_path, fake_vllm):
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation.run import Settings, evaluate
    from tsugiki.evaluation_files import read_records

    records, headers = {}, {}
    for name in ("hf", "vllm"):
        settings = Settings(tasks=["openbookqa", "jemhopqa"], data_dir=official_data, limit=2, shots=1, backend=name)
        ((folder, result),) = evaluate(
            [find_model(str(language_model()))], settings, tmp_path / name, lambda text: None, Quiet(), {}
        )
        records[name] = [one for task in result.tasks for one in read_records(folder, task)]
        headers[name] = result.header["backend"]["name"]
    assert headers == {"hf": "hf", "vllm": "vllm"}
    for ours, theirs in zip(records["hf"], records["vllm"], strict=True):
        choices = zip(ours.pop("choices", []), theirs.pop("choices", []), strict=True)
        assert all(one["logprob"] == pytest.approx(other["logprob"], abs=1e-4) for one, other in choices)
        assert ours == theirs
    (opened,) = LLM.opened
    assert opened["trust_remote_code"] is False
    assert opened["load_format"] == "safetensors"  # nothing is unpickled
    assert opened["dtype"] == "float32"


def test_a_prompt_that_fills_the_context_fits(language_model, official_data, tmp_path, fake_vllm):
    """vLLM reads the last token of a continuation too, and writes one more."""
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation.run import Settings, evaluate
    from tsugiki.evaluation_files import TaskResult

    model = find_model(str(language_model(max_position_embeddings=128)))
    settings = Settings(
        tasks=["hellaswag", "triviaqa"], data_dir=official_data, suite="default", limit=2, backend="vllm"
    )
    ((_, result),) = evaluate([model], settings, tmp_path, lambda text: None, Quiet(), {})
    scored = result.tasks["tsugiki_hellaswag"]
    assert isinstance(scored, TaskResult)
    assert "2 prompts were too long for 126 tokens" in scored.notes[-1]


def test_without_vllm_the_command_that_installs_it_is_named(language_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    model = find_model(str(language_model()))
    tokenizer = TextTokenizer.from_folder(model.files)
    with ExitStack() as held, pytest.raises(RecipeError, match=r"vllm is needed .*: pip install vllm"):
        open_backend("vllm", model, tokenizer, tmp_path, held, batch_tokens=64, dtype=None)
