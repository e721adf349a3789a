"""The stage from a base model to one with a larger vocabulary: read a sample, learn, write, prove, resize, report.

    <vocabulary_dir>/model/           the extended model: tokenizer, configuration, weights
    <vocabulary_dir>/report.json, report.md, fertility.png
    <vocabulary_dir>/manifest.json    what it was made from

The model's folder gets its name when everything is proved, the manifest is written last: one that is there is whole.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xxhash

from tsugiki.corpus.inputs import input_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError, StorageError, TsugikiError
from tsugiki.files import explain_os_error, read_json, write_json
from tsugiki.recipe import CorpusSection, Recipe, VocabularySection
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.learn import Learnt, learn
from tsugiki.vocabulary.pieces import Base, old_pieces
from tsugiki.vocabulary.proofs import Proof, Text
from tsugiki.vocabulary.sample import Sample, even_share, first_characters, read_sample

Say = Callable[[str], None]

VERSION = 1
"""Raised when the same sample would give another vocabulary."""
MANIFEST = "manifest.json"
MULTIPLE = 64
"""Rows come in such numbers, for the matrix units of GPUs."""
CHOOSING_SHARE = 0.04
"""Of the sample, on which the number of single characters is chosen."""


def target_characters(vocabulary: VocabularySection) -> TargetCharacters:
    """The characters that the recipe names. Raises RecipeError for a language or script that is not known."""
    try:
        if vocabulary.language is not None:
            return TargetCharacters.of_language(vocabulary.language)
        return TargetCharacters(vocabulary.scripts or [])
    except ValueError as error:
        key = "language" if vocabulary.language is not None else "scripts"
        raise RecipeError(f"vocabulary.{key}: {error}") from None


def final_size(vocabulary: VocabularySection, used: int, rows: int) -> int:
    """Pieces afterwards: what is asked for, at least the model's rows, rounded up so that none is padding.

    `used` ids are in use, for which the model has `rows` rows. Raises RecipeError when nothing would be added.
    """
    asked = vocabulary.target_size if vocabulary.target_size is not None else used + (vocabulary.add or 0)
    if asked <= used:
        raise RecipeError(f"vocabulary.target_size: {asked:,} is not more than the base's {used:,} pieces")
    return -(-max(asked, rows) // MULTIPLE) * MULTIPLE


def fingerprint(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path) -> dict[str, Any]:
    """What the extended model follows from, by what it is called."""
    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    settings = vocabulary.model_dump(mode="json", exclude={"output_dir", "sources", "corpora"})
    corpora = {f"{where}.{name}": _identity(where, name, corpus) for where, name, corpus in _learned_from(recipe)}
    weights = sorted((path.name, path.stat().st_size) for path in base_folder.glob("*.safetensors"))
    configuration = xxhash.xxh3_128_hexdigest((base_folder / "config.json").read_bytes())
    return {
        "version": VERSION, "settings": settings, "corpora": corpora, "seed": recipe.seed,
        "held_out": {name: recipe.held_out_share(name) for name in recipe.data.sources},
        "tokenizer": tokenizer.fingerprint, "configuration": configuration, "weights": [list(file) for file in weights],
    }  # fmt: skip


def _identity(where: str, name: str, corpus: CorpusSection) -> dict[str, Any]:
    """A corpus by how it is read, and name and size of each file: it may be moved or copied. A hub data set is known by
    its name."""
    read_as = corpus.model_dump(
        mode="json", include={"hub", "subset", "split", "revision", "text_key", "format", "encoding"}
    )
    files = [] if corpus.hub is not None else input_files(f"{where}.{name}", corpus)
    return {**read_as, "files": [[file.name, file.path.stat().st_size] for file in files]}


def _learned_from(recipe: Recipe) -> list[tuple[str, str, CorpusSection]]:
    """(section, name, corpus) of everything that pieces are learned from."""
    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    sources = [("data.sources", name, recipe.data.sources[name]) for name in vocabulary.learns_from(recipe)]
    return [*sources, *(("vocabulary.corpora", name, corpus) for name, corpus in vocabulary.corpora.items())]


def is_up_to_date(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path) -> bool:
    """Whether the extended model is there and follows from the recipe and the base's tokenizer and model.

    Raises RecipeError where a run in `run_dir` has begun with another one: its checkpoints would not fit.
    """
    path = recipe.vocabulary_dir / MANIFEST
    if not path.exists():
        return False
    made_from = fingerprint(recipe, tokenizer, base_folder)
    recorded = read_json(path).get("made_from", {})
    if recorded == made_from:
        return True
    if (recipe.run_dir / "checkpoints").exists():
        changed = [key for key in made_from if recorded.get(key) != made_from[key]]
        raise RecipeError(
            f"{recipe.vocabulary_dir}: the vocabulary would come out otherwise now ({', '.join(changed)} changed), "
            f"but {recipe.run_dir} has checkpoints with the old one. Undo the change, or give another run_dir"
        )
    return False


def is_made(recipe: Recipe) -> bool:
    """Whether there is an extended model, be it of an earlier recipe."""
    return (recipe.vocabulary_dir / MANIFEST).exists()


def extended_folder(recipe: Recipe) -> Path:
    """The folder of the extended model. Raises RecipeError when the stage has not been run to its end."""
    if not is_made(recipe):
        raise RecipeError(f"{recipe.vocabulary_dir} holds no extended model yet: run tsugiki vocabulary RECIPE first")
    return recipe.vocabulary_dir / "model"


def extend(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path, say: Say) -> Any:
    """Make the extended model in `recipe.vocabulary_dir` and return its `VocabularyReport`.

    Raises TsugikiError where the base cannot be extended, the text does not suffice, or a proof fails; what was there
    before stays.
    """
    from tsugiki.vocabulary.proofs import prove
    from tsugiki.vocabulary.report import write_report

    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    target = target_characters(vocabulary)
    base = open_base(tokenizer, target)
    rows = rows_of(base_folder)
    size = final_size(vocabulary, base.used, rows)
    made_from = fingerprint(recipe, tokenizer, base_folder)
    clock = Clock(say)
    with clock.phase("read"):
        learned, others = _samples(recipe)
    texts = [text for sample in (*learned.values(), *others.values()) for text in sample.training]
    say(
        f"vocabulary {base.family}, {base.used:,} pieces, {rows:,} rows -> {size:,}; learning from "
        f"{sum(len(text.text) for sample in learned.values() for text in sample.training):,} characters of "
        f"{', '.join(learned)}"
    )
    with clock.phase("learn"):
        learnt = _learn(vocabulary, base, learned, size - base.used)
    say(
        f"learnt     {len(learnt.pieces):,} pieces, {learnt.single:,} of them for single characters (seen at least "
        f"{learnt.threshold} times)"
    )
    output = recipe.vocabulary_dir / "model.writing"
    with _storage_errors(output):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir(parents=True)
        with clock.phase("write"):
            _write_tokenizer(output, base, tokenizer, learnt)
        with clock.phase("prove"):
            proofs = prove(output, tokenizer.folder, texts, target=target)
        _require(proofs)
        say(f"proved     {', '.join(f'{proof.name} ({proof.checked:,})' for proof in proofs)}")
        with clock.phase("resize"):
            facts = _resize(recipe, base, learnt, base_folder, output, size)
        extended = TextTokenizer.from_folder(output)
        with clock.phase("measure"):
            report = _report(recipe, tokenizer, extended, target, learned, others, proofs, learnt, facts, base_folder)
        report.seconds = dict(clock.seconds)
        final = recipe.vocabulary_dir / "model"
        (recipe.vocabulary_dir / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(final, ignore_errors=True)
        output.rename(final)
        write_report(report, recipe.vocabulary_dir)
        write_json(recipe.vocabulary_dir / MANIFEST, {"made_from": made_from})
    return report


class Clock:
    """Seconds by phase."""

    def __init__(self, say: Say):
        self.seconds: dict[str, float] = {}
        self._say = say

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(explain_os_error(error, path)) from error


def rows_of(folder: Path) -> int:
    """Rows of a model's vocabulary matrices, by its configuration."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config") or config
    rows = inner.get("vocab_size", config.get("vocab_size"))
    if not isinstance(rows, int):
        raise TsugikiError(f"{folder / 'config.json'}: no vocab_size; is this a language model?")
    return rows


def _samples(recipe: Recipe) -> tuple[dict[str, Sample], dict[str, Sample]]:
    """Of each corpus that is learned from, and of each other source (for proofs and figures): texts that together have
    at most `sample_characters`, of either kind."""
    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    learned_from = _learned_from(recipe)
    names = {name for _, name, _ in learned_from}
    others = [("data.sources", name, corpus) for name, corpus in recipe.data.sources.items() if name not in names]
    found = []
    for corpora in (learned_from, others):
        samples = {
            name: read_sample(
                where, name, corpus, characters=vocabulary.sample_characters,
                held_out=recipe.held_out_share(name) if where == "data.sources" else recipe.data.held_out,
                max_bytes=recipe.data.max_document_bytes,
            )
            for where, name, corpus in corpora
        }  # fmt: skip
        sizes = {name: sum(len(text.text) for text in sample.training) for name, sample in samples.items()}
        shares = even_share(sizes, vocabulary.sample_characters)
        found.append({
            name: dataclasses.replace(sample, training=first_characters(sample.training, shares[name]))
            for name, sample in samples.items()
        })  # fmt: skip
    return found[0], found[1]


def _learn(vocabulary: VocabularySection, base: Base, learned: Mapping[str, Sample], count: int) -> Learnt:
    from tsugiki.vocabulary.words import japanese_words

    training: list[str] = []
    kept_back: list[str] = []
    for sample in learned.values():
        characters = sum(len(text.text) for text in sample.training)
        kept = len(first_characters(sample.training, int(CHOOSING_SHARE * characters)))
        kept = min(kept, len(sample.training) - 1)
        kept_back += [text.text for text in sample.training[:kept]]
        training += [text.text for text in sample.training[kept:]]
    return learn(
        base, training, kept_back or training, count, max_length=vocabulary.max_piece_length,
        threshold=vocabulary.min_character_count, split=japanese_words() if vocabulary.split_words else None,
    )  # fmt: skip


def _write_tokenizer(output: Path, base: Base, tokenizer: TextTokenizer, learnt: Learnt) -> None:
    from tsugiki.vocabulary.folder import write_tokenizer

    write_tokenizer(output, base, tokenizer, learnt.pieces)


def _require(proofs: Sequence[Proof]) -> None:
    failed = [proof for proof in proofs if not proof.passed]
    if failed:
        lines = [f"{proof.name}: {proof.summary}\n    " + "\n    ".join(proof.examples) for proof in failed]
        raise TsugikiError("the extended tokenizer is not exact, and is not used:\n  " + "\n  ".join(lines))


def _resize(recipe: Recipe, base: Base, learnt: Learnt, base_folder: Path, output: Path, size: int) -> Any:
    from tsugiki.vocabulary.resize import resize_model

    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    ids = base.vocabulary
    return resize_model(
        base_folder, output, used=base.used, size=size, pieces=old_pieces(base, learnt.pieces, ids),
        method=vocabulary.initialise, noise=vocabulary.noise, seed=recipe.seed,
    )  # fmt: skip


def _report(
    recipe: Recipe, tokenizer: TextTokenizer, extended: TextTokenizer, target: TargetCharacters,
    learned: Mapping[str, Sample], others: Mapping[str, Sample], proofs: Sequence[Proof], learnt: Learnt, facts: Any,
    base_folder: Path,
) -> Any:  # fmt: skip
    from tsugiki.vocabulary.gains import build_report

    vocabulary = recipe.vocabulary
    assert vocabulary is not None
    samples = {**learned, **others}
    return build_report(
        tokenizer, extended,
        {name: _texts(sample.training) for name, sample in samples.items()},
        {name: _texts(sample.held_out) for name, sample in samples.items()},
        target, {name: source.weight for name, source in recipe.data.sources.items()},
        proofs=proofs, trials=learnt.trials, threshold=learnt.threshold,
        initialisation={"method": vocabulary.initialise, "noise": vocabulary.noise, **dataclasses.asdict(facts)},
    )  # fmt: skip


def _texts(texts: Sequence[Text]) -> Iterator[str]:
    return (text.text for text in texts)
