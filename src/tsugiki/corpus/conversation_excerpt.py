"""Conversations to be shown: the first ones of a source that is not prepared; those of a store, with their records read
again, and what of them the template has added."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsugiki.chat.conversations import Conversation
from tsugiki.chat.counts import Counts as ChatCounts
from tsugiki.chat.masks import ConversationEncoder, Sample
from tsugiki.chat.segments import Segment, segments
from tsugiki.corpus.conversation_store import ConversationStore, ConversationWriter
from tsugiki.corpus.conversation_work import ConversationWork, read_record
from tsugiki.corpus.held_out import CONVERSATIONS_MINIMUM, below, check_held_out, enough_to_hold_out
from tsugiki.corpus.inputs import SourceDocuments
from tsugiki.corpus.pack_table import make_packs
from tsugiki.corpus.prepare_chat import require_few_dropped
from tsugiki.corpus.prepared import Counts
from tsugiki.corpus.readers import format_of, read_documents
from tsugiki.corpus.records import BadRecord, Reading
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, TsugikiError
from tsugiki.recipe import Recipe, SourceSection


@dataclass(frozen=True)
class Extent:
    """How much of a source is looked at: `records` and `tokens` at least, about `size` bytes of text at most."""

    records: int
    tokens: int
    size: int


def excerpt_store(
    recipe: Recipe, tokenizer: TextTokenizer, documents: SourceDocuments, prefix: Path, extent: Extent
) -> ConversationStore:
    """A store, with packs, of a source's first conversations. Where that is the whole source it is judged as preparing
    will. Raises DataError where it cannot be used."""
    name, length = documents.name, recipe.data.sequence_length
    work = ConversationWork.of(recipe, documents, tokenizer)
    writer = ConversationWriter(prefix, tokenizer.vocabulary_size)
    work.start()
    counts, dropped, found = ChatCounts(), list[str](), list[np.ndarray]()
    filled = size = 0
    for batch in documents.batches():
        rendered = work(batch)
        documents.take(batch, rendered.counted)
        dropped += [f"{documents.files[file].path}:{record.line}: {record.detail}" for file, record in rendered.dropped]
        records = rendered.records
        writer.add(records, np.cumsum(records["length"], dtype=np.int64) - records["length"], rendered.payload)
        counts += rendered.counts
        found.append(records)
        filled, size = filled + int(records["tokens"].sum()), size + int(records["bytes"].sum())
        if (documents.seen >= extent.records and filled > extent.tokens) or size >= extent.size:
            break
    else:
        documents.check()
        require_few_dropped(name, counts, length, dropped)
        share, every = recipe.held_out_share(name), np.concatenate(found)
        chosen = every[below(every["draw"], share)]
        if share > 0:
            held_out = Counts(documents=len(chosen), bytes=int(chosen["bytes"].sum()))
            smallest = enough_to_hold_out(every, CONVERSATIONS_MINIMUM)
            check_held_out(name, held_out, smallest, CONVERSATIONS_MINIMUM)
    if not filled:
        first = documents.bad_examples[0] if documents.bad_examples else "all are too long"
        raise DataError(f"source {name}: no conversation can be read from it. {first}")
    writer.close()
    store = ConversationStore(prefix)
    make_packs(store, length, divide=False)
    return store


def read_again(
    encoder: ConversationEncoder,
    source: SourceSection,
    store: ConversationStore,
    files: Sequence[str],
    conversations: Sequence[int],
) -> list[tuple[Conversation, Sample] | None]:
    """Conversations of a store, by index, from their records, each with the sample that it is. `files`: the paths that
    the store's were read from. None where a record is not there any more, or not what it was."""
    places = [(int(row["file"]), int(row["line"])) for row in store.documents()[np.array(conversations, np.int64)]]
    records = {
        file: _records(source, Path(files[file]), {line for other, line in places if other == file})
        for file in {file for file, _ in places}
    }
    return [
        _encoded_again(encoder, store, index, records[file].get(line))
        for index, (file, line) in zip(conversations, places, strict=True)
    ]


def template_segments(
    encoder: ConversationEncoder,
    source: SourceSection,
    store: ConversationStore,
    files: Sequence[str],
    conversations: Sequence[int],
) -> list[list[Segment] | None]:
    """What of conversations of a store the template has added, and what messages say; None where `read_again` gives
    none."""
    return [
        None if again is None else _segments(encoder, *again)
        for again in read_again(encoder, source, store, files, conversations)
    ]


def _records(source: SourceSection, path: Path, lines: set[int]) -> dict[int, str]:
    """The records of some lines of a file, as JSON."""
    found: dict[int, str] = {}
    try:
        how = Reading(source.text_key, source.encoding, max_bytes=2**62, as_records=True)
        for item in read_documents(path, format_of(path, source.format), how):
            if item.line in lines and not isinstance(item, BadRecord):
                found[item.line] = item.text
            if item.line >= max(lines):
                break
    except TsugikiError:
        pass  # moved, changed, or of a hub: what is trained can be shown all the same
    return found


def _encoded_again(
    encoder: ConversationEncoder, store: ConversationStore, index: int, record: str | None
) -> tuple[Conversation, Sample] | None:
    conversation = None if record is None else read_record(record, 0)
    if conversation is None or isinstance(conversation, BadRecord):
        return None
    part = int(store.rows[index]["part"])
    try:
        samples = encoder.encode(conversation).samples
    except DataError:
        return None
    if part >= len(samples) or not np.array_equal(samples[part].ids, store.document(index)):
        return None
    return conversation, samples[part]


def _segments(encoder: ConversationEncoder, conversation: Conversation, sample: Sample) -> list[Segment] | None:
    try:
        return segments(encoder.renderer, sample.messages, conversation.tools, conversation.template_kwargs)
    except DataError:
        return None
