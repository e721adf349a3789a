"""The page of a sweep: the verdict, what loss alone would have chosen, the table, the charts, plan and runs."""

from collections.abc import Iterator
from pathlib import Path

from tsugiki import __version__
from tsugiki.experiment_results import Cost, JudgedTrial, LossChoice, Verdict
from tsugiki.pages.document import Section, document, section
from tsugiki.pages.markup import Markup, Part, element, join
from tsugiki.pages.table import Column, facts, table
from tsugiki.report.experiment_folder import stacked, written
from tsugiki.report.parts import heading as subheading
from tsugiki.report.parts import paragraph, signed
from tsugiki.report.sweep_charts import against_the_rate, gain_against_loss
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
from tsugiki.sweep_results import NOTHING, SweepResult, TrialResult


def make_sweep_page(sweep: SweepFolder, output: Path) -> str:
    """The HTML page; its links lead from `output`, the folder that it will lie in."""
    result = sweep.result
    sections = [_by_loss(result), _table(result), *_charts(sweep), _before(result), _runs(sweep, output)]
    name = Path(result.sweep).name
    return document(
        f"Sweep: {name}", [each for each in sections if each is not None], lead=_lead(result),
        foot=f"Made by Tsugiki {__version__} from {name}. This page needs no network.",
    )  # fmt: skip


def _lead(result: SweepResult) -> Markup:
    judgement = result.judgement
    parts: list[Part] = [element("p", judgement.choice if judgement else NOTHING, class_="lead")]
    parts += [_disagreement(choice, result) for choice in result.loss_choices if disagrees(choice)]
    parts += [paragraph(remark, "warning") for remark in result.remarks()]
    judge = result.chosen
    title = "recommended" if judgement and judgement.recommended else "nearest" if judge else "recommended"
    parts.append(facts([
        (title, judge or "none"),
        ("lowest training loss", ", ".join(result.chosen_by_loss) or "–"),
        ("trials", f"{len(result.trials):,}"),
        ("seeds", ", ".join(map(str, result.seeds))),
        ("steps of each", f"{result.probe.steps:,} of {result.probe.total_steps:,}"),
        ("of them warm-up", f"{result.probe.warmup_steps:,}"),
    ]))  # fmt: skip
    if judgement:
        parts.append(paragraph(f"Rule: {judgement.rule}", "soft"))
    return join(*parts)


def _disagreement(choice: LossChoice, result: SweepResult) -> Markup:
    return element(
        "p", element("b", "Training loss and evaluation disagree. "),
        " ".join([choice.words, *breaks(result, choice.chosen or "")]), class_="warning",
    )  # fmt: skip


def _by_loss(result: SweepResult) -> Section | None:
    """What training loss alone would have chosen, and what that would have cost."""
    parts: list[Part] = []
    for choice in result.loss_choices:
        if not disagrees(choice):
            parts.append(paragraph(choice.words))
        if choice.costs:
            columns: list[Column | str] = [
                "metric",
                Column(f"{choice.chosen} minus {choice.against}"),
                f"{choice.chosen} is",
            ]
            caption = f"What the choice by loss would have cost against {choice.against}"
            parts.append(table(columns, [_cost(cost) for cost in choice.costs], caption=caption))
        parts += [paragraph(f"{name} is not compared by loss: {why}.", "note") for name, why in choice.left_out.items()]
    return section("What training loss alone would have chosen", *parts) if parts else None


def _cost(cost: Cost) -> list[Part]:
    reach, word = cost.difference.limits(), cost_in_words(cost)
    shown = f" [{signed(reach[0], 4)}, {signed(reach[1], 4)}]" if reach else ""
    kind = {"worse": "loss", "better": "gain"}.get(word, "range")
    value = join(signed(cost.difference.value, 4), element("span", shown, class_="range"))
    return [cost.metric, value, element("span", word, class_=kind)]


def _table(result: SweepResult) -> Section | None:
    judgement = result.judgement
    if judgement is None:
        return None
    losses = end_losses(result)
    headings = [Column(stacked(metric.heading)) for metric in result.metrics]
    columns: list[Column | str] = ["trial", *headings, Column(stacked(["training", "loss"]))]
    rows: list[list[Part]] = [["base", *(f"{judgement.base[metric.name]:.4f}" for metric in result.metrics), ""]]
    for trial in judgement.trials:
        cells: list[Part] = [_cell(verdict) for verdict in (*trial.gain, *trial.keep)]
        loss = losses.get(trial.name)
        lowest = trial.name in result.chosen_by_loss
        cell = None if loss is None else element("b", f"{loss[0]:.4f}") if lowest else f"{loss[0]:.4f}"
        rows.append([_name(trial, result), *(cells or [None] * len(result.metrics)), cell])
    return section("Trials against the base", table(columns, rows), paragraph(LEGEND, "note"))


def _name(trial: JudgedTrial, result: SweepResult) -> Part:
    name = element("b", trial.name) if trial.name == result.chosen else trial.name
    said = result.notes_on(trial)
    return join(name, *(part for note in said for part in (element("br"), element("span", note, class_="range"))))


def _cell(verdict: Verdict) -> Markup:
    kind = ("gain" if verdict.holds else "loss") if verdict.certain else "range"
    return join(
        f"{verdict.value:.4f} ", element("span", verdict.mark, class_=kind), element("br"),
        element("span", difference(verdict.difference), class_="range"),
    )  # fmt: skip


def _charts(sweep: SweepFolder) -> Iterator[Section]:
    charts = list(gain_against_loss(sweep.result))
    if charts:
        yield section("Gain against loss", *charts)
    small = against_the_rate(sweep)
    if small is not None:
        yield section(
            "Against the learning rate", small,
            paragraph(
                "Bars at metrics: 95 % intervals of the difference to the base, drawn around the value. Ringed: the "
                "judge's choice. Thin lines join trials that differ in their rate alone.", "note",
            ),
        )  # fmt: skip


def _before(result: SweepResult) -> Section:
    """The plan, how far the probe goes, and rules of thumb."""
    rules: list[list[Part]] = [
        [rule.name, stacked(rule_values(rule.values)), element("span", rule.says, class_="soft prose")]
        for rule in result.rules
    ]
    return section(
        "Before anything ran", paragraph(warmup_in_words(result)),
        table(["rule of thumb", "here", "what is known of it"], rules) if rules else None,
        element("details", element("summary", "the plan as it was printed"), element("pre", "\n".join(result.plan)))
        if result.plan else None,
    )  # fmt: skip


def _runs(sweep: SweepFolder, output: Path) -> Section:
    """Every trial with what it changes and its runs, those that failed with their reasons first."""
    result = sweep.result
    failed = [
        [f"{name}, seed {run.seed}", run.state, f"{run.step:,}", run.reason] for name, run in endings(result)
    ]  # fmt: skip
    parts: list[Part] = []
    if failed:
        parts += [subheading("Diverged or died"), table(["run", "", Column("at step"), "reason"], failed)]
    parts.append(subheading("All runs"))
    rows = [
        [trial.name, str(run.seed), run.state, f"{run.step:,}",
         "–" if run.end_loss is None else f"{run.end_loss:.4f}", sweep.links(run, output)]
        for trial in result.trials for run in trial.runs
    ]  # fmt: skip
    parts.append(table(["trial", "seed", "", Column("steps"), Column("last loss"), "files"], rows))
    parts += [subheading("What each trial changes"), paragraph(join("Recipe: ", element("code", result.recipe)))]
    parts.append(
        table(["trial", "changes"], [[trial.name, element("code", written(trial.changes))] for trial in result.trials])
    )
    parts.append(_recipe(sweep))
    return section("Runs and recipes", *parts)


def _recipe(sweep: SweepFolder) -> Part:
    """The whole recipe of the trial that was chosen."""
    name = sweep.result.chosen
    trial: TrialResult | None = next((one for one in sweep.result.trials if one.name == name), None)
    text = sweep.recipe_text(trial.runs[0]) if trial is not None and trial.runs else None
    if text is None or trial is None:
        return None
    return element(
        "details", element("summary", f"the whole recipe of {name}, seed {trial.runs[0].seed}"), element("pre", text)
    )
