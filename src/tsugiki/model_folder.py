"""Which files of a model's folder are its own: none that a link brings in from elsewhere.

Tokenizer and configuration files are copied into the run's directory and from there into every export. A folder that
came as an archive or a clone may hold a link to a private file of whoever trains with it, which would be published so.
"""

from collections.abc import Iterable
from pathlib import Path

from tsugiki.errors import ModelError

COMPANIONS = (
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.txt", "USE_POLICY.md",
)  # fmt: skip
"""What else of a base goes with its weights; tokenizer files are written by whoever makes one."""


def own_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of `names` that are files in a model's folder; directories, devices and broken links are none.

    Links may lead to other files of the folder and, from the hub's cache, to the model's blobs. Raises ModelError for
    any other, naming it.
    """
    found = [folder / name for name in names if (folder / name).is_file()]
    home = folder.resolve()
    cached = _repository(home)
    for path in found:
        target = path.resolve()
        if not target.is_relative_to(home) and not (cached and _is_blob(target, cached)):
            raise ModelError(
                f"{path} is a link that leads out of its folder, to {target}: put a copy in its place if it belongs "
                "to the model"
            )
    return found


def _repository(home: Path) -> Path | None:
    """The model's folder in the hub's cache that has the snapshot `home`; None for a folder elsewhere."""
    for place in home.parents:
        if place.name == "snapshots" and place.parent.name.startswith("models--"):
            return place.parent
    return None


def _is_blob(target: Path, repository: Path) -> bool:
    """Whether the cache keeps the contents of the model's files there. Each is a link, models--OWNER--NAME/snapshots/
    COMMIT/FILE to models--OWNER--NAME/blobs/DIGEST (https://huggingface.co/docs/huggingface_hub/guides/manage-cache),
    which in newer versions may itself be a link to blobs/DI/DIGEST, shared by all models."""
    return target.parent == repository / "blobs" or target.parent.parent == repository.parent / "blobs"
