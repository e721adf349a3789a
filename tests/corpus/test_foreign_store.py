"""Stores of other programs are read where they lie: files written from the published layouts, and by the programs."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsugiki.corpus.datatrove_index import DatatroveIndex
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import open_prepared, source_directory
from tsugiki.corpus.store import Shard, StoreIndex, TokenStore
from tsugiki.corpus.up_to_date import current_manifest
from tsugiki.errors import DataError
from tsugiki.inspection import inspect_path
from tsugiki.plan import Terms, plan_lines
from tsugiki.preview import preview_samples

DOCUMENTS = [[1, 5, 6, 7, 2], [1, 8, 2], [1, 9, 10, 11, 12, 13, 2], [1, 14, 15, 2]]
LAYOUTS = {"uint16": ("<H", 8), "int32": ("<i", 4)}


def megatron_pair(path: Path, documents, kind="uint16") -> Path:
    """Written with `struct` from the description of the format; every second document has two sequences."""
    code, number = LAYOUTS[kind]
    cut = [[document] if i % 2 else [document[:2], document[2:]] for i, document in enumerate(documents)]
    sequences = [sequence for document in cut for sequence in document]
    body = b"".join(struct.pack(code, token) for sequence in sequences for token in sequence)
    at, offsets = 0, []
    for sequence in sequences:
        offsets.append(at)
        at += len(sequence) * struct.calcsize(code)
    bounds = [0]
    for document in cut:
        bounds.append(bounds[-1] + len(document))
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, number, len(sequences), len(bounds))
    index += b"".join(struct.pack("<i", len(sequence)) for sequence in sequences)
    index += b"".join(struct.pack("<q", offset) for offset in offsets)
    index += b"".join(struct.pack("<q", bound) for bound in bounds)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.with_name(path.name + ".bin").write_bytes(body)
    path.with_name(path.name + ".idx").write_bytes(index)
    return path


def datatrove_file(path: Path, documents, code="<H", metadata="someone/tokenizer|2") -> Path:
    ends, at = [], 0
    for document in documents:
        at += len(document)
        ends.append(at)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"".join(struct.pack(code, token) for document in documents for token in document))
    path.with_name(path.name + ".index").write_bytes(b"".join(struct.pack("<Q", end) for end in ends))
    if metadata:
        path.with_name(path.name + ".metadata").write_text(f"{metadata}\n{at}\n{at} T")
    return path


def many(count: int, first: int = 0):
    return [
        [1, *(5 + (7 * number + place) % 60 for place in range(3 + number % 11)), 2] for number in range(first, count)
    ]


def place(folder: Path, kind: str, documents) -> str:
    """The documents as two files of a kind; what a recipe says to name them."""
    half = len(documents) // 2
    if kind == "datatrove":
        datatrove_file(folder / "00000_part.ds", documents[:half])
        datatrove_file(folder / "00001_part.ds", documents[half:])
        return str(folder)
    megatron_pair(folder / "a_text_document", documents[:half], kind)
    megatron_pair(folder / "b_text_document", documents[half:], kind)
    return str(folder / "*_text_document.idx")


@pytest.mark.parametrize("kind", ["uint16", "int32", "datatrove"])
def test_a_source_of_another_program_is_opened_without_a_copy(tmp_path, make_recipe, tokenizer, kind):
    train, held_out = many(300), many(340, first=300)
    source = {"store": place(tmp_path / "s", kind, train), "store_held_out": place(tmp_path / "h", kind, held_out)}
    recipe = make_recipe({"s": source}, sequence_length=16)
    assert any("another program" in str(line) for line in preview_samples(recipe, 2))
    planned = [line for line in plan_lines(recipe, Terms()) if line.startswith("source")]
    manifest = prepare(recipe, tokenizer)["s"]
    assert [path.name for path in source_directory(recipe, "s").iterdir()] == ["manifest.json"]
    opened = open_prepared(recipe, tokenizer)["s"]
    for store, documents in ((opened.train, train), (opened.held_out, held_out)):
        assert [store.document(index).tolist() for index in range(store.document_count)] == documents
        row = [token for document in documents for token in document]
        assert store.read(0, len(row)).tolist() == row
        starts = np.cumsum([0, *map(len, documents)])
        assert store.document_starts[:].tolist() == starts.tolist()
    assert (manifest.add_bos, manifest.add_eos) == (True, True)
    assert opened.held_out_tokens(0) == held_out[0][1:-1]
    expected = len(tokenizer.decode(held_out[0][1:-1]).encode())
    assert opened.held_out_sizes(tokenizer, 2)[0] == expected
    assert current_manifest(recipe, "s", tokenizer) == manifest
    (tmp_path / "s").rename(tmp_path / "moved")
    moved = make_recipe(
        {"s": source | {"store": source["store"].replace(str(tmp_path / "s"), str(tmp_path / "moved"))}},
        sequence_length=16,
    )
    assert current_manifest(moved, "s", tokenizer) is None
    assert prepare(moved, tokenizer)["s"].fingerprint == manifest.fingerprint  # a run of the old place may go on
    (tmp_path / "moved").rename(tmp_path / "s")
    assert prepare(recipe, tokenizer)["s"] == manifest
    counted = [line for line in plan_lines(recipe, Terms()) if line.startswith("source")]
    assert planned == [line.partition("; ")[0] for line in counted]
    assert counted[0].endswith(" of its documents cut by a window's end")
    lines, sound = inspect_path(source_directory(recipe, "s"))
    assert sound
    assert "not known" in "\n".join(lines)
    if kind == "datatrove":
        assert "of the tokenizer someone/tokenizer" in "\n".join(lines)


@pytest.mark.parametrize("kind", ["uint16", "datatrove"])
def test_packs_of_another_programs_documents_lie_with_the_manifest(tmp_path, make_recipe, tokenizer, kind):
    documents = many(80)
    store = place(tmp_path / "theirs", kind, documents)
    before = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    recipe = make_recipe({"theirs": {"store": store, "weight": 1}}, packing="best_fit", sequence_length=16)
    assert any("shown in windows" in str(line) for line in preview_samples(recipe, 1))
    manifest = prepare(recipe, tokenizer)["theirs"]
    assert sorted(path.name for path in (tmp_path / "theirs").iterdir()) == before
    source = open_prepared(recipe, tokenizer)["theirs"]
    assert manifest.text.windows == source.train.window_count(16)
    found = []
    for window in range(manifest.text.windows):
        for piece in source.train.pieces(window, 16):
            assert piece == (piece.document, 0, len(documents[piece.document]), True)
            found.append(piece.document)
    assert sorted(found) == list(range(80))
    lines, sound = inspect_path(source_directory(recipe, "theirs"))
    assert sound
    assert any("packs of 16: 0.00% of its documents cut" in line for line in lines)
    assert any(line.startswith("source     theirs: ") for line in plan_lines(recipe, Terms()))


def test_a_file_that_was_changed_is_looked_at_again_and_one_that_vanished_is_named(tmp_path, make_recipe, tokenizer):
    recipe = make_recipe({"s": {"store": place(tmp_path / "s", "uint16", many(300))}})
    before = prepare(recipe, tokenizer)["s"]
    megatron_pair(tmp_path / "s/b_text_document", many(500))
    assert current_manifest(recipe, "s", tokenizer) is None
    assert prepare(recipe, tokenizer)["s"].train.documents == 150 + 500
    store = open_prepared(recipe, tokenizer)["s"].train
    (tmp_path / "s/b_text_document.bin").unlink()
    with pytest.raises(DataError, match=r"b_text_document\.bin"):
        store.read(0, store.token_count)
    assert not inspect_path(source_directory(recipe, "s"))[1]
    assert before.train.documents == 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: megatron_pair(folder / "s/c", [[1, 400, 2]]), "holds id 400, and the tokenizer in .* has"),
        (lambda folder: datatrove_file(folder / "s/c.ds", DOCUMENTS), "of Megatron-LM and of datatrove in one source: make two"),
        (lambda folder: megatron_pair(folder / "s/c", DOCUMENTS, "int32"), "ids are of different types"),
        (lambda folder: (folder / "s/a_text_document.idx").write_bytes(b"x"), r"a_text_document\.idx: not a Megatron"),
        (lambda folder: (folder / "s/a_text_document.idx").unlink(), r"a_text_document\.idx: No such file"),
        (lambda folder: (folder / "s/a_text_document.bin").write_bytes(b"x" * 10), r"a_text_document\.idx: damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(tmp_path, make_recipe, tokenizer, change, said):
    place(tmp_path / "s", "uint16", DOCUMENTS * 20)
    change(tmp_path)
    with pytest.raises(DataError, match=said):
        prepare(make_recipe({"s": {"store": str(tmp_path / "s")}}), tokenizer)


def test_a_pattern_that_matches_nothing_and_masks_of_the_loss_are_named(tmp_path, make_recipe, tokenizer):
    with pytest.raises(DataError, match=r"data\.sources\.s\.store: .*/none\* matches no store"):
        prepare(make_recipe({"s": {"store": str(tmp_path / "none*")}}), tokenizer)
    path = datatrove_file(tmp_path / "x.ds", DOCUMENTS)
    (tmp_path / "x.ds.loss").write_bytes(bytes(19))
    with pytest.raises(DataError, match=r"x\.ds\.loss: masks of the loss are not read"):
        prepare(make_recipe({"s": {"store": str(path)}}), tokenizer)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), max_size=12), st.sampled_from(["<H", "<I"]), st.data())
def test_starts_of_datatrove_are_those_of_an_array(tmp_path, lengths, code, data):
    documents = [[7] * length for length in lengths]
    path = datatrove_file(tmp_path / "x.ds", documents, code, metadata="")
    naive, total = np.cumsum([0, *lengths]), sum(lengths)
    shards = [Shard(str(path).removesuffix(".ds"), total, len(lengths))]
    store = TokenStore(tmp_path / "x", StoreIndex({"<H": "<u2", "<I": "<u4"}[code], shards, "datatrove"))
    assert store.document_starts[:].tolist() == naive.tolist()
    for low in range(-1, total + 2):
        high = data.draw(st.integers(low, total + 2))
        first, found = store.document_starts.between(low, high)
        before, behind = np.searchsorted(naive[:-1], [low, high])
        assert (first, found.tolist()) == (before, naive[before:behind].tolist())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_in_an_index_of_datatrove_is_named_or_changes_nothing_in_order(tmp_path, data):
    path = datatrove_file(tmp_path / "x.ds", many(40))
    index = path.with_name("x.ds.index")
    good = index.read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    index.write_bytes(good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :])
    total = sum(map(len, many(40)))
    said, starts = "x.ds.index: damaged", np.array([0, total])
    try:
        starts = DatatroveIndex(index, total).starts(0, 41)
    except DataError as error:
        said = str(error)
    assert "x.ds.index: damaged" in said
    assert np.all(np.diff(starts) >= 0)
    assert (starts[0], starts[-1]) == (0, total)


def test_what_datatrove_writes_is_read(tmp_path, make_recipe, tokenizer):
    tokens = pytest.importorskip("datatrove.pipeline.tokens.tokenizer", reason="datatrove is not installed")
    file = tokens.TokenizedFile(
        str(tmp_path), "x.ds", tokenizer_name_or_path="someone/tokenizer", save_final_metadata=True
    )
    for document in many(60):
        file.write(document, None)
    file.close()
    recipe = make_recipe({"s": {"store": str(tmp_path / "x.ds")}})
    prepare(recipe, tokenizer)
    store = open_prepared(recipe, tokenizer)["s"].train
    assert [store.document(index).tolist() for index in range(60)] == many(60)


def test_what_megatron_writes_is_read(tmp_path, make_recipe, tokenizer):
    pytest.importorskip("megatron.core", reason="megatron-core is not installed")
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(str(tmp_path / "x.bin"), dtype=np.uint16)
    for document in many(60):
        builder.add_document(torch.tensor(document), [len(document)])
    builder.finalize(str(tmp_path / "x.idx"))
    recipe = make_recipe({"s": {"store": str(tmp_path / "x")}})
    prepare(recipe, tokenizer)
    store = open_prepared(recipe, tokenizer)["s"].train
    assert [store.document(index).tolist() for index in range(60)] == many(60)
