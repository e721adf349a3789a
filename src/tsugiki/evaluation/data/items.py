"""What loading an evaluation set gives, and the files that it was loaded from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from tsugiki.errors import DataError
from tsugiki.files import explain_os_error, xxh3_file

Item = dict[str, str | int | list[str] | list[int]]
"""One question with its gold answer; `id` is unique in its split and does not change between runs."""


class MissingData(DataError):
    """The files of a set are not there."""


@dataclass(frozen=True)
class LoadedSet:
    """One evaluation set, read and checked."""

    name: str
    test: list[Item]
    shots: list[Item]
    """The pool that few-shot examples are drawn from; empty where no such file is there."""
    files: dict[str, str]
    """Path of each file read, relative to the data folder → its digest (xxh3)."""
    published_shots: bool
    """The pool is the one that the published set-up drew its examples from."""
    published_items: bool
    """The test items are those of the published set-up, all and as they were."""
    notes: list[str]
    """What a reader of the results must know, such as "3,000 of 17,944 items"."""
    total: int
    """Items of the test split before any leaves it."""


@dataclass(frozen=True)
class Splits:
    """What a loader finds: see LoadedSet."""

    test: list[Item]
    shots: list[Item] = field(default_factory=list)
    published_shots: bool = False
    published_items: bool = True
    notes: list[str] = field(default_factory=list)


def splits(read: Callable[[Path], list[Item]], test: Path, examples: Path | None, **facts: Any) -> Splits:
    """The splits of two files of one form. Examples that are there are those of the published set-up, unless `facts`
    (fields of Splits) say otherwise."""
    facts.setdefault("published_shots", examples is not None)
    return Splits(read(test), read(examples) if examples else [], **facts)


def hub_names(folder: str, split: str, *forms: str) -> list[str]:
    """Where a split may lie, as files of `forms` or in the hub's Parquet form: in the folder or in its `data`."""
    names = [*forms, f"{split}-00000-of-00001.parquet"]
    return [f"{folder}/{place}{name}" for name in names for place in ("", "data/")]


class DataFiles:
    """Finds the files of one set in a data folder, and remembers which were used."""

    def __init__(self, name: str, data_dir: Path):
        self.name = name
        self.data_dir = Path(data_dir)
        self.used: dict[str, str] = {}

    def find(self, *paths: str) -> Path | None:
        """The first of these files (paths below the data folder) that is there."""
        for relative in paths:
            path = self.data_dir / relative
            if path.is_file():
                self._remember(relative, path)
                return path
        return None

    def need(self, *paths: str) -> Path:
        """The first of these files that is there. Raises MissingData, naming them, when none is."""
        return self.find(*paths) or self.missing(*paths)

    def find_all(self, *paths: str) -> list[Path] | None:
        """All of these files, or None unless every one is there."""
        if all((self.data_dir / relative).is_file() for relative in paths):
            return [path for relative in paths if (path := self.find(relative))]
        return None

    def missing(self, *paths: str) -> NoReturn:
        """Raise the error for a set none of whose files is there."""
        looked_for = ", ".join(paths)
        raise MissingData(
            f"{self.name}: none of its files is in {self.data_dir} (looked for {looked_for}). "
            f"Fetch it with: tsugiki data fetch {self.name}"
        )

    def _remember(self, relative: str, path: Path) -> None:
        try:
            self.used[relative] = xxh3_file(path)
        except OSError as error:
            raise DataError(explain_os_error(error, path, "read")) from None


def check_ids(items: Iterable[Item], split: str, name: str) -> None:
    """Raise DataError when two items of a split carry the same id: records could not be told apart."""
    seen: set[str] = set()
    for item in items:
        identity = str(item["id"])
        if identity in seen:
            raise DataError(
                f"{name}: two items of its {split} carry the id {identity!r}. The file was joined or edited: put the "
                f"original one in its place (`tsugiki data fetch {name}`)"
            )
        seen.add(identity)
