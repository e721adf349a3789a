"""What a candidate may do to itself, and what it may not do to the machine."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tsugiki.errors import RecipeError
from tsugiki.evaluation.code import guard
from tsugiki.evaluation.code.child import decode, encode
from tsugiki.evaluation.code.guard import Limits, Outcome, run_candidate, same

QUICK = Limits(cpu_seconds=1, wall_seconds=20, memory_bytes=256 << 20, output_bytes=20_000)


def run(body: str, *calls: tuple, test: str | None = None, limits: Limits = QUICK) -> Outcome:
    program = "def f(*arguments):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    calls = calls or (() if test else ((),))
    return run_candidate(program, "f", calls, test=test, limits=limits, allow_code_execution=True)


def returned(body: str, *calls: tuple) -> list:
    outcome = run(body, *calls)
    assert outcome.error is None, outcome.error
    return [decode(value) for value in outcome.values]


def error(body: str, **options: object) -> str:
    outcome = run(body, **options)  # type: ignore[arg-type]
    assert outcome.error is not None, outcome.values
    assert outcome.values == []
    return outcome.error


def test_nothing_runs_without_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(RecipeError, match="--allow-code-execution"):
        run_candidate("def f():\n    return 1\n", "f", [()])
    monkeypatch.setattr(os, "name", "nt")
    with pytest.raises(RecipeError, match="only on Linux and macOS"):
        guard.require_permission(True)


def test_values_come_back_with_their_types_and_arguments_are_each_calls_own() -> None:
    values = [
        None,
        True,
        3,
        -2.5,
        float("inf"),
        "日本\ud800",
        [1, "a"],
        (1, (2,)),
        {3, 1},
        {"a": [1], 2: (True, None)},
        [],
    ]
    assert returned("return arguments[0]", *((value,) for value in values)) == values
    assert [type(value) for value in returned("return arguments[0]", (True,), (1,), (1.0,), ((),))] == [
        bool,
        int,
        float,
        tuple,
    ]
    assert returned("arguments[0].append(1)\nreturn arguments[0]", ([],), ([],)) == [[1], [1]]
    assert returned("import collections\nreturn collections.Counter('aab')") == [{"a": 2, "b": 1}]


def test_the_standard_library_is_there_and_the_users_environment_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    assert returned("import math, re, itertools, functools, random, datetime, decimal\nreturn math.gcd(12, 18)") == [6]
    (found,) = returned("import os, sys\nreturn [dict(os.environ), os.getcwd(), os.listdir('.'), sys.path]")
    environment, directory, entries, path = found
    assert "canary" not in repr(environment)
    assert environment["HOME"] == directory
    assert entries == []
    assert not Path(directory).exists()  # gone with the candidate
    assert not any("site-packages" in place or "tsugiki" in place for place in path)
    assert "ModuleNotFoundError" in error("import numpy")


def test_sets_of_text_have_the_same_order_each_time() -> None:
    body = "return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})"
    assert returned(body) == returned(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(0)", "SystemExit: 0"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import os\nos._exit(0)", "ended without an answer (exit code 0)"),
        ("return f()", "RecursionError"),
        ("return object()", "TypeError: a object was returned"),
        ("x = []\nx.append(x)\nreturn x", "RecursionError"),
        ("class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E", "E"),
        ("return input()", "EOFError"),
        ("raise ValueError('x' * 10**6)", "ValueError: xxx"),
    ],
)
def test_a_candidate_that_fails_says_how(body: str, said: str) -> None:
    found = error(body)
    assert found.startswith(said)
    assert len(found) <= 500


def test_a_program_that_is_no_python_or_defines_no_such_function_fails() -> None:
    for program, said in (("def f(:\n", "SyntaxError"), ("x = 1\n", "KeyError: 'f'"), ("\0", "")):
        outcome = run_candidate(program, "f", [()], limits=QUICK, allow_code_execution=True)
        assert outcome.error is not None
        assert said in outcome.error


def test_an_endless_loop_ends_with_its_processor_time() -> None:
    started = time.monotonic()
    assert error("while True: pass") == "took more than 1 s of processor time"
    assert time.monotonic() - started < 15


def test_one_that_catches_everything_or_sleeps_ends_too() -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass"
    assert "took more than" in error(stubborn)
    sleepy = Limits(cpu_seconds=5, wall_seconds=1.5)
    assert error("import time\ntime.sleep(600)", limits=sleepy) == "took more than 1.5 s"


def test_a_memory_bomb_goes_off_inside() -> None:
    assert "MemoryError" in error("return [0] * 10**9")
    assert error("x = 'a'\nwhile True: x += x") in ("MemoryError: ", "MemoryError")


@pytest.mark.parametrize("way", ["os.fork()", "os.system('true')", "os.posix_spawn('/bin/true', ['true'], {})", "os.execv('/bin/true', ['true'])"])  # fmt: skip
def test_processes_cannot_be_started(way: str) -> None:
    assert error(f"import os\n{way}").startswith("PermissionError: os.")


def test_a_fork_bomb_is_dud() -> None:
    bomb = "import os\nfor _ in range(50):\n    try:\n        os.fork()\n    except OSError as problem:\n        last = problem\nreturn str(last)"
    assert returned(bomb) == ["os.fork is not allowed here"]
    assert "not allowed" in error("import subprocess\nsubprocess.run(['true'])")
    assert "not allowed" in error("import multiprocessing\nmultiprocessing.Process(target=print).start()")


def test_files_are_neither_written_nor_removed(tmp_path: Path) -> None:
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    ways = (
        "open({p!r}, 'w')", "open({p!r}, 'r+')", "open({p!r}, 'a')", "open({n!r}, 'x')", "open('here.txt', 'w').write('x')",
        "__import__('os').remove({p!r})", "__import__('os').rename({p!r}, {n!r})", "__import__('os').truncate({p!r}, 0)",
        "__import__('os').mkdir({n!r})", "__import__('os').symlink({p!r}, {n!r})", "__import__('os').chmod({p!r}, 0)",
        "__import__('os').open({n!r}, 65)", "__import__('shutil').rmtree({d!r})", "__import__('pathlib').Path({n!r}).touch()",
        "__import__('sqlite3').connect({n!r})",
        "__import__('os').kill({pid}, 9)", "__import__('os').killpg({pid}, 9)",
    )  # fmt: skip
    for way in ways:
        line = way.format(p=str(victim), n=str(tmp_path / "new"), d=str(tmp_path), pid=os.getpid())
        assert error(line).startswith("PermissionError"), line
    assert "No usable temporary directory" in error("__import__('tempfile').TemporaryFile()")
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert victim.read_text() == "precious"
    assert victim.stat().st_mode & 0o777


def test_limits_hold_where_the_audit_hook_does_not_look() -> None:
    """Asked of the child's own functions, in a process without the hook."""
    code = (
        f"import sys; sys.path.insert(0, {str(guard.CHILD.parent)!r})\n"
        "import child, os, resource\n"
        "child.set_limits({'memory_bytes': 1 << 28, 'cpu_seconds': 1})\n"
        "try:\n    open('big', 'wb', 0).write(b'x')\nexcept OSError as error:\n    print(error.errno)\n"
        "try:\n    [open(os.devnull) for _ in range(99)]\nexcept OSError as error:\n    print(error.errno)\n"
        "try:\n    bytearray(1 << 29)\nexcept MemoryError:\n    print('memory')\n"
        "print(resource.getrlimit(resource.RLIMIT_NPROC), resource.getrlimit(resource.RLIMIT_CPU))\n"
        "if os.getuid():\n    try:\n        os.fork()\n    except OSError:\n        print('no fork')\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/tmp")
    Path("/tmp/big").unlink(missing_ok=True)
    assert out.stdout.splitlines()[:4] == ["27", "24", "memory", "(0, 0) (1, 2)"], out


def test_no_socket_is_opened() -> None:
    assert error("import socket\nsocket.socket()").startswith("PermissionError: socket.__new__")
    assert "Error" in error("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
def test_without_the_hook_there_is_no_network_either() -> None:
    """Where this user may have a namespace: a server that this process runs cannot be reached from the child's."""
    server = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: server.accept(), daemon=True).start()
    code = (
        f"import sys; sys.path.insert(0, {str(guard.CHILD.parent)!r})\n"
        "import child, os, socket\n"
        "before = os.readlink('/proc/self/ns/net')\n"
        "child.leave_network()\n"
        "print(os.readlink('/proc/self/ns/net') != before)\n"
        f"try:\n    socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)\n    print('reached')\n"
        "except OSError as error:\n    print(type(error).__name__)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    server.close()
    if out[0] == "False":
        pytest.skip("this user may not have a namespace")
    assert out == ["True", "OSError"]


def test_foreign_functions_are_out_of_reach() -> None:
    for line in ("import ctypes\nctypes.CDLL(None)", "import _ctypes", "import _posixsubprocess"):
        assert "not allowed" in error(line)


def test_output_is_bounded_and_what_is_printed_goes_nowhere() -> None:
    assert returned("print('x' * 10**7)\nimport sys\nsys.stderr.write('y' * 10**7)\nreturn 1") == [1]
    assert "too large" in error("return 'x' * 10**6")
    flood = "import os\nfor descriptor in range(3, 16):\n    try:\n        while True: os.write(descriptor, b'x' * 10**4)\n    except OSError: pass"
    assert error(flood) == "returned too much"
    assert "ended without an answer" in error(
        "import os\nfor descriptor in range(3, 16):\n    try: os.write(descriptor, b'{')\n    except OSError: pass"
    )


def test_a_test_judges_where_there_is_one() -> None:
    test = "def check(candidate):\n    assert candidate(2) == 4\n"
    assert run("return arguments[0] ** 2", test=test) == Outcome([])
    assert error("return 5", test=test) == "AssertionError: "
    assert error("raise SystemExit(0)", test=test) == "SystemExit: 0"


def test_nothing_is_left_running() -> None:
    """Not even of a candidate that ends in the middle of a call."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text() if children.exists() else ""
    error("while True: pass")
    assert (children.read_text() if children.exists() else "") == before


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        (1, 1, True), (1, 2, False), (1, 1.0, True), (True, 1, False), (0.1 + 0.2, 0.3, True), (0.1, 0.2, False),
        (float("nan"), float("nan"), True), (float("inf"), float("inf"), True), ([1], (1,), False), ([1, 2], [1], False),
        ("a", "a", True), ("1", 1, False), (None, None, True), (None, False, False), ({1, 2}, {2, 1}, True), ({1}, {2}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ({"a": 1}, {"a": 2}, False), ({"a": 1}, {"a": 1, "b": 2}, False),
        ([[0.1 + 0.2]], [[0.3]], True), (10**400, 1.5, False), (10**400, 10**400, True),
    ],
)  # fmt: skip
def test_values_are_equal_as_python_takes_it(found: object, expected: object, equal: bool) -> None:
    assert same(encode(found), encode(expected)) is equal


@pytest.mark.parametrize("forged", [None, 1, [], ["int"], ["int", "1"], ["list", 3], ["dict", [1]], {"int": 1}])
def test_an_answer_that_is_no_value_is_not_equal(forged: object) -> None:
    assert not same(forged, encode(1))
    assert not same(forged, encode({1: 2}))
