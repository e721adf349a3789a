"""`training.evaluate`: the quick suite as the training loop calls it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tsugiki.corpus.fingerprint import boundaries
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.evaluation.probes.items import Probe
from tsugiki.evaluation.probes.score import figures, probe_model
from tsugiki.evaluation.probes.suite import WRITTEN, quick_suite
from tsugiki.model.bits_per_byte import score_documents
from tsugiki.recipe import Recipe

HELD_OUT_DOCUMENTS = 200
"""Of a source in a language that has no probes of its own: enough for a full set of items, short ones left out."""


def questions(
    recipe: Recipe, sources: Mapping[str, PreparedSource], tokenizer: TextTokenizer
) -> Callable[[Any], dict[str, dict[str, float]] | None] | None:
    """What the loop is to call with its `Run`, on every rank; None where the recipe asks for nothing.

    It returns figures by probe, or None when some rank was asked to stop meanwhile. Batches are as large as those of
    validation.
    """
    if recipe.training.evaluate is None:
        return None
    probes = probes_of(sources, tokenizer)
    before, _ = boundaries(recipe, tokenizer)
    length = recipe.data.sequence_length

    def evaluate(run: Any) -> dict[str, dict[str, float]] | None:
        score = partial(
            score_documents, run.model,
            bos_id=tokenizer.bos_id if before else tokenizer.eos_id,  # as in validation
            context=length, batch_tokens=recipe.training.micro_batch_size * length, group=run.processes.control,
            stop=run.asked_to_stop,
        )  # fmt: skip
        results = probe_model(lambda texts, starts: score(texts, scored_from=starts), tokenizer, probes)
        return None if results is None else figures(results)

    return evaluate


def probes_of(sources: Mapping[str, PreparedSource], tokenizer: TextTokenizer) -> list[Probe]:
    """The quick suite of a run's prepared sources: their languages, and the first held-out documents (in the order of
    a hash of their text) of those in a language that has no probes of its own."""
    languages = {name: source.language for name, source in sources.items() if source.language is not None}
    made_from = {}
    for name, language in languages.items():
        if language not in WRITTEN:
            made_from[name] = (language, sources[name].held_out_texts(tokenizer, HELD_OUT_DOCUMENTS))
    return quick_suite(languages.values(), made_from)
