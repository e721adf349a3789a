"""What the files of an extended tokenizer say of its pieces, held against the base's: the proofs that read no text.

The files are read as data, not through their libraries, which hide what is wrong with them: `tokenizers` lets the last
of two pieces with one id win, and SentencePiece opens no model with a piece twice.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex

from tsugiki.corpus.byte_alphabet import bytes_of
from tsugiki.errors import ModelError, StorageError
from tsugiki.files import explain_os_error
from tsugiki.scripts import EAST_ASIAN, LANGUAGES, TargetCharacters

SPACE = "▁"
"""SentencePiece's sign for a space."""
EXAMPLES = 4
"""How many examples of each kind of failure are kept."""
_OTHER = regex.compile(r"[\p{L}\p{N}\p{Z}\s▁]")


@dataclass(frozen=True)
class Proof:
    """One promise of an extended tokenizer, and whether it holds."""

    name: str
    passed: bool
    checked: int
    failed: int
    summary: str  # in words
    examples: list[str]  # pieces and lines, with what was expected and what came


class Findings:
    """The failures of one proof while it runs, by kind, with the first examples of each kind."""

    def __init__(self, name: str):
        self.name = name
        self.checked = 0
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def fail(self, kind: str, example: str) -> None:
        """Count a failure; `kind` completes the sentence "3 …"."""
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES:
            examples.append(example)

    def proof(self, of: str) -> Proof:
        """The outcome; `of` says what was checked, and completes "3 …"."""
        failed = self._counts.total()
        kinds = "; ".join(f"{count:,} {kind}" for kind, count in self._counts.most_common())
        summary = f"{self.checked:,} {of}" + (f": {kinds}" if failed else "")
        examples = [example for examples in self._examples.values() for example in examples]
        return Proof(self.name, failed == 0, self.checked, failed, summary, examples)


@dataclass
class Vocabulary:
    """The pieces of one file, and of the tokens that stand beside it."""

    path: Path
    pieces: dict[int, str] = field(default_factory=dict)
    special: set[int] = field(default_factory=set)  # control tokens
    added: set[int] = field(default_factory=set)  # found in a text before the model sees it, control tokens included
    conflicts: list[str] = field(default_factory=list)  # ids with two pieces, pieces with two ids
    scores: dict[int, float] = field(default_factory=dict)  # of ordinary pieces of tokenizer.model
    merges: list[tuple[str, str]] = field(default_factory=list)  # of tokenizer.json
    byte_level: bool = False

    @property
    def size(self) -> int:
        """One more than the highest id."""
        return max(self.pieces, default=-1) + 1

    def data(self, token: int) -> bytes:
        """The bytes of text that a piece stands for."""
        piece = self.pieces[token]
        data = bytes_of(piece) if self.byte_level and token not in self.added else None
        return piece.encode("utf-8", "replace") if data is None else data

    def show(self, token: int) -> str:
        """A piece with its id as people read it."""
        try:
            return f"{self.data(token).decode()!r} (id {token:,})"
        except UnicodeDecodeError:
            return f"the bytes {self.data(token).hex(' ').upper()} (id {token:,})"

    def add(self, token: int, piece: str, ids: dict[str, int]) -> None:
        """Enter a piece; `ids` holds the pieces so far."""
        if self.pieces.setdefault(token, piece) != piece:
            self.conflicts.append(f"{self.path.name}: id {token:,} is both {self.pieces[token]!r} and {piece!r}")
        if ids.setdefault(piece, token) != token:
            self.conflicts.append(f"{self.path.name}: {piece!r} has the ids {ids[piece]:,} and {token:,}")


def read_vocabulary(path: Path, beside: dict[int, tuple[str, bool]]) -> Vocabulary:
    """The pieces of `tokenizer.json` or `tokenizer.model`, and of the tokens `beside` it (their pieces, and whether
    they are control tokens). Raises ModelError for a file that is neither."""
    vocabulary = Vocabulary(path)
    ids: dict[str, int] = {}
    try:
        if path.name == "tokenizer.json":
            _read_json(vocabulary, ids)
        else:
            _read_model(vocabulary, ids)
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a tokenizer that can be read ({error!r})") from None
    own = set(vocabulary.pieces)
    for token, (piece, special) in beside.items():
        if token not in own:
            vocabulary.added.add(token)
        if special:
            vocabulary.special.add(token)
        vocabulary.add(token, piece, ids)
    return vocabulary


def _read_json(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, count in Counter(key for key, _ in pairs).items():
            if count > 1:
                vocabulary.conflicts.append(f"{vocabulary.path.name}: {key!r} stands there {count} times")
        return dict(pairs)

    state = json.loads(vocabulary.path.read_text(encoding="utf-8"), object_pairs_hook=without_duplicates)
    model = state["model"]
    entries = model["vocab"]
    is_table = isinstance(entries, dict)
    for piece, token in entries.items() if is_table else ((entry[0], id_) for id_, entry in enumerate(entries)):
        vocabulary.add(token, piece, ids)
    for token in state.get("added_tokens", []):
        vocabulary.added.add(token["id"])
        if token["special"]:
            vocabulary.special.add(token["id"])
        vocabulary.add(token["id"], token["content"], ids)
    merges = model.get("merges", [])
    vocabulary.merges = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in merges]
    steps = [state.get("pre_tokenizer"), state.get("decoder")]
    vocabulary.byte_level = any('"ByteLevel"' in json.dumps(step) for step in steps)


def _read_model(vocabulary: Vocabulary, ids: dict[str, int]) -> None:
    from sentencepiece import sentencepiece_model_pb2

    model, content = sentencepiece_model_pb2.ModelProto(), vocabulary.path.read_bytes()
    try:
        model.ParseFromString(content)
    except Exception as error:  # DecodeError of the library, which is no ValueError
        raise ValueError(str(error)) from None
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for token, piece in enumerate(model.pieces):
        vocabulary.add(token, piece.piece, ids)
        if piece.type in (kinds.CONTROL, kinds.UNKNOWN):
            vocabulary.special.add(token)
        elif piece.type == kinds.USER_DEFINED:
            vocabulary.added.add(token)
        elif piece.type == kinds.NORMAL:
            vocabulary.scores[token] = piece.score


class Comparison:
    """The vocabularies of an extended tokenizer beside the base's; `tokenizer.model` before `tokenizer.json`."""

    def __init__(self, extended: Sequence[Vocabulary], base: Sequence[Vocabulary], target: TargetCharacters | None):
        self.extended = extended
        self.base = base
        self.old: dict[int, str] = {}
        for vocabulary in reversed(base):  # tokenizer.model, where there is one, has the last word
            self.old |= vocabulary.pieces
        self.old_size = max(self.old, default=-1) + 1
        found = {token: vocabulary for vocabulary in reversed(extended) for token in vocabulary.pieces}
        found = {token: found[token] for token in sorted(found) if token >= self.old_size}
        self.target = target or characters_of(vocabulary.data(token) for token, vocabulary in found.items())
        self.new = {
            token: vocabulary
            for token, vocabulary in found.items()
            if token not in vocabulary.special or self.is_target(vocabulary.data(token).decode("utf-8", "replace"))
        }
        """Vocabulary of each new piece, by id. Control tokens that were added for another purpose are none."""

    def is_target(self, text: str) -> bool:
        """Whether a text has a character that new pieces may hold."""
        return self.target is not None and self.target.occur_in(text)


def characters_of(pieces: Iterable[bytes]) -> TargetCharacters | None:
    """The scripts of the letters in some pieces; None where all are Latin."""
    text = "".join(piece.decode("utf-8", "ignore") for piece in pieces)
    known = sorted({script for scripts in LANGUAGES.values() for script in scripts} | EAST_ASIAN)
    scripts = [script for script in known if regex.search(rf"\p{{Script={script}}}", text)]
    return TargetCharacters(scripts) if scripts else None


def prove_ids(comparison: Comparison) -> Proof:
    """Ids without gaps, old ones with their old pieces, control tokens in their place, new ones behind them."""
    findings = Findings("ids")
    old = comparison.old
    for vocabulary in comparison.extended:
        name = vocabulary.path.name
        for conflict in vocabulary.conflicts:
            findings.fail("with two pieces, or pieces with two ids", conflict)
        for token in range(max(vocabulary.size, comparison.old_size)):
            findings.checked += 1
            piece, expected = vocabulary.pieces.get(token), old.get(token)
            if piece == expected and token < comparison.old_size:
                continue  # a gap that the base has is as it was
            if piece is None:
                was = "" if expected is None else f", in the base {expected!r}"
                findings.fail("without a piece", f"{name}: id {token:,} has no piece{was}")
            elif token < comparison.old_size:
                was = "no piece" if expected is None else repr(expected)
                findings.fail(
                    "with another piece than in the base", f"{name}: id {token:,} is {piece!r}, expected {was}"
                )
        counterpart = next((each for each in comparison.base if each.path.name == name), comparison.base[0])
        for token in sorted(counterpart.special - vocabulary.special):
            findings.fail("no longer a control token", f"{name}: {old[token]!r} (id {token:,}) is marked as ordinary")
    for other in comparison.extended[1:]:
        _compare_files(comparison.extended[0], other, findings)
    return findings.proof("ids of all files")


def _compare_files(first: Vocabulary, second: Vocabulary, findings: Findings) -> None:
    names = first.path.name, second.path.name
    if first.size != second.size:
        sizes = f"{names[0]} has {first.size:,} pieces and {names[1]} {second.size:,}"
        findings.fail("in one file alone", sizes)
    for token in sorted(first.pieces.keys() & second.pieces.keys()):
        if first.pieces[token] != second.pieces[token]:
            both = f"{first.pieces[token]!r} in {names[0]} and {second.pieces[token]!r} in {names[1]}"
            findings.fail("with another piece in each file", f"id {token:,} is {both}")


def prove_pieces(comparison: Comparison) -> Proof:
    """New pieces are the model's own, new, of target characters alone, each made of pieces, ranked below the base's."""
    findings = Findings("pieces")
    old_data = {vocabulary.data(token) for vocabulary in comparison.base for token in vocabulary.pieces}
    spelled = {vocabulary.path: set(vocabulary.pieces.values()) for vocabulary in comparison.extended}
    for token, vocabulary in comparison.new.items():
        findings.checked += 1
        shown, data = vocabulary.show(token), vocabulary.data(token)
        if any(token in each.added for each in comparison.extended):
            findings.fail(
                "added tokens, which cut the text before the model sees it and do not round-trip: make them pieces of "
                "the model",
                f"{shown} is an added token",
            )
        if data in old_data:
            findings.fail("duplicates of old pieces", f"{shown} is also the base's")
        defect = _foreign_characters(data, comparison.target, vocabulary.byte_level)
        if defect:
            findings.fail("with characters of other text, whose ids change with them", f"{shown} {defect}")
        if not vocabulary.byte_level and (lacking := set(vocabulary.pieces[token]) - spelled[vocabulary.path]):
            findings.fail(
                "with a character that is no piece, so that tokenizers falls back to bytes before it merges",
                f"{shown}: {', '.join(map(repr, sorted(lacking)))} is no piece",
            )
    _check_scores(comparison, findings)
    _check_merges(comparison, findings)
    return findings.proof("new pieces")


def _foreign_characters(data: bytes, target: TargetCharacters | None, byte_level: bool) -> str | None:
    """What in a new piece belongs to text that the base must go on tokenising as it did.

    A byte-level piece may hold other characters beside those of the target, as its word does (a space before it): no
    other text has such a word. Where words are spaced, a SentencePiece piece may begin with the mark of the space."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if data[0] & 0xC0 == 0x80:
            return "begins inside a character"
        if error.start or error.reason != "unexpected end of data":
            return "holds part of a character beside others"
        others = [] if target is None else target.others_beginning_with(data)
        return f"is also the beginning of {others[0]!r}, which is no target character" if others else None
    if target is None or not target.occur_in(text):
        return "holds no target character"
    if byte_level:
        return None
    letters = text.removeprefix(SPACE) if target.words_are_spaced else text
    others = sorted({letter for letter in letters if _OTHER.match(letter) and not target.is_target(letter)})
    return f"holds {', '.join(map(repr, others))}" if others else None


def _check_scores(comparison: Comparison, findings: Findings) -> None:
    """Scores below the base's lowest, so that no new merge comes before one that the base would make."""
    base = comparison.base[0]
    # Runs of spaces may stand far below all other pieces (Mistral: -1e9); they meet no letter.
    lowest = min((score for token, score in base.scores.items() if base.pieces[token].strip(SPACE)), default=None)
    for vocabulary in comparison.extended:
        for token, score in vocabulary.scores.items():
            if token in comparison.new and lowest is not None and score >= lowest:
                findings.fail(
                    "with a score that outranks the base's pieces",
                    f"{vocabulary.show(token)} has the score {score:,g}, expected below {lowest:,g}",
                )


def _check_merges(comparison: Comparison, findings: Findings) -> None:
    """The base's merges, in the base's order, where they are what decides its ids."""
    base, extended = comparison.base[0], comparison.extended[-1]
    if not base.merges or not extended.merges:
        return
    ranks = {merge: rank for rank, merge in enumerate(extended.merges)}
    before: tuple[str, str] | None = None
    for merge in base.merges:
        if merge not in ranks:
            findings.fail("merges of the base missing", f"{' + '.join(merge)} is no longer merged")
            continue
        if before and ranks[merge] < ranks[before]:
            findings.fail("merges of the base in another order", f"{' + '.join(merge)} now before {' + '.join(before)}")
        before = merge
