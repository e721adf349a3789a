"""What an evaluation leaves behind is read as it was written, and damage is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tsugiki.errors import DataError, StorageError
from tsugiki.evaluation.results import write_results
from tsugiki.evaluation_files import MissingTask, ModelResult, TaskResult, read_records, read_results, records_file


def task(name="jemhopqa", ids=("q7", "7", "質問 3"), values=((0.5,), (1.0,), (0.12,)), **changes):
    kept = {
        "title": "JEMHop", "language": "ja", "metric": "char_f1", "combine": "mean", "total": 120, "shots": 4,
        "chance": None, "comparable": True, "notes": ["3 of 120 items"],
    }  # fmt: skip
    return TaskResult(name, ids=list(ids), values=np.array(values, dtype=float), **{**kept, **changes})


def result(*tasks, name="base"):
    header = {"suite": "swallow", "versions": {"tsugiki": "0"}}
    return ModelResult(name, header, {each.task: each for each in tasks})


def records_of(scored):
    return [
        {"task": scored.task, "item": item, "prompt": "問\n", "output": "答\u2028", "score": value}
        for item, value in zip(scored.ids, scored.values[:, 0].tolist(), strict=True)
    ]


def test_results_come_back_as_they_were(tmp_path):
    statistics = np.arange(20, dtype=float).reshape(2, 10)
    written = result(
        task(),
        task("wmt20_en_ja", ["b", "a"], statistics, combine="bleu", title="en-ja", chance=0.2, comparable=False),
        MissingTask("xlsum_ja", "XL-Sum", "ja", "no file test.csv"),
    )
    write_results(tmp_path / "new/folder", written, {name: records_of(each) for name, each in written.scored().items()})
    read = read_results(tmp_path / "new/folder")

    assert (read.name, read.header, list(read.tasks)) == (written.name, written.header, list(written.tasks))
    assert read.tasks["xlsum_ja"] == written.tasks["xlsum_ja"]
    for name, expected in written.scored().items():
        found = vars(read.tasks[name])
        assert np.array_equal(found["values"], expected.values)
        assert {**found, "values": None} == {**vars(expected), "values": None}
    assert list(read_records(tmp_path / "new/folder", "jemhopqa")) == records_of(written.tasks["jemhopqa"])


def test_the_summary_says_score_and_interval(tmp_path):
    write_results(tmp_path, result(scored := task()), {"jemhopqa": records_of(scored)})
    summary = json.loads((tmp_path / "scores.json").read_text("utf-8"))["tasks"]["jemhopqa"]
    assert summary["score"] == pytest.approx(0.54)
    low, high = summary["interval"]
    assert 0.12 <= low < 0.54 < high <= 1.0
    assert summary["items"] == 3


def test_one_item_has_a_score_and_no_interval(tmp_path):
    scored = task(ids=["only"], values=[[0.3]])
    write_results(tmp_path, result(scored), {"jemhopqa": records_of(scored)})
    assert json.loads((tmp_path / "scores.json").read_text("utf-8"))["tasks"]["jemhopqa"]["interval"] is None


def test_some_of_the_items_in_the_order_asked():
    assert task().on(["質問 3", "q7"]).rows.tolist() == [[0.12], [0.5]]
    with pytest.raises(KeyError):
        task().on(["q8"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": ["a", "a", "b"]}, "same id"),
        ({"ids": ["a"]}, "for 1 items"),
        ({"ids": [], "values": np.zeros((0, 1))}, "for 0 items"),
        ({"values": [[0.1], [np.nan], [0.2]]}, "finite"),
        ({"combine": "median"}, "median"),
    ],
)
def test_scores_that_are_none_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        task(**changes)


def test_records_of_other_items_are_refused_and_nothing_is_called_finished(tmp_path):
    scored = task()
    with pytest.raises(ValueError, match="not those of its items"):
        write_results(tmp_path, result(scored), {"jemhopqa": records_of(scored)[::-1]})
    assert not (tmp_path / "scores.json").exists()


def test_new_results_join_the_old_where_they_were_made_alike_and_else_take_their_place(tmp_path):
    first, second = task(), task("niilc")
    write_results(tmp_path / "r", result(first), {"jemhopqa": records_of(first)})
    with pytest.raises(ValueError, match="not those of its items"):
        write_results(tmp_path / "r", result(first, second), {"jemhopqa": records_of(first)})
    assert list(read_results(tmp_path / "r").tasks) == ["jemhopqa"]
    write_results(tmp_path / "r", result(second), {"niilc": records_of(second)})
    assert read_results(tmp_path / "r").scored().keys() == {"jemhopqa", "niilc"}
    assert len(list(read_records(tmp_path / "r", "jemhopqa"))) == 3
    (tmp_path / "r/notes.md").write_text("mine")
    otherwise = replace(result(second), header={"suite": "other"})
    write_results(tmp_path / "r", otherwise, {"niilc": records_of(second)})
    assert list(read_results(tmp_path / "r").tasks) == ["niilc"]
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["niilc.jsonl", "notes.md", "r", "records", "scores.json"]


@pytest.mark.parametrize(("now", "kept"), [("a", True), ("b", False), (None, True)])
def test_a_task_that_is_another_by_now_does_not_stay(now, kept, tmp_path):
    first, second = task(digest="a"), task("niilc")
    write_results(tmp_path / "r", result(first), {"jemhopqa": records_of(first)})
    changed = write_results(tmp_path / "r", result(second), {"niilc": records_of(second)}, lambda _: now)
    assert changed == ([] if kept else ["JEMHop"])
    assert ("jemhopqa" in read_results(tmp_path / "r").tasks) is kept
    assert records_file(tmp_path / "r", "jemhopqa").exists() is kept


def test_scores_that_were_written_without_a_digest_are_read(tmp_path):
    write_results(tmp_path, result(scored := task(digest="a")), {"jemhopqa": records_of(scored)})
    content = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert content["tasks"]["jemhopqa"].pop("digest") == "a"
    (tmp_path / "scores.json").write_text(json.dumps(content), "utf-8")
    assert read_results(tmp_path).tasks["jemhopqa"].digest == ""


def test_a_task_name_that_is_no_file_name(tmp_path):
    scored = task("../other/name")
    write_results(tmp_path / "here", result(scored), {scored.task: records_of(scored)})
    assert [path.name for path in (tmp_path / "here/records").iterdir()] == ["..%2Fother%2Fname.jsonl"]
    assert len(list(read_records(tmp_path / "here", scored.task))) == 3


def test_a_folder_without_results_is_named(tmp_path):
    with pytest.raises(StorageError, match=r"scores\.json"):
        read_results(tmp_path)
    with pytest.raises(StorageError, match=r"jemhopqa\.jsonl"):
        list(read_records(tmp_path, "jemhopqa"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("header"),
        lambda content: content.update(format=2),
        lambda content: content["items"].pop("jemhopqa"),
        lambda content: content["items"]["jemhopqa"].update(q7="good"),
        lambda content: content["items"]["jemhopqa"].update(q7=[1, 2]),
        lambda content: content["tasks"]["jemhopqa"].pop("shots"),
        lambda content: content.update(tasks=[]),
        lambda content: content["tasks"]["jemhopqa"].update(combine="mean" + 5000 * "9"),
    ],
)
def test_damaged_scores_are_named(tmp_path, damage):
    write_results(tmp_path, result(scored := task()), {"jemhopqa": records_of(scored)})
    content = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    damage(content)
    (tmp_path / "scores.json").write_text(json.dumps(content), "utf-8")
    with pytest.raises(DataError, match=r"scores\.json") as said:
        read_results(tmp_path)
    assert len(str(said.value)) < 1000


@pytest.mark.parametrize("line", ["{", "[]", '{"task": "jemhopqa"}', "\udcff"])
def test_a_damaged_record_is_named_by_its_line(tmp_path, line):
    write_results(tmp_path, result(scored := task()), {"jemhopqa": records_of(scored)})
    with records_file(tmp_path, "jemhopqa").open("ab") as file:
        file.write(line.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=r"jemhopqa\.jsonl, line 4"):
        list(read_records(tmp_path, "jemhopqa"))
