"""A recipe with a vocabulary section from the base to the export, by the command line: stopped, killed, on two
processes, and by two commands at once."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from extension_project import ENDS, FAMILIES, IDS, ROWS, extension_recipe, make_base, texts_of
from safetensors.torch import load_file
from whole_runs import LONG_PROBES

from tsugiki.corpus.tokenizer import TOKENIZER_FILES


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_model_folder) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {family: make_base(folder / family, family, tiny_model_folder) for family in FAMILIES}


class Project:
    """A recipe in a folder of its own, and what a run of it leaves."""

    def __init__(self, folder: Path, base: Path):
        self.folder, self.recipe = folder, extension_recipe(folder, base)
        self.recipe["training"] |= {"eval_steps": 6, "eval_documents": 2}

    def write(self, name: str, **changes: Any) -> Path:
        """A recipe whose run directory is `name`; keys of a section by its name."""
        recipe = self.recipe | {"run_dir": str(self.folder / name)}
        for section, keys in changes.items():
            recipe[section] = recipe[section] | keys
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return path


def tokenizer_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TOKENIZER_FILES if (folder / name).exists()}


def times(*folders: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in [folder, *sorted(folder.rglob("*"))]}


def newest(run: Path) -> dict[str, torch.Tensor]:
    (path,) = (run / "checkpoints/step_00000006").glob("*.safetensors")
    return load_file(path)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_from_extension_to_export_and_again_with_another_base(launch, tmp_path, bases, family):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = Path(shutil.copytree(bases[family], tmp_path / "base"))
    project = Project(tmp_path, base)
    before = times(base)
    run = tmp_path / "whole"
    started = launch("run", project.write("whole"))
    assert started.wait() == [0], started.output()
    assert times(base) == before
    extended, rows = run / "vocabulary/model", 640
    assert IDS[family] < ROWS[family] < rows or family == "llama"
    config = json.loads((extended / "config.json").read_text())
    assert config["vocab_size"] == rows
    assert {key: config.get(key) for key in ENDS[family]} == ENDS[family]
    probes = {probe["name"]: probe for probe in json.loads((run / "preflight.json").read_text())["probes"]}
    assert probes["tokenizer"]["verdict"] == "ok"
    assert f"{rows} ids for {rows} rows" in probes["tokenizer"]["measured"]
    assert probes["token_ids"]["verdict"] == probes["file_weights"]["verdict"] == probes["tied"]["verdict"] == "ok"

    files = tokenizer_of(extended)
    assert ("tokenizer.model" in files) == (family == "llama")
    assert tokenizer_of(run / "model") == tokenizer_of(run / "export") == files
    tokenizer = AutoTokenizer.from_pretrained(run / "export")
    model = AutoModelForCausalLM.from_pretrained(run / "export", dtype=torch.float32)
    assert len(tokenizer) == model.get_input_embeddings().weight.shape[0] == rows
    assert not model.get_input_embeddings().weight.isnan().any()
    text = texts_of("ja")[3]
    ids = tokenizer(text, return_tensors="pt").input_ids
    plain = AutoTokenizer.from_pretrained(base)
    assert ids.shape[1] < 0.6 * len(plain(text).input_ids)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == text
    assert tokenizer("A river remembers.").input_ids == plain("A river remembers.").input_ids
    out = model.generate(ids[:, :20], max_new_tokens=5, do_sample=False)
    assert 20 < out.shape[1] <= 25

    report = json.loads((run / "vocabulary/report.json").read_text())
    grown = rows - ROWS[family]
    assert report["model"]["added_parameters"] == grown * 16 * (2 if family == "llama" else 1)
    stored = load_file(base / "model.safetensors")
    assert report["model"]["parameters"] == sum(tensor.numel() for tensor in stored.values())
    assert report["initialisation"]["tied"] == ("no" if family == "llama" else "yes")

    (figures,) = json.loads((run / "report/report.json").read_text())["runs"]
    assert figures["vocabulary"]["vocabulary_size"] == {"before": IDS[family], "after": rows}
    assert figures["state"]["status"] == "finished"
    assert {one["metric"] for one in figures["gains"]} == {"bits per byte"}
    assert all(one["difference_limits"] for one in figures["gains"])
    assert figures["samples"]["samples"]
    assert (run / "report/report.html").read_text("utf-8").startswith("<!doctype html>")
    assert "report     " in started.output()

    # A run that shares the vocabulary, stopped while the embeddings train alone, ends with the same bits.
    shared = {
        "vocabulary": {"output_dir": str(run / "vocabulary")},
        "data": {"prepared_dir": str(run / "data")},
        "training": {"preflight": {"skip": LONG_PROBES}},
    }
    started = launch("run", project.write("parts", **shared), "training.stop_after_steps=2")
    assert started.wait() == [75], started.output()
    assert "vocabulary is up to date" in started.output()
    started = launch("run", tmp_path / "parts.yaml")
    assert started.wait() == [0], started.output()
    whole, parts = newest(run), newest(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())

    done = times(*(run / name for name in ("vocabulary", "data", "checkpoints", "export")))
    started = launch("run", tmp_path / "whole.yaml")
    assert started.wait() == [0], started.output()
    assert "nothing to train" in started.output()
    assert times(*(run / name for name in ("vocabulary", "data", "checkpoints", "export"))) == done

    weights = bytearray((base / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (base / "model.safetensors").write_bytes(weights)
    started = launch("run", tmp_path / "whole.yaml")
    assert started.wait() == [2]
    assert "base.model.safetensors changed), but" in started.output().replace("\n", " ")
    assert "has checkpoints with the old one. Undo the change, or give another run_dir" in started.output()


def test_a_killed_stage_leaves_no_model_and_the_next_calls_make_and_replace_it(launch, tmp_path, bases):
    project = Project(tmp_path, bases["qwen3"])
    folder = tmp_path / "run/vocabulary"
    recipe = project.write("run")
    for phase in ("learning from", "learnt"):
        started = launch("vocabulary", recipe)
        started.wait_for(phase)
        started.signal(signal.SIGKILL)
        assert started.wait() == [-9], started.output()
        assert not (folder / "model").exists()
        refused = launch("train", recipe)
        assert refused.wait() == [2]
        assert "holds no extended model yet: run tsugiki vocabulary RECIPE first" in refused.output()
    started = launch("vocabulary", recipe)
    assert started.wait() == [0], started.output()
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        "fertility.png", "manifest.json", "model", "report.json", "report.md",
    ]  # fmt: skip

    old = (folder / "model/tokenizer.json").read_bytes()
    training = {"eval_steps": None, "preflight": {"skip": LONG_PROBES}}
    started = launch("run", project.write("run", vocabulary={"add": 260}, training=training), world=2)
    assert started.wait() == [0, 0], started.output()
    assert (folder / "model/tokenizer.json").read_bytes() != old
    assert "704 ids for 704 rows" in started.output()


def test_two_commands_in_one_folder_make_one_model(launch, tmp_path, bases):
    project = Project(tmp_path, bases["qwen3"])
    shared = {"vocabulary": {"output_dir": str(tmp_path / "shared")}}
    started = [launch("vocabulary", project.write(name, **shared)) for name in ("a", "b")]
    assert [each.wait() for each in started] == [[0], [0]], started[0].output() + started[1].output()
    made = ["learnt" in each.output() for each in started]
    assert sorted(made) == [False, True]
    assert "is up to date" in started[made.index(False)].output()


def test_processes_that_wait_end_when_they_are_told_after_the_first_has_failed(launch, tmp_path, bases):
    project = Project(tmp_path, bases["qwen3"])
    started = launch("run", project.write("run", vocabulary={"add": 50_000}), world=2)
    started.processes[0].join(120)
    assert started.processes[0].exitcode == 3
    assert "yields" in started.output()
    assert started.processes[1].is_alive()
    started.signal(signal.SIGTERM, [1])  # as torchrun does, and srun with --kill-on-bad-exit
    started.processes[1].join(20)
    assert not started.processes[1].is_alive()
    assert not (tmp_path / "run/vocabulary/model").exists()
