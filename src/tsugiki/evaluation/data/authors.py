"""Files of tasks that their authors publish and nobody fetches: the user puts them into the data folder."""

from collections.abc import Sequence
from pathlib import Path

from tsugiki.errors import DataError


def authors_file(name: str, files: Sequence[str], data_dir: Path | None) -> Path:
    """The first of a task's `files` that is there. Raises DataError, which says where to put it."""
    folder = data_dir or Path()
    found = next((folder / file for file in files if (folder / file).exists()), None)
    if found is None:
        raise DataError(
            f"{name}: put the file of its authors at {folder / files[0]} (or {', '.join(files[1:])}); it is not fetched"
        )
    return found
