"""`<run_dir>/state.json`: where a run stands, for people and for scripts that queue a job again. Training writes it;
reports, experiments and `inspect` read it.

(torchrun itself returns 1, whatever the code of a worker.)
"""

import time
from pathlib import Path
from typing import Literal

from typing_extensions import TypedDict

from tsugiki.errors import TsugikiError
from tsugiki.files import read_json, write_json
from tsugiki.recipe_secrets import hide_secrets

STATE_FILE = "state.json"
Status = Literal["running", "resumable", "finished", "failed"]


class State(TypedDict):
    """Where a run stands."""

    status: Status
    step: int
    detail: str
    time: str


def write_state(run_dir: Path, status: Status, step: int, detail: str = "") -> None:
    """Record the status after `step` steps; `detail` says why where it is not told by the status."""
    state: State = {
        "status": status,
        "step": step,
        "detail": hide_secrets(detail),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    write_json(run_dir / STATE_FILE, state)


def read_state(run_dir: Path) -> State:
    """Raises StorageError or DataError where it cannot be read."""
    return read_json(run_dir / STATE_FILE, State)


def known_state(run_dir: Path) -> State | None:
    """The same; None where there is none that can be read."""
    try:
        return read_state(run_dir)
    except TsugikiError:
        return None


def reached_step(run_dir: Path) -> int:
    """The step that the state file last named; 0 where there is none that can be read."""
    state = known_state(run_dir)
    return state["step"] if state is not None else 0
