"""`checkpoints/rewinds.json`: where a run went back to an earlier checkpoint to step over samples, and what that undid.

It is written before the run goes back, so that a run that is killed afterwards does not begin where it must not.
Checkpoints of an attempt that lie after the step to which a later one went back are no part of the run any more: they
are passed over by all that looks for the newest, and deleted once the run has passed their step. The manifest of a
checkpoint holds the rewinds before it, too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from tsugiki.files import read_json, write_json

FILE = "rewinds.json"


class Rewind(TypedDict):
    """A way back; the n-th of a run begins its attempt n + 1."""

    lineage: str
    """Of the run, as in the manifests of its checkpoints."""
    spike: int
    """The step after which the run went back."""
    step: int
    """The step to which it went."""
    skip: list[int]
    """[a, b): the samples that are stepped over from then on."""


def read_rewinds(directory: Path) -> list[Rewind]:
    """Those of the runs of a directory of checkpoints, in order. Raises DataError or StorageError for a file that
    cannot be read: without it a run could go on from what it had undone."""
    path = directory / FILE
    return read_json(path, list[Rewind]) if path.exists() else []


def write_rewinds(directory: Path, rewinds: Sequence[Rewind]) -> None:
    """Replace the file, durably."""
    write_json(directory / FILE, list(rewinds))


def is_undone(manifest: Mapping[str, Any], rewinds: Sequence[Rewind]) -> bool:
    """Whether a checkpoint's run has gone back behind it since, by its manifest."""
    own = [rewind for rewind in rewinds if rewind["lineage"] == manifest["lineage"]]
    return any(manifest["step"] > rewind["step"] for rewind in own[len(manifest.get("rewinds", [])) :])
