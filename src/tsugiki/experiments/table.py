"""A sweep's result on the terminal: the base as first row, a row a trial, the verdicts and what they rest on."""

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from tsugiki.experiment_results import Verdict
from tsugiki.printable import one_line
from tsugiki.sweep_results import MARKS, NOTHING, Rule, SweepResult

LEGEND = f"+ and -: the difference to the base on the same items, with half its 95 % interval. {MARKS}"


def draw(result: SweepResult) -> Table:
    """The table of what has been judged. Asks for a result with a judgement."""
    judgement = result.judgement
    assert judgement is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("trial", overflow="fold")
    for metric in result.metrics:
        table.add_column("\n".join(map(one_line, metric.heading)), justify="right", overflow="fold")
    table.add_column("training\nloss", justify="right")
    table.add_row("base", *(_number(judgement.base[metric.name]) for metric in result.metrics), "")
    losses = {trial.trial: trial.mean for choice in result.loss_choices for trial in choice.trials}
    for trial in judgement.trials:
        cells = [_cell(verdict) for verdict in (*trial.gain, *trial.keep)] or [Text("")] * len(result.metrics)
        loss = f"{losses[trial.name]:.4f}" if trial.name in losses else ""
        table.add_row(Text("\n".join([one_line(trial.name), *result.notes_on(trial)])), *cells, loss)
    return table


def _number(value: float) -> str:
    return f"{value:.4f}"


def _cell(verdict: Verdict) -> Text:
    return Text(f"{_number(verdict.value)} {verdict.mark}\n{verdict.difference.text()}")


def remarks(result: SweepResult) -> Iterator[str]:
    """The lines below the table."""
    judgement = result.judgement
    if judgement is None:
        yield NOTHING
        return
    yield LEGEND
    for trial in judgement.trials:
        for seed, words in trial.endings.items():
            yield f"{trial.name}, seed {seed}: {words}"
        if trial.excluded:
            yield f"{trial.name}: {trial.excluded}"
    yield from result.remarks()
    yield ""
    yield f"choice     {judgement.choice}"
    yield f"rule       {judgement.rule}"
    for choice in result.loss_choices:
        yield f"by loss    {choice.words}"
    yield f"probe      {result.probe.words}"


def rules_table(rules: tuple[Rule, ...] | list[Rule]) -> Iterator[str]:
    """The panel of rules of thumb: each with its value for every trial, and what is known of it."""
    for rule in rules:
        values = list(dict.fromkeys(rule.values.values()))
        if len(values) == 1:
            yield f"{rule.name}: {values[0]}"
        else:
            yield f"{rule.name}: " + "; ".join(f"{name} {value}" for name, value in rule.values.items())
        yield f"    {rule.says}"
