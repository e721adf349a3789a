"""Tasks through lm-eval on tiny models: scores and records against plain loops and lm-eval's own backend."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Naive, join_folders, open_lm
from evaluation_tasks import load_task, requests
from rouge_score import rouge_scorer

from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation.data import MissingData
from tsugiki.evaluation.harness import Harness
from tsugiki.evaluation.metrics.fuzzy import fuzzy_ratio

CHOICES = ["jcommonsenseqa", "openbookqa", "hellaswag", "xwinograd_en"]


def run(lm, name, data, *, limit=3, shots=None, own=None, profile="default"):
    harness = Harness(profile, data, own=own, shots=shots)
    task = harness.load(name)
    return harness.run(task, lm, limit=limit)


# Scores and records.


@pytest.mark.parametrize("architecture", ["mistral", "llama", "qwen3", "gemma2", "mixtral"])
def test_likelihood_tasks_equal_a_plain_loop_item_by_item(architecture, language_model, official_data, tmp_path):
    folder = language_model(architecture)
    naive = Naive(folder)
    with open_lm(folder, tmp_path) as lm:
        for name in CHOICES if architecture == "mistral" else CHOICES[::2]:
            task = load_task(f"tsugiki_{name}", official_data)
            result, records = run(lm, f"tsugiki_{name}", official_data, limit=2, shots=2)
            assert [record["item"] for record in records] == result.ids == [item["id"] for item in task.eval_docs][:2]
            for place, record in enumerate(records):
                pairs = requests(task, place, 2)
                expected = [naive.logprob(*pair) for pair in pairs]
                assert [one["logprob"] for one in record["choices"]] == pytest.approx(
                    [e[0] for e in expected], abs=1e-4
                )
                assert [one["greedy"] for one in record["choices"]] == [greedy for _, greedy in expected]
                assert record["answer"] == int(np.argmax([one for one, _ in expected]))
                gold = task.eval_docs[place]["label"]
                assert record["score"] == result.values[place, 0] == float(record["answer"] == gold)
                assert [record["prompt"], *(one["text"] for one in record["choices"])] == [
                    pairs[0][0], *(continuation for _, continuation in pairs)
                ]  # fmt: skip


def test_generation_tasks_equal_a_plain_loop_and_are_scored_from_it(language_model, official_data, tmp_path):
    folder = language_model()
    naive = Naive(folder)
    task = load_task("swallow_jemhopqa", official_data)
    with open_lm(folder, tmp_path) as lm:
        result, records = run(lm, "swallow_jemhopqa", official_data, profile="swallow")
    assert (result.shots, result.total, result.metric) == (4, 12, "fuzzy_ratio")
    for place, record in enumerate(records):
        ((prompt, settings),) = requests(task, place)
        assert record["prompt"] == prompt
        assert record["output"] == naive.text(prompt, 15, settings["until"])
        assert record["output_tokens"] == 15
        item = task.eval_docs[place]
        assert (record["item"], record["gold"]) == (item["id"], item["answer"])
        assert record["score"] == fuzzy_ratio(record["answer"], item["answer"]) == result.values[place, 0]
        assert not record["truncated"]


def test_two_contexts_of_one_continuation_stand_in_the_record(language_model, official_data, tmp_path):
    with open_lm(language_model(), tmp_path) as lm:
        _, (record, *others) = run(lm, "tsugiki_xwinograd_en", official_data, limit=3, shots=0)
    assert all(each["score"] == float(each["answer"] == each["gold"]) for each in (record, *others))
    one, other = record["choices"]
    assert one["text"] == other["text"]
    assert record["prompt"] != other["prompt"]
    assert "prompt" not in one


def test_a_limit_takes_the_first_items_and_more_items_change_no_answer(language_model, official_data, tmp_path):
    with open_lm(language_model(), tmp_path) as lm:
        _, few = run(lm, "tsugiki_openbookqa", official_data, limit=2)
        asked = len(lm.journal)
        _, all_of = run(lm, "tsugiki_openbookqa", official_data, limit=None)
        assert len(lm.journal) == asked * 6  # 12 items: no old one is asked again
    assert all_of[:2] == few


# Published and properly measured XL-Sum: the model's own tokens, and articles that are too long.


def rouge_of_tokens(naive: Naive, gold: str, output: str) -> float:
    class Tokens:
        def tokenize(self, text: str) -> list[str]:
            return [str(token) for token in naive.encode(text)]

    scorer = rouge_scorer.RougeScorer(["rouge2"], tokenizer=Tokens())
    return scorer.score(gold, output)["rouge2"].fmeasure


def test_published_xlsum_is_rouge_over_the_tokens_of_the_model(language_model, official_data, tmp_path):
    folder = language_model()
    task = load_task("swallow_xlsum_ja", official_data)
    gold = task.eval_docs[1]["summary"]

    class Quoting:
        """Writes the end of a gold summary: something that scores."""

        def generate(self, prompts, done):
            for number, _ in enumerate(prompts):
                done(number, naive.encode(gold[: 6 + number * 4]))

    naive = Naive(folder)
    with open_lm(folder, tmp_path) as lm:
        lm.engine = Quoting()
        result, records = run(lm, "swallow_xlsum_ja", official_data, profile="swallow")
    assert result.metric == "rouge2_model_tokens"
    expected = [rouge_of_tokens(naive, item["summary"], record["output"]) for item, record in zip(task.eval_docs, records, strict=False)]  # fmt: skip
    assert result.values[:, 0] == pytest.approx(expected)
    assert [record["score"] for record in records] == pytest.approx(expected)
    assert max(expected) > 0.1
    assert records[1]["rouge2"] != pytest.approx(expected[1])  # MeCab's words, which other models share


@pytest.mark.parametrize(
    ("profile", "name", "spare"), [("default", "tsugiki_xlsum_ja", 150), ("swallow", "swallow_xlsum_ja", -200)]
)
def test_articles_too_long_are_cut_by_the_tasks_rule(profile, name, spare, language_model, official_data, tmp_path):
    """The prompt that the record holds is the one that the model read."""
    from tsugiki.evaluation.prompts import shorten

    folder = language_model()
    naive = Naive(folder)
    task = load_task(name, official_data)
    budget = task.config.generation_kwargs.get("max_gen_toks", 256)
    whole = requests(task, 0, 4)[0][0]
    length = len(naive.encode(whole)) + spare
    with open_lm(folder, tmp_path, max_length=length) as lm:
        result, (record,) = run(lm, name, official_data, profile=profile, limit=1, shots=4)
    item = task.eval_docs[0]
    shots = task.sampler.sample(4, eval_doc=item)
    rule = task.config.metadata["shorten"]
    expected = shorten(rule, item, shots, naive.encode, naive.tokenizer.decode, length, budget)
    assert record["truncated"]
    assert record["prompt"] == expected != whole
    # The published rule leaves room for the summary alone, so that the beginning may go as well.
    ids = naive.encode(expected)[-(length - budget) :]
    assert record["prompt_tokens"] == len(ids)
    before = naive.tokenizer.decode(ids)
    whole = naive.tokenizer.decode([*ids, *naive.new_tokens(ids, record["output_tokens"])])
    assert whole[len(before) :].startswith(record["output"])
    assert result.notes[-1] == f"1 prompts were too long for {length:,} tokens and were shortened"


def test_mgsm_leaves_out_shots_that_do_not_fit(language_model, official_data, tmp_path):
    folder = language_model()
    naive = Naive(folder)
    task = load_task("tsugiki_mgsm_ja", official_data)
    budget = task.config.generation_kwargs["max_gen_toks"]
    two = len(naive.encode(requests(task, 0, 2)[0][0])) + budget
    with open_lm(folder, tmp_path, max_length=two + 3) as lm:
        _, (record,) = run(lm, "tsugiki_mgsm_ja", official_data, limit=1)
    assert record["prompt"] == requests(task, 0, 2)[0][0]
    assert record["truncated"]


# lm-eval's own backend.


def compare_with_peer(folder: Path, data: Path, scratch: Path, *, limit: int, add_bos: bool = False) -> list[str]:
    """Raise AssertionError unless every answer equals that of lm-eval's backend; what was found, a line a task."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=4, add_bos_token=add_bos)
    lines = []
    with open_lm(folder, scratch, add_bos=add_bos) as lm:
        for name in CHOICES[1:]:
            harness = Harness("default", data, own=None, shots=None)
            task = harness.load(f"tsugiki_{name}")
            _, records = harness.run(task, lm, limit=limit)
            found = evaluate(
                lm=theirs, task_dict={"tasks": {task.config.task: task}, "groups": {}, "group_map": {}}, limit=limit,
                bootstrap_iters=0, log_samples=True,
            )  # fmt: skip
            samples = found["samples"][task.config.task]
            ours = np.array([[one["logprob"] for one in record["choices"]] for record in records])
            other = np.array([[float(one[0][0]) for one in sample["resps"]] for sample in samples])
            assert np.abs(ours - other).max() < 1e-4
            assert (ours.argmax(1) == other.argmax(1)).all()
            assert [record["item"] for record in records] == [sample["doc"]["id"] for sample in samples]
            assert [record["score"] for record in records] == [sample["acc"] for sample in samples]
            greedy = [[one["greedy"] for one in record["choices"]] for record in records]
            assert greedy == [[bool(one[0][1]) for one in sample["resps"]] for sample in samples]
            lines.append(
                f"{name}: {len(records)} items, {ours.size} log-probabilities between {ours.min():.1f} and "
                f"{ours.max():.1f}, largest difference {np.abs(ours - other).max():.1e}, all choices equal"
            )
    return lines


@pytest.mark.parametrize("add_bos", [False, True])
def test_likelihood_tasks_equal_lm_evals_own_backend(add_bos, language_model, official_data, tmp_path):
    assert len(compare_with_peer(language_model(), official_data, tmp_path, limit=4, add_bos=add_bos)) == 3


@pytest.mark.slow
def test_likelihood_tasks_equal_lm_evals_own_backend_on_a_real_model(evaldata, tmp_path):
    """TSUGIKI_REAL_MODEL names the folder."""
    folder = os.environ.get("TSUGIKI_REAL_MODEL")
    if not folder:
        pytest.skip("set TSUGIKI_REAL_MODEL to a model folder")
    for line in compare_with_peer(Path(folder), evaldata, tmp_path, limit=20):
        print(line)


# Task files of one's own.

OWN = """\
task: colours
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder}/colours.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["red", "blue", "green"]
doc_to_target: label
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 2
  title: Colours
  language: en
  headline: acc
"""


def own_folder(folder: Path, text: str = OWN) -> Path:
    """Twenty lines of YAML and three items."""
    folder.mkdir(exist_ok=True)
    lines = [{"question": f"The colour of thing {number} is", "label": number} for number in range(3)]
    (folder / "colours.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (folder / "colours.yaml").write_text(text.format(folder=folder), encoding="utf-8")
    return folder


def test_a_task_of_ones_own_runs(language_model, official_data, tmp_path):
    own = own_folder(tmp_path / "own")
    naive = Naive(language_model())
    with open_lm(language_model(), tmp_path) as lm:
        result, records = run(lm, "colours", official_data, own=own, limit=None)
        harness = Harness("default", official_data, own=own, shots=None)
        assert "colours" in harness.names
        assert "tsugiki_gsm8k" in harness.names
        assert (harness.title("colours"), harness.language("colours")) == ("Colours", "en")
        facts = harness.facts(harness.load("colours"))
    assert (facts["version"], facts["total"], facts["comparable"]) == (2, 3, True)
    assert (result.title, result.language, result.total, result.shots, result.metric) == ("Colours", "en", 3, 0, "acc")
    assert result.ids == ["0", "1", "2"]
    for number, record in enumerate(records):
        prompt = f"The colour of thing {number} is"
        expected = [naive.logprob(prompt, f" {choice}")[0] for choice in ("red", "blue", "green")]
        assert [one["logprob"] for one in record["choices"]] == pytest.approx(expected, abs=1e-4)
        assert record["score"] == float(np.argmax(expected) == number)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("task: colours", "task: [colours"), r"own/colours\.yaml: no task file: ParserError"),
        (("task: colours", "task: colours\ninclude: nowhere.yaml"), r"own/colours\.yaml: .*nowhere\.yaml"),
        (("task: colours", "task: tsugiki_jsquad"), r"own/colours\.yaml: the name tsugiki_jsquad is kept"),
        ((OWN, "- a list\n"), r"own/colours\.yaml: no task file: .*"),
    ],
)
def test_a_task_file_that_lm_eval_would_leave_out_is_named(change, told, official_data, tmp_path):
    own = own_folder(tmp_path / "own", OWN.replace(*change))
    with pytest.raises(RecipeError, match=told):
        Harness("default", official_data, own=own, shots=None)


def test_a_folder_of_task_files_that_is_not_there_is_named(official_data, tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere: no such folder"):
        Harness("default", official_data, own=tmp_path / "nowhere", shots=None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("headline: acc", "headline: f1"), r"task colours: metadata\.headline is 'f1', and its items have only acc"),
        (("{{{{question}}}}", "{{{{question | nothing}}}}"), r"task colours .*: .*nothing"),
        (
            ("metric: acc\n", "metric: no_such_metric\n"),
            r"task colours: the metric no_such_metric is not lm-eval's own",
        ),
        (("output_type: multiple_choice", "output_type: guess"), r"task colours .*guess"),
        (("colours.jsonl", "nowhere.jsonl"), r"task colours cannot be loaded: .*nowhere\.jsonl"),
        (("metric: acc\n", "metric: acc\n    hf_evaluate: true\n"), r"task colours: the metric acc .* from the hub"),
        (
            ("doc_to_target: label", "doc_to_target: violet"),
            r"task colours, item 0: the gold answer 'violet' is none of",
        ),
        (("version: 2", "version: 2\n  combine: median"), r"task colours.*median"),
        (("headline: acc", "headlne: acc"), r"task colours: metadata\.headlne is no key .*; the nearest is headline"),
        (("version: 2", "version: 2\n  max_context: many"), r"task colours failed: TypeError"),
    ],
)
def test_what_is_wrong_in_a_task_file_is_one_message(change, told, language_model, official_data, tmp_path):
    own = own_folder(tmp_path / "own", OWN.replace(*change))
    with open_lm(language_model(), tmp_path) as lm, pytest.raises(RecipeError, match=told) as caught:
        run(lm, "colours", official_data, own=own)
    assert "\n" not in str(caught.value)


def test_a_gold_answer_that_is_no_choice_is_named_with_its_item(language_model, official_data, tmp_path):
    own = own_folder(tmp_path / "own")
    path = own / "colours.jsonl"
    path.write_text(path.read_text("utf-8").replace('"label": 2', '"label": 7'), encoding="utf-8")
    with (
        open_lm(language_model(), tmp_path) as lm,
        pytest.raises(RecipeError, match=r"colours, item 2: .* 7 is none of its 3"),
    ):
        run(lm, "colours", official_data, own=own, limit=None)


# What can be wrong with data.


def test_a_missing_set_is_told_as_such_through_lm_eval(tmp_path):
    with pytest.raises(MissingData, match=r"jsquad: none of its files.*tsugiki data fetch jsquad"):
        Harness("default", tmp_path, own=None, shots=None).load("tsugiki_jsquad")


def test_a_malformed_item_is_told_with_file_and_line(tmp_path):
    from evaluation_data import gsm8k

    gsm8k(tmp_path)
    path = tmp_path / "gsm8k/test.jsonl"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([*lines[:2], '{"question": "?"}', *lines[3:]]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"gsm8k/test\.jsonl.*(line 3|:3).*answer"):
        Harness("default", tmp_path, own=None, shots=None).load("tsugiki_gsm8k")
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"gsm8k/test\.jsonl"):
        Harness("default", tmp_path, own=None, shots=None).load("tsugiki_gsm8k")


def test_more_shots_than_there_are_is_told(language_model, official_data, tmp_path):
    with open_lm(language_model(), tmp_path) as lm, pytest.raises(DataError, match=r"50 shots.*--shots"):
        run(lm, "tsugiki_gsm8k", official_data, shots=50)


def test_files_and_shots_of_a_result_are_stated(official_data):
    harness = Harness("swallow", official_data, own=None, shots=None)
    facts = harness.facts(harness.load("swallow_jcommonsenseqa"))
    assert sorted(facts["files"]) == ["jcommonsenseqa/train-v1.1.json", "jcommonsenseqa/valid-v1.1.json"]
    assert len(facts["shot_ids"]) == facts["shots"] == 4
    assert not facts["comparable"]
    assert "12 of 1,119 items" in facts["notes"]


def test_another_number_of_shots_is_set(official_data):
    harness = Harness("default", official_data, own=None, shots=2)
    assert harness.load("tsugiki_gsm8k").config.num_fewshot == 2
    assert harness.facts(harness.load("tsugiki_gsm8k"))["shots"] == 2


@pytest.fixture
def no_end(language_model, tiny_tokenizer_folder, tmp_path) -> Path:
    """A model whose tokenizer names neither BOS nor EOS."""
    folder = join_folders(tmp_path / "no-end", language_model(), tiny_tokenizer_folder)
    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    state["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


def test_a_tokenizer_without_bos_and_eos_serves(no_end, official_data, tmp_path):
    naive = Naive(no_end)
    with open_lm(no_end, tmp_path) as lm:
        _, records = run(lm, "tsugiki_triviaqa", official_data, limit=1, shots=1)
        run(lm, "tsugiki_openbookqa", official_data, limit=1)
    assert records[0]["output"] == naive.text(records[0]["prompt"], 240, ["\n"])[:80]
