"""The table of scores in a terminal, as Markdown and as JSON. Names and reasons are data: never read as markup."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tsugiki.evaluation.table import Block, Cell, Row, ScoreTable
from tsugiki.evaluation_files import MissingTask, TaskResult
from tsugiki.printable import markdown, markdown_table, one_line
from tsugiki.statistics import Interval

AGAINST = "− "
"""Before the baseline's name, on the line that holds a model's differences to it."""
NAME, COLUMN, WIDEST = 24, 10, 20
"""Characters of a terminal's line for the name, at least, and for a column of figures: as many as the longest word of
its heading asks for, within these two."""


def draw(table: ScoreTable, width: int = 120) -> Group:
    """The table as a terminal of `width` columns shows it: a block a language, two lines a row. A block that is too
    wide goes on below itself."""
    parts: list[RenderableType] = []
    for block in table.blocks:
        for columns in _fitting(_headings(block), width - NAME):
            parts += [_drawn_block(table, block, columns), Text("")]
    return Group(*parts, *(Text(one_line(note)) for note in table.notes))


def _width(heading: str) -> int:
    return min(max(COLUMN, *(cell_len(word) + 2 for word in heading.split())), WIDEST)


def _fitting(headings: Sequence[str], width: int) -> Iterator[slice]:
    """The columns in runs of at most `width` characters, one column at least."""
    start = used = 0
    for number, heading in enumerate(headings):
        if used and used + _width(heading) > width:
            yield slice(start, number)
            start, used = number, 0
        used += _width(heading)
    yield slice(start, len(headings))


def _drawn_block(table: ScoreTable, block: Block, columns: slice) -> Table:
    title = f"{block.name}, suite {one_line(table.suite)}" + (", continued" if columns.start else "")
    drawn = Table(title=Text(title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    drawn.add_column("model", overflow="fold")
    for heading in _headings(block)[columns]:
        drawn.add_column(Text(heading), justify="right", min_width=7, max_width=_width(heading) - 2, overflow="fold")
    published = False
    for row in _rows(table, block):
        if row.published and not published:
            drawn.add_section()
            drawn.add_row(Text("published:", style="italic"))
        published = row.published
        cells = _cells(row, block)[columns]
        drawn.add_row(Text(one_line(row.name)), *map(_drawn_score, cells))
        if any(cell.difference for cell in cells):
            against = Text(f"{AGAINST}{one_line(table.baseline or '')}", style="dim")
            drawn.add_row(against, *map(_drawn_difference, cells))
    return drawn


def _drawn_score(cell: Cell) -> Text:
    if cell.score is None:
        return Text(_absent(cell))
    return _on_two_lines(f"{cell.score.estimate:.3f}{'†' if cell.dagger else ' '}", "", cell.score)


def _drawn_difference(cell: Cell) -> Text:
    if cell.difference is None:
        return Text("")
    better = (cell.difference.estimate > 0) == cell.higher_is_better
    style = "" if not _mark(cell.difference) else "bold green" if better else "bold red"
    return _on_two_lines(f"{cell.difference.estimate:+z.3f}{_mark(cell.difference) or ' '}", style, cell.difference)


def _on_two_lines(figure: str, style: str, interval: Interval) -> Text:
    below = "" if interval.limits() is None else f"\n±{interval.half_width:.3f} "
    return Text.assemble((figure, style), (below, "dim"))


def to_markdown(table: ScoreTable) -> str:
    """The same as Markdown (tables as GitHub reads them)."""
    blocks = []
    for block in table.blocks:
        headings = ["model", *map(markdown, _headings(block))]
        lines = []
        for row in _rows(table, block):
            cells = _cells(row, block)
            lines.append([markdown(row.name) + (" (published)" if row.published else ""), *map(_written_score, cells)])
            if any(cell.difference for cell in cells):
                lines.append([AGAINST + markdown(table.baseline or ""), *map(_written_difference, cells)])
        blocks.append(f"### {block.name}, suite {markdown(table.suite)}")
        blocks.append(markdown_table(headings, lines, texts=1))
    return "\n\n".join([*blocks, "\n".join(f"- {markdown(note)}" for note in table.notes)]) + "\n"


def _written_score(cell: Cell) -> str:
    if cell.score is None:
        return _absent(cell)
    return f"{cell.score.estimate:.3f}{'†' if cell.dagger else ''}{_reach(cell.score)}"


def _written_difference(cell: Cell) -> str:
    if cell.difference is None:
        return ""
    mark, figure = _mark(cell.difference), f"{cell.difference.estimate:+z.3f}"
    return (f"**{mark} {figure}**" if mark else figure) + _reach(cell.difference)


def _reach(interval: Interval) -> str:
    return "" if interval.limits() is None else f" ±{interval.half_width:.3f}"


def to_json(table: ScoreTable) -> dict[str, Any]:
    """The same for programs, with full figures and both limits of every interval."""
    return {
        "suite": table.suite,
        "form": table.form,
        "baseline": table.baseline,
        "languages": [
            {"language": block.language, "tasks": dict(block.titles), "averaged": list(block.averaged)}
            for block in table.blocks
        ],
        "rows": [
            {
                "name": row.name, "published": row.published,
                "tasks": {name: _json_cell(cell) for name, cell in row.cells.items()},
                "averages": {language: _json_cell(cell) for language, cell in row.averages.items()},
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }  # fmt: skip


def _json_cell(cell: Cell) -> dict[str, Any]:
    facts: dict[str, Any] = {"score": cell.score.estimate if cell.score else None}
    if cell.score:
        facts["interval"] = cell.score.limits()
    if cell.difference:
        facts["difference"] = {
            "estimate": cell.difference.estimate,
            "interval": cell.difference.limits(),
            "outside_zero": cell.difference.outside_zero,
        }
    if isinstance(cell.task, TaskResult):
        facts |= {
            "metric": cell.task.metric, "items": len(cell.task.ids), "total": cell.task.total,
            "shots": cell.task.shots, "comparable": not cell.dagger,
        }  # fmt: skip
    elif isinstance(cell.task, MissingTask):
        facts["missing"] = cell.task.reason
    return facts


def _headings(block: Block) -> list[str]:
    """Of the columns."""
    titles = [one_line(title) for title in block.titles.values()]
    average = f"average\nof {len(block.averaged)}" if block.averaged else "average"
    return [average, *titles] if block.has_average else titles


def _rows(table: ScoreTable, block: Block) -> list[Row]:
    """Without published rows that have nothing in these columns."""
    return [row for row in table.rows if not row.published or any(cell.score for cell in _cells(row, block))]


def _cells(row: Row, block: Block) -> Sequence[Cell]:
    cells = [row.cells[name] for name in block.titles]
    return [row.averages[block.language], *cells] if block.has_average else cells


def _absent(cell: Cell) -> str:
    """A set that is missing shows as a dash; what was not asked for, or has no average, as nothing."""
    return "–" if isinstance(cell.task, MissingTask) else ""


def _mark(difference: Interval) -> str:
    return "" if not difference.outside_zero else "▲" if difference.estimate > 0 else "▼"
