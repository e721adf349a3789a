"""A score is kept for as long as its task is the one that was scored: any file that decides it can end that."""

import json
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Quiet

from tsugiki.evaluation import run
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings
from tsugiki.evaluation.task_digest import task_digest
from tsugiki.evaluation_files import read_results

FILES = {
    "rivers.yaml": """
include: shared.yml
task: rivers
dataset_kwargs:
  data_files: {test: FOLDER/rivers.jsonl, train: FOLDER/shots.jsonl}
fewshot_split: train
num_fewshot: 1
process_results: !function scores.score
metric_list:
  - {metric: exact, aggregation: mean, higher_is_better: true}
metadata: {title: Rivers}
""",
    "shared.yml": """
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["."], max_gen_toks: 5}
""",
    "scores.py": "def score(doc, results):\n    return {'exact': float(results[0] == doc['answer'])}\n",
    "rivers.jsonl": '{"question": "The Rhine flows into", "answer": "the North Sea"}\n' * 2,
    "shots.jsonl": '{"question": "The Nile flows into", "answer": "the Mediterranean"}\n' * 2,
}
EDITS = {
    "rivers.yaml": ("num_fewshot: 1", "num_fewshot: 0"),
    "shared.yml": ("max_gen_toks: 5", "max_gen_toks: 6"),
    "scores.py": ("==", "!="),
    "rivers.jsonl": ("the North Sea", "the Baltic"),
    "shots.jsonl": ("Nile", "Ebro"),
}


def write(folder: Path) -> Path:
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text.replace("FOLDER", str(folder)), encoding="utf-8")
    return folder


@pytest.mark.parametrize("edited", [None, *EDITS])
def test_an_earlier_score_stays_while_its_task_is_the_same(edited, language_model, official_data, tmp_path):
    own, said = write(tmp_path / "own"), []

    def evaluate(task):
        settings = Settings(tasks=[task], data_dir=official_data, limit=1, task_dir=own, allow_task_code=True)
        ((folder, result),) = run.evaluate(
            [find_model(str(language_model()))], settings, tmp_path / "out", said.append, Quiet(), {}
        )
        assert not result.failures
        return read_results(folder)

    first = evaluate("rivers").scored()["rivers"]
    if edited:
        path = own / edited
        path.write_text(path.read_text("utf-8").replace(*EDITS[edited]), encoding="utf-8")
    later = evaluate("openbookqa")
    left_out = [line for line in said if line.startswith("left out")]
    assert ("rivers" in later.tasks, "rivers" in later.header["tasks"], len(left_out)) == (
        (True, True, 0) if edited is None else (False, False, 1)
    )
    assert all("Rivers" in line for line in left_out)
    again = evaluate("rivers").scored()
    assert (again["rivers"].digest == first.digest) is (edited is None)
    assert again.keys() == {"rivers", "tsugiki_openbookqa"}


def test_where_the_files_lie_makes_no_difference(tmp_path):
    data = {"test": [{"b": 1, "a": "あ"}]}
    digests = [task_digest(write(tmp_path / name) / "shared.yml", data) for name in ("here", "there")]
    assert digests[0] == digests[1] != task_digest(tmp_path / "here/shared.yml", {"test": [{"b": 2, "a": "あ"}]})
    assert digests[0] != task_digest(tmp_path / "here/shared.yml", {"train": data["test"]})
    assert digests[0] != task_digest(None, data) == task_digest(None, data)


def test_data_of_ours_that_changed_ends_a_score_too(language_model, official_data, tmp_path):
    """As when a file is put in the place of another edition."""
    data = tmp_path / "data"
    data.mkdir()
    for folder in official_data.iterdir():
        (data / folder.name).symlink_to(folder)
    model = find_model(str(language_model()))

    def evaluate(task):
        ((folder, _),) = run.evaluate(
            [model], Settings(tasks=[task], data_dir=data, limit=1), tmp_path / "out", [].append, Quiet(), {}
        )
        return read_results(folder).tasks.keys()

    evaluate("jemhopqa")
    assert evaluate("openbookqa") == {"tsugiki_jemhopqa", "tsugiki_openbookqa"}
    source = (official_data / "jemhopqa").resolve()
    (data / "jemhopqa").unlink()
    assert evaluate("xwinograd_en") == {
        "tsugiki_jemhopqa",
        "tsugiki_openbookqa",
        "tsugiki_xwinograd_en",
    }  # unknown: kept
    (data / "jemhopqa").mkdir()
    for path in source.iterdir():
        (data / "jemhopqa" / path.name).write_bytes(path.read_bytes() + b"\n")
    assert evaluate("openbookqa") == {"tsugiki_openbookqa", "tsugiki_xwinograd_en"}


def test_texts_of_the_suite_quick_are_told_apart_by_what_they_say(language_model, tmp_path):
    model = find_model(str(language_model()))

    def digests(documents, limit):
        ((_, result),) = run.evaluate(
            [model], Settings(suite="quick", limit=limit), tmp_path, [].append, Quiet(), {"a.txt": ("en", documents)}
        )
        found = {name: task.digest for name, task in result.scored().items()}
        assert all(found.values())
        return found.pop("text_a.txt"), json.dumps(found)

    one, two, other = digests(["A river.", "A hill."], 1), digests(["A river.", "A hill."], 2), digests(["A river."], 1)
    assert one == two
    assert one[0] != other[0]
    assert one[1] == other[1]
