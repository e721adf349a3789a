"""Log-likelihoods and continuations of many requests at once against one uncached forward per request and token."""

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.errors import ModelError
from tsugiki.model.cached import CachedModel, Continuation, LogLikelihood, Prompt

STOP_IDS = frozenset({2, 9})
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("mistral", {}),
    "mistral, sliding window": ("mistral", {"sliding_window": 8}),
    "llama": ("llama", {}),
    "qwen2, some layers sliding": (
        "llama", {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {}),
    "gemma2": ("gemma2", {}),
    "gemma3": ("gemma3", {}),
    "gemma3-multimodal": ("gemma3-multimodal", {}),
    "phi3": ("phi3", {}),
    "gpt_neox": ("gpt_neox", {}),
    "granite": ("granite", {}),
    "mixtral": ("mixtral", {}),
    "mixtral with its router loss": ("mixtral", {"output_router_logits": True}),
    "qwen3_moe": ("qwen3_moe", {}),
    "deepseek_v3": ("deepseek_v3", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def model(load_plain: Callable[..., Any], tiny_model_folder: Callable[..., Path]) -> Callable[[str], Any]:
    """`model(name)`: one of NAMES, loaded once."""
    loaded: dict[str, Any] = {}

    def make(name: str) -> Any:
        if name not in loaded:
            base, changes = NAMES[name]
            loaded[name] = load_plain(tiny_model_folder(base, **changes))
        return loaded[name]

    return make


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefixes are split off wherever they save anything: texts are short here."""
    monkeypatch.setattr("tsugiki.model.cached.prefixes.LEAST_GAIN", 1)
    monkeypatch.setattr("tsugiki.model.cached.prefixes.SHORTEST", 1)


def naive_score(hf: Any, request: Continuation) -> LogLikelihood:
    hf.eval()
    tokens = [*request.context, *request.tokens]
    with torch.no_grad():
        logprobs = hf(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].double().log_softmax(dim=-1)
    places = range(len(request.context) - 1, len(tokens) - 1)
    total = sum(float(logprobs[place, tokens[place + 1]]) for place in places)
    return LogLikelihood(total, all(int(logprobs[place].argmax()) == tokens[place + 1] for place in places))


def naive_continuation(hf: Any, prompt: Prompt, stop_ids: frozenset[int] = STOP_IDS) -> list[int]:
    hf.eval()
    new: list[int] = []
    while len(new) < prompt.max_new_tokens:
        with torch.no_grad():
            logits = hf(input_ids=torch.tensor([[*prompt.tokens, *new]]), use_cache=False).logits[0, -1]
        if int(logits.argmax()) in stop_ids:
            break
        new.append(int(logits.argmax()))
        if prompt.stop(new):
            break
    return new


def assert_right_continuations(
    hf: Any, prompts: Sequence[Prompt], got: Sequence[list[int]], stop_ids: frozenset[int] = STOP_IDS
) -> None:
    """What `naive_continuation` gives, seen in one uncached forward over each prompt and its answer."""
    hf.eval()
    for prompt, new in zip(prompts, got, strict=True):
        with torch.no_grad():
            logits = hf(input_ids=torch.tensor([[*prompt.tokens, *new]]), use_cache=False).logits[0]
        likeliest = logits[len(prompt.tokens) - 1 :].argmax(dim=-1).tolist()
        for end in range(len(new)):
            assert new[end] == likeliest[end]
            assert new[end] not in stop_ids
            assert end == 0 or not prompt.stop(new[:end]), "it went on after its end"
        assert len(new) <= prompt.max_new_tokens
        ended = len(new) == prompt.max_new_tokens or likeliest[-1] in stop_ids or (new and prompt.stop(new))
        assert ended, "it ended too early"


def scores(model: CachedModel, requests: Sequence[Continuation]) -> list[LogLikelihood]:
    found: dict[int, LogLikelihood] = {}

    def done(i: int, result: LogLikelihood) -> None:
        assert i not in found, "reported twice"
        found[i] = result

    model.score(requests, done)
    return [found[i] for i in range(len(requests))]


def continuations(model: CachedModel, prompts: Sequence[Prompt]) -> list[list[int]]:
    found: dict[int, list[int]] = {}

    def done(i: int, new: list[int]) -> None:
        assert i not in found, "reported twice"
        found[i] = list(new)

    model.generate(prompts, done)
    return [found[i] for i in range(len(prompts))]


def assert_right_scores(hf: Any, requests: Sequence[Continuation], got: Sequence[LogLikelihood]) -> None:
    for request, result in zip(requests, got, strict=True):
        expected = naive_score(hf, request)
        assert result.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert result.greedy == expected.greedy


def words(source: random.Random, count: int) -> list[int]:
    return [source.randrange(10, 80) for _ in range(count)]


@functools.cache
def some_continuations(hf: Any, seed: int = 0) -> list[Continuation]:
    """Two nested prefixes, contexts that are parts of others, several continuations of most, some of them greedy."""
    source = random.Random(seed)
    examples = words(source, 48)
    longer = examples + words(source, 30)
    requests = []
    for start in [[1], examples, longer, examples[:30], examples, longer, [1]] * 2:
        context = start + words(source, source.randrange(0, 7))
        requests += [Continuation(context, words(source, source.choice([1, 1, 2, 6]))) for _ in range(3)]
        likeliest = Prompt(context, source.randrange(1, 4), lambda new: False)
        if greedy := naive_continuation(hf, likeliest):
            requests.append(Continuation(context, greedy))
    source.shuffle(requests)
    return requests


def some_prompts(seed: int = 0) -> list[Prompt]:
    """Prompts with two prefixes and without, of different lengths and budgets, some of which stop early."""
    source = random.Random(seed)
    examples = words(source, 48)
    longer = examples + words(source, 24)
    prompts = []
    for start in [[1], examples, longer, examples[:9], longer] * 3:
        ending = source.randrange(0, 100)
        prompts.append(
            Prompt(
                start + words(source, source.randrange(0, 9)),
                source.randrange(0, 24),
                lambda new, ending=ending: new[-1] == ending or len(new) > ending,  # type: ignore[misc]
            )
        )
    return prompts


@pytest.mark.parametrize("name", NAMES)
def test_scores_equal_one_uncached_forward_per_request(name: str, model: Callable[[str], Any]) -> None:
    hf = model(name)
    requests = some_continuations(hf)
    cached = CachedModel(hf, batch_tokens=256, stop_ids=STOP_IDS)
    assert cached.why_plain is None
    got = scores(cached, requests)
    assert_right_scores(hf, requests, got)
    assert 10 < sum(result.greedy for result in got) < len(got) - 10


@pytest.mark.parametrize("name", NAMES)
def test_continuations_equal_an_uncached_loop(name: str, model: Callable[[str], Any]) -> None:
    hf, prompts = model(name), some_prompts()
    first = naive_continuation(hf, prompts[0], frozenset())[0]
    stop_ids = frozenset({first, 9})  # so that one continuation at least ends before it begins
    cached = CachedModel(hf, batch_tokens=512, stop_ids=stop_ids)
    assert cached.why_plain is None
    got = continuations(cached, prompts)
    assert_right_continuations(hf, prompts, got, stop_ids)
    assert len({len(new) for new in got}) > 4
    assert [] in got


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_the_size_of_a_batch_changes_nothing(name: str, model: Callable[[str], Any]) -> None:
    hf = model(name)
    requests, prompts = some_continuations(hf, 1), some_prompts(1)
    one, other = (CachedModel(hf, batch_tokens=size, stop_ids=STOP_IDS) for size in (1, 10**6))
    for alone, together in zip(scores(one, requests), scores(other, requests), strict=True):
        assert alone.logprob == pytest.approx(together.logprob, abs=1e-5)
        assert alone.greedy == together.greedy
    assert continuations(one, prompts) == continuations(other, prompts)


@functools.cache
def cached_model(hf: Any) -> CachedModel:
    """Made once for all examples: the check of a model takes longer than one of them."""
    return CachedModel(hf, batch_tokens=1, stop_ids=STOP_IDS)


tokens = st.lists(st.integers(10, 40), max_size=30)


@st.composite
def related_texts(draw: st.DrawFn) -> list[list[int]]:
    """Token sequences that begin with parts of each other."""
    texts = [[1, *draw(tokens)]]
    for _ in range(draw(st.integers(1, 10))):
        source = draw(st.sampled_from(texts))
        texts.append((source[: draw(st.integers(1, len(source)))] + draw(tokens))[:90])
    return texts


@pytest.mark.parametrize("name", ["mistral", "mistral, sliding window"])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=related_texts(), cuts=st.lists(st.integers(1, 100), min_size=11, max_size=11), size=st.integers(1, 400))
def test_any_requests_are_scored_and_continued_rightly(
    name: str, model: Callable[[str], Any], texts: list[list[int]], cuts: list[int], size: int
) -> None:
    hf = model(name)
    cached = cached_model(hf)
    cached.batch_tokens = size
    ends = [1 + cut % len(text) for cut, text in zip(cuts, texts, strict=False)]
    requests = [Continuation(text[:end], text[end:]) for end, text in zip(ends, texts, strict=True)]
    assert_right_scores(hf, requests, scores(cached, requests))
    prompts = [
        Prompt(text[:end], cut % 9, lambda new: new[-1] % 5 == 0)
        for end, text, cut in zip(ends, texts, cuts, strict=False)
    ]
    assert_right_continuations(hf, prompts, continuations(cached, prompts))


# --- what is saved ------------------------------------------------------------------------------------------------


class Meter:
    """Counts what goes through the model: [rows, columns] of each call, and rows of hidden states in its head."""

    def __init__(self, hf: Any, monkeypatch: pytest.MonkeyPatch):
        self.calls: list[tuple[int, int]] = []
        self.headed = 0
        head = hf.get_output_embeddings()
        forward, project = hf.forward, head.forward

        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls.append(tuple(named["input_ids"].shape))
            return forward(*arguments, **named)

        def projected(hidden: torch.Tensor) -> torch.Tensor:
            self.headed += hidden[..., 0].numel()
            return project(hidden)

        monkeypatch.setattr(hf, "forward", counted)
        monkeypatch.setattr(head, "forward", projected)

    def reset(self) -> None:
        self.calls, self.headed = [], 0

    @property
    def tokens(self) -> int:
        return sum(rows * columns for rows, columns in self.calls)


def test_a_common_prefix_and_a_context_are_read_once_and_few_positions_reach_the_head(
    model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, source = model("llama"), random.Random(3)
    cached = CachedModel(hf, batch_tokens=128, stop_ids=STOP_IDS)
    meter = Meter(hf, monkeypatch)
    examples = words(source, 80)
    requests = []
    for number in range(20):
        context = [*examples, number + 10, *words(source, 19)]
        requests += [Continuation(context, [digit]) for digit in range(5)]
        requests.append(Continuation(context, words(source, 4)))
    scores(cached, requests)
    assert meter.tokens <= 80 + 20 * (20 + 3) + 40  # at most a little padding
    # One for each context, three more inside the longer continuation, one for the prefix in each of its calls.
    assert 20 * 4 <= meter.headed <= 20 * 4 + 2


def test_finished_rows_leave_and_waiting_prompts_move_up(
    model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf, source = model("llama"), random.Random(4)
    cached = CachedModel(hf, batch_tokens=4 * 40, stop_ids=frozenset())
    meter = Meter(hf, monkeypatch)
    budgets = [20, 2, 2, 2, 2, 2, 2, 2]
    prompts = [
        Prompt([number + 10, *words(source, 19)], 20, lambda new, budget=budget: len(new) == budget)  # type: ignore[misc]
        for number, budget in enumerate(budgets)
    ]
    got = continuations(cached, prompts)
    assert [len(new) for new in got] == budgets
    steps = [rows for rows, columns in meter.calls if columns == 1]
    # The first token of each comes from reading its prompt; no row is computed after its last token.
    assert sum(steps) == sum(budgets) - len(budgets)
    assert max(steps) == 4
    assert steps[-1] == 1


@pytest.mark.parametrize("kind", ["llama", "mistral"])
def test_room_is_reckoned_by_what_answers_are_expected_to_take(
    kind: str, model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rows fit where one would if each could take all that it may, and one that does changes no answer."""
    hf, source = model(kind), random.Random(5)
    cached, meter = CachedModel(hf, batch_tokens=4 * 24, stop_ids=frozenset()), Meter(hf, monkeypatch)
    tokens = [[number + 10, *words(source, 19)] for number in range(8)]
    budgets = [4, 4, 40, 4, 4, 4, 4, 4]

    def asked(expected: int | None) -> list[list[int]]:
        meter.calls.clear()
        return continuations(
            cached,
            [
                Prompt(one, 60, lambda new, budget=budget: len(new) == budget, expected)  # type: ignore[misc]
                for one, budget in zip(tokens, budgets, strict=True)
            ],
        )

    alone = asked(None)
    assert max(rows for rows, _ in meter.calls) == 1
    assert asked(4) == alone
    assert max(rows for rows, columns in meter.calls if columns == 1) == 4
    assert [len(new) for new in alone] == budgets


# --- what goes wrong ----------------------------------------------------------------------------------------------


def fail_above(hf: Any, monkeypatch: pytest.MonkeyPatch, limit: int, error: Exception) -> list[int]:
    """Let `hf` raise `error` for more than `limit` tokens; returns the sizes that failed."""
    failed: list[int] = []
    forward = hf.forward

    def limited(*arguments: Any, **named: Any) -> Any:
        if named["input_ids"].numel() > limit:
            failed.append(named["input_ids"].numel())
            raise error
        return forward(*arguments, **named)

    monkeypatch.setattr(hf, "forward", limited)
    return failed


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_batches_are_halved_when_memory_runs_out_and_stay_so(
    error: Exception, model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = model("llama")
    requests, prompts = some_continuations(hf), some_prompts()
    cached = CachedModel(hf, batch_tokens=1000, stop_ids=STOP_IDS)
    with monkeypatch.context() as patch:
        failed = fail_above(hf, patch, 70, error)
        got, new = scores(cached, requests), continuations(cached, prompts)
        assert failed
        assert cached.batch_tokens < 1000
        failed.clear()
        scores(cached, requests)
        assert not failed
    assert_right_scores(hf, requests, got)
    assert_right_continuations(hf, prompts, new)


def test_one_request_too_many_for_memory_is_named_with_a_remedy(
    model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = model("llama")
    cached = CachedModel(hf, batch_tokens=1000, stop_ids=STOP_IDS)
    fail_above(hf, monkeypatch, 0, torch.OutOfMemoryError("CUDA out of memory"))
    for ask in (
        lambda: scores(cached, [Continuation([1] * 30, [3])]),
        lambda: continuations(cached, [Prompt([1] * 30, 3, lambda new: False)]),
    ):
        with pytest.raises(ModelError, match=r"one request of up to \d+ tokens: load the model in bf16"):
            ask()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("something else")])
def test_other_errors_pass_and_what_is_known_has_been_told(
    error: BaseException, model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    hf = model("llama").train()
    cached = CachedModel(hf, batch_tokens=64, stop_ids=STOP_IDS)
    told: list[int] = []

    def done(i: int, _: LogLikelihood) -> None:
        told.append(i)
        if len(told) == 5:
            raise error

    with pytest.raises(type(error)):
        cached.score(some_continuations(hf), done)
    assert len(told) == 5
    assert cached.batch_tokens == 64


def test_the_mode_of_the_model_is_left_as_it_was(model: Callable[[str], Any]) -> None:
    hf = model("llama")
    for training in (True, False):
        hf.train(training)
        cached = CachedModel(hf, batch_tokens=64, stop_ids=STOP_IDS)
        assert hf.training is training
        scores(cached, [Continuation([1, 20], [30])])
        continuations(cached, [Prompt([1, 20], 3, lambda new: False)])
        assert hf.training is training
        assert "forward" not in hf.get_output_embeddings().__dict__


def test_nothing_asked_is_answered_at_once_and_empty_or_too_long_requests_are_refused(
    model: Callable[[str], Any],
) -> None:
    cached = CachedModel(model("llama"), batch_tokens=64, stop_ids=STOP_IDS)
    assert scores(cached, [Continuation([1, 5], [])]) == [LogLikelihood(0.0, True)]
    assert continuations(cached, [Prompt([1, 5], 0, lambda new: False)]) == [[]]
    assert scores(cached, []) == []
    with pytest.raises(ModelError, match="no BOS token"):
        scores(cached, [Continuation([], [5, 6])])
    with pytest.raises(ModelError, match="no BOS token"):
        continuations(cached, [Prompt([], 5, lambda new: False)])
    assert len(continuations(cached, [Prompt([1] * 100, 28, lambda new: False)])) == 1
    with pytest.raises(ValueError, match="129 tokens for a model of 128 positions"):
        scores(cached, [Continuation([1] * 100, [5] * 30)])
    with pytest.raises(ValueError, match="129 tokens for a model of 128 positions"):
        continuations(cached, [Prompt([1] * 100, 30, lambda new: False)])


def test_many_logits_are_asked_for_piece_by_piece(model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    hf = model("mistral")
    requests = [Continuation([1], words(random.Random(5), 100))]
    cached = CachedModel(hf, batch_tokens=1000, stop_ids=STOP_IDS)
    meter = Meter(hf, monkeypatch)
    monkeypatch.setattr("tsugiki.model.cached.call.MOST_LOGITS", 101 * 15)
    monkeypatch.setattr("tsugiki.model.cached.scores._SOFTMAX_ENTRIES", 101 * 4)
    got = scores(cached, requests)
    assert max(columns for _, columns in meter.calls) <= 15
    assert_right_scores(hf, requests, got)
