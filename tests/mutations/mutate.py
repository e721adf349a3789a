"""Mutations: the program made wrong on purpose, in a copy, to see that a test says so by name.

`mutations.toml` is the list. `python tests/mutations/mutate.py [WORDS OF A NAME]` (or `make mutations`) applies each to
a copy of `src`, runs the test that must fail there, and prints a table; its exit status is the number of survivors. A
mutation is killed when that test fails, not when it cannot be run, and when it says what is expected of it (`says`).
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutations.toml")
AT_ONCE = 2
OUTPUT = "output.txt"
PRELOADED = ["pytest", "torch.distributed.fsdp", "transformers.models.mistral.modeling_mistral", "hypothesis"]
"""Imported once, in the process of which every test's is a fork; nothing of ours is."""


@dataclass(frozen=True)
class Mutation:
    """One wrong program."""

    name: str
    file: str
    """Below src/tsugiki."""
    old: str
    new: str
    killed_by: str
    """The test, as pytest takes it, that must fail."""
    says: str = ""
    """What it must say: the line of a preflight check, for one."""

    def path(self, root: Path) -> Path:
        return root / "src/tsugiki" / self.file


@dataclass(frozen=True)
class Verdict:
    """What the test made of a mutation."""

    mutation: Mutation
    problem: str
    """Empty where the mutation was killed as it should be."""
    seconds: float
    output: str


def load() -> list[Mutation]:
    """All mutations, in the order of the list."""
    return [Mutation(**entry) for entry in tomllib.loads(LIST.read_text("utf-8"))["mutation"]]


def try_out(mutation: Mutation) -> Verdict:
    """Run a mutation's test on a copy of the repository in which the mutation was made."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        root = Path(folder)
        for entry in ROOT.iterdir():
            if entry.name == "src":
                shutil.copytree(entry, root / "src")
            elif not entry.name.startswith("."):
                (root / entry.name).symlink_to(entry)
        path = mutation.path(root)
        text = path.read_text("utf-8")
        assert text.count(mutation.old) == 1, f"{mutation.name}: its old text stands {text.count(mutation.old)} times"
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        process = multiprocessing.get_context("forkserver").Process(target=run_test, args=(root, mutation.killed_by))
        process.start()
        process.join()
        output = (root / OUTPUT).read_text("utf-8", errors="replace")
    problem = problem_of(process.exitcode, output, mutation.says)
    return Verdict(mutation, problem, time.monotonic() - start, output)


def problem_of(exit_code: int | None, output: str, says: str) -> str:
    """What is wrong with a test that ended so: nothing where it failed and said what it was to say."""
    if exit_code == 0:
        return "SURVIVES"
    if exit_code != 1 or "\nFAILED tests/" not in output:
        return f"no verdict: pytest ended with {exit_code}"
    return "" if says in output else f"killed, but nothing says {says!r}"


def run_test(root: Path, test: str) -> None:
    """In a process of its own: pytest on the copy, its output in a file there."""
    file = os.open(root / OUTPUT, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.chdir(root)
    os.environ |= {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path.insert(0, str(root / "src"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tsugiki"]:
        del sys.modules[name]  # of the program as it is, where another test has had it loaded
    import pytest

    status = int(pytest.main(["-x", "-q", "--tb=short", "-rf", "-p", "no:cacheprovider", test]))
    sys.stdout.flush()
    os._exit(status)  # whatever threads and handlers the test has left


def main(words: list[str]) -> int:
    chosen = [mutation for mutation in load() if not words or " ".join(words) in mutation.name]
    width = max(len(mutation.name) for mutation in chosen)
    survivors = 0
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for verdict in pool.map(try_out, chosen):
            mutation = verdict.mutation
            by = mutation.killed_by.removeprefix("tests/") + (f" ({mutation.says.strip()})" if mutation.says else "")
            print(f"{mutation.name:<{width}}  {verdict.seconds:5.0f} s  {verdict.problem or by}", flush=True)
            if verdict.problem:
                survivors += 1
                print(f"{'':<{width}}  by {by}\n{verdict.output[-3000:]}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations are killed by the test that names them")
    return min(survivors, 100)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
