"""The stages of a run directory: what a stop owes, what a refused start leaves, what running again does not do."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from tiny_project import PreparedTiny, prepare_tiny
from transformers import AutoModelForCausalLM

from tsugiki import cli
from tsugiki.errors import RecipeError, StorageError, TsugikiError
from tsugiki.model.export import export
from tsugiki.pipeline import export_final, run_prepare, run_training
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe, show
from tsugiki.training import distributed, loop, signals
from tsugiki.training.preflight import PROBES


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> PreparedTiny:
    return prepare_tiny(tmp_path_factory.mktemp("pipeline"), tiny_tokenizer_folder)


@pytest.fixture(autouse=True)
def leave_groups_as_found(monkeypatch: pytest.MonkeyPatch) -> None:
    if dist.is_initialized():  # another test's, which a run at its end would leave
        monkeypatch.setattr(distributed, "stop_processes", lambda: None)
    torch.set_num_threads(1)


@pytest.fixture
def recipe_of(tiny: PreparedTiny, tmp_path: Path):
    """recipe_of(**{"training.max_steps": 4}): the tiny recipe in a run directory of this test, without preflight."""

    def make(**changes: object) -> Recipe:
        changes = {
            "run_dir": tmp_path / "run",
            "training.preflight.skip": json.dumps([probe.name for probe in PROBES]),
            **changes,
        }
        return parse_recipe(tiny.text, overrides=[f"{key}={value}" for key, value in changes.items()])

    return make


def silent(_text: str) -> None:
    return


def test_the_start_says_which_weights_have_a_rate_of_their_own_and_begin_alone(recipe_of):
    def said(**changes: object) -> list[str]:
        lines: list[str] = []
        run_training(recipe_of(**changes), lines.append, only_preflight=True)
        return [line for line in lines if line.startswith("optimizer")]

    keys = {"training.embedding_lr_factor": 2.5, "training.embedding_warmup_steps": 3}
    assert said() == [
        "optimizer  weight decay 0.1: 16 tensors, 16,128 parameters",
        "optimizer  weight decay 0: 5 tensors, 80 parameters",
    ]
    assert said(**keys) == [
        "optimizer  weight decay 0.1, learning rate x 2.5: 2 tensors, 12,288 parameters",
        "optimizer  weight decay 0.1: 14 tensors, 3,840 parameters",
        "optimizer  weight decay 0: 5 tensors, 80 parameters",
        "optimizer  up to step 3 only lm_head.weight, model.embed_tokens.weight",
    ]


def validations(run_dir: Path) -> dict[int, dict]:
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [(record["step"], record["sources"]) for record in records if record["kind"] == "validation"]
    assert len(dict(found)) == len(found)  # none twice
    return dict(found)


def state(run_dir: Path) -> tuple[str, int]:
    found = json.loads((run_dir / "state.json").read_text())
    return found["status"], found["step"]


def ask_to_stop(monkeypatch: pytest.MonkeyPatch, at_step: int, *, inside_validation: bool) -> None:
    """The next run is asked to stop once: in the validation of `at_step`, or in the step that ends there."""
    validate, train_step = loop.validate, loop.train_step
    asked = SimpleNamespace(now=False, step=0)

    def watched(*arguments, **named):
        asked.now = inside_validation and asked.step == at_step
        scores = validate(*arguments, **named)
        asked.now = False
        return scores

    def counted(run, batch):
        asked.now = not inside_validation and run.step + 1 == at_step
        record = train_step(run, batch)
        asked.now, asked.step = False, record.step
        return record

    class Asked(signals.StopRequest):
        reason = "SIGUSR2"

        def requested(self, reserve_seconds: float = 0.0) -> bool:
            return asked.now

    monkeypatch.setattr(loop, "validate", watched)
    monkeypatch.setattr(loop, "train_step", counted)
    monkeypatch.setattr(signals, "StopRequest", Asked)


LENGTH = {"training.max_steps": 4, "training.eval_steps": 2, "training.save_steps": 100}


@pytest.fixture(scope="module")
def uninterrupted(tiny: PreparedTiny, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict]:
    """The validations of a run that nobody stopped."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    skip = json.dumps([probe.name for probe in PROBES])
    changes = {"run_dir": run_dir, "training.preflight.skip": skip, **LENGTH}
    recipe = parse_recipe(tiny.text, overrides=[f"{key}={value}" for key, value in changes.items()])
    with pytest.MonkeyPatch.context() as patch:
        if dist.is_initialized():
            patch.setattr(distributed, "stop_processes", lambda: None)
        assert run_training(recipe, silent)
    return validations(run_dir)


@pytest.mark.parametrize(
    ("at_step", "inside"), [(0, True), (2, True), (4, True), (4, False)],
    ids=["before the first step", "on the way", "at the end", "in the last step"],
)  # fmt: skip
def test_a_validation_that_a_stop_broke_off_is_made_at_the_next_start(recipe_of, uninterrupted, at_step, inside):
    recipe = recipe_of(**LENGTH)
    assert sorted(uninterrupted) == [0, 2, 4]
    with pytest.MonkeyPatch.context() as patch:
        ask_to_stop(patch, at_step, inside_validation=inside)
        assert run_training(recipe, silent) is False
    assert state(recipe.run_dir) == ("resumable", at_step)
    assert sorted(validations(recipe.run_dir)) == [step for step in (0, 2, 4) if step < at_step]
    assert run_training(recipe, silent) is True
    assert state(recipe.run_dir) == ("finished", 4)
    assert validations(recipe.run_dir) == uninterrupted
    before = (recipe.run_dir / "metrics.jsonl").read_bytes()
    assert run_training(recipe, silent) is True  # owes nothing
    assert (recipe.run_dir / "metrics.jsonl").read_bytes() == before


def test_the_state_file_says_why_a_run_stopped(recipe_of, monkeypatch):
    """Also where the end of a job was near when it was asked, and is not near any more once the run is saved."""
    key = {"training.stop_after_steps": 1, "training.eval_steps": "null", "training.max_steps": 4}
    recipe = recipe_of(**key)

    def why() -> str:
        return json.loads((recipe.run_dir / "state.json").read_text())["detail"]

    assert run_training(recipe, silent) is False
    assert why() == "training.stop_after_steps"
    monkeypatch.setenv("SLURM_JOB_END_TIME", "5000")
    hours = iter([4000, 5000])
    monkeypatch.setattr(signals, "time", SimpleNamespace(time=lambda: next(hours, 4000), monotonic=lambda: 0.0))
    assert run_training(recipe_of(**key | {"training.stop_after_steps": 4}), silent) is False
    assert (state(recipe.run_dir), why()) == (("resumable", 3), "end of the Slurm job")


def test_a_run_goes_on_from_no_log_that_was_damaged_or_lost(recipe_of):
    stopped = {**LENGTH, "training.eval_steps": "null"}
    recipe = recipe_of(**stopped, **{"training.stop_after_steps": 2})
    assert run_training(recipe, silent) is False
    before, path = state(recipe.run_dir), recipe.run_dir / "metrics.jsonl"
    text = path.read_text("utf-8")
    for damaged, said in (("{}\n" + text, r"metrics\.jsonl, line 1\b.*Take that line out"), ("", "is empty")):
        path.write_text(damaged, "utf-8")
        with pytest.raises(StorageError, match=said):
            run_training(recipe_of(**stopped), silent)
        assert (path.read_text("utf-8"), state(recipe.run_dir)) == (damaged, before)
    path.write_text(text + '{"kind": "st', "utf-8")  # as a kill leaves it
    assert run_training(recipe_of(**stopped), silent) is True
    assert [json.loads(line)["step"] for line in path.read_text("utf-8").splitlines()] == [1, 2, 3, 4]


def stands(run_dir: Path) -> dict[str, bytes]:
    """What a refused start must leave: the model's files, the recipe and the state, by name."""
    paths = [*(run_dir / "model").iterdir(), run_dir / "recipe.yaml", run_dir / "state.json"]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in paths}


def test_a_refused_start_leaves_the_run_as_it_stood(recipe_of, tiny, tiny_tokenizer_folder, tmp_path):
    tokenizer, copies = tmp_path / "tokenizer", {"data.prepared_dir": tmp_path / "data"}
    shutil.copytree(tiny_tokenizer_folder, tokenizer)
    copies |= {"model.tokenizer": tokenizer, "training.eval_steps": "null", "training.stop_after_steps": 2}
    run_prepare(recipe_of(**copies))
    recipe = recipe_of(**copies)
    assert run_training(recipe, silent) is False
    before = stands(recipe.run_dir)
    assert {"model/config.json", "model/tokenizer.json", "recipe.yaml", "state.json"} <= before.keys()

    checked = (recipe.run_dir / "preflight.json").read_bytes()
    with pytest.raises(RecipeError, match="stop_after_steps is 2, and the run has reached step 2: raise it"):
        run_training(recipe, silent)
    assert stands(recipe.run_dir) == before
    assert (recipe.run_dir / "preflight.json").read_bytes() == checked

    lower = recipe_of(**copies, **{"training.learning_rate": 1e-3, "training.logging_steps": 3})
    for only_preflight in (False, True):
        with pytest.raises(RecipeError, match=r"training\.learning_rate"):
            run_training(lower, silent, only_preflight=only_preflight)
        assert stands(recipe.run_dir) == before
    assert run_training(recipe_of(**copies, **{"training.logging_steps": 3}), silent, only_preflight=True) is False
    assert stands(recipe.run_dir) == before

    content = json.loads((tokenizer / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"].pop()
    (tokenizer / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    run_prepare(recipe)
    with pytest.raises(RecipeError, match="tokenizer's files have changed"):
        run_training(recipe, silent)
    assert stands(recipe.run_dir) == before

    export(recipe.run_dir / "checkpoints/step_00000002", tmp_path / "export")
    for path in tiny_tokenizer_folder.iterdir():
        assert (tmp_path / "export" / path.name).read_bytes() == path.read_bytes()


def test_preflight_alone_leaves_nothing_of_a_run(recipe_of):
    recipe = recipe_of()
    assert run_training(recipe, silent, only_preflight=True) is False
    left = {path.name for path in recipe.run_dir.iterdir()}
    assert not left & {"model", "recipe.yaml", "state.json", "metrics.jsonl", "tensorboard"}


@pytest.fixture
def untied_folder(tmp_path: Path, tiny_language_model_folder: Path) -> Path:
    """A model whose configuration ties its embeddings and whose files hold two tensors that differ."""
    folder = Path(shutil.copytree(tiny_language_model_folder, tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    return folder


def test_a_tied_configuration_with_two_tensors_is_trained_saved_and_exported_with_both(recipe_of, untied_folder):
    rows, head = "model.embed_tokens.weight", "lm_head.weight"
    based = {"model": json.dumps({"name_or_path": str(untied_folder)}), "training.eval_steps": "null"}
    based |= {"training.max_steps": 2, "training.save_steps": 1}
    recipe = recipe_of(**based)
    run_prepare(recipe)
    assert run_training(recipe, silent)
    before = load_file(untied_folder / "model.safetensors")
    export(recipe.run_dir / "checkpoints/step_00000002", recipe.run_dir / "mine", dtype="float32")
    after = load_file(recipe.run_dir / "mine/model.safetensors")
    assert after.keys() == before.keys()
    for name in (rows, head):
        assert not torch.equal(after[name], before[name])
        torch.testing.assert_close(after[name], before[name], atol=0.02, rtol=0)  # two steps of 5e-3 from its own
    plain = AutoModelForCausalLM.from_pretrained(recipe.run_dir / "mine", dtype=torch.float32)
    assert torch.equal(plain.get_input_embeddings().weight, after[rows])
    assert torch.equal(plain.get_output_embeddings().weight, after[head])


def times(folder: Path) -> dict[str, int]:
    """When the folder and all in it were last written."""
    return {str(path): path.stat().st_mtime_ns for path in [folder, *sorted(folder.rglob("*"))]}


def test_an_export_is_written_once_for_each_checkpoint_and_over_nothing_else(recipe_of):
    changes = {"training.eval_steps": "null", "training.save_steps": 1}
    recipe = recipe_of(**changes, **{"training.stop_after_steps": 1})
    assert run_training(recipe, silent) is False
    output = recipe.run_dir / "export"
    output.mkdir()
    (output / "mine.txt").write_text("keep")
    with pytest.raises(StorageError, match="was not written by this run"):
        export_final(recipe, silent)
    assert [path.name for path in output.iterdir()] == ["mine.txt"]
    (output / "mine.txt").unlink()
    said: list[str] = []
    assert export_final(recipe, silent) == output
    first = times(output)
    weights = (output / "model.safetensors").read_bytes()
    assert export_final(recipe, said.append) == output
    assert times(output) == first
    assert "up to date (step_00000001)" in said[0]

    run_training(recipe_of(**changes, **{"training.stop_after_steps": 2}), silent)
    (output / "README.md").write_text("a card of mine")
    with pytest.raises(StorageError, match=r"export/README\.md was not written by this run: move it away"):
        export_final(recipe, silent)
    (output / "README.md").unlink()
    export_final(recipe, silent)
    assert (output / "model.safetensors").read_bytes() != weights
    mark = json.loads((output / "tsugiki.json").read_text())
    assert mark["checkpoint"] == "step_00000002"
    assert {*mark["files"], "tsugiki.json"} == {path.name for path in output.iterdir()}
    (output / "tsugiki.json").write_text(json.dumps(mark | {"digest": "0" * 32}))  # of another run in the same place
    export_final(recipe, said.append)
    assert json.loads((output / "tsugiki.json").read_text()) == mark


def test_the_same_export_asked_for_again_is_up_to_date_and_another_is_refused(recipe_of, tmp_path, monkeypatch, capsys):
    """A call that was stopped when the folder had its name already ends well when it is repeated."""
    recipe = recipe_of(**{"training.max_steps": 2, "training.save_steps": 1, "training.eval_steps": "null"})
    run_training(recipe, silent)
    output = tmp_path / "out"

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tsugiki", "export", *arguments, str(output)])
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code or 0
        return 0

    newest = str(recipe.run_dir / "checkpoints/step_00000002")
    assert call(newest) == 0
    made = times(output)
    (tmp_path / ".out.lock").touch()
    assert call(str(recipe.run_dir)) == 0
    assert f"{output} is up to date (step_00000002)" in capsys.readouterr().out
    for others in ([newest, "--dtype", "float32"], [str(recipe.run_dir / "checkpoints/step_00000001")]):
        assert call(*others) == RecipeError.exit_code
        assert "exists already" in capsys.readouterr().err
    assert times(output) == made
    assert not (tmp_path / ".out.lock").exists()
    (output / "config.json").unlink()
    assert call(newest) == RecipeError.exit_code


def test_running_a_finished_project_again_does_nothing(recipe_of, tmp_path, monkeypatch, capsys):
    recipe = recipe_of(
        **{"training.max_steps": 2, "training.save_steps": 1, "data.prepared_dir": tmp_path / "run/data"}
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(show(recipe), encoding="utf-8")

    def run() -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["tsugiki", "run", str(path)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, capsys.readouterr().out

    code, out = run()
    assert code == 0, out
    assert {"data", "checkpoints", "export", "model"} <= {entry.name for entry in recipe.run_dir.iterdir()}
    made = [times(recipe.run_dir / name) for name in ("data", "checkpoints", "export")]
    log = (recipe.run_dir / "metrics.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("tsugiki.training.run.load_model", None)  # it takes none to see that nothing is left
        code, out = run()
    assert code == 0, out
    assert "nothing to train" in out
    assert "preflight" not in out
    assert "up to date (step_00000002)" in out
    assert [times(recipe.run_dir / name) for name in ("data", "checkpoints", "export")] == made
    assert (recipe.run_dir / "metrics.jsonl").read_bytes() == log
    assert state(recipe.run_dir) == ("finished", 2)
    checkpoints = recipe.run_dir / "checkpoints"
    before = sorted(checkpoints.iterdir())
    (checkpoints / ".trash-step_00000001-0123456789ab").mkdir()  # it was killed at its end
    code, out = run()
    assert code == 0, out
    assert sorted(checkpoints.iterdir()) == before
    # As where the disk refused to delete the one before.
    path.write_text(show(recipe).replace("save_total_limit: 3", "save_total_limit: 1"), encoding="utf-8")
    code, out = run()
    assert code == 0, out
    assert sorted(checkpoints.iterdir()) == before[-1:]


def test_a_run_on_packed_text_that_was_stopped_ends_bitwise_as_one_that_was_not(recipe_of, tmp_path):
    changes = {"data.packing": "best_fit", "training.max_steps": 6, "training.save_steps": 2}
    weights = {}
    for name, stops in (("whole", []), ("stopped", [2, 4])):
        recipe = recipe_of(**changes, run_dir=tmp_path / name)
        run_prepare(recipe)
        for stop in stops:
            limited = recipe_of(**changes, run_dir=tmp_path / name, **{"training.stop_after_steps": stop})
            assert not run_training(limited, silent)
        assert run_training(recipe, silent)
        weights[name] = load_file(export_final(recipe, silent) / "model.safetensors")
    assert weights["whole"].keys() == weights["stopped"].keys()
    assert all(torch.equal(tensor, weights["stopped"][key]) for key, tensor in weights["whole"].items())
    with pytest.raises(TsugikiError, match=r"data\.packing"):
        run_training(recipe_of(**changes | {"data.packing": "windows"}, run_dir=tmp_path / "whole"), silent)


def test_a_stopped_project_is_resumable_and_not_exported(recipe_of, tmp_path, monkeypatch):
    recipe = recipe_of(**{"training.max_steps": 2, "training.eval_steps": "null"})
    path = tmp_path / "recipe.yaml"
    path.write_text(show(recipe), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["tsugiki", "run", str(path), "training.stop_after_steps=1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 75
    assert state(recipe.run_dir) == ("resumable", 1)
    assert not (recipe.run_dir / "export").exists()
