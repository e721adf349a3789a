"""One trial, from its recipe to its results: a process that trains, processes that evaluate, and how it ended.

How training went is read from the run's own files, since launchers such as torchrun return 1 whatever their processes
do. A process that was asked to stop has saved what it had; the trial then has not ended, and goes on another time.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tsugiki.errors import FINISHED, RESUMABLE, DivergedError, StorageError
from tsugiki.experiments.trials import Ended, Trial
from tsugiki.files import explain_os_error, hold_file, read_json, write_json
from tsugiki.state_file import known_state

NOT_FINITE = re.compile(r"not finite|diverged", re.I)
"""In the last words of a run whose numbers were at fault."""
LAST_WORDS = 65536
"""Bytes at the end of a log in which its last error is looked for."""


class Stopped(Exception):
    """The work was asked to stop, and goes on another time."""


@dataclass
class Workers:
    """Starts the processes of an experiment, and asks them all to stop at once."""

    launch: str | None = None
    _running: set[subprocess.Popen] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def call(
        self,
        words: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        launched: bool = False,
        keep: Sequence[int] = (),
    ) -> int:
        """Run `tsugiki WORDS` to its end, what it prints appended to `log`; returns its exit code, negative for a
        signal. `keep`: descriptors that it holds as long as it lives. Raises Stopped where that was asked for."""
        command = [sys.executable]
        if launched and self.launch is not None:
            command = [os.path.expandvars(word) for word in shlex.split(self.launch)]
        command += ["-m", "tsugiki", *words]
        try:
            output = log.open("ab")
        except OSError as error:
            raise StorageError(explain_os_error(error, log)) from error
        with output:
            output.write(f"$ {shlex.join(command)}\n".encode())
            output.flush()
            with self._lock:
                if self._stopping:
                    raise Stopped
                try:
                    process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                        env={**os.environ, **environment}, pass_fds=tuple(keep),
                        start_new_session=True,  # Ctrl-C comes to us alone, who pass it on once
                    )  # fmt: skip
                except OSError as error:
                    raise StorageError(explain_os_error(error, command[0], "start")) from error
                self._running.add(process)
        try:
            code = process.wait()
        finally:
            with self._lock:
                self._running.discard(process)
        if self._stopping and code != FINISHED:
            raise Stopped
        return code

    def stop(self) -> None:
        """Ask every process to stop, and start no further one."""
        with self._lock:
            self._stopping = True
            for process in self._running:
                process.terminate()


@contextlib.contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[BinaryIO]:
    """Hold a lock file while the block runs. A killed holder lets it go, and so must the processes that it started.

    Raises StorageError with wait=False where another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = hold_file(path, wait=wait)
    except BlockingIOError:
        raise StorageError(
            f"another process is at work in {path.parent} (it holds {path.name}): wait for it, or stop it"
        ) from None
    except OSError as error:
        raise StorageError(explain_os_error(error, path)) from error
    with file:
        yield file


def lock_of(trial: Trial) -> Path:
    """Held by whoever works on a trial, and by the processes that do it."""
    return trial.folder.with_name(f".{trial.folder.name}.lock")


def run_trial(trial: Trial, suites: Sequence[str], workers: Workers, environment: Mapping[str, str]) -> Ended:
    """Train and evaluate a trial from where it stands, and record how it ended.

    Whoever else works on it is waited for, also processes that a killed caller left. Raises Stopped where it was asked
    to stop.
    """
    with held(lock_of(trial)) as lock:
        before = trial.ended()
        if is_over(before, suites):
            assert before is not None
            return before
        call = _Call(trial, workers, lock.fileno(), environment)
        ended = call.train() if trial.steps else call.ended("done")
        if ended["ending"] == "done":
            ended = call.evaluate(suites, ended)
        write_json(trial.beside(".ended.json"), ended)
        return ended


def is_over(ended: Ended | None, suites: Sequence[str]) -> bool:
    """Whether nothing is left to do of a trial: it has its results, or failed."""
    return ended is not None and (ended["ending"] != "done" or set(suites) <= ended["results"].keys())


@dataclass(frozen=True)
class _Call:
    """A trial at work."""

    trial: Trial
    workers: Workers
    lock: int
    environment: Mapping[str, str]

    def run(self, *words: str, launched: bool = False) -> int:
        log = self.trial.beside(".log")
        return self.workers.call(words, log, self.environment, launched=launched, keep=[self.lock])

    def ended(self, ending: Any, reason: str = "") -> Ended:
        state = known_state(self.trial.folder)
        return Ended(
            ending=ending, steps=self.trial.steps, step=state["step"] if state else 0, reason=reason, results={}
        )

    def train(self) -> Ended:
        """Up to the trial's last step, which may have been reached before."""
        if is_trained(self.trial):
            return self.ended("done")
        code = self.run("run", str(self.trial.beside(".yaml")), launched=True)
        state = known_state(self.trial.folder)
        if is_trained(self.trial) and code in (FINISHED, RESUMABLE, 1):
            return self.ended("done")
        if code == RESUMABLE or (state is not None and state["status"] == "resumable" and code >= 0):
            raise Stopped
        return self.failure(code)

    def evaluate(self, suites: Sequence[str], ended: Ended) -> Ended:
        """Ask what is not known yet; scores that are not numbers are a divergence, too."""
        recipe, before = self.trial.recipe, self.trial.ended()
        assert recipe.evaluation is not None
        results = dict(before["results"]) if before else {}
        for suite in suites:
            if suite in results:
                continue
            found = newest_results(self.trial.folder, suite)
            # `run` evaluates by itself what has come to the end of its schedule.
            if found is None or not (self.trial.steps and suite == recipe.evaluation.suite):
                others = [] if suite == recipe.evaluation.suite else [f"evaluation.suite={suite}", *TEXTS_ALONE]
                code = self.run("evaluate", str(self.trial.beside(".yaml")), *others)
                if code == RESUMABLE:
                    raise Stopped
                found = newest_results(self.trial.folder, suite)
                if code != FINISHED or found is None:
                    return self.failure(code)
            results[suite] = os.path.relpath(found, self.trial.folder.parent)
        return Ended(**{**ended, "results": results})

    def failure(self, code: int) -> Ended:
        """How a trial ended whose process failed."""
        if code < 0:
            words = "killed for want of memory, perhaps" if code == -signal.SIGKILL else "killed"
            return self.ended("died", f"{words} (signal {-code})")
        state = known_state(self.trial.folder)
        told = state["detail"] if state is not None and state["status"] == "failed" else None
        words = told or last_error(self.trial.beside(".log")) or f"exit code {code}"
        diverged = code == DivergedError.exit_code or NOT_FINITE.search(words)
        return self.ended("diverged" if diverged else "died", words)


TEXTS_ALONE = ("evaluation.tasks=[texts]", "evaluation.limit=null", "evaluation.shots=null", "evaluation.task_dir=null")
"""Of the suite quick where the recipe's own is another: only its texts are metrics then."""


def is_trained(trial: Trial) -> bool:
    """Whether a run has reached the last step of its trial and ended there."""
    state = known_state(trial.folder)
    return state is not None and state["step"] >= trial.steps and state["status"] in ("finished", "resumable")


def newest_results(run_dir: Path, suite: str) -> Path | None:
    """The folder with the newest results of a suite in a run."""
    found = [
        path for path in sorted((run_dir / "evaluation").glob("*/*/scores.json"))
        if read_json(path)["header"].get("suite") == suite
    ]  # fmt: skip
    return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None


def last_error(log: Path) -> str:
    """The last line of a log that tells an error, else its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LAST_WORDS))
            lines = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return ""
    told = [line.removeprefix("error: ") for line in lines if re.match(r"error: |[\w.]*Error\b", line)]
    return (told or lines or [""])[-1][:500]
