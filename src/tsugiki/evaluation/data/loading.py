"""`load_set`: one evaluation set out of a folder of data, read whole, checked and described."""

from collections.abc import Callable
from pathlib import Path

from tsugiki.errors import RecipeError
from tsugiki.evaluation.data import english, japanese, translation, winograd
from tsugiki.evaluation.data.items import DataFiles, LoadedSet, Splits, check_ids
from tsugiki.evaluation.data.sets import SETS

LOADERS: dict[str, Callable[[DataFiles], Splits]] = {
    "jcommonsenseqa": japanese.load_jcommonsenseqa,
    "jemhopqa": japanese.load_jemhopqa,
    "niilc": japanese.load_niilc,
    "jsquad": japanese.load_jsquad,
    "xlsum_ja": japanese.load_xlsum_ja,
    "mgsm_ja": japanese.load_mgsm_ja,
    "wmt20_en_ja": lambda files: translation.load_wmt20(files, "en", "ja"),
    "wmt20_ja_en": lambda files: translation.load_wmt20(files, "ja", "en"),
    "openbookqa": english.load_openbookqa,
    "triviaqa": english.load_triviaqa,
    "hellaswag": english.load_hellaswag,
    "squad2": english.load_squad2,
    "xwinograd_en": winograd.load_xwinograd_en,
    "gsm8k": english.load_gsm8k,
}


def load_set(name: str, data_dir: Path) -> LoadedSet:
    """The set `name` from the folder `data_dir` (one subfolder a set, as `tsugiki data fetch` makes them).

    Raises RecipeError for a name that is not known, MissingData when its files are not there, and DataError, naming
    file and place, when they cannot be used.
    """
    if name not in LOADERS:
        raise RecipeError(f"{name!r} is no evaluation set; there are {', '.join(LOADERS)}")
    files = DataFiles(name, data_dir)
    splits = LOADERS[name](files)
    check_ids(splits.test, "test split", name)
    check_ids(splits.shots, "pool of examples", name)
    notes, complete = list(splits.notes), len(splits.test) == SETS[name].items
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
