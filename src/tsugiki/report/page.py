"""The page: its head, and its sections in order."""

from datetime import datetime

from tsugiki import __version__
from tsugiki.amounts import duration, quantity
from tsugiki.pages.document import document
from tsugiki.pages.markup import Markup, Part, element, join
from tsugiki.recipe_checks import total_steps
from tsugiki.report import data_sections, examples, provenance, quality, training_sections
from tsugiki.report.parts import Runs, side_by_side
from tsugiki.report.run_directory import RunDirectory
from tsugiki.report.words import summary

STATUS = {
    "finished": "finished", "running": "running, or killed without a word", "resumable": "stopped; it can go on",
    "failed": "failed", "not started": "not started",
}  # fmt: skip


def make_page(runs: Runs) -> str:
    """The HTML page of one run or of several side by side."""
    sections = [
        quality.gained_and_lost(runs), quality.over_steps(runs), training_sections.training(runs),
        data_sections.data(runs), data_sections.vocabulary(runs), training_sections.speed_and_memory(runs),
        examples.samples(runs), provenance.recipes_compared(runs), provenance.provenance(runs), provenance.again(runs),
    ]  # fmt: skip
    title = runs[0].name if len(runs) == 1 else "Runs compared: " + ", ".join(run.name for run in runs)
    foot = f"Made by Tsugiki {__version__} from {', '.join(run.name for run in runs)}. This page needs no network."
    return document(title, [each for each in sections if each is not None], lead=_lead(runs), foot=foot)


def _lead(runs: Runs) -> Markup:
    parts: list[Part] = []
    for run in runs:
        name = element("b", f"{run.name}: ") if len(runs) > 1 else None
        parts.append(element("p", name, summary(run), class_="lead" if len(runs) == 1 else None))
        parts += [element("p", problem, class_="warning") for problem in _problems(run)]
    parts.append(side_by_side(runs, [
        ("state", _state),
        ("steps", lambda run: f"{run.step:,} of {total_steps(run.recipe):,}"),
        ("tokens", lambda run: quantity(_tokens(run))),
        ("left, about", _left),
        ("last written", lambda run: moment(run.state["time"]) if run.state else ""),
        ("checkpoints kept", lambda run: f"{len(run.checkpoints):,}"),
        ("spikes", lambda run: f"{len(run.metrics.spikes):,}" if run.metrics.spikes else ""),
    ]))  # fmt: skip
    return join(*parts)


def _state(run: RunDirectory) -> str:
    asked = run.recipe.training.stop_after_steps
    if run.status == "resumable" and asked is not None and run.step >= asked:
        return f"stopped after {asked:,} steps, as training.stop_after_steps asks (as a sweep's probe does)"
    return STATUS[run.status]


def moment(text: str) -> str:
    """A time as it is written in artefacts, for people: `2026-03-11 14:05 +0900`."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %z").replace("+0000", "UTC").strip()
    except ValueError:
        return text


def _tokens(run: RunDirectory) -> int:
    return run.step * run.recipe.training.global_batch_size * run.recipe.data.sequence_length


def _left(run: RunDirectory) -> str:
    left = run.metrics.steps[-1].get("seconds_left") if run.metrics.steps else None
    return duration(left) if left and run.status == "running" else ""


def _problems(run: RunDirectory) -> list[str]:
    """What a reader must know before believing the page."""
    found = list(dict.fromkeys(run.problems))
    if run.status == "failed" and run.state:
        found.insert(0, f"The run failed at step {run.state['step']:,}: {run.state['detail']}")
    return found
