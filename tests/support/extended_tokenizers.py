"""Tokenizers of both families and small extensions of them, built by hand: good ones, and what breaks them.

Independent of `tsugiki.vocabulary`: the pieces are listed, the merges written out by the published rules.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tsugiki.corpus.tokenizer import TextTokenizer

CHARACTERS = ["覚", "瓜", "瞭", "鍬", "吾", "輩", "猫", "籠", "は", "で", "あ", "る"]
WORDS = ["吾輩", "吾輩は", "である", "ある", "猫で", "覚瞭"]
TEXTS = [
    "吾輩は猫である。名前はまだ無い。",
    "吾輩はここで始めて人間というものを見た。籠の鍬と瓜。",
    "\n  覚瞭覚瞭である\nA line without any.\n\n    indented(line)\n",
    "A river remembers the valley that it made, and the valley remembers the river.",
    "  two  spaces, 12 + 34 = 46;\tand a tab\r\n",
    "def f(x):\n    return x[0]  # 計算\n",
]
ENGLISH = [
    "A river remembers the valley that it made, and the valley remembers the river.",
    "She wrote down what the instrument showed before she allowed herself to think about it.",
    "The train left at seven; by nine the mountains stood in the window like old neighbours.",
    "When 12 is divided by 4 the answer is 3, and 3 times 4 is 12 again.",
]


def edit_json(folder: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """Change `tokenizer.json` in place."""
    state = read_json(folder)
    edit(state)
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
    return folder


def read_json(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def edit_model(folder: Path, edit: Callable[[Any], None]) -> Path:
    """Change `tokenizer.model` in place; `edit` gets the protocol buffer."""
    path = folder / "tokenizer.model"
    model = read_model(path)
    edit(model)
    path.write_bytes(model.SerializeToString())
    return folder


def read_model(path: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(path.read_bytes())
    return model


def write_config(folder: Path, **values: Any) -> None:
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **values}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


# --- SentencePiece with byte fallback -------------------------------------------------------------------------------


def sentencepiece_base(folder: Path) -> Path:
    """The real tokenizer of Mistral 7B v0.1, as its authors publish it: one file."""
    mistral_common = pytest.importorskip("mistral_common", reason="mistral-common carries the real tokenizer")
    folder.mkdir(parents=True)
    shutil.copy(Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1", folder / "tokenizer.model")
    return folder


def small_sentencepiece_base(folder: Path) -> Path:
    """That of Mistral with the 1,000 longer pieces that it learnt first, and its 1,200 commonest characters: read in a
    tenth of the time."""
    left = {"longer": 1_000, "character": 1_200}

    def cut(model: Any) -> None:
        kept = []
        for piece in model.pieces:
            if piece.type == piece.NORMAL:
                kind = "longer" if len(piece.piece) > 1 else "character"
                left[kind] -= 1
                if left[kind] < 0:
                    continue
            kept.append(piece.__class__.FromString(piece.SerializeToString()))
        del model.pieces[:]
        model.pieces.extend(kept)
        model.trainer_spec.vocab_size = len(kept)

    return edit_model(sentencepiece_base(folder), cut)


def extend_sentencepiece(
    base: Path,
    folder: Path,
    pieces: Iterable[str] = (*CHARACTERS, *WORDS),
    scores: Iterable[float] | None = None,
) -> Path:
    """Both files and a configuration with new pieces behind the base's, characters first."""
    folder.mkdir(parents=True)
    model = read_model(base / "tokenizer.model")
    known = {piece.piece for piece in model.pieces}
    new = [piece for piece in pieces if piece not in known]
    for number, piece in enumerate(new):
        score = -31_741.0 - number if scores is None else list(scores)[number]
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.vocab_size = len(model.pieces)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    write_fast(folder)
    write_config(folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    return folder


def write_fast(folder: Path, *, by: str = "score") -> None:
    """`tokenizer.json` from the folder's `tokenizer.model`; merges by "score" (longer left part first) or by "id"."""
    model = read_model(folder / "tokenizer.model")
    ids = {piece.piece: token for token, piece in enumerate(model.pieces)}
    ordinary = {piece.piece for piece in model.pieces if piece.type == piece.NORMAL}
    merges = [
        (-model.pieces[ids[piece]].score if by == "score" else ids[piece], -cut, cut - len(piece), piece)
        for piece in ordinary
        for cut in range(1, len(piece))
        if piece[:cut] in ordinary and piece[cut:] in ordinary
    ]
    pairs = [(piece[:-left], piece[-left:]) for _, left, _, piece in sorted(merges)]
    tokenizer = Tokenizer(models.BPE(ids, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", ids["<s>"])]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))


# --- byte level -----------------------------------------------------------------------------------------------------


def spelled(text: str) -> str:
    """A text in the letters that stand for bytes."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


def byte_level_base(folder: Path, *, ignore_merges: bool = False) -> Path:
    """A byte-level BPE trained on a little English, with a pattern for words and a control token at its end."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE())
    pattern = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(pattern, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(ENGLISH * 4, trainer)
    tokenizer.add_special_tokens(["<|begin|>", "<|end|>"])
    begin = tokenizer.token_to_id("<|begin|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B", special_tokens=[("<|begin|>", begin)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_config(folder, bos_token="<|begin|>", eos_token="<|end|>")
    return edit_json(folder, lambda state: state["model"].update(ignore_merges=ignore_merges))


MERGES = [
    ("吾", 2), ("吾", 3), ("猫", 2), ("猫", 3), ("あ", 2), ("あ", 3), ("る", 2), ("る", 3), ("で", 3), ("ある", 3), ("である", 3), ("ア", 3),
]  # fmt: skip
"""Pieces of the byte-level extension, the text of each and after how many bytes it is cut. Two bytes of a text of one
character, itself of three, are a piece too."""


def extend_byte_level(base: Path, folder: Path, merges: Iterable[tuple[str, int]] = MERGES) -> Path:
    """The base's files with more merges and pieces. The control tokens keep their ids by being in the vocabulary."""
    shutil.copytree(base, folder)

    def edit(state: dict[str, Any]) -> None:
        model = state["model"]
        model["vocab"] |= {token["content"]: token["id"] for token in state["added_tokens"]}
        for text, cut in merges:
            add_merge(model, text, cut)

    return edit_json(folder, edit)


def add_merge(model: dict[str, Any], text: str, cut: int) -> None:
    """One merge and its piece: with cut 2 the first two bytes of a character, else `text` cut after that many (its last
    byte, where it has three)."""
    letters = spelled(text)
    if cut == 2:
        letters = letters[:2]
    cut = {2: 1, 3: 2}.get(len(letters), cut)
    model["merges"].append([letters[:cut], letters[cut:]])
    model["vocab"].setdefault(letters, max(model["vocab"].values()) + 1)


# --- pairs ----------------------------------------------------------------------------------------------------------

JAPANESE = [
    "川は自分が作った谷を覚えていて、谷もまた川を覚えている。",
    "ペンギンのパンは、朝の市場では売っていない。\n人々の声が響いていた。",
]
ADDED = ["覚", "響", "汽", "鬱", "川は", "の市場", "ている"]
"""Pieces that the extension of Mistral's tokenizer has; no text above holds the fourth."""
BYTE_MERGES = [*((character, cut) for character in "川は谷の。鬱" for cut in (2, 3)), ("川は", 3)]


def sentencepiece_pair(folder: Path) -> tuple[TextTokenizer, TextTokenizer]:
    """Mistral 7B v0.1's own tokenizer (32,000 ids), and one with `ADDED`, by SentencePiece."""
    base = sentencepiece_base(folder / "base")

    def edit(model: Any) -> None:
        for index, piece in enumerate(ADDED):
            model.pieces.add(piece=piece, score=-40_000.0 - index)

    extended = edit_model(shutil.copytree(base, folder / "extended"), edit)
    return TextTokenizer.from_folder(base), TextTokenizer.from_folder(extended)


def byte_level_pair(folder: Path) -> tuple[TextTokenizer, TextTokenizer]:
    """The byte-level base, and one in which six characters and two of them together are one token each."""
    base = byte_level_base(folder / "base")
    extended = extend_byte_level(base, folder / "extended", BYTE_MERGES)
    return TextTokenizer.from_folder(base), TextTokenizer.from_folder(extended)


PAIRS = {"sentencepiece": sentencepiece_pair, "byte-level": byte_level_pair}
