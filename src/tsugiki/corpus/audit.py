"""What exactly is global sample g: its documents by file and line, its text, and its targets beside its inputs.

`tsugiki sample` answers with it where an odd piece of text came from, and `tsugiki validate` shows a few samples before
training, so that a wrong template, BOS, EOS, mask or shift is seen by eye. Everything is taken from the batch that
training would get, not computed a second time. (What of a conversation the template has added is not in a store: who
calls says it.)
"""

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tsugiki.chat.segments import Segment
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.conversation_text import LEGEND, MarkedLine, Span, conversation_lines, marked_spans
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.readable import readable
from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.errors import DataError
from tsugiki.printable import printable

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource
    from tsugiki.corpus.tokenizer import TextTokenizer


UNTOLD = "; its record is not there as it was, so what the template adds is not marked"


@dataclass(frozen=True)
class DocumentPart:
    """The part of a document that lies in a window."""

    document: int  # index in the source's store
    path: str | None  # source file; None for a store whose side file is missing
    line: int | None  # line or row in it, from 1
    first: int  # index in the window of its first token there
    tokens: int  # how many of its tokens are in the window
    skipped: int  # how many of its tokens lie before the window
    whole: int  # tokens of the whole document

    @property
    def place(self) -> str:
        """File and line as editors open them."""
        return f"document {self.document:,} of the store" if self.path is None else f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Row:
    """One position of a window: what the model reads and what it shall predict."""

    index: int
    input: str
    target: str  # "" where ignored
    ignored: bool
    position: int | None  # position given to the model, when documents are isolated
    weight: float = 1.0  # of the target in the loss


@dataclass(frozen=True)
class SampleAudit:
    """Everything about one global sample."""

    sample: int
    source: str
    stage: int
    epoch: int
    window: int
    windows: int  # of the source
    draw: int  # windows drawn from the source before
    documents: list[DocumentPart]
    text: str  # of all sequence_length + 1 tokens, without padding, control tokens shown
    rows: list[Row]  # sequence_length of them
    packed: bool = False  # whether the window is a pack
    conversations: list[list[Span]] | None = None  # of a pack of them, in the order of `documents`


@dataclass(frozen=True)
class ChatReading:
    """What it takes to show conversations: their tokenizer, and what the template has added to one of them."""

    tokenizer: ChatTokenizer
    segments: Callable[[str, Sequence[int]], Sequence[list[Segment] | None]]
    """Of conversations of a source, by their indices in its training store; None where that is not known."""


def describe_sample(
    reader: WindowReader, tokenizer: "TextTokenizer", sample: int, chat: ChatReading | None = None
) -> SampleAudit:
    """Look up global sample number `sample` (from 0) as training would read it. `chat`: where sources are chats."""
    batch = reader.read(sample)
    drawn = batch.drawn
    name = reader.mixture.names[int(drawn.source[0])]
    window, length = int(drawn.window[0]), reader.sequence_length
    rows = [
        Row(
            index,
            readable(tokenizer, given),
            "" if wanted == IGNORE else readable(tokenizer, wanted),
            wanted == IGNORE,
            None if batch.positions is None else int(batch.positions[0, index]),
            1.0 if batch.weights is None else float(batch.weights[0, index]),
        )
        for index, (given, wanted) in enumerate(zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), strict=True))
    ]
    source = reader.sources[name]
    store, conversations = source.train, None
    if isinstance(store, PackedStore):
        documents = documents_in_pack(source, store, window, length)
        if isinstance(store, ConversationStore) and chat is not None:
            of_template = chat.segments(name, [part.document for part in documents])
            conversations = [
                marked_spans(chat.tokenizer, store.document(part.document), store.weights(part.document), segments)
                for part, segments in zip(documents, of_template, strict=True)
            ]
    else:
        documents = documents_in_window(source, window * length, length + 1)
    used = sum(part.tokens for part in documents)
    shown = used if used < length else length + 1  # what is behind the last document of a pack is padding
    return SampleAudit(
        sample=sample,
        source=name,
        stage=int(drawn.stage[0]),
        epoch=int(drawn.epoch[0]),
        window=window,
        windows=reader.mixture.windows[name],
        draw=int(drawn.draw[0]),
        documents=documents,
        text=tokenizer.decode(store.window(window, length)[:shown].tolist()),
        rows=rows,
        packed=isinstance(store, PackedStore),
        conversations=conversations,
    )


def documents_in_pack(source: "PreparedSource", store: PackedStore, pack: int, length: int) -> list[DocumentPart]:
    """The documents of a pack, or conversations, in their order."""
    parts, at = [], 0
    for piece in store.pieces(pack, length):
        begin, end = store.document_starts[piece.document : piece.document + 2].tolist()
        (place,) = _places(source, piece.document, piece.document + 1)
        parts.append(DocumentPart(piece.document, *place, at, piece.tokens, piece.first, end - begin))
        at += piece.tokens
    return parts


def documents_in_window(source: "PreparedSource", first: int, count: int) -> list[DocumentPart]:
    """Documents that tokens first … first + count - 1 of a source's training store belong to, in their order."""
    starts = source.train.document_starts
    low = bisect_right(starts, first) - 1
    high = min(bisect_left(starts, first + count), source.train.document_count)
    bounds, parts = starts[low : high + 1].tolist(), []
    for document, place, begin, end in zip(
        range(low, high), _places(source, low, high), bounds[:-1], bounds[1:], strict=True
    ):
        tokens = min(end, first + count) - max(begin, first)
        if tokens <= 0:  # a document without a token
            continue
        parts.append(DocumentPart(document, *place, max(begin - first, 0), tokens, max(first - begin, 0), end - begin))
    return parts


def _places(source: "PreparedSource", first: int, last: int) -> list[tuple[str | None, int | None]]:
    """File and line of training documents `first` … `last` - 1, where they are known."""
    files = source.manifest.files
    places: list[tuple[str | None, int | None]] = []
    for origin in source.train.documents(first, last):
        file = int(origin["file"])
        if file >= len(files):
            raise DataError(
                f"{source.train.prefix}: .documents.npy names file {file + 1} of {len(files)}: damaged, or of another "
                "store. Run tsugiki prepare RECIPE --verify"
            )
        places.append((files[file]["path"], int(origin["line"])))
    return places or [(None, None)] * (last - first)


def render_sample(audit: SampleAudit, *, rows: int = 12, characters: int = 400) -> list[str | MarkedLine]:
    """The audit as lines for a terminal.

    Shown are the first `rows` positions and those around the first places where a document ends or training begins,
    and the text's first `characters` characters; of a pack, whole conversations until there are so many.
    """
    kind = "pack" if audit.packed else "window"
    lines: list[str | MarkedLine] = [
        f"sample {audit.sample:,}: source {audit.source}, {kind} {audit.window:,} of {audit.windows:,}, "
        f"epoch {audit.epoch}, draw {audit.draw:,}, stage {audit.stage}"
    ]
    if audit.conversations is not None:
        return [*lines, *_pack(audit, audit.conversations, characters), "", *_table(audit, rows)]
    for part in audit.documents:
        extent = f"{part.tokens:,} of its {part.whole:,} tokens"
        if part.skipped:
            extent += f" (from its token {part.skipped:,} on)"
        lines.append(f"  from index {part.first:>5,}  {part.place}  {extent}")
    if audit.packed and (padding := len(audit.rows) - sum(part.tokens for part in audit.documents)):
        lines.append(f"  from index {len(audit.rows) - padding:>5,}  padding")
    shortened = audit.text[:characters]
    lines += ["", *(f"  | {printable(line, {})}" for line in shortened.split("\n"))]
    if len(audit.text) > characters:
        lines.append(f"  | … ({len(audit.text) - characters:,} more characters)")
    lines += ["", *_table(audit, rows)]
    return lines


def _pack(audit: SampleAudit, conversations: list[list[Span]], characters: int) -> list[str | MarkedLine]:
    """Conversations with what is trained, and what the template adds, marked."""
    used = sum(part.tokens for part in audit.documents)
    trained = sum(not row.ignored for row in audit.rows)
    headings = [
        f"  from index {part.first:>5,}  {part.place}  {part.tokens:,} tokens{'' if _told(spans) else UNTOLD}"
        for part, spans in zip(audit.documents, conversations, strict=True)
    ]
    return [
        f"  {used:,} of {len(audit.rows):,} positions hold {len(conversations):,} conversations; {trained:,} targets",
        LEGEND,
        *conversation_lines(headings, conversations, characters),
    ]


def _told(spans: Sequence[Span]) -> bool:
    return any(span.added for span in spans)


def _table(audit: SampleAudit, count: int) -> list[str]:
    """Inputs beside targets; "…" stands for positions left out."""
    shown = set(range(min(count, len(audit.rows))))
    borders = [audit.documents[1].first] if len(audit.documents) > 1 else []
    if audit.conversations is not None:
        trained = [row.index for row in audit.rows if not row.ignored]
        ends = [one for one, following in pairwise(trained) if following != one + 1]
        borders = [*trained[:1], *(ends or trained[-1:])[:1]]
        shown = set(range(min(2, len(audit.rows))))
    for border in borders:
        shown |= set(range(max(border - 3, 0), min(border + 3, len(audit.rows))))
    with_positions = audit.rows[0].position is not None
    width = max([5, *(display_width(audit.rows[index].input) for index in shown)])
    header = f"  {'index':>6}  {'position':>8}  " if with_positions else f"  {'index':>6}  "
    lines = [f"{header}{_pad('input', width)}  target"]
    last = -1
    for index in sorted(shown):
        if index != last + 1:
            lines.append(f"  {'…':>6}")
        row = audit.rows[index]
        place = f"  {row.index:>6}  {row.position:>8}  " if with_positions else f"  {row.index:>6}  "
        weight = f"  (weight {row.weight:g})" if row.weight not in (0, 1) else ""
        lines.append(f"{place}{_pad(row.input, width)}  {'(not a target)' if row.ignored else row.target + weight}")
        last = index
    if last != len(audit.rows) - 1:
        lines.append(f"  {'…':>6}")
    return lines


def display_width(text: str) -> int:
    """Columns that a text takes in a terminal: Japanese characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def _pad(text: str, width: int) -> str:
    return text + " " * max(width - display_width(text), 0)
