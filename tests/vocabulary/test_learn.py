"""Learned pieces against byte-pair merging in plain Python that recounts everything at every step."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_bases import (
    BYTE_LEVEL,
    byte_level_state,
    quickstart_texts,
    sentencepiece_folder,
    sentencepiece_model,
    write_json,
)
from tokenizers import Tokenizer

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.learn import Candidates, count_tokens, learn, learn_merges, not_themselves, try_thresholds
from tsugiki.vocabulary.pieces import Base, Piece

JAPANESE = TargetCharacters.of_language("ja")
SEVERAL = 20_000
"""Merges asked for where all are wanted."""


def make_base(kind: str, folder: Path) -> Base:
    if kind == "sentencepiece":
        sentencepiece_folder(folder, sentencepiece_model(), bos_token="<s>", eos_token="</s>")
    else:
        BYTE_LEVEL[kind](folder)
    return open_base(TextTokenizer.from_folder(folder), JAPANESE)


@pytest.fixture(scope="module", params=["sentencepiece", "llama3"])
def base(request, tmp_path_factory) -> Base:
    return make_base(request.param, tmp_path_factory.mktemp(request.param))


def old_symbols(base: Base, single: list[Piece], unit: str) -> list[str]:
    """What the base makes of a unit once characters have pieces, by its rules: all merges, one rank after another."""
    state = base.state(single)
    ranks = {tuple(pair): rank for rank, pair in enumerate(state["model"]["merges"])}
    symbols = []
    for character in unit:
        known = character in state["model"]["vocab"]
        symbols += [character] if known else [f"<0x{byte:02X}>" for byte in character.encode()]
    while True:
        possible = [pair for pair in pairwise(symbols) if pair in ranks]
        if not possible:
            return symbols
        symbols = merged(symbols, min(possible, key=ranks.__getitem__))


def merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] = "".join(pair)
        else:
            out.append(symbol)
    return out


def naive_steps(base: Base, single: list[Piece], units: dict[str, int], max_length: int):
    """Yields the counts of all pairs that may be merged, and takes the pair that is."""
    words = [(word, count) for unit, count in units.items() for word in cut(base, old_symbols(base, single, unit))]
    lengths: dict[str, int] = {}  # in old pieces
    while True:
        counts: Counter[tuple[str, str]] = Counter()
        for symbols, count in words:
            for left, right in pairwise(symbols):
                if lengths.get(left, 1) + lengths.get(right, 1) <= max_length:
                    counts[left, right] += count
        pair = yield counts
        lengths["".join(pair)] = sum(lengths.get(part, 1) for part in pair)
        words = [(merged(symbols, pair), count) for symbols, count in words]


def cut(base: Base, symbols: list[str]) -> list[list[str]]:
    """Where two neighbours are never merged: one is no whole characters, or neither has a letter of the target."""
    words: list[list[str]] = [[]]
    for symbol in symbols:
        kinds = [base.kind(each) for each in (*words[-1][-1:], symbol)]
        if None in kinds or "target" not in kinds:
            words.append([])
        words[-1].append(symbol)
    return words


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.sampled_from("川谷覚のをT x。\u3000"), min_size=1, max_size=30), min_size=1, max_size=8))
def test_each_merge_is_of_the_most_frequent_pair_that_may_be_merged(base, texts):
    single = [piece for character in "川谷覚のを" for piece in base.character_pieces(character)]
    units = base.units(texts)
    steps = naive_steps(base, single, units, 6)
    counts = next(steps)
    for piece in learn_merges(base, single, units, SEVERAL, 6):
        # Of a character three times in a row the two pairs overlap: the library's count may be higher than what is left.
        if any(left == right for left, right in counts):
            return
        assert counts[piece.parts] == max(counts.values()) >= 2
        counts = steps.send(piece.parts)
    assert max(counts.values(), default=0) < 2


def test_merges_of_a_real_text_are_those_of_counting_all_pairs_again(base):
    texts = [text[:150] for text in quickstart_texts("ja")[:12]]
    seen = Counter(filter(JAPANESE.is_target, "".join(texts)))
    single = list({piece.spelling: piece for c in sorted(seen) for piece in base.character_pieces(c)}.values())
    units = base.units(texts)
    steps = naive_steps(base, single, units, 8)
    counts = next(steps)
    found = learn_merges(base, single, units, 150, 8)
    assert len(found) == 150
    for piece in found:
        assert counts[piece.parts] == max(counts.values())
        counts = steps.send(piece.parts)
    assert all(base.kind(piece.spelling) == "target" for piece in found)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("川谷覚鬱のをーカTx 。、\n１é"), min_size=2, max_size=40), min_size=1, max_size=6),
    st.integers(1, 30),
    st.integers(1, 5),
)
def test_whatever_is_learned_is_itself_and_leaves_english_alone(base, texts, count, max_length):
    try:
        learnt = learn(base, texts, texts, count, max_length=max_length)
    except DataError as error:
        count = possible(error)
        if count == 0:
            return
        learnt = learn(base, texts, texts, count, max_length=max_length)
    assert len(learnt.pieces) == count
    assert len({piece.spelling for piece in learnt.pieces} - base.vocabulary.keys()) == count
    assert max(len(base.text_of(piece.spelling) or "") for piece in learnt.pieces) <= max_length
    tokenizer, old = (Tokenizer.from_str(json.dumps(base.state(pieces))) for pieces in (learnt.pieces, []))
    end = tokenizer.encode("\n", add_special_tokens=False).ids
    for number, piece in enumerate(learnt.pieces):
        text = base.text_of(piece.spelling)
        if text is not None:
            assert JAPANESE.occur_in(text)
            assert tokenizer.encode("\n" + text, add_special_tokens=False).ids == [*end, base.used + number]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text).ids) == old.decode(old.encode(text).ids)
        plain = "".join(character for character in text if not JAPANESE.is_target(character))
        assert tokenizer.encode(plain).ids == old.encode(plain).ids


def possible(error: DataError) -> int:
    """The number of pieces that a message says there are."""
    found = re.search(r"yields ([\d,]+) new pieces", str(error))
    assert found
    return int(found[1].replace(",", ""))


def test_characters_come_first_and_merges_know_their_parts(base):
    texts = quickstart_texts("ja")[:60]
    learnt = learn(base, texts[6:], texts[:6], 500, max_length=4)
    known = set(base.vocabulary)
    for number, piece in enumerate(learnt.pieces):
        text = base.text_of(piece.spelling)
        assert (text is None or len(text) == 1) == (number < learnt.single)
        assert known.issuperset(piece.parts)
        known.add(piece.spelling)
    seen = Counter("".join(texts[6:]))
    ones = {base.text_of(piece.spelling) for piece in learnt.pieces[: learnt.single]} - {None}
    assert min(seen[character] for character in ones) >= learnt.threshold
    enough = {c for c in seen if JAPANESE.is_target(c) and seen[c] >= learnt.threshold and base.character_pieces(c)}
    assert ones == enough


def test_the_threshold_is_the_one_by_which_held_out_text_costs_least(base):
    texts = quickstart_texts("ja")[:80]
    learnt = learn(base, texts[8:], texts[:8], 700, max_length=8)
    assert len(learnt.trials) >= 3
    assert len({trial.characters for trial in learnt.trials}) == len(learnt.trials)
    costs = {trial.threshold: trial.tokens_per_character for trial in learnt.trials}
    assert learnt.threshold == min(costs, key=costs.__getitem__)
    characters = sum(map(len, texts[:8]))
    for threshold, cost in costs.items():
        alone = learn(base, texts[8:], texts[:8], 700, max_length=8, threshold=threshold)
        tokenizer = Tokenizer.from_str(json.dumps(base.state(alone.pieces)))
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts[:8])
        # Pairs with a rarer character are not there to be learned, so the merges may differ by some.
        assert cost == pytest.approx(tokens / characters, rel=0.01)
        assert [trial.threshold for trial in alone.trials] == [threshold]
    assert count_tokens(base.state(learnt.pieces), texts[:8]) == pytest.approx(costs[learnt.threshold] * characters)


def test_no_more_thresholds_are_tried_when_it_gets_worse(base, monkeypatch):
    costs = iter([10, 9, 8, 9, 10, 11, 7, 6])
    monkeypatch.setattr("tsugiki.vocabulary.learn.count_tokens", lambda state, texts: next(costs))
    seen = {character: 2 * number for number, character in enumerate("川谷覚鬱猫犬鳥魚山空", 1)}
    characters = {character: base.character_pieces(character) for character in reversed(seen)}
    merges = [Piece(a + b, (a, b)) for a, b in pairwise(base.spelled(character) for character in reversed(seen))]
    candidates = Candidates(base, seen, characters, merges, 5, 4)
    trials = try_thresholds(candidates, [1, *range(14, 30)], ["x"])
    assert [trial.tokens_per_character for trial in trials][:6] == [10, 9, 8, 9, 10, 11][: len(trials)]
    assert len(trials) <= 6


def test_text_that_does_not_suffice_says_how_many_pieces_there_are(base):
    texts = [quickstart_texts("ja")[0][:400]]
    with pytest.raises(DataError) as error:
        learn(base, texts, texts, 5000, max_length=8)
    assert f"the sample of {len(texts[0])} characters yields" in str(error.value)
    assert "5,000 are asked for: give more text (vocabulary.corpora" in str(error.value)
    most = possible(error.value)
    assert most > 50
    assert len(learn(base, texts, texts, most, max_length=8).pieces) == most
    with pytest.raises(DataError, match=f"yields {most:,} new pieces, {most + 1:,} are asked for"):
        learn(base, texts, texts, most + 1, max_length=8)


def test_more_merges_are_learned_when_many_fall_away(base, monkeypatch):
    texts = quickstart_texts("ja")[:60]
    usual = learn(base, texts, texts[:5], 900, max_length=2, threshold=3)
    monkeypatch.setattr("tsugiki.vocabulary.learn.SPARE", 0.0)  # 100 at first
    assert learn(base, texts, texts[:5], 900, max_length=2, threshold=3) == usual


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_pieces_have_up_to_as_many_characters_as_asked_for(base, most):
    texts = ["川谷の覚"[:most] + "。"] * 8
    with pytest.raises(DataError) as error:
        learn(base, texts, texts, 100, max_length=most)
    learnt = learn(base, texts, texts, possible(error.value), max_length=most)
    assert base.spelled("川谷の覚"[:most]) in [piece.spelling for piece in learnt.pieces]


def test_a_piece_that_does_not_form_is_dropped_and_another_taken(base, monkeypatch):
    from tsugiki.vocabulary import learn as module

    texts = quickstart_texts("ja")[:40]
    usual = learn(base, texts, texts[:4], 300, max_length=4, threshold=3)
    unwanted = usual.pieces[-1].spelling
    real = not_themselves

    def with_one_more(base: Base, pieces: list[Piece]) -> set[str]:
        return real(base, pieces) | ({unwanted} & {piece.spelling for piece in pieces})

    monkeypatch.setattr(module, "not_themselves", with_one_more)
    learnt = learn(base, texts, texts[:4], 300, max_length=4, threshold=3)
    assert learnt.dropped == [unwanted]
    assert learnt.pieces[:-1] == usual.pieces[:-1]
    assert learnt.pieces[-1] != usual.pieces[-1]


def test_pieces_that_do_not_form_are_found(base):
    river, valley, of = map(base.spelled, "川谷の")
    single = [piece for character in "川谷の" for piece in base.character_pieces(character)]
    first, blocked = Piece(valley + of, (valley, of)), Piece(river + valley + of + river, (river + valley, of + river))
    parts = [Piece(river + valley, (river, valley)), Piece(of + river, (of, river))]
    assert not_themselves(base, [*single, *parts, blocked]) == set()
    assert not_themselves(base, [*single, first, *parts, blocked]) == {blocked.spelling}


def test_no_piece_crosses_a_word_where_words_are_told(base):
    texts = ["川の谷は川の谷"] * 4
    byte_level = base.family.startswith("byte")
    free = learn(base, texts, texts, 11 if byte_level else 8, max_length=8, threshold=2)
    divided = learn(base, texts, texts, 9 if byte_level else 6, max_length=8, threshold=2, split=lambda text: text.replace("は", "|は|").replace("谷", "谷|").split("|"))  # fmt: skip
    spelled = {base.text_of(piece.spelling) for piece in divided.pieces}
    assert "川の谷" in spelled or "の谷" in spelled
    assert not any(text and len(text) > 1 and "は" in text for text in spelled)
    assert any(
        "は" in (base.text_of(piece.spelling) or "") and len(base.text_of(piece.spelling) or "") > 1
        for piece in free.pieces
    )


CHILD = """
import json, sys
from pathlib import Path
from small_bases import quickstart_texts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.learn import learn
from tsugiki.scripts import TargetCharacters
texts = quickstart_texts("ja")[:50]
for folder in sys.argv[1:]:
    base = open_base(TextTokenizer.from_folder(Path(folder)), TargetCharacters.of_language("ja"))
    learnt = learn(base, texts[5:], texts[:5], 600, max_length=8)
    print(json.dumps([[piece.spelling, piece.parts] for piece in learnt.pieces]))
"""


def test_two_processes_learn_the_same(tmp_path):
    folders = [tmp_path / kind for kind in ("sentencepiece", "llama3")]
    for folder in folders:
        make_base(folder.name, folder)
    source, support = Path(__file__).parents[2] / "src", Path(__file__).parents[1] / "support"
    found = []
    for number, threads in enumerate(("false", "true")):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (source, support))),
                       "PYTHONHASHSEED": str(number), "TOKENIZERS_PARALLELISM": threads}  # fmt: skip
        command = [sys.executable, "-c", CHILD, *map(str, folders)]
        found.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert found[0] == found[1]
    assert [len(json.loads(line)) for line in found[0].splitlines()] == [600, 600]


def test_two_thousand_pieces_for_a_base_trained_on_english(tmp_path):
    base = open_base(TextTokenizer.from_folder(write_json(tmp_path, byte_level_state(2000))), JAPANESE)
    japanese, english = quickstart_texts("ja"), quickstart_texts("en")
    learnt = learn(base, japanese[20:], japanese[:20], 2000, max_length=16)
    old, new = (Tokenizer.from_str(json.dumps(base.state(pieces))) for pieces in ([], learnt.pieces))
    assert len(learnt.pieces) == 2000
    assert learnt.dropped == []
    assert [encoding.ids for encoding in old.encode_batch(english)] == [
        encoding.ids for encoding in new.encode_batch(english)
    ]
    characters = sum(map(len, japanese[:20]))
    before, after = (
        sum(len(encoding) for encoding in tokenizer.encode_batch(japanese[:20])) for tokenizer in (old, new)
    )
    assert before > 2.5 * characters
    assert after < 1.0 * characters
    assert new.decode_batch([encoding.ids for encoding in new.encode_batch(japanese)]) == japanese
