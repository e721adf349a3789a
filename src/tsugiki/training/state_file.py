"""`<run_dir>/state.json`: where a run stands, for people and for scripts that queue a job again.

(torchrun itself returns 1, whatever the code of a worker.)
"""

import time
from pathlib import Path
from typing import Literal

from tsugiki.errors import TsugikiError
from tsugiki.files import read_json, write_json

Status = Literal["running", "resumable", "finished", "failed"]


def write_state(run_dir: Path, status: Status, step: int, detail: str = "") -> None:
    """Record the status after `step` steps; `detail` says why where it is not told by the status."""
    state = {"status": status, "step": step, "detail": detail, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_json(run_dir / "state.json", state)


def reached_step(run_dir: Path) -> int:
    """The step that the state file last named; 0 where there is none that can be read."""
    try:
        return int(read_json(run_dir / "state.json")["step"])
    except (TsugikiError, KeyError, TypeError, ValueError):
        return 0
