"""What a recipe asks for, before anything runs: what `tsugiki plan` prints.

Tokens and epochs of each source, the share of each language, disk, memory, time and price. Sources that are prepared
are counted; of others the first few megabytes are read and the rest is reckoned from the size of the files.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tsugiki.amounts import duration, quantity
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.filters.asked import judge_of
from tsugiki.corpus.fingerprint import boundaries
from tsugiki.corpus.foreign_store import foreign_manifest
from tsugiki.corpus.inputs import Counted, SourceDocuments
from tsugiki.corpus.mixture import Mixture, SourcePlan
from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.up_to_date import is_ready
from tsugiki.corpus.window_figures import text_windows
from tsugiki.errors import DataError
from tsugiki.files import free_bytes
from tsugiki.lora_size import about_lora
from tsugiki.model.weight_files import read_headers
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import launch_errors, total_steps
from tsugiki.recipe_inputs import tokenizer_before_markers
from tsugiki.recipe_length import describe_length, in_steps
from tsugiki.run_cost import CHECKPOINT_BYTES, MEMORY_BYTES, disk_bytes, measured_rate
from tsugiki.vocabulary.made_from import folder_here, is_made

READ_BYTES = 4 << 20
"""Of a source's files that are read to reckon how much text they hold."""
TOKENISED_SHARE, EXCERPT = 16, 8_000
"""One character in so many of them is tokenised to reckon how many tokens that is: of a document so much of its middle,
and at least so many characters."""


@dataclass(frozen=True)
class Expected:
    """A source that is not prepared, with what the mixture asks of a store."""

    tokens: int

    def window_count(self, sequence_length: int) -> int:
        """About how many windows it will have."""
        return max(0, (self.tokens - 1) // sequence_length)


@dataclass(frozen=True)
class Terms:
    """What the command line says of the machines."""

    processes: int = 1
    rate: float | None = None
    """Tokens a second, of all processes together."""
    price: float | None = None
    """Of an hour of all processes together."""


def plan_lines(recipe: Recipe, terms: Terms) -> Iterator[str]:
    """The plan in lines. Raises DataError for a source that cannot be read, or one of conversations that is not
    prepared: how many windows they fill is known once they are packed."""
    tokenizer = tokenizer_before_markers(recipe)
    stores, counted = _stores(recipe, tokenizer)
    found = in_steps(recipe, stores)
    if found is not recipe:
        yield f"length     {describe_length(recipe, found)}"
    steps, length = total_steps(found), found.data.sequence_length
    samples = steps * found.training.global_batch_size
    yield (
        f"length     {steps:,} steps of {found.training.global_batch_size:,} windows of {length:,} tokens: "
        f"{quantity(samples * length)} tokens"
    )
    if terms.processes > 1:
        yield from (f"launch     REFUSED  {error}" for error in launch_errors(found, terms.processes))
    mixture = Mixture.from_recipe(found, stores)
    plans = mixture.plan(samples)
    for one in plans:
        store = stores[one.name]
        guessed = isinstance(store, Expected) and (one.name not in counted or found.data.packing == "best_fit")
        line = f"source     {_source(one, mixture, length, 'about ' if guessed else '')}"
        cut = isinstance(store, TokenStore) and not isinstance(store, ConversationStore)
        yield f"{line}; {text_windows(store, length)}" if cut else line
    yield f"languages  {_languages(found, plans)}"
    if len(counted) < len(stores):
        missing = ", ".join(name for name in stores if name not in counted)
        yield f"           not prepared, reckoned from the first {READ_BYTES >> 20} MB and the files' sizes: {missing}"
        compared = [name for name in stores if name not in counted and judge_of(found.data.sources[name]).compares]
        if compared:
            yield f"           duplicates are not taken off yet: {', '.join(compared)}"
    yield from _machine(found, steps, terms)
    yield f"time       {_time(found, samples * length, terms)}"


def _stores(recipe: Recipe, tokenizer: TextTokenizer) -> tuple[dict[str, Any], set[str]]:
    """A store, or what stands for one, for each source; and the names of those that were counted."""
    ready = {name for name in recipe.data.sources if is_ready(recipe, name, tokenizer)}
    if len(ready) == len(recipe.data.sources):
        return {name: source.train for name, source in open_prepared(recipe, tokenizer).items()}, ready
    chats = [name for name, source in recipe.data.sources.items() if source.is_chat and name not in ready]
    if chats:
        raise DataError(
            f"data.sources.{chats[0]}: how many windows conversations fill is known once they are packed; run tsugiki "
            "prepare RECIPE first"
        )
    counted = {name for name, source in recipe.data.sources.items() if source.store is not None}
    return {
        name: Expected(
            foreign_manifest(recipe, name, tokenizer).train.tokens
            if name in counted
            else expected_tokens(recipe, name, tokenizer)
        )
        for name in recipe.data.sources
    }, counted


def expected_tokens(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> int:
    """About how many tokens a source of text will have to train on.

    Documents of the first READ_BYTES of its files are counted, a part of them is tokenised, and both shares are taken
    for those of the whole. A source that ends before is counted whole. Filters over single documents are applied; what
    duplicates and evaluation text take is not known before all is read. Raises DataError where it cannot be read.
    """
    tokens = tokenised = characters = read = 0
    judge = judge_of(recipe.data.sources[name])
    judge.open()
    with TemporaryDirectory(prefix="tsugiki-plan-") as folder:
        documents = SourceDocuments(recipe, name, Path(folder) / "left-out")
        for batch in documents.batches():
            counted = Counted()
            for _, _, document in batch.items(documents.how, counted):
                text = document.text
                if judge.removed_by(text, len(text.encode("utf-8"))):
                    continue
                if TOKENISED_SHARE * tokenised <= characters:
                    size = max(EXCERPT, len(text) // TOKENISED_SHARE)
                    excerpt = text[max(0, len(text) - size) // 2 :][:size]
                    tokens += len(tokenizer.encode_array(excerpt))
                    tokenised += len(excerpt)
                characters, read = characters + len(text), read + 1
            documents.take(batch, counted)
            if documents.read >= READ_BYTES:
                break
    if not tokenised and documents.seen > sum(documents.bad.values()):
        raise DataError(f"source {name}: its filters remove every document of the first {READ_BYTES >> 20} MB")
    if not tokenised or not documents.read:
        raise DataError(f"source {name}: no document can be read from it")
    around, whole = sum(map(len, boundaries(recipe, tokenizer))), max(documents.total_bytes, documents.read)
    a_byte = (characters * tokens / tokenised + around * read) / documents.read
    return math.floor(whole * a_byte * (1 - recipe.held_out_share(name)))


def _source(plan: SourcePlan, mixture: Mixture, length: int, about: str) -> str:
    """What the run takes of one source, and whether that is too often."""
    text = (
        f"{plan.name}: {plan.share:.2%}, {quantity(plan.samples * length)} tokens, {about}{plan.epochs:.2f} epochs of "
        f"{quantity(mixture.windows[plan.name] * length)}"
    )
    limit = mixture.max_epochs.get(plan.name)
    if limit is not None and plan.epochs > limit:
        most = plan.share * limit / plan.epochs
        text += f"; MORE THAN max_epochs {limit:g}: at most {most:.2%} of the run"
    return text


def _languages(recipe: Recipe, plans: list[SourcePlan]) -> str:
    shares: dict[str, float] = {}
    for plan in plans:
        language = recipe.data.sources[plan.name].language or "unsaid"
        shares[language] = shares.get(language, 0.0) + plan.share
    return ", ".join(f"{language} {share:.1%}" for language, share in shares.items())


def _machine(recipe: Recipe, steps: int, terms: Terms) -> Iterator[str]:
    """Disk and memory, by the shapes in the headers of the model's files."""
    folder = folder_here(recipe)
    if folder is None:
        yield "model      its files are not on this machine: disk and memory are not known"
        return
    parameters = sum(
        math.prod(tensor.shape) for header in read_headers(folder).values() for tensor in header.tensors.values()
    )
    if recipe.vocabulary is not None and not is_made(recipe):
        yield "model      the rows of new pieces are not counted: the vocabulary is not extended yet"
    if recipe.training.lora is not None:
        yield about_lora(recipe.training.lora, folder)
        return
    needed, free = disk_bytes(recipe, steps, parameters), free_bytes(recipe.run_dir)
    each = CHECKPOINT_BYTES[recipe.training.precision] * parameters
    yield (
        f"disk       {quantity(each)}B a checkpoint, {quantity(needed)}B of checkpoints and export at most, beside "
        f"token stores; {quantity(free)}B are free" + (": NOT ENOUGH" if needed > free else "")
    )
    shared_by = _shared_by(recipe, terms.processes)
    yield (
        f"memory     {quantity(MEMORY_BYTES[recipe.training.precision] * parameters / shared_by)}B of weights, "
        f"gradients and moments on each of {terms.processes:,} process{'es' if terms.processes > 1 else ''} "
        f"({recipe.training.precision}, shard: {recipe.parallel.shard}); activations come on top"
    )


def _shared_by(recipe: Recipe, processes: int) -> int:
    """Over how many processes each tensor is cut."""
    return {"full": processes, "none": 1, "hybrid": max(1, processes // (recipe.parallel.replicas or 1))}[
        recipe.parallel.shard
    ]


def _time(recipe: Recipe, tokens: int, terms: Terms) -> str:
    if terms.rate is not None:
        rate, where = terms.rate, "as you say"
    else:
        found = measured_rate([recipe.run_dir])
        if found is None:
            return "no rate has been measured in this run's directory; give one by --rate"
        rate, where = found[0], f"measured in {found[1]}"
    seconds = tokens / rate
    text = f"{duration(seconds)} at {quantity(rate)} tokens a second ({where}), evaluation not counted"
    return text if terms.price is None else f"{text}: {seconds / 3600 * terms.price:,.2f} at {terms.price:g} an hour"
