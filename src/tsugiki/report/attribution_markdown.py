"""An attribution's page as Markdown, for a repository or an issue: the same but for the charts."""

from collections.abc import Iterator
from pathlib import Path

from tsugiki.printable import markdown, markdown_table
from tsugiki.report.attribution_facts import (
    AttributionFolder,
    Entry,
    FactTable,
    answers,
    cell_table,
    change_table,
    changes,
    correlation_table,
    effect_table,
    failed_table,
    level_table,
    matrix_table,
    setting,
    spike_table,
)


def make_attribution_markdown(folder: AttributionFolder) -> str:
    """The Markdown of an attribution."""
    return "\n\n".join(_parts(folder)) + "\n"


def _parts(folder: AttributionFolder) -> Iterator[str]:
    result, found = folder.result, folder.result.attribution
    yield f"# Attribution: {markdown(Path(result.experiment).name)}"
    for title, lines in [*answers(result), ("To be known", list(result.remarks()))]:
        if lines:
            yield f"{markdown(title)}:"
            yield "\n".join(f"- {markdown(line)}" for line in lines)
    yield markdown("; ".join(f"{name}: {value}" for name, value in setting(result)) + ".")
    tables: list[FactTable | None] = []
    if found is not None:
        yield f"Method: {markdown(found.method)}"
        tables += [change_table(title, of_it, found) for title, of_it in changes(found)]
        tables += [effect_table(found), level_table(found)]
    if result.transfer is not None:
        tables.append(matrix_table(result.transfer))
    if result.cells:
        tables.append(cell_table(result))
    tables += [correlation_table(result), spike_table(result), failed_table(result)]
    for table in tables:
        if table is not None:
            yield from _table(table)


def _table(found: FactTable) -> Iterator[str]:
    yield f"## {markdown(found.caption)}"
    rows = [[_entry(cell) for cell in row] for row in found.rows]
    yield markdown_table([markdown(", ".join(lines)) for lines in found.headings], rows, texts=found.names)
    yield from map(markdown, found.notes)


def _entry(cell: Entry) -> str:
    if cell is None:
        return ""
    return markdown(cell if isinstance(cell, str) else f"{cell.value} {cell.reach}")
