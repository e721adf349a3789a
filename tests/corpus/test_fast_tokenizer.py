"""The faster library: taken only where it gives the reference's ids, and stopped where it ceases to."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus import fast_tokenizer, pieces
from tsugiki.corpus.fast_tokenizer import WAYS, WORTH_IT, Choice, Faster, FastTokenizer, choose, first_difference
from tsugiki.corpus.inputs import Batch, Position
from tsugiki.corpus.pieces import Found, Given
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.records import Document, Reading
from tsugiki.corpus.segments import Cuts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.workers import TextWork
from tsugiki.errors import DataError

gigatoken = pytest.importorskip("gigatoken", reason="the extra `fast`")
fastokens = pytest.importorskip("fastokens", reason="the extra `fast`")
TEXTS = ["川は谷を覚えている。", "A river </s> remembers <s>\nthe valley.", "x" * 50]
FAR = WORTH_IT * 10
LIBRARIES = ("gigatoken", "fastokens")


def faster(tokenizer: TextTokenizer, library: str = "gigatoken", by_segments: bool = False) -> Faster:
    description = tokenizer.engine.plain_description()
    assert description is not None
    return Faster(library, description, Cuts.of(description) if by_segments else None)


def taken(choice: Choice) -> tuple[str, bool]:
    assert choice.faster is not None
    return choice.faster.library, choice.faster.cuts is not None


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """As where these are not installed."""
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


@pytest.fixture(params=LIBRARIES)
def alone(request, monkeypatch) -> str:
    """The name of the only faster library that is installed."""
    without(monkeypatch, *(set(LIBRARIES) - {request.param}))
    return request.param


def test_equal_ids_are_taken(tokenizer, alone):
    """This tokenizer splits words, so none takes it by segments."""
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert taken(choice) == (alone, False)
    assert re.fullmatch(rf"{alone} [\d.]+ \(the ids of tokenizers [\d.]+ on \d+ texts\)", choice.says)


def test_of_two_the_faster_one_is_taken_where_it_is_right(tokenizer, monkeypatch):
    assert taken(choose(tokenizer, TEXTS, wanted=True, size=FAR)) == ("gigatoken", False)
    monkeypatch.setattr(fast_tokenizer._Gigatoken, "encode", lambda self, texts: [np.zeros(1, np.int32) for _ in texts])
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert taken(choice) == ("fastokens", False)
    assert "texts; gigatoken gives other ids, from id 0 on, for " in choice.says


@pytest.mark.parametrize(
    ("missing", "texts", "library", "by_segments"),
    [
        ([], TEXTS[:1], "gigatoken", True),
        ([], TEXTS[1:2], "gigatoken", False),  # words between spaces, which it remembers itself
        (["gigatoken"], TEXTS[:1], "tokenizers", True),
        (["gigatoken", "fastokens"], TEXTS[1:2], "tokenizers", True),
    ],
)
def test_by_segments(published, monkeypatch, missing, texts, library, by_segments):
    """With what is installed, of a tokenizer that takes a text whole; without any faster library, too."""
    without(monkeypatch, *missing)
    choice = choose(published, texts, wanted=True, size=FAR)
    assert taken(choice) == (library, by_segments)
    way = " by segments" if by_segments else ""
    assert re.fullmatch(rf"{library} [\d.]+{way} \(the ids of tokenizers [\d.]+ on \d+ texts\)", choice.says)


@pytest.fixture(scope="module", params=[*((library, False) for library in LIBRARIES), *WAYS[:2]], ids=str)
def encode(request, tokenizer, published):
    """Of a way to the ids, and the tokenizer whose ids they are."""
    library, by_segments = request.param
    whose = published if by_segments else tokenizer
    return FastTokenizer(faster(whose, library, by_segments)).encode, whose


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text(encode, text):
    encode, whose = encode
    assert encode([text])[0].tolist() == whose.encode(text)


@pytest.mark.parametrize("by_segments", [False, True])
def test_sentencepiece_route(published, alone, by_segments):
    """The published Mistral vocabulary, control strings as text: also outside the proof's texts."""
    encode = FastTokenizer(faster(published, "tokenizers" if by_segments else alone, by_segments)).encode
    texts = [*TEXTS, "</s><s><unk>[INST] 山", "  <s> ", "\u2581</s>\u2581\u2581x"]
    assert [ids.tolist() for ids in encode(texts)] == [published.encode(text) for text in texts]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"wanted": False}, "data.fast_tokenizer is false"), ({"size": WORTH_IT - 1}, "little text")],
)
def test_reference_without_a_try(tokenizer, monkeypatch, change, says):
    monkeypatch.setattr(fast_tokenizer, "FastTokenizer", lambda _: pytest.fail("opened"))
    choice = choose(tokenizer, TEXTS, **({"wanted": True, "size": FAR} | change))
    assert choice.faster is None
    assert says in choice.says


def test_none_is_installed(tokenizer, monkeypatch):
    """Of this tokenizer's words no segments can be made."""
    without(monkeypatch, *LIBRARIES)
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster is None
    assert re.search(
        r"\(no segments: it splits words first \(ByteLevel\); neither .* pip install 'tsugiki", choice.says
    )


def test_a_file_that_they_cannot_read(tokenizer, monkeypatch):
    strange = '{"model": {"type": "New"}, "added_tokens": []}'
    monkeypatch.setattr(type(tokenizer.engine), "plain_description", lambda self: strange)
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster is None
    assert "no segments: it is a New model" in choice.says
    for library in LIBRARIES:
        assert f"{library} cannot read this tokenizer" in choice.says


@pytest.mark.parametrize("where", ["\0", TEXTS[1], "</s> a</s>b </s>"])
def test_one_other_id_and_it_is_not_taken(published, monkeypatch, where):
    """Of odd texts, of the source's own documents, of control pieces."""
    right = FastTokenizer.encode

    def wrong(fast: FastTokenizer, texts: list[str]) -> list[np.ndarray]:
        changed = [text == where for text in texts]
        return [
            np.append(ids[:-1], ids[-1:] ^ 1) if other else ids
            for ids, other in zip(right(fast, texts), changed, strict=True)
        ]

    monkeypatch.setattr(FastTokenizer, "encode", wrong)
    choice = choose(published, TEXTS, wanted=True, size=FAR)
    assert choice.faster is None
    for library, by_segments in WAYS:
        assert f"{library}{' by segments' if by_segments else ''} gives other ids, from id" in choice.says


def test_a_text_that_it_refuses_proves_nothing(tokenizer, monkeypatch):
    """The reference's ids of that one are not taken for those of all."""
    right = fast_tokenizer._Gigatoken.encode

    def wrong(library: fast_tokenizer._Gigatoken, texts: list[str]) -> list[np.ndarray]:
        if "\0" in texts:
            raise ValueError("match limit exceeded")
        return [ids ^ 1 for ids in right(library, texts)]

    monkeypatch.setattr(fast_tokenizer._Gigatoken, "encode", wrong)
    assert taken(choose(tokenizer, TEXTS, wanted=True, size=FAR)) == ("fastokens", False)


def test_first_difference():
    a = np.array([1, 2, 3], np.int32)
    assert first_difference(a, a.copy()) is None
    assert first_difference(a, np.array([1, 5, 3], np.int32)) == 1
    assert first_difference(a, a[:2]) == 2
    assert first_difference(a[:0], a) == 0


def work(tokenizer: TextTokenizer, fast: bool) -> TextWork:
    how = Reading("text", "utf-8", max_bytes=1000)
    library = faster(tokenizer) if fast else None
    made = TextWork("web", how, tokenizer.engine.opener(), tokenizer.vocabulary_size, [1], [2], library)
    made.start()
    return made


def batch(count: int) -> Batch:
    documents: list[Found] = [Document(f"{TEXTS[line % 3]} {line}", line) for line in range(1, count + 1)]
    return Batch([(0, "a.jsonl", Given(documents, 1))], 1, Position())


def test_the_work_is_the_same(tokenizer):
    ours, theirs = (work(tokenizer, fast)(batch(50)) for fast in (True, False))
    assert np.array_equal(ours.records, theirs.records)
    assert np.array_equal(ours.tokens, theirs.tokens)
    assert (ours.odd, ours.counted) == (theirs.odd, theirs.counted)


def test_a_later_difference_stops(tokenizer, monkeypatch):
    """Whatever it errs in, one document in CHECKED is compared; here every one errs."""
    made = work(tokenizer, True)
    made.encode = lambda texts: [tokenizer.encode_array(text)[:-1] for text in texts]
    with pytest.raises(DataError, match=r"source web, a\.jsonl:\d+: gigatoken gives other ids .*data\.fast_tokenizer"):
        made(batch(fast_tokenizer.CHECKED * 8))


def test_what_it_refuses_is_the_references(tokenizer, monkeypatch):
    class Refusing:
        @staticmethod
        def from_json_str(description: str) -> "Refusing":
            return Refusing()

        def encode_batch_flat(self, texts: list[str]) -> tuple[bytes, bytes]:
            raise ValueError("match limit exceeded")

    monkeypatch.setattr(fastokens, "Tokenizer", Refusing)
    (ids,) = FastTokenizer(faster(tokenizer, "fastokens")).encode(["abc"])
    assert ids.tolist() == tokenizer.encode("abc")


def test_what_gigatoken_remembers_is_let_go(tokenizer, monkeypatch):
    """It is opened anew before a text that would be more than `REMEMBERED`; the ids are those of one that is not."""
    opened = []
    from_json = gigatoken.Tokenizer.from_json
    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", lambda text: opened.append(0) or from_json(text))
    monkeypatch.setattr(fast_tokenizer, "REMEMBERED", 100)
    fast = FastTokenizer(faster(tokenizer))
    texts = ["a" * 60, "b" * 40, "c", "d" * 99, "e", "f" * 500, "g"]
    assert [fast.encode([text])[0].tolist() for text in texts] == [tokenizer.encode(text) for text in texts]
    assert len(opened) == 1 + 4


@pytest.mark.parametrize("workers", [1, 2])
def test_prepared_bytes_are_the_same(make_recipe, published, tmp_path, monkeypatch, workers):
    """All ways give the same store, in this process and others; the manifest says which was taken."""
    monkeypatch.setattr(fast_tokenizer, "WORTH_IT", 1)
    corpus = tmp_path / "a.jsonl"
    lines = (json.dumps({"text": f"{text} {n}"}) for n in range(400) for text in (*TEXTS, "\U0001f600の\0", ""))
    corpus.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(pieces, "PIECE", 1 << 12)  # batches enough for processes
    made: dict[str, dict[str, bytes]] = {}
    for library, by_segments in (*WAYS, ("tokenizers", False)):
        monkeypatch.setattr(fast_tokenizer, "WAYS", ((library, by_segments),))
        fast = (library, by_segments) != ("tokenizers", False)
        recipe = make_recipe({"web": {"path": str(corpus), "held_out": 0}}, fast_tokenizer=fast, workers=workers)
        manifest = prepare(recipe, published)["web"]
        way = manifest.library.split(" (")[0]
        assert re.fullmatch(rf"{library} [\d.]+{' by segments' if by_segments else ''}", way)
        folder = recipe.prepared_dir / "web"
        made[way] = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}
        shutil.rmtree(folder)
    assert len(made) == 5
    *others, reference = made.values()
    assert all(other == reference for other in others)


def test_folder_of_sentencepiece_alone(tmp_path):
    mistral_common = pytest.importorskip("mistral_common")
    shutil.copy(Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1", tmp_path / "tokenizer.model")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.says.startswith("sentencepiece ")
    assert "no faster library reads tokenizer.model" in choice.says
