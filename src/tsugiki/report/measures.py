"""What was gained and lost: each score of the base beside that of the final model, with intervals.

The base is the one that the recipe names, as the run's own evaluation has measured it. Held-out text that was not
evaluated is in the run's validations, of which the first is of the model before step 1: where new pieces were added
that model has them, untrained, and is another one than the base. A run beside it that began from the same base as it
is has then measured the base itself, if on the same documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tsugiki.errors import TsugikiError
from tsugiki.metrics_file import Scored, ValidationLine, read_metrics
from tsugiki.pages.scatter import Better, Limits
from tsugiki.report.run_directory import KEPT, Cell, Row, RunDirectory
from tsugiki.run_folder import recipe_of, runs_in
from tsugiki.score_combinations import bits_per_byte
from tsugiki.statistics import Sample, difference_interval, score_interval

BITS = "bits per byte"
TEXT = "text_"
"""What the keys of held-out texts begin with, here and in the suite `quick`."""
UNTRAINED = "extended, untrained"
"""The base with new pieces that nothing was trained of."""


@dataclass(frozen=True)
class Measure:
    """One score of the base and of the final model."""

    key: str
    """The same in every run that measures it."""
    name: str
    language: str
    metric: str
    before: float | None
    after: float | None
    before_limits: Limits | None
    after_limits: Limits | None
    difference: float | None
    difference_limits: Limits | None
    items: int | None
    better: Better
    average: bool = False
    from_validation: bool = False
    """Of held-out text in training."""
    base: str = ""
    """Which base: empty for the base itself, UNTRAINED, or the name of the run that has measured it."""

    @property
    def is_text(self) -> bool:
        """Whether it is of held-out text; otherwise of questions."""
        return self.key.startswith(TEXT)


@lru_cache(maxsize=KEPT)
def gains(run: RunDirectory) -> tuple[Measure, ...]:
    """The scores of tasks from the run's evaluation, then bits per byte of held-out text from its validations (the
    first and the last), of sources that the evaluation has no text of."""
    found = list(_of_tasks(run))
    texts = {measure.key for measure in found}
    return (*found, *(measure for measure in _of_validations(run) if measure.key not in texts))


def untrained_base(measures: Sequence[Measure]) -> str:
    """Which of them are against a base whose new pieces were untrained, or that another run has measured, in sentences;
    empty where all are against the base itself, by the run's own account."""
    said = []
    names = [one.name for one in measures if one.base == UNTRAINED]
    if names:
        said.append(
            f"Of {', '.join(names)} the base is the model before step 1, with its new pieces, which were untrained: "
            "the base itself was not measured (section evaluation with suite: quick does it)."
        )
    for run in dict.fromkeys(one.base for one in measures if one.base not in ("", UNTRAINED)):
        names = [one.name for one in measures if one.base == run]
        said.append(
            f"Of {', '.join(names)} the base was measured, on the same documents, by the run {run}, which continued it "
            "with its own vocabulary."
        )
    return " ".join(said)


def rows_of(run: RunDirectory) -> tuple[Row | None, Row | None]:
    """(base, final model) of the table of scores."""
    if run.scores is None:
        return None, None
    own = [row for row in run.scores["rows"] if not row["published"]]
    base = next((row for row in own if row["name"] == run.scores["baseline"]), None) if run.scores["baseline"] else None
    others = [row for row in own if row is not base]
    return base, others[-1] if others else None


def _of_tasks(run: RunDirectory) -> list[Measure]:
    base, final = rows_of(run)
    if run.scores is None or final is None:
        return []
    found = []
    for block in run.scores["languages"]:
        language = block["language"].removesuffix(f": {BITS}")
        # Runs side by side: prompts in a chat template are other questions. Instruction checks are always asked so.
        form = ", chat" if run.scores.get("form") and not language.endswith(": instructions") else ""
        for task, title in block["tasks"].items():
            cell = final["tasks"].get(task)
            if cell is not None and cell["score"] is not None:
                before = base["tasks"].get(task) if base else None
                found.append(_measure(task + form, title + form, language, before, cell))
        if len(block["averaged"]) > 1:
            cell = final["averages"].get(block["language"])
            if cell is not None and cell["score"] is not None:
                before = base["averages"].get(block["language"]) if base else None
                metric = BITS if block["language"].endswith(BITS) else ""
                texts = sum(task.startswith(TEXT) for task in block["averaged"])
                name = f"average of {len(block['averaged'])}" + (f", {texts} of them text" if texts else "")
                one = _measure(f"average {block['language']}{form}", name + form, language, before,
                               {**cell, "metric": metric}, average=True)  # fmt: skip
                found.append(one)
    return found


def _measure(key: str, name: str, language: str, before: Cell | None, after: Cell, *, average: bool = False) -> Measure:
    difference = after.get("difference")
    return Measure(
        key, name, language, after.get("metric", ""), before["score"] if before else None, after["score"],
        _limits(before.get("interval") if before else None), _limits(after.get("interval")),
        difference["estimate"] if difference else None, _limits(difference["interval"] if difference else None),
        after.get("items"), "lower" if after.get("metric") == BITS else "higher", average,
    )  # fmt: skip


def _limits(interval: Sequence[float] | None) -> Limits | None:
    return (interval[0], interval[1]) if interval is not None and len(interval) == 2 else None


def _of_validations(run: RunDirectory) -> list[Measure]:
    first, last = ends(run)
    if first is None or last is None:
        return []
    beside, name_of_base = _base_beside(run) if run.vocabulary is not None else ({}, "")
    found = []
    for name, after in last["sources"].items():
        before = first["sources"].get(name)
        if before is None:
            continue
        base = "" if run.vocabulary is None else UNTRAINED
        if name in beside and _same_documents(beside[name], after):
            before, base = beside[name], name_of_base
        source = run.recipe.data.sources.get(name)
        a, b = before["bits_per_byte"], after["bits_per_byte"]
        one, other = documents(before), documents(after)
        pair = (other, one) if one is not None and other is not None and len(one.rows) == len(other.rows) else None
        found.append(Measure(
            f"{TEXT}{name}", name, (source and source.language) or "other", BITS, a, b, _reach(one), _reach(other),
            b - a if a is not None and b is not None else None,
            _limits(difference_interval(*pair).limits()) if pair else None,
            after.get("documents"), "lower", from_validation=True, base=base,
        ))  # fmt: skip
    return found


def _base_beside(run: RunDirectory) -> tuple[dict[str, Scored], str]:
    """Held-out text of the base itself, by source, and the name of the run that measured it before its step 1: one in
    the same folder that continued the same base with its own vocabulary."""
    here, own = run.folder.resolve(), run.recipe.model
    for folder in runs_in(here.parent):
        try:
            recipe = recipe_of(folder) if folder.name != here.name else None
            if recipe is None or recipe.vocabulary is not None:
                continue
            if (recipe.model.name_or_path, recipe.model.revision) != (own.name_or_path, own.revision):
                continue
            validations = read_metrics(folder / "metrics.jsonl").validations
        except TsugikiError:  # that run's own report says what is wrong with it
            continue
        if validations and validations[0]["step"] == 0:
            return validations[0]["sources"], folder.name
    return {}, ""


def _same_documents(one: Scored, other: Scored) -> bool:
    """By their number and bytes, each by itself where that was logged."""
    keys = ("documents", "bytes", "bytes_by_document")
    return all(one.get(key) == other.get(key) for key in keys) and one.get("bytes") is not None


def ends(run: RunDirectory) -> tuple[ValidationLine | None, ValidationLine | None]:
    """The first validation and the last one, where they are two."""
    lines = run.metrics.validations
    return (lines[0], lines[-1]) if len(lines) > 1 and lines[-1]["step"] > lines[0]["step"] else (None, None)


def _reach(sample: Sample | None) -> Limits | None:
    return _limits(score_interval(sample).limits()) if sample else None


def documents(scored: Scored) -> Sample | None:
    """Nats and bytes of each held-out document, where they were logged."""
    nats, sizes = scored.get("nats_by_document"), scored.get("bytes_by_document")
    if not nats or not sizes or len(nats) != len(sizes):
        return None
    return Sample(np.stack([np.array(nats), np.array(sizes, dtype=np.float64)], axis=1), bits_per_byte)
