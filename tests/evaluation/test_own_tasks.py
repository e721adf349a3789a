"""Task files of the user's own: what they say is done or refused, never passed over; their faults are one message."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Quiet

from tsugiki.errors import RecipeError
from tsugiki.evaluation import run
from tsugiki.evaluation.harness import Harness
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation_files import read_records

RIVERS = """
task: rivers
dataset_path: json
dataset_kwargs:
  data_files: {{test: {folder}/rivers.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["never written"]
  max_gen_toks: 5
process_results: !function rivers.score
metric_list:
  - metric: exact
    aggregation: mean
    higher_is_better: true
"""
SCORE = "def score(doc, results):\n    return {'exact': float(results[0] == doc['answer'])}\n"


def evaluate(model, data: Path, place: Path, task: str = RIVERS, score: str = SCORE, tasks: str = "rivers"):
    """The records of one task, from a folder of task files that is written first."""
    own = place / "own"
    own.mkdir()
    lines = [{"question": f"River {number} flows into", "answer": "the sea"} for number in range(2)]
    (own / "rivers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (own / "rivers.yaml").write_text(task.format(folder=own), encoding="utf-8")
    (own / "rivers.py").write_text(score, encoding="utf-8")
    settings = Settings(tasks=[tasks], data_dir=data, limit=2, task_dir=own, allow_task_code=True)
    ((folder, result),) = run.evaluate([find_model(str(model))], settings, place / "out", [].append, Quiet(), {})
    if result.failures:
        raise result.failures[0]
    return list(read_records(folder, tasks))


@pytest.mark.parametrize("key", ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"])
def test_the_length_of_an_answer_goes_by_any_of_lm_evals_names(key, language_model, official_data, tmp_path):
    records = evaluate(language_model(), official_data, tmp_path, RIVERS.replace("max_gen_toks", key))
    assert [record["output_tokens"] for record in records] == [5, 5]


@pytest.mark.parametrize("setting", ["num_beams: 4", "repetition_penalty: 1.2"])
def test_a_way_of_writing_that_is_not_offered_is_refused(setting, language_model, official_data, tmp_path):
    task = RIVERS.replace("max_gen_toks: 5", f"max_gen_toks: 5\n  {setting}")
    with pytest.raises(RecipeError, match=f"task rivers: .* {setting.partition(':')[0]}, .*take it out"):
        evaluate(language_model(), official_data, tmp_path, task)


def test_a_task_that_would_be_taken_for_one_of_ours_is_refused(language_model, official_data, tmp_path):
    with pytest.raises(RecipeError, match=r"--tasks gsm8k: .*both"):
        evaluate(
            language_model(), official_data, tmp_path, RIVERS.replace("task: rivers", "task: gsm8k"), tasks="gsm8k"
        )


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("1 / 0", "task rivers failed: ZeroDivisionError"),
        ("open('nowhere')", "task rivers failed: FileNotFoundError"),
        ("__import__('nowhere')", "task rivers failed: ModuleNotFoundError"),
    ],
)
def test_whatever_scoring_of_ones_own_raises_is_one_message(fault, told, language_model, official_data, tmp_path):
    with pytest.raises(RecipeError, match=told):
        evaluate(language_model(), official_data, tmp_path, score=f"def score(doc, results):\n    return {fault}\n")


def test_a_task_in_error_ends_itself_alone(language_model, official_data, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "rivers.jsonl").write_text('{"question": "Where?", "answer": "there"}\n', encoding="utf-8")
    (own / "rivers.yaml").write_text(RIVERS.format(folder=own), encoding="utf-8")
    (own / "rivers.py").write_text("def score(doc, results):\n    return 1 / 0\n", encoding="utf-8")
    settings = Settings(
        tasks=["rivers", "openbookqa"], data_dir=official_data, limit=2, task_dir=own, allow_task_code=True
    )
    ((_, result),) = run.evaluate([find_model(str(language_model()))], settings, tmp_path, [].append, Quiet(), {})
    assert list(result.scored()) == ["tsugiki_openbookqa"]
    assert "ZeroDivisionError" in result.tasks["rivers"].reason
    assert [type(failure) for failure in result.failures] == [RecipeError]


def test_a_defect_of_ours_is_not_called_a_fault_of_the_task(language_model, official_data, tmp_path, monkeypatch):
    """So that it comes out with its traceback."""

    def defect(*_):
        raise KeyError("a defect")

    monkeypatch.setattr(Harness, "_result", defect)
    settings = Settings(tasks=["openbookqa"], data_dir=official_data, limit=1)
    with pytest.raises(KeyError, match="a defect"):
        run.evaluate([find_model(str(language_model()))], settings, tmp_path, [].append, Quiet(), {})
