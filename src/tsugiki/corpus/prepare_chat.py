"""A chat source becomes its two stores: conversations rendered and masked, in the order of their hash, and packed."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from tsugiki.chat.counts import Counts as ChatCounts
from tsugiki.corpus.buckets import Buckets
from tsugiki.corpus.conversation_figures import ChatManifest, length_figures
from tsugiki.corpus.conversation_records import CONVERSATION_RECORD
from tsugiki.corpus.conversation_store import ConversationStore, ConversationWriter
from tsugiki.corpus.conversation_work import ConversationWork
from tsugiki.corpus.fingerprint import fingerprint
from tsugiki.corpus.held_out import CONVERSATIONS_MINIMUM
from tsugiki.corpus.inputs import EXAMPLES, WHOLE, SourceDocuments
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.prepared import PARTS, Counts, SourceManifest
from tsugiki.corpus.store_parts import write_parts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.unfinished import Saver, UnfinishedChat, begin_or_go_on, gone_on_with, key_of
from tsugiki.corpus.workers import tokenise_batches
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe

MOST_DROPPED = 0.01
"""Share of exchanges that may be too long for a window before preparing stops."""


@dataclass(frozen=True)
class _ChatSource:
    """All that the steps of its preparation have in common."""

    recipe: Recipe
    tokenizer: TextTokenizer
    documents: SourceDocuments
    work: ConversationWork
    folder: Path
    """Where stores are written, and what waits for them."""


def write_conversations(
    recipe: Recipe, tokenizer: TextTokenizer, folder: Path, documents: SourceDocuments
) -> SourceManifest:
    """Write both stores and the table of packs into `folder`, going on with what an interrupted call has left there;
    returns the manifest, without digests.

    Raises DataError for too many records that are no conversation, or too many exchanges that are too long.
    """
    work = ConversationWork.of(recipe, documents, tokenizer)
    source = _ChatSource(recipe, tokenizer, documents, work, folder)
    with gone_on_with(folder):
        state, buckets = _render(source)
        manifest = _write_stores(source, state, buckets)
        buckets.remove()
    return manifest


def _render(source: _ChatSource) -> tuple[UnfinishedChat, Buckets]:
    """All samples in buckets, and what else was found of the conversations; goes on with what an interrupted call has
    left in the folder."""
    recipe, documents = source.recipe, source.documents
    # The length of a window is not part of the fingerprint, but decides what is divided.
    asked = f"{fingerprint(recipe, documents.name, source.tokenizer, [])} {recipe.data.sequence_length}"
    state = begin_or_go_on(source.folder, key_of(asked, documents, WHOLE), documents, UnfinishedChat)
    buckets = Buckets(source.folder, state.bits, record=CONVERSATION_RECORD, sizes=state.sizes or None)
    lengths, odd = Counter(state.lengths), Counter(state.odd)
    saver = Saver(state, source.folder, buckets, documents)
    results = tokenise_batches(documents.batches(state.position), source.work, recipe.data.workers)
    with closing(buckets), closing(results):  # an error here ends the processes too, which would wait for work
        for batch, rendered in results:
            buckets.add(rendered.records, rendered.payload)
            lengths.update(rendered.lengths)
            odd.update(rendered.odd)
            documents.take(batch, rendered.counted)
            for file, record in rendered.dropped:
                documents.list_left_out(file, record)
                state.dropped.append(f"{documents.files[file].path}:{record.line}: {record.detail}")
            del state.dropped[EXAMPLES:]
            state.counts += rendered.counts
            state.lengths, state.odd = dict(lengths), dict(odd)
            saver.reached(batch.end)
    return state, buckets


def _write_stores(source: _ChatSource, state: UnfinishedChat, buckets: Buckets) -> SourceManifest:
    """Both stores and the table of packs, of what is in the buckets; the manifest, without digests."""
    recipe, tokenizer, documents = source.recipe, source.tokenizer, source.documents
    name, encoder, length = documents.name, source.work.encoder, recipe.data.sequence_length
    documents.check()
    require_few_dropped(name, state.counts, length, state.dropped)
    manifest = SourceManifest(
        name=name, fingerprint=fingerprint(recipe, name, tokenizer, documents.every_record()),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=False,
        add_eos=False, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=documents.every_record(), train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples, odd=dict(sorted(state.odd.items())),
    )  # fmt: skip
    writers = {part: ConversationWriter(source.folder / part, tokenizer.vocabulary_size) for part in PARTS}
    write_parts(buckets.sorted_documents(), writers, manifest, recipe.held_out_share(name), CONVERSATIONS_MINIMUM)
    train, held_out = (ConversationStore(source.folder / part, manifest.stores[part]) for part in PARTS)
    manifest.chat = ChatManifest(
        template=encoder.renderer.template.name, end_token=encoder.end.piece, end_id=encoder.end.id,
        sequence_length=length, lengths=length_figures(state.lengths, length), counts=asdict(state.counts),
        trained_tokens={"train": train.trained_tokens, "held_out": held_out.trained_tokens},
        packs=len(make_packs(train, length, divide=False)),
    )  # fmt: skip
    return manifest


def require_few_dropped(name: str, counts: ChatCounts, length: int, examples: list[str]) -> None:
    """Raise DataError where so many exchanges are too long that what is left is another data set."""
    exchanges = counts.turns + counts.turns_left_out + counts.exchanges_dropped
    if counts.exchanges_dropped > MOST_DROPPED * exchanges:
        raise DataError(
            f"source {name}: {counts.exchanges_dropped:,} of {exchanges:,} exchanges are longer than "
            f"data.sequence_length ({length:,} tokens) and would be left out, more than {MOST_DROPPED:.0%}: raise it, "
            "or take them out of the source. First of them:\n  " + "\n  ".join(examples)
        )
