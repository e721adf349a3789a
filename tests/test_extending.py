"""docs/extending.md followed literally: its code goes into a copy of the source, and one process runs what it adds."""

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from forked_scripts import Ranks

ROOT = Path(__file__).parents[1]
SUPPORT = ROOT / "tests/support"
PAGE = (ROOT / "docs/extending.md").read_text("utf-8")
EDIT = re.compile(
    r"^(?:(In|Above) `(\w+)` (?:of|in) `([\w./-]+)`|(The new file) `([\w./-]+)`):\n\n```\w+\n(.*?)^```$", re.M | re.S
)
MOST_LINES = 20


def apply(root: Path, edit: tuple[str, ...]) -> None:
    """One edit of the page, done to the files below `root`."""
    how, table, place, is_new, path, code = edit
    if is_new:
        assert not (root / path).exists()
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(code, "utf-8")
        return
    lines = (root / place).read_text("utf-8").splitlines(keepends=True)
    (start,) = [number for number, line in enumerate(lines) if re.match(rf"{table}\b.*= [{{\[]$", line)]
    if how == "Above":
        lines.insert(start, f"{code}\n\n")
    else:
        lines.insert(next(number for number in range(start, len(lines)) if lines[number][0] in "}]"), code)
    (root / place).write_text("".join(lines), "utf-8")


def test_each_of_the_four_is_one_new_file_or_edits_of_one_file_of_at_most_twenty_lines():
    sections = [EDIT.findall(section) for section in PAGE.split("\n## ")[1:]]
    assert len(sections) == 4
    assert sum(map(len, sections)) == PAGE.count("\n```") / 2  # no code of the page is left out
    for edits in sections:
        code = {place or path: "" for _, _, place, _, path, _ in edits if not path.endswith(".jsonl")}
        assert len(code) == 1, code
        assert sum(len(edit[5].splitlines()) for edit in edits if not edit[4].endswith(".jsonl")) <= MOST_LINES


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, tiny_language_model_folder: Path, ranks: Ranks) -> dict[str, Any]:
    """What one process saw of the four, in a folder with the changed source."""
    pytest.importorskip("lm_eval")
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for edit in EDIT.findall(PAGE):
        apply(root, edit)
    ranks(SUPPORT / "run_from_copy.py", [[root, SUPPORT / "extending_child.py", tiny_language_model_folder]])
    return json.loads((root / "seen.json").read_text("utf-8"))


def test_the_schedule_of_the_page_trains_a_model(seen: dict[str, Any]):
    peak, least = 1e-3, 1e-4
    rates = [peak / 2, peak, peak] + [peak - (peak - least) * math.sqrt(done / 4) for done in range(1, 5)]
    assert seen["rates"] == pytest.approx(rates, rel=1e-6)
    assert "wsd_sqrt needs decay_steps" in seen["without decay_steps"]
    assert "belongs to wsd and wsd_sqrt" in seen["decay_steps of another"]
    assert seen["schema"] == ["cosine", "linear", "wsd", "constant", "wsd_sqrt"]


def test_the_format_of_the_page_is_prepared_as_json_lines_are(seen: dict[str, Any]):
    assert seen["prepared"]["tsv"]["documents"] == 30
    assert seen["prepared"]["tsv"] == seen["prepared"]["jsonl"]  # documents, tokens, bytes and characters
    assert seen["texts"]
    assert [(kind, line) for kind, line, _ in seen["bad"]] == [("encoding", 3), ("malformed", 4), ("empty", 5)]
    assert seen["bad"][1][2] == "3 cells under 2 names"


def test_the_task_of_the_page_is_one_of_the_suite_and_scores_a_model(seen: dict[str, Any]):
    assert seen["suite"][-2:] == ["tsugiki_gsm8k", "tsugiki_currencies"]
    records = {record["item"]: record for record in seen["records"]}
    assert sorted(records) == ["india", "korea", "thailand"]
    examples = {"質問: 日本の通貨は?\n答え:円", "質問: イギリスの通貨は?\n答え:ポンド"}
    *shown, asked = records["korea"]["prompt"].split("\n\n")
    assert (set(shown), asked) == (examples, "質問: 韓国の通貨は?\n答え:")
    assert all(record["score"] == float(record["output"] == record["gold"]) for record in records.values())


def test_the_output_layer_of_the_page_gives_the_loss_and_gradients_of_its_logits(seen: dict[str, Any]):
    assert seen["head"] == "chunked, first 90 columns"
    assert seen["loss"] == pytest.approx(seen["loss of logits"], rel=1e-6)
    assert seen["gradients apart"] < 1e-6
