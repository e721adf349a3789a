"""Rows for the markers of a named chat template that a tokenizer does not have (`data.chat.add_template_tokens`).

    <run_dir>/template_tokens/model/          the base, or the model with the extended vocabulary, with the markers
    <run_dir>/template_tokens/manifest.json   what it was made from

The markers become special tokens behind all others: in spare rows of the model where it has some, else in new ones,
whose number is rounded up as that of the vocabulary stage is. A new row starts as the mean of the rows that spelled the
marker before. The folder gets its name when everything is written.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tsugiki.chat.templates import NAMED, missing_markers
from tsugiki.checkpoint_files import newest_name
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.files import read_json, write_atomically, write_json
from tsugiki.folders import made_anew
from tsugiki.model.added_tokens import listed, not_single, with_added_tokens
from tsugiki.recipe import Recipe
from tsugiki.recipe_vocabulary import VocabularySection
from tsugiki.vocabulary.made_from import MADE_FROM, MANIFEST, changes, digests

VERSION = 1
"""Raised when the same model would get other rows."""


def markers_to_add(recipe: Recipe, tokenizer: TextTokenizer) -> list[str]:
    """The markers that the recipe asks for and `tokenizer` does not have as tokens beside its vocabulary."""
    chat = recipe.data.chat
    if not (recipe.has_chat and chat.add_template_tokens and chat.template is not None):
        return []
    return missing_markers(NAMED[chat.template], tokenizer)


def folder_of(recipe: Recipe) -> Path:
    """Where the model with markers lies, with its manifest."""
    return recipe.run_dir / "template_tokens"


def with_markers(recipe: Recipe, tokenizer: TextTokenizer) -> Path:
    """The folder of the model with markers that was made of one with this tokenizer. Raises RecipeError where it has
    not been made."""
    if not is_made(recipe, tokenizer):
        raise RecipeError(
            f"{folder_of(recipe)} holds no model with the markers of the chat template {recipe.data.chat.template} "
            "yet: run tsugiki vocabulary RECIPE first"
        )
    return folder_of(recipe) / "model"


def is_made(recipe: Recipe, tokenizer: TextTokenizer, folder: Path | None = None) -> bool:
    """Whether the model with markers is there, made of this one (known by its tokenizer where no folder is named)."""
    before, now = _recorded(recipe), _made_from(recipe, tokenizer, folder)
    if folder is None:
        before = {**before, "base": {"tokenizer": before.get("base", {}).get("tokenizer")}}
    return before == now


def write_tokenizer(recipe: Recipe, tokenizer: TextTokenizer, folder: Path) -> None:
    """Write the tokenizer's files with the markers into a folder that exists. Raises ModelError where one would not be
    a token."""
    files, added = {path.name: path.read_bytes() for path in tokenizer.files}, _ids(recipe, tokenizer)
    for name, content in {**files, **with_added_tokens(files, added, tokenizer.folder)}.items():
        write_atomically(folder / name, content)
    wrong = not_single(folder, list(added), added)
    if wrong:
        raise ModelError(f"{tokenizer.folder}: its tokenizer does not make one token of {listed(wrong)}")


def add_template_tokens(recipe: Recipe, tokenizer: TextTokenizer, folder: Path, say: Callable[[str], None]) -> None:
    """Make the model with markers of the one in `folder`, with `tokenizer`. To be called by the one who holds
    `folder_of` (`folders.only_one`).

    Raises RecipeError where checkpoints were made with other rows, ModelError where tokens or rows cannot be added,
    StorageError where the disk refuses; nothing half-written is left.
    """
    from tsugiki.vocabulary.resize import resize_model
    from tsugiki.vocabulary.stage import MULTIPLE, rows_of

    before = _recorded(recipe)
    if before and newest_name(recipe.run_dir / "checkpoints") is not None:
        reasons = ", ".join(changes(before, _made_from(recipe, tokenizer, folder)))
        raise RecipeError(
            f"{folder_of(recipe)}: the rows of the template's markers would come out otherwise now ({reasons}), but "
            f"{recipe.run_dir} has checkpoints with those that are there. Undo the change, or give another run_dir"
        )
    used, rows, added = tokenizer.vocabulary_size, rows_of(folder), _ids(recipe, tokenizer)
    new = [marker for marker, token in added.items() if token >= used]
    size = rows if used + len(new) <= rows else -(-(used + len(new)) // MULTIPLE) * MULTIPLE
    spelled = [tokenizer.encode(marker) for marker in new]
    if size > rows:  # rows beyond, which no text becomes, start as all markers together
        spelled += [[token for spelling in spelled for token in spelling]] * (size - used - len(new))
    settings = _initialisation(recipe)
    with made_anew(folder_of(recipe)) as work:
        model = work / "model"
        model.mkdir()
        write_tokenizer(recipe, tokenizer, model)
        resize_model(
            folder, model, used=used, size=size, pieces=spelled, method=settings["initialise"],
            noise=settings["noise"], seed=recipe.seed,
            token_ids={"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id},
        )  # fmt: skip
        write_json(work / MANIFEST, {MADE_FROM: _made_from(recipe, tokenizer, folder), "added": added})
    grown = f"{rows:,} -> {size:,} rows" if size > rows else f"in spare rows of {rows:,}"
    say(f"template   {recipe.data.chat.template}: {listed(list(added))} added, {grown}; {folder_of(recipe) / 'model'}")


def _ids(recipe: Recipe, tokenizer: TextTokenizer) -> dict[str, int]:
    """The markers to add, with their ids: that of a piece which is spelled so, else the next that is free."""
    markers, free = markers_to_add(recipe, tokenizer), tokenizer.vocabulary_size
    known = {marker: token for marker in markers if (token := tokenizer.engine.token_id(marker)) is not None}
    new = [marker for marker in markers if marker not in known]
    return known | {marker: free + number for number, marker in enumerate(new)}


def _made_from(recipe: Recipe, tokenizer: TextTokenizer, folder: Path | None) -> dict[str, Any]:
    stated = {"version": VERSION, "markers": markers_to_add(recipe, tokenizer), "seed": recipe.seed}
    # As JSON reads it back.
    return json.loads(json.dumps({**stated, **_initialisation(recipe), "base": digests(tokenizer, folder)}))


def _initialisation(recipe: Recipe) -> dict[str, Any]:
    """How new rows start: as the recipe's vocabulary section says, or as it says by default."""
    fields = VocabularySection.model_fields
    return {
        key: getattr(recipe.vocabulary, key) if recipe.vocabulary is not None else fields[key].default
        for key in ("initialise", "noise")
    }


def _recorded(recipe: Recipe) -> Mapping[str, Any]:
    """What the model that is there was made from; empty where there is none."""
    folder = folder_of(recipe)
    if not (folder / MANIFEST).is_file() or not (folder / "model" / "config.json").is_file():
        return {}
    return read_json(folder / MANIFEST).get(MADE_FROM) or {}
