"""The proofs that an extended tokenizer is exact: its pieces form, its texts come back, the base's text is as it was.

Any tokenizer can be proved against the one it grew from, whoever made it. `prove` encodes each text once with every
file that the folder has (`tokenizer.model` by SentencePiece, `tokenizer.json` by `tokenizers`), control strings being
text as in training. Ids are held against the base's `tokenizer.model` where it has one, else its `tokenizer.json`.

Cost: 40 million characters, half of them Japanese, take half a minute on two cores; memory is that of one chunk.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tsugiki.corpus.adversarial import adversarial_strings
from tsugiki.corpus.named_texts import Text
from tsugiki.corpus.tokenizer_engines import Engine, open_engine
from tsugiki.errors import ModelError
from tsugiki.scripts import UNASSIGNED, TargetCharacters
from tsugiki.vocabulary.loading_proofs import LineSample, prove_template, prove_transformers
from tsugiki.vocabulary.piece_proofs import (
    SPACE,
    Comparison,
    Findings,
    Proof,
    Vocabulary,
    prove_ids,
    prove_pieces,
    read_vocabulary,
)

CHUNK = 2_000_000
"""Characters that are encoded at once."""
FILES = ("tokenizer.model", "tokenizer.json")  # the first that a base has decides its ids


def prove(extended: Path, base: Path, texts: Iterable[Text], *, target: TargetCharacters | None = None) -> list[Proof]:
    """Every proof of the tokenizer in the folder `extended` against the one in `base`, over `texts`.

    `target` says which characters new pieces may hold; without it, those of the scripts that they hold are taken.
    Where a file does not load, only the proofs that read no text are made. Raises ModelError when a folder holds no
    tokenizer, or the base's cannot be read.
    """
    base_file = _files(base)[0]
    base_engine = open_engine(base_file)
    engines, loads = _open(_files(extended))
    comparison = Comparison(
        [_vocabulary(path, engines.get(path)) for path in _files(extended)],
        [_vocabulary(path, base_engine) for path in _files(base)],
        target,
    )
    proofs = [loads, prove_ids(comparison), prove_pieces(comparison)]
    if not loads.passed:
        return proofs
    proofs.append(_prove_self(comparison, engines))
    over_texts = TextProofs(list(engines.values()), base_engine, comparison.target)
    sample = LineSample()
    known = [*comparison.extended, *comparison.base]
    control = {vocabulary.pieces[token] for vocabulary in known for token in vocabulary.special}
    adversarial = [Text(f"adversarial: {name}", text) for name, text in adversarial_strings(control)]
    for chunk in _chunks(texts, sample.offer):
        over_texts.check(chunk)
    over_texts.check(adversarial)
    proofs += [*over_texts.proofs(), prove_template(extended, base, {**engines, base_file: base_engine})]
    lines = [*sample.lines(), *(text.text for text in adversarial), *_typed(comparison).values()]
    return [*proofs, prove_transformers(extended, engines[_files(extended)[-1]], lines, control)]


def _files(folder: Path) -> list[Path]:
    found = [folder / name for name in FILES if (folder / name).exists()]
    if not found:
        raise ModelError(f"{folder}: no tokenizer.json and no tokenizer.model in this folder")
    return found


def _open(paths: Sequence[Path]) -> tuple[dict[Path, Engine], Proof]:
    findings = Findings("loads")
    engines: dict[Path, Engine] = {}
    for path in paths:
        findings.checked += 1
        try:
            engines[path] = open_engine(path)
        except ModelError as error:
            findings.fail("not read by its library", str(error))
    return engines, findings.proof("file" if len(paths) == 1 else "files")


def _vocabulary(path: Path, engine: Engine | None) -> Vocabulary:
    return read_vocabulary(path, engine.added if engine and path.name == "tokenizer.model" else {})


def _chunks(texts: Iterable[Text], see: Callable[[str], None]) -> Iterator[list[Text]]:
    chunk: list[Text] = []
    held = 0
    for text in texts:
        see(text.text)
        chunk.append(text)
        held += len(text.text)
        if held >= CHUNK:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def _typed(comparison: Comparison) -> dict[int, str]:
    """New pieces as somebody would type them, by id. The first bytes of a character cannot be typed."""
    typed = {}
    for token, vocabulary in comparison.new.items():
        try:
            text = vocabulary.data(token).decode()
        except UnicodeDecodeError:
            continue
        typed[token] = text if vocabulary.byte_level else text.replace(SPACE, " ")
    return typed


def _prove_self(comparison: Comparison, engines: dict[Path, Engine]) -> Proof:
    """Every new piece is one token: alone, after the mark of a space that the tokenizer puts before a text, or at the
    start of a line (where a word's first letters have a piece with that mark too, they are found nowhere else)."""
    findings = Findings("self")
    findings.checked = len(comparison.new)
    for path, engine in engines.items():
        vocabulary = next(each for each in comparison.extended if each.path == path)
        typed = {token: text for token, text in _typed(comparison).items() if token in vocabulary.pieces}
        marks = [engine.token_id(mark) for mark in (SPACE, "Ġ")]
        encoded = engine.encode_batch(list(typed.values()))
        line_end = engine.encode_batch(["\n"])[0]
        in_line = engine.encode_batch([f"\n{text}" for text in typed.values()])
        for token, ids, after_line_end in zip(typed, encoded, in_line, strict=True):
            alone = [[token], *([mark, token] for mark in marks)]
            if ids not in alone and after_line_end != [*line_end, token]:
                came = " ".join(engine.piece(each) for each in ids)
                findings.fail("that never form", f"{vocabulary.show(token)} comes as {came} by {path.name}")
        if vocabulary.byte_level:
            _check_merges_alone(comparison, vocabulary, findings)
    return findings.proof("new pieces")


def _check_merges_alone(comparison: Comparison, vocabulary: Vocabulary, findings: Findings) -> None:
    """Byte-level pieces are made by merges: those that cannot be typed, and (with `ignore_merges`, which looks whole
    words up first) those that would be found only where they are a whole word."""
    from tokenizers import Tokenizer

    state = json.loads(vocabulary.path.read_text(encoding="utf-8"))
    state["model"]["ignore_merges"] = False
    model = Tokenizer.from_str(json.dumps(state)).model
    for token in comparison.new:
        if token in vocabulary.pieces and token not in vocabulary.added:
            tokens = model.tokenize(vocabulary.pieces[token])
            if [each.id for each in tokens] != [token]:
                came = " ".join(each.value for each in tokens)
                findings.fail("that no merges make", f"{vocabulary.show(token)} comes as {came} by merges alone")


class TextProofs:
    """The proofs over texts, a chunk at a time."""

    def __init__(self, engines: Sequence[Engine], base: Engine, target: TargetCharacters | None):
        self._engines = engines
        self._base = base
        self._target = target
        self._round_trip = Findings("round trip")
        self._identity = Findings("identity")
        self._same = Findings("engines")
        self._normalised = 0

    def check(self, chunk: Sequence[Text]) -> None:
        """Count what some texts show."""
        texts = [text.text for text in chunk]
        encoded = [engine.encode_batch(texts) for engine in self._engines]
        if len(encoded) == 2:
            self._check_engines(chunk, *encoded)
        for engine, batch in zip(self._engines, encoded, strict=True):
            self._check_round_trip(chunk, engine, batch)
        self._check_identity(chunk, encoded)

    def proofs(self) -> list[Proof]:
        """The outcomes so far."""
        normal = f", {self._normalised:,} of them changed as the base changes them" if self._normalised else ""
        scripts = "target characters" if self._target is None else f"characters of {', '.join(self._target.scripts)}"
        only = f" ({self._engines[0].path.name} is there alone)" if len(self._engines) == 1 else ""
        return [
            self._round_trip.proof(f"texts decoded{normal}"),
            self._identity.proof(f"texts and lines without {scripts}"),
            self._same.proof(f"texts encoded by SentencePiece and by tokenizers{only}"),
        ]

    def _check_engines(self, chunk: Sequence[Text], first: list[list[int]], second: list[list[int]]) -> None:
        names = [engine.path.name for engine in self._engines]
        for text, ids, others in zip(chunk, first, second, strict=True):
            self._same.checked += 1
            if ids != others:
                shown, came = _first_difference(self._engines[0], ids, self._engines[1], others)
                self._same.fail("with different ids", f"{text.place}: {shown} by {names[0]}, {came} by {names[1]}")

    def _check_round_trip(self, chunk: Sequence[Text], engine: Engine, batch: list[list[int]]) -> None:
        self._round_trip.checked += len(chunk)
        decoded = engine.decode_batch(batch)
        changed = [(text, came) for text, came in zip(chunk, decoded, strict=True) if came != text.text]
        normal = self._base.decode_batch(self._base.encode_batch([text.text for text, _ in changed]))
        for (text, came), expected in zip(changed, normal, strict=True):
            if came == expected:
                self._normalised += 1
                continue
            start = next((at for at, pair in enumerate(zip(came, expected, strict=False)) if len(set(pair)) == 2), 0)
            start = max(0, start - 8)
            self._round_trip.fail(
                "that do not come back",
                f"{text.place}: {came[start : start + 24]!r} by {engine.path.name}, expected "
                f"{expected[start : start + 24]!r}",
            )

    def _check_identity(self, chunk: Sequence[Text], encoded: list[list[list[int]]]) -> None:
        """Whole texts without target characters, and lines without any of those that have some."""
        whole: list[int] = []
        lines: list[Text] = []
        for index, text in enumerate(chunk):
            if self._target is None or not self._target.occur_in(text.text):
                whole.append(index)
                continue
            for number, line in enumerate(text.text.split("\n"), 1):
                if line and not self._target.occur_in(line):
                    lines.append(Text(f"{text.place}, line {number:,} of the text", line))
        self._compare_with_base([chunk[index] for index in whole], [[ids[at] for at in whole] for ids in encoded])
        strings = [line.text for line in lines]
        self._compare_with_base(lines, [engine.encode_batch(strings) for engine in self._engines])

    def _compare_with_base(self, texts: Sequence[Text], encoded: list[list[list[int]]]) -> None:
        self._identity.checked += len(texts)
        parts: list[Text] = []
        expected = self._base.encode_batch([text.text for text in texts])
        for engine, batch in zip(self._engines, encoded, strict=True):
            for text, ids, wanted in zip(texts, batch, expected, strict=True):
                if ids == wanted:
                    continue
                if UNASSIGNED.search(text.text):
                    # A byte-level piece may begin characters of the target and code points that are none yet.
                    parts += [Text(text.place, part) for part in UNASSIGNED.split(text.text) if part]
                    continue
                came, shown = _first_difference(engine, ids, self._base, wanted)
                self._identity.fail(
                    "with other ids than the base's",
                    f"{text.place}: {came} by {engine.path.name}, in the base {shown}",
                )
        if parts:
            strings = [part.text for part in parts]
            self._compare_with_base(parts, [engine.encode_batch(strings) for engine in self._engines])


def _first_difference(engine: Engine, ids: Sequence[int], other: Engine, others: Sequence[int]) -> tuple[str, str]:
    """The pieces around the first place where two lists of ids part."""
    at = next((at for at, pair in enumerate(zip(ids, others, strict=False)) if len(set(pair)) == 2), None)
    start = max(0, (min(len(ids), len(others)) if at is None else at) - 2)
    shown = [
        " ".join(repr(each.piece(token))[1:-1] for token in tokens[start : start + 6])
        for each, tokens in ((engine, ids), (other, others))
    ]
    return f"[{shown[0]}]", f"[{shown[1]}]"
