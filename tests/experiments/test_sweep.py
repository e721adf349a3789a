"""Whole sweeps of processes that leave what training and evaluation leave (`stub_tsugiki`)."""

import json
import multiprocessing
import os
import threading
import time

import pytest

from tsugiki.errors import DataError, RecipeError, StorageError
from tsugiki.experiments import executors
from tsugiki.experiments.runner import Stopped, Workers, held, lock_of, run_trial
from tsugiki.experiments.status import standing, status_lines
from tsugiki.files import read_json
from tsugiki.model import matmul_speed
from tsugiki.sweep_results import SweepResult

RATES = {"low": {"training.learning_rate": 1e-3}, "high": {"training.learning_rate": 1e-2}}
BAD = {
    "diverges": {"training.learning_rate": 0.5}, "killed": {"training.learning_rate": 0.25},
    "fails": {"training.learning_rate": 0.125},
}  # fmt: skip


def silent(_text: str) -> None:
    return


def test_each_trial_is_run_and_judged_and_the_base_is_asked_once(project, open_sweep):
    sweep = open_sweep(project.write(seeds=2, probe={"steps": 5}))
    said: list[str] = []
    sweep.run_here(said.append)
    verbs = [call.split()[0] for call in project.calls()]
    assert {verb: verbs.count(verb) for verb in verbs} == {"prepare": 1, "run": 4, "evaluate": 5}
    assert sum(" base " in f" {call} " for call in project.calls()) == 1
    assert all("threads=1 " in call for call in project.calls())
    result = sweep.judge()
    assert result.finished
    assert {(run.state, run.step) for trial in result.trials for run in trial.runs} == {("done", 5)}
    # low gains 0.05 bits per byte and loses .02 of English; high gains ten times as much and loses .2
    assert result.base["bits_per_byte:ja"] == pytest.approx(2.0, abs=0.01)
    low, high = (trial.runs[0].measured for trial in result.trials)
    assert low["bits_per_byte:ja"] - result.base["bits_per_byte:ja"] == pytest.approx(-0.05)
    assert high["bits_per_byte:en"] - result.base["bits_per_byte:en"] == pytest.approx(0.2)
    assert result.judgement is not None
    assert result.judgement.recommended == "low"
    (by_loss,) = result.loss_choices
    assert by_loss.chosen == "high"
    assert {cost.metric: round(cost.worse_by, 6) for cost in by_loss.costs} == {
        "bits_per_byte:ja": -0.45,
        "bits_per_byte:en": 0.18,
    }
    assert result.probe.words == "the first 5 of 12 steps each, 4 of them warm-up (80%)"
    assert read_json(project.folder / "runs/sweep/sweep.json", SweepResult) == result
    sweep.run_here(said.append)
    assert said[-1] == "trials     all 4 have ended"
    assert len(project.calls()) == 10


def test_the_plan_stays_as_it_was_said_and_the_base_is_weighed_once(project, open_sweep):
    path = project.write()
    first = open_sweep(path).judge()
    again = open_sweep(path)
    again._base_folder = None  # nothing is read of it
    again.run_here(silent)
    result = again.judge()
    assert result.finished
    assert (result.plan, result.rules) == (first.plan, first.rules)
    assert any("no rate has been measured yet" in line for line in result.plan)
    changed = open_sweep(project.write(trials={**RATES, "more": {"training.learning_rate": 0.005}})).judge()
    assert len(changed.rules[0].values) == 3
    assert any("1.00k tokens a second" in line or "1k tokens a second" in line for line in changed.plan)


def test_the_plan_warns_of_a_precision_that_this_cpu_is_slow_in(project, open_sweep, monkeypatch):
    monkeypatch.setattr(executors, "visible_gpus", list)
    trials = {**RATES, "fast": {"training.precision": "fp32"}, "slow": {"training.precision": "pure-bf16"}}
    for times, words in ((9.0, "slow"), (2.0, None)):
        monkeypatch.setattr(matmul_speed, "bf16_slowness", lambda times=times: times)
        warned = [line for line in open_sweep(project.write(trials=trials)).plan_lines([]) if "warning" in line]
        assert bool(warned) == bool(words)
        if words:
            assert "slow: bf16 products, which take 9.0 times" in warned[0]
            assert "fast" not in warned[0].split(":")[0]


def test_a_trial_that_diverges_or_dies_is_a_result_and_may_be_tried_again(project, open_sweep):
    sweep = open_sweep(project.write(trials={**BAD, **RATES}))
    sweep.run_here(silent)
    result = sweep.judge()
    found = {trial.name: (trial.runs[0].state, trial.runs[0].reason) for trial in result.trials}
    assert found["diverges"] == (
        "diverged",
        "loss or gradient was not finite in steps 2 to 4; none of them was applied.",
    )
    assert found["killed"][0] == "died"
    assert "signal 9" in found["killed"][1]
    assert found["fails"] == ("died", "preflight: a check failed, so this run would train wrongly")
    assert found["low"] == found["high"] == ("done", "")
    assert result.finished
    assert result.judgement is not None
    assert result.judgement.recommended == "low"
    endings = {trial.name: list(trial.endings) for trial in result.judgement.trials if trial.endings}
    assert endings == {name: ["7"] for name in BAD}
    lines = status_lines(sweep.plan, sweep.suites)
    assert any("fails, seed 7" in line and "died" in line and "a check failed" in line for line in lines)
    before = len(project.calls())
    sweep.run_here(silent)
    assert len(project.calls()) == before
    assert len(sweep.again()) == 3
    sweep.run_here(silent)
    assert [call.split()[0] for call in project.calls()[before:]] == ["prepare", "run", "run", "run"]


def test_a_sweep_that_is_stopped_stops_its_processes_and_goes_on(project, open_sweep):
    sweep = open_sweep(project.write(trials=RATES))
    wait = project.folder / "runs/sweep/WAIT"
    wait.parent.mkdir(parents=True)
    wait.touch()
    (waiting,) = [sweep.plan.trials[0].folder.with_name(f"waiting-{sweep.plan.trials[0].folder.name}")]

    class Interrupted(BaseException):
        pass

    states = []

    def say(text: str) -> None:
        if text.startswith("done") and "base" in text:
            while not waiting.exists():
                time.sleep(0.01)
            states.append(standing(sweep.plan.trials[0], sweep.suites))
            raise Interrupted

    with pytest.raises(Interrupted):
        sweep.run_here(say)
    assert states[0].state == "running"
    assert states[0].words.startswith("at step 1 of 12, loss 3.9")
    stopped = standing(sweep.plan.trials[0], sweep.suites)
    assert (stopped.state, stopped.step) == ("stopped", 1)
    assert sweep.plan.trials[0].ended() is None
    wait.unlink()
    sweep.run_here(silent)
    assert sweep.judge().finished
    steps = [
        json.loads(line)["step"] for line in (sweep.plan.trials[0].folder / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(1, 13))  # what was made before the stop was not made again
    assert sum(call.startswith("evaluate base") for call in project.calls()) == 1


def test_two_sweeps_of_one_folder_do_not_meet_and_a_trial_has_one_worker(project, open_sweep):
    sweep = open_sweep(project.write())
    with held(sweep.plan.directory / ".sweep.lock"), pytest.raises(StorageError, match="another process is at work in"):
        sweep.run_here(silent)
    assert project.calls() == []
    trial, done = sweep.plan.trials[0], []
    sweep.run_shared(silent)
    with held(lock_of(trial)):  # as a process that a killed sweep has left behind holds it
        thread = threading.Thread(target=lambda: done.append(run_trial(trial, sweep.suites, Workers(), {})))
        thread.start()
        time.sleep(0.2)
        assert standing(trial, sweep.suites).state == "running"
        assert not done
    thread.join(30)
    assert done[0]["ending"] == "done"


def test_what_a_killed_sweep_left_running_keeps_its_trial(project, open_sweep):
    """The lock goes on to the trial's processes: nobody else trains there while they live."""
    sweep = open_sweep(project.write())
    sweep.run_shared(silent)
    trial = sweep.plan.trials[0]
    (project.folder / "runs/sweep/WAIT").touch()
    process = multiprocessing.get_context("fork").Process(target=sweep.run_one, args=(0, silent))
    process.start()
    waiting = trial.folder.with_name(f"waiting-{trial.folder.name}")
    while not waiting.exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert standing(trial, sweep.suites).state == "running"
    os.kill(int(waiting.read_text()), 15)
    (project.folder / "runs/sweep/WAIT").unlink()
    assert sweep.run_one(0, silent) == "done"


def test_one_trial_by_its_number_is_all_that_another_scheduler_needs(project, open_sweep):
    path = project.write()
    for number in (1, 0):
        assert open_sweep(path).run_one(number, silent) == "done"
    assert not open_sweep(path).judge().finished
    open_sweep(path).run_shared(silent)
    assert open_sweep(path).judge().finished


def test_a_suite_that_does_not_score_text_is_asked_beside_the_one_that_does(project, open_sweep):
    pytest.importorskip("lm_eval")
    project.recipe["evaluation"] = {"suite": "swallow", "tasks": ["mgsm_ja"]}
    sweep = open_sweep(project.write(judge={"gain": "bits_per_byte:ja", "keep": {"mgsm": 0.05}}))
    sweep.run_here(silent)
    calls = [call for call in project.calls() if call.startswith("evaluate low")]
    assert len(calls) == 2
    assert sum("evaluation.suite=quick evaluation.tasks=[texts]" in call for call in calls) == 1
    measured = sweep.judge().trials[0].runs[0].measured
    assert set(measured) == {"bits_per_byte:ja", "mgsm"}


def test_a_trial_that_goes_further_later_goes_on(project, open_sweep):
    open_sweep(project.write(probe={"steps": 5})).run_here(silent)
    sweep = open_sweep(project.write(probe={"steps": 8}))
    assert {standing(trial, sweep.suites).state for trial in sweep.plan.trials} == {"stopped"}
    sweep.run_here(silent)
    assert {run.step for trial in sweep.judge().trials for run in trial.runs} == {8}


def test_results_on_other_items_than_the_bases_are_not_compared(project, open_sweep):
    sweep = open_sweep(project.write())
    sweep.run_here(silent)
    ended = sweep.plan.trials[0].ended()
    path = sweep.plan.directory / ended["results"]["quick"] / "scores.json"
    path.write_text(path.read_text().replace('"digest": "d"', '"digest": "another"'))
    with pytest.raises(DataError, match="was asked of the base with other items than of trial low"):
        sweep.judge()


def test_gpus_are_dealt_out(project, open_sweep, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5,7")
    sweep = open_sweep(project.write(seeds=3, executor={"kind": "local", "gpus_per_trial": 2}))
    sweep.run_here(silent)
    assert {call.split("gpus=")[1].split()[0] for call in project.calls()} == {"2,3", "5,7"}
    with pytest.raises(RecipeError, match="gpus_per_trial: 5 is more than the 4 GPUs"):
        open_sweep(project.write("b.yaml", executor={"kind": "local", "gpus_per_trial": 5})).run_here(silent)


def test_what_cannot_be_shared_ends_the_sweep_with_the_words_of_what_failed(project, open_sweep, monkeypatch):
    sweep = open_sweep(project.write())
    failing = project.folder / "failing"
    failing.write_text("#!/bin/sh\necho 'error: ja.jsonl: no documents'\nexit 3\n")
    failing.chmod(0o755)
    monkeypatch.setattr("tsugiki.experiments.runner.sys.executable", str(failing))
    with pytest.raises(Exception, match=r"prepare of what the trials share failed: ja.jsonl: no documents \(see"):
        sweep.run_here(silent)
    workers = Workers()
    workers.stop()
    with pytest.raises(Stopped):
        workers.call(["prepare"], project.folder / "log", {})
