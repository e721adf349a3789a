"""The faster library: taken only where it gives the reference's ids, and stopped where it ceases to."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from chat_tokenizers import mistral
from hypothesis import given, settings
from hypothesis import strategies as st

from tsugiki.corpus import fast_tokenizer
from tsugiki.corpus.fast_tokenizer import LIBRARIES, WORTH_IT, Faster, FastTokenizer, choose, first_difference
from tsugiki.corpus.inputs import Batch, Position
from tsugiki.corpus.pieces import Found, Given
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.records import Document, Reading
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.workers import TextWork
from tsugiki.errors import DataError

gigatoken = pytest.importorskip("gigatoken", reason="the extra `fast`")
fastokens = pytest.importorskip("fastokens", reason="the extra `fast`")
TEXTS = ["川は谷を覚えている。", "A river </s> remembers <s>\nthe valley.", "x" * 50]
FAR = WORTH_IT * 10


def faster(tokenizer: TextTokenizer, library: str = "gigatoken") -> Faster:
    description = tokenizer.engine.plain_description()
    assert description is not None
    return Faster(library, description)


@pytest.fixture(params=LIBRARIES)
def alone(request, monkeypatch) -> str:
    """The name of the only faster library that is installed."""
    for other in LIBRARIES.keys() - {request.param}:
        monkeypatch.setitem(sys.modules, other, None)
    return request.param


def test_equal_ids_are_taken(tokenizer, alone):
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster == faster(tokenizer, alone)
    assert re.fullmatch(rf"{alone} [\d.]+ \(the ids of tokenizers [\d.]+ on \d+ texts\)", choice.says)


def test_of_two_the_faster_one_is_taken_where_it_is_right(tokenizer, monkeypatch):
    assert choose(tokenizer, TEXTS, wanted=True, size=FAR).faster == faster(tokenizer, "gigatoken")
    monkeypatch.setattr(fast_tokenizer._Gigatoken, "encode", lambda self, text: np.zeros(1, np.int32))
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster == faster(tokenizer, "fastokens")
    assert "texts; gigatoken gives other ids, from id 0 on, for " in choice.says


@pytest.fixture(scope="module", params=LIBRARIES)
def encode(request, tokenizer):
    return FastTokenizer(faster(tokenizer, request.param)).encode


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text(tokenizer, encode, text):
    assert encode(text).tolist() == tokenizer.encode(text)


def test_sentencepiece_route(tmp_path, alone):
    """The published Mistral vocabulary as tokenizer.json, control strings as text: also outside the proof's texts."""
    mistral("v1").backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    assert choose(tokenizer, TEXTS, wanted=True, size=FAR).faster == faster(tokenizer, alone)
    encode = FastTokenizer(faster(tokenizer, alone)).encode
    for text in [*TEXTS, "</s><s><unk>[INST] 山", "  <s> ", "\u2581</s>\u2581\u2581x"]:
        assert encode(text).tolist() == tokenizer.encode(text)


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
    for library in LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    assert "pip install 'tsugiki[fast]'" in choose(tokenizer, TEXTS, wanted=True, size=FAR).says


def test_a_file_that_it_cannot_read(tokenizer, monkeypatch):
    monkeypatch.setattr(type(tokenizer.engine), "plain_description", lambda self: '{"model": {"type": "New"}}')
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster is None
    for library in LIBRARIES:
        assert f"{library} cannot read this tokenizer" in choice.says


@pytest.mark.parametrize("where", ["\0", TEXTS[1], "</s> a</s>b </s>"])
def test_one_other_id_and_it_is_not_taken(tokenizer, monkeypatch, where):
    """Of odd texts, of the source's own documents, of control pieces."""
    right = FastTokenizer.encode

    def wrong(fast: FastTokenizer, text: str) -> np.ndarray:
        ids = right(fast, text)
        return np.append(ids[:-1], ids[-1:] ^ 1) if text == where else ids

    monkeypatch.setattr(FastTokenizer, "encode", wrong)
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.faster is None
    for library in LIBRARIES:
        assert f"{library} gives other ids, from id" in choice.says


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
    made.encode = lambda text: tokenizer.encode_array(text)[:-1]
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
    assert FastTokenizer(faster(tokenizer, "fastokens")).encode("abc").tolist() == tokenizer.encode("abc")


def test_what_gigatoken_remembers_is_let_go(tokenizer, monkeypatch):
    """It is opened anew before a text that would be more than `REMEMBERED`; the ids are those of one that is not."""
    opened = []
    from_json = gigatoken.Tokenizer.from_json
    monkeypatch.setattr(gigatoken.Tokenizer, "from_json", lambda text: opened.append(0) or from_json(text))
    monkeypatch.setattr(fast_tokenizer, "REMEMBERED", 100)
    fast = FastTokenizer(faster(tokenizer))
    texts = ["a" * 60, "b" * 40, "c", "d" * 99, "e", "f" * 500, "g"]
    assert [fast.encode(text).tolist() for text in texts] == [tokenizer.encode(text) for text in texts]
    assert len(opened) == 1 + 4


def test_prepared_bytes_are_the_same(make_recipe, tokenizer, tmp_path, monkeypatch):
    """Both ways give the same store; the manifest says which was taken."""
    monkeypatch.setattr(fast_tokenizer, "WORTH_IT", 1)
    corpus = tmp_path / "a.jsonl"
    corpus.write_text("".join(f'{{"text": "{TEXTS[0]} {n}"}}\n' for n in range(400)), encoding="utf-8")
    made: dict[bool, dict[str, bytes]] = {}
    for fast in (True, False):
        recipe = make_recipe({"web": {"path": str(corpus), "held_out": 0}}, fast_tokenizer=fast)
        manifest = prepare(recipe, tokenizer)["web"]
        assert manifest.library.startswith("gigatoken" if fast else "tokenizers")
        folder = recipe.prepared_dir / "web"
        made[fast] = {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "manifest.json"}
        shutil.rmtree(folder)
    assert made[True] == made[False]


def test_folder_of_sentencepiece_alone(tmp_path):
    mistral_common = pytest.importorskip("mistral_common")
    shutil.copy(Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1", tmp_path / "tokenizer.model")
    (tmp_path / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    tokenizer = TextTokenizer.from_folder(tmp_path)
    choice = choose(tokenizer, TEXTS, wanted=True, size=FAR)
    assert choice.says.startswith("sentencepiece ")
    assert "no faster library reads tokenizer.model" in choice.says
