"""Which checkpoints of a run are released: the newest, the one that is named, or the last few."""

import re
from pathlib import Path

from tsugiki.checkpoint_files import Name, newest_name, parse_name, read_manifest, size_problems
from tsugiki.errors import RecipeError, StorageError
from tsugiki.run_folder import RECIPE_FILE, no_run

MOST = 1000
"""Checkpoints of a mean."""


def parse_average(text: str) -> int:
    """The N of `last:N`. Raises RecipeError for anything else."""
    match = re.fullmatch(r"last:(\d{1,4})", text)
    if not match or not 2 <= int(match[1]) <= MOST:
        raise RecipeError(
            f"--average {text}: it is last:N, the mean of the last N checkpoints, with N from 2 to {MOST:,}"
        )
    return int(match[1])


def choose_checkpoints(place: Path, average: int | None = None) -> tuple[Path, list[Path]]:
    """The run directory, and the checkpoints to release, oldest first.

    place: a run directory (its newest whole checkpoint) or a checkpoint in one. With `average` that many of the line
    that led there: a checkpoint that the run went back from is none of them. Raises RecipeError where there is no such
    run or there are fewer, StorageError where the run has no whole checkpoint.
    """
    if parse_name(place.resolve().name) and place.resolve().parent.name == "checkpoints":
        run, newest = place.resolve().parents[1], place.resolve().name
    elif (place / RECIPE_FILE).is_file():
        run, found = place, newest_name(place / "checkpoints")
        if found is None:
            raise StorageError(f"{place / 'checkpoints'} has no whole checkpoint yet: there is nothing to release")
        newest = found
    else:
        raise no_run(place)
    folder = run / "checkpoints"
    manifest = read_manifest(folder / newest)
    if average is None:
        return run, [folder / newest]
    line = sorted({name for text in [newest, *manifest["ancestors"]] if (name := parse_name(text))}, reverse=True)
    kept = [name for name in line if _is_whole(folder, name)][:average]
    if len(kept) < average:
        steps = ", ".join(f"{name.step:,}" for name in reversed(kept))
        raise RecipeError(
            f"--average last:{average}: {folder} has {len(kept)} whole checkpoints up to {newest} (of step {steps}). "
            "training.save_total_limit and training.keep_every say how many a run keeps"
            + (f"; of this one take --average last:{len(kept)}" if len(kept) > 1 else "")
        )
    return run, [folder / str(name) for name in reversed(kept)]


def _is_whole(folder: Path, name: Name) -> bool:
    """By manifest and sizes; digests are compared when it is read."""
    try:
        return not size_problems(folder / str(name), read_manifest(folder / str(name)))
    except StorageError:
        return False
