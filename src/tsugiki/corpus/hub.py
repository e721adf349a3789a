"""Models and data sets of the Hugging Face hub: resolved to a commit once, read without running their code.

Only the optional libraries touch the network, and only for a name that is not a folder here.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from tsugiki.chat.given import GIVEN_FILE
from tsugiki.corpus.compression import FileDigest
from tsugiki.corpus.fingerprint import InputRecord
from tsugiki.corpus.pieces import Found, Piece
from tsugiki.corpus.readers import FORMATS, cut_file, either
from tsugiki.corpus.records import Reading
from tsugiki.errors import DataError, ModelError, RecipeError, TsugikiError
from tsugiki.licence import PATTERNS as LICENCE_PATTERNS
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_machine import looks_like_hub_id

TOKENIZER_PATTERNS = [
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    GIVEN_FILE,
    "vocab.json",
    "merges.txt",
]
MODEL_PATTERNS = [
    *TOKENIZER_PATTERNS,
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
]
PICKLE_PATTERNS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]
"""In place of safetensors, for a model that has none and a user who allows it."""


def resolve_model_folder(
    name_or_path: str,
    revision: str | None = None,
    files: Literal["tokenizer", "licence", "all"] = "all",
    *,
    allow_pickle: bool = False,
    known_commit: str | None = None,
) -> tuple[Path, str | None]:
    """The folder of a model and, for a hub id, the commit that it holds. A local folder wins over the hub.

    `known_commit` is what an earlier call has found for the same id and revision: a branch that has moved since is not
    followed. Raises ModelError when there is neither folder nor model, or when its weights are pickles only and
    `allow_pickle` is false.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path, None
    if not looks_like_hub_id(name_or_path):
        raise ModelError(f"{name_or_path}: no such folder (and not a hub id, such as owner/name)")
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError:
        raise RecipeError(f"{name_or_path} is not a folder here; hub ids need: pip install 'tsugiki[hub]'") from None
    wanted = known_commit or revision
    patterns = {"tokenizer": TOKENIZER_PATTERNS, "licence": LICENCE_PATTERNS, "all": MODEL_PATTERNS}[files]
    try:
        info = HfApi().model_info(name_or_path, revision=wanted)
        if files == "all" and _holds_pickles_only(info):
            if not allow_pickle:
                raise ModelError(
                    f"{name_or_path} holds its weights as pickles only (pytorch_model*.bin), which can run code when "
                    "read. Choose a revision with safetensors, or set model.allow_pickle: true if you trust its owner"
                )
            patterns = [*MODEL_PATTERNS, *PICKLE_PATTERNS]
        commit = info.sha
        return Path(snapshot_download(name_or_path, revision=commit, allow_patterns=patterns)), commit
    except TsugikiError:
        raise
    except Exception as error:  # the hub's refusals, and whatever its HTTP client raises without a network
        try:  # offline: what an earlier call has left in the cache
            folder = Path(
                snapshot_download(name_or_path, revision=wanted, allow_patterns=patterns, local_files_only=True)
            )
            return folder, folder.name
        except (LocalEntryNotFoundError, OSError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{name_or_path}: neither a folder here nor to be had from the hub ({reason}). Download it where there "
                "is a network and give the folder's path"
            ) from None


def _holds_pickles_only(info: Any) -> bool:
    names = [file.rfilename for file in info.siblings or []]
    return not fnmatch.filter(names, "*.safetensors") and bool(fnmatch.filter(names, PICKLE_PATTERNS[0]))


def hub_files(key: str, source: CorpusSection) -> list["HubFile"]:
    """The files of a hub data set's split, in the order that `datasets` gives them, at one commit. `key` is its
    place in the recipe, for messages.

    `datasets` finds the files (subsets and splits are declared in many ways); our own readers read them, so that no
    type is guessed (a column of dates stays text) and a bad record is named by file and line. Data sets of JSON,
    Parquet and text files are read; one that is a script or another kind is refused.

    Raises RecipeError when the extra is missing, DataError when there is no such data set, subset or split.
    """
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError:
        raise RecipeError(f"{key}.hub needs: pip install 'tsugiki[hub]'") from None
    hub, here = str(source.hub), f"{key}.hub: {source.hub}"
    try:
        commit = None if Path(hub).is_dir() else HfApi().dataset_info(hub, revision=source.revision).sha
        datasets.disable_progress_bars()
        builder = datasets.load_dataset_builder(hub, source.subset, revision=commit)
        splits = {str(split): list(map(str, files)) for split, files in (builder.config.data_files or {}).items()}
    except Exception as error:  # these libraries raise classes of their own, of httpx and of fsspec
        subsets = re.search(r"available configs: \[(.*?)\]", str(error))
        if subsets:
            raise DataError(
                f"{here}: it has several subsets and no default; set {key}.subset to one of "
                f"{subsets[1].replace(chr(39), '')}"
            ) from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{here}: {reason}. Offline, give the path of downloaded files instead") from None
    kind = next((name for name, one in FORMATS.items() if one.hub == builder.name), None)
    if kind is None:
        kinds = either([one.hub for one in FORMATS.values() if one.hub])
        raise DataError(f"{here}: its files are of the kind {builder.name!r}; only {kinds} are read")
    if source.split not in splits:
        raise DataError(f"{here}: no split {source.split!r}; it has {', '.join(splits) or 'none'}")
    if source.format != "auto" and not source.is_chat:
        kind = source.format
    return [HubFile(url, commit, kind, Path(hub)) for url in splits[source.split]]


class HubFile:
    """One file of a hub data set, streamed: what `readers` needs of a path, and what the manifest records.

    A commit fixes what a file holds, so the commit stands for its digest; a file of a local folder is digested.
    """

    def __init__(self, url: str, commit: str | None, kind: str, folder: Path):
        self.path, self.commit, self._kind = url, commit, kind
        inside = url.split(f"@{commit}/", 1)[-1] if commit else os.path.relpath(url, folder)
        self.relative = PurePosixPath(inside)
        """Path inside the data set: the same at every commit, so that order does not change with it."""
        self.name = str(self.relative)
        self.suffix = self.relative.suffix
        self.size = 0

    def __str__(self) -> str:
        return self.path

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file's bytes, streamed and seekable."""
        from fsspec.core import url_to_fs

        system, place = url_to_fs(self.path)
        self.size = int(system.info(place).get("size") or 0)
        return system.open(place, mode)

    def cut(self, how: Reading, digest: FileDigest) -> Iterator[Piece]:
        """The file in pieces, in its order. Raises DataError when it cannot be read to its end."""
        try:
            yield from cut_file(self if self.commit else Path(self.path), self._kind, how, digest)
        except (TsugikiError, GeneratorExit):
            raise
        except Exception as error:  # as above; a broken connection comes as many classes
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"{self.path}: {reason}; run the same command again") from None

    def read(self, how: Reading) -> Iterator[Found]:
        """Documents and bad records in the file's order. Raises DataError when it cannot be read to its end."""
        for piece in self.cut(how, FileDigest()):
            yield from piece.items(how)

    def record(self, digest: FileDigest) -> InputRecord:
        """The manifest's entry."""
        size = self.size if self.commit else Path(self.path).stat().st_size
        return {"name": self.name, "path": self.path, "size": size, "commit": self.commit, "mtime_ns": 0,
                "digest": self.commit or digest.hexdigest()}  # fmt: skip
