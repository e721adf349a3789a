"""What an extended model follows from, as its manifest records it, and whether that is still what the recipe says.

Compared are the recipe's settings, the corpora by name and size of their files (they may be moved or copied), and the
base by what its files hold; of weights a few megabytes are read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NotRequired

import xxhash
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from tsugiki.checkpoint_files import newest_name
from tsugiki.corpus.inputs import input_files
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError, StorageError
from tsugiki.files import explain_os_error, read_json, xxh3_file
from tsugiki.recipe import Recipe
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_vocabulary import VocabularySection

VERSION = 1
"""Raised when the same sample would give another vocabulary."""
MANIFEST = "manifest.json"
"""In the vocabulary's folder: what is there is told under `MADE_FROM`."""
MADE_FROM: Final = "made_from"
SKETCH = 1 << 20
"""Bytes at the beginning, middle and end of a weight file that stand for all: no two trained models share them."""
OTHERWISE_READ = ("hub", "subset", "split", "revision", "text_key", "format", "encoding")


@with_config(ConfigDict(extra="allow"))
class _MadeFrom(TypedDict):
    base: dict[str, Any]
    corpora: NotRequired[dict[str, dict[str, Any]]]


class _Manifest(TypedDict):
    made_from: NotRequired[_MadeFrom | None]


def made_from(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path | None) -> dict[str, Any]:
    """Everything that the extended model follows from. Without `base_folder` the base's tokenizer stands for it."""
    return {**_stated(recipe), "corpora": _corpora(recipe), "base": digests(tokenizer, base_folder)}


def digests(tokenizer: TextTokenizer, folder: Path | None) -> dict[str, Any]:
    """What a model is known by; its tokenizer stands for it without a folder."""
    base: dict[str, Any] = {"tokenizer": tokenizer.fingerprint}
    if folder is not None:
        base |= {"config.json": _digest(folder / "config.json")}
        base |= {path.name: _sketch(path) for path in sorted(folder.glob("*.safetensors"))}
    return base


def _stated(recipe: Recipe) -> dict[str, Any]:
    """What the recipe alone says."""
    settings = section_of(recipe).model_dump(mode="json", exclude={"output_dir", "sources", "corpora"})
    return {"version": VERSION, "vocabulary": settings, "seed": recipe.seed}


def section_of(recipe: Recipe) -> VocabularySection:
    """The recipe's vocabulary section. Raises RecipeError when it has none."""
    if recipe.vocabulary is None:
        raise RecipeError("the recipe has no vocabulary section: there is nothing to extend")
    return recipe.vocabulary


def learned_from(recipe: Recipe) -> list[tuple[str, str, CorpusSection]]:
    """(section, name, corpus) of everything that pieces are learned from."""
    vocabulary = section_of(recipe)
    sources = [("data.sources", name, recipe.data.sources[name]) for name in vocabulary.learns_from(recipe)]
    return [*sources, *(("vocabulary.corpora", name, corpus) for name, corpus in vocabulary.corpora.items())]


def held_out_of(recipe: Recipe, where: str, name: str) -> float:
    """The share of a corpus's documents that pieces are not learned from: of a source, those it holds out."""
    return recipe.held_out_share(name) if where == "data.sources" else recipe.data.held_out


def _corpora(recipe: Recipe) -> dict[str, dict[str, Any]]:
    found = _read_as(recipe)
    for where, name, corpus in learned_from(recipe):
        files = [] if corpus.hub is not None else input_files(f"{where}.{name}", corpus)
        found[f"{where}.{name}"]["files"] = [[file.name, file.path.stat().st_size] for file in files]
    return found


def _read_as(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """What the recipe alone says of the corpora that pieces are learned from."""
    return {
        f"{where}.{name}": {
            **corpus.model_dump(mode="json", include=set(OTHERWISE_READ)),
            "held_out": held_out_of(recipe, where, name),
        }
        for where, name, corpus in learned_from(recipe)
    }


def _sketch(path: Path) -> list[Any]:
    """Size of a weight file, and the digest of its beginning, middle and end."""
    try:
        size = path.stat().st_size
        digest = xxhash.xxh3_128()
        with path.open("rb") as file:
            for start in (0, size // 2, max(0, size - SKETCH)):
                file.seek(start)
                digest.update(file.read(SKETCH))
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    return [size, digest.hexdigest()]


def _digest(path: Path) -> str:
    try:
        return xxh3_file(path)
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error


def recorded(recipe: Recipe) -> Mapping[str, Any] | None:
    """What the extended model that is there was made from; None where there is none."""
    folder = recipe.vocabulary_dir
    if not (folder / MANIFEST).exists() or not (folder / "model" / "config.json").exists():
        return None
    return read_json(folder / MANIFEST, _Manifest).get(MADE_FROM)


def is_up_to_date(recipe: Recipe, tokenizer: TextTokenizer, base_folder: Path | None) -> bool:
    """Whether the extended model is there and follows from the recipe and the base.

    Raises RecipeError where another one is there that may be in use: checkpoints of this run would not fit, or, in an
    `output_dir`, other runs may train with it.
    """
    before = recorded(recipe)
    if before is None:
        return False
    now = made_from(recipe, tokenizer, base_folder)
    if base_folder is None:
        before = {**before, "base": {"tokenizer": before.get("base", {}).get("tokenizer")}}
    if before == now:
        return True
    reasons = ", ".join(changes(before, now))
    changed = f"{recipe.vocabulary_dir}: the vocabulary would come out otherwise now ({reasons})"
    hint = " (vocabulary.sources says which sources are learned from)" if "corpora.data.sources" in reasons else ""
    if newest_name(recipe.run_dir / "checkpoints") is not None:
        raise RecipeError(
            f"{changed}, but {recipe.run_dir} has checkpoints with the old one. Undo the change{hint}, or give another "
            "run_dir"
        )
    if section_of(recipe).output_dir is not None:
        raise RecipeError(
            f"{changed}, but other runs may use the one that is there. Undo the change{hint}, give another "
            "vocabulary.output_dir, or remove the folder"
        )
    return False


def changes(before: Mapping[str, Any], now: Mapping[str, Any], inside: str = "") -> list[str]:
    """What differs, in words: "vocabulary.add was 64, is 128"."""
    found = []
    for key in sorted({**before, **now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += changes(old, new, f"{inside}{key}.")
        elif old != new:
            words = len(f"{old}{new}") <= 80 and "base." not in inside and None not in (old, new)
            found.append(f"{inside}{key} was {old}, is {new}" if words else f"{inside}{key} changed")
    return found


def is_made(recipe: Recipe) -> bool:
    """Whether there is an extended model with the recipe's settings."""
    return _why_not(recipe) is None


def extended_folder(recipe: Recipe) -> Path:
    """The folder of the extended model.

    Raises RecipeError when the stage has not been run to its end, or with other settings. What changed in the files of
    corpora or base is noticed by the stage.
    """
    reason = _why_not(recipe)
    if reason is not None:
        raise RecipeError(f"{recipe.vocabulary_dir} {reason}: run tsugiki vocabulary RECIPE first")
    return recipe.vocabulary_dir / "model"


def folder_here(recipe: Recipe) -> Path | None:
    """The folder of the model that is trained, as far as it is on this machine by now: the extended one where it is
    made, else the base's. None for a model from scratch, or one that is not here."""
    if recipe.model.name_or_path is None:
        return None
    made = recipe.vocabulary is not None and is_made(recipe)
    folder = extended_folder(recipe) if made else Path(recipe.model.name_or_path).expanduser()
    return folder if folder.is_dir() else None


def _why_not(recipe: Recipe) -> str | None:
    before = recorded(recipe)
    if before is None:
        return "holds no extended model yet"
    now = _stated(recipe)
    changed = changes({key: before.get(key) for key in now}, now)
    corpora = before.get("corpora", {})
    for name, read_as in _read_as(recipe).items():
        if name in corpora:  # one that has joined since changes nothing in a run that has begun
            changed += changes({key: corpora[name].get(key) for key in read_as}, read_as, f"corpora.{name}.")
    if recipe.model.name_or_path is not None and Path(recipe.model.name_or_path).expanduser().is_dir():
        configuration = _digest(Path(recipe.model.name_or_path).expanduser() / "config.json")
        if before.get("base", {}).get("config.json") != configuration:
            changed.append("model.name_or_path is another model now")
    return f"was made otherwise ({', '.join(changed)})" if changed else None
