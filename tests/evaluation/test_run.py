"""Models evaluated as a whole: every task runs, a second run asks only for what is new, and errors are the user's."""

import json
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Naive, Quiet, join_folders
from safetensors.torch import load_file, save_file

from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.evaluation import backends, run
from tsugiki.evaluation.journal import Journal
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings, labels
from tsugiki.evaluation_files import MissingTask, TaskResult, read_records, read_results
from tsugiki.recipe import DataSection
from tsugiki.recipe_evaluation import DATA_DIR, EvaluationSection

ITEMS = {
    "jcommonsenseqa": 1119, "jemhopqa": 120, "niilc": 198, "jsquad": 4442, "mgsm_ja": 250, "wmt20_en_ja": 1000,
    "wmt20_ja_en": 993, "openbookqa": 500, "triviaqa": 3000, "hellaswag": 10042, "squad2": 6078, "xwinograd_en": 2325,
    "gsm8k": 1319,
}  # fmt: skip
"""Of the files in the data folder, as the reference counts them."""


DATA = DataSection.model_validate({"sequence_length": 32, "sources": {"a": {"path": "a.jsonl", "weight": 1}}})


def evaluate(model, data, output, tasks=None, *, suite="default", said=None, progress=None, **settings):
    """The folder and the result of one model."""
    ((folder, result),) = run.evaluate(
        [find_model(str(model))], Settings(suite=suite, tasks=tasks, data_dir=data, **settings), output,
        (said if said is not None else []).append, progress or Quiet(), {},
    )  # fmt: skip
    return folder, result


def journal_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder.parent / "journal.jsonl").read_text("utf-8").splitlines()]


def asked(folder: Path) -> list[tuple]:
    """Key of each answer in a journal; no question may be there twice."""
    keys = [(one["task"], one["item"], one["part"], one["digest"]) for one in journal_lines(folder)]
    assert len(set(keys)) == len(keys)
    return keys


@pytest.fixture
def no_weights(monkeypatch):
    """Any attempt to load weights fails."""

    def refuse(*_, **__):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(backends, "read_pretrained", refuse)


@pytest.mark.parametrize("suite", ["default", "swallow"])
def test_thirteen_tasks_run_on_the_real_items_and_their_counts_are_the_references(
    suite, language_model, evaldata, tmp_path
):
    # Room for the longest prompts of JSQuAD in the pieces of 384, and short answers: every other token ends one.
    model = language_model(max_position_embeddings=8192, eos_token_id=list(range(2, 384, 2)))
    said: list[str] = []
    folder, result = evaluate(model, evaldata, tmp_path, suite=suite, limit=2, said=said)
    prefix = {"default": "tsugiki", "swallow": "swallow"}[suite]
    missing = result.tasks.pop(f"{prefix}_xlsum_ja")
    assert isinstance(missing, MissingTask)
    assert "xlsum_ja: none of its files" in missing.reason
    assert {name: task.total for name, task in result.tasks.items()} == {
        f"{prefix}_{name}": count for name, count in ITEMS.items()
    }
    for name, task in result.tasks.items():
        assert isinstance(task, TaskResult)
        records = list(read_records(folder, name))
        assert [record["item"] for record in records] == task.ids
        assert len(set(task.ids)) == 2
        assert not any(record["truncated"] for record in records)
        assert all(record["prompt_tokens"] > 0 for record in records)
        assert result.header["tasks"][name]["files"]
    assert sum(line.startswith("scored ") for line in said) == 13
    assert sum(line.startswith("missing ") for line in said) == 1
    assert read_results(folder).tasks.keys() == {*result.tasks, f"{prefix}_xlsum_ja"}
    asked(folder)


@pytest.mark.parametrize("suite", ["default", "swallow"])
def test_xlsum_runs_on_files_of_its_official_form(suite, language_model, official_data, tmp_path):
    folder, result = evaluate(language_model(), official_data, tmp_path, ["xlsum_ja"], suite=suite, limit=2)
    (task,) = result.tasks.values()
    assert (task.total, len(task.ids), task.shots) == (12, 2, 1)
    assert task.metric == ("rouge2_model_tokens" if suite == "swallow" else "rouge2")
    records = read_records(folder, task.task)
    assert all(record["prompt"].endswith("要約:") and "ニュース記事:" in record["prompt"] for record in records)


def test_the_header_reproduces(language_model, official_data, tmp_path):
    model = language_model()
    _, result = evaluate(model, official_data, tmp_path, ["openbookqa", "gsm8k"], limit=1, batch_tokens=777)
    header = json.loads(json.dumps(result.header))
    assert header["model"]["source"] == str(model)
    assert header["model"]["fingerprint"] == find_model(str(model)).fingerprint
    assert header["backend"] == {"name": "hf", "dtype": "float32", "device": "cpu", "batch_tokens": 777}
    assert (header["suite"], header["limit"], header["decoding"]) == ("default", 1, "greedy")
    assert (header["add_bos"], header["bos_id"]) == (True, 1)
    for package in ("tsugiki", "torch", "transformers", "lm_eval", "sacrebleu", "python"):
        assert header["versions"][package]
    tasks = header["tasks"]
    assert list(tasks) == ["tsugiki_openbookqa", "tsugiki_gsm8k"]
    assert len(tasks["tsugiki_gsm8k"]["shot_ids"]) == 4
    assert list(tasks["tsugiki_gsm8k"]["files"]) == ["gsm8k/test.jsonl", "gsm8k/train.jsonl"]


@pytest.mark.parametrize(
    ("suite", "asked_for", "expected"),
    [("default", None, True), ("swallow", None, False), ("default", False, False), ("swallow", True, True)],
)
def test_bos_is_the_suites_rule_or_what_was_asked_for(
    suite, asked_for, expected, language_model, official_data, tmp_path
):
    folder, result = evaluate(
        language_model(), official_data, tmp_path, ["openbookqa"], suite=suite, limit=1, shots=0, add_bos=asked_for
    )
    assert result.header["add_bos"] is expected
    (record,) = read_records(folder, next(iter(result.tasks)))
    naive = Naive(language_model(), bos=1 if expected else None)
    found = [one["logprob"] for one in record["choices"]]
    assert found == pytest.approx(
        [naive.logprob(record["prompt"], one["text"])[0] for one in record["choices"]], abs=1e-4
    )


# Asking again.

TASKS = ["openbookqa", "jemhopqa"]


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in (folder / "records").iterdir()}
    scores = json.loads((folder / "scores.json").read_text("utf-8"))
    del scores["header"]["date"]
    return files | {"scores": json.dumps(scores).encode()}


def test_a_second_run_loads_no_weights_and_writes_the_same(language_model, official_data, tmp_path, request):
    folder, _ = evaluate(language_model(), official_data, tmp_path, TASKS, limit=3)
    before, journal = contents(folder), (folder.parent / "journal.jsonl").read_bytes()
    shutil.rmtree(folder)
    request.getfixturevalue("no_weights")
    again, _ = evaluate(language_model(), official_data, tmp_path, TASKS, limit=3)
    assert again == folder
    assert contents(folder) == before
    assert (folder.parent / "journal.jsonl").read_bytes() == journal


@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_what_a_killed_run_had_answered_is_not_asked_again(kept, language_model, official_data, tmp_path):
    folder, _ = evaluate(language_model(), official_data, tmp_path / "whole", TASKS, limit=4)
    journal = (folder.parent / "journal.jsonl").read_bytes()
    cut = tmp_path / "cut" / folder.parent.name
    cut.mkdir(parents=True)
    (cut / "journal.jsonl").write_bytes(journal[: int(len(journal) * kept)])  # in the middle of a line
    known = journal[: int(len(journal) * kept)].count(b"\n")
    progress = Quiet()
    again, _ = evaluate(language_model(), official_data, tmp_path / "cut", TASKS, limit=4, progress=progress)
    for name in ("tsugiki_openbookqa", "tsugiki_jemhopqa"):
        for one, other in zip(read_records(again, name), read_records(folder, name), strict=True):
            for choice, expected in zip(one.pop("choices", []), other.pop("choices", []), strict=True):
                assert choice.pop("logprob") == pytest.approx(expected.pop("logprob"), abs=1e-4)  # other batches
                assert choice == expected
            assert one == other
    assert sorted(asked(again)) == sorted(asked(folder))
    assert sum(requests for _, requests, _ in progress.begun) == len(asked(folder)) - known


def test_another_limit_asks_only_for_what_is_new_and_other_shots_for_all(language_model, official_data, tmp_path):
    def requests(**settings) -> int:
        progress = Quiet()
        evaluate(language_model(), official_data, tmp_path, ["jemhopqa"], progress=progress, **settings)
        return sum(count for _, count, _ in progress.begun)

    assert requests(limit=3) == 3
    assert requests(limit=5) == 2
    assert requests(limit=2) == 0
    assert requests(limit=5, shots=1) == 5
    assert requests(limit=5) == 0
    assert requests(limit=5, add_bos=False) == 5


def test_what_is_asked_in_several_runs_comes_together(language_model, official_data, tmp_path, monkeypatch):
    """A later run takes nothing from an earlier one: a smaller one lies beside it, other tasks come to it."""

    def run_of(tasks, **settings):
        folder, _ = evaluate(language_model(), official_data, tmp_path, tasks, **settings)
        found = read_results(folder)
        assert {path.stem for path in (folder / "records").iterdir()} == found.scored().keys()
        assert found.header["tasks"].keys() == found.tasks.keys()
        return folder, found

    whole, first = run_of(["openbookqa"], shots=1)
    small, _ = run_of(["openbookqa"], shots=1, limit=2)
    other, both = run_of(["xwinograd_en"], shots=1)
    assert (whole.name, small.name, other) == ("default-1-shots", "default-1-shots-first-2", whole)
    assert list(both.tasks) == ["tsugiki_openbookqa", "tsugiki_xwinograd_en"]
    assert both.scored()["tsugiki_openbookqa"].ids == first.scored()["tsugiki_openbookqa"].ids
    monkeypatch.setattr(run, "versions", lambda: {"torch": "another"})  # whose header cannot speak for what is there
    assert list(run_of(["xwinograd_en"], shots=1)[1].tasks) == ["tsugiki_xwinograd_en"]


def test_other_weights_in_the_same_folder_are_another_model(language_model, official_data, tmp_path):
    model = shutil.copytree(language_model(), tmp_path / "model")
    first, _ = evaluate(model, official_data, tmp_path, ["openbookqa"], limit=1)
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
    second, _ = evaluate(model, official_data, tmp_path, ["openbookqa"], limit=1)
    assert first.parent != second.parent
    assert first.parent.name.rpartition("-")[0] == second.parent.name.rpartition("-")[0] == "model"


def test_a_folder_that_another_evaluation_writes_is_refused(language_model, official_data, tmp_path):
    folder, _ = evaluate(language_model(), official_data, tmp_path, ["openbookqa"], limit=1)
    with Journal(folder.parent / "journal.jsonl"), pytest.raises(StorageError, match=r"another evaluation .* --output"):
        evaluate(language_model(), official_data, tmp_path, ["openbookqa"], limit=1)


def test_a_damaged_journal_is_named_with_its_line(language_model, official_data, tmp_path):
    folder, _ = evaluate(language_model(), official_data, tmp_path, ["openbookqa"], limit=1)
    path = folder.parent / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"noise\n", *lines[1:]]))
    with pytest.raises(StorageError, match=r"journal\.jsonl, line 2"):
        evaluate(language_model(), official_data, tmp_path, ["openbookqa"], limit=1)


def test_nothing_is_lost_when_the_model_stops_in_the_middle(language_model, official_data, tmp_path, monkeypatch):
    """Ctrl-C after some answers: they are in the journal, and the next run asks for the others."""
    original = run.Journal.add
    count = 0

    def add(self, key, answer):
        nonlocal count
        original(self, key, answer)
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(run.Journal, "add", add)
    with pytest.raises(KeyboardInterrupt):
        evaluate(language_model(), official_data, tmp_path, ["jemhopqa"], limit=6)
    monkeypatch.setattr(run.Journal, "add", original)
    progress = Quiet()
    folder, result = evaluate(language_model(), official_data, tmp_path, ["jemhopqa"], limit=6, progress=progress)
    assert [requests for _, requests, _ in progress.begun] == [3]
    assert len(asked(folder)) == len(result.tasks["tsugiki_jemhopqa"].ids) == 6


def test_a_disk_without_room_is_one_message(language_model, official_data, tmp_path, monkeypatch):
    original = run.Journal.__init__

    def on_a_full_disk(self, path):
        original(self, path)
        self._file.close()
        self._file = Path("/dev/full").open("ab")  # noqa: SIM115 - the journal closes it

    monkeypatch.setattr(run.Journal, "__init__", on_a_full_disk)
    with pytest.raises(StorageError, match=r"journal\.jsonl: the disk is full"):
        evaluate(language_model(), official_data, tmp_path, ["openbookqa"], limit=1)


# Several models, and what is missing.


def test_models_of_one_name_get_the_beginning_of_their_digest(language_model, tmp_path):
    one = shutil.copytree(language_model(), tmp_path / "a/model")
    two = shutil.copytree(language_model("llama"), tmp_path / "b/model")
    models = [find_model(str(one)), find_model(str(two)), find_model(str(language_model("qwen3")))]
    found = labels(models)
    assert found == [f"model-{models[0].fingerprint[:4]}", f"model-{models[1].fingerprint[:4]}", "qwen3"]
    assert found[0] != found[1]


def test_without_data_every_task_is_missing_by_name(language_model, tmp_path, no_weights):
    said: list[str] = []
    folder, result = evaluate(language_model(), tmp_path / "nowhere", tmp_path, said=said)
    assert len(result.tasks) == 14
    assert all(isinstance(task, MissingTask) and "tsugiki data fetch" in task.reason for task in result.tasks.values())
    assert sum(line.startswith("missing ") for line in said) == 14
    assert read_results(folder).scored() == {}


def test_a_model_whose_context_is_too_short_misses_the_tasks_that_need_more(language_model, official_data, tmp_path):
    model = language_model(max_position_embeddings=64)
    folder, result = evaluate(model, official_data, tmp_path, ["openbookqa", "gsm8k"], limit=1)
    scored, missing = result.tasks.values()
    assert scored.notes[-1] == "1 prompts were too long for 64 tokens and were shortened"
    (record,) = read_records(folder, "tsugiki_openbookqa")
    assert record["truncated"]
    assert isinstance(missing, MissingTask)
    assert "64 positions" in missing.reason


# What cannot be asked.


def refused(kind, told, model, data, output, tasks=None, **settings):
    with pytest.raises(kind, match=told):
        evaluate(model, data, output, tasks, limit=1, **settings)
    assert not list(output.rglob("journal.jsonl"))  # nothing was begun


def test_unknown_names_are_refused_before_anything_is_loaded(language_model, official_data, tmp_path, no_weights):
    model = language_model()
    refused(
        RecipeError,
        r"--suite swalow: it is one of default, swallow, quick",
        model,
        official_data,
        tmp_path,
        suite="swalow",
    )
    refused(RecipeError, r"--tasks jsquda: no such task .* jsquad", model, official_data, tmp_path, ["niilc", "jsquda"])
    refused(
        RecipeError, r"the suite quick is asked as a whole", model, official_data, tmp_path, ["jsquad"], suite="quick"
    )


def test_task_files_need_permission(language_model, official_data, tmp_path, no_weights):
    own = tmp_path / "own"
    own.mkdir()
    refused(RecipeError, "--allow-task-code", language_model(), official_data, tmp_path, task_dir=own)


def test_a_missing_extra_is_named_with_its_command(language_model, official_data, tmp_path, monkeypatch, no_weights):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    refused(
        RecipeError, r"lm_eval is needed .*pip install 'tsugiki\[eval\]'", language_model(), official_data, tmp_path
    )


@pytest.mark.parametrize(
    ("key", "value", "told"), [("dtype", "int8", "--dtype int8"), ("backend", "mlx", "--backend mlx")]
)
def test_an_unknown_backend_or_dtype_is_refused(key, value, told, language_model, official_data, tmp_path):
    with pytest.raises(RecipeError, match=told):
        evaluate(language_model(), official_data, tmp_path, ["openbookqa"], **{key: value})


def test_bos_of_a_tokenizer_that_has_none_is_refused(language_model, tiny_tokenizer_folder, official_data, tmp_path):
    model = join_folders(tmp_path / "model", language_model(), tiny_tokenizer_folder)
    state = json.loads((model / "tokenizer.json").read_text("utf-8")) | {"post_processor": None}
    (model / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    (model / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    _, result = evaluate(model, official_data, tmp_path, ["openbookqa"], limit=1, add_bos=True)
    (failure,) = result.failures
    assert isinstance(failure, ModelError)
    assert "model: BOS was asked for, and this tokenizer has none; leave out --add-bos" in str(failure)
    _, result = evaluate(model, official_data, tmp_path, ["openbookqa"], limit=1)  # its own rule: none
    assert result.header["add_bos"] is False


def test_settings_have_the_keys_and_defaults_of_the_recipes_section():
    """All but those that say which models, and beside what."""
    keys = EvaluationSection.model_fields
    names = {field.name for field in fields(Settings)}
    assert keys.keys() - names == {"base", "steps", "published"}
    assert names - keys.keys() == {"dtype", "otherwise"}  # of the command line alone; of the section data.chat
    assert Settings.of(EvaluationSection(), DATA) == replace(Settings(), data_dir=Path(DATA_DIR))
    given = EvaluationSection(suite="swallow", tasks=["niilc"], limit=3, shots=0, add_bos=True, batch_tokens=7)
    assert Settings.of(given, DATA).way == "swallow-0-shots-first-3-bos"
    assert Settings.of(given, DATA).batch_tokens == 7
