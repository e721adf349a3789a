"""Thirteen of the fourteen sets from their real files: the counts and shares that were found by other means."""

import collections
import json
import re

import pytest

from tsugiki.evaluation.data import MissingData, load_set

# (items, examples, whether the examples are the published pool)
COUNTS = {
    "jcommonsenseqa": (1_119, 8_939, True),
    "jemhopqa": (120, 1_059, True),
    "niilc": (198, 795, True),
    "jsquad": (4_442, 4, False),
    "mgsm_ja": (250, 8, True),
    "wmt20_en_ja": (1_000, 1_000, False),
    "wmt20_ja_en": (993, 1_005, False),
    "openbookqa": (500, 0, False),
    "triviaqa": (3_000, 0, False),
    "hellaswag": (10_042, 0, False),
    "squad2": (6_078, 0, False),
    "xwinograd_en": (2_325, 0, False),
    "gsm8k": (1_319, 7_473, True),
}


@pytest.fixture(scope="module")
def load(evaldata):
    cache = {}

    def cached(name):
        if name not in cache:
            cache[name] = load_set(name, evaldata)
        return cache[name]

    return cached


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_those_of_the_published_sets(load, name):
    loaded = load(name)
    assert (len(loaded.test), len(loaded.shots), loaded.published_shots) == COUNTS[name]
    assert loaded.total == len(loaded.test)
    assert loaded.files
    assert all(re.fullmatch("[0-9a-f]{32}", digest) for digest in loaded.files.values())


@pytest.mark.parametrize("name", COUNTS)
def test_every_item_of_a_split_has_the_same_keys_and_kinds(load, name):
    loaded = load(name)
    for split in (loaded.test, loaded.shots):
        assert len({tuple((key, type(value)) for key, value in item.items()) for item in split}) <= 1


def test_the_one_set_that_is_not_there_says_what_to_do(load):
    with pytest.raises(MissingData, match=r"xlsum_ja/test\.csv.*tsugiki data fetch xlsum_ja"):
        load("xlsum_ja")


def test_what_is_not_the_whole_or_the_published_set_says_so(load):
    assert load("triviaqa").notes == ["3,000 of 17,944 items"]
    assert load("squad2").notes == ["6,078 of 11,873 items"]
    assert "2 of 200" in load("niilc").notes[0]
    assert "capital" in load("hellaswag").notes[0]
    for name in ("hellaswag", "triviaqa", "squad2"):
        assert not load(name).published_items
    for name in (
        "jcommonsenseqa",
        "jsquad",
        "wmt20_en_ja",
        "jemhopqa",
        "mgsm_ja",
        "openbookqa",
        "xwinograd_en",
        "gsm8k",
    ):
        assert load(name).notes == []
        assert load(name).published_items


def shares(items):
    counts = collections.Counter(item["label"] for item in items)
    return [round(counts[label] / len(items), 3) for label in sorted(counts)]


def test_gold_labels_fall_as_counted_elsewhere(load):
    assert shares(load("jcommonsenseqa").test) == [0.193, 0.212, 0.214, 0.204, 0.177]
    assert shares(load("openbookqa").test)[0] == 0.276
    assert shares(load("hellaswag").test)[0] == 0.250


def test_half_of_this_squad2_cannot_be_answered(load):
    items = load("squad2").test
    assert sum(not item["answers"] for item in items) == 3_168
    assert items[0]["title"] == "Normans"
    assert items[0]["answers"] == ["France"] * 4
    assert all(answer in item["context"] for item in items for answer in item["answers"])


def test_jemhopqa_is_version_1_0(load, evaldata, tmp_path):
    items = load("jemhopqa").test
    kinds = collections.Counter(item["type"] for item in items)
    assert kinds == {"comparison": 73, "compositional": 47}
    assert sum(item["answer"] in ("YES", "NO") for item in items) == 45
    assert max(len(item["answer"]) for item in items) == 15
    (tmp_path / "jemhopqa").mkdir()
    for split in ("dev", "train"):
        (tmp_path / f"jemhopqa/{split}_ver1.2.json").symlink_to(evaldata / f"jemhopqa/{split}_ver1.2.json")
    newer = load_set("jemhopqa", tmp_path)
    assert [item["id"] for item in newer.test] == [item["id"] for item in items]
    assert sum(old != new for old, new in zip(items, newer.test, strict=True)) == 12
    assert not newer.published_shots
    assert "version 1.2" in newer.notes[0]


def test_niilc_keeps_every_answer_and_drops_the_questions_without(load):
    loaded = load("niilc")
    assert sum(len(item["answers"]) > 1 for item in loaded.test) == 36
    assert sum(len(item["answers"]) > 1 for item in loaded.shots) == 135
    assert all(item["answers"] != ["-"] for item in loaded.test + loaded.shots)
    assert loaded.test[0] == {
        "id": "NIILC-ECQA2015-00005-01", "question": "初めてノート型パソコンを作ったメーカーは？", "answers": ["東芝"],
    }  # fmt: skip
    # One answer of the pool is an empty element: it is no answer.
    (written,) = [item for item in loaded.shots if item["id"] == "NIILC-ECQA2015-00407-01"]
    assert len(written["answers"]) == 17


def test_jsquad_keeps_the_title_in_front_of_the_paragraph(load):
    loaded = load("jsquad")
    assert all(" [SEP] " in item["context"] for item in loaded.test + loaded.shots)
    assert max(len(item["context"]) for item in loaded.test) == 906
    assert max(len(item["answers"][0]) for item in loaded.test) == 19
    assert loaded.shots[0]["answers"] == ["聖武天皇"]


def test_mgsm_has_numbers_without_commas_and_examples_with_their_labels(load):
    loaded = load("mgsm_ja")
    assert loaded.test[0]["answer"] == "18"
    assert "114200" in [item["answer"] for item in loaded.test]
    assert all(item["answer"].isdigit() for item in loaded.test)
    assert all(item["question"].startswith("問題：") for item in loaded.shots)
    assert all(item["answer"].startswith("ステップごとの答え：") for item in loaded.shots)
    assert [item["id"] for item in loaded.shots] == [f"exemplar-{number}" for number in range(1, 9)]


def test_the_two_directions_of_translation_have_their_own_sentences(load):
    to_japanese, to_english = load("wmt20_en_ja").test, load("wmt20_ja_en").test
    assert to_japanese[0]["source"].startswith("Why the Queen made an error")
    assert to_japanese[0]["reference"].startswith("なぜ女王は")
    assert "鈴木奈々" in to_english[0]["source"]
    assert to_english[0]["reference"].startswith("Suzuki Nana")
    kana = re.compile("[ぁ-んァ-ン]")
    assert sum(bool(kana.search(item["reference"])) for item in to_japanese) > 950
    assert not any(kana.search(item["reference"]) for item in to_english)


def test_translation_examples_come_from_ntrex_when_newstest2021_is_not_there(evaldata, tmp_path):
    for folder, pattern in (("wmt20", "*"), ("mt_fallback", "NTREX*")):
        (tmp_path / folder).mkdir()
        for path in (evaldata / folder).glob(pattern):
            (tmp_path / folder / path.name).symlink_to(path)
    loaded = load_set("wmt20_ja_en", tmp_path)
    assert len(loaded.shots) == 1_997
    assert loaded.shots[0]["reference"] == "Welsh AMs worried about 'looking like muppets'"


def test_trivia_questions_are_taken_out_of_their_prompt(load):
    first = load("triviaqa").test[0]
    assert first["question"] == "Brunswick, Lancastrian and Pearl Pickler are types of which vegetable?"
    assert first["answer"] == "Onion"
    assert "Bulb onion" in first["aliases"]
    assert len(first["aliases"]) == 17


def test_gsm8k_answers_end_in_their_number(load):
    loaded = load("gsm8k")
    assert loaded.test[0]["answer"].endswith("#### 18")
    assert all(re.search(r"\n#### -?[\d,.]+$", item["answer"]) for item in loaded.test + loaded.shots)


def test_a_blank_stands_where_the_pronoun_stood_and_the_right_name_is_marked(load, evaldata):
    items = load("xwinograd_en").test
    rows = [line.split("\t") for line in (evaldata / "xwinograd/dataset.tsv").read_text(encoding="utf-8").splitlines()]
    english = [row for row in rows if row[0] == "en"]
    alone = 0
    for item, row in zip(items, english, strict=True):
        sentence, pronoun, candidates = row[3], json.loads(row[5]), json.loads(row[6])
        assert item["sentence"].replace("_", pronoun[0]) == sentence
        right = next(candidate[0] for candidate in candidates if candidate[3])
        assert (item["option1"], item["option2"])[item["label"]] == right
        word = re.compile(rf"\b{re.escape(pronoun[0])}\b")
        if len(word.findall(sentence)) == 1:  # then its place needs no positions
            alone += 1
            assert item["sentence"] == word.sub("_", sentence)
    assert alone > 2_000
    assert items[0]["sentence"] == "The city councilmen refused the demonstrators a permit because _ feared violence."
    assert items[0]["label"] == 0
    assert items[1]["label"] == 1
