"""Ids by segments, beside `tokenizers` on the whole text: for any BPE tokenizer of that kind and any text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tsugiki.corpus import segments
from tsugiki.corpus.adversarial import STRINGS
from tsugiki.corpus.segments import Cuts, NotCuttable, SegmentTokenizer
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.tokenizer_engines import plain_ids, without_control_tokens

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = "abの川\u2581\n\uffff\U0001f600\U0001f601\U00020bb7"
"""Of random vocabularies; of the last three two share their high surrogate."""
OTHERS = "zé \0\ufffd\ue000\U0001f602"
SPACING: list[dict[str, Any]] = [
    {},
    {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}},
    {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "\u2581"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
            ],
        }
    },
    *(
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False}}
        for scheme in ("always", "first", "never")
    ),
    *(
        {
            "normalizer": {"type": "Replace", "pattern": {"String": old}, "content": new},
            "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": False},
        }
        for old, new in (("a", ""), ("ab", "\u2581"), ("の", "b "))
        for scheme in ("always", "never")
    ),
]


def description(merges: Sequence[tuple[str, str]], letters: str = LETTERS, **changes: Any) -> dict[str, Any]:
    """A tokenizer.json with these merges."""
    pieces = dict.fromkeys(["<unk>", *BYTES, *letters, *(left + right for left, right in merges)])
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
        "vocab": {piece: token for token, piece in enumerate(pieces)}, "merges": [list(merge) for merge in merges],
    }  # fmt: skip
    state = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "post_processor": None}
    return state | {"decoder": None, "model": model | changes.pop("model", {})} | changes


@st.composite
def tokenizers(draw: st.DrawFn) -> dict[str, Any]:
    """Merges of pieces that there are by then, in any order of rank."""
    pieces = list(LETTERS)
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 25))):
        left, right = draw(st.sampled_from(pieces)), draw(st.sampled_from(pieces))
        if len(left + right) <= 20 and (left, right) not in merges:
            merges.append((left, right))
            pieces.append(left + right)
    return description(draw(st.permutations(merges)), **draw(st.sampled_from(SPACING)))


def by_segments(state: dict[str, Any]) -> SegmentTokenizer:
    cuts = Cuts.of(json.dumps(state))
    library = Tokenizer.from_str(cuts.description)
    return SegmentTokenizer(cuts, lambda texts: [plain_ids(library, text) for text in texts])


def whole(state: dict[str, Any], texts: Sequence[str]) -> list[list[int]]:
    library = Tokenizer.from_str(json.dumps(state))
    return [library.encode(text, add_special_tokens=False).ids for text in texts]


def lists(ids: list[np.ndarray]) -> list[list[int]]:
    return [one.tolist() for one in ids]


@pytest.fixture
def small(monkeypatch):
    """Tables that fill up, groups and portions that end inside a text, few places for joints."""
    limits = {
        "SHORT_BITS": 5,
        "LONG_BITS": 4,
        "GROUP": 7,
        "PORTION": 9,
        "MOST_KEPT": 50,
        "JOINT_SLOTS": 1,
        "JOINT_BITS": 2,
    }
    for name, value in limits.items():
        monkeypatch.setattr(segments, name, value)


@given(tokenizers(), st.lists(st.lists(st.text(LETTERS + OTHERS, max_size=40), max_size=6), min_size=1, max_size=3))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.usefixtures("small")
def test_any_tokenizer_and_any_text(state, batches):
    """Pairs of characters that no merge spans are cut, ranks in any order; characters without a piece, NUL, surrogate
    pairs, empty texts; what one batch has left in the tables serves the next."""
    tokenizer = by_segments(state)
    for texts in batches:
        assert lists(tokenizer.encode(texts)) == whole(state, texts)


def test_pairs_that_share_a_place(monkeypatch):
    """Where all pairs seem joined, NUL apart, nothing is cut but at NUL and between texts."""
    state = description([("a", "b")])
    cuts = Cuts.of(json.dumps(state))
    cuts.joined[:] = True
    library, sent = Tokenizer.from_str(cuts.description), []

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        sent.extend(texts)
        return [plain_ids(library, text) for text in texts]

    texts = ["ab\0ab", "の\U0001f602\0\0川", "ab" * 30]
    assert lists(SegmentTokenizer(cuts, encode).encode(texts)) == whole(state, texts)
    assert [piece for text in sent for piece in text.split("\0") if piece] == ["ab", "の\U0001f602", "ab" * 30]


def test_each_segment_is_tokenised_once():
    """Long ones apart: they are not kept."""
    state = description([("a", "b"), ("の", "川"), ("a", "a")])
    cuts = Cuts.of(json.dumps(state))
    library, sent = Tokenizer.from_str(cuts.description), []

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        sent.extend("".join(texts).split("\0")[:-1])
        return [plain_ids(library, text) for text in texts]

    tokenizer = SegmentTokenizer(cuts, encode)
    texts = ["abの川ab\U0001f602の", "の川abの川", "a" * segments.LONG, "a" * (segments.LONG + 1)]
    for _ in range(3):
        assert lists(tokenizer.encode(texts)) == whole(state, texts)
    long = "a" * (segments.LONG + 1)
    assert sorted(sent) == sorted(["ab", "の川", "\U0001f602", "a" * segments.LONG, long, long, long])


@pytest.mark.parametrize("limits", [{"MOST_KEPT": 200}, {"SHORT_BITS": 6}, {"LONG_BITS": 6}])
def test_memory_has_a_bound(monkeypatch, limits):
    """New segments without end: the ids that are kept stay below `MOST_KEPT` and a batch, the tables below half and a
    batch; what was forgotten is tokenised anew, short and long."""
    for name, value in limits.items():
        monkeypatch.setattr(segments, name, value)
    state = description([(a, b) for a in "abの川" for b in "abの川"])
    tokenizer = by_segments(state)
    words = ["".join("abの川"[number >> 2 * at & 3] for at in range(5)) for number in range(600)]
    for at in range(0, len(words), 10):
        texts = [*words[at : at + 10], *(word * 2 for word in words[at : at + 10]), words[0], words[0] * 2]
        assert lists(tokenizer.encode(texts)) == whole(state, texts)
        assert tokenizer._kept_count <= segments.MOST_KEPT + 300
        assert tokenizer._short._used <= (1 << segments.SHORT_BITS) // 2 + 11
        assert tokenizer._long._used <= (1 << segments.LONG_BITS) // 2 + 11


def test_a_library_that_refuses_a_text(monkeypatch):
    """What it had begun is taken back: the same text has the right ids afterwards."""
    state = description([("a", "b"), ("の", "川")])
    cuts = Cuts.of(json.dumps(state))
    library, refuses = Tokenizer.from_str(cuts.description), [True]

    def encode(texts: Sequence[str]) -> list[np.ndarray]:
        if refuses.pop() if refuses else False:
            raise ValueError("match limit exceeded")
        return [plain_ids(library, text) for text in texts]

    tokenizer = SegmentTokenizer(cuts, encode)
    with pytest.raises(ValueError, match="match limit"):
        tokenizer.encode(["abの川"])
    assert lists(tokenizer.encode(["abの川"])) == whole(state, ["abの川"])


def plain(tokenizer: TextTokenizer) -> dict[str, Any]:
    found = tokenizer.engine.plain_description()
    assert found is not None
    return json.loads(found)


def test_the_published_vocabulary(published):
    """Odd texts, and text of this project in two languages, in one batch and text by text."""
    pages = Path(segments.__file__).parents[1] / "quickstart" / "text"
    texts = [*STRINGS.values(), *(page.read_text(encoding="utf-8") for page in sorted(pages.glob("*.jsonl")))]
    expected = [published.encode(text) for text in texts]
    tokenizer = by_segments(plain(published))
    assert lists(tokenizer.encode(texts)) == expected
    assert [tokenizer.encode([text])[0].tolist() for text in texts] == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"normalizer": {"type": "NFKC"}}, "it normalises texts by NFKC"),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}}, "it normalises .* Lowercase"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": " +"}, "content": "x"}}, "it normalises .* Replace"),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, r"it splits words first \(ByteLevel\)"),
        (
            {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True}},
            "it splits words first",
        ),
        (
            {**SPACING[1], "pre_tokenizer": SPACING[4]["pre_tokenizer"]},  # it looks where the text began before that
            "it normalises texts and prepends to the first word",
        ),
        ({"added_tokens": [{"content": "<b>"}]}, "added tokens that are no control tokens"),
        ({"model": {"type": "Unigram"}}, "it is a Unigram model"),
        ({"model": {"dropout": 0.1}}, "it has dropout"),
        ({"model": {"ignore_merges": True}}, "it has ignore_merges"),
        ({"model": {"continuing_subword_prefix": "##"}}, "it has continuing_subword_prefix"),
        ({"model": {"end_of_word_suffix": "</w>"}}, "it has end_of_word_suffix"),
        ({"model": {"byte_fallback": False}}, "it has no pieces for bytes"),
        ({"model": {"vocab": {"a": 0}}}, "it has no pieces for bytes"),
        ({"model": {"merges": [["<0xE3>", "<0x81>"]]}}, "it merges bytes"),
        ({"model": {"merges": [["<0x0", "0>"]]}}, "it merges bytes"),
        ({"model": {"merges": [["a", ""]]}}, "it merges nothing"),
        ({"model": {"merges": [["a", "\0b"]]}}, "it merges NUL"),
    ],
)
def test_tokenizers_of_another_kind(changes, says):
    with pytest.raises(NotCuttable, match=says):
        Cuts.of(json.dumps(description([("a", "b")], **changes)))


def test_control_tokens_are_no_hindrance():
    """They have spellings that nobody can write; a token that begins with the same character has not."""
    token = {"id": 0, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    state = description([("a", "b")], added_tokens=[{**token, "content": "<unk>", "special": True}])
    assert Cuts.of(without_control_tokens(json.dumps(state), ["a"])).end == state["model"]["vocab"]["<0x00>"]
    state["added_tokens"].append({**token, "content": "\U0010fffdx", "special": False})
    with pytest.raises(NotCuttable, match="added tokens"):
        Cuts.of(without_control_tokens(json.dumps(state), []))


def test_a_library_that_loses_a_segment():
    """It is an error, and no other segment's ids."""
    cuts = Cuts.of(json.dumps(description([("a", "b"), ("の", "川")])))
    tokenizer = SegmentTokenizer(cuts, lambda texts: [np.array([260, cuts.end], np.int32) for _ in texts])
    with pytest.raises(ValueError, match="2 segments have come back as 1"):
        tokenizer.encode(["abの川"])
