"""Starting recipes: commented files that a user copies, fills in and keeps."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tsugiki.errors import RecipeError, StorageError

KINDS = ("new-language", "new-field", "instruct", "one-gpu", "slurm")


def write_template(directory: Path | str, kind: str = "new-language") -> list[Path]:
    """Write the starting files of `kind` into `directory`, made if need be, and return their paths.

    Raises:
        RecipeError: for an unknown kind, and when one of the files exists already: nothing is overwritten, and
            nothing is written then.
        StorageError: when the directory cannot be written.
    """
    directory = Path(directory)
    if kind not in KINDS:
        raise RecipeError(f"{kind}: there is no such template; choose one of {', '.join(KINDS)}")
    templates = [item for item in files("tsugiki").joinpath("templates", kind).iterdir() if item.is_file()]
    targets = {directory / item.name: item.read_bytes() for item in sorted(templates, key=lambda item: item.name)}
    for target in targets:
        if target.exists() or target.is_symlink():
            raise RecipeError(f"{target}: exists already and is left as it is; choose another folder")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for target, content in targets.items():
            with target.open("xb") as file:  # x: also not over a file that appeared meanwhile
                file.write(content)
    except FileExistsError as error:
        raise RecipeError(f"{error.filename}: exists already and is left as it is") from error
    except OSError as error:
        raise StorageError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error
    return list(targets)
