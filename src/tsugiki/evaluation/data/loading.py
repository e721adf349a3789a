"""`load_set`: one evaluation set out of a folder of data, read whole, checked and described."""

from pathlib import Path

from tsugiki.evaluation.data.items import DataFiles, LoadedSet, MissingData, Splits, check_ids
from tsugiki.evaluation.data.rows import read_rows
from tsugiki.evaluation.data.sets import SETS


def load_set(name: str, data_dir: Path) -> LoadedSet:
    """The set `name` from the folder `data_dir` (one subfolder a set, as `tsugiki data fetch` makes them).

    A set that is not in `SETS` is a plain one: `NAME/test.jsonl` and, for shots, `NAME/train.jsonl`, each line an item
    with an `id`.

    Raises MissingData when its files are not there, and DataError, naming file and place, when they cannot be used.
    """
    files = DataFiles(name, data_dir)
    splits = SETS[name].load(files) if name in SETS else _plain(name, files)
    check_ids(splits.test, "test split", name)
    check_ids(splits.shots, "pool of examples", name)
    notes, complete = list(splits.notes), name not in SETS or len(splits.test) == SETS[name].items
    if not complete:
        notes.append(f"{len(splits.test):,} of {SETS[name].items:,} items")
    return LoadedSet(
        name=name,
        test=splits.test,
        shots=splits.shots,
        files=files.used,
        published_shots=splits.published_shots,
        published_items=splits.published_items and complete,
        notes=notes,
        total=len(splits.test),
    )


def _plain(name: str, files: DataFiles) -> Splits:
    test, train = files.find(f"{name}/test.jsonl"), files.find(f"{name}/train.jsonl")
    if test is None:
        raise MissingData(f"{name}: neither one of the sets {', '.join(SETS)} nor {files.data_dir / name}/test.jsonl")
    items, shots = (
        [{**row.values, "id": row.text("id")} for row in read_rows(path)] if path else [] for path in (test, train)
    )
    return Splits(items, shots, published_items=False)
