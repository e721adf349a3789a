"""Contradictions between keys, inputs that are missing and launches that do not fit are named before any work."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import launch_errors, total_steps
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_machine import looks_like_hub_id

GOOD = """\
run_dir: runs/first
model:
  name_or_path: owner/model
data:
  sequence_length: 512
  held_out: 0.01
  sources:
    ja: {path: ja.jsonl, weight: 80}
    en: {path: en.jsonl, weight: 20}
    late: {path: late.jsonl, weight: 0}
  stages:
    - {start_step: 50, weights: {ja: 1, en: 1, late: 1}}
training:
  max_steps: 100
  global_batch_size: 8
  micro_batch_size: 2
  learning_rate: 2e-5
  min_lr: 1e-6
  save_steps: 50
  eval_steps: 10
tracking:
  report_to: [tensorboard]
"""


def problems(*overrides, text=GOOD, check_files=False):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, "r", overrides, check_files)
    return str(caught.value).splitlines()


def edited(*changes):
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("min_lr: 1e-6", "min_lr: 3e-5", "r:18: training.min_lr: 3e-05 is above learning_rate 2e-05"),
        ("min_lr: 1e-6", "warmup_steps: 101", "r:18: training.warmup_steps: 101 is longer than the run (100 steps)"),
        ("min_lr: 1e-6", "lr_scheduler: wsd", "r:18: training.lr_scheduler: wsd needs decay_steps"),
        ("min_lr: 1e-6", "decay_steps: 5", "r:18: training.decay_steps: belongs to wsd"),
        (
            "min_lr: 1e-6",
            "lr_scheduler: wsd\n  warmup_steps: 60\n  decay_steps: 41",
            "r:20: training.decay_steps: 41 and warmup_steps 60 are longer than the run (100 steps)",
        ),
        (
            "min_lr: 1e-6",
            "embedding_warmup_steps: 100",
            "r:18: training.embedding_warmup_steps: 100 is not shorter than the run (100 steps)",
        ),
        (
            "max_steps: 100",
            f"max_tokens: {60 * 8 * 512 + 1}\n  embedding_warmup_steps: 61",
            "r:15: training.embedding_warmup_steps: 61 is not shorter than the run (61 steps)",
        ),
        ("save_steps", "lr_scheduler: constant\n  save_steps", "r:18: training.min_lr: has no effect"),
        ("min_lr: 1e-6", "lora: {rank: 0}", "r:18: training.lora.rank: must be at least 1, not 0"),
        ("min_lr: 1e-6", "lora: {target_modules: []}", "r:18: training.lora.target_modules: "),
        ("min_lr: 1e-6", "lora: {new_rows: true}", "r:18: training.lora.new_rows: needs pieces that the base has not"),
        ("min_lr: 1e-6", "lora: {r: 8}", "r:18: training.lora.r: "),
        (
            "min_lr: 1e-6",
            "lora: {rank: 8}\n  precision: pure-bf16",
            "r:19: training.precision: pure-bf16 is for trained weights in bf16; with training.lora the base is frozen",
        ),
        ("max_steps: 100", "max_steps: 100\n  max_tokens: 5e6", "r:15: training.max_tokens: excludes max_steps"),
        ("  max_steps: 100\n", "", "r:13: training: has no length: give max_steps, max_tokens or num_epochs"),
        ("micro_batch_size: 2", "micro_batch_size: 3", "r:15: training.global_batch_size: 8 is not a multiple of"),
        ("save_steps: 50", "save_steps: 50\n  keep_every: 75", "r:20: training.keep_every: 75 is not a multiple"),
        ("held_out: 0.01", "held_out: 0", "r:20: training.eval_steps: needs held-out text"),
        ("weight: 80}", "weight: 80, hub: a/b}", "r:8: data.sources.ja.hub: excludes path"),
        ("path: ja.jsonl, ", "", "r:8: data.sources.ja: names no data: give path"),
        ("weight: 80}", "weight: 80, subset: x}", "r:8: data.sources.ja.subset: belongs to a hub data set"),
        ("weight: 80}", "weight: 80, encoding: latin9000}", "r:8: data.sources.ja.encoding: latin9000 is not a text"),
        ("weight: 80}", "weight: 80, encoding: base64}", "r:8: data.sources.ja.encoding: base64 is not a text"),
        (
            "late: {path: late.jsonl, weight: 0}",
            "late: {path: late.jsonl, weight: 0}\n    Ja: {path: x, weight: 0}",
            "r:11: data.sources.Ja: differs from ja in case only",
        ),
        (
            "late: {path: late.jsonl, weight: 0}",
            "late: {path: late.jsonl, weight: 0}\n    no: {path: x, weight: 0, held_out: 0}",
            "r:11: data.sources.no.weight: is 0 in every stage and nothing is held out",
        ),
        (
            "min_lr: 1e-6",
            "spikes: rewind\n  rewind_before: 101",
            "r:18: training.spikes: rewind goes back 101 steps, but 3 checkpoints every 50 steps may reach back only 100: set",
        ),
        ("  stages:", "  skip: [[0, 3], [7, 7]]\n  stages:", "r:11: data.skip[1]: [7, 7] holds no sample"),
        ("start_step: 50", "start_step: 100", "r:12: data.stages[0].start_step: 100 is not before the end of the run"),
        ("en: 1, late", "fr: 1, en: 1, late", "r:12: data.stages[0].weights.fr: no source has this name"),
        ("ja: 1, en: 1, late: 1", "ja: 0, en: 0", "r:12: data.stages[0].weights: add up to nothing"),
        ("ja: 1, en: 1", "ja: 1", "r:12: data.stages[0].weights: must name every source drawn so far, en too"),
        (
            "late: 1}}",
            "late: 1}}\n    - {start_step: 50, weights: {ja: 1, en: 1, late: 1}}",
            "r:13: data.stages[1].start_step: 50 is not after the stage before it (50)",
        ),
        ("name_or_path: owner/model", "revision: main", "r:2: model: names no model"),
        (
            "name_or_path: owner/model",
            "architecture: {hidden_size: 8}\n  tokenizer: t",
            "r:3: model.architecture: needs model_type",
        ),
        (
            "name_or_path: owner/model",
            "architecture: {model_type: llama}",
            "r:3: model.architecture: has no tokenizer of its own",
        ),
        (
            "  name_or_path: owner/model",
            "  name_or_path: owner/model\n  architecture: {model_type: llama}\n  tokenizer: t",
            "r:4: model.architecture: excludes model.name_or_path",
        ),
        (
            "name_or_path: owner/model",
            "architecture: {model_type: llama, max_position_embeddings: 256}\n  tokenizer: t",
            "r:6: data.sequence_length: 512 is more than the model's 256 positions",
        ),
        (
            "name_or_path: owner/model",
            "architecture: {model_type: gemma3, text_config: {max_position_embeddings: 256}}\n  tokenizer: t",
            "r:6: data.sequence_length: 512 is more than the model's 256 positions",
        ),
        ("[tensorboard]", "[tensorboard, none]", "r:22: tracking.report_to: none stands alone"),
        ("[tensorboard]", "[wandb, wandb]", "r:22: tracking.report_to: names a tracker twice"),
        ("tracking:", "parallel: {shard: hybrid}\ntracking:", "r:21: parallel.shard: hybrid needs replicas"),
        ("tracking:", "parallel: {replicas: 2}\ntracking:", "r:21: parallel.replicas: belongs to shard: hybrid"),
        ("run_dir: runs/first", "run_dir: .", "r:1: run_dir: is the current directory"),
    ],
)
def test_each_contradiction_is_named_with_its_line(old, new, said):
    (line,) = problems(text=edited((old, new)))
    assert line.startswith(said)


def test_weights_that_sum_to_nothing():
    lines = problems(text=edited(("weight: 80", "weight: 0"), ("weight: 20", "weight: 0")))
    assert lines == ["r:7: data.sources: all weights are 0: give at least one source a weight above 0"]


def test_all_contradictions_come_at_once_in_file_order():
    lines = problems(
        text=edited(("min_lr: 1e-6", "min_lr: 1"), ("size: 2", "size: 3"), ("weight: 80}", "weight: 80, hub: x}"))
    )
    assert [line.split(":")[1] for line in lines] == ["8", "15", "18"]


def test_a_warm_up_of_embeddings_one_step_shorter_than_the_run_is_taken():
    recipe = parse_recipe(GOOD, overrides=["training.embedding_warmup_steps=99"], check_files=False)
    assert recipe.training.embedding_warmup_steps == 99
    assert recipe.training.embedding_lr_factor == 1.0


def test_a_source_of_weight_0_is_kept_for_validation():
    recipe = parse_recipe(GOOD, overrides=["data.stages=[]"], check_files=False)
    assert recipe.data.sources["late"].weight == 0


def test_the_length_in_tokens_is_rounded_up_to_whole_steps():
    def steps(tokens):
        overrides = ["training.max_steps=", f"training.max_tokens={tokens}", "data.stages=[]"]
        return total_steps(parse_recipe(GOOD, overrides=overrides, check_files=False))

    assert total_steps(parse_recipe(GOOD, check_files=False)) == 100
    assert [steps(4096), steps(4097), steps(1), steps("1e9")] == [1, 2, 1, 244141]


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("ja", "en", "late"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "x"}\n')
    return tmp_path


def test_inputs_that_are_there_pass(project):
    (project / "deep" / "er").mkdir(parents=True)
    (project / "deep" / "er" / "a.txt").write_text("x")
    parse_recipe(GOOD, overrides=['data.sources.ja.path=["deep/**/*.txt", ja.jsonl]'])


def test_missing_inputs_are_all_named(project):
    (project / "folder").mkdir()
    lines = problems(
        "data.sources.ja.path=[ja.jsonl, 'no/*.jsonl']",
        "data.sources.en.path=missing.jsonl",
        "data.sources.late.path=folder",
        "model.name_or_path=./models/mine",
        "model.tokenizer=ja.jsonl",
        "run_dir=en.jsonl",
        check_files=True,
    )
    assert lines == [
        f"from override: data.sources.ja.path[1]: no file matches no/*.jsonl (from {project})",
        f"from override: data.sources.en.path: no such file: missing.jsonl (from {project})",
        "from override: data.sources.late.path: folder is a folder; write folder/*.jsonl or the like",
        f"from override: model.name_or_path: no such folder: ./models/mine (from {project})",
        "from override: model.tokenizer: ja.jsonl is a file; name the folder that holds it",
        "from override: run_dir: en.jsonl is a file; name a folder",
    ]


@pytest.mark.parametrize("path", ["x" * 5000, "[", "**/**/[!", "a\nb"])
def test_strange_paths_are_only_missing_files(project, path):
    (line,) = problems(f"data.sources.ja.path={json.dumps(path)}", check_files=True)
    assert line.startswith("from override: data.sources.ja.path: no")


def test_a_model_folder_is_looked_into(project):
    model = project / "model"
    model.mkdir()
    assert "has no config.json" in problems("model.name_or_path=model", check_files=True)[0]
    (model / "config.json").write_text("{")
    assert "is not valid JSON" in problems("model.name_or_path=model", check_files=True)[0]
    (model / "config.json").write_text('{"max_position_embeddings": 128}')
    line = problems("model.name_or_path=model", check_files=True)[-1]
    assert line.startswith("r:5: data.sequence_length: 512 is more than the model's 128 positions")
    (model / "config.json").write_text('{"max_position_embeddings": 512}')
    (line,) = problems("model.name_or_path=model", check_files=True)
    assert "model.name_or_path: model holds no weights: neither model.safetensors nor" in line
    save_file({"a": np.ones((64, 64), np.float32)}, model / "model.safetensors")
    parse_recipe(GOOD, overrides=["model.name_or_path=model"])


def test_weights_that_are_cut_short_missing_or_pickled_are_one_problem_each(project):
    model = project / "model"
    model.mkdir()
    (model / "config.json").write_text('{"max_position_embeddings": 512}')
    weights = model / "model.safetensors"
    save_file({"a": np.ones((64, 64), np.float32)}, weights)
    whole = weights.read_bytes()
    for size in (len(whole) - 1, 100, 8, 0):
        weights.write_bytes(whole[:size])
        (line,) = problems("model.name_or_path=model", check_files=True)
        assert "model.name_or_path: model/model.safetensors is no whole safetensors file" in line
        assert "fetch the model again" in line
    weights.unlink()
    (model / "model.safetensors.index.json").write_text('{"weight_map": {"a": "one.safetensors"}}')
    (line,) = problems("model.name_or_path=model", check_files=True)
    assert "names one.safetensors, which is missing: fetch the model again" in line
    (model / "model.safetensors.index.json").unlink()
    (model / "pytorch_model.bin").touch()
    (line,) = problems("model.name_or_path=model", check_files=True)
    assert "set model.allow_pickle: true" in line
    parse_recipe(GOOD, overrides=["model.name_or_path=model", "model.allow_pickle=true"])


def test_schema_checks_alone_need_no_inputs():
    parse_recipe(GOOD, check_files=False)


@pytest.mark.parametrize(
    ("name", "is_id"),
    [
        ("gpt2", True),
        ("a/b", True),
        ("a/b-1.0_x", True),
        ("./a", False),
        ("/a", False),
        ("a/b/c", False),
        ("~/a", False),
    ],
)
def test_hub_ids_are_told_from_paths(name, is_id):
    assert looks_like_hub_id(name) is is_id


@given(st.text("aZ09_-./", max_size=12) | st.text("a/", min_size=90, max_size=110))
def test_hub_ids_are_what_the_hub_takes(name):
    utils = pytest.importorskip("huggingface_hub.utils")
    try:
        utils.validate_repo_id(name)
        is_id = True
    except utils.HFValidationError:
        is_id = False
    assert looks_like_hub_id(name) is is_id


# --- launch --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world_size", "overrides", "said"),
    [
        (1, [], []),
        (4, [], []),
        (3, [], ["training.global_batch_size: 8 windows cannot be shared evenly by 3 processes; use 9 (nearest"]),
        (16, [], ["training.global_batch_size: 8 windows cannot be shared evenly by 16 processes; use 16 (nearest"]),
        (
            8,
            [],
            ["training.micro_batch_size: 2 does not divide the 1 windows of each of 8 processes (global_batch_size"],
        ),
        (2, ["parallel={shard: hybrid, replicas: 2}"], []),
        (4, ["parallel={shard: hybrid, replicas: 3}"], ["parallel.replicas: 3 groups cannot be made of 4 processes"]),
    ],
)
def test_what_only_the_launch_knows(world_size, overrides, said):
    found = launch_errors(parse_recipe(GOOD, overrides=overrides, check_files=False), world_size)
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_the_proposed_micro_batch_size_fits():
    recipe = parse_recipe(
        GOOD, overrides=["training.global_batch_size=24", "training.micro_batch_size=8"], check_files=False
    )
    (said,) = launch_errors(recipe, 2)
    assert said.endswith("use 6")
    fits = parse_recipe(
        GOOD, overrides=["training.global_batch_size=24", "training.micro_batch_size=6"], check_files=False
    )
    assert launch_errors(fits, 2) == []


def test_recipes_made_in_python_are_checked_alike():
    recipe = parse_recipe(GOOD, check_files=False)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


VOCABULARY = """\
vocabulary:
  add: 64
  language: ja
data:
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  add: 64\n", "", "r:4: vocabulary: needs a size: give one of target_size and add"),
        ("add: 64", "add: 64\n  target_size: 640", "r:4: vocabulary: needs a size: give one of target_size and add"),
        ("  language: ja\n", "  sources: [ja]\n", "r:4: vocabulary: needs characters: give one of language (e.g. ja)"),
        ("language: ja", "scripts: []\n  sources: [ja]", "r:4: vocabulary: needs characters"),
        ("language: ja", "language: ja\n  scripts: [han]", "r:4: vocabulary: needs characters"),
        (
            "language: ja",
            "language: jp\n  sources: [ja]",
            "r:6: vocabulary.language: 'jp' is not a language with scripts",
        ),
        (
            "language: ja",
            "language: en\n  sources: [en]",
            "r:6: vocabulary.language: 'en' is not a language with scripts",
        ),
        (
            "language: ja",
            "scripts: [han, kanzi]\n  sources: [ja]",
            "r:6: vocabulary.scripts[1]: 'kanzi' is not a script of Unicode",
        ),
        (
            "language: ja",
            "scripts:\n  - han\n  - latin\n  sources: [ja]",
            "r:8: vocabulary.scripts[1]: 'latin' holds characters of English",
        ),
        (
            "language: ja",
            "language: ja\n  sources: [jp]",
            "r:7: vocabulary.sources[0]: no source has the name jp; sources",
        ),
        ("language: ja", "language: ko", "r:4: vocabulary: has nothing to learn from: name sources, give corpora"),
        (
            "language: ja",
            "language: ja\n  corpora: {ja: {path: x.jsonl}}",
            "r:7: vocabulary.corpora.ja: is the name of a source already; list it under sources",
        ),
        ("language: ja", "language: ja\n  corpora: {x: {text_key: t}}", "r:7: vocabulary.corpora.x: names no data"),
        (
            "language: ja",
            "language: zh\n  sources: [ja]\n  split_words: true",
            "r:8: vocabulary.split_words: knows the words of Japanese only",
        ),
        ("add: 64", "add: 64\n  output_dir: runs/first", "r:6: vocabulary.output_dir: is run_dir"),
        ("add: 64", "add: 64\n  max_piece_length: 65", "r:6: vocabulary.max_piece_length: "),
        ("add: 64", "add: 64\n  initialize: mean", "r:6: vocabulary.initialize: unknown key; did you mean initialise"),
    ],
)
def test_each_contradiction_of_the_vocabulary_is_named_with_its_line(old, new, said):
    text = edited(("data:\n", VOCABULARY), ("weight: 80}", "weight: 80, language: ja}"))
    assert parse_recipe(text, "r", [], False).vocabulary.add == 64
    assert old in text
    (line,) = problems(text=text.replace(old, new, 1))
    assert line.startswith(said)


def test_random_weights_have_no_vocabulary_to_extend():
    lines = problems(
        text=edited(
            ("name_or_path: owner/model", "architecture: {model_type: llama}\n  tokenizer: t"),
            ("data:\n", VOCABULARY), ("weight: 80}", "weight: 80, language: ja}"),
        )
    )  # fmt: skip
    assert lines == ["r:5: vocabulary: extends a model that has been trained; with model.architecture there is none"]


def test_files_of_the_vocabulary_are_looked_for(tmp_path):
    (tmp_path / "file").write_text("")
    text = edited(("data:\n", VOCABULARY), ("weight: 80}", "weight: 80, language: ja}"))
    said = problems(
        f"vocabulary.output_dir={tmp_path / 'file'}", "vocabulary.corpora.more.path=none.jsonl", text=text,
        check_files=True,
    )  # fmt: skip
    assert any("vocabulary.output_dir: " in line and "is a file; name a folder" in line for line in said)
    assert any("vocabulary.corpora.more.path: no such file: none.jsonl" in line for line in said)


def test_a_task_that_runs_only_when_it_is_named_may_be_named():
    section = "{tasks: [jcommonsenseqa_generate, gsm8k]}"
    recipe = parse_recipe(edited(("tracking:\n", f"evaluation: {section}\ntracking:\n")), "r", check_files=False)
    assert recipe.evaluation.tasks == ["jcommonsenseqa_generate", "gsm8k"]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{published: true}", "r:21: evaluation.published: belongs to suite: swallow; suite is default"),
        ("{suite: swallow, tasks: [gsm8k, jgsm]}", "r:21: evaluation.tasks[1]: suite swallow has no task jgsm; it has gsm8k, hellaswag"),
        ("{suite: quick, tasks: [gsm8k], allow_code_execution: true}", "r:21: evaluation.tasks[0]: suite quick has no task gsm8k; it has texts, code"),
        ("{suite: quick, tasks: [code]}", "r:21: evaluation.tasks: run what the model writes: set allow_code_execution: true"),
        ("{suite: quick, backend: vllm}", "r:21: evaluation.backend: the probes of suite quick run on transformers"),
        ("{task_dir: mine}", "r:21: evaluation.task_dir: its files are programs: set allow_task_code: true"),
        ("{steps: [100, 101]}", "r:21: evaluation.steps[1]: 101 is after the end of the run (100 steps)"),
        ("{steps: [100, 50]}", "r:21: evaluation.steps[1]: no checkpoint of step 50 is kept: set training.keep_every"),
    ],
)  # fmt: skip
def test_contradictions_of_the_evaluation(section, said):
    (found,) = problems(text=edited(("tracking:\n", f"evaluation: {section}\ntracking:\n")))
    assert found.startswith(said)


@pytest.mark.parametrize(
    "section", ["{}", "{suite: quick}", "{suite: swallow, published: true, tasks: [jsquad]}", "{steps: [100]}",
                "{tasks: [my_task], task_dir: mine, allow_task_code: true}"]
)  # fmt: skip
def test_what_an_evaluation_may_say(section):
    parse_recipe(edited(("tracking:\n", f"evaluation: {section}\ntracking:\n")), "r", (), False)


def test_kept_steps_can_be_evaluated():
    text = edited(("eval_steps: 10", "keep_every: 50"), ("tracking:\n", "evaluation: {steps: [50]}\ntracking:\n"))
    parse_recipe(text, "r", (), False)


def test_a_missing_extra_is_named_before_training(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    text = edited(("tracking:\n", "evaluation: {}\ntracking:\n"))
    assert any(
        "evaluation: needs: pip install 'tsugiki[eval]'" in line for line in problems(text=text, check_files=True)
    )
    quick = edited(("tracking:\n", "evaluation: {suite: quick}\ntracking:\n"))
    assert not any("tsugiki[eval]" in line for line in problems(text=quick, check_files=True))
