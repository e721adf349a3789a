"""Conversations made of numbers, and stores of them written as preparing writes them."""

from collections.abc import Sequence
from pathlib import Path

from tsugiki.corpus.buckets import Buckets, in_order
from tsugiki.corpus.conversation_records import CONVERSATION_RECORD, TokenisedConversation, as_records
from tsugiki.corpus.conversation_store import ConversationStore, ConversationWriter

FILES = ["a.jsonl", "b.jsonl"]


def conversation(line: int, size: int, trained: int, first: int = 3, vocabulary: int = 80) -> TokenisedConversation:
    """`size` tokens that follow one another from `first` + line on, of which the last `trained` are learnt."""
    ids = [first + (line + place) % (vocabulary - first) for place in range(size)]
    return TokenisedConversation(ids, [0.0] * (size - trained) + [1.0] * trained, draw=0, file=0, line=line)


def write_conversations(
    folder: Path,
    conversations: Sequence[TokenisedConversation],
    batch: int = 3,
    vocabulary: int = 70_000,
    bits: int = 0,
) -> ConversationStore:
    """A store `folder`/train, `batch` conversations at a time through 2^bits buckets."""
    folder.mkdir(exist_ok=True)
    buckets = Buckets(folder, bits, record=CONVERSATION_RECORD)
    for start in range(0, len(conversations), batch):
        buckets.add(*in_order(*as_records(conversations[start : start + batch], "chat", FILES)))
    writer = ConversationWriter(folder / "train", vocabulary)
    for records, starts, payload in buckets.sorted_documents():
        writer.add(records, starts, payload)
    writer.close()
    buckets.remove()
    return ConversationStore(folder / "train")
