"""Where something that a run's recipe names lies now: a run may have been moved since, with what lies beside it."""

from itertools import takewhile
from pathlib import Path


def found_at(folder: Path, own: Path, path: Path) -> Path | None:
    """The place of `path`, or None where it is nowhere. The recipe's paths are relative to where the run was started,
    which need not be here.

    folder: the run directory as it lies now; own: what its recipe calls it; path: what the recipe names.
    """
    path, own = path.expanduser(), own.expanduser()
    candidates = []
    if path.is_relative_to(own):
        candidates.append(folder / path.relative_to(own))
    if not path.is_absolute() and not own.is_absolute():
        here = folder.resolve()
        depth = len(own.parts)
        if here.parts[-depth:] == own.parts:
            candidates.append(Path(*here.parts[:-depth]) / path)
    shared = len([*takewhile(lambda pair: pair[0] == pair[1], zip(own.parts, path.parts, strict=False))])
    up = len(own.parts) - shared
    if shared and 0 < up <= 2 and up < len(folder.resolve().parts):  # both lie in a folder that was moved or renamed
        candidates.append(folder.resolve().parents[up - 1].joinpath(*path.parts[shared:]))
    return next((place for place in (*candidates, path) if place.exists()), None)
