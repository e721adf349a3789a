"""The texts that training data are kept clear of: every set that is there, each item with all it says."""

import json
import shutil
from pathlib import Path

from tsugiki.corpus.filters.contamination import Index, Stretch, build
from tsugiki.evaluation.data import SETS, load_set
from tsugiki.evaluation.data.texts import evaluation_texts


def test_every_set_gives_all_the_texts_of_its_test_items_and_none_of_its_examples(official_data: Path) -> None:
    found = evaluation_texts(official_data)
    assert set(SETS) <= set(found.sets)
    for name in SETS:
        loaded = load_set(name, official_data)
        assert len(found.sets[name]) == len(loaded.test)
        assert found.files[name] == loaded.files
        for item, texts in zip(loaded.test, found.sets[name], strict=True):
            said = json.dumps(
                [value for key, value in item.items() if key not in ("id", "type", "label")], ensure_ascii=False
            )
            assert all(json.dumps(text, ensure_ascii=False)[1:-1] in said for text in texts)
            assert texts


def test_sets_that_are_not_there_are_passed_over_and_plain_ones_taken(official_data: Path, tmp_path: Path) -> None:
    shutil.copytree(official_data / "openbookqa", tmp_path / "openbookqa")
    (tmp_path / "mine").mkdir()
    line = {"id": "1", "question": "What runs under the old bridge?", "answers": ["a river"], "label": 3}
    (tmp_path / "mine/test.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "humaneval").mkdir()
    problem = {
        "task_id": "H/0",
        "prompt": "def one():\n",
        "entry_point": "one",
        "canonical_solution": "    return 1\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    (tmp_path / "humaneval/HumanEval.jsonl").write_text(json.dumps(problem) + "\n")
    found = evaluation_texts(tmp_path)
    assert list(found.sets) == ["openbookqa", "mine", "humaneval"]
    assert found.sets["mine"] == [["What runs under the old bridge?", "a river"]]
    assert found.sets["humaneval"] == [["def one():\n", "    return 1\n"]]
    assert list(found.files["humaneval"]) == ["humaneval/HumanEval.jsonl"]


def test_a_folder_without_data_gives_no_sets(tmp_path: Path) -> None:
    assert not evaluation_texts(tmp_path / "nothing").sets


def test_an_item_of_every_set_is_found_in_a_document_that_quotes_it(official_data: Path, tmp_path: Path) -> None:
    found = evaluation_texts(official_data)
    stretch = Stretch(words=3, characters=6)
    counts = build(tmp_path, found.sets, stretch)
    index, names = Index(tmp_path, stretch), list(found.sets)
    for name, items in found.sets.items():
        assert counts[name][1] > 0, name
        quoted = [text for item in items for text in item if index.find(text) is not None]
        assert quoted, name
        assert {names[index.find(f"Before: {text} – after").set_number] for text in quoted}
