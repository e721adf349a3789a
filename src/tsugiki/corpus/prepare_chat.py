"""A chat source becomes its two stores: conversations rendered and masked, in the order of their hash, and packed."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from tsugiki.chat.counts import Counts as ChatCounts
from tsugiki.corpus.buckets import Buckets, bits_for
from tsugiki.corpus.conversation_figures import ChatManifest, length_figures
from tsugiki.corpus.conversation_records import CONVERSATION_RECORD
from tsugiki.corpus.conversation_store import ConversationStore, ConversationWriter
from tsugiki.corpus.conversation_work import ConversationWork
from tsugiki.corpus.fingerprint import fingerprint
from tsugiki.corpus.held_out import CONVERSATIONS_MINIMUM
from tsugiki.corpus.inputs import EXAMPLES, SourceDocuments
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.prepared import PARTS, Counts, SourceManifest
from tsugiki.corpus.store_parts import write_parts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.workers import tokenise_batches
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe

MOST_DROPPED = 0.01
"""Share of exchanges that may be too long for a window before preparing stops."""


def write_conversations(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, work: Path, documents: SourceDocuments
) -> SourceManifest:
    """Write both stores and the table of packs into `work`; returns the manifest, without digests.

    Raises DataError for too many records that are no conversation, or too many exchanges that are too long.
    """
    rendering, length = ConversationWork.of(recipe, documents, tokenizer), recipe.data.sequence_length
    encoder = rendering.encoder
    buckets = Buckets(work, bits_for(documents.expected_bytes), record=CONVERSATION_RECORD)
    counts, lengths, odd = ChatCounts(), Counter[int](), Counter[str]()
    dropped: list[str] = []
    results = tokenise_batches(documents.batches(), rendering, recipe.data.workers)
    with closing(buckets), closing(results):  # an error here ends the processes too, which would wait for work
        for batch, rendered in results:
            buckets.add(rendered.records, rendered.payload)
            counts += rendered.counts
            lengths.update(rendered.lengths)
            odd.update(rendered.odd)
            documents.take(batch, rendered.counted)
            for file, record in rendered.dropped:
                documents.list_left_out(file, record)
                dropped.append(f"{documents.files[file].path}:{record.line}: {record.detail}")
            del dropped[EXAMPLES:]
    documents.check()
    require_few_dropped(name, counts, length, dropped)
    manifest = SourceManifest(
        name=name, fingerprint=fingerprint(recipe, name, tokenizer, documents.every_record()),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=False,
        add_eos=False, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=documents.every_record(), train=Counts(),
        held_out=Counts(), bad=documents.bad, bad_examples=documents.bad_examples, odd=dict(sorted(odd.items())),
    )  # fmt: skip
    writers = {part: ConversationWriter(work / part, tokenizer.vocabulary_size) for part in PARTS}
    write_parts(buckets.sorted_documents(), writers, manifest, recipe.held_out_share(name), CONVERSATIONS_MINIMUM)
    buckets.remove()
    train, held_out = (ConversationStore(work / part, manifest.stores[part]) for part in PARTS)
    manifest.chat = ChatManifest(
        template=encoder.renderer.template.name, end_token=encoder.end.piece, end_id=encoder.end.id,
        sequence_length=length, lengths=length_figures(lengths, length), counts=asdict(counts),
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
