"""Files that programs write for programs, damaged and forged: each reader takes them whole, or refuses with one message
that names the file. Nothing hangs on what a file names (/dev/zero, lengths of petabytes), and nothing is written over.
"""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.distributed as dist
from bad_inputs import damaged, damaged_json, damaged_lines, damaged_tree, refusal
from evaluation_results import missing, model, scored
from one_process import processes  # noqa: F401 - a fixture
from rich.console import Console

from tsugiki.checkpoint_files import newest_name, render_manifest
from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import current_manifest
from tsugiki.errors import TsugikiError
from tsugiki.evaluation import diff, table_forms
from tsugiki.evaluation.backends import configured_stops, max_positions
from tsugiki.evaluation.journal import Journal, Key
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.results import write_results
from tsugiki.evaluation.table import make_table
from tsugiki.evaluation_files import read_results
from tsugiki.inspection import inspect_path
from tsugiki.metrics_file import read_logged
from tsugiki.model.safe_config import build_config, read_config
from tsugiki.model.weight_files import check_weight_files
from tsugiki.pipeline import run_prepare
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import Inputs, record_inputs, resolve_commits
from tsugiki.scripts import TargetCharacters
from tsugiki.training.checkpoint import Checkpointer
from tsugiki.training.distributed import Place, Processes
from tsugiki.vocabulary.base import open_base

CASES = int(os.environ.get("TSUGIKI_SOAK_INPUTS", "60"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_language_model_folder, processes) -> Path:  # noqa: F811 - a fixture
    """A run with prepared data, a checkpoint and metrics, a model, and two results of evaluations."""
    place = tmp_path_factory.mktemp("headers")
    shutil.copytree(tiny_language_model_folder, place / "model")
    (place / "model/special_tokens_map.json").write_text('{"bos_token": "<s>", "eos_token": {"content": "</s>"}}')
    rows = [json.dumps({"text": f"Document {n}: the river. 川は覚えている。" * 20}) for n in range(60)]
    (place / "a.jsonl").write_text("\n".join([*rows, "{broken"]), encoding="utf-8")
    recipe = recipe_of(place)
    run_prepare(recipe)
    (place / "run/model").mkdir()
    record_inputs(recipe, Inputs(TextTokenizer.from_folder(place / "model"), place / "model", {}))
    checkpointer = Checkpointer(place / "run/checkpoints", processes, lineage="x", keep_last=None)
    checkpointer.begin(2, {"model.a": torch.arange(6.0)}, {"step": 2})
    checkpointer.wait_and_commit()
    records = [{"kind": "step", "step": step, "loss": 2.5} for step in (1, 2, 3)]
    (place / "run/metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    state = {"status": "resumable", "step": 2, "detail": "SIGTERM", "time": "2026-01-01T00:00:00+0000"}
    (place / "run/state.json").write_text(json.dumps(state))
    with Journal(place / "journal.jsonl") as journal:
        for number in range(6):
            journal.add(Key("task", f"i{number}", 0, "d" * 32), {"text": "答え", "logprob": -1.5})
    for name, values in (("first", [1, 0, 1, 1]), ("second", [0, 0, 1, 1])):
        task = scored("swallow_niilc", values)
        lines = [
            {"task": task.task, "item": item, "prompt_hash": "x", "prompt": "p", "output": "o", "answer": "a", "gold": "g",
             "score": float(value)}
            for item, value in zip(task.ids, task.values[:, 0], strict=True)
        ]  # fmt: skip
        write_results(place / name, model(name, task, missing("swallow_gsm8k")), {task.task: lines})
    return place


def recipe_of(place: Path) -> Any:
    return parse_recipe(json.dumps({
        "run_dir": str(place / "run"), "model": {"name_or_path": str(place / "model")},
        "data": {
            "sequence_length": 64, "held_out": 0.4, "workers": 1, "max_bad_documents": 0.05,
            "sources": {"ja": {"path": str(place / "a.jsonl"), "weight": 1}},
        },
        "training": {
            "max_steps": 3, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 3,
        },
    }))  # fmt: skip


def forged(rng: Random, content: bytes) -> bytes:
    """A manifest whose own digest is right and whose values are not."""
    tree = damaged_tree(rng, json.loads(content))
    try:
        return render_manifest(tree).encode("utf-8", errors="surrogatepass")
    except (ValueError, AttributeError):  # no longer a mapping, or NaN
        return b"{}"


def use_store(place: Path) -> None:
    store = TokenStore(place / "run/data/ja/train")
    assert len(store.documents()) in (0, store.document_count)
    assert store.document_starts[store.document_count] == store.token_count
    if store.window_count(64):
        assert len(store.window(0, 64)) == 65


def use_sources(place: Path) -> None:
    recipe, tokenizer = recipe_of(place), TextTokenizer.from_folder(place / "model")
    current_manifest(recipe, "ja", tokenizer)
    open_prepared(recipe, tokenizer)["ja"].held_out_texts(tokenizer, 2)


def use_tokenizer(place: Path) -> None:
    tokenizer = TextTokenizer.from_folder(place / "model")
    assert tokenizer.fingerprint
    control_tokens(tokenizer)
    tokenizer.decode(tokenizer.encode("a river 川"))
    open_base(tokenizer, TargetCharacters.of_language("ja"))


def use_model(place: Path) -> None:
    folder = place / "model"
    check_weight_files(folder, allow_pickle=False)
    configured_stops(folder, TextTokenizer.from_folder(folder))
    max_positions(folder)
    build_config(read_config(folder)[0], str(folder / "config.json"))


def use_checkpoint(place: Path) -> None:
    newest_name(place / "run/checkpoints")
    everybody = dist.group.WORLD
    assert everybody is not None
    alone = Processes(Place(), torch.device("cpu"), everybody, everybody)
    found = Checkpointer(place / "run/checkpoints", alone, lineage="x", keep_last=None).newest_whole()
    assert found is None or found.step == found.manifest["step"]
    find_model(str(place / "run"))


def use_journal(place: Path) -> None:
    with Journal(place / "journal.jsonl") as journal:
        journal.get(Key("task", "i0", 0, "d" * 32))


def use_results(place: Path) -> None:
    first, second = read_results(place / "first"), read_results(place / "second")
    table, console = make_table([first, second], baseline=second), Console(file=io.StringIO(), width=100)
    table_forms.to_markdown(table)
    json.dumps(table_forms.to_json(table))
    console.print(table_forms.draw(table, 100))
    console.print(diff.draw(diff.compare(place / "first", place / "second", []), 5))


def use_metrics(place: Path) -> None:
    assert all(record["step"] is not None for record in read_logged(place / "run/metrics.jsonl"))


def inspect_run(place: Path) -> None:
    inspect_path(place / "run")
    inspect_path(place / "run/data")


def inspect_store(place: Path) -> None:
    inspect_path(place / "run/data/ja/train")


Damage = Callable[[Random, bytes], bytes]
FILES: dict[str, tuple[Damage, list[Callable[[Path], None]]]] = {
    "run/data/ja/train-00000.idx": (damaged, [use_store, inspect_store]),
    "run/data/ja/train-00000.bin": (damaged, [use_store, inspect_store]),
    "run/data/ja/train-00000.documents.npy": (damaged, [use_store, inspect_store]),
    "run/data/ja/manifest.json": (damaged_json, [use_sources, inspect_run, inspect_store]),
    "run/model/source.json": (damaged_json, [lambda place: resolve_commits(recipe_of(place))]),
    "run/state.json": (damaged_json, [inspect_run]),
    "run/metrics.jsonl": (damaged_lines, [use_metrics]),
    "run/checkpoints/step_00000002/manifest.json": (damaged_json, [use_checkpoint, inspect_run]),
    "run/checkpoints/step_00000002/manifest.json forged": (forged, [use_checkpoint, inspect_run]),
    "run/checkpoints/step_00000002/state.json": (damaged_json, [use_checkpoint, inspect_run]),
    "model/model.safetensors": (damaged, [use_model]),
    "model/config.json": (damaged_json, [use_model, recipe_of, lambda place: inspect_path(place / "model")]),
    "model/generation_config.json": (damaged_json, [use_model]),
    "model/tokenizer.json": (damaged_json, [use_tokenizer]),
    "model/tokenizer_config.json": (damaged_json, [use_tokenizer]),
    "model/special_tokens_map.json": (damaged_json, [use_tokenizer]),
    "journal.jsonl": (damaged_lines, [use_journal]),
    "first/scores.json": (damaged_json, [use_results]),
    "first/records/swallow_niilc.jsonl": (damaged_lines, [use_results]),
}


@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_in_one_message(place, name):
    damage, uses = FILES[name]
    path = place / name.removesuffix(" forged")
    good = path.read_bytes()
    for use in uses:
        use(place)
    try:
        for seed in range(CASES):
            bad = damage(Random(seed), good)
            for use in uses:
                path.write_bytes(bad)
                said = refusal(use, place, TsugikiError, seed)
                if said is not None:
                    # Results of other suites or metrics are told by the models' names.
                    named = path.name in said or str(place) in said or "cannot be compared" in said
                    assert named, f"seed {seed}: {said}"
                    assert len(said) < 1500, f"seed {seed}: {said[:200]}"
                # A journal's half line of a killed process is cut off; a source's manifest that tells another time of a
                # file which has not changed is put right.
                if use not in (use_journal, use_sources):
                    assert path.read_bytes() == bad, f"seed {seed}: written over"
    finally:  # the next file is damaged alone
        path.write_bytes(good)
