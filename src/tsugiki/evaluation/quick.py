"""The suite `quick` on a model by itself: built-in probes and bits per byte of texts, without data and extras.

The same questions are asked in the middle of training (`probes/while_training.py`), where the model is sharded and has
no cache. Here the choices of an item share their context, and items what they begin with: a third of the tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.backends import enough_memory, max_positions
from tsugiki.evaluation.code.problems import own_problems
from tsugiki.evaluation.journal import digest_of
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.probes.items import Probe
from tsugiki.evaluation.probes.score import ProbeResult, TextResult, probe_model
from tsugiki.evaluation.probes.suite import WRITTEN, quick_suite
from tsugiki.evaluation.results import Record
from tsugiki.evaluation_files import TaskResult
from tsugiki.model.bits_per_byte import DocumentScores, Ids, plan_windows, score_documents
from tsugiki.model.cached import CachedModel, Continuation, LogLikelihood
from tsugiki.model.cached.requests import require_finite
from tsugiki.model.device import DTYPES
from tsugiki.model.load import read_pretrained
from tsugiki.model.loss import TrainingModel

LONGEST_CONTEXT = 4096
"""Tokens of a window: with more before it, a token of a document hardly gets likelier."""

SHOWN = 200
"""Characters of a text that its record holds: enough to know it by."""

BUILT_IN = "our functions"
"""The built-in text of held-out code; no source of a recipe can have this name."""
BITS = "bits per byte"
CODE, OTHER = "code", "other"
"""The languages of program text, and of text that the recipe gives none: neither has sentences to make probes of."""

Texts = Mapping[str, tuple[str, Sequence[str]]]
"""By source: its language and documents."""
Begin = Callable[[str, int, int], None]
"""Told what is asked next, how many requests that are, and their tokens."""
Advance = Callable[[int], None]
"""Told of each answer: the tokens of its request."""


def evaluate_quick(
    model: NamedModel,
    texts: Texts,
    scratch: Path,
    *,
    add_bos: bool,
    probes: bool,
    limit: int | None,
    batch_tokens: int,
    dtype: str,
    device: str,
    begin: Begin = lambda what, requests, tokens: None,
    advance: Advance = lambda tokens: None,
) -> list[tuple[TaskResult, list[Record]]]:
    """Results with their records, of the first `limit` items and documents (all where it is None): where `probes`,
    those of English, Japanese and the texts' languages; then the texts and, as held-out code, the functions that the
    task `code` asks for. Each begins with BOS, or else with EOS, which separates documents in training."""
    tokenizer = TextTokenizer.from_folder(model.files)
    written = {name: text for name, text in texts.items() if text[0] not in (CODE, OTHER)}
    languages = [*WRITTEN, *(language for language, _ in written.values())]
    suite = {probe.name: probe for probe in quick_suite(languages, written)} if probes else {}
    asked_probes = [replace(probe, items=probe.items[:limit]) for probe in suite.values()]
    texts = {**texts, BUILT_IN: (CODE, [problem.prompt + problem.solution for problem in own_problems()])}
    asked = f"the model {model.source} and {batch_tokens:,} tokens at a time"
    with model.weights(scratch) as folder, enough_memory(asked):
        hf, _ = read_pretrained(folder, dtype=DTYPES[dtype], allow_pickle=model.allow_pickle)
        model_of_texts = TrainingModel(hf.to(device))
        with torch.no_grad():
            model_of_texts.probe_head(torch.arange(8, device=device)[None])
        bos_id = tokenizer.bos_id if add_bos else tokenizer.eos_id
        context = min(max_positions(model.files), LONGEST_CONTEXT)

        def of_texts(documents: Sequence[Ids], starts: Sequence[int]) -> DocumentScores:
            """A batch's worth of documents at a time, so that a wait is no silence."""
            begin("texts", len(documents), sum(map(len, documents)))
            parts = []
            for some in _batches(documents, batch_tokens):
                found = score_documents(
                    model_of_texts, documents[some], bos_id=bos_id, context=context, scored_from=starts[some],
                    batch_tokens=batch_tokens,
                )  # fmt: skip
                assert found is not None  # nothing asked it to stop
                parts.append(found)
                for ids in documents[some]:
                    advance(len(ids))
            return DocumentScores(
                *(np.concatenate([getattr(part, name) for part in parts]) for name in ("nats", "tokens"))
            )

        cached = CachedModel(hf, batch_tokens=batch_tokens, stop_ids=frozenset())
        of_probes = partial(score_sharing_contexts, cached, bos_id, context, begin=begin, advance=advance)
        shared = probe_model(of_probes, tokenizer, asked_probes) if asked_probes else None
        alone = probe_model(
            of_texts, tokenizer, (), {name: documents[:limit] for name, (_, documents) in texts.items()}
        )
    found = [*(shared or ()), *(alone or ())]  # where they were asked: nothing stops them
    for one in found:
        values = one.choice_bits if isinstance(one, ProbeResult) else one.nats
        require_finite(bool(np.isfinite(values).all()))
    results: list[tuple[TaskResult, list[Record]]] = []
    for one in found:
        if isinstance(one, ProbeResult):
            results.append((_probe_result(one, suite[one.name]), list(_probe_records(one, suite[one.name]))))
            bits = _truth_result(one, suite[one.name])
            truths = [(item.context, item.truth) for item in suite[one.name].items]
            results.append((bits, list(_text_records(bits, truths))))
        else:
            scored = _text_result(one, *texts[one.name])
            results.append((scored, list(_text_records(scored, [("", text) for text in texts[one.name][1] if text]))))
    return results


def _batches(documents: Sequence[Ids], tokens: int) -> Iterator[slice]:
    """Documents one after another, in runs of at least so many tokens."""
    start = held = 0
    for number, ids in enumerate(documents, start=1):
        held += len(ids)
        if held >= tokens or number == len(documents):
            yield slice(start, number)
            start, held = number, 0


def score_sharing_contexts(
    model: CachedModel,
    bos_id: int | None,
    context: int,
    documents: Sequence[Ids],
    starts: Sequence[int],
    *,
    begin: Begin = lambda what, requests, tokens: None,
    advance: Advance = lambda tokens: None,
) -> DocumentScores:
    """As `score_documents`, over the same windows, with what documents begin with in common computed once."""
    first = [] if bos_id is None else [bos_id]
    texts = [[*first, *(int(token) for token in ids)] for ids in documents]
    windows = plan_windows([len(text) for text in texts], context, None, [len(first) + start for start in starts])
    scores = DocumentScores(np.zeros(len(texts)), np.zeros(len(texts), np.int64))

    def done(i: int, found: LogLikelihood) -> None:
        window = windows[i]
        scores.nats[window.document] -= found.logprob
        scores.tokens[window.document] += window.end - window.scored_from
        advance(window.end - window.start)

    begin("questions", len(windows), sum(window.end - window.start for window in windows))
    requests = []
    for one in windows:
        text = texts[one.document]
        requests.append(Continuation(text[one.start : one.scored_from], text[one.scored_from : one.end]))
    model.score(requests, done)
    return scores


def _probe_result(one: ProbeResult, probe: Probe) -> TaskResult:
    return TaskResult(
        task=one.name, title=one.title, language=one.language, metric="accuracy", combine="mean", ids=one.ids,
        values=one.correct[:, None], total=len(probe.items), shots=0, chance=one.chance, digest=digest_of(repr(probe)),
    )  # fmt: skip


def _probe_records(one: ProbeResult, probe: Probe) -> Iterable[Record]:
    for item, bits, score in zip(probe.items[: len(one.ids)], one.choice_bits, one.correct, strict=True):
        yield {
            "task": one.name, "item": item.id, "prompt_hash": f"version {probe.version}", "prompt": item.context,
            "choices": [
                {"text": text, "bits_per_byte": float(value)} for text, value in zip(item.choices, bits, strict=True)
            ],
            "answer": item.choices[int(bits.argmin())], "gold": item.truth, "score": float(score),
        }  # fmt: skip


def _truth_result(one: ProbeResult, probe: Probe) -> TaskResult:
    """How likely the true continuations are, whatever the other choices: it moves smoothly where accuracy is chance."""
    return TaskResult(
        task=f"{one.name}_bits", title=one.title, language=f"{one.language}: bits per byte", metric=BITS,
        combine="bits_per_byte", ids=one.ids, values=np.stack([one.nats, one.bytes.astype(np.float64)], axis=1),
        total=len(probe.items), shots=0, digest=digest_of(repr(probe)),
    )  # fmt: skip


def _text_result(one: TextResult, language: str, documents: Sequence[str]) -> TaskResult:
    return TaskResult(
        task=f"text_{one.name}", title=one.name, language=f"{language}: bits per byte", metric=BITS,
        combine="bits_per_byte", ids=[str(number) for number in range(len(one.nats))],
        values=np.stack([one.nats, one.bytes.astype(np.float64)], axis=1), total=len(documents), shots=0,
        digest=digest_of(list(documents)),
    )  # fmt: skip


def _text_records(result: TaskResult, texts: Sequence[tuple[str, str]]) -> Iterable[dict[str, Any]]:
    """`texts`: what stands before the text of each item, and that text, whose beginning the record has."""
    for item, values, (before, text) in zip(result.ids, result.values, texts, strict=False):
        yield {
            "task": result.task, "item": item, "prompt_hash": "", "prompt": before, "gold": text[:SHOWN],
            "statistics": values.tolist(),
        }  # fmt: skip
