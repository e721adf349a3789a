"""The proofs that a folder loads as it should: BOS as the base adds it, the ids of its files by `AutoTokenizer`.

transformers may rebuild a tokenizer from its vocabulary and leave out what else the file says (its own Llama class in
version 5 drops the normaliser), and what version 5 saves, version 4 cannot load. The libraries are imported when the
proof is made.
"""

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.tokenizer_engines import PROBE, Engine
from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error
from tsugiki.vocabulary.piece_proofs import Findings, Proof

ONLY_NEW = {"TokenizersBackend", "SentencePieceBackend"}
"""Classes that transformers 5 writes and 4 does not have."""


class LineSample:
    """Up to `documents` · `lines` lines out of a stream of texts, every text as likely as another; the same each time
    (reservoir sampling)."""

    LONGEST = 2_000  # characters of a line

    def __init__(self, documents: int = 500, lines: int = 4):
        self._documents = documents
        self._lines = lines
        self._random = random.Random("lines")
        self._seen = 0
        self._kept: list[list[str]] = []

    def offer(self, text: str) -> None:
        """See a text."""
        self._seen += 1
        place = self._random.randrange(self._seen)
        if len(self._kept) >= self._documents and place >= self._documents:
            return
        start = text[: self.LONGEST * self._lines].split("\n")
        lines = [line[: self.LONGEST] for line in start if line.strip()][: self._lines]
        if len(self._kept) < self._documents:
            self._kept.append(lines)
        else:
            self._kept[place] = lines

    def lines(self) -> list[str]:
        """The lines kept."""
        return [line for lines in self._kept for line in lines]


def prove_template(extended: Path, base: Path, opened: Mapping[Path, Engine]) -> Proof:
    """What stands before and after a text by default is what the base puts there. `opened`: engines of files."""
    findings = Findings("template")
    findings.checked = 1
    shown = []
    for folder in (extended, base):
        engine = TextTokenizer.from_folder(folder, opened).engine
        before, after = _around(folder)
        shown.append(" ".join([*map(engine.piece, before), "…", *map(engine.piece, after)]))
    if shown[0] != shown[1]:
        findings.fail(
            "that does not add what the base adds: set the post-processor of tokenizer.json",
            f"a text comes as {shown[0]}, expected {shown[1]}",
        )
    return findings.proof("template")


def _around(folder: Path) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer puts before and after a text by default."""
    if not (folder / "tokenizer.json").exists():
        own = TextTokenizer.from_folder(folder)
        return ([own.bos_id] if own.default_add_bos and own.bos_id is not None else []), []
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    plain = tokenizer.encode(PROBE, add_special_tokens=False).ids
    ids = tokenizer.encode(PROBE).ids
    start = next(at for at in range(len(ids)) if ids[at : at + len(plain)] == plain)
    return ids[:start], ids[start + len(plain) :]


def prove_transformers(folder: Path, engine: Engine, lines: Iterable[str], control: Iterable[str]) -> Proof:
    """`AutoTokenizer` of a folder against its file, with what the file's own template puts around a text.

    Texts that spell a control token are left out: transformers finds it there, training does not.
    """
    findings = Findings("transformers")
    stated = _stated_class(folder)
    if stated in ONLY_NEW:
        findings.fail(
            "re-saved class: transformers 4 cannot load it; copy the files instead",
            f"tokenizer_class is {stated}, expected PreTrainedTokenizerFast",
        )
    from transformers import AutoTokenizer

    try:
        theirs = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # whatever the class raises for a file it does not like
        if isinstance(error, OSError) and error.errno:  # of the disk; the library's own have no number
            raise StorageError(explain_os_error(error, error.filename or folder, "read")) from error
        findings.fail("folder that AutoTokenizer does not load", f"{type(error).__name__}: {error}")
        return findings.proof("texts")
    control = [*control, *theirs.all_special_tokens]
    texts = [line for line in lines if line and not any(token in line for token in control)]
    findings.checked = len(texts)
    before, after = _around(folder)
    if len(theirs) != engine.vocabulary_size:
        findings.fail(
            "other number of pieces", f"len(tokenizer) is {len(theirs):,}, expected {engine.vocabulary_size:,}"
        )
    for text, ids, own in zip(
        texts, theirs(texts, verbose=False)["input_ids"], engine.encode_batch(texts), strict=True
    ):
        expected = [*before, *own, *after]
        if list(ids) != expected:
            came = " ".join(repr(piece)[1:-1] for piece in theirs.convert_ids_to_tokens(ids[:12]))
            wanted = " ".join(repr(engine.piece(token))[1:-1] for token in expected[:12])
            findings.fail(
                f"with other ids than those of {engine.path.name} (tokenizer_class {stated}; PreTrainedTokenizerFast "
                "keeps to the file)",
                f"{text[:24]!r}: {came}, expected {wanted}",
            )
    return findings.proof("texts")


def _stated_class(folder: Path) -> str | None:
    """The class that tokenizer_config.json names."""
    path = folder / "tokenizer_config.json"
    return json.loads(path.read_text(encoding="utf-8")).get("tokenizer_class") if path.exists() else None
