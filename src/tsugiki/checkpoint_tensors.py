"""Tensors out of a checkpoint, and what torch's checkpoint code says when it fails, in words."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata

from tsugiki.errors import StorageError, TsugikiError
from tsugiki.files import explain_os_error


class TensorReader(dcp.HuggingFaceStorageReader):
    """The tensors of a checkpoint, to be read. The files' headers are read at once: what fails there while torch asks
    for them is logged with its traceback, and other ranks would wait for this one.

    Raises StorageError where a header cannot be read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        with _told(path):
            self._read = super().read_metadata()

    def read_metadata(self) -> Metadata:
        return self._read


def read_tensors(
    reader: TensorReader, tensors: Mapping[str, torch.Tensor], group: dist.ProcessGroup | None = None
) -> None:
    """Fill the given tensors (plain or sharded) with those of the checkpoint; another dtype is cast. Collective over
    `group`, if there is one. Raises StorageError, with several processes on those alone that failed."""
    with _told(Path(reader.path)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as asked
        dcp.load(dict(tensors), storage_reader=reader, process_group=group, no_dist=group is None)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except (Exception, CheckpointException) as error:
        raise StorageError(f"cannot read the tensors of {path}: {explain_failure(error)}") from error


def explain_failure(error: BaseException) -> str:
    """One line for a failure in torch's checkpoint code, which wraps causes by rank: ours first, if there is one."""
    if isinstance(error, CheckpointException) and error.failures:
        causes = [(rank, cause) for rank, (cause, _) in sorted(error.failures.items())]
        rank, cause = ([pair for pair in causes if isinstance(pair[1], TsugikiError)] or causes)[0]
        return f"{explain_failure(cause)} [rank {rank}]"
    if isinstance(error, TsugikiError):
        return str(error)
    if isinstance(error, OSError):
        return explain_os_error(error, error.filename or "a file of the checkpoint")
    return repr(error)
