"""What a probe is: short items, each a context with one true continuation among a few.

A probe asks for no text from the model, only for probabilities, so that it costs one forward pass of a few thousand
tokens and that a model too small to answer anything in words still shows what it has learnt. Items are the same for
ever; a change to any of them raises the probe's version.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class ProbeItem:
    """`context` is never empty and ends in no space: a continuation brings its own."""

    id: str
    context: str
    choices: tuple[str, ...]
    label: int
    """Index of the true continuation in `choices`."""

    def __post_init__(self) -> None:
        if not self.context or self.context[-1] == " " or not all(self.choices):
            raise ValueError(f"item {self.id}: a context or choice is empty, or the context ends in a space")
        if len(set(self.choices)) != len(self.choices) or not 0 <= self.label < len(self.choices):
            raise ValueError(f"item {self.id}: choices repeat, or none has the number {self.label}")

    @property
    def truth(self) -> str:
        """The true continuation."""
        return self.choices[self.label]


@dataclass(frozen=True)
class Probe:
    """A named set of items with the same number of choices."""

    name: str
    title: str
    """A short heading."""
    language: str
    version: int
    items: tuple[ProbeItem, ...]

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 1 / len(self.items[0].choices)


def shuffled(number: str, context: str, truth: str, others: Sequence[str], random: Random) -> ProbeItem:
    """An item whose true continuation stands anywhere among `others`, as `random` says."""
    choices = [truth, *others]
    random.shuffle(choices)
    return ProbeItem(number, context, tuple(choices), choices.index(truth))
