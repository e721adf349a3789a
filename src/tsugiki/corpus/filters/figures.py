"""What filters removed of a source: how many documents by each rule, a few of them, and what was looked for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from typing_extensions import TypedDict

from tsugiki.printable import one_line

SAMPLES = 3
"""Of each rule."""
SAMPLE_CHARACTERS = 80
FILTERS = ("length", "quality", "language", "duplicates", "decontamination")
"""In the order in which they are applied."""


class Sample(TypedDict):
    """The beginning of a document that was removed; of one that holds evaluation text, the stretch."""

    file: str
    line: int
    text: str


class Removed(NamedTuple):
    """A document that a filter removed: number of its file, line, FILTER.RULE, its beginning."""

    file: int
    line: int
    rule: str
    text: str


class Found(TypedDict):
    """A stretch of an evaluation set in the document of a file (by number) and line."""

    set: str
    file: int
    line: int
    text: str


class EvaluationSets(TypedDict):
    """What documents were compared with."""

    words: int
    characters: int
    items: dict[str, int]
    """Of each set."""
    looked_for: dict[str, int]
    """Of these, how many are long enough to hold a stretch."""
    files: dict[str, str]
    """Digests, by path below the data folder."""


@dataclass
class FilterFigures:
    """Of a source with filters."""

    removed: dict[str, int] = field(default_factory=dict)
    """Documents by FILTER.RULE; of decontamination by the name of the set."""
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    evaluation: EvaluationSets | None = None

    @property
    def total(self) -> int:
        """Documents that were removed."""
        return sum(self.removed.values())

    def by_filter(self) -> dict[str, dict[str, int]]:
        """Filter → rule → documents, in the order in which filters are applied, most first."""
        found: dict[str, dict[str, int]] = {}
        for name in FILTERS:
            own = {key.partition(".")[2]: count for key, count in self.removed.items() if key.startswith(f"{name}.")}
            if own:
                found[name] = dict(sorted(own.items(), key=lambda item: (-item[1], item[0])))
        return found

    def count(self, rule: str, file: str, line: int, text: str) -> str:
        """Count a document; returns what is shown of it, "" where enough of its likes have been shown."""
        self.removed[rule] = self.removed.get(rule, 0) + 1
        if self.removed[rule] > SAMPLES:
            return ""
        shown = excerpt(text)
        self.samples.setdefault(rule, []).append({"file": file, "line": line, "text": shown})
        return shown


def excerpt(text: str) -> str:
    """The beginning of a text in a line of printable characters."""
    return one_line(text[: 4 * SAMPLE_CHARACTERS], SAMPLE_CHARACTERS)


def describe_filters(figures: FilterFigures, kept: int) -> Iterator[str]:
    """Lines on what filters removed, beside so many documents that stayed."""
    judged = figures.total + kept
    rules = "; ".join(
        f"{name} {sum(own.values()):,} ({', '.join(f'{rule} {count:,}' for rule, count in own.items())})"
        for name, own in figures.by_filter().items()
    )
    share = f" ({figures.total / judged:.1%})" if judged else ""
    yield f"filters removed {figures.total:,} of {judged:,} documents{share}{': ' + rules if rules else ''}"
    if figures.evaluation is not None:
        yield describe_sets(figures.evaluation)


def describe_sets(sets: EvaluationSets) -> str:
    """What documents were compared with, in a line."""
    items, looked_for = (sum(sets[key].values()) for key in ("items", "looked_for"))
    return (
        f"compared with {len(sets['items'])} evaluation sets by stretches of {sets['words']} words or "
        f"{sets['characters']} characters: {looked_for:,} of {items:,} items are long enough"
    )


def samples(figures: FilterFigures) -> Iterator[tuple[str, Sample]]:
    """(rule, sample) in the order of the filters."""
    order: Mapping[str, int] = {name: place for place, name in enumerate(FILTERS)}
    for rule in sorted(figures.samples, key=lambda rule: (order[rule.partition(".")[0]], rule)):
        yield from ((rule, sample) for sample in figures.samples[rule])
