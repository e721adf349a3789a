"""What is wrong with a file is said with its name, the place in it and what to do; nothing is skipped in silence."""

import csv
import json
import re
import shutil

import pyarrow
import pyarrow.parquet
import pytest
from evaluation_data import write_json, write_lines

from tsugiki.errors import DataError
from tsugiki.evaluation.data import SETS, MissingData, load_set

TEST_FILES = {
    "jcommonsenseqa": "jcommonsenseqa/valid-v1.1.json",
    "jemhopqa": "jemhopqa/dev.json",
    "niilc": "niilc/NIILC-ECQA2015_test.xml",
    "jsquad": "jsquad/valid-v1.1.json",
    "xlsum_ja": "xlsum_ja/test.csv",
    "mgsm_ja": "mgsm/mgsm_ja.tsv",
    "wmt20_en_ja": "wmt20/sgm/newstest2020-enja-ref.ja.sgm",
    "wmt20_ja_en": "wmt20/sgm/newstest2020-jaen-src.ja.sgm",
    "openbookqa": "openbookqa/main/test.jsonl",
    "triviaqa": "triviaqa/qa/wikipedia-dev.json",
    "hellaswag": "hellaswag/hellaswag_val.jsonl",
    "squad2": "squadv2/dev-v2.0.json",
    "xwinograd_en": "xwinograd/dataset.tsv",
    "gsm8k": "gsm8k/test.jsonl",
}


@pytest.fixture
def data(official_data, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(official_data, tmp_path / "data")


def fails(name, data, *parts):
    """The message of the error, which holds all `parts`."""
    with pytest.raises(DataError) as caught:
        load_set(name, data)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message
    return message


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("name", SETS)
def test_missing_files_are_named_with_the_command_that_brings_them(tmp_path, name):
    with pytest.raises(MissingData) as caught:
        load_set(name, tmp_path)
    message = str(caught.value)
    assert f"tsugiki data fetch {name}" in message
    assert str(tmp_path) in message
    assert TEST_FILES[name] in message


@pytest.mark.parametrize("name", SETS)
def test_an_empty_file_is_an_error_that_says_so(data, name):
    path = data / TEST_FILES[name]
    path.write_bytes(b"")
    fails(name, data, path, "the file is empty")


@pytest.mark.parametrize("name", SETS)
def test_a_file_of_blank_lines_is_an_error(data, name):
    path = data / TEST_FILES[name]
    path.write_text("\n\n\n", encoding="utf-8")
    fails(name, data, path)


@pytest.mark.parametrize("name", SETS)
def test_a_file_cut_off_in_the_middle_is_an_error(data, name):
    path = data / TEST_FILES[name]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    fails(name, data, path)


@pytest.mark.parametrize("name", SETS)
def test_text_that_is_not_utf8_is_an_error(data, name):
    path = data / TEST_FILES[name]
    path.write_bytes(path.read_bytes() + "テスト\n".encode("euc-jp"))
    fails(name, data, path, "not UTF-8", "line")


@pytest.mark.parametrize("name", SETS)
def test_an_error_page_in_the_place_of_a_file_is_recognised(data, name):
    path = data / TEST_FILES[name]
    path.write_text("<!DOCTYPE html><html><body>404</body></html>", encoding="utf-8")
    fails(name, data, path, "HTML page")


def test_an_unknown_set_names_those_that_there_are(tmp_path):
    with pytest.raises(MissingData, match=r"jcommonsenseqa, jemhopqa, .* nor .*jcommonsense/test\.jsonl"):
        load_set("jcommonsense", tmp_path)


def test_two_items_with_one_id_are_an_error(data):
    path = data / TEST_FILES["jcommonsenseqa"]
    lines = path.read_text(encoding="utf-8").splitlines()
    write_lines(path, [*lines, lines[3]])
    fails("jcommonsenseqa", data, "two items of its test split", "'9003'", "tsugiki data fetch jcommonsenseqa")
    path = data / "squadv2/train-v2.0.json"
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    write_json(path, {"data": [*articles, articles[0]]})
    fails("squad2", data, "pool of examples")


@pytest.mark.parametrize(
    ("name", "old", "new", "parts"),
    [
        ("jcommonsenseqa", '"label": 1', '"label": 5', ["line 2", "'label' is 5", "0 to 4"]),
        ("jcommonsenseqa", '"label": 1', '"label": true', ["line 2", "not a whole number"]),
        ("jcommonsenseqa", '"choice2"', '"choice9"', ["line 1", "no key 'choice2'", "'choice9'"]),
        ("jcommonsenseqa", '"choice0": "猫"', '"choice0": " "', ["line 2", "'choice0' is empty"]),
        ("jcommonsenseqa", '{"q_id": 9001', '"q_id": 9001', ["line 2", "not valid JSON"]),
        ("jcommonsenseqa", '"1番目', r'"\ud8001番目', ["line 2", "surrogate"]),
        ("jemhopqa", '"answer": "YES"', '"answer": null', ["[1]", "'answer' is NoneType, not text"]),
        ("niilc", "<answer>猫</answer>", "", ["question 3", "no answer"]),
        ("niilc", "<questions>", "<!DOCTYPE q [<!ENTITY a 'b'>]><questions>", ["document type"]),
        ("niilc", ' id="MADE-UP-00000-01"', "", ["question 1", "'id' is NoneType"]),
        ("jsquad", '"answers": [{"text"', '"answers": [{"word"', ["data[0].paragraphs[0].qas[0].answers[0]", "no key 'text'"]),
        ("squad2", '"is_impossible": true', '"is_impossible": false', ["data[2]", "no answers"]),
        ("squad2", '"is_impossible": false', '"is_impossible": true', ["data[0]", "there are answers"]),
        ("xlsum_ja", "summary", "digest", ["no key 'summary'", "'digest'"]),
        ("mgsm_ja", "\t1,000", "\t1,00", ["line 1", "'1,00' is not a number"]),
        ("mgsm_ja", "\t1,000", " 1,000", ["line 1", "1 fields"]),
        ("wmt20_en_ja", '<seg id="2">', '<p id="2">', ["12 lines", "11", "not translations"]),
        ("wmt20_en_ja", "Bob社は猫を1匹見た。", " ", ["sentence 2", "empty"]),
        ("wmt20_ja_en", "</seg>", "", ["line 4", "does not end on its line"]),
        ("openbookqa", '"answerKey": "B"', '"answerKey": "E"', ["line 2", "'E'"]),
        ("openbookqa", '"label": "B"', '"label": "2"', ["line 1", "A to D"]),
        ("triviaqa", '"Aliases"', '"Names"', ["Data[0].Answer", "no key 'Aliases'"]),
        ("hellaswag", '"label": 1', '"label": ""', ["line 2", "not a whole number"]),
        ("hellaswag", '["walks to house 0.", ', "[", ["line 1", "3 endings"]),
        ("xwinograd_en", "[8, 9]", "[9, 10]", ["line 1", "'he' does not stand at its place"]),
        ("xwinograd_en", '"said"', '"says"', ["line 1", "do not make up the sentence"]),
        ("xwinograd_en", ", false]", ", true]", ["line 1", "one is right"]),
        ("xwinograd_en", "\tmade.up", "", ["line 1", "6 columns"]),
        ("xwinograd_en", 'said "he"', 'said "_"', ["do not make up"]),
        ("gsm8k", "####", "###", ["line 1", "no '####'"]),
    ],
)  # fmt: skip
def test_a_malformed_item_is_named_by_its_place(data, name, old, new, parts):
    path = data / TEST_FILES[name]
    edit(path, old, new)
    message = fails(name, data, *parts)
    assert path.name in message or name == "wmt20_en_ja"


def test_every_place_of_a_value_is_checked_for_its_kind(data):
    path = data / TEST_FILES["squad2"]
    whole = json.loads(path.read_text(encoding="utf-8"))
    for damage, part in (
        ({"data": {}}, "'data' is dict, not a list"),
        ({"data": [1]}, "data[0]: this is int, and an object was expected"),
        ([whole], "an object was expected"),
        ({"data": []}, "no questions"),
        ({"data": [{**whole["data"][0], "title": 3}]}, "'title' is int, not text"),
    ):
        write_json(path, damage)
        fails("squad2", data, path, part)


def test_a_line_that_is_no_object_is_an_error(data):
    path = data / TEST_FILES["gsm8k"]
    write_lines(path, ["3"])
    fails("gsm8k", data, "line 1", "this is int, and an object was expected")


def test_a_csv_row_of_other_length_is_an_error(data):
    path = data / TEST_FILES["xlsum_ja"]
    path.write_text('id,summary,text\n1,"短い","長い"\n2,"短い"\n', encoding="utf-8")
    fails("xlsum_ja", data, "line 3", "other than 3 fields")
    path.write_text('id,summary,text\n1,"短い"x,"長い"\n', encoding="utf-8")
    fails("xlsum_ja", data, "line 2", "not valid CSV")


def test_an_article_longer_than_the_csv_modules_limit_is_read(data):
    limit = csv.field_size_limit()
    path = data / TEST_FILES["xlsum_ja"]
    path.write_text(f"id,summary,text\n1,短い,{'長い' * 100_000}\n", encoding="utf-8")
    assert len(load_set("xlsum_ja", data).test[0]["text"]) == 200_000
    assert csv.field_size_limit() == limit


def test_a_changed_byte_in_a_parquet_file_is_found_by_its_page_checksum(data):
    path = data / "triviaqa/train-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(path)
    # Uncompressed, so that the byte is one letter of a question and nothing but the checksum can tell.
    pyarrow.parquet.write_table(table, path, write_page_checksum=True, compression="NONE", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[content.index(b"Who is person 105")] ^= 0x20
    path.write_bytes(content)
    fails("triviaqa", data, path, "not a Parquet file that can be read to its end")
    path.write_bytes(content[:300])
    fails("triviaqa", data, path, "not a Parquet file")


def test_a_cut_off_text_form_of_hellaswag_is_an_error(data):
    import bz2

    (data / TEST_FILES["hellaswag"]).unlink()
    path = data / "hellaswag/hellaswag_val_full.txt.bz2"
    lines = ["Walking: A dog", "3", "one.", "two.", "three.", "four."]
    path.write_bytes(bz2.compress("".join(f"{line}\n" for line in lines).encode()))
    assert load_set("hellaswag", data).test == [
        {"id": "1", "context": "Walking: A dog", "endings": lines[2:], "label": 3}
    ]
    path.write_bytes(bz2.compress("".join(f"{line}\n" for line in lines[:5]).encode()))
    fails("hellaswag", data, path, "5 lines", "cut off")
    path.write_bytes(bz2.compress(b"x\n" * 6)[:-4])
    fails("hellaswag", data, path, "truncated")


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("MGSM_EXEMPLARS = {'ja': open('/etc/passwd')}", "not a plain literal"),
        ("MGSM_EXEMPLARS = {'ja': {", "not a plain literal"),
        ("MGSM_EXEMPLARS = {'en': {}}", "no key 'ja'"),
        ("MGSM_EXEMPLARS = {'ja': {'1': {'q': '問題：'}}}", "no key 'a'"),
        ("MGSM_EXEMPLARS = {'ja': {}}", "no examples"),
        ("OTHER = 1", "assigns no MGSM_EXEMPLARS"),
    ],
)
def test_exemplars_that_are_no_literal_are_refused(data, source, part):
    (data / "mgsm/exemplars.py").write_text(source, encoding="utf-8")
    fails("mgsm_ja", data, "exemplars.py", part)


def test_only_one_side_of_a_translation_is_no_set(data):
    (data / TEST_FILES["wmt20_en_ja"]).unlink()
    with pytest.raises(MissingData, match=re.escape("newstest2020-enja-ref.ja.sgm")):
        load_set("wmt20_en_ja", data)
