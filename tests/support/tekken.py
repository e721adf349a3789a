"""The tokenizer of newer Mistral models, from the package mistral-common, as a Hugging Face folder.

Its file lists byte strings by rank and no merges; replaying byte-pair merging with the tokens of lower rank gives them:
every token comes out as exactly two parts. Control tokens have the first 1,000 ids.
"""

import base64
import functools
import itertools
import json
from pathlib import Path
from typing import Any

from tsugiki.corpus.byte_alphabet import spell

FILE = "tekken_240911.json"


def tekken_state() -> dict[str, Any]:
    """The content of a tokenizer.json with the ids of tekken."""
    return json.loads(_tekken_text())


@functools.cache
def _tekken_text() -> str:
    import mistral_common

    path = next(Path(mistral_common.__file__).parent.rglob(FILE))
    description = json.loads(path.read_text(encoding="utf-8"))
    config = description["config"]
    specials, size = config["default_num_special_tokens"], config["default_vocab_size"]
    named = {0: "<unk>", 1: "<s>", 2: "</s>"}
    control = {number: named.get(number, f"<SPECIAL_{number}>") for number in range(specials)}
    tokens = [base64.b64decode(entry["token_bytes"]) for entry in description["vocab"]][: size - specials]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = [[spell(part) for part in parts_of(token, ranks)] for token in tokens if len(token) > 1]
    vocabulary = {text: number for number, text in control.items()}
    vocabulary |= {spell(token): specials + rank for rank, token in enumerate(tokens)}
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    state = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for number, text in control.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": config["pattern"]}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False},
        ]},
        "post_processor": {
            "type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [begin, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
            "vocab": vocabulary, "merges": merges,
        },
    }  # fmt: skip
    return json.dumps(state)


def parts_of(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What byte-pair merging makes of a token's bytes with the tokens of lower rank than its own."""
    parts = [bytes([byte]) for byte in token]
    limit = ranks[token]
    while True:
        best = None
        for place, pair in enumerate(itertools.pairwise(parts)):
            rank = ranks.get(pair[0] + pair[1], limit)
            if rank < limit and (best is None or rank < best[0]):
                best = (rank, place)
        if best is None:
            return parts
        place = best[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]


def write_tekken(folder: Path) -> None:
    """A Hugging Face folder with tekken as tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(_tekken_text(), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
