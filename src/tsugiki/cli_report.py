"""The verbs that show runs: `tsugiki report` and `tsugiki watch`."""

from pathlib import Path
from typing import Annotated

import typer

from tsugiki.terminal import console, say
from tsugiki.training.signals import Interrupted


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run directories, several side by side; or an experiment's folder."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write into. Default: RUN/report; for several runs, report; an experiment's folder."
        ),
    ] = None,
) -> None:
    """A page that opens offline, a model card and all figures.

    Also of a run that is going on or was killed; runs are only read.
    """
    from tsugiki.pipeline import run_report

    run_report(runs, say, output)


def watch(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory; its training need not have begun.")],
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 2.0,
) -> None:
    """Follow a run in the terminal until it ends.

    Curves, rate, time left and the last evaluation; the run itself is not touched.
    """
    from tsugiki.report.watch import watch as follow

    try:
        follow(run, console, interval=interval)
    except Interrupted as stop:
        say(f"{run}: not watched any more ({stop}); the run itself was not touched")
