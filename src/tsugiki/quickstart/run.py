"""The quickstart: the main job, from text to a table of what was gained and forgotten, on an embedded default.

    <directory>/corpora/                    the embedded text as JSON Lines (the user's own files stay where they are)
    <directory>/tokenizer/                  learnt from the training text
    <directory>/base.yaml, base/            a small base model, trained here so that nothing has to be downloaded
    <directory>/vocabulary/                 that model with pieces for the new language, and the report on them
    <directory>/continued.yaml, continued/  its continued pretraining, with replay
    <directory>/without-extension.yaml, …/  the same with the base's own vocabulary
    <directory>/without-replay.yaml, …/     as `continued`, shorter, without replay
    <directory>/data/base/, data/extended/  token stores of either vocabulary
    <directory>/results.json, losses.png    the tables and the picture
    <directory>/report/                     the runs side by side; continued/report/ is that of the one model

It writes these recipes and runs each as `tsugiki run` does. Run again, it skips what is done and continues what was
interrupted.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from tsugiki.checkpoint_files import EXPORT_MARK
from tsugiki.errors import FINISHED, RESUMABLE
from tsugiki.files import read_json, write_json
from tsugiki.plots import plot_runs
from tsugiki.progress import PrepareProgress
from tsugiki.quickstart.base import write_tokenizer
from tsugiki.quickstart.corpora import Corpus, embedded_corpora
from tsugiki.quickstart.machine import choose_threads
from tsugiki.quickstart.recipes import EMBEDDED, write_recipes
from tsugiki.quickstart.table import Row, broken_promises, draw, draw_extension, lesson, make_rows
from tsugiki.quickstart.yardsticks import bytes_read, measure, scored_texts
from tsugiki.recipe_file import load_recipe, show
from tsugiki.terminal import plain

TITLES = {
    "base": "base", "continued": "continued, 30 % replay", "without-extension": "with the base's vocabulary",
    "without-replay": "continued without replay",
}  # fmt: skip
SAMPLE_PROMPT, SAMPLE_TOKENS = 24, 60
"""Characters of a held-out document, and tokens that the model adds."""

NOT_SHOWN = 1
"""Exit code when the run went through but did not show what it promises."""


def run_quickstart(directory: Path, console: Console, corpora: Path | None = None, minutes: float = 30.0) -> int:
    """Do the whole job in `directory`; returns the exit code: 0, RESUMABLE, or 1 when the promises were not kept.

    `corpora` is a folder of the user's own files, on which a larger model is trained for about `minutes`. Raises
    TsugikiError for what the user can mend.
    """
    started = time.perf_counter()
    say = _plain(console)
    if corpora is None:
        sources, plan = embedded_corpora(directory / "corpora"), EMBEDDED
    else:
        from tsugiki.quickstart.own import own_corpora_and_plan

        sources, plan = own_corpora_and_plan(directory, corpora, minutes, console, say)
    for corpus in sources:
        say(f"corpus     {corpus.name} ({corpus.language}): {corpus.documents:,} documents, {corpus.size / 1e6:.2f} MB")
    if corpora is None:
        limits = {"target": plan.tokenizer_target_bytes, "replay": plan.tokenizer_replay_bytes}
        write_tokenizer(directory / "tokenizer", sources, plan.vocabulary, say, limits=limits)
    recipes = write_recipes(directory, sources, plan)
    for number, (run, path) in enumerate(recipes.items(), 1):
        console.rule(f"{number} of {len(recipes)}: {TITLES[run]}   ({path})", align="left")
        first_with_its_tokenizer = run == "base" or (run == "continued" and plan.extends(run))
        if not run_recipe(path, console, show_data=first_with_its_tokenizer):
            say(f"stopped; the same command continues here: {path}")
            return RESUMABLE
    console.rule("results", align="left")
    read = bytes_read([load_recipe(recipes[run]) for run in ("base", "continued")])
    metrics = {run: directory / run / "metrics.jsonl" for run in recipes}
    rows = make_rows(sources, metrics, measure(directory, sources, read, plan.eval_documents))
    write_reports(directory, recipes)
    return report(directory, console, rows, sources, corpora, metrics, time.perf_counter() - started)


def _plain(console: Console) -> Any:
    def say(text: str) -> None:
        console.print(plain(text))

    return say


def run_recipe(path: Path, console: Console, *, show_data: bool) -> bool:
    """All stages of one recipe, as `tsugiki run`; returns whether it is finished. Recipes share their prepared data,
    so that it is shown once."""
    from tsugiki.pipeline import export_final, run_prepare, run_training, run_vocabulary

    say = _plain(console)
    recipe = load_recipe(path)
    if is_finished(recipe):
        say(f"up to date: {recipe.run_dir}")
        return True
    if recipe.vocabulary is not None or recipe.data.chat.add_template_tokens:
        run_vocabulary(recipe, say)
    say(f"threads    {choose_threads()}")
    with PrepareProgress(console) as progress:
        if show_data:
            run_prepare(recipe, progress, say)
        else:
            run_prepare(recipe)
    if not run_training(recipe, say):
        return False
    export_final(recipe, say)
    return True


def is_finished(recipe: Any) -> bool:
    """Whether this very recipe has been run to its end and exported."""
    state, written = recipe.run_dir / "state.json", recipe.run_dir / "recipe.yaml"
    return (
        state.exists()
        and read_json(state).get("status") == "finished"
        and written.exists()
        and written.read_text(encoding="utf-8") == show(recipe)
        and (recipe.run_dir / "export" / EXPORT_MARK).exists()
    )


def write_reports(directory: Path, recipes: Mapping[str, Path]) -> None:
    """The page of the continued model, with texts before and after, and one of all continued models side by side."""
    from tsugiki.pipeline import run_report

    write_page(recipes["continued"])
    run_report([directory / run for run in recipes if run != "base"], _silent, directory / "report")


def write_page(path: Path) -> None:
    """The page of a recipe's run, with texts and answers before and after. Who calls says where it is."""
    from tsugiki.pipeline import run_report, write_samples

    recipe = load_recipe(path)
    write_samples(recipe, _silent)
    run_report([recipe.run_dir], _silent)


def _silent(_text: str) -> None:
    return


def report(
    directory: Path, console: Console, rows: Sequence[Row], sources: Sequence[Corpus], corpora: Path | None,
    metrics: Mapping[str, Path], seconds: float,
) -> int:  # fmt: skip
    """Print the tables, the picture's place, a sample, and what to do next; returns the exit code."""
    say = _plain(console)
    picture = plot_runs({TITLES[run]: path for run, path in metrics.items()}, directory / "losses.png")
    write_json(directory / "results.json", {"rows": [asdict(row) for row in rows]})
    console.print(draw(rows))
    if any(row.extension is not None for row in rows):
        console.print(draw_extension(rows))
    say(lesson(rows))
    say("")
    _sample(directory, sources, say)
    say(
        f"report     {directory / 'continued' / 'report' / 'report.html'} (opens in a browser, offline)\n"
        f"compared   {directory / 'report' / 'report.html'}\n"
        f"picture    {picture}\n"
        f"results    {directory / 'results.json'}\n"
        f"model      {directory / 'continued' / 'export'} (opens with AutoModelForCausalLM.from_pretrained)\n"
        f"recipes    {', '.join(str(directory / f'{run}.yaml') for run in metrics)}"
    )
    say("")
    say((NEXT_EMBEDDED if corpora is None else NEXT_OWN).format(directory=directory))
    say(f"took {seconds / 60:.1f} minutes")
    if corpora is not None:
        return _judge_own(rows, say)
    problems = broken_promises(rows)
    for problem in problems:
        say(f"NOT AS PROMISED: {problem}")
    return NOT_SHOWN if problems else FINISHED


NEXT_EMBEDDED = """next       to a chat model: tsugiki quickstart --instruct --run-dir {directory}
           your own text:   tsugiki quickstart --corpora FOLDER --minutes 30
           a real model:    tsugiki init my-language   (then set model.name_or_path and your text's paths)
           look closer:     tsugiki inspect {directory}/continued
                            tsugiki sample {directory}/continued.yaml 0"""
NEXT_OWN = (
    """next       a real model:    tsugiki init my-language   (then set model.name_or_path and your text's paths)"""
)


def _judge_own(rows: Sequence[Row], say: Any) -> int:
    endless = float("inf")
    problems = broken_promises(rows, least_gain=0.05, most_loss=endless, most_tokens=1.0, least_extended_gain=-endless)
    for problem in problems:
        say(f"NOT SHOWN: {problem}; a longer run (--minutes) may show it")
    return NOT_SHOWN if problems else FINISHED


def _sample(directory: Path, sources: Sequence[Corpus], say: Any) -> None:
    """A held-out beginning, continued by the final model: what bits per byte sound like, and how little so small a
    model can do."""
    from tsugiki.model.generate import generate_text

    corpus = next(corpus for corpus in sources if corpus.role == "target")
    text = scored_texts(directory / "data" / "base" / corpus.name, corpus, 1)[0]
    prompt = text[:SAMPLE_PROMPT].rstrip()
    continued = generate_text(
        directory / "continued" / "export", prompt, max_new_tokens=SAMPLE_TOKENS, temperature=0.5, top_p=0.8, seed=1
    )
    continued = continued.removeprefix(prompt).rstrip("\ufffd")  # a character that was cut in its bytes
    say(f"sample     {prompt}| {continued}\n")
