"""The stages in order, what is up to date, and the run directory.

    <run_dir>/vocabulary/        the extended model        (vocabulary, where the recipe has that section)
    <run_dir>/template_tokens/   the model with a chat template's markers  (vocabulary, where the recipe adds them)
    <run_dir>/data/<source>/     token stores              (prepare)
    <run_dir>/model/             configuration and tokenizer files of the model, as found (train)
    <run_dir>/recipe.yaml        the recipe of the last start, fully resolved
    <run_dir>/preflight.json     what the checks before step 1 saw
    <run_dir>/checkpoints/       sharded checkpoints
    <run_dir>/metrics.jsonl      one line a logged step, validation or evaluation
    <run_dir>/state.json         running | resumable | finished | failed
    <run_dir>/export/            the final model as a Hugging Face folder
    <run_dir>/samples.json       how the base and the final model go on with the same texts
    <run_dir>/evaluation/        answers, records and tables (evaluate, where the recipe has that section)
    <run_dir>/report/            page, model card and figures (report)

Each stage decides by a manifest whether its work is done: running again does what is missing and nothing else.
"""

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tsugiki.attribution_results import ATTRIBUTION_FILE
from tsugiki.corpus.filters.asked import EvaluationTexts
from tsugiki.corpus.inputs import Deal, Progress
from tsugiki.corpus.prepare import parted_sources, prepare, prepare_shards
from tsugiki.corpus.prepared import SourceManifest, open_prepared, source_directory
from tsugiki.corpus.up_to_date import is_ready
from tsugiki.errors import DataError, LostProcessError, ModelError, RecipeError, StorageError, TsugikiError
from tsugiki.files import read_json
from tsugiki.folders import only_one, tidy
from tsugiki.printable import one_line
from tsugiki.progress import describe_manifest
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_evaluation import DATA_DIR
from tsugiki.recipe_executor import ExecutorSection
from tsugiki.recipe_inputs import (
    Inputs,
    base_folder,
    folder_before_markers,
    load_base_tokenizer,
    load_tokenizer,
    model_folder,
    new_rows,
    record_inputs,
    resolve_commits,
    tokenizer_before_markers,
)
from tsugiki.recipe_length import describe_length, in_steps
from tsugiki.sweep_results import SWEEP_FILE
from tsugiki.vocabulary.made_from import is_up_to_date, section_of
from tsugiki.vocabulary.template_tokens import add_template_tokens, folder_of, is_made, markers_to_add

Say = Callable[[str], None]


def _silent(_text: str) -> None:
    return


def run_vocabulary(recipe: Recipe, say: Say) -> Any:
    """Extend the base's vocabulary, and add the markers of a chat template, unless that is done; returns the
    `VocabularyReport` of what was extended now, or None.

    Raises RecipeError where the recipe asks for neither, or where checkpoints were made with another vocabulary.
    """
    report = None
    if recipe.vocabulary is not None or not recipe.data.chat.add_template_tokens:
        report = _extend(recipe, say)
    if recipe.data.chat.add_template_tokens:
        _add_template_tokens(recipe, say)
    return report


def _extend(recipe: Recipe, say: Say) -> Any:
    from tsugiki.vocabulary.stage import extend

    section_of(recipe)
    commits = resolve_commits(recipe)
    tokenizer, folder = load_base_tokenizer(recipe, commits), base_folder(recipe, commits)
    assert folder is not None  # `recipe_checks` has refused an architecture
    tidy(recipe.vocabulary_dir)
    if not is_up_to_date(recipe, tokenizer, folder):
        with only_one(recipe.vocabulary_dir):
            # Another run that shares the folder may have made it meanwhile.
            if not is_up_to_date(recipe, tokenizer, folder):
                return extend(recipe, tokenizer, folder, say)
    say(f"vocabulary {recipe.vocabulary_dir} is up to date")
    return None


def _add_template_tokens(recipe: Recipe, say: Say) -> None:
    commits = resolve_commits(recipe)
    tokenizer, folder = tokenizer_before_markers(recipe, commits), folder_before_markers(recipe, commits)
    assert folder is not None  # `recipe_checks` has refused an architecture
    target = folder_of(recipe)
    if not markers_to_add(recipe, tokenizer):
        say(f"template   the tokenizer has all markers of {recipe.data.chat.template}")
        return
    tidy(target)
    if not is_made(recipe, tokenizer, folder):
        with only_one(target):
            # Another start of this run may have made it meanwhile.
            if not is_made(recipe, tokenizer, folder):
                add_template_tokens(recipe, tokenizer, folder, say)
                return
    say(f"template   {target} is up to date")


def run_prepare(
    recipe: Recipe, progress: Progress | None = None, say: Say = _silent, *, deal: Deal | None = None,
    merge: bool = False, verify: bool = False,
) -> bool:  # fmt: skip
    """Tokenise every source that is not up to date (`verify`: by its digests too), and say what each one holds; or one
    part of it (`deal`), or put the parts together (`merge`). Where the recipe has an executor, that makes the parts.

    Returns whether the work is done: False where jobs that will do it have been submitted."""
    tokenizer, evaluation = load_tokenizer(recipe), partial(_evaluation_texts, recipe)
    if deal is not None:
        prepare_shards(recipe, tokenizer, deal, progress=progress, evaluation=evaluation)
        return True
    if recipe.data.executor is not None and not merge and not verify and parted_sources(recipe, tokenizer):
        job = _have_parts_made(recipe, recipe.data.executor)
        if job is not None:
            say(f"submitted  when job {job} has ended, {recipe.prepared_dir} is ready")
            return False
        merge = True
    manifests = prepare(recipe, tokenizer, progress=progress, evaluation=evaluation, merge=merge, verify=verify)
    for name, manifest in manifests.items():
        say(describe_manifest(name, manifest))
        if later := _fetched_later(recipe, manifest):
            say(
                f"           prepared before these evaluation sets were there, so it may hold their text: "
                f"{', '.join(later)}; remove {source_directory(recipe, name)} and prepare again to look for it"
            )
    return True


def _have_parts_made(recipe: Recipe, section: ExecutorSection) -> str | None:
    """Under Slurm the number of the job that puts them together."""
    from tsugiki.corpus.executors import make_parts

    if recipe.data.workers is None:
        data = recipe.data.model_copy(update={"workers": section.cpus_per_task})
        recipe = recipe.model_copy(update={"data": data})
    return make_parts(section, recipe.prepared_dir, partial(_prepare_part, recipe), partial(_merge_parts, recipe))


def _prepare_part(recipe: Recipe, deal: Deal) -> None:
    run_prepare(recipe, deal=deal)


def _merge_parts(recipe: Recipe) -> None:
    run_prepare(recipe, say=partial(print, flush=True), merge=True)


def _fetched_later(recipe: Recipe, manifest: SourceManifest) -> list[str]:
    """Evaluation sets that a source would be compared with, were it prepared now, and was not."""
    from tsugiki.evaluation.data.texts import sets_beside

    source, folder = recipe.data.sources[manifest.name], _evaluation_folder(recipe)
    asked = source.filters.decontamination
    if folder is None or source.is_chat or source.store is not None or (asked and (asked.sets or not asked.enabled)):
        return []
    compared = manifest.filtered.evaluation if manifest.filtered is not None else None
    return sets_beside(folder, compared["items"] if compared else ())


def _evaluation_texts(recipe: Recipe) -> EvaluationTexts | None:
    """What documents must not hold."""
    from tsugiki.evaluation.data.texts import evaluation_texts

    folder = _evaluation_folder(recipe)
    return None if folder is None else evaluation_texts(folder)


def _evaluation_folder(recipe: Recipe) -> Path | None:
    """Where the sets lie that documents are compared with: those that the recipe evaluates on, or whose texts it names
    in a filter."""
    named = any(source.filters.decontamination is not None for source in recipe.data.sources.values())
    evaluation = recipe.evaluation
    if not named and (evaluation is None or evaluation.suite == "quick"):
        return None
    return (evaluation and evaluation.data_dir) or Path(DATA_DIR)


def run_training(recipe: Recipe, say: Say, *, only_preflight: bool = False) -> bool:
    """Train (or only check) and return whether the schedule was finished. Needs prepared data.

    Under several processes every rank calls this. Raises the error that stopped it, after recording it in
    `state.json`. The steps themselves are in `training/loop.py`.
    """
    from tsugiki.evaluation.probes.while_training import questions
    from tsugiki.model.ranks import on_first_rank
    from tsugiki.state_file import reached_step, write_state
    from tsugiki.training.distributed import others_alive, start_processes, stop_processes
    from tsugiki.training.finished import is_finished
    from tsugiki.training.preflight import check_run
    from tsugiki.training.run import open_run
    from tsugiki.training.run_lock import lock_run
    from tsugiki.training.signals import StopRequest
    from tsugiki.training.stage import describe_run, require_steps_left, train_and_record
    from tsugiki.training.tracking import require_trackers

    require_trackers(recipe)
    processes = start_processes(recipe.parallel.timeout_minutes)
    say = say if processes.is_first else _silent
    try:
        with ExitStack() as held:
            held.enter_context(others_alive(recipe.parallel.timeout_minutes))
            commits = on_first_rank(lambda: resolve_commits(recipe), processes.control)
            tokenizer = load_tokenizer(recipe, commits)
            sources = open_prepared(recipe, tokenizer)
            asked, recipe = recipe, in_steps(recipe, {name: source.train for name, source in sources.items()})
            if recipe is not asked:
                say(f"length     {describe_length(asked, recipe)}")
            inputs = Inputs(tokenizer, model_folder(recipe, commits), commits)
            stop = held.enter_context(StopRequest())
            on_first_rank(lambda: held.enter_context(lock_run(recipe.run_dir)), processes.control)
            done = partial(is_finished, recipe, sources, tokenizer, inputs.folder)
            if not only_preflight and on_first_rank(done, processes.control):
                if processes.is_first:
                    record_inputs(recipe, inputs)
                say(f"nothing to train: {recipe.run_dir} has finished its {total_steps(recipe):,} steps")
                return True
            lora = recipe.training.lora
            rows = new_rows(recipe, tokenizer, commits) if lora is not None and lora.new_rows else []
            run = open_run(recipe, sources, tokenizer, inputs.folder, processes, stop, say, rows)
            describe_run(run)
            if not only_preflight:
                require_steps_left(run)
            check_run(run)
            if only_preflight:
                return False
            if processes.is_first:
                record_inputs(recipe, inputs)  # now that the recipe is known to continue what is there
            return train_and_record(run, questions(recipe, sources, tokenizer))
    except TsugikiError as error:
        # Not for a StorageError: another run may hold the directory, or the disk may be full. Not for a RecipeError:
        # the run stands as it stood, and goes on with the recipe that it was begun with. Nor for a lost process.
        stands = only_preflight or isinstance(error, StorageError | RecipeError | LostProcessError)
        if processes.is_first and not stands and recipe.run_dir.exists():
            write_state(recipe.run_dir, "failed", reached_step(recipe.run_dir), str(error).splitlines()[0])
        raise
    finally:
        stop_processes()


def run_all(
    recipe: Recipe,
    say: Say,
    progress: Progress | None = None,
    evaluate: Callable[[Recipe], None] | None = None,
) -> bool:
    """Every stage in order; returns whether the run is finished (False: stopped on request, resumable).

    `evaluate` is called after training, where the recipe has a section of that name: it calls `run_evaluation` with
    what shows its progress."""
    from tsugiki.model.safe_config import check_architecture
    from tsugiki.training.distributed import read_place

    first = read_place(os.environ).rank == 0
    if first:
        if recipe.model.architecture is not None:
            check_architecture(recipe.model.architecture)  # before hours of preparing
        if recipe.vocabulary is not None or recipe.data.chat.add_template_tokens:
            run_vocabulary(recipe, say)
        if not run_prepare(recipe, progress, say):
            return False
    else:
        _wait_for_data(recipe)
    finished = run_training(recipe, say)
    if finished and first:
        export_final(recipe, say)
        write_samples(recipe, say)
        if recipe.evaluation is not None and evaluate is not None:
            evaluate(recipe)
        run_report([recipe.run_dir], say)
    return finished


def run_evaluation(recipe: Recipe, say: Say, progress: Any, console: Any) -> None:
    """Evaluate the final model, and the base and chosen steps beside it (or the base alone), as the recipe's section
    `evaluation` says; print the table, and write it below `<run_dir>/evaluation`. What is answered already is not
    asked again.

    Raises RecipeError where the recipe has no such section, StorageError for a step whose checkpoint is not there.
    """
    from tsugiki.evaluation.models import checkpoint_at, find_model
    from tsugiki.evaluation.run import Settings
    from tsugiki.evaluation.show import evaluate_and_show
    from tsugiki.evaluation.suites import QUICK

    section = recipe.evaluation
    if section is None:
        raise RecipeError("the recipe has no section evaluation: add one, or name models instead of the recipe")
    base = base_folder(recipe, resolve_commits(recipe)) if section.base else None
    final = total_steps(_in_steps(recipe))  # the export is that of its checkpoint
    models = []
    if section.base != "only":
        models = [find_model(str(checkpoint_at(recipe.run_dir, step))) for step in section.steps if step != final]
        models.append(find_model(str(recipe.run_dir)))
    settings = Settings.of(section, recipe.data)
    evaluate_and_show(
        models, settings, recipe.run_dir / "evaluation", say, progress, console,
        baseline=find_model(str(base), allow_pickle=recipe.model.allow_pickle) if base is not None else None,
        published=section.published,
        texts=held_out_texts(recipe) if section.suite == QUICK else {},
    )  # fmt: skip


def _in_steps(recipe: Recipe) -> Recipe:
    """The recipe with its length in steps, for which one in epochs needs the prepared data."""
    if recipe.training.num_epochs is None:
        return recipe
    sources = open_prepared(recipe, load_tokenizer(recipe))
    return in_steps(recipe, {name: source.train for name, source in sources.items()})


def held_out_texts(recipe: Recipe) -> dict[str, tuple[str, list[str]]]:
    """By source: its language, and the held-out documents that validation scores."""
    tokenizer, texts = load_tokenizer(recipe), {}
    for name, source in open_prepared(recipe, tokenizer).items():
        documents = source.held_out_texts(tokenizer, recipe.training.eval_documents)
        if documents:
            texts[name] = (source.language or "other", documents)
    return texts


def export_final(recipe: Recipe, say: Say) -> Path:
    """The newest checkpoint as a Hugging Face folder in `<run_dir>/export`, unless it is there already."""
    from tsugiki.checkpoint_files import EXPORT_MARK, ExportMark, is_export_of, newest_name
    from tsugiki.model.export import export

    output = recipe.run_dir / "export"
    tidy(output)
    name = newest_name(recipe.run_dir / "checkpoints")
    if name is None:
        raise TsugikiError(f"{recipe.run_dir}/checkpoints has no checkpoint to export")
    checkpoint, mark = recipe.run_dir / "checkpoints" / name, output / EXPORT_MARK
    if is_export_of(checkpoint, output, "bfloat16"):
        say(f"export     {output} is up to date ({name})")
        return output
    ours = {EXPORT_MARK, *(read_json(mark, ExportMark)["files"] if mark.exists() else ())}
    ours = {Path(name).parts[0] for name in ours}
    others = sorted(path.name for path in output.iterdir() if path.name not in ours) if output.is_dir() else []
    if others or (output.exists() and not output.is_dir()):
        what = f"{output / others[0]}" if others else f"{output}"
        raise StorageError(f"{what} was not written by this run: move it away, then run again to export")
    export(checkpoint, output, replace=True)
    say(f"export     {output}")
    return output


def write_samples(recipe: Recipe, say: Say) -> None:
    """Texts that base and final model go on with, for the report; that there are none ends nothing."""
    from tsugiki.samples import FILE, make_samples

    try:
        reason = make_samples(recipe)
    except (ModelError, DataError) as error:
        reason = one_line(error, 200)
    say(f"samples    left out: {reason}" if reason else f"samples    {recipe.run_dir / FILE}")


def run_report(folders: Sequence[Path], say: Say, output: Path | None = None) -> None:
    """Write the page, the model card and the figures of one run directory, or of several side by side; of the folder of
    a sweep or an attribution its page. Raises RecipeError for such a folder beside others."""
    from tsugiki.report.write import write_attribution_report, write_report, write_sweep_report

    kinds = {
        SWEEP_FILE: ("a sweep", write_sweep_report),
        ATTRIBUTION_FILE: ("an attribution", write_attribution_report),
    }
    whole = [(folder, kind) for folder in folders for name, kind in kinds.items() if (folder / name).is_file()]
    if whole and len(folders) > 1:
        raise RecipeError(
            f"{whole[0][0]} is {whole[0][1][0]}, whose page holds all its runs: name it alone, or name runs"
        )
    page, *others = whole[0][1][1](folders[0], output) if whole else write_report(folders, output)
    say(f"report     {page}, {', '.join(path.name for path in others)}")


def run_release(
    place: Path,
    output: Path,
    say: Say,
    *,
    dtype: str = "bfloat16",
    average: str | None = None,
    push_to: str | None = None,
    public: bool = False,
) -> None:
    """Make a verified folder of a run directory, or of a checkpoint in one, and push it where `push_to` names a
    repository of the hub. average: `last:N`."""
    from tsugiki.release.choose import parse_average
    from tsugiki.report.write import write_release_pages

    count = None if average is None else parse_average(average)
    hub = None
    if push_to is not None:
        from tsugiki.release.push import open_hub

        hub = open_hub(push_to, public=public)
    from tsugiki.release.make import release

    release(place, output, write_release_pages, say, dtype=dtype, average=count)
    if hub is not None:
        from tsugiki.release.push import push

        who = "everybody" if hub.public else "you and your organisation"
        say(f"push       to {hub.address}, for {who} to see; report/ has the recipe with its paths and held-out text")
        say(f"push       {push(hub, output)} is whole")


def _wait_for_data(recipe: Recipe) -> None:
    """Other ranks wait for rank 0's work on files, not in a collective that would time out.

    A vocabulary or store of an earlier recipe may lie there until rank 0 has replaced it, so inputs are compared.
    """
    if recipe.vocabulary is not None:
        base, name = load_base_tokenizer(recipe), Path(str(recipe.model.name_or_path)).expanduser()
        # Rank 0 alone fetches a base from the hub; its tokenizer is enough to know it by.
        while not is_up_to_date(recipe, base, name if name.is_dir() else None):
            time.sleep(2)
    unmarked = tokenizer_before_markers(recipe)
    while markers_to_add(recipe, unmarked) and not is_made(recipe, unmarked):
        time.sleep(2)
    tokenizer = load_tokenizer(recipe)
    while not all(is_ready(recipe, name, tokenizer) for name in recipe.data.sources):
        time.sleep(2)
