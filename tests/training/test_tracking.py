"""What leaves the loop: the terminal's line, metrics.jsonl, TensorBoard, and what hosted trackers are told."""

import json
import math
import re
import shutil
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tsugiki import pipeline
from tsugiki.errors import RecipeError
from tsugiki.metrics_file import logged_at, read_logged, read_metrics
from tsugiki.plots import plot_runs
from tsugiki.recipe_file import parse_recipe
from tsugiki.training.tracking import Console, JsonLines, TensorBoard, by_language, make_listeners


def figures(step: int = 1, **changes: Any) -> dict[str, Any]:
    """An interval's figures, as the meter gives them."""
    return {
        "step": step, "loss": 1.842, "loss_by_source": {"wiki-ja": 1.79, "web-en": 2.02}, "grad_norm": 0.61,
        "learning_rate": 1.98e-05, "tokens": 1_000_000, "applied": True, "spike": False, "tokens_per_second": 412_345.0, "tflops": 210.0,
        "mfu": 0.474, "memory_gb": 61.2, "data_wait": 0.0021, "seconds_left": 273_600.0,
    } | changes  # fmt: skip


SCORES = {"wiki-ja": {"nats_per_token": 2.5, "bits_per_byte": 1.1, "nats": 250.0, "documents": 3, "tokens": 100}}

ANSWERS = {
    "cloze_ja": {"accuracy": 0.4, "chance": 0.25, "bits_per_byte": 1.5, "items": 120},
    "arithmetic": {"accuracy": 0.254, "chance": 0.25, "bits_per_byte": 3.5, "items": 120},
}


LANGUAGES = {"wiki-ja": "ja", "web-en": "en"}


# --- metrics.jsonl ------------------------------------------------------------------------------------------------


def test_logged_at_finds_what_that_step_alone_has(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert logged_at(read_logged(path), 2) == set()
    lines = [
        {"kind": "step", "step": 4, "loss": 1.0},
        {"kind": "validation", "step": 2, "sources": {}},
        {"kind": "evaluation", "step": 2, "probes": {}},
        {"kind": "evaluation", "step": 3, "probes": {}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "validation", "step": 4')
    expected = [set(), set(), {"validation", "evaluation"}, {"evaluation"}, {"step"}, set()]
    assert [logged_at(read_logged(path), step) for step in range(6)] == expected


def test_metrics_file_forgets_what_a_killed_run_logged_beyond_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(
        "".join(json.dumps({"kind": "step", "step": step, "loss": 1.0}) + "\n" for step in (1, 2, 3)) + '{"kind": "st'
    )
    log = JsonLines(path, read_logged(path), resumed_step=2)
    log.after_step({"step": 3, "loss": 2.0})
    log.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [1.0, 1.0, 2.0]


def test_figures_that_are_not_finite_are_null_in_the_file_and_gaps_in_the_plot(tmp_path):
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.after_step(figures(1))
    nan = {"wiki-ja": math.nan, "web-en": 2.0}
    log.after_step(figures(2, loss=math.nan, grad_norm=math.inf, loss_by_source=nan, applied=False))
    log.after_validation(2, {"wiki-ja": {"bits_per_byte": math.nan}})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert not re.search("nan|infinity", text, re.IGNORECASE)
    found = read_metrics(tmp_path / "metrics.jsonl")
    steps, validations = found.steps, found.validations
    assert (steps[0]["loss"], steps[1]["loss"], steps[1]["grad_norm"]) == (1.842, None, None)
    assert steps[1]["loss_by_source"] == {"wiki-ja": None, "web-en": 2.0}
    assert validations[0]["sources"] == {"wiki-ja": {"bits_per_byte": None}}
    assert plot_runs({"run": tmp_path / "metrics.jsonl"}, tmp_path / "plot.png").stat().st_size > 1000


# --- the terminal -------------------------------------------------------------------------------------------------


def test_a_steps_line_reads_as_documented(tmp_path):
    lines: list[str] = []
    Console(25_000, lines.append, LANGUAGES).after_step(figures(1250))
    assert lines == [
        "step 1,250/25,000  loss 1.842  ja 1.79 en 2.02  grad 0.61  lr 1.98e-05  412k tok/s  47% MFU  data 0.2%  3d 4h left"
    ]


def test_a_long_runs_line_fits_120_columns():
    lines: list[str] = []
    many = {f"web-{language}": 10.25 for language in ("ja", "en", "code", "math", "zh", "ko")}
    console = Console(2_500_000, lines.append, {name: name.removeprefix("web-") for name in many})
    long = {"grad_norm": 1234.5, "seconds_left": 9e7, "loss_by_source": many, "loss": 10.25}
    console.after_step(figures(1_250_000, **long))
    console.after_step(figures(1_250_000, **long, router_loss=1.02))
    console.after_step(figures(1_250_000, **long, router_loss=1.02, applied=False))
    console.after_step(figures(1_250, loss_by_source=many, mfu=None))
    assert max(map(len, lines)) <= 120
    for line in lines:
        assert re.fullmatch(r"step .*  loss 10?\.\d+.*  grad .*  lr .*  412k tok/s.*  \S+ \S+ left.*", line)
    assert "  ja 10.25 en 10.25  grad" in lines[3]  # as many as there is room for


def test_languages_are_means_of_their_sources_and_a_source_without_one_stands_alone():
    found = figures(loss_by_source={"a": 3.5, "b": 3.0, "c": 2.0, "d": 3.0})
    assert by_language(found, {"a": "ja", "b": "en", "c": None, "d": "ja"}) == {"ja": 3.25, "en": 3.0, "c": 2.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": math.nan}, "SKIPPED (not finite)"),
        ({"grad_norm": math.inf}, "SKIPPED (not finite)"),
        ({"grad_norm": 0.0}, "SKIPPED (no targets)"),
        ({"spike": True}, "SKIPPED (spike)"),
    ],
)
def test_a_skipped_step_says_why(changes, said):
    lines: list[str] = []
    Console(9, lines.append, LANGUAGES).after_step(figures(applied=False, **changes))
    assert lines[0].endswith(said)


def test_answers_are_one_line_and_one_record(tmp_path):
    lines: list[str] = []
    Console(2_000, lines.append, LANGUAGES).after_evaluation(1_000, ANSWERS)
    assert lines == ["step 1,000/2,000  right answers  cloze_ja 40%  arithmetic 25%"]
    log = JsonLines(tmp_path / "metrics.jsonl")
    log.after_evaluation(2, ANSWERS)
    log.close()
    record = {"kind": "evaluation", "step": 2, "probes": ANSWERS, "attempt": 1}
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == record


# --- TensorBoard --------------------------------------------------------------------------------------------------


def test_event_files_hold_each_step_once_also_after_a_resume(tmp_path):
    board = TensorBoard(tmp_path, resumed_step=0)
    for step in (1, 2, 3):
        board.after_step(figures(step, loss=float(step)))
    board.after_validation(2, SCORES)
    board.after_validation(3, SCORES)
    board.after_evaluation(2, ANSWERS)
    board.after_evaluation(3, ANSWERS)
    board.close()  # killed after step 3, with a checkpoint of step 2
    time.sleep(1)  # as a restart takes: within a second, files are read in the order of "9", "10" as text
    board = TensorBoard(tmp_path, resumed_step=2)
    for step in (3, 4):
        board.after_step(figures(step, loss=10.0 + step))
    board.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["scalars"]) == {
        *(f"train/{key}" for key in ("loss", "grad_norm", "learning_rate", "tokens", "applied", "tokens_per_second",
                                     "tflops", "mfu", "memory_gb", "data_wait", "loss/wiki-ja", "loss/web-en")),
        *(f"eval/{key}/wiki-ja" for key in SCORES["wiki-ja"]),
        *(f"probes/{key}/{name}" for key in ("accuracy", "bits_per_byte") for name in ANSWERS),
    }  # fmt: skip
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1), (2, 2), (3, 13), (4, 14)]
    assert [event.step for event in events.Scalars("eval/bits_per_byte/wiki-ja")] == [2]
    assert [event.step for event in events.Scalars("probes/accuracy/cloze_ja")] == [2]


# --- hosted trackers ----------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch) -> dict[str, list[Any]]:
    """All that fake wandb and trackio modules are called with."""
    calls: dict[str, list[Any]] = {"init": [], "log": [], "finish": []}
    for name in ("wandb", "trackio"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        for function, found in calls.items():
            setattr(module, function, lambda *given, _found=found, **named: _found.append((given, named)))
        monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_hosted_trackers_are_told_figures_and_the_allow_list_and_no_path(
    service, told, monkeypatch, tmp_path, prepared_tiny, tiny_tokenizer_folder
):
    secret = tmp_path / "canary-customer"
    shutil.copytree(tiny_tokenizer_folder, secret / "tokenizer")
    (secret / "corpus.jsonl").write_text('{"text": "a"}\n')
    monkeypatch.setenv("WANDB_API_KEY", "canary-token")
    overrides = {
        "run_dir": secret / "first", "model.tokenizer": secret / "tokenizer", "data.prepared_dir": secret / "data",
        "data.sources.ja.path": secret / "corpus.jsonl", "data.sources.en.path": secret / "corpus.jsonl",
        "tracking.report_to": f"[{service}]", "tracking.project": "graft",
    }  # fmt: skip
    recipe = parse_recipe(prepared_tiny.text, overrides=[f"{key}={value}" for key, value in overrides.items()])
    recipe.run_dir.mkdir()
    listeners = make_listeners(recipe, [], 0, 6, lambda _: None)
    for listener in listeners:
        listener.after_step(figures(5))
        listener.after_validation(5, SCORES)
        listener.after_evaluation(5, ANSWERS)
        listener.close()
    assert "canary" not in repr(told)
    (((), start),) = told["init"]
    assert start.keys() == {"project", "name", "config"}
    assert (start["project"], start["name"]) == ("graft", "first")
    assert start["config"].keys() == {
        "max_steps", "max_tokens", "global_batch_size", "micro_batch_size", "learning_rate", "min_lr", "lr_scheduler",
        "warmup_steps", "decay_steps", "embedding_warmup_steps", "embedding_lr_factor", "weight_decay", "adam_beta1",
        "adam_beta2", "adam_epsilon", "max_grad_norm", "precision", "activation_checkpointing", "compile",
        "deterministic", "sequence_length", "weights", "seed",
    }  # fmt: skip
    assert start["config"]["weights"] == {"ja": 2, "en": 1}
    assert [named for _, named in told["log"]] == [{"step": 5}] * 3
    scalars = told["log"][0][0][0] | told["log"][1][0][0] | told["log"][2][0][0]
    assert scalars["train/loss"] == 1.842
    assert scalars["train/loss/web-en"] == 2.02
    assert scalars["eval/bits_per_byte/wiki-ja"] == 1.1
    assert scalars["probes/accuracy/cloze_ja"] == 0.4
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in scalars.values())
    assert told["finish"] == [((), {})]


@pytest.mark.parametrize("service", ["wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(service, monkeypatch, prepared_tiny):
    monkeypatch.setitem(sys.modules, service, None)
    recipe = parse_recipe(prepared_tiny.text, overrides=[f"tracking.report_to=[{service}]"])
    monkeypatch.setattr(pipeline, "open_prepared", lambda _: pytest.fail("data were opened"))
    monkeypatch.setattr(pipeline, "load_tokenizer", lambda _: pytest.fail("the tokenizer was loaded"))
    with pytest.raises(RecipeError, match=f"pip install {service}"):
        pipeline.run_training(recipe, lambda _: None)


def test_the_terminal_says_where_a_model_of_conversations_stops():
    said: list[str] = []
    talk = {"bits_per_byte": 0.9, "end_probability": 0.934, "false_end_probability": 0.0123}
    Console(10, said.append, {}).after_validation(5, SCORES | {"talk": talk})
    assert said == [
        "step 5/10  held-out bits per byte  wiki-ja 1.100  talk 0.900",
        "step 5/10  probability of the end token where answers end (and within)  talk 93.4% (1.23%)",
    ]
