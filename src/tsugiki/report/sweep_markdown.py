"""A sweep's page as Markdown, for a repository or an issue: the same but for the charts."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tsugiki.printable import markdown, markdown_table
from tsugiki.report.experiment_folder import written
from tsugiki.report.sweep_facts import (
    LEGEND,
    SweepFolder,
    breaks,
    cost_in_words,
    difference,
    disagrees,
    end_losses,
    endings,
    rule_values,
    warmup_in_words,
)
from tsugiki.sweep_results import NOTHING, SweepResult


def make_sweep_markdown(sweep: SweepFolder) -> str:
    """The Markdown of a sweep."""
    return "\n\n".join(_parts(sweep.result)) + "\n"


def _parts(result: SweepResult) -> Iterator[str]:
    judgement = result.judgement
    yield f"# Sweep: {markdown(Path(result.sweep).name)}"
    yield markdown(judgement.choice if judgement else NOTHING)
    for choice in result.loss_choices:
        said = " ".join([choice.words, *(breaks(result, choice.chosen or "") if disagrees(choice) else ())])
        yield f"**Training loss and evaluation disagree.** {markdown(said)}" if disagrees(choice) else markdown(said)
        if choice.costs:
            yield _table(["metric", f"{choice.chosen} minus {choice.against}", f"{choice.chosen} is"], [
                [cost.metric, difference(cost.difference), cost_in_words(cost)] for cost in choice.costs
            ])  # fmt: skip
    if judgement:
        yield f"Rule: {markdown(judgement.rule)}"
        losses = end_losses(result)
        rows = [["base", *(f"{judgement.base[metric.name]:.4f}" for metric in result.metrics), ""]]
        for trial in judgement.trials:
            cells = [f"{one.value:.4f} {one.mark} {difference(one.difference)}" for one in (*trial.gain, *trial.keep)]
            said = ", ".join(result.notes_on(trial))
            rows.append([
                f"{trial.name} ({said})" if said else trial.name, *(cells or [""] * len(result.metrics)),
                f"{losses[trial.name][0]:.4f}" if trial.name in losses else "",
            ])  # fmt: skip
        headings = ["trial", *(", ".join(metric.heading) for metric in result.metrics), "training loss"]
        yield _table(headings, rows)
        yield markdown(LEGEND)
    said_too = [f"- {markdown(remark)}" for remark in result.remarks()]
    said_too += [
        f"- {markdown(f'{name}, seed {run.seed}: {run.state} at step {run.step:,}: {run.reason}')}"
        for name, run in endings(result)
    ]
    if said_too:
        yield "\n".join(said_too)
    yield markdown(warmup_in_words(result))
    if result.rules:
        yield _table(["rule of thumb", "here", "what is known of it"], [
            [rule.name, "; ".join(rule_values(rule.values)), rule.says] for rule in result.rules
        ])  # fmt: skip
    yield _table(["trial", "changes"], [[trial.name, written(trial.changes)] for trial in result.trials])
    chosen = next((trial for trial in result.trials if trial.name == result.chosen), None)
    if chosen is not None and chosen.runs:
        yield f"Recipe of {markdown(chosen.name)}: {markdown(chosen.runs[0].recipe)}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [[markdown(cell) for cell in row] for row in (headings, *rows)]
    return markdown_table(lines[0], lines[1:], texts=len(headings))
