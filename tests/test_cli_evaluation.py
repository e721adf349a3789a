"""`tsugiki evaluate` as a shell sees it: what is printed, one message for what is wrong, and its exit code."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from evaluation_data import write_official_data
from evaluation_models import POSITIONS, join_folders

pytest.importorskip("lm_eval")
from tsugiki import cli
from tsugiki.evaluation import backends
from tsugiki.model.cached.call import cache_name


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_official_data(folder)
    return folder


@pytest.fixture(scope="module")
def make(tiny_model_folder, tiny_tokenizer_folder, tmp_path_factory):
    """make(name, architecture, **changes): a model folder called `name`."""
    place = tmp_path_factory.mktemp("models")

    def folder(name: str, architecture: str = "mistral", **changes: object) -> Path:
        weights = tiny_model_folder(
            architecture, **{"vocab_size": 384, "max_position_embeddings": POSITIONS, **changes}
        )
        return join_folders(place / name, weights, tiny_tokenizer_folder)

    return folder


@pytest.fixture(scope="module")
def model(make) -> Path:
    return make("base")


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """run("evaluate", ...): exit code, output and errors, in an empty folder. Nothing may end in a traceback."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tsugiki", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "defect of Tsugiki" not in err
        return stop.value.code or 0, out, err

    return command


def error(result: tuple[int, str, str], code: int) -> str:
    """The one message of a command that failed with `code`."""
    found, _, err = result
    assert found == code, err
    lines = [line for line in err.splitlines() if line]
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


# What goes well.


def test_a_model_beside_its_baseline(run, make, model, data, tmp_path):
    other = make("after", "qwen3")
    code, out, err = run(
        "evaluate",
        other,
        "--baseline",
        model,
        "--tasks",
        "openbookqa,jemhopqa",
        "--limit",
        4,
        "--shots",
        1,
        "--data",
        data,
    )
    assert (code, err) == (0, "")  # no progress bar of somebody else's
    assert out.count("scored     OBQA: ") == out.count("scored     JEMHop: ") == 2
    assert "− base" in out
    table = json.loads((tmp_path / "evaluation/table.json").read_text("utf-8"))
    assert [row["name"] for row in table["rows"]] == ["base", "after"]
    assert [each["language"] for each in table["languages"]] == ["ja", "en"]
    assert table["rows"][1]["tasks"]["tsugiki_openbookqa"]["items"] == 4
    assert (tmp_path / "evaluation/table.md").exists()

    first, second = (next(Path("evaluation").glob(f"{name}-*/default-1-shots-first-4")) for name in ("base", "after"))
    code, out, err = run("evaluate", "diff", first, second, "--json")
    assert (code, err) == (0, "")
    for line in out.splitlines():
        assert json.loads(line)["task"] in ("tsugiki_openbookqa", "tsugiki_jemhopqa")
    code, out, _ = run("evaluate", "diff", first, second, "--tasks", "tsugiki_openbookqa")
    assert code == 0
    assert "OBQA" in out


def test_the_published_suite_with_the_published_rows(run, model, data):
    code, out, err = run(
        "evaluate", model, "--suite", "swallow", "--tasks", "jemhopqa", "--limit", 2, "--data", data, "--published"
    )
    assert (code, err) == (0, "")
    assert "Swallow-MS-7b" in out
    assert f"{0.4915:.3f}" in out  # its JEMHopQA


def test_the_quick_suite_needs_no_data_and_keeps_texts_of_one_name_apart(run, model, tmp_path):
    for language, text in (("ja", "川は谷を覚えている。"), ("en", "The valley remembers.")):
        (tmp_path / language).mkdir()
        (tmp_path / language / "held.txt").write_text(text, encoding="utf-8")
    code, _, err = run(
        "evaluate", model, "--suite", "quick", "--limit", 2, "--text", "ja=ja/held.txt", "--text", "en=en/held.txt"
    )
    assert (code, err) == (0, "")
    (scores,) = (json.loads(path.read_text("utf-8")) for path in Path("evaluation").glob("*/quick-first-2/scores.json"))
    texts = {name: len(scores["items"][name]) for name in scores["items"] if "held" in name}
    assert texts == {"text_held.txt": 1, "text_en/held.txt": 1}


def test_a_task_of_ones_own_needs_permission_and_runs_with_it(run, model, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "items.jsonl").write_text(
        "".join(json.dumps({"q": f"Thing {number} is", "a": f"it {number}"}) + "\n" for number in range(3))
    )
    (own / "things.yaml").write_text(
        f"""\
task: things
dataset_path: json
dataset_kwargs:
  data_files: {{test: {own}/items.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
process_results: !function scoring.score
metric_list:
  - {{metric: long, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1, title: Things, language: en, headline: long}}
"""
    )
    (own / "scoring.py").write_text(
        "def score(doc, results):\n    return {'long': float(len(results[0]) > 3)}\n", encoding="utf-8"
    )
    arguments = ["evaluate", model, "--task-dir", own, "--tasks", "things"]
    message = error(run(*arguments), 2)
    assert "task files are programs" in message
    assert "--allow-task-code" in message
    assert not Path("evaluation").exists()
    code, out, err = run(*arguments, "--allow-task-code")
    assert (code, err) == (0, "")
    assert "scored     Things: " in out
    (scores,) = (json.loads(path.read_text("utf-8")) for path in Path("evaluation").glob("*/default/scores.json"))
    assert scores["tasks"]["things"]["metric"] == "long"
    (own / "broken.yaml").write_text("task: [broken\n")
    assert f"{own}/broken.yaml: no task file" in error(run(*arguments, "--allow-task-code"), 2)


# What is wrong with the command.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "swalow"], "--suite swalow: it is one of default, swallow, quick"),
        (["--tasks", "jsquda"], "--tasks jsquda: no such task in the suite default; it has gsm8k, hellaswag"),
        (["--tasks", "openbookqa,things"], "--tasks things: no such task"),
        (["--published"], "add --suite swallow"),
        (["--dtype", "int8"], "--dtype int8: it is one of bfloat16"),
        (["--backend", "mlx"], "--backend mlx: it is one of hf, vllm"),
        (["--suite", "quick", "--tasks", "jsquad"], "the suite quick is asked as a whole"),
        (["--suite", "quick", "--text", "novels.jsonl"], "--text novels.jsonl: give a language and a file"),
        (["--task-dir", "nowhere", "--allow-task-code"], "--task-dir nowhere: no such folder"),
    ],
)
def test_what_is_wrong_in_a_command_is_one_message(arguments, told, run, model, data):
    assert told in error(run("evaluate", model, "--data", data, *arguments), 2)


@pytest.mark.parametrize(("option", "value"), [("--limit", "0"), ("--shots", "-1"), ("--batch-tokens", "0")])
def test_a_number_out_of_range_is_refused(option, value, run, model):
    code, _, err = run("evaluate", model, option, value)
    assert code == 2
    assert option in err


def test_a_recipe_stands_alone(run, model):
    Path("recipe.yaml").write_text("run_dir: run\n")
    for others in ((model, "recipe.yaml"), ("recipe.yaml", model)):
        assert "is a recipe, which names its models itself" in error(run("evaluate", *others), 2)
    refused = error(run("evaluate", "recipe.yaml", "evaluation.shots=0", "--limit", "3"), 2)
    assert "--limit is for models that are named here" in refused


def test_a_text_that_is_not_there_is_named(run, model):
    assert "nowhere.jsonl: no such file" in error(
        run("evaluate", model, "--suite", "quick", "--text", "ja=nowhere.jsonl"), 3
    )


def test_a_missing_extra_is_named_with_its_command(run, model, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert "pip install 'tsugiki[eval]'" in error(run("evaluate", model, "--data", data), 2)


# What is wrong with data.


def test_without_any_data_every_task_is_a_line_and_the_command_fails(run, model):
    Path("evaluation-data").mkdir()
    result = run("evaluate", model)
    assert "no score for En-Ja, GSM8K" in error(result, 3)
    out = result[1]
    assert out.count("missing    ") == 14
    assert "missing    JSQuAD: jsquad: none of its files is in evaluation-data" in out
    for name in ("xlsum_ja", "squad2", "gsm8k"):
        assert f"tsugiki data fetch {name}" in out
    assert "no score   En-Ja, " in out
    assert Path("evaluation/table.md").exists()


def test_a_task_without_data_fails_the_command_only_where_it_was_asked_for_by_name(run, model, data, tmp_path):
    some = tmp_path / "some"
    shutil.copytree(data / "openbookqa", some / "openbookqa")
    result = run("evaluate", model, "--data", some, "--tasks", "openbookqa,gsm8k", "--limit", 1, "--shots", 0)
    assert "no score for GSM8K: see above" in error(result, 3)
    assert "scored     OBQA" in result[1]
    code, out, err = run("evaluate", model, "--data", some, "--limit", 1, "--shots", 0)
    assert (code, err) == (0, "")
    assert "no score   En-Ja, " in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (lambda text: "", "test.jsonl"),
        (lambda text: text.replace('"answer"', '"reply"', 3).replace('"reply"', '"answer"', 2), "test.jsonl: line 3"),
        (lambda text: text[:-30], "test.jsonl: line 12"),
        (lambda text: text.replace("#### ", "", 1), "test.jsonl: line 1"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_line_and_other_tasks_go_on(content, told, run, model, data, tmp_path):
    shutil.copytree(data, tmp_path / "bad")
    path = tmp_path / "bad/gsm8k/test.jsonl"
    path.write_text(content(path.read_text("utf-8")), encoding="utf-8")
    result = run("evaluate", model, "--data", "bad", "--tasks", "gsm8k,openbookqa", "--limit", 1, "--shots", 0)
    assert "no score for GSM8K" in error(result, 3)
    (line,) = (line for line in result[1].splitlines() if line.startswith("missing    "))
    assert told in line
    assert "scored     OBQA" in result[1]


# What is wrong with the model.


def test_what_is_no_model_is_one_message(run, data, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty is no model folder" in error(run("evaluate", "empty", "--data", data), 3)
    (tmp_path / "notes.txt").write_text("x")
    assert "notes.txt is a file" in error(run("evaluate", "notes.txt", "--data", data), 3)
    assert "empty is no model folder" in error(run("evaluate", "empty", "--suite", "quick"), 3)


def test_damaged_weights_are_one_message(run, model, data, tmp_path):
    folder = shutil.copytree(model, tmp_path / "cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "cut" in error(run("evaluate", folder, "--data", data, "--tasks", "openbookqa", "--limit", 1), 3)


def test_a_context_that_is_too_short_is_told_for_each_task_it_is_too_short_for(run, make, data):
    short = make("short", max_position_embeddings=64)
    result = run("evaluate", short, "--data", data, "--tasks", "openbookqa,gsm8k", "--limit", 1)
    assert "no score for GSM8K" in error(result, 3)
    (line,) = (line for line in result[1].splitlines() if line.startswith("missing    "))
    assert "64 positions" in line
    assert "scored     OBQA" in result[1]


def test_bos_and_eos_that_a_tokenizer_lacks(run, model, data, tmp_path):
    folder = shutil.copytree(model, tmp_path / "bare")
    state = json.loads((folder / "tokenizer.json").read_text("utf-8")) | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text("{}")
    arguments = ["evaluate", folder, "--data", data, "--tasks", "openbookqa,triviaqa", "--limit", 1, "--shots", 0]
    assert "this tokenizer has none; leave out --add-bos" in error(run(*arguments, "--add-bos"), 3)
    assert run(*arguments)[0] == 0


def test_memory_that_never_suffices_is_one_message_and_keeps_what_was_answered(run, model, data, monkeypatch):
    original = backends.read_pretrained

    def small(*arguments, **settings):
        hf, rest = original(*arguments, **settings)
        forward = hf.forward

        def limited(**named):
            cache = named.get(cache_name(hf))
            columns = named["input_ids"].shape[1] + (cache.get_seq_length() if cache is not None else 0)
            if len(named["input_ids"]) * columns > 120:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(**named)

        hf.forward = limited
        return hf, rest

    monkeypatch.setattr(backends, "read_pretrained", small)
    arguments = ["evaluate", model, "--data", data, "--tasks", "openbookqa,jsquad", "--limit", 2, "--shots", 0]
    result = run(*arguments)
    assert "memory does not suffice for one request of up to" in error(result, 3)
    assert "scored     OBQA" in result[1]
    monkeypatch.setattr(backends, "read_pretrained", original)
    assert run(*arguments)[0] == 0
    (journal,) = Path("evaluation").glob("*/journal.jsonl")
    assert len(journal.read_text("utf-8").splitlines()) == 2 * 4 + 2


def test_ctrl_c_keeps_what_was_answered_and_ends_with_its_code(run, model, data, monkeypatch):
    from tsugiki.evaluation.journal import Journal

    original, count = Journal.add, [0]

    def add(self, key, answer):
        original(self, key, answer)
        count[0] += 1
        if count[0] == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "add", add)
    code, _, err = run("evaluate", model, "--data", data, "--tasks", "openbookqa", "--limit", 3, "--output", "out")
    assert (code, err) == (75, "stopped by SIGINT: what is finished is kept; the same command goes on from there\n")
    (journal,) = Path("out").glob("*/journal.jsonl")
    assert len(journal.read_text("utf-8").splitlines()) == 5


# Comparing.


def test_results_that_are_not_there_are_named(run):
    assert "nowhere/scores.json" in error(run("evaluate", "diff", "nowhere", "elsewhere"), 5)
    assert run("evaluate", "diff", ".")[0] == 2


def test_help_shows_what_can_be_asked(run):
    code, out, _ = run("evaluate", "--help")
    assert code == 0
    for option in (
        "--suite",
        "--tasks",
        "--limit",
        "--shots",
        "--data",
        "--baseline",
        "--published",
        "--task-dir",
        "diff",
    ):
        assert option in out
    code, out, _ = run("data", "fetch", "--help")
    assert code == 0
    assert "--data" in out


def test_what_cannot_be_fetched_is_named(run):
    message = error(run("data", "fetch", "jsquda"), 2)
    assert "jsquda" in message
    assert "jsquad" in message
