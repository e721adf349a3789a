"""From a recipe file to a `Recipe`, or to one error that names every problem by file, line and key.

Order: the YAML itself (`recipe_yaml`), then overrides, then all fields at once (`recipe`), then, when the
fields are sound, everything that needs several of them at once (`recipe_checks`). Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tsugiki.errors import RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import check
from tsugiki.recipe_kinds import require_kind
from tsugiki.recipe_names import answer_unknown, answer_value, field_at, is_same_key, section_at
from tsugiki.recipe_secrets import looks_secret
from tsugiki.recipe_yaml import MAX_BYTES, Document, plain_value, read
from tsugiki.shapes import Path, Problem, choices, dotted, explain

OVERRIDE = "from override"


def load_recipe(path: FilePath | str, overrides: Sequence[str] = (), check_files: bool = True) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        path: the YAML file.
        overrides: `key.path=value`, the value by the same YAML rules as in the file; later ones win.
        check_files: whether inputs (corpora, model folders) must be on this machine.

    Raises:
        RecipeError: with one problem a line, such as
            `recipe.yaml:17: training.learning_rat: unknown key; did you mean learning_rate?`;
            what an override caused begins with "from override".
    """
    path = FilePath(path)
    return parse_recipe(read_text(path), str(path), overrides, check_files)


def parse_recipe(text: str, name: str = "recipe", overrides: Sequence[str] = (), check_files: bool = True) -> Recipe:
    """As `load_recipe`, from text; `name` stands for the file in errors."""
    document = read(text, name)
    if document.tree is None:
        document.tree = {}
    if not isinstance(document.tree, dict):
        raise RecipeError(f"{name}:1: a recipe is a mapping of keys to values, such as `run_dir: runs/first`")
    require_kind(document.tree, "recipe", name)
    overridden = _apply_overrides(document, overrides)

    def locate(problem: Problem) -> str:
        return _locate(problem, name, document, overridden)

    secrets = list(_secrets((), document.tree))
    if secrets:
        raise RecipeError("\n".join(map(locate, secrets)))
    try:
        recipe = Recipe.model_validate(document.tree)
    except ValidationError as error:
        raise RecipeError(_in_file_order(_field_problems(error), locate)) from error
    problems = check(recipe, check_files)
    if problems:
        raise RecipeError(_in_file_order(problems, locate))
    return recipe


def read_text(
    path: FilePath, what: str = "recipe", if_missing: str = "; `tsugiki init DIR` writes a recipe to start from"
) -> str:
    """The text of a YAML file that people write. Raises RecipeError, which says `what` it should be."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: no such file{if_missing}") from error
    except IsADirectoryError as error:
        raise RecipeError(f"{path}: a folder; name the {what} file") from error
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_BYTES:
        raise RecipeError(f"{path}: larger than {MAX_BYTES:,} bytes, which no {what} is; is it another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


# --- overrides ------------------------------------------------------------------------------------


def _apply_overrides(document: Document, overrides: Sequence[str]) -> set[Path]:
    """Set values in the tree; returns the paths they were set at."""
    paths: set[Path] = set()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            raise RecipeError(f"override {override[:60]!r}: write key.path=value, such as training.learning_rate=1e-5")
        value = read(text, f"{OVERRIDE}: {key[:80]}").tree
        path = _set(document.tree, key.split("."), value, key[:80])
        for stale in [known for known in document.lines if known[: len(path)] == path]:
            del document.lines[stale]
        paths = {known for known in paths if known[: len(path)] != path} | {path}
    return paths


def _set(tree: dict[str, Any], parts: list[str], value: Any, key: str) -> Path:
    """Walk to the place that `parts` names and set it. A source's name may itself contain dots."""
    node: Any = tree
    path: Path = ()
    while True:
        if isinstance(node, list):
            if not parts[0].isdecimal() or len(parts[0]) > 6 or int(parts[0]) >= len(node):
                raise RecipeError(f"{OVERRIDE}: {key}: {dotted(path)} is a list of {len(node)}, counted from 0")
            part: Any = int(parts.pop(0))
        else:
            length = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in node), 1)
            part = ".".join(parts[:length])
            del parts[:length]
        path = (*path, part)
        if not parts:
            node[part] = value
            return path
        below = node[part] if isinstance(node, list) else node.get(part)
        if below is None:
            below = {}
        elif not isinstance(below, dict | list):
            raise RecipeError(f"{OVERRIDE}: {key}: {dotted(path)} is a value, with no keys below it")
        node[part] = below
        node = below


# --- problems and where they are ------------------------------------------------------------------


def _locate(problem: Problem, name: str, document: Document, overridden: set[Path]) -> str:
    where, path = name, problem.path
    message = problem.message.replace("\n", "\\n").replace("\r", "\\r")  # one problem, one line
    for length in range(len(path), 0, -1):
        if path[:length] in overridden:
            where = OVERRIDE
            break
        if path[:length] in document.lines:
            where = f"{name}:{document.lines[path[:length]]}"
            break
    return f"{where}: {dotted(path) + ': ' if path else ''}{message}"


def _in_file_order(problems: Sequence[Problem], locate: Callable[[Problem], str]) -> str:
    def line(text: str) -> int:
        found = re.match(r".*?:(\d+): ", text)
        return int(found.group(1)) if found else 0

    return "\n".join(sorted(dict.fromkeys(map(locate, problems)), key=line))


def _secrets(path: Path, value: Any) -> list[Problem]:
    """Texts that look like credentials: a recipe is copied into checkpoints and logs, so it holds none."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in _secrets((*path, key), item)]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in _secrets((*path, index), item)]
    if isinstance(value, str) and looks_secret(value, str(path[-1]) if path else ""):
        message = "looks like an access token or password; keep it in the environment (HF_TOKEN, WANDB_API_KEY)"
        return [Problem(path, message)]
    return []


def _field_problems(error: ValidationError) -> list[Problem]:
    problems: list[Problem] = []
    missing: list[Path] = []
    meant: list[str] = []
    for details in error.errors(include_url=False):
        path: Path = tuple(part for part in details["loc"] if part != "[key]")
        if details["type"] == "extra_forbidden":
            message, key = answer_unknown(path)
            problems.append(Problem(path, message))
            meant += [key] if key else []
        elif details["type"] == "missing":
            missing.append(path)
        else:
            problems.append(Problem(path, _explain(details)))
    for path in missing:
        # A misspelt key is also a missing one; the first message says all there is to say.
        if not any(is_same_key(path, key) for key in meant):
            field = field_at(path)
            about = (field.description or "").split(". ")[0].rstrip(".") if field else ""
            problems.append(Problem(path, f"missing ({about})" if about else "missing"))
    return problems


def _explain(details: ErrorDetails) -> str:
    """What is wrong with a value, and what may have been meant."""
    hint = ""
    if details["type"] == "literal_error":
        foreign, near = answer_value(details["loc"], details["input"]), _near(details["input"], choices(details))
        hint = f"; write {foreign}" if foreign else f"; did you mean {near}?" if near else ""
    elif details["type"] == "string_type" and isinstance(details["input"], int | float):
        hint = "; put it in quotes"
    elif details["type"] in ("model_type", "model_attributes_type"):
        section = section_at(details["loc"])
        hint = f"; its keys are {', '.join(list(section.model_fields)[:4])} …" if section else ""
    return explain(details) + hint


def _near(value: Any, known: list[str]) -> str | None:
    plain = str(value).lower().replace("_", "-")[:80]
    folded = {choice.replace("_", "-"): choice for choice in known}
    return next((folded[found] for found in get_close_matches(plain, folded, 1, 0.6)), None)


# --- writing --------------------------------------------------------------------------------------


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe, for editors; its `resume` is what a resume may change."""
    schema = Recipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Tsugiki recipe"}


class _Dumper(yaml.SafeDumper):
    """Writes what `recipe_yaml` reads back as the same value."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    try:
        plain = plain_value(text) == text
    except ValueError:
        plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else "'")


_Dumper.add_representer(str, _write_text)


def show(recipe: Recipe) -> str:
    """The recipe as YAML with every default filled in; defaults that other keys give are resolved.

    What looks like a credential is hidden, also in recipes that were made without `load_recipe`.
    """
    tree = recipe.model_dump(mode="json")
    tree["data"]["prepared_dir"] = str(recipe.prepared_dir)
    for name, source in tree["data"]["sources"].items():
        source["held_out"] = recipe.held_out_share(name)
    tree["model"]["tokenizer"] = recipe.model.tokenizer or recipe.model.name_or_path
    tree["tracking"]["run_name"] = recipe.tracking.run_name or recipe.run_dir.name or None
    return yaml.dump(_hidden(tree), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _hidden(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _hidden(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    if isinstance(value, str) and looks_secret(value, key):
        return "(hidden: looks like an access token)"
    return value
