"""The suite quick on a model by itself: its records against a plain loop, item by item and document by document."""

import math

import numpy as np
import pytest
import torch
from evaluation_models import Naive, Quiet

from tsugiki.errors import ModelError
from tsugiki.evaluation import quick
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.quick import evaluate_quick, score_sharing_contexts
from tsugiki.evaluation.run import Settings, evaluate
from tsugiki.evaluation_files import read_records, read_results
from tsugiki.model.bits_per_byte import score_documents
from tsugiki.model.cached import CachedModel
from tsugiki.model.loss import TrainingModel
from tsugiki.statistics import score_interval

TEXTS = {
    "novels.jsonl": (
        "ja",
        ["川は自分が作った谷を覚えていて、谷もまた川を覚えている。", "汽車は七時に出た。", "朝の市場。"],
    ),
    "notes.txt": ("en", ["She wrote down what the instrument showed.", "The train left at seven."]),
}


@pytest.fixture(scope="module")
def found(language_model, tmp_path_factory):
    """The folder and the result of three items of each."""
    settings = Settings(suite="quick", limit=3, batch_tokens=256)
    output = tmp_path_factory.mktemp("quick")
    said: list[str] = []
    ((folder, result),) = evaluate([find_model(str(language_model()))], settings, output, said.append, Quiet(), TEXTS)
    assert sum(line.startswith("scored ") for line in said) == len(result.tasks)
    return folder, result


def test_choices_of_every_probe_equal_a_plain_loop(found, language_model):
    folder, result = found
    naive = Naive(language_model(), bos=1)
    probes = [task for task in result.tasks.values() if task.combine == "mean"]
    assert {task.language for task in probes} >= {"en", "ja"}
    for task in probes:
        assert len(task.ids) == 3 < task.total
        of_truth = []
        for place, record in enumerate(read_records(folder, task.task)):
            bits = []
            for choice in record["choices"]:
                logprob, _ = naive.logprob(record["prompt"], choice["text"])
                bits.append(-logprob / math.log(2) / len(choice["text"].encode()))
                assert choice["bits_per_byte"] == pytest.approx(bits[-1], rel=1e-4)
                if choice["text"] == record["gold"]:
                    of_truth.append((-logprob, len(choice["text"].encode())))
            answer = record["choices"][int(np.argmin(bits))]["text"]
            assert record["answer"] == answer
            assert record["score"] == task.values[place, 0] == float(answer == record["gold"])
        np.testing.assert_allclose(result.tasks[f"{task.task}_bits"].values, of_truth, rtol=1e-4)


def test_bits_per_byte_of_texts_equal_a_plain_loop(found, language_model):
    _, result = found
    naive = Naive(language_model())
    for name, (language, documents) in TEXTS.items():
        task = result.tasks[f"text_{name}"]
        nats = [-sum(_logprobs(naive, [1, *naive.encode(text)])) for text in documents]
        sizes = [len(text.encode()) for text in documents]
        np.testing.assert_allclose(task.values, np.stack([nats, sizes], axis=1), rtol=1e-5)
        assert score_interval(task.sample).estimate == pytest.approx(sum(nats) / math.log(2) / sum(sizes), rel=1e-5)
        assert not task.higher_is_better
        assert task.language.startswith(language)


def test_texts_may_be_asked_alone(found, language_model, tmp_path):
    _, whole = found
    settings = Settings(suite="quick", tasks=["texts"], limit=3, batch_tokens=256)
    ((_, result),) = evaluate([find_model(str(language_model()))], settings, tmp_path, [].append, Quiet(), TEXTS)
    assert list(result.tasks) == [name for name in whole.tasks if name.startswith("text_")]
    for name, task in result.tasks.items():
        np.testing.assert_allclose(task.values, whole.tasks[name].values, rtol=1e-5)


def _logprobs(naive, ids):
    logits = naive.logits(ids)[:-1].log_softmax(-1)
    return [float(logits[place, token]) for place, token in enumerate(ids[1:])]


def test_shared_contexts_change_no_score_and_are_computed_once(language_model):
    """Choices and whole texts, some of them longer than the window, against the windows that share nothing."""
    hf = Naive(language_model()).hf
    random = np.random.default_rng(0)
    stem, long = random.integers(3, 60, 30), random.integers(3, 60, 90)
    documents = [[*stem, *random.integers(3, 60, 5)] for _ in range(8)] + [[*long, 5, 6], [*long, 7], [*long[:9]]]
    starts = [30] * 8 + [90, 90, 0]
    computed = []
    cached = CachedModel(hf, batch_tokens=256, stop_ids=frozenset())
    hook = hf.get_input_embeddings().register_forward_hook(lambda _, ids, __: computed.append(ids[0].numel()))
    for context, share in ((200, 0.5), (40, 0.9)):
        alone = score_documents(TrainingModel(hf), documents, bos_id=1, context=context, scored_from=starts)
        computed.clear()
        shared = score_sharing_contexts(cached, 1, context, documents, starts)
        np.testing.assert_allclose(shared.nats, alone.nats, rtol=1e-5)
        np.testing.assert_array_equal(shared.tokens, alone.tokens)
        assert sum(computed) < share * sum(min(len(ids), context) for ids in documents)
    hook.remove()


def test_whoever_waits_is_told_of_questions_and_texts_to_the_last_token(language_model, tmp_path, monkeypatch):
    batches = []
    score = quick.score_documents
    monkeypatch.setattr(
        quick, "score_documents", lambda m, ids, **kept: batches.append(len(ids)) or score(m, ids, **kept)
    )
    progress = Quiet()
    texts = {"a.txt": ("en", ["The train left at seven. " * 12] * 9)}
    settings = Settings(suite="quick", limit=9, batch_tokens=512)
    ((_, result),) = evaluate([find_model(str(language_model()))], settings, tmp_path, [].append, progress, texts)
    assert [what.split("  ")[1] for what, _, _ in progress.begun] == ["questions", "texts"]
    assert progress.tokens == sum(tokens for _, _, tokens in progress.begun)
    assert progress.begun[1][1] == sum(batches) == 9 + 9  # those of the functions
    assert len(batches) > 3
    rows = result.tasks["text_a.txt"].values
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), rtol=1e-6)


def test_results_are_read_back_with_the_header(found):
    folder, result = found
    again = read_results(folder)
    assert again.suite == "quick"
    assert list(again.tasks) == list(result.tasks)
    assert (again.header["limit"], again.header["backend"]["batch_tokens"]) == (3, 256)


def test_memory_that_runs_out_is_one_message(language_model, tmp_path, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(quick, "probe_model", full)
    with pytest.raises(ModelError, match=r"not suffice for the model .* and 99 tokens at a time: .*--batch-tokens"):
        evaluate_quick(
            find_model(str(language_model())), {}, tmp_path,
            add_bos=True, probes=True, limit=1, batch_tokens=99, dtype="float32", device="cpu",
        )  # fmt: skip
