"""What a recipe asks of a source's filters: its section as the filters themselves, and as what a fingerprint takes."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xxhash

from tsugiki.corpus.filters.contamination import Stretch, build
from tsugiki.corpus.filters.figures import EvaluationSets
from tsugiki.corpus.filters.judge import EvaluationIndex, Judge
from tsugiki.corpus.filters.language import MIN_SHARES, Language
from tsugiki.corpus.filters.length import Length
from tsugiki.corpus.filters.quality import PRESETS, Quality
from tsugiki.corpus.filters.signatures import Signature
from tsugiki.errors import DataError
from tsugiki.recipe import SourceSection
from tsugiki.recipe_filters import DecontaminationSection, FiltersSection, LanguageSection
from tsugiki.scripts import scripts_of

RULES = 1
"""Version of what the filters do; part of the fingerprint of a source that has any."""


@dataclass(frozen=True)
class EvaluationTexts:
    """Evaluation sets as `evaluation.data.texts` reads them: the texts of each item of each set."""

    folder: Path
    sets: Mapping[str, Sequence[Sequence[str]]]
    files: Mapping[str, Mapping[str, str]]
    """Of each set, digests by path."""


def judge_of(source: SourceSection) -> Judge:
    """The filters of a source, but for evaluation text."""
    asked = source.filters
    length = Length(**asked.length.model_dump()) if asked.length else None
    quality = None
    if asked.quality is not None:
        given = {name: value for name, value in asked.quality if name != "preset" and value is not None}
        quality = replace(PRESETS[asked.quality.preset] if asked.quality.preset else Quality(), **given)
    near = asked.duplicates and asked.duplicates.near
    return Judge(
        length,
        quality,
        _language(asked.language, source.language) if asked.language else None,
        compares=asked.duplicates is not None,
        near=Signature(asked.duplicates.ngram, asked.duplicates.hashes, asked.duplicates.buckets)
        if asked.duplicates and near
        else None,
    )


@dataclass(frozen=True)
class Filters:
    """All filters of a source, with the evaluation sets that are there."""

    judge: Judge
    sets: EvaluationSets | None
    named: bool
    """Whether the recipe asks for any."""

    @classmethod
    def of(cls, source: SourceSection, evaluation: tuple[EvaluationIndex, EvaluationSets] | None) -> "Filters":
        """What the recipe asks for, and what is there."""
        index, sets = evaluation or (None, None)
        return cls(replace(judge_of(source), evaluation=index), sets, not source.filters.is_empty)

    @property
    def digest(self) -> str:
        """Of the sets, which work that is gone on with must have compared with, too."""
        return xxhash.xxh3_128_hexdigest(repr(self.sets).encode())


def _language(asked: LanguageSection, language: str | None) -> Language:
    scripts = tuple(asked.scripts or scripts_of(language or "") or ())
    shares = asked.min_shares
    if shares is None:
        shares = MIN_SHARES.get(language or "", {}) if asked.scripts is None else {}
    return Language(scripts, asked.min_share, shares)


def filter_parts(source: SourceSection) -> list[Any]:
    """What of the filters decides the bytes of a source; nothing where it has none, and nothing of evaluation text that
    nobody has named: that is compared with what is there on the day."""
    if source.filters.is_empty:
        return []
    judge = judge_of(source)
    rules = [part and asdict(part) for part in (judge.length, judge.quality, judge.language, judge.near)]
    named = source.filters.decontamination
    return ["filters", RULES, rules, judge.compares, named and named.model_dump()]


class Evaluation:
    """The evaluation texts that documents are compared with, read once, and their indices, built once each, in a folder
    that goes with the block. `read` gives None where there is nothing to read."""

    def __init__(self, read: Callable[[], EvaluationTexts | None]):
        self._read, self._stack = read, ExitStack()
        self._texts: EvaluationTexts | None = None
        self._was_read = False
        self._built: dict[tuple[Stretch, tuple[str, ...]], tuple[EvaluationIndex, EvaluationSets]] = {}

    def __enter__(self) -> "Evaluation":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def index(self, name: str, filters: FiltersSection) -> tuple[EvaluationIndex, EvaluationSets] | None:
        """What the documents of source `name` are compared with; None for nothing. Raises DataError where the recipe
        asks for it and there is nothing, or names a set that is not there."""
        asked = filters.decontamination or DecontaminationSection()
        if not asked.enabled:
            return None
        if not self._was_read:
            self._texts, self._was_read = self._read(), True
        here = f"data.sources.{name}.filters.decontamination"
        if self._texts is None or not self._texts.sets:
            if filters.decontamination is None:
                return None
            where = f" in {self._texts.folder}" if self._texts else ""
            raise DataError(
                f"{here}: no evaluation set is there{where}; fetch some (`tsugiki data fetch`), name their folder in "
                "evaluation.data_dir, or leave the filter out"
            )
        names = tuple(asked.sets or self._texts.sets)
        for one in names:
            if one not in self._texts.sets:
                near = get_close_matches(one, self._texts.sets, 1)
                raise DataError(
                    f"{here}.sets: {one} is not in {self._texts.folder}"
                    + (f"; did you mean {near[0]}?" if near else f"; there are {', '.join(self._texts.sets)}")
                )
        return self._build(Stretch(asked.words, asked.characters), names)

    def _build(self, stretch: Stretch, names: tuple[str, ...]) -> tuple[EvaluationIndex, EvaluationSets]:
        assert self._texts is not None
        if (stretch, names) not in self._built:
            folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="tsugiki-evaluation-")))
            counts = build(folder, {name: self._texts.sets[name] for name in names}, stretch)
            files = {path: digest for name in names for path, digest in self._texts.files[name].items()}
            sets: EvaluationSets = {
                "words": stretch.words, "characters": stretch.characters,
                "items": {name: items for name, (items, _) in counts.items()},
                "looked_for": {name: found for name, (_, found) in counts.items()}, "files": files,
            }  # fmt: skip
            self._built[stretch, names] = EvaluationIndex(folder, stretch, names), sets
        return self._built[stretch, names]


def nothing() -> None:
    """No evaluation texts."""
