"""What exactly is global sample g: its documents by file and line, its text, and its targets beside its inputs.

`tsugiki sample` answers with it where an odd piece of text came from, and `tsugiki validate` shows a few samples before
training, so that a wrong template, BOS, EOS or shift is seen by eye. Everything is taken from the batch that training
would get, not computed a second time.
"""

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tsugiki.corpus.readable import readable
from tsugiki.corpus.windows import IGNORE, WindowReader
from tsugiki.errors import DataError
from tsugiki.printable import printable

if TYPE_CHECKING:
    from tsugiki.corpus.prepared import PreparedSource
    from tsugiki.corpus.tokenizer import TextTokenizer


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
    text: str  # of all sequence_length + 1 tokens, control tokens shown
    rows: list[Row]  # sequence_length of them


def describe_sample(reader: WindowReader, tokenizer: "TextTokenizer", sample: int) -> SampleAudit:
    """Look up global sample number `sample` (from 0) as training would read it."""
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
        )
        for index, (given, wanted) in enumerate(zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), strict=True))
    ]
    source = reader.sources[name]
    return SampleAudit(
        sample=sample,
        source=name,
        stage=int(drawn.stage[0]),
        epoch=int(drawn.epoch[0]),
        window=window,
        windows=reader.mixture.windows[name],
        draw=int(drawn.draw[0]),
        documents=documents_in_window(source, window * length, length + 1),
        text=tokenizer.decode(source.train.window(window, length).tolist()),
        rows=rows,
    )


def documents_in_window(source: "PreparedSource", first: int, count: int) -> list[DocumentPart]:
    """Documents that tokens first … first + count - 1 of a source's training store belong to, in their order."""
    starts = source.train.document_starts
    origins = source.train.documents
    low = int(np.searchsorted(starts, first, side="right")) - 1
    high = min(int(np.searchsorted(starts, first + count, side="left")), source.train.document_count)
    parts = []
    for document in range(low, high):
        begin, end = int(starts[document]), int(starts[document + 1])
        tokens = min(end, first + count) - max(begin, first)
        if tokens <= 0:  # a document without a token
            continue
        path, line = None, None
        if document < len(origins):
            file, files = int(origins[document]["file"]), source.manifest.files
            if file >= len(files):
                raise DataError(
                    f"{source.train.prefix}.documents.npy names file {file + 1} of {len(files)}: it was damaged, or is "
                    "of another store. Remove the folder and run tsugiki prepare"
                )
            path, line = files[file]["path"], int(origins[document]["line"])
        parts.append(
            DocumentPart(document, path, line, max(begin - first, 0), tokens, max(first - begin, 0), end - begin)
        )
    return parts


def render_sample(audit: SampleAudit, *, rows: int = 12, characters: int = 400) -> list[str]:
    """The audit as lines of text for a terminal.

    Shown are the first `rows` positions and those around the first place where a document ends, and the text's first
    `characters` characters.
    """
    lines = [
        f"sample {audit.sample:,}: source {audit.source}, window {audit.window:,} of {audit.windows:,}, "
        f"epoch {audit.epoch}, draw {audit.draw:,}, stage {audit.stage}"
    ]
    for part in audit.documents:
        extent = f"{part.tokens:,} of its {part.whole:,} tokens"
        if part.skipped:
            extent += f" (from its token {part.skipped:,} on)"
        lines.append(f"  from index {part.first:>5,}  {part.place}  {extent}")
    shortened = audit.text[:characters]
    lines += ["", *(f"  | {printable(line, {})}" for line in shortened.split("\n"))]
    if len(audit.text) > characters:
        lines.append(f"  | … ({len(audit.text) - characters:,} more characters)")
    lines += ["", *_table(audit, rows)]
    return lines


def _table(audit: SampleAudit, count: int) -> list[str]:
    """Inputs beside targets; "…" stands for positions left out."""
    shown = set(range(min(count, len(audit.rows))))
    if len(audit.documents) > 1:
        border = audit.documents[1].first
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
        lines.append(f"{place}{_pad(row.input, width)}  {'(not a target)' if row.ignored else row.target}")
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
