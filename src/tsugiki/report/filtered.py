"""What filters removed of each source of a run: counts by rule, and the beginnings of a few documents."""

from tsugiki.corpus.filters.figures import describe_sets, samples
from tsugiki.pages.markup import Part
from tsugiki.pages.table import Column, table
from tsugiki.report.parts import paragraph
from tsugiki.report.run_directory import RunDirectory


def filtered(run: RunDirectory) -> list[Part]:
    """Nothing of a run whose sources have no filters."""
    rows: list[list[Part]] = []
    shown: list[list[Part]] = []
    notes: list[Part] = []
    for name, manifest in run.manifests.items():
        figures = manifest.filtered
        if figures is None:
            continue
        judged = max(1, figures.total + manifest.train.documents + manifest.held_out.documents)
        for kind, rules in figures.by_filter().items():
            rows += [[name, kind, rule, f"{count:,}", f"{count / judged:.2%}"] for rule, count in rules.items()]
        rows.append([name, "all", "", f"{figures.total:,}", f"{figures.total / judged:.2%}"])
        shown += [
            [name, rule, f"{sample['file']}:{sample['line']}", sample["text"]] for rule, sample in samples(figures)
        ]
        if figures.evaluation is not None:
            notes.append(paragraph(f"{name}: {describe_sets(figures.evaluation)}.", "note"))
    if not rows:
        return []
    text = "Documents that filters removed, each counted for the first that did; shares are of all good documents."
    columns: list[Column | str] = ["source", "filter", "rule", Column("documents"), Column("share")]
    parts: list[Part] = [paragraph(text), table(columns, rows), *notes]
    if shown:
        parts.append(table(["source", "removed by", "where", "how it begins, or what it quotes"], shown))
    return parts
