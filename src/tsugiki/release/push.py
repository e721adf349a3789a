"""A released folder onto the Hugging Face hub: private unless asked otherwise.

Who pushes, and whether that may be seen, is settled before any work. An upload that was cut off is gone on with by the
same command: `huggingface_hub` sends no file, or piece of one, that has arrived before.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.errors import RecipeError, StorageError
from tsugiki.printable import one_line

REPLACED = ["*.safetensors", "*.safetensors.index.json"]
"""Files of an earlier release that go when this one has none of the name: a loader would take them for its own."""


@dataclass(frozen=True)
class Hub:
    """A repository of models that may be written."""

    api: Any
    name: str
    public: bool
    address: str


def open_hub(name: str, *, public: bool) -> Hub:
    """The repository OWNER/NAME, with the token that huggingface_hub finds (HF_TOKEN, or that of `hf auth login`).
    Nothing is written yet.

    Raises RecipeError for what is no such name, without a token, or where the repository is there and seen by others
    than was asked; StorageError where the hub does not answer.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except ValueError:
        name_is_one = False
    else:
        name_is_one = name.count("/") == 1
    if not name_is_one or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise RecipeError(f"--push {name}: name a repository as OWNER/NAME, such as my-team/my-model")
    api = HfApi()
    try:
        api.whoami()
        private = api.repo_info(name).private
    except LocalTokenNotFoundError:
        raise RecipeError("--push needs a token of the hub: set HF_TOKEN, or run `hf auth login`") from None
    except RepositoryNotFoundError:
        private = not public
    except Exception as error:  # refusals of the hub, and whatever its HTTP client raises without a network
        raise _told(error, f"{name}: the hub does not answer as it should") from error
    if private is public:
        raise RecipeError(
            f"--push {name}: it is there already, and private; leave --public out, or change that on its page"
            if private
            else f"--push {name}: it is there already, and everybody sees it; say --public if that is meant"
        )
    return Hub(api, name, public, f"{api.endpoint.rstrip('/')}/{name}")


def push(hub: Hub, folder: Path) -> str:
    """Upload a folder; returns its address. Raises StorageError where that is cut off."""
    try:
        hub.api.create_repo(hub.name, private=not hub.public, exist_ok=True)
        hub.api.upload_folder(
            repo_id=hub.name, folder_path=folder, commit_message="Release", ignore_patterns=[".*"],
            delete_patterns=REPLACED,
        )  # fmt: skip
    except Exception as error:
        raise _told(
            error, f"{folder} is whole, but it did not get to {hub.address}; the same command goes on with the upload"
        ) from error
    return hub.address


def _told(error: Exception, what: str) -> StorageError:
    return StorageError(f"{what} ({type(error).__name__}: {one_line(str(error), 300)})")
