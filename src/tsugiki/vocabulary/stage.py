"""The stage from a base model to one with a larger vocabulary: read a sample, learn, write, prove, resize, report.

    <vocabulary_dir>/model/           the extended model: tokenizer, configuration, weights
    <vocabulary_dir>/report.json, report.md, fertility.png
    <vocabulary_dir>/manifest.json    what it was made from (see `made_from`)

The folder gets its name when everything is proved and written: one that is there is whole.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError, StorageError, TsugikiError
from tsugiki.files import read_json, write_json
from tsugiki.folders import made_anew
from tsugiki.recipe import Recipe
from tsugiki.recipe_vocabulary import VocabularySection
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.folder import write_tokenizer
from tsugiki.vocabulary.gains import ModelSize, VocabularyReport, build_report
from tsugiki.vocabulary.learn import Learnt, learn
from tsugiki.vocabulary.made_from import MADE_FROM, MANIFEST, held_out_of, learned_from, made_from, section_of
from tsugiki.vocabulary.pieces import Base, old_pieces
from tsugiki.vocabulary.proofs import Proof, prove
from tsugiki.vocabulary.report import CHART, in_short, write_report
from tsugiki.vocabulary.sample import Sample, even_share, first_characters, keep_back, read_sample
from tsugiki.vocabulary.words import word_divider

if TYPE_CHECKING:
    from tsugiki.vocabulary.resize import ResizeFacts  # imports torch

Say = Callable[[str], None]

MULTIPLE = 64
"""Rows come in such numbers, for the matrix units of GPUs."""
FILE_NAMES = {"model", "report.json", "report.md", "fertility.png", MANIFEST}
"""All that the folder consists of."""
CHOOSING_SHARE = 0.04
"""Of the sample, on which the number of single characters is chosen."""


def target_characters(vocabulary: VocabularySection) -> TargetCharacters:
    """The characters that the recipe names."""
    if vocabulary.language is not None:
        return TargetCharacters.of_language(vocabulary.language)
    return TargetCharacters(vocabulary.scripts or [])


def final_size(vocabulary: VocabularySection, used: int, rows: int) -> int:
    """Pieces afterwards: what is asked for, at least the model's rows, rounded up so that none is padding.

    `used` ids are in use, for which the model has `rows` rows. Raises RecipeError when nothing would be added,
    ModelError when tokenizer and model do not fit.
    """
    if used > rows:
        raise ModelError(f"the base's tokenizer has {used:,} pieces, but its model {rows:,} rows: they do not fit")
    asked = vocabulary.target_size if vocabulary.target_size is not None else used + (vocabulary.add or 0)
    if asked <= used:
        raise RecipeError(f"vocabulary.target_size: {asked:,} is not more than the base's {used:,} pieces")
    return -(-max(asked, rows) // MULTIPLE) * MULTIPLE


def extend(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path, say: Say) -> VocabularyReport:
    """Make the extended model in `recipe.vocabulary_dir`; what was there before stays until the new one is proved. To
    be called by the one who holds the folder (`folders.only_one`).

    Raises TsugikiError where the base cannot be extended, the text does not suffice, a proof fails, or the disk
    refuses; nothing half-written is left.
    """
    folder = recipe.vocabulary_dir
    _require_ours(folder)
    with made_anew(folder) as work:
        (work / "model").mkdir()
        origin = made_from(recipe, tokenizer, base_folder)
        report = _make(recipe, tokenizer, base_folder, work / "model", say)
        write_report(report, work)
        write_json(work / MANIFEST, {MADE_FROM: origin})
    for line in in_short(report):
        say(line)
    say(f"model      {folder / 'model'}")
    say(f"report     {folder / 'report.md'}, report.json, {CHART}")
    return report


def _require_ours(folder: Path) -> None:
    """Refuse to replace a folder that is not of this stage."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    content = read_json(folder / MANIFEST) if MANIFEST in names else None
    ours = content is not None and MADE_FROM in content
    foreign = [name for name in names if not ours or name not in FILE_NAMES]
    if foreign:
        raise StorageError(
            f"{folder} holds {', '.join(foreign[:3])} that was not written by this stage: move it away, or give "
            "another vocabulary.output_dir"
        )


def _make(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path, output: Path, say: Say) -> VocabularyReport:
    """Fill the folder `output` with the extended model, and measure it."""
    vocabulary = section_of(recipe)
    target = target_characters(vocabulary)
    base = open_base(tokenizer, target)
    rows = rows_of(base_folder)
    size = final_size(vocabulary, base.used, rows)
    clock = Clock()
    with clock.phase("read"):
        learned, others = _samples(recipe)
    samples = {**learned, **others}
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
    with clock.phase("write"):
        write_tokenizer(output, base, tokenizer, learnt.pieces)
    with clock.phase("prove"):
        texts = [text for sample in samples.values() for text in sample.training]
        proofs = prove(output, tokenizer.folder, texts, target=target)
        _require(proofs)
    say(f"proved     {', '.join(f'{proof.name} ({proof.checked:,})' for proof in proofs)}")
    with clock.phase("resize"):
        facts = _resize(recipe, base, tokenizer, learnt, base_folder, output, size)
    with clock.phase("measure"):
        report = build_report(
            tokenizer, TextTokenizer.from_folder(output),
            {name: (text.text for text in sample.training) for name, sample in samples.items()},
            {name: (text.text for text in sample.held_out) for name, sample in samples.items()},
            target, {name: source.weight for name, source in recipe.data.sources.items() if not source.is_chat},
        )  # fmt: skip
    report.model, report.proofs = model_size(output, facts), proofs
    report.trials, report.threshold = learnt.trials, learnt.threshold
    report.initialisation = {
        "method": vocabulary.initialise, "noise": vocabulary.noise, **asdict(facts),
        "matrices": ", ".join(facts.matrices), "tied": "yes" if facts.tied else "no",
    }  # fmt: skip
    report.seconds = clock.seconds
    return report


class Clock:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a block."""
        begun = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - begun


def rows_of(folder: Path) -> int:
    """Rows of a model's vocabulary matrices, by its configuration."""
    config = read_json(folder / "config.json")
    inner = config.get("text_config") or config
    rows = inner.get("vocab_size", config.get("vocab_size"))
    if not isinstance(rows, int):
        raise ModelError(f"{folder / 'config.json'}: no vocab_size; is this a language model?")
    return rows


def _samples(recipe: Recipe) -> tuple[dict[str, Sample], dict[str, Sample]]:
    """Of each corpus that is learned from, and of each other source (for proofs and figures): texts that together have
    at most `sample_characters`, of either kind."""
    characters = section_of(recipe).sample_characters
    learned = learned_from(recipe)
    names = {name for _, name, _ in learned}
    sources = recipe.data.sources.items()
    others = [("data.sources", name, one) for name, one in sources if name not in names and not one.is_chat]
    found = []
    for corpora in (learned, others):
        samples = {
            name: read_sample(
                where, name, corpus, characters=characters, held_out=held_out_of(recipe, where, name),
                max_bytes=recipe.data.max_document_bytes,
            )
            for where, name, corpus in corpora
        }  # fmt: skip
        sizes = {name: sum(len(text.text) for text in sample.training) for name, sample in samples.items()}
        shares = even_share(sizes, characters)
        found.append({
            name: replace(sample, training=first_characters(sample.training, shares[name]))
            for name, sample in samples.items()
        })  # fmt: skip
    return found[0], found[1]


def _learn(vocabulary: VocabularySection, base: Base, learned: Mapping[str, Sample], count: int) -> Learnt:
    training: list[str] = []
    kept_back: list[str] = []
    for sample in learned.values():
        wanted = int(CHOOSING_SHARE * sum(len(text.text) for text in sample.training))
        rest, kept = keep_back(sample.training, wanted)
        training += rest
        kept_back += kept
    return learn(
        base, training, kept_back or training, count, max_length=vocabulary.max_piece_length,
        threshold=vocabulary.min_character_count, split=word_divider() if vocabulary.split_words else None,
    )  # fmt: skip


def _require(proofs: Sequence[Proof]) -> None:
    failed = [proof for proof in proofs if not proof.passed]
    if failed:
        lines = [f"{proof.name}: {proof.summary}\n    " + "\n    ".join(proof.examples) for proof in failed]
        raise TsugikiError("the extended tokenizer is not exact, and is not used:\n  " + "\n  ".join(lines))


def _resize(
    recipe: Recipe, base: Base, tokenizer: TextTokenizer, learnt: Learnt, base_folder: Path, output: Path, size: int
) -> "ResizeFacts":
    from tsugiki.vocabulary.resize import resize_model

    vocabulary = section_of(recipe)
    return resize_model(
        base_folder, output, used=base.used, size=size, pieces=old_pieces(base, learnt.pieces),
        method=vocabulary.initialise, noise=vocabulary.noise, seed=recipe.seed,
        token_ids={"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id},
    )  # fmt: skip


def model_size(folder: Path, facts: "ResizeFacts") -> ModelSize:
    """What a token of the model in `folder` costs now and cost before, by the headers of its weight files.

    The parameters are left open for mixtures of experts, of which a token visits some, and for models with parts for
    pictures or sounds.
    """
    from tsugiki.model.weight_files import read_headers

    shapes = {name: tensor.shape for header in read_headers(folder).values() for name, tensor in header.tensors.items()}
    matrices = [shapes[name] for name in facts.matrices if len(shapes[name]) == 2]  # a bias has one dimension
    width = matrices[0][1]
    parameters = None
    if not _visits_parts_only(read_json(folder / "config.json")):
        # A tied matrix may be stored twice, and others are copies.
        others = sum(map(math.prod, shapes.values())) - sum(map(math.prod, matrices))
        parameters = others + (1 if facts.tied else 2) * facts.old_rows * width
    return ModelSize(facts.old_rows, facts.new_rows, width, facts.tied, parameters)


def _visits_parts_only(config: Mapping[str, Any]) -> bool:
    """Whether a token of text passes through some of a model's matrices only."""
    text = config.get("text_config") or config
    experts = any("experts" in key and isinstance(value, int) and value > 1 for key, value in text.items())
    return experts or any(key in config for key in ("vision_config", "audio_config"))
