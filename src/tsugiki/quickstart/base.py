"""The tokenizer and the shape of the quickstart's base model.

The tokenizer is of the kind that Mistral and Llama have: byte-pair merges, single digits, and bytes for characters
that have no piece, so that every text can be written. It learns from training text alone: a held-out document must
not choose pieces either.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.records import Document
from tsugiki.files import write_atomically, write_json
from tsugiki.quickstart.corpora import Corpus, read_file

SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = tuple(f"<0x{value:02X}>" for value in range(256))


def read_texts(corpus: Corpus, *, held_out: bool) -> Iterator[str]:
    """The texts of one side of a corpus, as `prepare` will divide it."""
    for path in corpus.files():
        for item in read_file(path):
            if isinstance(item, Document) and is_held_out(item.text.encode(), corpus.held_out) == held_out:
                yield item.text


def first_bytes(texts: Iterator[str], limit: int) -> Iterator[str]:
    """Texts up to `limit` UTF-8 bytes in all."""
    for text in texts:
        limit -= len(text.encode())
        yield text
        if limit <= 0:
            return


def write_tokenizer(
    folder: Path, corpora: Sequence[Corpus], vocabulary: int, say: Callable[[str], None], *, limits: Mapping[str, int]
) -> None:
    """Learn the tokenizer from training text, at most `limits` bytes a source by role, unless it is there whole
    (`tokenizer_config.json` is written last)."""
    if (folder / "tokenizer_config.json").exists():
        say(f"tokenizer  {folder} is there")
        return
    begun = time.perf_counter()
    texts = [
        text for corpus in corpora if corpus.role in limits
        for text in first_bytes(read_texts(corpus, held_out=False), limits[corpus.role])
    ]  # fmt: skip
    train_tokenizer(folder, texts, vocabulary)
    say(f"tokenizer  {folder}: {vocabulary:,} pieces in {time.perf_counter() - begun:.1f} s")


def train_tokenizer(folder: Path, texts: Sequence[str], vocabulary: int) -> None:
    """Learn a tokenizer of `vocabulary` pieces from `texts` and write `folder` as `AutoTokenizer` reads it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[0], byte_fallback=True))
    # Words keep the space before them (▁), lines and punctuation stand alone, a number is its digits.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"\n+|(?!▁)[\p{P}\p{S}]"), "isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )  # fmt: skip
    alphabet = frequent_characters(texts, vocabulary // 3)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[*SPECIAL, *BYTES], initial_alphabet=alphabet,
        limit_alphabet=len(alphabet), min_frequency=2, max_token_length=16, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    begin = SPECIAL[1]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    state = json.loads(tokenizer.to_str())
    # Bytes are ordinary pieces: only the three control tokens may be special, or a text with <0x41> would change.
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "tokenizer.json", json.dumps(state, ensure_ascii=False, indent=1) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": SPECIAL[0], "bos_token": begin,
            "eos_token": SPECIAL[2], "clean_up_tokenization_spaces": False,
        },
    )  # fmt: skip


def frequent_characters(texts: Sequence[str], limit: int) -> list[str]:
    """The characters that get a piece of their own: the `limit` most frequent, at least twice seen.

    Chosen here and in full order, because the library breaks ties by chance: two processes then learn different
    tokenizers from the same text, and no figure can be had twice.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    counts["▁"] = counts.pop(" ", 0)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [character for character, count in ordered[:limit] if count > 1]


def architecture(vocabulary: int, *, hidden_size: int, layers: int, heads: int, sequence_length: int) -> dict[str, Any]:
    """A Mistral configuration: grouped-query attention, SwiGLU of three times the width, embeddings tied."""
    return {
        "model_type": "mistral",
        "architectures": ["MistralForCausalLM"],
        "vocab_size": vocabulary,
        "hidden_size": hidden_size,
        "intermediate_size": 3 * hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "max_position_embeddings": 4 * sequence_length,
        "sliding_window": None,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
