"""What computes: what a folder says of its model, weights loaded when they are needed, and memory that runs out."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_models import Naive

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation import backends
from tsugiki.evaluation.backends import configured_stops, max_positions, open_backend, place
from tsugiki.evaluation.models import find_model
from tsugiki.model.cached import Continuation, LogLikelihood, Prompt
from tsugiki.model.cached.call import cache_name

PROMPTS = [[1, 5 + number, 9, 40, 7 * number + 11] for number in range(6)]


def opened(folder: Path, scratch: Path, held: ExitStack, *, batch_tokens: int = 4096, name: str = "hf") -> Any:
    model = find_model(str(folder))
    tokenizer = TextTokenizer.from_folder(folder)
    return open_backend(name, model, tokenizer, scratch, held, batch_tokens=batch_tokens, dtype=None)


def scores(backend: Any) -> list[float]:
    found: dict[int, LogLikelihood] = {}
    backend.score([Continuation(prompt[:3], prompt[3:]) for prompt in PROMPTS], found.__setitem__)
    return [found[number].logprob for number in range(len(PROMPTS))]


def texts(backend: Any, count: int = 5) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    backend.generate([Prompt(prompt, count, lambda new: False) for prompt in PROMPTS], found.__setitem__)
    return [found[number] for number in range(len(PROMPTS))]


def test_weights_are_loaded_at_the_first_request_and_once(language_model, tmp_path, monkeypatch):
    loads = []
    original = backends.read_pretrained
    monkeypatch.setattr(backends, "read_pretrained", lambda *a, **k: loads.append(a) or original(*a, **k))
    naive = Naive(language_model())
    with ExitStack() as held:
        backend = opened(language_model(), tmp_path, held)
        assert not loads
        expected = []
        for prompt in PROMPTS:
            logits = naive.logits(prompt)[2:-1].log_softmax(-1)
            expected.append(sum(float(logits[i, token]) for i, token in enumerate(prompt[3:])))
        assert scores(backend) == pytest.approx(expected, abs=1e-4)
        assert texts(backend) == [naive.new_tokens(prompt, 5) for prompt in PROMPTS]
        assert len(loads) == 1


class Small:
    """A device whose memory holds `tokens` of input at a time, cache included."""

    def __init__(self, tokens: int):
        self.tokens, self.refusals = tokens, 0

    def read_pretrained(self, *arguments: Any, **settings: Any) -> Any:
        hf, rest = backends.__dict__["_original"](*arguments, **settings)
        forward = hf.forward

        def limited(*positional: Any, **named: Any) -> Any:
            ids, cache = named["input_ids"], named.get(cache_name(hf))
            columns = ids.shape[1] + (cache.get_seq_length() if cache is not None else 0)
            if len(ids) * columns > self.tokens:
                self.refusals += 1
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(*positional, **named)

        hf.forward = limited
        return hf, rest


@pytest.fixture
def memory(monkeypatch):
    """memory(tokens): every model loaded from now on runs out beyond that."""

    def limit(tokens: int) -> Small:
        small = Small(tokens)
        if "_original" not in backends.__dict__:
            monkeypatch.setattr(backends, "_original", backends.read_pretrained, raising=False)
        monkeypatch.setattr(backends, "read_pretrained", small.read_pretrained)
        return small

    return limit


def test_batches_are_halved_when_memory_runs_out_and_answers_stay(language_model, tmp_path, memory):
    with ExitStack() as held:
        backend = opened(language_model(), tmp_path, held)
        expected = scores(backend), texts(backend)
    small = memory(120)
    long = [prompt * 4 for prompt in PROMPTS]
    with ExitStack() as held:
        backend = opened(language_model(), tmp_path, held)
        found: dict[int, list[int]] = {}
        backend.generate([Prompt(prompt, 5, lambda new: False) for prompt in long], found.__setitem__)
        assert small.refusals > 0
        naive = Naive(language_model())
        assert [found[number] for number in range(6)] == [naive.new_tokens(prompt, 5) for prompt in long]
        assert scores(backend) == pytest.approx(expected[0], abs=1e-4)
        assert texts(backend) == expected[1]


def test_a_request_that_never_fits_is_one_message(language_model, tmp_path, memory):
    memory(80)  # the check of a new model fits, the request does not
    prompt = Prompt(list(range(3, 298)), 5, lambda new: False)
    with ExitStack() as held:
        backend = opened(language_model(), tmp_path, held)
        with pytest.raises(ModelError, match=r"memory does not suffice for one request of up to 299 tokens"):
            backend.generate([prompt], lambda number, new: None)


def test_a_model_that_does_not_fit_is_one_message(language_model, tmp_path, memory):
    memory(1)
    with ExitStack() as held, pytest.raises(ModelError, match=r"not suffice for the model .*mistral: .*bfloat16"):
        scores(opened(language_model(), tmp_path, held))


def test_end_tokens_are_those_of_all_files(language_model, tmp_path):
    folder = language_model()
    tokenizer = TextTokenizer.from_folder(folder)
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": [7, 2]}))
    assert configured_stops(tmp_path, tokenizer) == {2, 7}
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 9}))
    assert configured_stops(tmp_path, tokenizer) == {2, 7, 9}
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": None}))
    assert configured_stops(tmp_path, tokenizer) == {2, 9}


@pytest.mark.parametrize("name", ["mistral", "gemma3-multimodal", "gpt_neox"])
def test_positions_are_read_from_the_configuration(name, tiny_model_folder):
    assert max_positions(tiny_model_folder(name)) == 128


def test_a_configuration_without_positions_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mistral", "max_position_embeddings": 0}))
    with pytest.raises(ModelError, match=r"config\.json' does not say|config\.json does not say how many positions"):
        max_positions(tmp_path)


def test_the_place_is_the_dtype_asked_for_or_what_suits_the_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert place(None) == ("float32", "cpu")
    assert place("bfloat16") == ("bfloat16", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert place(None) == ("bfloat16", "cuda")
    with pytest.raises(RecipeError, match="--dtype int8: it is one of bfloat16, float16, float32"):
        place("int8")


def test_an_unknown_backend_is_refused(language_model, tmp_path):
    with ExitStack() as held, pytest.raises(RecipeError, match="--backend mlx: it is one of hf, vllm"):
        opened(language_model(), tmp_path, held, name="mlx")
