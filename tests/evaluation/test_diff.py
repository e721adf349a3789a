"""Which items changed between two evaluations, and what both models said to them."""

import json

import pytest
from evaluation_results import missing, model, scored
from rich.console import Console

from tsugiki.errors import DataError, StorageError
from tsugiki.evaluation.diff import compare, draw, to_json_lines
from tsugiki.evaluation.results import write_results
from tsugiki.statistics import difference_interval

PROMPT = "質問：" + "長い前置き。" * 60 + "\n問い {item}\n答え："


def record(task, item, **changes):
    return {
        "task": task, "item": item, "prompt": PROMPT.format(item=item), "prompt_hash": f"hash of {item}",
        "output": "東京です\n", "answer": "東京", "gold": ["東京", "とうきょう"], "prompt_tokens": 9, "output_tokens": 3,
        "truncated": False, **changes,
    }  # fmt: skip


def write(folder, result, **changes):
    """`changes`: what the records of an item (by id) have instead."""
    write_results(folder, result, {
        name: [record(name, item, **changes.get(item, {})) for item in task.ids] for name, task in result.scored().items()
    })  # fmt: skip
    return folder


@pytest.fixture
def folders(tmp_path):
    before = model("base", scored("niilc", [1, 1, 0, 0, 1, 1]), scored("jsquad", [0.5, 0.9, 0.2]))
    after = model("tuned", scored("niilc", [1, 0, 1, 0, 0, 1]), scored("jsquad", [0.6, 0.1, 0.2]))
    return (
        write(tmp_path / "before", before),
        write(tmp_path / "after", after, i1={"output": "大阪\x1b[31m[bold]", "answer": "大阪"}),
    )


def shown(diff, **options):
    console = Console(width=120, color_system=None, soft_wrap=True, highlight=False, emoji=False)
    with console.capture() as capture:
        console.print(draw(diff, **options))
    return capture.get()


def test_items_that_fell_and_rose(folders):
    diff = compare(*folders)
    assert diff.names == ("base", "tuned")
    niilc, jsquad = diff.tasks
    assert (niilc.shared, niilc.falls, len(niilc.changes)) == (6, 2, 3)
    assert [(change.item, change.before, change.after) for change in niilc.changes] == [
        ("i1", 1, 0), ("i4", 1, 0), ("i2", 0, 1)
    ]  # fmt: skip
    assert [change.item for change in jsquad.changes] == ["i1", "i0"]  # the fall first, though smaller changes rose
    assert niilc.scores == pytest.approx((4 / 6, 3 / 6))
    first, second = (scored("niilc", values).sample for values in ([1, 1, 0, 0, 1, 1], [1, 0, 1, 0, 0, 1]))
    assert niilc.difference == difference_interval(second, first)


def test_falls_before_rises_and_the_largest_first(tmp_path):
    before = write(tmp_path / "a", model("a", scored("jsquad", [0.5, 0.5, 0.5, 0.5])))
    after = write(tmp_path / "b", model("b", scored("jsquad", [0.6, 0.4, 1.0, 0.0])))
    assert [change.item for change in compare(before, after).tasks[0].changes] == ["i3", "i1", "i2", "i0"]


def test_the_terminal_shows_the_end_of_the_prompt_both_answers_and_the_gold(folders):
    text = shown(compare(*folders, tasks=["niilc"]))
    assert "before: base" in text
    assert "Of 6 items 2 fell, 1 rose." in text
    assert "within noise" in text
    assert "▼ i1  1.000 -> 0.000" in text
    assert "▲ i2  0.000 -> 1.000" in text
    assert "前置き。⏎問い i1⏎答え：" in text
    assert "…" in text
    assert '["東京", "とうきょう"]' in text
    assert "東京   from 東京です⏎" in text
    assert "大阪   from 大阪\\x1b[31m[bold]" in text
    assert "\x1b" not in text
    assert "jsquad" not in text


def test_a_limit_leaves_items_out_and_says_so(folders):
    text = shown(compare(*folders, tasks=["niilc"]), limit=1)
    assert "▼ i1" in text
    assert "▲ i2" in text
    assert "i4" not in text
    assert "… and 1 more of niilc" in text


def test_json_lines_hold_both_records_whole(folders):
    diff = compare(*folders)
    lines = [json.loads(line) for line in to_json_lines(diff)]
    assert [(line["task"], line["item"]) for line in lines] == [
        ("niilc", "i1"), ("niilc", "i4"), ("niilc", "i2"), ("jsquad", "i1"), ("jsquad", "i0")
    ]  # fmt: skip
    assert lines[0]["records"][0] == record("niilc", "i1")
    assert lines[0]["records"][1]["answer"] == "大阪"
    assert (lines[0]["before"], lines[0]["after"]) == (1, 0)


def test_choices_show_the_likeliest(tmp_path):
    choices = [
        {"text": " [paper]", "logprob": -3.5, "greedy": False},
        {"text": " stone", "logprob": -1.25, "greedy": True},
    ]
    before = write(tmp_path / "a", model("a", scored("obqa", [1])))
    after = write(tmp_path / "b", model("b", scored("obqa", [0])), i0={"choices": choices, "answer": 1, "gold": 0})
    assert "1   from  stone (-1.25)" in shown(compare(before, after))


def test_choices_without_a_log_probability_show_the_answer_alone(tmp_path):
    probe = {"choices": [{"text": "x", "bits_per_byte": 1.5}], "answer": "x"}
    before, after = (tmp_path / name for name in "ab")
    for folder, score in ((before, 1), (after, 0)):
        task = scored("probe", [score])
        lines = [{key: value for key, value in record("probe", "i0", **probe).items() if key != "output"}]
        write_results(folder, model("m", task), {"probe": lines})
    assert "after   x\n" in shown(compare(before, after))


def test_a_text_is_known_by_its_beginning_and_fewer_bits_are_said_to_be_better(tmp_path):
    for name, nats in (("a", 9.0), ("b", 7.0)):
        task = scored("text_x", [[nats, 10.0], [5.0, 10.0]], combine="bits_per_byte", metric="bits per byte")
        lines = [
            {
                "task": "text_x",
                "item": item,
                "prompt_hash": "",
                "prompt": "",
                "gold": "川は流れる。",
                "statistics": [nats, 10],
            }
            for item in task.ids
        ]
        write_results(tmp_path / name, model(name, task), {"text_x": lines})
    text = shown(compare(tmp_path / "a", tmp_path / "b"))
    assert "text_x, bits per byte: 1.010 -> 0.866" in text
    assert "1 fell, 0 rose; fewer are better." in text
    assert text.rstrip().endswith("▼ i0  1.298 -> 1.010\n  text    川は流れる。")


def test_other_prompts_are_counted_over_all_items_and_shown(tmp_path):
    before = write(tmp_path / "a", model("a", scored("niilc", [1, 1, 0])))
    other = {"prompt": "別の聞き方：", "prompt_hash": "another"}
    after = write(tmp_path / "b", model("b", scored("niilc", [1, 0, 0])), i1=other, i2=other)
    diff = compare(before, after)
    assert diff.tasks[0].other_prompts == 2
    assert not diff.tasks[0].changes[0].same_prompt
    text = shown(diff)
    assert "2 of 3 items had another prompt" in text
    assert "別の聞き方：" in text
    assert json.loads(next(to_json_lines(diff)))["same_prompt"] is False


@pytest.mark.parametrize(("digests", "told"), [(("a", "b"), True), (("a", "a"), False), (("", "b"), False)])
def test_two_tasks_of_one_name_are_said_to_be_two(digests, told, tmp_path):
    for name, digest in zip("ab", digests, strict=True):
        write(tmp_path / name, model(name, scored("t", [1, 0], digest=digest)))
    assert ("definition or data was another" in shown(compare(tmp_path / "a", tmp_path / "b"))) is told


def test_items_that_only_one_has_are_left_aside_and_counted(tmp_path):
    before = write(tmp_path / "a", model("a", scored("niilc", [1, 1, 0, 0], ids="abcd")))
    after = write(tmp_path / "b", model("b", scored("niilc", [0, 1], ids="bx")))
    task = compare(before, after).tasks[0]
    assert (task.shared, task.only, [change.item for change in task.changes]) == (1, (3, 1), ["b"])
    assert "3 items of the first alone, 1 of the second alone" in shown(compare(before, after))


def test_a_corpus_metric_compares_items_by_their_own_score(tmp_path):
    perfect, poor = [6, 6, 6, 5, 4, 3, 6, 5, 4, 3], [6, 6, 4, 2, 1, 0, 6, 5, 4, 3]
    before = write(tmp_path / "a", model("a", scored("en_ja", [perfect, poor], combine="bleu")))
    after = write(tmp_path / "b", model("b", scored("en_ja", [poor, poor], combine="bleu")))
    task = compare(before, after).tasks[0]
    assert [change.item for change in task.changes] == ["i0"]
    assert task.changes[0].before == pytest.approx(1.0)
    precisions = 4 / 6 * 2 / 5 * 1 / 4 * (0.5 / 3)  # no 4-gram matches: half a match
    assert task.changes[0].after == pytest.approx(precisions**0.25)
    assert task.scores[0] > task.scores[1]


def test_nothing_to_compare_is_an_error_that_says_what_there_is(tmp_path):
    before = write(tmp_path / "a", model("a", scored("niilc", [1]), missing("jsquad")))
    other = write(tmp_path / "b", model("b", scored("jsquad", [1])))
    with pytest.raises(DataError, match=r"any task\. The first has niilc; the second jsquad"):
        compare(before, other)
    with pytest.raises(DataError, match="no common score for niilk"):
        compare(before, before, tasks=["niilc", "niilk"])
    apart = write(tmp_path / "c", model("c", scored("niilc", [1], ids="z")))
    with pytest.raises(DataError, match="niilc has no common item"):
        compare(before, apart)
    with pytest.raises(StorageError, match="scores"):
        compare(before, tmp_path / "nowhere")


def test_other_suites_and_metrics_are_errors(tmp_path):
    before = write(tmp_path / "a", model("a", scored("niilc", [1])))
    with pytest.raises(DataError, match="several suites"):
        compare(before, write(tmp_path / "b", model("b", scored("niilc", [1]), suite="default")))
    with pytest.raises(DataError, match="cannot be compared"):
        compare(before, write(tmp_path / "c", model("c", scored("niilc", [1], metric="f1"))))


def test_records_that_lack_an_item_are_named(folders):
    path = folders[1] / "records/niilc.jsonl"
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")
    with pytest.raises(DataError, match="no record of item i5 of task niilc"):
        compare(*folders)
