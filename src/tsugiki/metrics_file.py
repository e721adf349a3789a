"""`metrics.jsonl` read back: what a run has logged, one record a line (`training.tracking` writes it).

A line that is no record is left out: a process that was killed leaves half of its last one, and no run or plot should
end for it.
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from tsugiki.errors import DataError, StorageError
from tsugiki.files import explain_os_error
from tsugiki.shapes import parse_json


@with_config(ConfigDict(extra="allow"))
class Logged(TypedDict):
    """A record: what every kind of them has."""

    kind: str
    """`step`, `validation` or `evaluation`."""
    step: int


def read_logged(path: Path) -> Iterator[Logged]:
    """The records in their order; none where there is no such file. Raises StorageError when it cannot be read."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
    for line in lines:
        try:
            yield parse_json(line, Logged, str(path))
        except DataError:
            continue
