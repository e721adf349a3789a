"""The recipe's section `vocabulary`: which pieces the base's tokenizer gets, and what their rows begin as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_values import FREE, SOURCE_NAMES, Count, FilePath, Listed, Section, SourceName, Text, whole_number

if TYPE_CHECKING:
    from tsugiki.recipe import Recipe


class VocabularySection(Section):
    """New pieces for the base's tokenizer, with rows in the model. One of `target_size` and `add`, one of `language`
    and `scripts`. Leave the section out to train with the base's vocabulary."""

    target_size: Listed | None = Field(
        default=None,
        description="Size of the vocabulary afterwards, rounded up to a multiple of 64, by pieces and not by padding.",
    )
    add: Listed | None = Field(
        default=None,
        description="Instead of target_size: how many pieces to add. Rounded up likewise, and at least to the rows that"
        " the base model has (Qwen has spare ones).",
    )
    language: Text | None = Field(
        default=None, description="The new language (ja, zh, ko, th, ru, ar, hi …), which says what scripts it has."
    )
    scripts: list[Text] | None = Field(
        default=None,
        description="Instead of language: the Unicode scripts that new pieces are made of, e.g. [hiragana, katakana, "
        "han]. Not Latin: pieces for it would change how English is divided.",
    )
    sources: list[Text] | None = Field(
        default=None,
        description="Sources of data.sources to learn from, their held-out documents left out. Default: those whose"
        " language is this language; none where corpora are given.",
        json_schema_extra=FREE,  # the stage itself compares the corpora that follow
    )
    corpora: dict[SourceName, CorpusSection] = Field(
        default={}, description="Further text to learn from, by name.", json_schema_extra=SOURCE_NAMES
    )
    sample_characters: Count = Field(
        default=20_000_000,
        description="Characters to learn from, cut evenly over the corpora, documents chosen by a hash of their text.",
    )
    min_character_count: Count | None = Field(
        default=None,
        description="How often a character must be seen to get a piece of its own. Default: what gives the fewest"
        " tokens on a part of the sample kept back for that.",
    )
    max_piece_length: Annotated[int, Field(ge=1, le=64), BeforeValidator(whole_number)] = Field(
        default=16, description="Characters that a new piece may have."
    )
    split_words: bool = Field(
        default=False,
        description="Learn no piece across a word's end, as Swallow did with MeCab (Japanese; needs the extra ja).",
    )
    initialise: Literal["mean", "normal", "random"] = Field(
        default="mean",
        description="New rows of embedding and output layer. mean: the mean of the old pieces that the new one was made"
        " of. normal: drawn around the mean of all old rows, with their covariance. random: drawn with their spread.",
    )
    noise: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1e-3,
        description="Added to mean rows, as a share of the old rows' standard deviation, so that no two are equal"
        " (characters with the same bytes in another order would be). 0 turns it off.",
    )
    output_dir: FilePath | None = Field(
        default=None,
        description="Where the extended model lies; give a common folder to share it between runs. Default:"
        " run_dir/vocabulary.",
        json_schema_extra=FREE,
    )

    def learns_from(self, recipe: Recipe) -> list[str]:
        """The sources of a recipe that pieces are learned from; conversations are none of them unless named."""
        if self.sources is not None or self.corpora:
            return list(self.sources or [])
        texts = [
            (name, source)
            for name, source in recipe.data.sources.items()
            if not source.is_chat and source.store is None
        ]
        return [name for name, source in texts if source.language is not None and source.language == self.language]
