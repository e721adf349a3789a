"""Joins of prompts and continuations: lm-eval's own ids where its rule loses nothing, whole continuations elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import byte_level_base, extend_byte_level, extend_sentencepiece, sentencepiece_base
from small_bases import llama3_like, qwen_like
from transformers import AutoTokenizer

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.evaluation.encoding import ContextTooShort, Encoder

PAIRS = [
    ("Roof shingle removal: A man is sitting on a roof. He", " is using wrap to wrap a pair of skis."),
    ("Question: What is it?\nAnswer:", " a sky"),
    ("A context that ends with a space ", "word"),
    ("The trophy does not fit in the suitcase because the trophy", " is too large."),
    ("質問：電子機器で使用される最も主要な電子回路基板の事をなんと言う？\n### 応答:\n", "2"),
    ("", "An empty context"),
]


def mistral(folder: Path) -> Path:
    """The real tokenizer of Mistral 7B v0.1 with a `tokenizer.json`, which transformers reads as it is."""
    return extend_sentencepiece(sentencepiece_base(folder / "base"), folder / "fast", pieces=())


@pytest.mark.parametrize("add_bos", [False, True])
@pytest.mark.parametrize("make", [mistral, llama3_like, qwen_like])
def test_pairs_equal_those_of_lm_eval(make: Callable[[Path], Path], add_bos: bool, tmp_path: Path):
    model = pytest.importorskip("lm_eval.api.model")
    folder = make(tmp_path / "tokenizer")
    tokenizer = TextTokenizer.from_folder(folder)
    if add_bos and tokenizer.bos_id is None:
        pytest.skip("this tokenizer has no BOS")
    theirs = AutoTokenizer.from_pretrained(folder)

    class Peer(model.TemplateLM):  # type: ignore[name-defined]
        backend = "causal"
        eot_token_id = tokenizer.eos_id
        prefix_token_id = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
        _loglikelihood_tokens = loglikelihood_rolling = generate_until = None

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
            bos = [tokenizer.bos_id] if add_bos and add_special_tokens is not False else []
            return bos + theirs.encode(string, add_special_tokens=False)

    encoder = Encoder(tokenizer, add_bos=add_bos, max_length=512)
    for (context, continuation), found in zip(PAIRS, encoder.pairs(PAIRS), strict=True):
        if context:
            expected = Peer()._encode_pair(context, continuation)
        else:
            expected = ([Peer.prefix_token_id], theirs.encode(continuation, add_special_tokens=False))
        assert (found.prompt, found.continuation) == tuple(expected)
        assert found.cut == 0


@pytest.mark.parametrize(
    ("make", "extend"), [(sentencepiece_base, extend_sentencepiece), (byte_level_base, extend_byte_level)]
)
def test_continuation_is_whole_where_a_new_piece_spans_the_join(make: Any, extend: Any, tmp_path: Path):
    """`で` + `ある` is one piece of the extended vocabulary; lm-eval's rule would leave nothing to score."""
    tokenizer = TextTokenizer.from_folder(extend(make(tmp_path / "base"), tmp_path / "extended"))
    encoder = Encoder(tokenizer, add_bos=False, max_length=512)
    context, continuation = "吾輩は猫で", "ある"
    joined, alone = tokenizer.encode(context + continuation), tokenizer.encode(context)
    assert joined[: len(alone)] != alone, "the case is not a case"
    (found,) = encoder.pairs([(context, continuation)])
    assert found.prompt == alone
    assert tokenizer.decode([*found.prompt, *found.continuation]) == context + continuation
    assert tokenizer.decode([*tokenizer.encode("\n"), *found.continuation]).endswith("\nある")
    assert found.continuation == encoder.pairs([("\n", continuation)])[0].continuation[-len(found.continuation) :]


def test_prompts_are_cut_at_their_beginning_and_keep_bos(tiny_tokenizer_folder: Path):
    tokenizer = TextTokenizer.from_folder(tiny_tokenizer_folder)
    encoder = Encoder(tokenizer, add_bos=True, max_length=40)
    text = " ".join(str(number) for number in range(60))
    ids = tokenizer.encode(text)
    (found,) = encoder.prompts([text], room=10)
    assert found.prompt == [tokenizer.bos_id, *ids[-29:]]
    assert found.cut == len(ids) + 1 - 30
    (pair,) = encoder.pairs([(text, " 61 62")])
    assert len(pair.prompt) + len(pair.continuation) == 41  # the last token is no input
    assert pair.prompt[0] == tokenizer.bos_id
    assert [*pair.prompt[1:], *pair.continuation] == tokenizer.encode(text + " 61 62")[-40:]
    (short,) = encoder.prompts(["1 2"], room=10)
    assert short.cut == 0


def test_model_without_room_for_any_prompt_is_refused(tiny_tokenizer_folder: Path):
    encoder = Encoder(TextTokenizer.from_folder(tiny_tokenizer_folder), add_bos=True, max_length=16)
    with pytest.raises(ContextTooShort, match=r"16 positions.*no prompt fits"):
        encoder.prompts(["text"], room=16)
    with pytest.raises(ContextTooShort, match="no prompt fits"):
        encoder.pairs([("a", " b" * 40)])


class _Nothing:
    """A tokenizer without control tokens."""

    bos_id = eos_id = None
    folder = Path("model")

    class engine:
        @staticmethod
        def encode_batch(texts: list[str]) -> list[list[int]]:
            return [[ord(letter) for letter in text] for text in texts]

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def test_tokenizer_without_bos_and_eos():
    tokenizer: Any = _Nothing()
    with pytest.raises(ModelError, match="BOS was asked for"):
        Encoder(tokenizer, add_bos=True, max_length=16)
    encoder = Encoder(tokenizer, add_bos=False, max_length=16)
    assert encoder.pairs([("ab", "c")])[0][:2] == ([97, 98], [99])
    with pytest.raises(ModelError, match="neither BOS nor EOS"):
        encoder.pairs([("", "c")])
