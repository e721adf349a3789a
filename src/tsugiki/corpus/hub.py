"""Models and data sets of the Hugging Face hub: resolved to a commit once, read without running their code.

Only the optional libraries touch the network, and only for a name that is not a folder here.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tsugiki.corpus.compression import FileDigest
from tsugiki.corpus.readers import BadRecord, Document, checked_text
from tsugiki.errors import DataError, ModelError, RecipeError
from tsugiki.recipe import SourceSection

TOKENIZER_PATTERNS = [
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
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


def resolve_model_folder(
    name_or_path: str, revision: str | None = None, files: Literal["tokenizer", "all"] = "all"
) -> tuple[Path, str | None]:
    """The folder of a model and, for a hub id, the commit that it holds. A local folder wins over the hub.

    Raises ModelError when there is neither.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return path, None
    if path.is_absolute() or name_or_path.startswith(".") or name_or_path.count("/") != 1:
        raise ModelError(f"{name_or_path}: no such folder (and not a hub id of the form owner/name)")
    try:
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
    except ImportError:
        raise RecipeError(f"{name_or_path} is not a folder here; hub ids need: pip install 'tsugiki[hub]'") from None
    patterns = TOKENIZER_PATTERNS if files == "tokenizer" else MODEL_PATTERNS
    try:
        commit = HfApi().model_info(name_or_path, revision=revision).sha
        return Path(snapshot_download(name_or_path, revision=commit, allow_patterns=patterns)), commit
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        try:  # offline: what an earlier call has left in the cache
            folder = Path(
                snapshot_download(name_or_path, revision=revision, allow_patterns=patterns, local_files_only=True)
            )
            return folder, folder.name
        except (LocalEntryNotFoundError, OSError):
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ModelError(
                f"{name_or_path}: neither a folder here nor to be had from the hub ({reason}). Download it where there "
                "is a network and give the folder's path"
            ) from None


class HubSource:
    """A hub data set as one "file" of a source, streamed; its revision is resolved to a commit and recorded."""

    def __init__(self, name: str, source: SourceSection, max_bytes: int):
        self.name = self.path = f"hub:{source.hub}/{source.subset or 'default'}/{source.split}"
        self._source_name, self._source, self._max_bytes = name, source, max_bytes
        self.commit = source.revision

    def read(self, digest: FileDigest) -> Iterator[Document | BadRecord]:
        """Documents in the data set's order."""
        for row, record in enumerate(self._rows(), start=1):
            if self._source.text_key not in record:
                keys = ", ".join(map(repr, list(record)[:8]))
                yield BadRecord("missing key", row, f"no key {self._source.text_key!r}; it has {keys}")
                continue
            item: Document | BadRecord = checked_text(record[self._source.text_key], row, self._source.text_key)
            if isinstance(item, Document):
                content = item.text.encode("utf-8")
                digest.update(content)
                if len(content) > self._max_bytes:
                    item = BadRecord("too long", row, f"over {self._max_bytes:,} bytes (data.max_document_bytes)")
            yield item

    def _rows(self) -> Iterator[dict[str, Any]]:
        source = self._source
        try:
            import datasets
            from huggingface_hub import HfApi
        except ImportError:
            raise RecipeError(f"data.sources.{self._source_name}.hub needs: pip install 'tsugiki[hub]'") from None
        try:
            local = Path(source.hub or "").is_dir()
            self.commit = None if local else HfApi().dataset_info(source.hub, revision=source.revision).sha
            rows = datasets.load_dataset(
                source.hub, source.subset, split=source.split, revision=self.commit, streaming=True
            )
            yield from rows
        except (OSError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(f"data.sources.{self._source_name}.hub: {source.hub}: {first}") from None

    def record(self, digest: FileDigest) -> dict[str, Any]:
        """The manifest's entry: commit, and a digest of the texts as they were read."""
        return {"name": self.name, "path": self.path, "size": digest.bytes_read, "commit": self.commit,
                "mtime_ns": 0, "digest": digest.hexdigest()}  # fmt: skip
