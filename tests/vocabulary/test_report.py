"""The report as people see it: nothing missing, nothing broken by odd pieces, everything within the terminal."""

import itertools
import json
import re
import struct
from types import SimpleNamespace

import pytest
from extended_tokenizers import ENGLISH, JAPANESE, PAIRS

from tsugiki.errors import StorageError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.chart import make_figure
from tsugiki.vocabulary.fertility import Fertility
from tsugiki.vocabulary.gains import Change, Coverage, ModelSize, NewPiece, VocabularyReport, build_report
from tsugiki.vocabulary.report import in_short, to_markdown, write_report


def change(before: int, after: int, characters: int) -> Change:
    return Change(Fertility(before, characters, 3 * characters, 2), Fertility(after, characters, 3 * characters, 2))


@pytest.fixture
def report():
    return VocabularyReport(
        size_before=32_000,
        size_after=32_128,
        sample={"ja_1": change(2_000_000, 1_000_000, 1_900_000), "en": change(250_000, 250_000, 1_000_000)},
        held_out={"ja_1": change(2_000, 1_200, 1_900)},
        weights={"ja_1": 0.75, "en": 0.25},
        sample_coverage=[Coverage("han", 1_000, 40, 700, 990, 10, 38)],
        held_out_coverage=[Coverage("han", 10, 8, 4, 10, 2, 8)],
        most_used=[NewPiece(32_000, "川は", 1_234), NewPiece(32_001, "|`x`", 7), NewPiece(32_002, "<E3 80>", 6)]
        + [NewPiece(32_003 + number, "[red]", 5) for number in range(3)],
        unused=60,
        first_unused=[NewPiece(32_050, "鬱", 0)],
        model=ModelSize(32_000, 32_128, 100, False, 10_000_000),
        seconds={"learn": 1.25, "prove": 2.0},
        proofs=[
            SimpleNamespace(name="pieces", passed=True, checked=128, failed=0, summary="128 pieces"),
            SimpleNamespace(name="ids", passed=False, checked=3, failed=1, summary="3 lines: 1 | has\n`\x1b` [b]x[/b]"),
        ],
        trials=[
            SimpleNamespace(threshold=5, characters=40, tokens_per_character=0.61239),
            SimpleNamespace(threshold=1_000, characters=30, tokens_per_character=0.6),
        ],
        threshold=5,
        initialisation={"input rows": "mean", "noise": 0.001, "equal rows": 1_812},
    )


GOLDEN = r"""# Vocabulary 32,000 -> 32,128: 128 new pieces

![Tokens per character before and after](fertility.png)

## Held-out text

| source | size (chars) | tokens/char before | after | bytes/token before | after | tokens ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| ja\_1 | 1.90 k | 1.053 | 0.632 | 2.85 | 4.75 | 0.600 |

## The sample that pieces were learnt from

| source | size (chars) | tokens/char before | after | bytes/token before | after | tokens ratio |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| ja\_1 | 1.90 M | 1.053 | 0.526 | 2.85 | 5.70 | 0.500 |
| en | 1.00 M | 0.250 | 0.250 | 12.00 | 12.00 | 1.000 |
| all | 2.90 M | 0.776 | 0.431 | 3.87 | 6.96 | 0.556 |

## What it saves in training and generation

| source | tokens saved | text in a sequence | FLOPs of the same text |
| --- | ---: | ---: | ---: |
| ja\_1 | 40.0 % | 1.67 x | 60.1 % |
| en | 0.0 % | 1.00 x | 100.2 % |
| the mixture | 33.3 % | 1.50 x | 66.8 % |

Fewer tokens for ja\_1: a sequence holds that much more text, and at equal tokens a second training and generation pass through that much more of it.

No saving to speak of for en (under 1 %).

The mixture is that of the recipe, whose weights are shares of training tokens.

The model grows by 128 rows x 100 x 2 matrices = 25,600 parameters.

FLOPs a trained token, without attention: 40.8 M -\> 40.9 M (+0.19 %, by the output layer). Text that takes no fewer tokens costs that much more.

Fewer tokens are no measure of quality: compare models by bits per byte and by tasks.

## Characters of held-out text that are one token

| script | distinct | one token before | after | occurrences | one token before | after |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| han | 8 | 25.0 % | 100.0 % | 10 | 40.0 % | 100.0 % |

## Characters of the sample that are one token

| script | distinct | one token before | after | occurrences | one token before | after |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| han | 40 | 25.0 % | 95.0 % | 1.00 k | 70.0 % | 99.0 % |

## The 6 most used new pieces, with their uses in the sample

| piece | uses | piece | uses | piece | uses | piece | uses | piece | uses |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 川は | 1,234 | \|\`x\` | 7 | \<E3 80\> | 6 | \[red\] | 5 | \[red\] | 5 |
| \[red\] | 5 |  |  |  |  |  |  |  |  |

## New pieces that the sample never used: 60 of 128 (46.9 %)

| piece |
| --- |
| 鬱 |

… and 59 more.

## How many single characters

| seen at least | characters | tokens per character of held-out text | chosen |
| ---: | ---: | ---: | ---: |
| 5 | 40 | 0.6124 | yes |
| 1,000 | 30 | 0.6000 |  |

## New rows of the model

| fact | value |
| --- | --- |
| input rows | mean |
| noise | 0.001 |
| equal rows | 1,812 |

## Proofs: 1 of 2 failed

| proof | result | what was found | checked | failed |
| --- | --- | --- | ---: | ---: |
| pieces | ok | 128 pieces | 128 | 0 |
| ids | FAILED | 3 lines: 1 \| has \`\\x1b\` \[b\]x\[/b\] | 3 | 1 |

## Time

| phase | seconds |
| --- | ---: |
| learn | 1.2 |
| prove | 2.0 |
| all | 3.2 |
"""


def test_markdown(report):
    assert to_markdown(report) == GOLDEN


def test_the_terminal_has_a_line_a_source(report):
    assert list(in_short(report)) == [
        "fertility  ja_1: 1.053 -> 0.632 tokens a character (0.600 of the tokens)",  # held-out text before the sample
        "fertility  en: 0.250 -> 0.250 tokens a character (1.000 of the tokens)",
    ]


def test_no_table_is_broken_by_what_it_holds(report):
    """Every line of a Markdown table has as many cells as its heading; a bar in a cell is escaped."""
    lines = to_markdown(report).splitlines()
    for above, line in itertools.pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", above)) == len(re.findall(r"(?<!\\)\|", line))


def test_what_was_not_done_is_not_shown():
    bare = VocabularyReport(10, 10, {}, {}, {}, [], [], [], 0, [])
    assert [line for line in to_markdown(bare).splitlines() if line.startswith("#")] == [
        "# Vocabulary 10 -> 10: 0 new pieces", "## New pieces that the sample never used: 0 of 0",
    ]  # fmt: skip


def test_text_that_got_longer_and_a_source_that_was_not_measured_are_said(report):
    report.sample["en"] = change(100, 103, 400)
    report.weights["code"] = 1
    report.model = None
    words = to_markdown(report)
    assert "More tokens than before for en." in words
    assert "| en | -3.0 % | 0.97 x |\n" in words
    assert "No figure for the mixture: code was not measured." in words
    assert "the mixture |" not in words
    assert "FLOPs" not in words


def test_all_passed_proofs_are_counted(report):
    report.proofs = report.proofs[:1]
    assert "## Proofs: all 1 passed" in to_markdown(report)


def test_chart_has_a_bar_for_each_figure(report):
    axes = make_figure(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ja_1\nheld out", "ja_1\nsample", "en\nsample"]
    before, after = ([bar.get_width() for bar in bars] for bars in axes.containers)
    assert before == pytest.approx([2_000 / 1_900, 2 / 1.9, 0.25])
    assert after == pytest.approx([1_200 / 1_900, 1 / 1.9, 0.25])
    assert [text.get_text() for text in axes.texts][:2] == ["1.053", "0.632  (60 % of before)"]


@pytest.mark.parametrize("family", list(PAIRS))
def test_files_of_a_real_report(family, tmp_path):
    pair = PAIRS[family](tmp_path / "tokenizers")
    target = TargetCharacters.of_language("ja")
    report = build_report(*pair, {"ja": JAPANESE, "en": ENGLISH}, {"ja": JAPANESE[:1]}, target, {"ja": 1})
    paths = write_report(report, tmp_path)
    assert [path.name for path in paths] == ["report.json", "report.md", "fertility.png"]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == json.loads(json.dumps(report.to_json()))
    assert paths[1].read_text(encoding="utf-8") == to_markdown(report)
    image = paths[2].read_bytes()
    assert image.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", image[16:24])
    assert width == 960
    assert height > 300


def test_folder_that_does_not_exist_is_named(report, tmp_path):
    with pytest.raises(StorageError, match=r"nowhere/report\.json"):
        write_report(report, tmp_path / "nowhere")
