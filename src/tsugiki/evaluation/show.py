"""From the names of models to the table: what `tsugiki evaluate` and a recipe's stage do alike."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tsugiki.errors import RecipeError
from tsugiki.evaluation import diff, table_forms
from tsugiki.evaluation.asked import Progress, Say
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.published import SUITE, published_rows
from tsugiki.evaluation.quick import Texts
from tsugiki.evaluation.run import Settings, evaluate
from tsugiki.evaluation.table import make_table
from tsugiki.evaluation_files import MissingTask, ModelResult
from tsugiki.files import write_atomically, write_json


def evaluate_and_show(
    models: Sequence[NamedModel],
    settings: Settings,
    output: Path,
    say: Say,
    progress: Progress,
    console: Console,
    *,
    baseline: NamedModel | None = None,
    published: bool = False,
    texts: Texts | None = None,
) -> list[ModelResult]:
    """Evaluate, print the table, and write it as table.md and table.json into `output`.

    Raises TsugikiError: what ended a task or a model, after the table of all others; what ends everything, at once.
    """
    if published and settings.suite != SUITE:
        raise RecipeError(f"published scores are those of the suite {SUITE}: add --suite {SUITE} (suite: {SUITE})")
    every = [baseline, *models] if baseline is not None else list(models)
    every = list({model.fingerprint: model for model in every}.values())  # the baseline may be one of the models
    found = evaluate(every, settings, output, say, progress, texts or {})
    results = [result for _, result in found]
    table = make_table(
        results,
        baseline=results[0] if baseline is not None else None,
        published=published_rows(settings.suite) if published else (),
    )
    console.print()
    console.print(table_forms.draw(table, console.width))
    write_atomically(output / "table.md", table_forms.to_markdown(table))
    write_json(output / "table.json", table_forms.to_json(table))
    say(f"records    {', '.join(str(folder) for folder, _ in found if folder.is_dir())}")
    say(f"table      {output / 'table.md'}, table.json")
    if missing := without_score(results):
        say(f"no score   {', '.join(missing)}: see above")
    if failures := [failure for result in results for failure in result.failures]:
        raise failures[0]
    return results


def without_score(results: Sequence[ModelResult]) -> list[str]:
    """Titles of the tasks that some model has no score for."""
    return sorted({task.title for result in results for task in result.tasks.values() if isinstance(task, MissingTask)})


def show_diff(
    first: Path, second: Path, console: Console, *, tasks: Sequence[str], limit: int, json_lines: bool
) -> None:
    """Print the items whose scores differ. Raises TsugikiError."""
    found = diff.compare(first, second, tasks)
    if json_lines:
        for line in diff.to_json_lines(found):
            console.out(line, highlight=False)
    else:
        console.print(diff.draw(found, limit))
