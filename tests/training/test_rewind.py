"""What is done about spikes: poison is planted in samples of a tiny run, and each policy leaves the bits that it should."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_project import Recorder, tensors_of

from tsugiki.checkpoint_files import list_names, newest_name
from tsugiki.corpus.windows import WindowReader
from tsugiki.errors import DivergedError
from tsugiki.metrics_file import last_attempt, read_metrics
from tsugiki.training import loop, rewind
from tsugiki.training.loop import train
from tsugiki.training.run import Run
from tsugiki.training.stage import train_and_record

STEPS, BATCH, SPIKE = 44, 6, 38
SETTINGS = {
    "training.max_steps": STEPS, "training.save_steps": 5, "training.save_total_limit": 4, "training.eval_steps": "null",
    "training.rewind_before": 6, "training.rewind_after": 2, "model.architecture.num_hidden_layers": 1,
}  # fmt: skip
SAMPLES = [(SPIKE - 1) * BATCH, SPIKE * BATCH]
"""Of step 38: numbers 222 to 227."""
AROUND = [31 * BATCH, 40 * BATCH]
"""Of steps 32 to 40."""


@pytest.fixture
def poison(monkeypatch) -> Callable[..., None]:
    """poison(222, 228): the targets of these global samples are noise, whenever and wherever they are read."""
    right, bad = WindowReader.read, set()

    def read(self, samples, *rest):
        batch = right(self, samples, *rest)
        for row, number in enumerate(batch.samples.tolist()):
            if number in bad:
                batch.targets[row] = np.random.default_rng(number).integers(0, 300, batch.targets.shape[1])
        return batch

    monkeypatch.setattr(WindowReader, "read", read)
    return lambda first, end: bad.update(range(first, end))


@pytest.fixture(scope="module")
def healthy(open_in, tmp_path_factory) -> Path:
    """The run directory at step 35, before anything has happened."""
    run_dir = tmp_path_factory.mktemp("healthy") / "run"
    stop = {"training.stop_after_steps": 35, "training.save_total_limit": 20}
    assert not train_and_record(open_in(run_dir, **SETTINGS | stop), None)
    return run_dir


@pytest.fixture
def begun(healthy, tmp_path) -> Callable[..., None]:
    """begun(): "run" goes on from step 35, whatever is done about spikes from there."""

    def copy(run_dir: str = "run", at_most: int = 35) -> None:
        shutil.copytree(healthy, tmp_path / run_dir)
        for name in list_names(tmp_path / run_dir / "checkpoints"):
            if name.step > at_most:
                shutil.rmtree(tmp_path / run_dir / "checkpoints" / str(name))

    return copy


def trained(run: Run) -> tuple[Run, Recorder]:
    recorder = Recorder()
    assert train(run, [recorder])
    return run, recorder


def watch_states(monkeypatch) -> dict[int, dict[str, torch.Tensor]]:
    """Tensors after each step, by its number; those of a later attempt replace earlier ones."""
    states, real = {}, loop.train_step

    def watched(run, batch):
        record = real(run, batch)
        states[record.step] = tensors_of(run)
        return record

    monkeypatch.setattr(loop, "train_step", watched)
    return states


def differing(one, other) -> list[str]:
    return [name for name, tensor in one.items() if not torch.equal(tensor, other[name])]


@pytest.mark.parametrize("policy", ["record", "skip"])
def test_a_spike_is_recorded_with_its_samples_and_skipped_where_asked(open_tiny, poison, monkeypatch, policy):
    poison(*SAMPLES)
    states = watch_states(monkeypatch)
    run, recorder = trained(open_tiny(**SETTINGS, **{"training.spikes": policy}))
    (spike,) = recorder.spikes
    assert (spike["step"], spike["samples"]) == (SPIKE, SAMPLES)
    assert spike["action"] == {"record": "recorded", "skip": "skipped"}[policy]
    assert spike["loss"] > spike["loss_limit"] > recorder.steps[SPIKE - 2]["loss"]
    changed = differing(states[SPIKE - 1], states[SPIKE])
    if policy == "skip":
        assert changed == []  # neither weights nor moments nor the count of steps
        assert run.optimizer.tensors()["lm_head.weight.step"] == STEPS - 1
        assert run.recent.losses[-6:] == [figures["loss"] for figures in recorder.steps[-6:]]
        assert spike["loss"] not in run.recent.losses
    else:
        assert len(changed) > 10
        assert spike["loss"] in run.recent.losses
    assert run.step * BATCH == run.samples  # those of the skipped step are consumed
    assert [figures["learning_rate"] for figures in recorder.steps] == [run.schedule(n) for n in range(1, STEPS + 1)]
    assert run.tokens == STEPS * BATCH * 32


def test_a_rewind_goes_back_and_leaves_out_the_samples_around_the_spike(open_tiny, poison, tmp_path):
    """From step 38 back to 30 (the window begins after 31), and on without samples 186 to 239."""
    poison(*SAMPLES)
    run = open_tiny(**SETTINGS, **{"training.spikes": "rewind"})
    assert train_and_record(run, None)
    (line,) = read_metrics(tmp_path / "run/metrics.jsonl").spikes
    assert (line["step"], line["attempt"], line["action"]) == (SPIKE, 1, "rewound")
    assert (line["samples"], line["to"], line["skip"]) == (SAMPLES, 30, AROUND)
    assert run.mixture.sample_numbers([31 * BATCH - 1, 31 * BATCH]).tolist() == [185, 240]
    records = [json.loads(text) for text in (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    steps = [(record["attempt"], record["step"]) for record in records if record["kind"] == "step"]
    assert steps == [(1, step) for step in range(1, 39)] + [(2, step) for step in range(31, STEPS + 1)]
    of_run = [figures["step"] for figures in last_attempt(read_metrics(tmp_path / "run/metrics.jsonl").steps)]
    assert of_run == list(range(1, STEPS + 1))
    last = run.checkpointer.newest_whole()
    assert last.manifest["rewinds"] == run.rewinds
    assert last.state["mixture"]["skip"] == [AROUND]
    assert json.loads((tmp_path / "run/state.json").read_text())["status"] == "finished"


def test_a_rewind_has_the_bits_of_a_fresh_run_from_that_checkpoint_with_the_range(
    open_tiny, poison, begun, tmp_path, monkeypatch
):
    poison(*SAMPLES)
    begun()
    real, kept = rewind.take_up, tmp_path / "fresh"

    def copy_first(run, found):
        shutil.copytree(found.path, tmp_path / "target")  # it will be superseded
        real(run, found)

    monkeypatch.setattr(rewind, "take_up", copy_first)
    run, _ = trained(open_tiny(**SETTINGS, **{"training.spikes": "rewind"}))
    given = {"run_dir": kept, "data.skip": f"[{AROUND}]"}
    for policy in ("rewind", "record"):
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(tmp_path / "target", kept / "checkpoints/step_00000030")
        fresh = open_tiny(**SETTINGS, **given, **{"training.spikes": policy})
        assert fresh.step == 30
        trained(fresh)
        assert differing(tensors_of(run), tensors_of(fresh)) == []
        assert (fresh.step, fresh.tokens, fresh.recent) == (run.step, run.tokens, run.recent)


def test_a_run_killed_at_a_rewind_ends_with_the_same_bits(open_tiny, poison, begun, monkeypatch, tmp_path):
    poison(*SAMPLES)
    keys = SETTINGS | {"training.spikes": "rewind"}
    begun("whole")
    whole, _ = trained(open_tiny(**keys, run_dir=tmp_path / "whole"))

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    real = loop.train_step
    for name, module, function, killing, begins in (
        ("unwritten", rewind, "write_rewinds", kill, 35),
        ("unmoved", rewind, "take_up", kill, 30),
        ("next", loop, "train_step", lambda r, b: kill() if r.rewinds and b.step == 34 else real(r, b), 30),
    ):
        begun(name)
        run_dir = tmp_path / name
        run = open_tiny(**keys, run_dir=run_dir)
        with monkeypatch.context() as patch:
            patch.setattr(module, function, killing)
            with pytest.raises(Killed):
                train_and_record(run, None)
        again = open_tiny(**keys, run_dir=run_dir)
        assert again.step == begins
        assert train_and_record(again, None)
        assert differing(tensors_of(whole), tensors_of(again)) == []
        assert again.recent == whole.recent
        metrics = read_metrics(run_dir / "metrics.jsonl")
        assert [figures["step"] for figures in last_attempt(metrics.steps)] == list(range(1, STEPS + 1))
        assert [spike["to"] for spike in metrics.spikes] == [30]


def test_a_resumed_run_has_the_same_statistics_and_judges_alike(open_tiny, poison, begun, tmp_path):
    poison(*SAMPLES)
    keys = SETTINGS | {"training.spikes": "skip"}
    whole, seen = trained(open_tiny(**keys, run_dir=tmp_path / "whole"))
    begun()
    train(open_tiny(**keys, **{"training.stop_after_steps": 36}), [])
    resumed, again = trained(open_tiny(**keys))
    assert differing(tensors_of(whole), tensors_of(resumed)) == []
    assert again.spikes == seen.spikes
    assert resumed.recent == whole.recent


def test_undone_checkpoints_are_never_begun_from_again(open_tiny, poison, begun, tmp_path):
    """The new attempt stops before it has saved as late as the one that it replaces, which had saved at 35."""
    poison(*SAMPLES)
    begun()
    keys = SETTINGS | {"training.spikes": "rewind", "training.save_total_limit": 9}
    run = open_tiny(**keys)
    run.stop = SimpleNamespace(requested=lambda _: bool(run.rewinds) and run.step == 32)
    assert not train(run, [])
    assert run.step == 33
    assert (tmp_path / "run/checkpoints/step_00000035").exists()
    assert newest_name(tmp_path / "run/checkpoints") == "step_00000033"
    resumed = open_tiny(**keys)
    assert (resumed.step, len(resumed.rewinds)) == (33, 1)
    assert any("step_00000035 is passed over: the run has gone back" in line for line in resumed.said)


def test_three_rewinds_and_no_more(open_tiny, poison, begun, tmp_path):
    """Noise from step 60 on without end: whatever is stepped over, more of it follows."""
    poison(59 * BATCH, 3000)
    begun()
    keys = SETTINGS | {"training.spikes": "rewind", "training.max_steps": 64, "training.save_total_limit": 20}
    run = open_tiny(**keys)
    recorder = Recorder()
    with pytest.raises(DivergedError, match=r"gone back 3 times already\. Last checkpoint: .* data\.skip: \[\["):
        train(run, [recorder])
    assert [spike["action"] for spike in recorder.spikes] == ["rewound"] * 3 + ["stopped"]
    ends = [spike["skip"][1] for spike in recorder.spikes[:3]]
    assert ends == sorted(ends)
    with pytest.raises(DivergedError, match="gone back 3 times already"):
        train(open_tiny(**keys), [])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"training.rewind_before": 37}, "there is no checkpoint of step 0 or before"),
        ({"training.rewind_before": 34, "training.keep_every": 5}, r"there is no checkpoint of step 3 or before"),
        ({"data.sources.en.max_epochs": 0.2}, r"without samples 186 to 239 the run cannot go on: data\.sources\.en: .*max_epochs"),
    ],
    ids=["too early", "too few", "epochs"],
)  # fmt: skip
def test_where_there_is_no_way_back_the_run_ends(open_tiny, poison, begun, tmp_path, changes, said):
    poison(*SAMPLES)
    begun()
    if "data.sources.en.max_epochs" in changes:
        windows = open_tiny(**SETTINGS).mixture.windows["en"]
        changes = {"data.sources.en.max_epochs": STEPS * BATCH / 3 / windows}
    keys = SETTINGS | {"training.spikes": "rewind", "training.save_total_limit": 20, **changes}
    run, recorder = open_tiny(**keys), Recorder()
    with pytest.raises(DivergedError, match=said):
        train(run, [recorder])
    assert [spike["action"] for spike in recorder.spikes] == ["stopped"]
    assert (run.rewinds, run.mixture.skip) == ([], ())
    assert not (tmp_path / "run/checkpoints/rewinds.json").exists()


def test_stop_saves_nothing_and_goes_on_without_the_samples_that_it_names(open_tiny, poison, begun, tmp_path):
    poison(*SAMPLES)
    begun(at_most=30)
    keys = SETTINGS | {"training.spikes": "stop", "training.save_steps": 10}
    run = open_tiny(**keys)
    with pytest.raises(DivergedError) as caught:
        train(run, [])
    text = str(caught.value)
    assert "in step 38. Last checkpoint: step_00000030." in text
    assert "samples 222 to 227 (tsugiki sample)" in text
    assert newest_name(tmp_path / "run/checkpoints") == "step_00000030"
    with pytest.raises(DivergedError, match="in step 38"):  # the same again
        train(open_tiny(**keys), [])
    skip = text.split("data.skip: ")[1].split("]]")[0] + "]]"
    assert skip == "[[222, 228]]"
    resumed, recorder = trained(open_tiny(**keys, **{"data.skip": skip}))
    assert recorder.spikes == []
    assert resumed.mixture.sample_numbers([221, 222]).tolist() == [221, 228]


@pytest.mark.parametrize(("policy", "actions"), [("record", ["skipped", "skipped", "stopped"]), ("skip", ["skipped", "skipped", "stopped"]), ("stop", ["stopped"]), ("rewind", ["rewound", "rewound", "rewound", "stopped"])])  # fmt: skip
def test_steps_that_are_not_finite_go_the_same_way(open_tiny, begun, monkeypatch, policy, actions):
    """From step 20 on, in whatever attempt, when nothing else would be judged yet."""
    begun(at_most=15)
    right = loop.objective
    monkeypatch.setattr(
        loop, "objective", lambda run, *given: right(run, *given) * (math.nan if run.step + 1 >= 20 else 1.0)
    )
    run, recorder = open_tiny(**SETTINGS, **{"training.spikes": policy}), Recorder()
    with pytest.raises(DivergedError, match=r"samples \d+ to \d+ \(tsugiki sample\)"):
        train(run, [recorder])
    assert [spike["action"] for spike in recorder.spikes] == actions
    first = recorder.spikes[0]
    assert (first["samples"], first["loss_limit"]) == ([19 * BATCH, 20 * BATCH], None)
    assert all(torch.isfinite(tensor).all() for tensor in tensors_of(run).values())


@pytest.mark.parametrize("policy", ["stop", "rewind", "skip"])
def test_a_gradient_that_stands_out_alone_is_skipped_or_logged(open_tiny, begun, monkeypatch, policy):
    begun()
    right = loop.objective
    monkeypatch.setattr(
        loop, "objective", lambda run, *given: right(run, *given) * (20 if run.step + 1 == SPIKE else 1)
    )
    run, recorder = trained(open_tiny(**SETTINGS, **{"training.spikes": policy}))
    (spike,) = recorder.spikes
    assert (spike["step"], spike["action"]) == (SPIKE, "skipped" if policy == "skip" else "recorded")
    assert spike["reason"].startswith("gradient norm")
    assert run.rewinds == []


def test_more_than_five_spikes_in_a_row_end_a_run_that_skips(open_tiny, poison, begun):
    poison(SAMPLES[0], 3000)
    begun()
    run, recorder = open_tiny(**SETTINGS, **{"training.spikes": "skip"}), Recorder()
    with pytest.raises(DivergedError, match="6 spikes in a row up to step 43; none of them was applied"):
        train(run, [recorder])
    assert [spike["action"] for spike in recorder.spikes] == ["skipped"] * 5 + ["stopped"]


def test_a_stage_with_another_loss_is_no_spike(open_tiny, poison, begun):
    poison(SAMPLES[0], 3000)
    begun()
    stages = "[{start_step: 37, weights: {ja: 1, en: 2}}]"
    _, recorder = trained(open_tiny(**SETTINGS, **{"training.spikes": "skip", "data.stages": stages}))
    assert recorder.spikes == []
