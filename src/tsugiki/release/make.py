"""The folder: weights, tokenizer, licence, then read again, told, and summed up. It appears whole and verified, or not
at all."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tsugiki import __version__
from tsugiki.amounts import quantity
from tsugiki.checkpoint_files import is_export_of, read_manifest
from tsugiki.corpus.hub import resolve_model_folder
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.files import free_bytes, write_json
from tsugiki.folders import made_anew, only_one, tidy
from tsugiki.licence import Licence, find_licence
from tsugiki.metrics_file import ValidationLine, read_metrics, require_logged
from tsugiki.model.device import DTYPES
from tsugiki.model.export import check_output, read_weights, write_model
from tsugiki.model.merge import PREFIX, base_of
from tsugiki.moved import found_at
from tsugiki.origin_file import read_origins
from tsugiki.printable import one_line
from tsugiki.recipe import Recipe
from tsugiki.recipe_machine import looks_like_hub_id
from tsugiki.release.checksums import SUMS, write_sums, wrong_files
from tsugiki.release.choose import choose_checkpoints
from tsugiki.release.held_out import held_out_texts
from tsugiki.release.verify import describe, token_budget, verify_folder
from tsugiki.release_file import FILE, FORMAT, Release, ReleasedCheckpoint
from tsugiki.run_folder import recipe_of
from tsugiki.state_file import STATE_FILE, known_state

Say = Callable[[str], None]
WritePages = Callable[[Path, Path, Release], None]
"""Writes model card and report of a run directory into a folder that has everything else."""
BESIDE_WEIGHTS = 50_000_000
"""Bytes that tokenizer, report and the rest may take."""


def release(
    place: Path, output: Path, write_pages: WritePages, say: Say, *, dtype: str = "bfloat16", average: int | None = None
) -> None:
    """Make `output` the release of a run directory, or of one checkpoint in it, unless it is that already.

    dtype: a key of DTYPES. average: how many checkpoints the weights are the mean of. Raises RecipeError where
    something else has the name or there is no such checkpoint, StorageError for a damaged checkpoint, a disk that is
    too small or a folder that was changed, ModelError where the folder, read again, is not what was to be written.
    """
    run, checkpoints = choose_checkpoints(place, average)
    tidy(output)
    if is_release_of(checkpoints, output, dtype):
        say(f"release    {output} is up to date ({_names(checkpoints)}), every file as {SUMS} says")
        return
    check_output(output, dtype)
    recipe = recipe_of(run)
    validation = _validation_of(run, recipe, checkpoints)
    _require_room(checkpoints[-1], output, dtype)
    licence = base_licence(run, recipe, say)
    _say_choice(run, checkpoints, say)
    weights = read_weights(checkpoints, dtype)
    with only_one(output), made_anew(output) as work:
        write_model(weights, work)
        for file in licence.files if licence else []:
            shutil.copyfile(file, work / file.name)
        parameters = sum(tensor.numel() for tensor in weights.tensors.values())
        say(f"release    {quantity(parameters)} parameters in {dtype} are written; reading them again")
        tokenizer = TextTokenizer.from_folder(weights.companions)
        held_out = held_out_texts(run, recipe, tokenizer, validation, token_budget(parameters))
        seen = verify_folder(work, weights.tensors, dtype, held_out, validated=len(checkpoints) == 1)
        made = Release(
            format=FORMAT, tsugiki=__version__, run=run.resolve().name, dtype=dtype,
            checkpoints=[_released(path) for path in checkpoints], newest=_is_newest(run, checkpoints),
            base=recipe.model.name_or_path is not None, licence=licence.stated if licence else {},
            licence_files=[file.name for file in licence.files] if licence else [], verification=seen,
        )  # fmt: skip
        write_json(work / FILE, made)
        write_pages(run, work, made)
        write_sums(work)
    for line in describe(seen, [path.name for path in checkpoints]):
        say(line)
    say(f"release    {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


def is_release_of(checkpoints: Sequence[Path], output: Path, dtype: str) -> bool:
    """Whether `output` is the release of these checkpoints, all of it. Raises StorageError where it was and has been
    changed or damaged since."""
    if not (output / FILE).exists() or not is_export_of(checkpoints, output, dtype):
        return False
    wrong = wrong_files(output)
    if wrong:
        raise StorageError(
            f"{output} is this release, but {', '.join(wrong[:3])} {'is' if len(wrong) == 1 else 'are'} not as {SUMS} "
            "says: move the folder away to have it made again"
        )
    return True


def base_licence(run: Path, recipe: Recipe, say: Say) -> Licence | None:
    """What the base states of its licence, from its folder or, for a hub id, from the hub at the run's commit; empty
    where that cannot be found, None for a model without a base."""
    name = recipe.model.name_or_path
    if name is None:
        return None
    folder = found_at(run, recipe.run_dir, Path(name))
    if folder is None and looks_like_hub_id(name):
        origin = read_origins(run).get("model")
        commit = origin["commit"] if origin else None
        try:
            folder, _ = resolve_model_folder(name, recipe.model.revision, files="licence", known_commit=commit)
        except (ModelError, RecipeError) as error:
            say(f"licence    {one_line(str(error), 200)}")
    found = find_licence(folder) if folder is not None and folder.is_dir() else Licence()
    if not found.known:
        say(
            "licence    of the base: not found; the card says so. Look it up before you publish, and complete README.md"
        )
    else:
        named = found.name or "not named in its card"
        files = f", with {', '.join(file.name for file in found.files)}" if found.files else ""
        say(f"licence    of the base: {named}{files}")
    return found


def _require_room(checkpoint: Path, output: Path, dtype: str) -> None:
    tensors = read_manifest(checkpoint)["tensors"]
    numbers = sum(math.prod(entry["shape"]) for name, entry in tensors.items() if name.startswith(PREFIX))
    base = base_of(checkpoint)
    numbers += base["parameters"] if base is not None else 0
    needed, free = numbers * DTYPES[dtype].itemsize + BESIDE_WEIGHTS, free_bytes(output)
    if needed > free:
        raise StorageError(
            f"{output} needs {needed / 1e9:,.2f} GB and {free / 1e9:,.2f} GB are free there: free some space, or name "
            "another place"
        )


def _say_choice(run: Path, checkpoints: Sequence[Path], say: Say) -> None:
    what = "the mean of " if len(checkpoints) > 1 else ""
    say(f"release    {what}{_names(checkpoints)} of {run}")
    state = known_state(run)
    if state is None or state["status"] != "finished":
        status = state["status"] if state else f"it has no {STATE_FILE}"
        say(f"release    the run is not finished ({status}): these are its weights so far")


def _names(checkpoints: Sequence[Path]) -> str:
    return ", ".join(path.name for path in checkpoints)


def _released(checkpoint: Path) -> ReleasedCheckpoint:
    manifest = read_manifest(checkpoint)
    return ReleasedCheckpoint(name=checkpoint.name, step=manifest["step"], digest=manifest["digest"])


def _is_newest(run: Path, checkpoints: Sequence[Path]) -> bool:
    if len(checkpoints) > 1:
        return False
    _, newest = choose_checkpoints(run)
    return newest[0].name == checkpoints[0].name


def _validation_of(run: Path, recipe: Recipe, checkpoints: Sequence[Path]) -> ValidationLine | None:
    """The run's last validation at the step of the newest of these. Raises StorageError where what the run has logged
    is damaged or lost, which its report would be of."""
    step, path = read_manifest(checkpoints[-1])["step"], run / "metrics.jsonl"
    metrics = read_metrics(path)
    require_logged(path, metrics.reached, reached=step, interval=recipe.training.logging_steps)
    found = [line for line in metrics.validations if line["step"] == step]
    return found[-1] if found else None
