"""A stage that is struck at a file call loses nothing, says so in one line, and makes the same when it is called again.

Every stage is run as the real command in a tiny folder where an older artefact of its own lies. The calls are counted
in a run that nothing strikes; then each is struck in each way that it can be (`file_faults`). Some, by a fixed seed, in
the suite; all of them in `make soak`, but for calls that are alike: of those of one kind (function and file, numbers
blanked) that follow on the same kind, the first and the last.

Commands are forks of a process that has imported what they need (`warm_commands`). In the soak four strikes of every
stage are repeated in processes that start from nothing, and must end alike. What a call finds after a strike is often
the same to the last byte as after another: then it is called once.
"""

import hashlib
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import yaml
from evaluation_data import write_official_data
from extension_project import extension_recipe, make_base
from file_faults import MOVED, SIGNALS, Strike, kind_of, strikes_of, top_of
from safetensors import safe_open
from warm_commands import WarmCommands, run_fresh
from whole_runs import LONG_PROBES

from tsugiki.checkpoint_files import newest_name, verify

IN_SUITE = {"prepare": 6, "first_start": 3, "train": 3, "export": 3, "export_verb": 3, "vocabulary": 2, "evaluate": 2}
"""Strikes of a stage."""
State = dict[str, str]
"""What stands on the disk: a digest of each artefact."""
TIMES = re.compile(
    rb'"(pid|since|time|date|seconds|seconds_left|tokens_per_second|tflops|memory_gb|data_wait|lineage)": [^,}\n]*'
    rb"|[0-9a-f]{12,}"
)
"""What two runs write differently. Digests are of files that are compared themselves."""
FULL_OF_TIMES = re.compile(r"tfevents|^run/report/|vocabulary(\.new|\.old)?/report\.")
"""Files of which only the names are compared: events of TensorBoard, and reports, which are made of the other files."""
VARYING = re.compile(r"(?<=-)[0-9a-f]{12}\b|[\d.,]+(k? tok/s| [kM]?B/s|s left| s left)?")
"""What two runs say differently: names of temporary folders, figures, and units of speeds."""
CHANCY = ("torn", "full", "kill")
"""Strikes after which two processes need not end alike: half of a write is stored, of a file that holds times another
half each time; a kill finds another thread wherever it is."""


def digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            # The time of an evaluation stands in its results.
            content = re.sub(rb'"date": "[^"]*"', b"", path.read_bytes())
            digest.update(f"{path.relative_to(folder)}\0".encode() + content + b"\0")
    return digest.hexdigest()[:12]


def folders(*names: str) -> Callable[[Path], State]:
    """Folders that stand or fall as a whole. A kill between two renames leaves the former one beside its place, to which
    the next call brings it back."""

    def read(here: Path) -> State:
        found = {}
        for path in (here / name for name in names):
            place = path if path.exists() else path.with_name(f".{path.name}.old")
            if place.exists():
                found[str(path)] = digest_of(place)
        return found

    return read


def checkpoint(here: Path) -> State:
    """The newest one, which must be whole."""
    name = newest_name(here / "run/checkpoints")
    if name is None:
        return {}
    folder = here / "run/checkpoints" / name
    assert verify(folder) == []
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            for key in sorted(file.keys()):
                digest.update(key.encode() + file.get_tensor(key).tobytes())
    return {"checkpoint": f"{name} {digest.hexdigest()[:12]}"}


def losses(here: Path) -> State:
    path = here / "run/metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return {"losses": json.dumps([[line["kind"], line["step"], line.get("loss")] for line in lines])}


def vocabulary(here: Path) -> State:
    """The extended model; the seconds that its making took stand in the report beside it."""
    place = here / "run/vocabulary"
    place = place if place.exists() else here / "run/.vocabulary.old"
    found = {"model": digest_of(place / "model")} if (place / "model").exists() else {}
    manifest = place / "manifest.json"
    return found | ({"manifest": manifest.read_text("utf-8")} if manifest.exists() else {})


def results(here: Path) -> State:
    return folders(*(str(path.relative_to(here)) for path in sorted(here.glob("out/*/default"))))(here)


@dataclass
class Stage:
    """A command, the folder that it is called in, and what it makes there."""

    command: list[str]
    begin: Path
    """A folder with all that the command needs, and an older artefact."""
    state: Callable[[Path], State]
    after: Callable[[Path], State] = lambda here: {}
    """What must be the same besides, once the command has come to its end."""
    passing: list[State] = field(default_factory=list)
    """Good states between the old one and the new."""
    made: str = ""
    """The folder that it works in, which somebody may move away."""
    spared: str = "-"
    """Calls of files below this folder are not struck."""


class Workshop:
    """Runs a stage, struck or not, in one folder (always the same, as paths stand in what is written)."""

    def __init__(self, stage: Stage, here: Path, commands: WarmCommands):
        self.stage, self.here, self.commands = stage, here, commands
        self.log = here.with_name("log")
        self.old = stage.state(self._fresh())
        assert self._call() == 0, self._output()
        self.calls = Path(f"{self.log}.calls").read_text("utf-8").splitlines()
        self.new, self.names = self._all(), self._names()
        self._seen: dict[str, list[str]] = {}

    def strikes(self) -> list[Strike]:
        """At every call in every way, but see above for calls that are alike."""
        alike: dict[tuple[str, str], list[tuple[int, str]]] = {}
        counts: Counter[str] = Counter()
        before = ""
        for call in self.calls:
            kind = kind_of(call)
            counts[kind] += 1
            if f" {self.stage.spared}/" not in call:
                alike.setdefault((before, kind), []).append((counts[kind], call))
            before = kind
        chosen = sorted({(kind, *calls[end]) for (_, kind), calls in alike.items() for end in (0, -1)})
        strikes = [Strike(kind, number, how) for at, (kind, number, call) in enumerate(chosen)
                   for how in (*strikes_of(call), SIGNALS[at % len(SIGNALS)])]  # fmt: skip
        moved = [(kind, number) for kind, number, call in chosen if self.stage.made and top_of(call) == self.stage.made]
        return strikes + [Strike(kind, number, "moved") for kind, number in moved[::5]]

    def struck(self, strike: Strike) -> list[str]:
        """What is wrong after a strike, and after the next call."""
        self._fresh()
        code = self._call(strike)
        if (self.here / MOVED).exists():  # a stage that needs nothing of what was there may make a new one
            place = self.here / top_of(strike.kind)
            found = [] if code == 0 else self._end(code, strike.how)
            shutil.rmtree(place, ignore_errors=True)
            (self.here / MOVED).rename(place)
        else:
            found = self._end(code, strike.how)
        found += self._lost()
        return [f"{strike.how} at {strike.number} {strike.kind}: {problem}" for problem in [*found, *self._next()]]

    def ends_alike(self, strike: Strike) -> bool:
        """Whether a process that starts from nothing ends as a fork of the warm one does, and leaves the same."""
        ends = []
        for run in (self.commands.run, run_fresh):
            self._fresh()
            self.log.unlink(missing_ok=True)
            code = run(self.stage.command, self.log, self.here, strike)
            ends.append((code, VARYING.sub("#", self._output()), self._content()))
        return ends[0] == ends[1]

    def _call(self, strike: Strike | None = None) -> int:
        self.log.unlink(missing_ok=True)
        return self.commands.run(self.stage.command, self.log, self.here, strike)

    def _output(self) -> str:
        return self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""

    def _next(self) -> list[str]:
        """What is wrong after the next call."""
        content = self._content()
        if content not in self._seen:
            self._seen[content] = self._found_next()
        return self._seen[content]

    def _found_next(self) -> list[str]:
        if self._call() != 0:
            return [f"the next call: {self._output()[-1500:]}"]
        if self._all() != self.new:
            return ["the next call made another thing"]
        if self._names() != self.names:
            return [f"left over or gone: {sorted(set(self._names()) ^ set(self.names))[:5]}"]
        return []

    def _fresh(self) -> Path:
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(self.stage.begin, self.here)
        return self.here

    def _all(self) -> State:
        return self.stage.state(self.here) | self.stage.after(self.here)

    def _names(self) -> list[str]:
        """Of all that lies there, but for event files, which bear the time of their making."""
        found = sorted(str(path.relative_to(self.here)) for path in self.here.rglob("*"))
        return [name for name in found if "tfevents" not in name]

    def _content(self) -> str:
        """Of all files and folders: a digest without times, which nothing compares but those of inputs."""
        digest = hashlib.sha256()
        for path in sorted(self.here.rglob("*")):
            name = re.sub(r"(?<=tfevents).*|(?<=-)[0-9a-f]{12}\b", "", str(path.relative_to(self.here)))
            content = path.read_bytes() if path.is_file() and not FULL_OF_TIMES.search(name) else b""
            digest.update(f"{name}\0".encode() + TIMES.sub(b"", content) + b"\0")
        return digest.hexdigest()

    def _end(self, code: int, how: str) -> list[str]:
        output = self._output()
        if how in SIGNALS and code == 75:
            one = len(re.findall("^stopped by |^stopped, resumable ", output, re.MULTILINE)) == 1
            return [] if one and "Traceback" not in output else [f"exit {code}: {output[-1500:]}"]
        if code == 0:  # the call did not matter: nor may it for what was made
            return [] if self._all() == self.new else [f"exit {code}, but another thing was made"]
        if how in ("kill", "torn"):
            return [] if code == -9 else [f"exit {code}: {output[-1500:]}"]
        messages = re.findall("^error: ", output, re.MULTILINE)
        whole = code in (2, 3, 5) and len(messages) == 1 and "Traceback" not in output
        return [] if whole else [f"exit {code}, {len(messages)} messages: {output[-1500:]}"]

    def _lost(self) -> list[str]:
        found = self.stage.state(self.here)
        lost = [f"{name} is lost" for name in self.old.keys() - found.keys()]
        good = [self.old, *self.stage.passing, self.new]
        return lost + [
            f"{name} is neither the old one nor the new"
            for name, digest in found.items()
            if digest not in [state.get(name) for state in good]
        ]


class Stages:
    """The stages, made when they are asked for, in folders whose paths are all relative."""

    def __init__(self, base: Path, project, tiny_model_folder, commands: WarmCommands):
        self.base, self.project, self.tiny_model_folder, self.commands = base, project, tiny_model_folder, commands

    def run(self, folder: Path, *command: str, code: int = 0) -> None:
        log = self.base / "log"
        assert self.commands.run(list(command), log, folder) == code, log.read_text("utf-8")

    def copy(self, folder: Path, name: str) -> Path:
        return Path(shutil.copytree(folder, self.base / name))

    @cached_property
    def sources(self) -> Path:
        """Two sources and a recipe of three steps."""
        folder = self.base / "sources"
        shutil.copytree(self.project.folder / "tokenizer", folder / "tokenizer")
        recipe = json.loads(json.dumps(self.project.recipe))
        for language in ("ja", "en"):
            lines = (self.project.folder / f"{language}.jsonl").read_text("utf-8").splitlines(keepends=True)
            (folder / f"{language}.jsonl").write_text("".join(lines[:80]), encoding="utf-8")
            recipe["data"]["sources"][language]["path"] = f"{language}.jsonl"
        recipe["run_dir"], recipe["model"]["tokenizer"] = "run", "tokenizer"
        recipe["data"] |= {"prepared_dir": "data", "sequence_length": 16, "held_out": 0.4}
        recipe["training"] |= {
            "max_steps": 3, "global_batch_size": 2, "save_steps": 1, "save_total_limit": 1, "eval_steps": None,
            "warmup_steps": 0, "preflight": {"skip": LONG_PROBES},
        }  # fmt: skip
        recipe["tracking"] = {"report_to": ["tensorboard"]}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return folder

    @cached_property
    def prepared(self) -> Path:
        folder = self.copy(self.sources, "prepared")
        self.run(folder, "prepare", "recipe.yaml")
        return folder

    @cached_property
    def one_step(self) -> Path:
        """The run after its first step."""
        return self.after(1, self.copy(self.prepared, "one-step"))

    @cached_property
    def two_steps(self) -> Path:
        return self.after(2, self.copy(self.one_step, "two-steps"))

    def after(self, steps: int, folder: Path) -> Path:
        self.run(folder, "train", "recipe.yaml", f"training.stop_after_steps={steps}", code=75)
        return folder

    @cached_property
    def prepare(self) -> Stage:
        """One source is there with other settings, the other is not."""
        folder = self.copy(self.sources, "prepare")
        self.run(folder, "prepare", "recipe.yaml", "data.sources.ja.held_out=0.5")
        shutil.rmtree(folder / "data/en")
        return Stage(["prepare", "recipe.yaml"], folder, folders("data/ja", "data/en"), made="data")

    @cached_property
    def first_start(self) -> Stage:
        return Stage(["train", "recipe.yaml", "training.max_steps=1"], self.prepared, checkpoint, losses)

    @cached_property
    def train(self) -> Stage:
        """Two steps and saves more."""
        between = [checkpoint(self.two_steps)]
        return Stage(["train", "recipe.yaml"], self.one_step, checkpoint, losses, between, made="run")

    @cached_property
    def export(self) -> Stage:
        """The last stage of `run`, where the export of an earlier checkpoint lies."""
        folder = self.copy(self.two_steps, "export")
        self.run(folder, "export", "run", "run/export")
        self.run(folder, "train", "recipe.yaml")
        return Stage(["run", "recipe.yaml"], folder, folders("run/export"))

    @cached_property
    def export_verb(self) -> Stage:
        return Stage(["export", "run", "out"], self.one_step, folders("out"))

    @cached_property
    def vocabulary(self) -> Stage:
        folder = self.base / "vocabulary"
        recipe = extension_recipe(folder, make_base(folder / "base", "llama", self.tiny_model_folder))
        text = yaml.safe_dump(recipe).replace(f"{folder}/", "")
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
        self.run(folder, "vocabulary", "recipe.yaml", "seed=5")
        return Stage(["vocabulary", "recipe.yaml"], folder, vocabulary)

    @cached_property
    def evaluate(self) -> Stage:
        pytest.importorskip("lm_eval")
        folder = self.copy(self.one_step, "evaluate")
        self.run(folder, "export", "run", "model")
        write_official_data(folder / "sets")
        tasks = ["--tasks", "openbookqa,jemhopqa", "--shots", "0", "--data", "sets", "--output", "out"]
        self.run(folder, "evaluate", "model", *tasks, "--limit", "2")
        # A set that cannot be read makes a task without a score, as it should: results, but others.
        return Stage(["evaluate", "model", *tasks, "--limit", "3"], folder, results, made="out", spared="sets")


@pytest.fixture(scope="module")
def stages(project, tiny_model_folder, fork_context, tmp_path_factory):
    with WarmCommands(fork_context) as commands:
        yield Stages(tmp_path_factory.mktemp("stages"), project, tiny_model_folder, commands)


@pytest.fixture
def workshop(request: pytest.FixtureRequest, stages, tmp_path) -> Workshop:
    """Of the stage that the test is called with."""
    return Workshop(getattr(stages, request.param), tmp_path / "here", stages.commands)


@pytest.mark.parametrize(("workshop", "count"), IN_SUITE.items(), indirect=["workshop"])
def test_a_strike_at_a_file_call_loses_nothing(workshop, count):
    """One of the strikes is a signal."""
    signals, others = [], []
    for strike in workshop.strikes():
        (signals if strike.how in SIGNALS else others).append(strike)
    rng = random.Random(0)
    strikes = [*rng.sample(others, count - 1), rng.choice(signals)]
    assert [problem for strike in strikes for problem in workshop.struck(strike)] == []


PARTS = [(stage, part) for stage in IN_SUITE for part in range(4)]
"""Of the soak, so that several processes share a stage."""


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize(("workshop", "part"), PARTS, indirect=["workshop"])
def test_a_strike_at_any_file_call_loses_nothing(workshop, part, capsys):
    strikes = random.Random(1).sample(workshop.strikes(), len(workshop.strikes()))[part::4]
    found = []
    for number, strike in enumerate(strikes, 1):
        new = workshop.struck(strike)
        found += new
        with capsys.disabled():
            print(number, "of", len(strikes), *new, flush=True)
    assert found == []
    assert workshop.ends_alike(next(strike for strike in strikes if strike.how not in CHANCY))
