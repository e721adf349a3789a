"""The recipe's section `data.sources.NAME.filters`: which documents of a source are not trained on.

Filters are applied in the order of their keys here, whatever the order in the file; a document counts for the first
that removes it. `corpus.filters` has the filters themselves.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tsugiki.recipe_values import Count, CountOrZero, Section, Text, TextList, whole_number

Part = Annotated[float, Field(ge=0, le=1)]
MeanLength = Annotated[float, Field(ge=0)]


def _small(most: int) -> Any:
    return Annotated[int, Field(ge=1, le=most), BeforeValidator(whole_number)]


class LengthSection(Section):
    """Documents that are too short or too long."""

    min_characters: CountOrZero | None = Field(default=None, description="Fewest characters.")
    max_characters: CountOrZero | None = Field(default=None, description="Most characters.")
    min_bytes: CountOrZero | None = Field(default=None, description="Fewest bytes of UTF-8.")
    max_bytes: CountOrZero | None = Field(default=None, description="Most bytes of UTF-8.")


class QualitySection(Section):
    """Rules over a document's characters, sentences and repetitions: those of a preset, single ones on top or alone."""

    preset: Literal["swallow-v1"] | None = Field(
        default=None,
        description="swallow-v1: the rules of Swallow Corpus Version 1 for Japanese web pages, with their published"
        " thresholds; what else is given here goes before them.",
    )
    min_characters: CountOrZero | None = Field(default=None, description="swallow-v1: 400.")
    min_japanese_characters: CountOrZero | None = Field(
        default=None, description="Kana, kanji and their marks; swallow-v1: 400."
    )
    min_japanese: Part | None = Field(default=None, description="Their share of all characters; swallow-v1: 0.5.")
    min_hiragana: Part | None = Field(default=None, description="Of the Japanese characters; swallow-v1: 0.2.")
    max_katakana: Part | None = Field(default=None, description="Of the Japanese characters; swallow-v1: 0.5.")
    min_mean_sentence: MeanLength | None = Field(
        default=None, description="Characters of a sentence in the mean; swallow-v1: 20."
    )
    max_mean_sentence: MeanLength | None = Field(default=None, description="The same; swallow-v1: 90.")
    max_sentence: Count | None = Field(default=None, description="Characters of the longest; swallow-v1: 200.")
    max_ellipses: Part | None = Field(
        default=None, description="Share of sentences that end with … or ・; swallow-v1: 0.2."
    )
    max_duplicate_paragraphs: Part | None = Field(
        default=None, description="Lines that stand in the document before, of all; swallow-v1: 0.3."
    )
    max_duplicate_paragraph_characters: Part | None = Field(
        default=None, description="Their characters; swallow-v1: 0.2."
    )
    max_duplicate_sentences: Part | None = Field(
        default=None, description="Sentences that stand in the document before, of all; swallow-v1: 0.3."
    )
    max_duplicate_sentence_characters: Part | None = Field(
        default=None, description="Their characters; swallow-v1: 0.2."
    )
    max_top_2gram: Part | None = Field(
        default=None, description="The most frequent pair of characters, of all pairs; swallow-v1: 0.2."
    )
    max_top_3gram: Part | None = Field(default=None, description="The same of three; swallow-v1: 0.18.")
    max_top_4gram: Part | None = Field(default=None, description="The same of four; swallow-v1: 0.16.")
    max_duplicate_5grams: Part | None = Field(
        default=None,
        description="Of the different stretches of 5 characters, those that occur more than once; swallow-v1: 0.15."
        " Grows with a document's length.",
    )
    max_duplicate_6grams: Part | None = Field(default=None, description="The same of 6; swallow-v1: 0.14.")
    max_duplicate_7grams: Part | None = Field(default=None, description="The same of 7; swallow-v1: 0.13.")
    max_duplicate_8grams: Part | None = Field(default=None, description="The same of 8; swallow-v1: 0.12.")
    max_duplicate_9grams: Part | None = Field(default=None, description="The same of 9; swallow-v1: 0.11.")
    max_duplicate_10grams: Part | None = Field(default=None, description="The same of 10; swallow-v1: 0.1.")


class LanguageSection(Section):
    """Documents whose letters belong to other scripts than those of the source's language."""

    scripts: list[Text] | None = Field(
        default=None,
        min_length=1,
        description="Unicode scripts, e.g. [latin]. Default: those of the source's `language`.",
    )
    min_share: Part = Field(default=0.5, description="Share of a document's letters that belong to one of them.")
    min_shares: dict[str, Part] | None = Field(
        default=None,
        description="The same of single scripts, which tell languages apart that share others. Default: hiragana: 0.1"
        " where the language is ja and no scripts are named, else none.",
    )


class DuplicatesSection(Section):
    """Documents that stand in the source before, in the order of their hash: the first of its likes stays."""

    near: bool = Field(
        default=True,
        description="Also those that are nearly the same: whose sets of character n-grams are similar, by a sketch of"
        " hashes x buckets numbers. false: those of the same text alone.",
    )
    ngram: _small(64) = Field(default=5, description="Characters of an n-gram.")  # type: ignore[valid-type]
    hashes: _small(256) = Field(  # type: ignore[valid-type]
        default=20,
        description="Numbers of a bucket, which must all agree: the more, the more alike documents must be.",
    )
    buckets: _small(200) = Field(  # type: ignore[valid-type]
        default=40,
        description="Buckets, of which one must agree: 1 - (1 - J^hashes)^buckets of the pairs of similarity J are"
        " found. 8 bytes each on disk for every document.",
    )


class DecontaminationSection(Section):
    """Documents that hold a stretch of an evaluation set. On without being asked for where the recipe evaluates on sets
    whose data are there when the source is prepared."""

    enabled: bool = Field(default=True, description="false: never, whatever the recipe evaluates.")
    sets: TextList | None = Field(
        default=None, description="Names of sets, as `tsugiki data fetch` takes them. Default: all that are there."
    )
    words: _small(64) = Field(  # type: ignore[valid-type]
        default=13, description="Words of a stretch, where words have spaces between them."
    )
    characters: _small(256) = Field(  # type: ignore[valid-type]
        default=30, description="Letters of a stretch, where they have none, as in Japanese."
    )


class FiltersSection(Section):
    """Which documents are not trained on. In this order; each counts what it removes."""

    length: LengthSection | None = Field(default=None, description="By their length.")
    quality: QualitySection | None = Field(default=None, description="By rules over their text.")
    language: LanguageSection | None = Field(default=None, description="By the scripts of their letters.")
    duplicates: DuplicatesSection | None = Field(default=None, description="Equal and similar ones.")
    decontamination: DecontaminationSection | None = Field(
        default=None, description="Those that hold evaluation text. Default: where the recipe evaluates."
    )

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == FiltersSection()
