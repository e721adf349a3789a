"""The process in which one candidate runs: a script that `guard.py` starts, with the standard library alone.

It reads a job from standard input, shuts what a candidate should not reach, runs it, and answers with one JSON object.
Values travel as [type, value], since JSON knows no tuples, sets or keys but text.
"""

import json
import os
import sys
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
READING = frozenset(("os.listdir", "os.scandir", "os.walk", "os.fwalk"))
REFUSED = (
    "os.", "socket.", "subprocess.", "ctypes.", "shutil.", "tempfile.", "pty.", "resource.", "fcntl.", "sqlite3.",
    "dbm.", "syslog.", "webbrowser.", "signal.pthread_kill", "_posixshmem.",
)  # fmt: skip
"""Audit events by which a process reaches beyond itself: files, processes, sockets, foreign functions."""
UNAUDITED = frozenset(("_posixsubprocess", "_ctypes", "_multiprocessing"))
"""Modules that do the same without an event."""


def main() -> None:
    job = json.loads(sys.stdin.buffer.read())
    answer, nowhere = os.dup(1), os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    leave_network()
    set_limits(job["limits"])
    sys.addaudithook(refuse)
    text = json.dumps(run(job)).encode()
    if len(text) > job["limits"]["output_bytes"]:
        text = json.dumps({"error": "OverflowError: the returned values are too large"}).encode()
    while text:
        text = text[os.write(answer, text) :]


def leave_network() -> None:
    """A network namespace of its own, without any interface, where Linux lets this user have one."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    unshare = ctypes.CDLL(None, use_errno=True).unshare  # os.unshare is new in Python 3.12
    if unshare(CLONE_NEWNET) != 0:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
    for name in ("ctypes", "_ctypes"):
        sys.modules.pop(name)


def set_limits(limits: dict[str, int]) -> None:
    """Of this process and what it might start; they cannot be raised again. (macOS does not keep to RLIMIT_AS.)"""
    import resource

    for kind, value in (
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_NPROC, 0),  # does not bind root; the audit hook does
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu_seconds"], limits["cpu_seconds"] + 1))


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook: reading files and importing modules is allowed, reaching further is not."""
    if event == "open":
        forbidden = bool((arguments[2] or 0) & WRITING)
    elif event == "import":
        forbidden = arguments[0] in UNAUDITED
    else:
        forbidden = event.startswith(REFUSED) and event not in READING
    if forbidden:
        raise PermissionError(f"{event} is not allowed here")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """{"values": one a call} or {"error": text}; of a job with a test, no values where it passes."""
    namespace: dict[str, Any] = {"__name__": "candidate"}
    try:
        exec(compile(job["program"], "<candidate>", "exec"), namespace)  # noqa: S102 - what this process is for
        function = namespace[job["entry_point"]]
        if job["test"] is not None:
            exec(compile(job["test"], "<test>", "exec"), namespace)  # noqa: S102
            namespace["check"](function)
        return {"values": [encode(function(*decode(arguments))) for arguments in job["calls"]]}
    except BaseException as error:  # SystemExit and KeyboardInterrupt among them
        return {"error": describe(error)}


def describe(error: BaseException) -> str:
    """Kind and text, at most 500 characters; an error of the candidate's may itself fail to say what it is."""
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:
        return type(error).__name__[:500]


def encode(value: Any) -> list[Any]:
    """Raises TypeError for what is neither a number, a text, a truth value, None nor a collection of such."""
    if value is None:
        return ["None", None]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return [kind.__name__, kind(value)]
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [encode(part) for part in value]]
    if isinstance(value, set | frozenset):
        return ["set", sorted((encode(part) for part in value), key=json.dumps)]
    if isinstance(value, dict):
        return ["dict", sorted(([encode(key), encode(part)] for key, part in value.items()), key=json.dumps)]
    raise TypeError(f"a {type(value).__name__} was returned")


def decode(encoded: list[Any]) -> Any:
    """What `encode` was given."""
    kind, value = encoded
    if kind == "dict":
        return {decode(key): decode(part) for key, part in value}
    if kind in ("list", "tuple", "set"):
        return {"list": list, "tuple": tuple, "set": set}[kind](decode(part) for part in value)
    return value


if __name__ == "__main__":
    main()
