"""The verbs of experiments: `tsugiki sweep` with its `status`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsugiki.errors import RESUMABLE, RecipeError
from tsugiki.terminal import console, end, say, stage_group

sweep_app = typer.Typer(
    cls=stage_group("trials"),
    help="Vary a recipe; choose by evaluation, not by loss.",
    no_args_is_help=True,
    subcommand_metavar="SWEEP | status SWEEP",
)

SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep, a YAML file.", show_default=False)]


@sweep_app.command("trials", hidden=True)
def sweep(
    path: SweepFile,
    plan: Annotated[bool, typer.Option("--plan", help="Print the plan and the rules of thumb, and end.")] = False,
    trial: Annotated[
        int | None, typer.Option(help="Run this trial alone, counted from 0: for arrays of jobs.", min=0)
    ] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="Make what trials share and evaluate the base: before an array of jobs.")
    ] = False,
    judge: Annotated[bool, typer.Option("--judge", help="Judge what has ended, and run nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also try again what diverged or died.")] = False,
) -> None:
    """Run every trial of a sweep, judge them by evaluation; goes on where it was stopped."""
    from tsugiki.experiments.runner import Stopped
    from tsugiki.experiments.sweep import again as forget

    if sum((plan, trial is not None, shared, judge)) > 1:
        raise RecipeError("give one of --plan, --trial, --shared and --judge")
    opened = _open(path)
    if again:
        for title in forget(opened.plan):
            say(f"again      {title}")
    try:
        if trial is not None:
            if trial >= len(opened.plan.trials):
                raise RecipeError(f"--trial {trial}: {path} has trials 0 to {len(opened.plan.trials) - 1}")
            opened.run_one(trial, say)
            return
        if shared:
            opened.run_shared(say)
            return
        if not judge:
            _describe(opened)
            if plan:
                return
            if opened.plan.file.section.executor.kind == "slurm":
                opened.submit(say)
                say(f"next       tsugiki sweep status {path}, and when all have ended: tsugiki sweep {path} --judge")
                return
            opened.run_here(say)
    except Stopped:
        say("stopped: what is finished is kept; the same command goes on from there")
        end(RESUMABLE)
    _show(opened)


@sweep_app.command("status")
def status(path: SweepFile) -> None:
    """Where each trial stands: a line a trial, from files only."""
    from tsugiki.experiments.status import status_lines

    opened = _open(path)
    for line in status_lines(opened.plan, opened.suites):
        say(line)


def _open(path: Path) -> Any:
    from tsugiki.evaluation.known import known_tasks
    from tsugiki.experiments.sweep import Sweep
    from tsugiki.recipe_inputs import base_folder, resolve_commits

    def folder(recipe: Any) -> Path:
        found = base_folder(recipe, resolve_commits(recipe))
        assert found is not None  # a sweep of random weights has been refused
        return found

    return Sweep(path, known_tasks, folder)


def _describe(opened: Any) -> None:
    from tsugiki.experiments.table import rules_table

    lines, rules = opened.describe()
    for line in lines:
        say(line)
    say("")
    for line in rules_table(rules):
        say(line)
    say("")


def _show(opened: Any) -> None:
    from tsugiki.experiments.table import draw, remarks
    from tsugiki.sweep_results import SWEEP_FILE

    result = opened.judge()
    if result.judgement is not None:
        console.print(draw(result))
        say("")
    for line in remarks(result):
        say(line)
    say(f"results    {opened.plan.directory / SWEEP_FILE}")
