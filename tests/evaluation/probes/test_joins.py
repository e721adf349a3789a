"""The join of context and continuation for the tokenizers that people have, extended ones among them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from extended_tokenizers import sentencepiece_base
from small_extensions import byte_level_pair, sentencepiece_pair

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.probes.joins import encode_inside, encode_pair
from tsugiki.evaluation.probes.suite import quick_suite

Pair = tuple[TextTokenizer, TextTokenizer]


@pytest.fixture(scope="module", params=[sentencepiece_pair, byte_level_pair], ids=["sentencepiece", "byte-level"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    make: Callable[[Path], Pair] = request.param
    return make(tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize(
    ("context", "continuation"), [("A river remembers", " the valley"), ("When 12", " is divided"), ("川", "が流れる")]
)
def test_a_join_between_tokens_is_where_the_context_ends(pair: Pair, context: str, continuation: str) -> None:
    for tokenizer in pair:
        ids, start = encode_pair(tokenizer, context, continuation)
        assert ids == tokenizer.encode(context + continuation)
        assert ids[:start] == tokenizer.encode(context)
        assert tokenizer.decode(ids[:start]) == context


def test_a_token_across_the_join_leaves_the_continuation_its_own_tokens(pair: Pair) -> None:
    """川は is one piece of each extension: with it, は would have no token at all."""
    base, extended = pair
    whole = extended.encode("谷もまた川は")
    assert len(whole) <= len(extended.encode("谷もまた川"))
    for tokenizer in pair:
        ids, start = encode_pair(tokenizer, "谷もまた川", "は")
        assert ids[:start] == tokenizer.encode("谷もまた川")
        assert len(ids) > start
        assert tokenizer.decode(ids) == "谷もまた川は"
    assert encode_pair(base, "谷もまた川", "は")[0] == base.encode("谷もまた川は")


def test_what_is_encoded_alone_gets_no_space_that_the_text_has_not(tmp_path: Path) -> None:
    """Llama's and Mistral's tokenizers put one before a text (piece 29871, or one that begins with it)."""
    tokenizer = TextTokenizer.from_folder(sentencepiece_base(tmp_path / "mistral"))
    alone = tokenizer.encode("は")
    assert tokenizer.piece(alone[0]).startswith("▁")
    inside = encode_inside(tokenizer, "は")
    assert not tokenizer.piece(inside[0]).startswith("▁")
    assert tokenizer.piece(encode_inside(tokenizer, " river")[0]) == "▁river"


def test_where_every_anchor_joins_the_text_is_encoded_as_it_is(pair: Pair) -> None:
    tokenizer = pair[1]
    assert encode_inside(tokenizer, "は", anchors=["川"]) == tokenizer.encode("は")


def test_every_built_in_choice_has_tokens_that_spell_it(pair: Pair) -> None:
    for tokenizer in pair:
        for probe in quick_suite(["ja", "en"]):
            for item in probe.items[::7]:
                for choice in item.choices:
                    ids, start = encode_pair(tokenizer, item.context, choice)
                    assert tokenizer.decode(ids) == item.context + choice
                    assert 0 < start < len(ids)
