"""`inspect` names every kind of artefact, notices damage in each, and never ends in a traceback."""

import json
import random
import shutil

import pytest
import xxhash

from tsugiki.checkpoint_files import render_manifest
from tsugiki.errors import TsugikiError
from tsugiki.inspection import inspect_path
from tsugiki.pipeline import run_prepare
from tsugiki.recipe_file import parse_recipe
from tsugiki.state_file import write_state


@pytest.fixture
def run(tmp_path, tiny_tokenizer_folder):
    """A run directory with prepared data, two checkpoints, a state and an export, none of it made by a model."""
    rows = [json.dumps({"text": f"Document {n}: the river remembers. 川は覚えている。" * 20}) for n in range(120)]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, "{broken"]), encoding="utf-8")
    values = {
        "run_dir": str(tmp_path / "run"),
        "model": {
            "architecture": {"model_type": "mistral", "vocab_size": 384},
            "tokenizer": str(tiny_tokenizer_folder),
        },
        "data": {
            "sequence_length": 64, "held_out": 0.4, "workers": 1, "max_bad_documents": 0.05,
            "sources": {"ja": {"path": str(tmp_path / "a.jsonl"), "weight": 1}},
        },
        "training": {
            "max_steps": 3, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 3,
        },
    }  # fmt: skip
    run_prepare(parse_recipe(json.dumps(values)))
    run = tmp_path / "run"
    for step in (5, 10):
        write_checkpoint(run / f"checkpoints/step_{step:08d}", step)
    state = {"status": "resumable", "step": 10, "detail": "SIGTERM", "time": "2026-01-01T00:00:00+0000"}
    (run / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (run / "metrics.jsonl").touch()
    (run / "export").mkdir()
    (run / "export/config.json").write_text('{"architectures": ["MistralForCausalLM"], "vocab_size": 384}')
    (run / "export/model.safetensors").write_bytes(bytes(1_500_000))
    return run


def write_checkpoint(path, step):
    path.mkdir(parents=True)
    stages = [{"start_sample": 0, "weights": {"ja": 70_000, "en": 30_000}}]
    state = {"samples": step * 8, "tokens": step * 512, "world_size": 2, "lineage": "x", "mixture": {"stages": stages}}
    (path / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (path / "shard.safetensors").write_bytes(random.randbytes(5000))
    files = {
        file.name: {"size": file.stat().st_size, "xxh3": xxhash.xxh3_128_hexdigest(file.read_bytes())}
        for file in path.iterdir()
    }
    manifest = {"format": 1, "step": step, "lineage": "x", "ancestors": [], "files": files, "tensors": {}}
    (path / "manifest.json").write_text(render_manifest(manifest), encoding="utf-8")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


EVERYTHING = {
    "": ["run ", "resumable at step 10 (SIGTERM)", "step_00000010  whole, digests verified", "ja 70.00%, en 30.00%",
         "metrics.jsonl", "export: Hugging Face folder"],
    "checkpoints": ["checkpoints in ", "step_00000005  whole", "MB in all"],
    "checkpoints/step_00000010": ["step 10, ", "2 files", "written by 2 process(es)", "ja 70.00%", "whole: 2 files"],
    "data": ["prepared source ja", "1 records left out: 1 malformed", "BOS added, EOS added", "whole: 7 files"],
    "data/ja": ["prepared source ja", "train ", "held_out ", "1 files read", "whole: 7 files"],
    "data/ja/train": ["token store ", " documents, ", "uint16", "bytes a token", "whole: 3 files"],
    "data/ja/held_out-00000.idx": ["token store ", "whole: 3 files"],
    "export": ["Hugging Face folder", "MistralForCausalLM, 1.5 MB in 1 safetensors", "vocabulary 384, tokenizer none"],
}  # fmt: skip


@pytest.mark.parametrize("place", EVERYTHING)
def test_every_artefact_is_recognised(run, place):
    lines, sound = inspect_path(run / place)
    assert sound
    for said in EVERYTHING[place]:
        assert said in "\n".join(lines)


def test_experiments_and_folders_of_runs_name_their_runs(tmp_path):
    for name, status in (("first", "finished"), ("second", "resumable")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("")
        write_state(tmp_path / name, status, 4)
    lines, sound = inspect_path(tmp_path)
    assert (lines[:3], sound) == (
        [f"runs in {tmp_path}", "  first: finished at step 4", "  second: resumable at step 4"], True
    )  # fmt: skip
    for kind, key in (("sweep", "sweep"), ("attribution", "experiment")):
        found = {"format": 1, "finished": False, "recipe": "base.yaml", key: f"{kind}.yaml", "more": [1]}
        (tmp_path / f"{kind}.json").write_text(json.dumps(found))
        lines, sound = inspect_path(tmp_path)
        assert lines[:2] == [
            f"{kind} {tmp_path}: not every run has ended", f"  of {kind}.yaml, with the recipe base.yaml"
        ]  # fmt: skip
        assert "  second: resumable at step 4" in lines
        assert sound
        (tmp_path / f"{kind}.json").unlink()


@pytest.mark.parametrize(
    ("damaged", "places"),
    [
        ("checkpoints/step_00000010/shard.safetensors", ["", "checkpoints", "checkpoints/step_00000010"]),
        ("checkpoints/step_00000010/state.json", ["", "checkpoints", "checkpoints/step_00000010"]),
        ("checkpoints/step_00000010/manifest.json", ["", "checkpoints", "checkpoints/step_00000010"]),
        ("data/ja/train-00000.bin", ["data", "data/ja", "data/ja/train"]),
        ("data/ja/held_out-00000.documents.npy", ["data", "data/ja", "data/ja/held_out"]),
        ("data/ja/left_out.jsonl", ["data", "data/ja"]),
    ],
)
def test_one_changed_byte_is_found_from_every_place_and_named(run, damaged, places):
    flip(run / damaged)
    for place in places:
        lines, sound = inspect_path(run / place)
        assert not sound
        assert (run / damaged).name in "\n".join(lines)
    if "step_" in damaged:
        assert inspect_path(run / "checkpoints/step_00000005")[1]


def test_without_verifying_nothing_is_hashed_and_that_is_said(run):
    flip(run / "data/ja/train-00000.bin")
    lines, sound = inspect_path(run / "data/ja", verify=False)
    assert sound
    assert lines[-1] == "  digests not verified"


def test_a_store_of_another_tool_is_described_without_digests(run, tmp_path):
    for ending in ("bin", "idx"):
        shutil.copy(run / f"data/ja/train-00000.{ending}", tmp_path / f"other.{ending}")
    lines, sound = inspect_path(tmp_path / "other")
    assert sound
    assert "digests unknown" in lines[-1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"7", b'{"files": 3}', b"\xff\xfe", b"[" * 10**6])
def test_any_json_file_that_is_not_ours_gives_a_verdict_or_one_message(run, content):
    for file in sorted(run.rglob("*.json")):
        whole = file.read_bytes()
        file.write_bytes(content)
        for place in (file.parent, run, run / "data"):
            try:
                lines, _ = inspect_path(place)
            except TsugikiError as error:
                lines = [str(error)]
            assert lines
        file.write_bytes(whole)


def test_what_is_nothing_that_we_know_is_said_plainly(tmp_path):
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    for path in (tmp_path, tmp_path / "notes.txt", tmp_path / "missing", tmp_path / "missing.bin"):
        with pytest.raises(TsugikiError, match=str(path)):
            inspect_path(path)


def extended_vocabulary(folder):
    """A vocabulary's folder as the stage leaves it, none of it made by a model."""
    (folder / "model").mkdir(parents=True)
    (folder / "model/config.json").write_text('{"architectures": ["LlamaForCausalLM"], "vocab_size": 640}')
    (folder / "model/tokenizer.json").write_text("{}")
    (folder / "model/model.safetensors").write_bytes(bytes(2_500_000))
    report = {
        "vocabulary_size": {"before": 420, "after": 640}, "sample": {},
        "held_out": {"ja": {"tokens_ratio": 0.4431}}, "proofs": [{"passed": True}] * 9,
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "manifest.json").write_text('{"made_from": {"corpora": {"data.sources.ja": {}}}}')
    return folder


def test_an_extended_vocabulary_is_described_alone_and_with_its_run(run):
    folder = extended_vocabulary(run / "vocabulary")
    lines, sound = inspect_path(folder)
    assert sound
    assert lines == [
        f"extended vocabulary {folder}: 420 -> 640 pieces, 9 of 9 proofs passed",
        "  ja: 0.443 of the base's tokens",
        "  learned from data.sources.ja; all figures are in report.md",
        f"Hugging Face folder {folder}/model: LlamaForCausalLM, 2.5 MB in 1 safetensors file(s)",
        "  vocabulary 640, tokenizer tokenizer.json",
    ]
    of_run, sound = inspect_path(run)
    assert sound
    assert [f"  {line}" for line in lines] == [line for line in of_run if line[2:] in lines]


def test_a_vocabulary_that_was_broken_off_is_not_sound(run):
    folder = extended_vocabulary(run / "vocabulary")
    (folder / "manifest.json").write_text('{"made_from": null}')
    for path in (folder, run):
        lines, sound = inspect_path(path)
        assert not sound
        assert any("broken off while it was made; run tsugiki vocabulary RECIPE again" in line for line in lines)
