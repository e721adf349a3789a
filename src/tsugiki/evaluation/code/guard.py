"""Run a candidate function in a process of its own, with limits, and get the values that it returns.

What this is: a guard against what a model writes by accident. The process has bounds on processor time, memory, open
files and the size of what it returns; an own empty directory, removed afterwards; no environment of the user's; no
network where Linux gives it a namespace without one; and an audit hook that refuses to open files for writing, to start
processes, and to open sockets. It is killed with all that it started when its time is over.

What this is not: a sandbox against an attacker. It runs as the user and can read what the user can; Python code that
means to can get round an audit hook, and macOS does not hold a process to its memory. Code of unknown intent belongs in
a container or a virtual machine. Therefore nothing runs unless `allow_code_execution` is given.
"""

import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tsugiki.errors import RecipeError
from tsugiki.evaluation.code.child import encode

CHILD = Path(__file__).with_name("child.py")
# As `python -I`, by an environment of our own, so that sets of text have the same order each time; and no packages.
FLAGS = ("-P", "-s", "-S", "-B")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PATH": os.defpath}


@dataclass(frozen=True)
class Limits:
    """Of one candidate, all its calls together."""

    cpu_seconds: int = 5
    wall_seconds: float = 30.0
    """Longer than the processor's time, so that a busy machine changes no verdict."""
    memory_bytes: int = 512 << 20
    output_bytes: int = 1 << 20


@dataclass(frozen=True)
class Outcome:
    """What a candidate returned, encoded as `child.encode` does; or why it returned nothing."""

    values: list[list[Any]]
    error: str | None = None


def require_permission(allow_code_execution: bool) -> None:
    """Raise RecipeError unless the user has said that code may run, and where it could not be limited."""
    if not allow_code_execution:
        raise RecipeError(
            "completing functions runs Python code that the model writes, on this machine and as this user, which is "
            "off by default: limits on time, memory and files guard against accidents, not against malice. Give "
            "--allow-code-execution (evaluation.allow_code_execution: true) to run it, best in a container"
        )
    if os.name != "posix":
        raise RecipeError("code that a model writes can be limited only on Linux and macOS: run it there")


def run_candidate(
    program: str,
    entry_point: str,
    calls: Sequence[tuple[Any, ...]] = (),
    *,
    test: str | None = None,
    limits: Limits | None = None,
    allow_code_execution: bool = False,
) -> Outcome:
    """Run `program`, then its function `entry_point` on the arguments of each call.

    `test` is source that defines check(candidate), which raises where the candidate is wrong. Raises RecipeError
    without permission; nothing that a candidate does raises.
    """
    require_permission(allow_code_execution)
    limits = limits or Limits()
    job = {
        "program": program, "entry_point": entry_point, "calls": [encode(arguments) for arguments in calls],
        "test": test, "limits": asdict(limits),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tsugiki-code-") as directory:
        process = subprocess.Popen(
            [sys.executable, *FLAGS, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=directory,
            env={**ENVIRONMENT, "HOME": directory, "TMPDIR": directory},
            start_new_session=True,  # a group of its own, so that what it started can be ended with it
        )
        try:
            answer, ended = _talk(process, json.dumps(job).encode(), limits)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # before its number is given to another
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
    return _outcome(answer, ended, process.returncode, len(calls), limits)


def _talk(process: "subprocess.Popen[bytes]", job: bytes, limits: Limits) -> tuple[bytes, bool]:
    """Send the job; (what came back, whether the process ended by itself and within its bounds)."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(job)
        process.stdin.close()
    deadline = time.monotonic() + limits.wall_seconds
    answer = b""
    while len(answer) <= limits.output_bytes:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return answer, False
        part = os.read(process.stdout.fileno(), 1 << 16)
        if not part:
            with suppress(subprocess.TimeoutExpired):  # its output is closed; it may still run
                process.wait(max(0.0, deadline - time.monotonic()))
            return answer, process.returncode is not None
        answer += part
    return answer, False


def _outcome(answer: bytes, ended: bool, code: int, calls: int, limits: Limits) -> Outcome:
    if len(answer) > limits.output_bytes:
        return Outcome([], "returned too much")
    if code == -signal.SIGXCPU or (ended and code == -signal.SIGKILL):
        return Outcome([], f"took more than {limits.cpu_seconds} s of processor time")
    if not ended:
        return Outcome([], f"took more than {limits.wall_seconds:g} s")
    try:
        found = json.loads(answer)
        if "error" in found:
            return Outcome([], str(found["error"]))
        values = found["values"]
        if code == 0 and len(values) == calls:
            return Outcome(values)
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return Outcome([], f"ended without an answer (exit code {code})")


def same(found: Any, expected: Any) -> bool:
    """Whether two encoded values are equal as Python takes it, but for two things: floats may differ by rounding, and a
    truth value is no number."""
    try:
        (kind, value), (wanted, truth) = found, expected
        if {kind, wanted} <= {"int", "float"}:
            if kind == wanted == "int":
                return bool(value == truth)
            return math.isclose(value, truth, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(value) and math.isnan(truth))
        if kind != wanted:
            return False
        if kind == "dict":
            pairs = zip(value, truth, strict=True)
            return all(same(ours[0], theirs[0]) and same(ours[1], theirs[1]) for ours, theirs in pairs)
        if kind in ("list", "tuple", "set"):
            return all(same(ours, theirs) for ours, theirs in zip(value, truth, strict=True))
        return bool(value == truth)
    except (ValueError, TypeError, OverflowError, RecursionError):  # another length, or not what `encode` gives
        return False
