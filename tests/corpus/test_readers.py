"""Nothing is inferred and nothing is lost: a record is a document or is bad, by kind, line and reason."""

import datetime
import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.compression import CHUNK, SUFFIXES, FileDigest
from tsugiki.corpus.readers import FORMATS, cut_file, format_of, read_documents
from tsugiki.corpus.records import BadRecord, Document, Reading
from tsugiki.errors import DataError

JAPANESE = "川は自分が作った谷を覚えている。彼女は計器が示した値を書き留めた。"


def read(path, format_name=None, **changes):
    how = Reading(**{"text_key": "text", "encoding": "utf-8", "max_bytes": 1 << 20, **changes})
    return list(read_documents(path, format_name or format_of(path, "auto"), how))


def lines(tmp_path, content, **changes):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    return read(path, **changes)


GOOD = b'{"text": "good"}\n'


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        (b'{"text": "cut', "malformed", '{"text": "cut'),
        (b'{"text": "a"} {"text": "b"}', "malformed", "Extra data"),
        (b'{"text": "a", "n": NaN}', "malformed", "NaN is not JSON"),
        (b'{"text": "a", "n": -Infinity}', "malformed", "-Infinity is not JSON"),
        (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "malformed", "digits"),
        (b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "malformed", "nested too deeply"),
        (b'{"text": "a\tb"}', "malformed", "control character"),
        (b'{"text": "a", "text": "b"}', "duplicate key", "'text' stands twice"),
        (b'{"text": "a", "meta": {"x": 1, "x": 2}}', "duplicate key", "'x' stands twice"),
        (b'{"content": "a", "url": "b"}', "missing key", "no key 'text'; it has 'content', 'url'"),
        (b"{}", "missing key", "it has none"),
        (b'{"messages": []}', "missing key", "it has 'messages' (conversations are read with format: chat)"),
        (b'["a", "b"]', "malformed", "a JSON array; write one object a line"),
        (b'"a"', "malformed", "a str, not an object"),
        (b'{"text": null}', "wrong type", "'text' is NoneType, not text"),
        (b'{"text": 7}', "wrong type", "int"),
        (b'{"text": ["a"]}', "wrong type", "list"),
        (b'{"text": {"a": 1}}', "wrong type", "dict"),
        (b'{"text": ""}', "empty", "no text"),
        (b'{"text": " \\n\\u3000"}', "empty", "no text"),
        (b'{"text": "\xff\xfe"}', "encoding", "not utf-8"),
        ('{"text": "日本語の文章を書く。"}'.encode("cp932"), "encoding", "may be cp932"),
        ('{"text": "日本語の文章を書く。ひらがなとカタカナ"}'.encode("euc_jp"), "encoding", "may be euc-jp"),
        ('{"text": "日本語"}'.encode("iso2022_jp"), "encoding", "iso-2022-jp"),
        (b'{"text": "' + b"x" * (1 << 20) + b'"}', "too long", "data.max_document_bytes"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_its_neighbours_are_read(tmp_path, line, kind, said):
    first, bad, last = lines(tmp_path, GOOD + line + b"\n" + GOOD)
    assert (first.line, last.line) == (1, 3)
    assert isinstance(bad, BadRecord)
    assert (bad.kind, bad.line) == (kind, 2)
    assert said in bad.detail
    assert len(bad.detail) < 400


def test_lines_end_at_newline_bytes_only(tmp_path):
    text = "a\u2028b\u0085c\x0bd"
    content = json.dumps({"text": text}, ensure_ascii=False).encode().replace(b"\\u000b", b"\\u000b")
    got = lines(tmp_path, content + b"\r\n\n  \n" + GOOD.strip())
    assert [(item.line, item.text) for item in got] == [(1, text), (4, "good")]


def test_a_byte_order_mark_is_stripped_once_and_only_at_the_start(tmp_path):
    first, second = lines(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\xef\xbb\xbf" + GOOD)
    assert first.text == "good"
    assert (second.kind, second.line) == ("malformed", 2)


def test_dates_and_numbers_in_quotes_stay_text(tmp_path):
    got = lines(tmp_path, b'{"text": "2024-01-01"}\n{"text": "0012"}\n{"text": "null"}\n')
    assert [item.text for item in got] == ["2024-01-01", "0012", "null"]


def test_a_lone_surrogate_is_replaced_and_marked_and_a_pair_is_not(tmp_path):
    lone, pair = lines(tmp_path, b'{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}\n')
    assert (lone.text, lone.replaced) == ("a\ufffdb", True)
    assert (pair.text, pair.replaced) == ("\U0001f600", False)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_utf_16_is_named_with_the_way_out(tmp_path, encoding):
    with pytest.raises(DataError, match="convert it to UTF-8"):
        lines(tmp_path, '{"text": "a"}\n'.encode(encoding), encoding=encoding)


@pytest.mark.parametrize("encoding", ["cp932", "euc_jp", "iso2022_jp", "latin-1"])
def test_a_declared_encoding_is_used(tmp_path, encoding):
    text = "café" if encoding == "latin-1" else JAPANESE
    content = json.dumps({"text": text}, ensure_ascii=False).encode(encoding) + b"\n"
    assert [item.text for item in lines(tmp_path, content, encoding=encoding)] == [text]


@pytest.mark.parametrize("encoding", ["idna", "punycode", "undefined", "cp037", "utf-7", "unicode_escape"])
@pytest.mark.parametrize("as_records", [False, True])
def test_a_declared_encoding_that_makes_no_sense_is_bad_records_or_one_message(tmp_path, encoding, as_records):
    for content in (GOOD, b'{"text": "\xff..\\ud800"}\n', b"[" + GOOD + b"]"):
        try:
            assert lines(tmp_path, content, encoding=encoding, as_records=as_records)
        except DataError as error:
            assert str(error).startswith(str(tmp_path / "a.jsonl"))  # noqa: PT017


def test_lines_across_chunks_and_too_long_lines_keep_their_numbers(tmp_path):
    long = json.dumps({"text": "y" * (CHUNK + 100)}).encode()
    huge = json.dumps({"text": "z" * (5 * CHUNK)}).encode()
    got = lines(tmp_path, GOOD + long + b"\n" + huge + b"\n" + GOOD + huge, max_bytes=2 * CHUNK)
    assert [(item.line, type(item).__name__) for item in got] == [
        (1, "Document"), (2, "Document"), (3, "BadRecord"), (4, "Document"), (5, "BadRecord"),
    ]  # fmt: skip
    assert len(got[1].text) == CHUNK + 100


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.binary(max_size=30) | st.sampled_from([GOOD.strip(), b'{"text": 1}', b"\xff", b"[[[["]), max_size=8))
def test_any_bytes_give_documents_or_bad_records_that_add_up(tmp_path, parts):
    content = b"\n".join(parts)
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    try:
        got = read(path)
    except DataError:
        assert content == b"" or not content.startswith(b"{")
    else:
        numbered = [number for number, line in enumerate(content.split(b"\n"), 1) if line.removesuffix(b"\r").strip()]
        bom = content.startswith(b"\xef\xbb\xbf")
        assert bom or [item.line for item in got] == numbered


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=8))
def test_texts_come_back_from_json_lines_parquet_and_compressed_files(tmp_path, texts):
    rows = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    (tmp_path / "a.jsonl").write_bytes(rows)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(rows))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        assert [item.text for item in read(tmp_path / name)] == texts


def test_a_text_file_is_one_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "一行目\r\n二行目\r三".encode())
    assert read(path) == [Document("一行目\n二行目\r三", 1)]
    assert [(item.kind, item.line) for item in read(path, max_bytes=5)] == [("too long", 1)]
    path.write_bytes(b" \n ")
    assert [item.kind for item in read(path)] == ["empty"]
    path.write_bytes(JAPANESE.encode("cp932"))
    assert "may be cp932" in read(path)[0].detail
    assert read(path, encoding="cp932")[0].text == JAPANESE


@pytest.mark.parametrize(
    "kind",
    [pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary(),
     pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), pyarrow.string_view()],
)  # fmt: skip
def test_every_parquet_type_that_holds_text_is_read(tmp_path, kind):
    array = pyarrow.array(["一", None, "三"], pyarrow.string())
    array = array.dictionary_encode() if pyarrow.types.is_dictionary(kind) else array.cast(kind)
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "text": array}), tmp_path / "a.parquet")
    first, second, third = read(tmp_path / "a.parquet")
    assert (first.text, first.line, third.text, third.line) == ("一", 1, "三", 3)
    assert (second.kind, second.line) == ("wrong type", 2)


def test_parquet_rows_that_are_no_text_are_named_by_row(tmp_path):
    cells = [b"good", "日本語の文章を書く".encode("cp932"), b" ", "長".encode() * 500_000, b"\x1b$BF|K\\8l\x1b(B"]
    pyarrow.parquet.write_table(pyarrow.table({"text": pyarrow.array(cells, pyarrow.binary())}), tmp_path / "a.parquet")
    good, *bad = read(tmp_path / "a.parquet")
    assert good.text == "good"
    assert [(item.line, item.kind) for item in bad] == [(2, "encoding"), (3, "empty"), (4, "too long"), (5, "encoding")]


def test_a_string_column_with_invalid_utf_8_is_a_bad_row_and_not_a_crash(tmp_path):
    broken = pyarrow.array([b"ok", b"\xff\xfe"], pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    first, second = read(tmp_path / "a.parquet")
    assert (first.text, second.kind) == ("ok", "encoding")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"content": ["a"]}, "no column 'text'; it has content"),
        ({"text": [1, 2]}, "column 'text' is int64, not text"),
        ({"text": [datetime.date(2024, 1, 1)]}, "is date32"),
        ({"text": [["a"]]}, "is list"),
    ],
)
def test_a_parquet_column_that_is_no_text_is_refused_with_its_type(tmp_path, table, said):
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.parquet")
    assert said in str(caught.value)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"text": [JAPANESE * 20 + str(n) for n in range(2000)]}), path, write_page_checksum=True,
        compression="none", use_dictionary=False,
    )  # fmt: skip
    whole = path.read_bytes()
    zeroed = whole[:100_000] + bytes(5) + whole[100_005:]
    for changed in (whole[:-9], whole[: len(whole) // 2], zeroed, b"PAR1" * 10):
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file that can be read to its end"):
            read(path)


def test_a_parquet_file_whose_column_has_a_name_that_is_no_utf_8_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"text", b"t\xe5xt"))
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file that can be read to its end"):
        read(path)


def test_progress_of_parquet_ends_at_the_size_of_the_file(tmp_path):
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"text {n}" for n in range(1000)]}), path)
    digest, seen = FileDigest(), []
    for _ in cut_file(path, "parquet", Reading("text", "utf-8", max_bytes=100), digest):
        seen.append(digest.passed)
    assert seen == sorted(seen)
    assert len(set(seen)) == 4
    assert digest.passed == path.stat().st_size


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.jsonl", "jsonl"), ("a.JSONL.GZ", "jsonl"), ("a.json.zst", "jsonl"), ("a.ndjson.xz", "jsonl"),
     ("a.b.txt", "text"), ("a.md.bz2", "text"), ("a.parquet", "parquet"), ("a.pq", "parquet")],
)  # fmt: skip
def test_the_format_follows_the_name(tmp_path, name, format):
    assert format_of(tmp_path / name, "auto") == format
    assert format_of(tmp_path / name, "text") == "text"


def test_an_ending_belongs_to_one_format_and_to_no_compression():
    endings = [ending for one in FORMATS.values() for ending in one.endings]
    assert len(set(endings)) == len(endings)
    assert all(ending.startswith(".") and ending == ending.lower() and ending not in SUFFIXES for ending in endings)


def test_a_name_that_says_nothing_asks_for_the_format(tmp_path):
    with pytest.raises(DataError, match="set the source's `format`"):
        format_of(tmp_path / "corpus.dat", "auto")
