"""The quick suite: what is asked of a model in the middle of training, and of small models in a sweep."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from tsugiki.evaluation.probes import arithmetic, cloze, copying, next_sentence, order
from tsugiki.evaluation.probes.items import Probe

WRITTEN = tuple(cloze.SEPARATORS)
"""Languages whose probes come with this package."""


def quick_suite(
    languages: Iterable[str], sources: Mapping[str, tuple[str, Sequence[str]]] | None = None
) -> list[Probe]:
    """The probes for a run in these languages: sums always, the built-in ones for English and Japanese (English
    always, since it is what a base model knows), and for `sources` in another language (name -> language and held-out
    documents) those that can be made from their text."""
    wanted = {"en", *languages}
    probes = [_sums(), *(probe for language in WRITTEN if language in wanted for probe in _written(language))]
    for name, (language, documents) in (sources or {}).items():
        if language not in WRITTEN:
            makers = (order.order_from, copying.copying_from, next_sentence.next_sentence)
            made = [make(name, language, documents) for make in makers]
            probes += [probe for probe in made if probe is not None]
    return probes


@cache  # a tenth of a second to make, and asked for by every recipe of a sweep
def _written(language: str) -> tuple[Probe, ...]:
    makers = (order.order, copying.copying, cloze.cloze, arithmetic.word_problems)
    return tuple(make(language) for make in makers)


@cache
def _sums() -> Probe:
    return arithmetic.arithmetic()
