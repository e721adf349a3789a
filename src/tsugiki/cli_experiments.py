"""The verbs of experiments: `tsugiki sweep` and `tsugiki attribute`, each with its `status`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsugiki.cli_verbs import end, stage_group
from tsugiki.errors import RESUMABLE, RecipeError
from tsugiki.terminal import console, say

sweep_app = typer.Typer(
    cls=stage_group("trials"),
    help="Vary a recipe; choose by evaluation, not by loss.",
    no_args_is_help=True,
    subcommand_metavar="SWEEP | status SWEEP",
)

attribute_app = typer.Typer(
    cls=stage_group("runs"),
    help="Vary factors together; tell what made the difference.",
    no_args_is_help=True,
    subcommand_metavar="EXPERIMENT | status EXPERIMENT",
)

AttributionFile = Annotated[
    Path, typer.Argument(metavar="EXPERIMENT", help="The experiment, a YAML file.", show_default=False)
]
SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.", show_default=False)]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Print the plan, and end.")]
OneTrial = Annotated[
    int | None, typer.Option("--trial", help="Run this trial alone, counted from 0: for arrays of jobs.", min=0)
]
SharedOnly = Annotated[
    bool, typer.Option("--shared", help="Make what trials share and evaluate the base: before an array of jobs.")
]
Again = Annotated[bool, typer.Option("--again", help="Also try again what diverged or died.")]


@sweep_app.command("trials", hidden=True)
def sweep(
    path: SweepFile,
    plan: PlanOnly = False,
    trial: OneTrial = None,
    shared: SharedOnly = False,
    judge: Annotated[bool, typer.Option("--judge", help="Judge what has ended, and run nothing.")] = False,
    again: Again = False,
) -> None:
    """Run every trial of a sweep, judge them by evaluation; goes on where it was stopped."""
    from tsugiki.experiments.sweep import Sweep
    from tsugiki.experiments.table import draw, remarks, rules_table
    from tsugiki.pipeline import run_report
    from tsugiki.sweep_results import SWEEP_FILE

    _refuse_several(plan, trial, shared, judge, "--judge")
    opened = Sweep(path, *_models())
    if not judge:
        lines, rules = opened.described if trial is None and not shared else ([], [])
        if not _run(opened, [*lines, "", *rules_table(rules), ""], plan, trial, shared, again):
            return
    result = opened.judge()
    if result.judgement is not None:
        console.print(draw(result))
        say("")
    for line in remarks(result):
        say(line)
    say(f"results    {opened.plan.directory / SWEEP_FILE}")
    run_report([opened.plan.directory], say)


@sweep_app.command("status")
def sweep_status(path: SweepFile) -> None:
    """Where each trial stands: a line a trial, from files only."""
    from tsugiki.experiments.sweep import Sweep

    _show_status(Sweep(path, *_models()))


@attribute_app.command("runs", hidden=True)
def attribute(
    path: AttributionFile,
    plan: PlanOnly = False,
    trial: OneTrial = None,
    shared: SharedOnly = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Estimate from what has ended, and run nothing.")
    ] = False,
    again: Again = False,
) -> None:
    """Run every cell of an experiment, estimate effects; goes on where it was stopped."""
    from tsugiki.attribution_results import ATTRIBUTION_FILE
    from tsugiki.experiments.attribution_runs import AttributionRuns
    from tsugiki.experiments.attribution_table import draw, remarks
    from tsugiki.pipeline import run_report

    _refuse_several(plan, trial, shared, estimate, "--estimate")
    opened = AttributionRuns(path, *_models())
    if not estimate:
        lines = opened.described if trial is None and not shared else []
        if not _run(opened, [*lines, ""], plan, trial, shared, again):
            return
    result = opened.estimate()
    for table in draw(result):
        console.print(table)
        say("")
    for line in remarks(result):
        say(line)
    say(f"results    {opened.plan.directory / ATTRIBUTION_FILE}")
    run_report([opened.plan.directory], say)


@attribute_app.command("status")
def attribute_status(path: AttributionFile) -> None:
    """Where each run stands: a line a run, from files only."""
    from tsugiki.experiments.attribution_runs import AttributionRuns

    _show_status(AttributionRuns(path, *_models()))


def _refuse_several(plan: bool, trial: int | None, shared: bool, conclude: bool, option: str) -> None:
    if sum((plan, trial is not None, shared, conclude)) > 1:
        raise RecipeError(f"give one of --plan, --trial, --shared and {option}")


def _models() -> tuple[Any, Any]:
    """What evaluation will score, and where a base model lies: what experiments cannot import."""
    from tsugiki.evaluation.known import known_tasks
    from tsugiki.recipe_inputs import base_folder, resolve_commits

    def folder(recipe: Any) -> Path:
        found = base_folder(recipe, resolve_commits(recipe))
        assert found is not None  # an experiment on random weights has been refused
        return found

    return known_tasks, folder


def _run(opened: Any, described: list[str], plan: bool, trial: int | None, shared: bool, again: bool) -> bool:
    """Run what was asked for; whether all of it has been run here, so that conclusions follow."""
    from tsugiki.experiments.runner import Stopped

    file, count = opened.plan.file, len(opened.plan.trials)
    if trial is not None and trial >= count:
        raise RecipeError(f"--trial {trial}: {file.path} has trials 0 to {count - 1}")
    if again:
        for title in opened.again():
            say(f"again      {title}")
    try:
        if trial is not None:
            opened.run_one(trial, say)
        elif shared:
            opened.run_shared(say)
        else:
            for line in described:
                say(line)
            if plan:
                return False
            if file.section.executor.kind == "local":
                opened.run_here(say)
                return True
            opened.submit(say)
            command = f"tsugiki {file.verb}"
            say(f"next       {command} status {file.path}, and when all have ended: {command} {file.path} "
                f"--{file.conclude}")  # fmt: skip
    except Stopped:
        say("stopped: what is finished is kept; the same command goes on from there")
        end(RESUMABLE)
    return False


def _show_status(opened: Any) -> None:
    from tsugiki.experiments.status import status_lines

    for line in status_lines(opened.plan, opened.suites):
        say(line)
