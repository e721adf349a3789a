"""A run as it goes, in the terminal: curves, rate, time left, last evaluation.

Only files are read, so that a run on another machine is followed over a shared folder, and none is disturbed.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import TypedDict

from tsugiki.amounts import duration, quantity
from tsugiki.errors import StorageError, TsugikiError
from tsugiki.files import read_json
from tsugiki.metrics_file import Metrics, StepLine, ValidationLine, add_lines, last_attempt, require_logged
from tsugiki.printable import one_line
from tsugiki.recipe_checks import total_steps
from tsugiki.report.plot_in_text import plot
from tsugiki.run_folder import has_begun, no_run, recipe_of
from tsugiki.state_file import State, read_state
from tsugiki.terminal import plain

LOCK = ".lock"
"""Says which process writes the run, or wrote it last (`training.run_lock`)."""
CURVE_ROWS = 10


class Owner(TypedDict):
    """What a run's lock file says."""

    pid: int
    host: str


class Watched:
    """What is known of a run; `look` reads what is new."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.metrics = Metrics()
        self.state: State | None = None
        self.total, self.interval = 0, 1
        self._file: tuple[int, int] | None = None  # inode and bytes read

    def look(self) -> None:
        """Read what has been written since the last look. A file that is not there, or is just being replaced, is one
        for the next look. Raises StorageError for lines that are damaged, DataError for such a state.json."""
        self.state = self._read_state()
        if not self.total:
            self.total, self.interval = self._read_recipe()
        path = self.folder / "metrics.jsonl"
        try:
            with path.open("rb") as file:
                inode, size = os.fstat(file.fileno()).st_ino, os.fstat(file.fileno()).st_size
                if self._file is None or self._file[0] != inode or size < self._file[1]:  # begun anew by a later start
                    self.metrics, self._file = Metrics(), (inode, 0)
                file.seek(self._file[1])
                lines, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return
        if lines:
            add_lines(self.metrics, lines + b"\n", path)
            self._file = (inode, self._file[1] + len(lines) + 1)

    def _read_state(self) -> State | None:
        try:
            return read_state(self.folder)
        except StorageError:
            return None

    def _read_recipe(self) -> tuple[int, int]:
        """All steps, and those between two records."""
        try:
            recipe = recipe_of(self.folder)
        except TsugikiError:  # not there yet
            return 0, 1
        return total_steps(recipe), recipe.training.logging_steps

    def require_logged(self) -> None:
        """Raise StorageError where a run that has ended has logged less than it must have."""
        if self.state is not None:
            path, reached, finished = (
                self.folder / "metrics.jsonl",
                self.state["step"],
                self.state["status"] == "finished",
            )
            require_logged(path, self.metrics.reached, reached=reached, interval=self.interval, finished=finished)

    @property
    def ending(self) -> str | None:
        """How the run has ended, in words; None while it goes on or has not begun."""
        if self.state is None:
            return None
        status, detail = self.state["status"], self.state["detail"]
        if status == "running":
            owner = self._owner()
            gone = owner is not None and owner["host"] == platform.node() and not _lives(owner["pid"])
            return "its process has ended without a word (killed?); the same command continues it" if gone else None
        words = {"finished": "finished", "resumable": "stopped; the same command continues it", "failed": "failed"}
        return words[status] + (f": {detail}" if detail else "")

    def _owner(self) -> Owner | None:
        try:
            return read_json(self.folder / LOCK, Owner)
        except TsugikiError:
            return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def watch(
    folder: Path, console: Console, *, interval: float = 2.0, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show a run until it ends, also one that is still being prepared; without a terminal a line for each record.

    Raises RecipeError for what is no run directory, StorageError where what it has logged is damaged or lost.
    """
    if not has_begun(folder):
        raise no_run(folder)
    watched = Watched(folder)
    if console.is_terminal:
        _draw(watched, console, interval, sleep)
    else:
        _tell(watched, console, interval, sleep)
    watched.require_logged()
    console.print(plain(f"{folder}: {watched.ending}"))


def _draw(watched: Watched, console: Console, interval: float, sleep: Callable[[float], None]) -> None:
    watched.look()
    with Live(view(watched, console.width, console.options.ascii_only), console=console, auto_refresh=False) as live:
        while watched.ending is None:
            sleep(interval)
            watched.look()
            live.update(view(watched, console.width, console.options.ascii_only), refresh=True)
        live.refresh()


def _tell(watched: Watched, console: Console, interval: float, sleep: Callable[[float], None]) -> None:
    told, waiting = 0, False
    while True:
        watched.look()
        ended = watched.ending is not None  # before the lines: none of the last ones is missed
        lines = list(_lines(watched))
        told = 0 if told > len(lines) else told  # begun anew
        for line in lines[told:]:
            console.print(plain(line))
        told = len(lines)
        if ended:
            return
        if not lines and not waiting:
            console.print(plain(f"{watched.folder}: waiting for its first step"))
            waiting = True
        sleep(interval)


def _lines(watched: Watched) -> Sequence[str]:
    """All records in words, in the order of their steps."""
    of = f"/{watched.total:,}" if watched.total else ""
    found: list[tuple[int, str]] = []
    for line in watched.metrics.steps:
        parts = [
            f"step {line['step']:,}{of}", f"loss {_number(line.get('loss'))}", f"grad {_number(line.get('grad_norm'))}",
            f"{quantity(line.get('tokens_per_second', 0.0))} tok/s", f"{_left(line)}",
        ]  # fmt: skip
        found.append((line["step"], "  ".join(parts)))
    for validation in watched.metrics.validations:
        scores = "  ".join(
            f"{one_line(name)} {_number(s['bits_per_byte'])}" for name, s in validation["sources"].items()
        )
        found.append((validation["step"], f"step {validation['step']:,}{of}  held-out bits per byte  {scores}"))
    for evaluation in watched.metrics.evaluations:
        scores = "  ".join(f"{one_line(name)} {_share(a['accuracy'])}" for name, a in evaluation["probes"].items())
        found.append((evaluation["step"], f"step {evaluation['step']:,}{of}  right answers  {scores}"))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def view(watched: Watched, width: int, ascii_only: bool = False) -> RenderableType:
    """The picture of a run for a terminal of `width` columns."""
    lines = last_attempt(watched.metrics.steps)
    if not lines and not watched.metrics.validations:
        return Text(f"{one_line(watched.folder)}: waiting for its first step …")
    parts: list[RenderableType] = [_head(watched, width)]
    losses = [(line["step"], loss) for line in lines if (loss := line.get("loss")) is not None]
    if len(losses) > 1:
        parts += [
            Text("\ntraining loss, nats a token", style="bold"),
            Text(plot(losses, width, CURVE_ROWS, ascii_only)),
        ]
    if watched.metrics.validations:
        parts += [Text(""), _held_out(watched)]
    if watched.metrics.evaluations:
        parts += [Text(""), _answers(watched)]
    return Group(*parts)


def _head(watched: Watched, width: int) -> RenderableType:
    line = watched.metrics.steps[-1] if watched.metrics.steps else None
    step = line["step"] if line else watched.metrics.validations[-1]["step"]
    facts = [f"step {step:,}" + (f" of {watched.total:,} ({step / watched.total:.0%})" if watched.total else "")]
    if line:
        facts += [f"loss {_number(line.get('loss'))}", f"gradient {_number(line.get('grad_norm'))}"]
        facts.append(f"rate {line.get('learning_rate', 0.0):.2e}")
        facts.append(f"{quantity(line.get('tokens_per_second', 0.0))} tokens/s")
        if line.get("mfu") is not None:
            facts.append(f"{line.get('mfu') or 0.0:.0%} MFU")
        facts.append(f"data {line.get('data_wait') or 0.0:.1%}")
        facts.append(_left(line))
    if watched.metrics.spikes:
        facts.append(f"{len(watched.metrics.spikes):,} spikes")
    title = Text(one_line(watched.folder), style="bold")
    share = min(step / watched.total, 1.0) if watched.total else 0.0
    columns = min(width, 80)
    bar = Text.assemble(("━" * round(columns * share), "green"), ("━" * (columns - round(columns * share)), "dim"))
    return Group(title, bar, Text("  ".join(facts)))


def _left(line: StepLine) -> str:
    return f"{duration(line.get('seconds_left') or 0.0)} left"


def _held_out(watched: Watched) -> Table:
    """Last values beside the first ones."""
    first, last = watched.metrics.validations[0], watched.metrics.validations[-1]
    table = Table(title=f"held-out bits per byte, step {last['step']:,}", title_justify="left", box=None)
    table.add_column("source")
    for heading in (f"step {first['step']:,}", "now", "change"):
        table.add_column(heading, justify="right")
    for name in last["sources"]:
        before, now = _bits(first, name), _bits(last, name)
        change = "" if before is None or now is None else f"{now - before:+.3f}"
        style = "" if not change else "green" if change.startswith("-") else "red"
        table.add_row(Text(one_line(name)), _number(before), _number(now), Text(change, style=style))
    return table


def _bits(validation: ValidationLine, name: str) -> float | None:
    return validation["sources"][name]["bits_per_byte"] if name in validation["sources"] else None


def _answers(watched: Watched) -> Table:
    last = watched.metrics.evaluations[-1]
    table = Table(title=f"right answers, step {last['step']:,}", title_justify="left", box=None)
    table.add_column("questions")
    for heading in ("now", "guessing"):
        table.add_column(heading, justify="right")
    for name, answered in last["probes"].items():
        chance = answered.get("chance")
        table.add_row(Text(one_line(name)), _share(answered["accuracy"]), "" if chance is None else f"{chance:.0%}")
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
