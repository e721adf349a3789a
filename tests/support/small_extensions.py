"""A base tokenizer and an extension of it, small and made by hand, for both families of tokenizers."""

import json
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tsugiki.corpus.tokenizer import TextTokenizer

ENGLISH = [
    "A river remembers the valley that it made, and the valley remembers the river.",
    "The train left at seven; by nine the mountains stood in the window like old neighbours.",
    "When 12 is divided by 4 the answer is 3, and 3 times 4 is 12 again.",
]
JAPANESE = [
    "川は自分が作った谷を覚えていて、谷もまた川を覚えている。",
    "ペンギンのパンは、朝の市場では売っていない。\n人々の声が響いていた。",
]
ADDED = ["覚", "響", "汽", "鬱", "川は", "の市場", "ている"]
"""Pieces that the extension of Mistral's tokenizer has; no text here holds the fourth."""
CHARACTERS = "川は谷の。鬱"
"""Characters that the extension of the byte-level tokenizer makes one token each, and 川は; the last is in no text."""


def sentencepiece_pair(folder: Path) -> tuple[TextTokenizer, TextTokenizer]:
    """Mistral 7B v0.1's own tokenizer (32,000 ids), and one with `ADDED`, by SentencePiece."""
    mistral_common = pytest.importorskip("mistral_common", reason="mistral-common carries the real tokenizer")
    from sentencepiece import sentencepiece_model_pb2

    folders = [folder / name for name in ("base", "extended")]
    for place in folders:
        place.mkdir(parents=True)
        shutil.copy(Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1", place / "tokenizer.model")
    path = folders[1] / "tokenizer.model"
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    for index, piece in enumerate(ADDED):
        model.pieces.add(piece=piece, score=-40_000.0 - index)
    path.write_bytes(model.SerializeToString())
    base, extended = map(TextTokenizer.from_folder, folders)
    return base, extended


def byte_level_pair(folder: Path) -> tuple[TextTokenizer, TextTokenizer]:
    """A byte-level BPE tokenizer of some English (300 ids), and one with merges for `BYTES`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(ENGLISH, trainer)
    state = json.loads(tokenizer.to_str())
    folders = [folder / name for name in ("base", "extended")]
    for place in folders:
        place.mkdir(parents=True)
        (place / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        for left, right in byte_merges():
            if left + right not in state["model"]["vocab"]:
                state["model"]["vocab"][left + right] = len(state["model"]["vocab"])
                state["model"]["merges"].append([left, right])
    base, extended = map(TextTokenizer.from_folder, folders)
    return base, extended


def byte_merges() -> list[tuple[str, str]]:
    """Merges of the three bytes of each of `CHARACTERS`, from the left, and of the first two characters."""
    spelt = [spelling(character) for character in CHARACTERS]
    steps = [step for first, second, third in spelt for step in ((first, second), (first + second, third))]
    return [*steps, (spelt[0], spelt[1])]


def spelling(text: str) -> str:
    """The letters in which a byte-level vocabulary spells a text, by the library itself."""
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre.pre_tokenize_str(text)[0][0]


PAIRS = {"sentencepiece": sentencepiece_pair, "byte-level": byte_level_pair}
