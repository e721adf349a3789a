"""The page of an attribution: the answers in words, changes in parts, effects, transfer, cells, correlations, spikes,
plan and runs."""

from collections.abc import Iterator
from pathlib import Path

from tsugiki import __version__
from tsugiki.attribution_results import AttributionResult
from tsugiki.pages.document import Section, document, section
from tsugiki.pages.markup import Markup, Part, element, join, joined
from tsugiki.pages.table import Column, facts, table
from tsugiki.report.attribution_charts import cell_charts, change_charts, matrices
from tsugiki.report.attribution_facts import (
    AttributionFolder,
    Entry,
    FactTable,
    answers,
    cell_table,
    certain_effects,
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
from tsugiki.report.experiment_folder import stacked, written
from tsugiki.report.parts import heading, paragraph

NAME = 40
"""Letters of a row's name that stand on one line."""
BY_ITSELF = (
    "Each chart has its own scale. Bars: 95 % intervals, each by itself; what is called noise contains 0. The "
    "parts and the rest add up to the whole."
)


def make_attribution_page(folder: AttributionFolder, output: Path) -> str:
    """The HTML page; its links lead from `output`, the folder that it will lie in."""
    result = folder.result
    name = Path(result.experiment).name
    return document(
        f"Attribution: {name}", list(_sections(folder, output)), lead=_lead(result),
        foot=f"Made by Tsugiki {__version__} from {name}. This page needs no network.",
    )  # fmt: skip


def _lead(result: AttributionResult) -> Markup:
    said = [part for title, lines in answers(result) for part in (paragraph(f"{title}:", "lead"), _list(lines))]
    method = result.attribution.method if result.attribution else None
    return join(
        *said,
        *(paragraph(_sentence(remark), "warning") for remark in result.remarks()),
        facts(setting(result)),
        paragraph(f"Method: {method}", "soft") if method else None,
    )


def _sections(folder: AttributionFolder, output: Path) -> Iterator[Section]:
    result, found = folder.result, folder.result.attribution
    if found is not None and found.decompositions:
        parts: list[Part] = []
        for title, of_it in changes(found):
            parts += [heading(title), _table(change_table(title, of_it, found)), change_charts(of_it, found)]
        yield section("The change in parts", *parts, paragraph(BY_ITSELF, "note"))
    if found is not None:
        certain = _list(certain_effects(found)) if found.decompositions else None
        yield section("Effects", certain, _table(effect_table(found)), _table(level_table(found), captioned=True))
    if result.transfer is not None:
        yield section("What each source does", *matrices(result.transfer), _table(matrix_table(result.transfer)))
    if result.cells:
        charts = cell_charts(result) if any(cell.means for cell in result.cells) else ()
        yield section("Cells", _table(cell_table(result)), *charts)
    together = correlation_table(result)
    if together is not None:
        words = [paragraph(one.words) for one in result.correlations]
        yield section("Do metrics move together?", *words, _table(together))
    spikes = spike_table(result)
    if spikes is not None:
        yield section("Spikes", _table(spikes))
    yield section(
        "Before anything ran", paragraph(_sentence(result.probe.words)),
        element("details", element("summary", "the plan as it was printed"), element("pre", "\n".join(result.plan))),
    )  # fmt: skip
    yield _runs(folder, output)


def _runs(folder: AttributionFolder, output: Path) -> Section:
    """Those that failed with their reasons first, then every run with its files, and what each cell changes."""
    result, failed = folder.result, failed_table(folder.result)
    rows = [
        [cell.name, str(run.seed), run.state, f"{run.step:,}",
         "–" if run.end_loss is None else f"{run.end_loss:.4f}", folder.links(run, output)]
        for cell in result.cells for run in cell.runs
    ]  # fmt: skip
    changed = [[cell.name, element("code", written(cell.changes))] for cell in result.cells]
    return section(
        "Runs and recipes",
        join(heading(failed.caption), _table(failed)) if failed else None,
        heading("All runs"),
        table(["cell", "seed", "", Column("steps"), Column("last loss"), "files"], rows),
        heading("What each cell changes"),
        paragraph(join("Recipe: ", element("code", result.recipe))),
        table(["cell", "changes"], changed),
    )


def _table(found: FactTable, *, captioned: bool = False) -> Markup:
    columns: list[Column | str] = [
        Column(stacked(lines), numeric=place >= found.names) for place, lines in enumerate(found.headings)
    ]
    rows = [
        [_name(cell) if place < found.names else _entry(cell) for place, cell in enumerate(row)] for row in found.rows
    ]
    return join(
        table(columns, rows, caption=found.caption if captioned else "", names=found.names > 0),
        *(paragraph(note, "note") for note in found.notes),
    )


def _name(cell: Entry) -> Part:
    """Of a row: short lines are not broken, so that wide tables scroll instead of growing tall."""
    if isinstance(cell, str) and all(len(line) <= NAME for line in cell.split("\n")):
        return stacked(cell.split("\n"))
    return _entry(cell)


def _entry(cell: Entry) -> Part:
    if cell is None or isinstance(cell, str):
        return cell
    return join(
        element("span", cell.value, class_=cell.kind if cell.certain else None), element("br"),
        element("span", cell.reach, class_="range"),
    )  # fmt: skip


def _list(lines: list[str]) -> Markup | None:
    return element("ul", joined(element("li", one) for one in lines)) if lines else None


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?")) else ".")
