"""A sweep with the real processes: a base, a trial, their evaluations, the verdict."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_project import prepare_tiny

from tsugiki.checkpoint_files import newest_name
from tsugiki.files import read_json
from tsugiki.sweep_results import SweepResult


def test_a_real_trial_is_trained_evaluated_and_judged_against_the_base(
    launch, tmp_path, tiny_tokenizer_folder, tiny_language_model_folder
):
    (tmp_path / "tiny").mkdir()
    tiny = prepare_tiny(tmp_path / "tiny", tiny_tokenizer_folder)
    recipe = yaml.safe_load(tiny.text)
    recipe["model"] = {"name_or_path": str(tiny_language_model_folder)}
    recipe |= {
        "run_dir": str(tmp_path / "runs/tiny"),
        "evaluation": {"suite": "quick", "limit": 5},
        "tracking": {"report_to": ["none"]},
    }
    recipe["training"] |= {"max_steps": 8, "save_steps": 2, "learning_rate": 0.01, "warmup_steps": 0}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    metric = "bits_per_byte:ja"
    sweep = {
        "recipe": "recipe.yaml", "trials": {"only": {"training.min_lr": 0.001}}, "probe": {"steps": 4},
        "judge": {"gain": metric, "keep": {"suite:en": 1.0}},
    }  # fmt: skip
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    done = launch("sweep", tmp_path / "sweep.yaml")
    assert done.wait() == [0], done.output() + "".join(path.read_text() for path in tmp_path.glob("runs/sweep/*.log"))
    result = read_json(tmp_path / "runs/sweep/sweep.json", SweepResult)
    (run,) = result.trials[0].runs
    assert (run.state, run.step, result.finished) == ("done", 4, True)
    assert result.judgement is not None
    page = (tmp_path / "runs/sweep/report.html").read_text()
    assert result.judgement.choice.split(":")[0] in page
    assert "./only-seed-" in page  # the recipe of its run
    assert result.judgement.recommended == "only" or not result.judgement.trials[0].gains
    verdict = result.judgement.trials[0].gain[0]
    assert verdict.difference.value == pytest.approx(run.measured[metric] - result.base[metric])
    assert abs(verdict.difference.value) > 0.01
    assert verdict.difference.low is not None  # every document is an item
    folder = Path(tmp_path / run.run_dir)
    assert newest_name(folder / "checkpoints") == "step_00000004"
    state = json.loads((folder / "state.json").read_text())
    assert (state["status"], state["detail"]) == ("resumable", "training.stop_after_steps")
    assert "recommended" in done.output() or "nearest" in done.output() or "gains" in done.output()
