"""What the processes that tokenise do with records of conversations: read, render, mask, and count all of it."""

import json
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tsugiki.chat.conversations import Conversation, read_conversation
from tsugiki.chat.counts import Counts
from tsugiki.chat.generation_blocks import has_blocks, require_same_blocks
from tsugiki.chat.masks import ConversationEncoder, Sample
from tsugiki.corpus.buckets import in_order
from tsugiki.corpus.chat_source import conversation_encoder
from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_records import TokenisedConversation, as_records
from tsugiki.corpus.held_out import held_out_draw
from tsugiki.corpus.inputs import Batch, Counted, SourceDocuments
from tsugiki.corpus.json_lines import parse_object
from tsugiki.corpus.records import BadRecord, Reading
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.workers import odd_in
from tsugiki.errors import DataError, ModelError
from tsugiki.recipe import Recipe


@dataclass
class RenderedBatch:
    """What became of a batch of records."""

    records: NDArray[np.void]
    """CONVERSATION_RECORD, one a sample; `payload` as `as_records` lays it out."""
    payload: NDArray[np.int32]
    counts: Counts
    lengths: Counter[int]
    """How many conversations have so many tokens, before any was divided."""
    odd: Counter[str]
    counted: Counted
    """Bad ones are also records that are no conversation, or that the template refuses."""
    dropped: list[tuple[int, BadRecord]]
    """Conversations that lost exchanges which are too long."""


@dataclass
class ConversationWork:
    """Records become samples."""

    source: str
    how: Reading
    encoder: ConversationEncoder
    control: frozenset[int]
    """Ids that are no text."""

    @classmethod
    def of(cls, recipe: Recipe, documents: SourceDocuments, tokenizer: TextTokenizer) -> "ConversationWork":
        """Of a source of a recipe. Raises ModelError where template and tokenizer do not go together."""
        encoder = conversation_encoder(recipe, documents.name, tokenizer.folder)
        return cls(
            documents.name, documents.how, encoder, frozenset({encoder.end.id, *control_tokens(tokenizer).tolist()})
        )

    def start(self) -> None:
        """An encoder travels whole."""

    def __call__(self, batch: Batch) -> RenderedBatch:
        """Render a batch. Raises ModelError where the template's own generation blocks say otherwise than its masks."""
        counts, lengths, odd = Counts(), Counter[int](), Counter[str]()
        counted, names = Counted(), dict[int, str]()
        dropped: list[tuple[int, BadRecord]] = []
        samples: list[TokenisedConversation] = []
        compare = has_blocks(self.encoder.renderer.template.source)
        for file, name, record in batch.items(self.how, counted):
            names[file], line = name, record.line
            conversation = read_record(record.text, line)
            if isinstance(conversation, BadRecord):
                counted.bad.append((file, conversation))
                continue
            try:
                encoded = self.encoder.encode(conversation)
            except DataError as error:
                counted.bad.append((file, BadRecord("refused by the template", line, str(error))))
                continue
            if compare:
                self._compare_blocks(conversation, f"{name}:{line}")
            draw = held_out_draw(canonical(conversation))
            samples += [self._tokenised(sample, draw, file, line, part) for part, sample in enumerate(encoded.samples)]
            counts += encoded.counts
            lengths[encoded.longest] += 1
            said = "\n".join(message.content for message in conversation.messages)
            odd.update(odd_in(said, said.encode("utf-8")))
            if encoded.counts.exchanges_dropped:
                dropped.append((file, _too_long(encoded.counts.exchanges_dropped, line)))
        records, payload = in_order(*as_records(samples, self.source, names))
        return RenderedBatch(records, payload, counts, lengths, odd, counted, dropped)

    def _compare_blocks(self, conversation: Conversation, place: str) -> None:
        try:
            require_same_blocks(self.encoder, conversation)
        except ModelError as error:
            raise ModelError(f"{place}: {error}") from None

    def _tokenised(self, sample: Sample, draw: int, file: int, line: int, part: int) -> TokenisedConversation:
        """A sample as the store takes it. Sizes are those of its text: control tokens have none."""
        text = self._text(sample.ids)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], sample.weights > 0, [0]]))).tolist()
        trained = sum(self._bytes(sample.ids, *run) for run in zip(edges[::2], edges[1::2], strict=True))
        size = len(text.encode("utf-8"))
        return TokenisedConversation(sample.ids, sample.weights, draw, file, line, part, size, len(text), trained)

    def _text(self, ids: NDArray[np.int32]) -> str:
        return self.encoder.tokenizer.decode([token for token in ids.tolist() if token not in self.control])

    def _bytes(self, ids: NDArray[np.int32], start: int, end: int) -> int:
        """UTF-8 bytes of the text of ids[start:end] as it stands behind the token before it: alone, SentencePiece would
        drop a space that it begins with. (The first token of a sample has no weight, so that there is one.)"""
        whole, before = self._text(ids[start - 1 : end]), self._text(ids[start - 1 : start])
        return len(whole.encode("utf-8")) - len(before.encode("utf-8"))


def read_record(record: str, line: int) -> Conversation | BadRecord:
    """The conversation of a record's JSON, or what is wrong with it."""
    found = parse_object(record, line)
    if isinstance(found, BadRecord):
        return found
    try:
        return read_conversation(found)
    except DataError as error:
        return BadRecord("not a conversation", line, str(error))


def canonical(conversation: Conversation) -> bytes:
    """What the held-out draw is of: what is said and the tools that are offered, however the record writes it down, so
    that a conversation which stands twice falls on one side."""
    said = [[asdict(message) | {"weight": None} for message in conversation.messages], list(conversation.tools)]
    return json.dumps(said, sort_keys=True).encode()


def _too_long(count: int, line: int) -> BadRecord:
    exchanges = "an exchange" if count == 1 else f"{count} exchanges"
    return BadRecord("exchange too long", line, f"{exchanges} alone over data.sequence_length, left out")
