"""How a run is put together: what a start refuses, and that a continued run has the bits of one that never stopped."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from tiny_project import Recorder, batch_of, tensors_of

from tsugiki import checkpoint_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, DivergedError, RecipeError, StorageError
from tsugiki.training import loop
from tsugiki.training import run as run_module
from tsugiki.training.distributed import Place
from tsugiki.training.loop import train
from tsugiki.training.preflight import check_run

UNVALIDATED = {"training.eval_steps": "null"}


@pytest.fixture
def begun(open_tiny):
    """A run directory with a checkpoint of step 2 of 6."""
    run = open_tiny(**{"training.stop_after_steps": 2, **UNVALIDATED})
    train(run, [])
    return run


def test_a_resume_with_a_changed_tokenizer_is_refused(begun, open_tiny, tiny_tokenizer_folder, tmp_path):
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_tokenizer_folder, folder)
    same = TextTokenizer.from_folder(folder)
    assert open_tiny(given={"tokenizer": same}, **UNVALIDATED).step == 2  # another place, the same bytes
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["merges"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"step_00000002: the tokenizer's files have changed"):
        open_tiny(given={"tokenizer": TextTokenizer.from_folder(folder)}, **UNVALIDATED)


def test_a_resume_with_a_source_prepared_anew_is_refused(begun, open_tiny, prepared_tiny):
    source = prepared_tiny.sources["en"]
    anew = replace(source, manifest=replace(source.manifest, fingerprint="0" * 32))
    with pytest.raises(RecipeError, match="source en was prepared anew"):
        open_tiny(given={"sources": prepared_tiny.sources | {"en": anew}}, **UNVALIDATED)


def test_a_source_that_was_not_drawn_from_may_be_prepared_anew(open_tiny, prepared_tiny):
    watched = {"data.sources.en.weight": 0, **UNVALIDATED}
    run = open_tiny(**{"training.stop_after_steps": 2, **watched})
    train(run, [])
    source = prepared_tiny.sources["en"]
    anew = replace(source, manifest=replace(source.manifest, fingerprint="0" * 32))
    assert open_tiny(given={"sources": prepared_tiny.sources | {"en": anew}}, **watched).step == 2


def test_a_base_that_was_moved_is_taken_and_one_that_computes_otherwise_is_refused(begun, open_tiny, tmp_path):
    recorded, moved = tmp_path / "run/model", tmp_path / "moved"
    for folder, rope_theta in ((recorded, 10000.0), (moved, 1e6)):
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"rope_theta": rope_theta}))
    with pytest.raises(RecipeError, match=r"moved/config\.json computes otherwise: rope_theta: 10000\.0 -> 1000000\.0"):
        open_tiny(given={"model_folder": moved}, **UNVALIDATED)
    shutil.copy(recorded / "config.json", moved)
    assert open_tiny(given={"model_folder": moved}, **UNVALIDATED).step == 2


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({}, RecipeError, r"global_batch_size: 6 windows cannot be shared evenly by 4 processes; use 8"),
        ({"training.micro_batch_size": 4, "training.global_batch_size": 24}, RecipeError, r"micro_batch_size: 4 does not divide the 6 windows"),
        ({"training.global_batch_size": 24, "data.sources.en.max_epochs": 0.01}, DataError, r"en: .*more than max_epochs 0\.01"),
    ],
    ids=["batch", "micro-batch", "epochs"],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_model_is_loaded(open_tiny, monkeypatch, changes, error, text):
    monkeypatch.setattr(run_module, "load_model", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(error, match=text):
        open_tiny(given={"place": Place(0, 4, 0)}, **changes)


@pytest.mark.parametrize(("keep_every", "checkpoints"), [("null", 2 + 1), (2, 2 + 3 + 1)])
def test_a_disk_without_room_for_the_checkpoints_to_keep_is_refused(open_tiny, monkeypatch, keep_every, checkpoints):
    """Those of the last two saves, every second step's of six, and the one being written."""
    keep = {"training.save_total_limit": 2, "training.save_steps": 2, "training.keep_every": keep_every}
    rows, width, inner = 384, 16, 24
    attention, feed_forward = 2 * width * width + 2 * width * (width // 2), 3 * width * inner
    parameters = 2 * (attention + feed_forward + 2 * width) + 2 * rows * width + width
    tensors = 2 * 9 + 3
    each = 4 * (3 * parameters + tensors)  # weights and two moments in fp32, a step count a tensor
    monkeypatch.setattr(checkpoint_files, "free_bytes", lambda _: checkpoints * each)
    open_tiny(**keep)
    monkeypatch.setattr(checkpoint_files, "free_bytes", lambda _: checkpoints * each - 1)
    with pytest.raises(StorageError, match=f"{checkpoints - 1} to keep and one being written"):
        open_tiny(**keep)


def test_bad_steps_before_a_stop_count_after_it(open_tiny, monkeypatch):
    right = loop.objective
    monkeypatch.setattr(
        loop, "objective",
        lambda run, *given: right(run, *given) * (math.nan if run.step + 1 in (3, 4, 5) else 1.0),
    )  # fmt: skip
    run = open_tiny(**{"training.stop_after_steps": 4, **UNVALIDATED})
    train(run, [])
    resumed = open_tiny(**UNVALIDATED)
    with pytest.raises(DivergedError, match="in steps 3 to 5"):
        train(resumed, [])


def test_a_resumed_run_steps_over_samples_and_past_ones_are_refused(begun, open_tiny):
    """Steps 1 and 2 have read samples 0 to 11."""
    with pytest.raises(RecipeError, match=r"data\.skip: \[\] in the checkpoint, \[\[11, 20\]\] in the recipe"):
        open_tiny(**{"data.skip": "[[11, 20]]"}, **UNVALIDATED)
    run = open_tiny(**{"data.skip": "[[20, 25], [14, 18]]"}, **UNVALIDATED)
    inputs = batch_of(run, 3).micro_batches[0].inputs.numpy()
    assert np.array_equal(inputs, run.reader.read([12, 13, 18, 19, 25, 26]).inputs)
    check_run(run)  # that the batch is that of the store, among other things
    train(run, [])
    assert (run.step, run.samples) == (6, 36)
    assert run.checkpointer.newest_whole().state["mixture"]["skip"] == [[14, 18], [20, 25]]
    with pytest.raises(RecipeError, match=r"samples below 45 are read already"):
        open_tiny(**UNVALIDATED)


def test_a_run_with_history_never_starts_anew_by_itself(begun, open_tiny, tmp_path):
    checkpoint = tmp_path / "run/checkpoints/step_00000002"
    shard = next(checkpoint.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StorageError, match=rf"checkpoints but none is whole: .*{shard.name} has"):
        open_tiny(**UNVALIDATED)


def test_another_checkpoints_fixed_key_is_refused_with_both_values(begun, open_tiny):
    with pytest.raises(RecipeError, match=r"training\.learning_rate: 0\.005 in the checkpoint, 0\.001 in the recipe"):
        open_tiny(**{"training.learning_rate": 1e-3, **UNVALIDATED})


EMBEDDINGS_FIRST = {"training.embedding_warmup_steps": 3, "training.embedding_lr_factor": 2.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.embedding_warmup_steps": 4}, "embedding_warmup_steps: 3 in the checkpoint, 4 in the recipe"),
        ({"training.embedding_lr_factor": 2}, r"embedding_lr_factor: 2\.5 in the checkpoint, 2\.0 in the recipe"),
    ],
)
@pytest.mark.parametrize("stop", [2, 4], ids=["within", "after"])
def test_a_resume_with_another_warm_up_or_factor_of_the_embeddings_is_refused(open_tiny, stop, changes, said):
    run = open_tiny(**{"training.stop_after_steps": stop, **EMBEDDINGS_FIRST, **UNVALIDATED})
    train(run, [])
    with pytest.raises(RecipeError, match=rf"training\.{said}"):
        open_tiny(**EMBEDDINGS_FIRST | UNVALIDATED | changes)
    assert open_tiny(**EMBEDDINGS_FIRST, **UNVALIDATED).step == stop


@pytest.mark.parametrize("precision", ["fp32-master", "bf16-stochastic"])
def test_stops_within_at_and_after_the_warm_up_of_embeddings_change_no_bit(open_tiny, tmp_path, precision):
    settings = {"training.precision": precision, "training.learning_rate": 0.02, "training.warmup_steps": 2}
    states = {}
    for name, stops in (("whole", [6]), ("stopped", [2, 3, 4, 6])):
        for stop in stops:
            changes = {"run_dir": tmp_path / name, "training.stop_after_steps": stop}
            run = open_tiny(**changes, **settings, **EMBEDDINGS_FIRST, **UNVALIDATED)
            train(run, [])
        states[name] = tensors_of(run)
    assert states["stopped"].keys() == states["whole"].keys()
    differing = [name for name, found in states["stopped"].items() if not torch.equal(found, states["whole"][name])]
    assert differing == []
    assert states["whole"]["optimizer.lm_head.weight.step"] == 6
    assert states["whole"]["optimizer.model.norm.weight.step"] == 3


def test_a_checkpoint_is_read_by_name_whatever_groups_the_optimizer_makes(open_tiny, tmp_path):
    run = open_tiny(**{"training.stop_after_steps": 4, **EMBEDDINGS_FIRST, **UNVALIDATED})
    train(run, [])
    other = open_tiny(**{"run_dir": tmp_path / "other", "training.decay_embeddings": "false"})
    assert [len(each.optimizer.groups()) for each in (run, other)] == [3, 2]
    other.checkpointer.load(run.checkpointer.newest_whole(), other.tensors())
    loaded, saved = tensors_of(other), tensors_of(run)
    assert loaded.keys() == saved.keys()
    assert [name for name, tensor in loaded.items() if not torch.equal(tensor, saved[name])] == []


def with_dropout(tiny_config):
    return tiny_config("phi", attention_dropout=0.3, embd_pdrop=0.3, resid_pdrop=0.3)


@pytest.mark.parametrize("case", ["fp32-master", "bf16-stochastic", "dropout", "conversations"])
def test_two_steps_and_two_more_have_the_bits_of_four(
    open_tiny, tiny_config, prepared_tiny, chatting_tiny, tmp_path, case
):
    architecture = with_dropout(tiny_config) if case == "dropout" else None
    given = {"prepared": chatting_tiny if case == "conversations" else prepared_tiny}
    settings = {"training.precision": case if "-" in case else "fp32", "training.micro_batch_size": 3}
    if case == "conversations":
        settings |= {"training.loss_normalization": "conversation", "data.sources.en.loss_weight": 0.3}
    settings |= {"training.max_steps": 4, "training.learning_rate": 0.02, **UNVALIDATED}
    logs, states, tokens = {}, {}, {}
    for name, stops in (("whole", [4]), ("resumed", [2, 4])):
        logs[name] = Recorder()
        for stop in stops:
            torch.manual_seed(stop)  # what else a process may have drawn before
            changes = {"run_dir": tmp_path / name, "training.stop_after_steps": stop, **settings}
            run = open_tiny(architecture, given, **changes)
            train(run, [logs[name]])
        states[name], tokens[name] = tensors_of(run), run.tokens
    assert tokens["resumed"] == tokens["whole"]
    assert (tokens["whole"] == 4 * 6 * 32) == (case != "conversations")
    assert states["resumed"].keys() == states["whole"].keys()
    differing = [name for name, found in states["resumed"].items() if not torch.equal(found, states["whole"][name])]
    assert differing == []
    losses = {name: [figures["loss"] for figures in log.steps] for name, log in logs.items()}
    assert losses["resumed"] == losses["whole"]


def test_conversations_that_are_only_watched_join_and_leave_and_change_no_bit(open_tiny, chatting_tiny, tmp_path):
    """As text that is only watched does: also where they bring the template of a base that has none."""
    tree = yaml.safe_load(chatting_tiny.text)
    talk, chat = tree["data"]["sources"].pop("talk"), tree["data"].pop("chat")
    text = replace(chatting_tiny, text=yaml.safe_dump(tree), sources={"en": chatting_tiny.sources["en"]})
    tree["data"]["sources"]["talk"], tree["data"]["chat"] = talk | {"weight": 0}, chat
    watched = replace(chatting_tiny, text=yaml.safe_dump(tree))
    states, logs = {}, {}
    for name, second in (("text", text), ("watched", watched)):
        changes = {"run_dir": tmp_path / name}
        train(open_tiny(given={"prepared": text}, **changes, **{"training.stop_after_steps": 2}), [])
        run, logs[name] = open_tiny(given={"prepared": second}, **changes), Recorder()
        check_run(run)
        train(run, [logs[name]])
        states[name] = tensors_of(run)
    assert [name for name, found in states["text"].items() if not torch.equal(found, states["watched"][name])] == []
    assert [list(scores) for _, scores in logs["watched"].validations] == [["en", "talk"], ["en", "talk"]]
    assert any("data.chat.template" in line and "no conversation has been trained on" in line for line in run.said)
    assert open_tiny(given={"prepared": text}, **changes).step == 6
    drawn = {"data.sources.talk.weight": 1}
    with pytest.raises(RecipeError, match="give it weight 0 here and add a stage"):
        open_tiny(given={"prepared": watched}, run_dir=tmp_path / "text", **drawn)


def test_noise_differs_from_step_to_step_and_rank_to_rank_and_with_the_seed(open_tiny):
    def drawn(run, step: int) -> float:
        run.seed_noise(step)
        return torch.rand(()).item()

    run = open_tiny()
    assert drawn(run, 1) == drawn(run, 1)
    other_rank = replace(run, processes=replace(run.processes, place=Place(1, 2, 1)))
    other_seed = replace(run, recipe=run.recipe.model_copy(update={"seed": run.recipe.seed + 1}))
    values = [drawn(run, 1), drawn(run, 2), drawn(other_rank, 1), drawn(other_seed, 1)]
    assert len(set(values)) == 4
