"""Inputs that are known to break readers, through `prepare` and in every kind of file: every good document arrives, each
other record is counted and listed by file and line, or one message names the file. Nothing in between."""

import bz2
import gzip
import io
import json
import lzma
import shutil
from itertools import count

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import open_prepared, source_directory, verify
from tsugiki.errors import DataError

COMPRESSIONS = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}  # fmt: skip
LIMIT = 6000
"""data.max_document_bytes here: stands for the 64 MiB of a recipe."""
PER_EXAMPLE = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
GOOD = [
    "plain", "日本語の文章。", "2024-01-01", "0012", "null", "NaN", "a\u2028b\u0085c\rd", "\ufeffmarked", "nul \0 \x1b[2J",
    "</s><s><unk>", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\nb\r\nc", "  \u3000 spaces  ", "\ufffd 縺薙ｓ", "x" * 5000,
]  # fmt: skip
"""Texts that some reader loses, divides or takes for something else."""
BAD_TEXTS = {"": "empty", " \n\u3000\t": "empty", "z" * (LIMIT + 1): "too long"}
BAD_BYTES = [
    "日本語の文章を書く。ひらがな".encode("cp932"), "日本語の文章を書く。ひらがなとカタカナ".encode("euc_jp"),
    "日本語".encode("iso2022_jp"), b"cut \xe6\x97", b"half of a pair \xed\xa0\x80", b"\x93\xfa", "日".encode("utf-16-le"),
]  # fmt: skip
"""That are no UTF-8, or do not mean it."""
BAD_LINES = {
    "malformed": [
        b'{"text": "cut', b'{"text": "a"} {"text": "b"}', b'{"text": "a", "n": NaN}', b'{"text": "raw \0"}', b"\0" * 40,
        b'{"text": "a", "n": ' + b"9" * 5000 + b"}", b"[1, 2]", b'"text"', b"null", b"\xef\xbb\xbf\xef\xbb\xbf{}", b'{"text": "a\tb"}',
    ],
    "wrong type": [b'{"text": null}', b'{"text": 7}', b'{"text": ["a"]}', b'{"text": {"text": "a"}}', b'{"text": true}'],
    "missing key": [b"{}", b'{"Text": "a"}', b'{"te\\ud800xt": "a"}', b'{"messages": []}'],
    "duplicate key": [b'{"text": "a", "text": "b"}', b'{"text": "a", "m": {"x": 1, "x": 2}}'],
}  # fmt: skip


def as_line(text, *, escaped):
    return json.dumps({"text": text}, ensure_ascii=escaped).encode()


LINES = [
    *((as_line(text, escaped=number % 2 == 0), text) for number, text in enumerate(GOOD)),
    (b'{"text": "half \\ud800 of a pair"}', "half \ufffd of a pair"),
    (b'{"text": "\\ud83d\\ude00", "n": 1e999, "m": {"text": 5}}', "\U0001f600"),
    *((as_line(text, escaped=False), {kind}) for text, kind in BAD_TEXTS.items()),
    *((b'{"text": "' + data + b'"}', {"encoding"}) for data in BAD_BYTES),
    *((line, {kind}) for kind, lines in BAD_LINES.items() for line in lines),
    (b"", None), (b" \t", None),
]  # fmt: skip
"""Lines of JSON Lines, and of each the text that must arrive, or the kind of bad record that it is; None: it is blank."""
CELLS = [
    *((text.encode(), text) for text in GOOD),
    *((text.encode(), {kind}) for text, kind in BAD_TEXTS.items()),
    *((data, {"encoding"}) for data in BAD_BYTES),
    (None, {"wrong type"}),
]
"""The same for the bytes of a cell, or of a whole text file."""
COLUMNS = [pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary_view(), pyarrow.string()]
runs = count()


@pytest.fixture
def arrived(tmp_path, make_recipe, tokenizer):
    """`arrived(folder, expected, source={}, **data)`: prepare all files of a folder, and compare what is there with
    what is expected of each file, line for line; then take the folder away."""

    def check(folder, expected, source=None, **data):
        texts = {place: what for place, what in expected.items() if isinstance(what, str)}
        bad = {place: kind for place, what in expected.items() if isinstance(what, set) for kind in what}
        given = source or {"path": str(folder / "*")}
        recipe = make_recipe(
            {"s": given}, f"run-{next(runs)}", held_out=0, max_bad_documents=1, max_document_bytes=LIMIT, **data
        )
        try:
            if not texts:
                with pytest.raises(DataError, match=r"no document"):
                    prepare(recipe, tokenizer)
                return
            manifest = prepare(recipe, tokenizer)["s"]
            opened, target = open_prepared(recipe, tokenizer)["s"].train, source_directory(recipe, "s")
            names = [entry["name"] for entry in manifest.files]
            found = {}
            for number, row in enumerate(opened.documents()):
                place = (names[row["file"]], int(row["line"]))
                assert place not in found
                found[place] = (opened.document(number)[1:-1].tolist(), int(row["bytes"]), int(row["characters"]))
            if manifest.chat is None:
                assert found == {
                    place: (tokenizer.encode_array(text).tolist(), len(text.encode()), len(text))
                    for place, text in texts.items()
                }
            assert found.keys() == texts.keys()
            assert manifest.train.documents == len(texts)
            assert manifest.replaced_surrogates == sum(text.startswith("half") for text in texts.values())
            assert manifest.bad == {kind: list(bad.values()).count(kind) for kind in bad.values()}
            listing = target / "left_out.jsonl"
            lines = listing.read_text("utf-8").splitlines() if listing.exists() else []
            listed = {
                (entry["file"].rpartition("/")[2], entry["line"]): entry["kind"] for entry in map(json.loads, lines)
            }
            assert listed == {(name.rpartition("/")[2], line): kind for (name, line), kind in bad.items()}
            assert len(lines) == len(bad)
            assert verify(target) == []
        finally:
            shutil.rmtree(recipe.run_dir, ignore_errors=True)
            shutil.rmtree(folder)

    return check


@st.composite
def json_lines(draw):
    """The bytes of a file, and what is expected of its lines."""
    drawn = draw(st.lists(st.sampled_from(LINES), min_size=1, max_size=30))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    content = end.join(line for line, _ in drawn) + draw(st.sampled_from([b"", end]))
    mark = b"\xef\xbb\xbf" if draw(st.booleans()) and not drawn[0][0].startswith(b"\xef") else b""
    return mark + content, {line: what for line, (_, what) in enumerate(drawn, 1) if what is not None}


@pytest.mark.parametrize("ending", COMPRESSIONS)
@settings(max_examples=25, **PER_EXAMPLE)
@given(files=st.lists(json_lines(), min_size=1, max_size=3))
def test_every_line_of_json_lines_arrives_or_is_named(tmp_path, arrived, ending, files):
    folder, expected = tmp_path / f"in-{next(runs)}", {}
    folder.mkdir()
    for number, (content, lines) in enumerate(files):
        name = f"{number}.jsonl{ending}"
        (folder / name).write_bytes(COMPRESSIONS[ending](content or b"\n"))
        expected |= {(name, line): what for line, what in lines.items()}
        if not lines:
            expected = {}  # a file without a record is refused
            break
    arrived(folder, expected)


@settings(max_examples=40, **PER_EXAMPLE)
@given(
    cells=st.lists(st.sampled_from(CELLS), min_size=1, max_size=30), column=st.sampled_from(COLUMNS),
    rows=st.sampled_from([1, 7, 1000]), packed=st.booleans(),
)  # fmt: skip
def test_every_row_of_parquet_arrives_or_is_named(tmp_path, arrived, cells, column, rows, packed):
    folder = tmp_path / f"in-{next(runs)}"
    folder.mkdir()
    values = pyarrow.array([data for data, _ in cells], pyarrow.binary())
    # A view and not a cast: nobody keeps a writer from putting bytes that are no UTF-8 into a column of strings.
    values = values.view(column) if column == pyarrow.string() else values.cast(column)
    if packed and column == pyarrow.binary():
        values = values.dictionary_encode()
    table = pyarrow.table({"id": range(len(cells)), "text": values})
    pyarrow.parquet.write_table(table, folder / "a.parquet", row_group_size=rows)
    arrived(folder, {("a.parquet", row): what for row, (_, what) in enumerate(cells, 1)})


@settings(max_examples=25, **PER_EXAMPLE)
@given(cells=st.lists(st.sampled_from([cell for cell in CELLS if cell[0]]), min_size=1, max_size=8), data=st.data())
def test_every_text_file_arrives_or_is_named(tmp_path, arrived, cells, data):
    folder, expected = tmp_path / f"in-{next(runs)}", {}
    folder.mkdir()
    for number, (content, what) in enumerate(cells):
        ending, mark = (
            data.draw(st.sampled_from(list(COMPRESSIONS))),
            data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])),
        )
        if isinstance(what, str) and what.startswith("\ufeff"):
            mark, what = b"", what.removeprefix("\ufeff")  # there it is the mark
        name = f"{number}.txt{ending}"
        (folder / name).write_bytes(COMPRESSIONS[ending](mark + content))
        expected[name, 1] = what.replace("\r\n", "\n") if isinstance(what, str) else what
    arrived(folder, expected)


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.jsonl.zst", "train.parquet", "train.txt"])
@settings(max_examples=4, **PER_EXAMPLE)
@given(data=st.data())
def test_every_record_of_a_hub_data_set_arrives_or_is_named(tmp_path, arrived, name, data):
    pytest.importorskip("datasets")
    folder, path = tmp_path / f"in-{next(runs)}", "data/" + name
    (folder / "data").mkdir(parents=True)
    if name.endswith(".parquet"):
        cells = data.draw(st.lists(st.sampled_from(CELLS), min_size=1, max_size=30))
        column = pyarrow.array([content for content, _ in cells], pyarrow.binary())
        pyarrow.parquet.write_table(pyarrow.table({"text": column}), folder / path)
        expected = {(path, row): what for row, (_, what) in enumerate(cells, 1)}
    elif name.endswith(".txt"):
        content, what = data.draw(st.sampled_from([cell for cell in CELLS if cell[0] and b"\r" not in cell[0]]))
        (folder / path).write_bytes(b"\xef\xbb\xbf" + content)
        expected = {(path, 1): what}
    else:
        content, lines = data.draw(json_lines())
        (folder / path).write_bytes(COMPRESSIONS[(folder / path).suffix.replace(".jsonl", "")](content or b"\n"))
        expected = {(path, line): what for line, what in lines.items()}
    arrived(folder, expected, {"hub": str(folder)})


def talk(content):
    return b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "' + content + b'"}]}'


SAID = [
    *((talk(json.dumps(text, ensure_ascii=False)[1:-1].encode()), text) for text in GOOD if len(text) < 100),
    (talk(b""), ""), (talk(b"z" * LIMIT), {"too long"}),
    *((line, {"not a conversation"}) for line in (talk(b"\\ud800"), b"{}", b'{"text": "plain"}', b'{"messages": null}')),
    (b'"text"', {"malformed"}), (b'{"messages": [], "messages": []}', {"duplicate key"}),
]  # fmt: skip
"""Records of conversations that are JSON, and what is expected of each."""
SAID_LINES = [
    *SAID, *((talk(data), {"encoding"}) for data in BAD_BYTES), (b"", None),
    *((line, {"malformed"}) for line in (talk(b"cut")[:-5], talk(b"a") + talk(b"b"), b'{"messages": NaN}', b"\0" * 40)),
]  # fmt: skip


@pytest.mark.parametrize("name", [*(f"a.jsonl{ending}" for ending in COMPRESSIONS), "a.json", "a.json.zst"])
@settings(max_examples=10, **PER_EXAMPLE)
@given(data=st.data())
def test_every_conversation_arrives_or_is_named(tmp_path, arrived, name, data):
    folder, array = tmp_path / f"in-{next(runs)}", ".jsonl" not in name
    folder.mkdir()
    drawn = data.draw(st.lists(st.sampled_from(SAID if array else SAID_LINES), min_size=1, max_size=20))
    content = (b"," if array else b"\n").join(line for line, _ in drawn) or b"\n"
    ending = "" if name in ("a.json", "a.jsonl") else "." + name.rpartition(".")[2]
    (folder / name).write_bytes(COMPRESSIONS[ending](b"[" + content + b"]" if array else content))
    expected = {(name, line): what for line, (_, what) in enumerate(drawn, 1) if what is not None}
    source = {"path": str(folder / "*"), "format": "chat"}
    arrived(folder, expected, source, chat={"template": "mistral-v1"}, sequence_length=512)


def packed(name, count=400):
    """The bytes of a sound file of that name, every one of which a checksum stands for."""
    texts = [f"文書{number}: the river remembers. {number * 7919}" for number in range(count)]
    if name.endswith(".parquet"):
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), buffer, write_page_checksum=True)
        return buffer.getvalue()
    content = "\n".join(texts) if ".txt" in name else "".join(json.dumps({"text": text}) + "\n" for text in texts)
    return COMPRESSIONS["." + name.rpartition(".")[2]](content.encode())


NAMES = [*(f"b.{kind}{ending}" for kind in ("jsonl", "txt") for ending in COMPRESSIONS if ending), "b.parquet"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, **PER_EXAMPLE)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.none() | st.integers(0, 7))
def test_a_file_cut_or_flipped_anywhere_is_refused_by_name_or_read_as_it_was(
    tmp_path, make_recipe, jsonl, tokenizer, name, place, bit
):
    whole = packed(name)
    at = int(place * len(whole))
    folder = tmp_path / f"in-{next(runs)}"
    jsonl(folder / "a.jsonl", ["sound"] * 30)
    damaged = whole[:at] if bit is None else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    (folder / name).write_bytes(damaged)

    def store(run):
        recipe = make_recipe({"s": {"path": str(folder / "*")}}, f"{run}-{next(runs)}", held_out=0)
        return prepare(recipe, tokenizer)["s"].stores

    said = found = None
    try:
        found = store("damaged")
    except DataError as error:
        said = str(error)
    left = sorted(path.name for path in tmp_path.glob("damaged-*/data/*"))
    for path in tmp_path.glob("damaged-*"):
        shutil.rmtree(path)
    if said is not None:
        assert str(folder / name) in said
        assert left == []
        return
    assert bit is not None
    (folder / name).write_bytes(whole)
    assert store("whole") == found


def test_a_source_of_nothing_but_bad_records_says_so(tmp_path, make_recipe, jsonl, tokenizer):
    path = jsonl(tmp_path / "a.jsonl", ['{"text": 5}', '{"text": ""}'])
    with pytest.raises(DataError, match=r"source s: no document in its 2 records \(1 empty, 1 wrong type\)") as caught:
        prepare(make_recipe({"s": {"path": str(path)}}, max_bad_documents=1), tokenizer)
    assert f"{path}:1: wrong type" in str(caught.value)


def test_a_file_that_vanishes_before_its_turn_is_named(tmp_path, make_recipe, make_texts, jsonl, tokenizer):
    jsonl(tmp_path / "a.jsonl", make_texts(1000))
    late = jsonl(tmp_path / "b.jsonl", make_texts(10, 5000))

    class Remover:
        def start(self, *_):
            late.unlink()

        def advance(self, *_): ...

        def finish(self, *_): ...

    with pytest.raises(DataError, match=r"b\.jsonl: removed while it was being read"):
        prepare(make_recipe({"s": {"path": str(tmp_path / "*.jsonl")}}), tokenizer, progress=Remover())
