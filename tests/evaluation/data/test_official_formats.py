"""Each set's official format and the hub's Parquet form of it, on made-up files."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from evaluation_data import POOL, TEST, write_json, write_lines, write_parquet

from tsugiki.evaluation.data import SETS, load_set
from tsugiki.evaluation.data.winograd import word_places
from tsugiki.evaluation.shots import DRAWS


@pytest.mark.parametrize("name", SETS)
def test_every_official_format_is_read_with_its_examples(official_data, name):
    loaded = load_set(name, official_data)
    assert len(loaded.test) == loaded.total == TEST
    examples = {"mgsm_ja": 8, "xwinograd_en": 0}.get(name, POOL)
    assert len(loaded.shots) == examples
    from_the_test_split = name in DRAWS and DRAWS[name].own  # whatever pool there is
    assert loaded.published_shots is not from_the_test_split
    assert f"{TEST} of {SETS[name].items:,} items" in loaded.notes


def test_fields_stand_where_they_belong(official_data):
    first = {name: load_set(name, official_data).test[1] for name in SETS}
    assert first["jcommonsenseqa"] == {
        "id": "9001", "question": "1番目に出てくる動物は何？", "choices": ["猫", "馬", "牛", "羊", "猿"], "label": 1,
    }  # fmt: skip
    assert first["jemhopqa"]["answer"] == "YES"
    assert first["niilc"] == {"id": "MADE-UP-00001-01", "question": "1番の動物は？", "answers": ["猫"]}
    assert first["jsquad"] == {
        "id": "a1p0q0", "context": "動物1 [SEP] これは猫の一種で、森に住む。", "question": "何の話か。",
        "answers": ["猫", "猫の一種"],
    }  # fmt: skip
    assert first["xlsum_ja"]["summary"] == "森で猫が見つかり、調べが続いている。"
    assert first["xlsum_ja"]["text"].startswith('森で猫が見つかった。\n「猫」は, "珍しい"という。')
    assert first["mgsm_ja"] == {
        "id": "2",
        "question": "犬が1匹、猫が1001匹います。合わせて何匹ですか？",
        "answer": "1002",
    }
    assert first["wmt20_en_ja"] == {"id": "2", "source": "Bob & Co. saw animal 1.", "reference": "Bob社は猫を1匹見た。"}
    assert first["wmt20_ja_en"] == {"id": "2", "source": "Bob社は猫を1匹見た。", "reference": "Bob & Co. saw animal 1."}
    assert first["openbookqa"] == {
        "id": "7-1", "question": "Thing 1 is most like", "choices": ["a bob", "a cid", "a dan", "a eve"], "label": 1,
    }  # fmt: skip
    assert first["triviaqa"] == {
        "id": "tc_1", "question": "Who is person 1?", "answer": "Bob", "aliases": ["Bob Smith", "Bob"],
        "normalized_aliases": ["bob smith", "bob"],
    }  # fmt: skip
    assert first["squad2"]["answers"] == ["Bob", "Bob the elder"]
    assert first["xwinograd_en"] == {
        "id": "2", "sentence": 'Bob said "he" to Cid since _ is number 1.', "option1": "Bob", "option2": "Cid", "label": 1,
    }  # fmt: skip
    assert first["gsm8k"]["answer"].endswith("\n#### 1,002")


def test_examples_of_mgsm_are_read_from_python_without_running_it(official_data, tmp_path):
    loaded = load_set("mgsm_ja", official_data)
    assert loaded.shots[0] == {
        "id": "exemplar-1",
        "question": "問題：犬が1匹、猫が2匹います。合わせて何匹ですか？",
        "answer": "ステップごとの答え：1+2=3。答えは3です。",
    }
    marker = tmp_path / "ran"
    folder = tmp_path / "mgsm"
    folder.mkdir()
    (folder / "mgsm_ja.tsv").write_bytes((official_data / "mgsm/mgsm_ja.tsv").read_bytes())
    source = (official_data / "mgsm/exemplars.py").read_text(encoding="utf-8")
    (folder / "exemplars.py").write_text(f"open({str(marker)!r}, 'w')\n{source}", encoding="utf-8")
    assert load_set("mgsm_ja", tmp_path).shots == loaded.shots
    assert not marker.exists()


def test_a_question_of_trivia_that_stands_in_both_files_counts_twice(official_data):
    identities = [item["id"] for item in load_set("triviaqa", official_data).test]
    assert identities[0] == "tc_0"
    assert "tc_0#2" in identities


def test_hellaswag_is_cleaned_as_lm_eval_does_it(official_data):
    spec = importlib.util.find_spec("lm_eval")
    if spec is None:
        pytest.skip("lm-eval is not installed")
    datasets = pytest.importorskip("datasets")
    utils = load_module(Path(spec.submodule_search_locations[0]) / "tasks/hellaswag/utils.py")
    lines = (official_data / "hellaswag/hellaswag_val.jsonl").read_text(encoding="utf-8").splitlines()
    expected = list(utils.process_docs(datasets.Dataset.from_list([json.loads(line) for line in lines])))
    items = load_set("hellaswag", official_data).test
    assert [item["context"] for item in items] == [document["query"] for document in expected]
    assert [item["endings"] for item in items] == [document["choices"] for document in expected]
    assert [item["label"] for item in items] == [document["gold"] for document in expected]
    assert items[0]["context"] == "Walking the dog: A dog sits by Ann. The dog"


def load_module(path):
    spec = importlib.util.spec_from_file_location("lm_eval_hellaswag", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_translations_are_read_as_sacrebleu_reads_them(official_data, tmp_path):
    sgml = pytest.importorskip("sacrebleu.dataset.fake_sgml")
    path = official_data / "wmt20/sgm/newstest2020-jaen-ref.en.sgm"
    reader = sgml.FakeSGMLDataset("wmt20")
    reader._convert_format(str(path), str(tmp_path / "plain"))
    plain = (tmp_path / "plain").read_text(encoding="utf-8").split("\n")[:-1]
    assert [item["reference"] for item in load_set("wmt20_ja_en", official_data).test] == plain


def hub_question(item):
    return {**item, "answers": {"text": item["answers"], "answer_start": [0] * len(item["answers"])}}


def hub_trivia(item):
    answer = {"value": item["answer"], "aliases": item["aliases"], "normalized_aliases": item["normalized_aliases"]}
    return {"question": item["question"], "question_id": item["id"].partition("#")[0], "answer": answer}


def hub_open_book(item):
    choices = {"text": item["choices"], "label": list("ABCD")}
    return {"id": item["id"], "question_stem": item["question"], "choices": choices, "answerKey": "ABCD"[item["label"]]}


@pytest.mark.parametrize(
    ("name", "path", "hub_row"),
    [
        ("squad2", "squadv2/validation-00000-of-00001.parquet", hub_question),
        ("triviaqa", "triviaqa/rc.nocontext/validation-00000-of-00001.parquet", hub_trivia),
        ("openbookqa", "openbookqa/main/test-00000-of-00001.parquet", hub_open_book),
        ("gsm8k", "gsm8k/main/test-00000-of-00001.parquet", dict),
        ("xlsum_ja", "xlsum_ja/test-00000-of-00001.parquet", dict),
    ],
)
def test_the_hub_form_gives_the_same_items(official_data, tmp_path, name, path, hub_row):
    items = load_set(name, official_data).test
    write_parquet(tmp_path / path, [hub_row(item) for item in items])
    assert load_set(name, tmp_path).test == items


def test_the_hub_form_of_hellaswag_has_its_labels_as_text(official_data, tmp_path):
    lines = (official_data / "hellaswag/hellaswag_val.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    write_parquet(
        tmp_path / "hellaswag/data/validation-00000-of-00001.parquet",
        [{**row, "label": str(row["label"])} for row in rows],
    )
    assert load_set("hellaswag", tmp_path).test == load_set("hellaswag", official_data).test


def test_xwinograd_in_the_form_of_the_hub(official_data, tmp_path):
    items = load_set("xwinograd_en", official_data).test
    rows = [{**item, "answer": str(item["label"] + 1)} for item in items]
    for row in rows:
        del row["id"], row["label"]
    write_lines(tmp_path / "xwinograd/en.jsonl", rows)
    assert load_set("xwinograd_en", tmp_path).test == items


def test_a_fixed_pool_stands_in_for_the_missing_training_split_of_jsquad(official_data, tmp_path):
    write_json(
        tmp_path / "jsquad/valid-v1.1.json", json.loads((official_data / "jsquad/valid-v1.1.json").read_text("utf-8"))
    )
    assert load_set("jsquad", tmp_path).shots == []
    write_json(
        tmp_path / "jsquad/fewshot4_train.json",
        [{"context": "犬 [SEP] 犬は走る。", "question": "何が？", "answer": "犬"}],
    )
    loaded = load_set("jsquad", tmp_path)
    assert loaded.shots == [
        {"id": "example-1", "context": "犬 [SEP] 犬は走る。", "question": "何が？", "answers": ["犬"]}
    ]
    assert not loaded.published_shots


@pytest.mark.parametrize(
    ("sentence", "words", "places"),
    [
        ('He said "no".', ["He", "said", "``", "no", "''", "."], [(0, 2), (3, 7), (8, 9), (9, 11), (11, 12), (12, 13)]),
        ("It doesn't fit", ["It", "does", "n't", "fit"], [(0, 2), (3, 7), (7, 10), (11, 14)]),
        ("It fits well", ["It", "fits"], None),
        ("It fits", ["It", "does"], None),
        ("It", ["It", "fits"], None),
    ],
)
def test_words_are_found_in_their_sentence(sentence, words, places):
    assert word_places(sentence, words) == places
