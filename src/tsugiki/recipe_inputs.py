"""Which model and which tokenizer a recipe means: folders as they are, hub ids at the commit that the run began with.

What a run takes from outside is recorded in `<run_dir>/model`, so that a later start takes the same and an export has
all that it needs besides weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tsugiki.corpus.chat_source import conversation_encoder
from tsugiki.corpus.hub import resolve_model_folder
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError, StorageError
from tsugiki.files import explain_os_error, write_atomically, write_json
from tsugiki.model.chat_files import as_json, trained_chat
from tsugiki.model.weight_files import CONFIGURATION_FILES
from tsugiki.model_folder import own_files
from tsugiki.origin_file import SOURCE, read_origins
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import show
from tsugiki.vocabulary.made_from import extended_folder
from tsugiki.vocabulary.template_tokens import markers_to_add, with_markers


def hub_names(recipe: Recipe) -> dict[str, tuple[str, str | None]]:
    """(folder or hub id, revision) of what the recipe takes from outside: `model` and `tokenizer`."""
    names: dict[str, tuple[str, str | None]] = {}
    if recipe.model.name_or_path is not None:
        names["model"] = (recipe.model.name_or_path, recipe.model.revision)
    if recipe.model.tokenizer is not None:
        names["tokenizer"] = (recipe.model.tokenizer, None)
    elif "model" in names:
        names["tokenizer"] = names["model"]
    else:
        raise RecipeError("model.architecture has no tokenizer of its own: set model.tokenizer to a folder with one")
    return names


def resolve_commits(recipe: Recipe) -> dict[str, str | None]:
    """The hub commit of `model` and `tokenizer`, None for folders: what this run has recorded, else the newest now."""
    names = hub_names(recipe)
    recorded = read_origins(recipe.run_dir)
    commits: dict[str, str | None] = {}
    for role, (name, revision) in names.items():
        before = recorded.get(role)
        known = before["commit"] if before and (before["name"], before["revision"]) == (name, revision) else None
        if role == "tokenizer" and names["tokenizer"] == names.get("model"):
            known = commits["model"]  # both from one commit
        commits[role] = resolve_model_folder(name, revision, files="tokenizer", known_commit=known)[1]
    return commits


def model_folder(recipe: Recipe, commits: Mapping[str, str | None]) -> Path | None:
    """The folder of the model that is trained: with the markers of the chat template where they are added, else the
    extended one where the recipe has a vocabulary section, else the base's; None for random weights."""
    tokenizer = tokenizer_before_markers(recipe, commits)
    if markers_to_add(recipe, tokenizer):
        return with_markers(recipe, tokenizer)
    return folder_before_markers(recipe, commits)


def folder_before_markers(recipe: Recipe, commits: Mapping[str, str | None]) -> Path | None:
    """The same before a chat template's markers are added."""
    return extended_folder(recipe) if recipe.vocabulary is not None else base_folder(recipe, commits)


def base_folder(recipe: Recipe, commits: Mapping[str, str | None]) -> Path | None:
    """The base model's folder, downloaded at its commit when it is a hub id; None for random weights."""
    if recipe.model.name_or_path is None:
        return None
    folder, _ = resolve_model_folder(
        recipe.model.name_or_path, recipe.model.revision, files="all",
        allow_pickle=recipe.model.allow_pickle, known_commit=commits["model"],
    )  # fmt: skip
    return folder


def load_tokenizer(recipe: Recipe, commits: Mapping[str, str | None] | None = None) -> TextTokenizer:
    """The tokenizer that documents are prepared with: that of `model_folder`, or of model.tokenizer. Raises RecipeError
    when the vocabulary stage has not been run."""
    tokenizer = tokenizer_before_markers(recipe, commits)
    if markers_to_add(recipe, tokenizer):
        return TextTokenizer.from_folder(with_markers(recipe, tokenizer))
    return tokenizer


def tokenizer_before_markers(recipe: Recipe, commits: Mapping[str, str | None] | None = None) -> TextTokenizer:
    """The same before a chat template's markers are added."""
    if recipe.vocabulary is not None:
        return TextTokenizer.from_folder(extended_folder(recipe))
    return load_base_tokenizer(recipe, commits)


def load_base_tokenizer(recipe: Recipe, commits: Mapping[str, str | None] | None = None) -> TextTokenizer:
    """The base's tokenizer: its own folder when named, else the model's."""
    commits = resolve_commits(recipe) if commits is None else commits
    name, revision = hub_names(recipe)["tokenizer"]
    folder, _ = resolve_model_folder(name, revision, files="tokenizer", known_commit=commits["tokenizer"])
    return TextTokenizer.from_folder(folder)


def new_rows(recipe: Recipe, tokenizer: TextTokenizer, commits: Mapping[str, str | None] | None = None) -> list[int]:
    """Ids of `tokenizer` whose pieces the base's own tokenizer has not, or has under another id, in order."""
    base = load_base_tokenizer(recipe, commits).engine
    pieces = ((token, tokenizer.piece(token)) for token in range(tokenizer.vocabulary_size))
    return [token for token, piece in pieces if tokenizer.engine.token_id(piece) == token != base.token_id(piece)]


class Inputs(NamedTuple):
    """What a run takes from outside besides its data."""

    tokenizer: TextTokenizer
    folder: Path | None
    commits: Mapping[str, str | None]


def record_inputs(recipe: Recipe, inputs: Inputs) -> None:
    """Copy what an export needs besides weights, where it came from, and the resolved recipe. Files are copied byte for
    byte, but for what a run with conversations trains: the chat template and the token that ends an answer."""
    target = recipe.run_dir / "model"
    companions = own_files(inputs.folder, CONFIGURATION_FILES) if inputs.folder else []
    try:
        files = {path.name: path.read_bytes() for path in [*inputs.tokenizer.files, *companions]}
        if recipe.has_chat:
            files |= _trained_chat(recipe, inputs, files)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(target / name, content)
    except OSError as error:
        raise StorageError(explain_os_error(error, target)) from error
    if inputs.folder is None:
        write_json(target / "config.json", recipe.model.architecture)
    sources = {
        role: {"name": name, "revision": revision, "commit": inputs.commits.get(role)}
        for role, (name, revision) in hub_names(recipe).items()
    }
    write_json(target / SOURCE, sources)
    write_atomically(recipe.run_dir / "recipe.yaml", show(recipe))


def _trained_chat(recipe: Recipe, inputs: Inputs, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those of the files that say otherwise how conversations are written than they were trained."""
    source = next(name for name, source in recipe.data.sources.items() if source.is_chat)
    encoder = conversation_encoder(recipe, source, inputs.tokenizer.folder)
    if inputs.folder is None:
        files = {**files, "config.json": as_json(recipe.model.architecture)}
    return trained_chat(files, encoder.form)
