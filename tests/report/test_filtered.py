"""What filters removed stands in the report, and text of removed documents cannot become part of the page."""

import json
import re
from html import unescape

from report_runs import make_run

from tsugiki.report.page import make_page
from tsugiki.report.run_directory import read_run

FILTERED = {
    "removed": {"quality.max_sentence": 30, "duplicates.near": 5, "decontamination.gsm8k": 1},
    "samples": {"quality.max_sentence": [{"file": "a.jsonl", "line": 7, "text": "<script>alert(1)</script> 長い文"}]},
    "evaluation": {
        "words": 13, "characters": 30, "items": {"gsm8k": 1319}, "looked_for": {"gsm8k": 1300}, "files": {},
    },
}  # fmt: skip


def page_of(run) -> str:
    return make_page([read_run(run)])


def test_counts_shares_and_beginnings_of_removed_documents_are_shown(tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "data/novels/manifest.json"
    manifest = json.loads(path.read_text())
    kept = manifest["train"]["documents"] + manifest["held_out"]["documents"]
    path.write_text(json.dumps(manifest | {"filtered": FILTERED}))
    page = page_of(run)
    words = " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())
    assert f"novels quality max_sentence 30 {30 / (kept + 36):.2%}" in words
    assert f"novels all 36 {36 / (kept + 36):.2%}" in words
    assert "1,300 of 1,319 items are long enough" in words
    assert "a.jsonl:7 <script>alert(1)</script> 長い文" in words
    assert "<script>alert(1)" not in page


def test_a_run_without_filters_says_nothing_of_them(tmp_path):
    assert "filters removed" not in page_of(make_run(tmp_path / "run"))
