"""A stage that is struck at a file call loses nothing, says so in one line, and makes the same when it is called again.

Every stage is run as the real command in a tiny folder where an older artefact of its own lies. The calls are counted
in a run that nothing strikes; then each is struck in each way that it can be (`file_faults`). Some, by a fixed seed, in
the suite; all of them in `make soak`.
"""

import hashlib
import json
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from evaluation_data import write_official_data
from extension_project import extension_recipe, make_base
from file_faults import SIGNALS, strikes_of
from safetensors import safe_open

from tsugiki.checkpoint_files import newest_name, verify

IN_SUITE = {"prepare": 6, "first_start": 3, "train": 3, "export": 3, "export_verb": 3, "vocabulary": 2, "evaluate": 2}
"""Strikes of a stage."""
State = dict[str, str]
"""What stands on the disk: a digest of each artefact."""
Strike = tuple[int, str | None]


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
    lines = [json.loads(line) for line in (here / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    return {"losses": json.dumps([[line["kind"], line["step"], line.get("loss")] for line in lines])}


def vocabulary(here: Path) -> State:
    """The extended model; the seconds that its making took stand in the report beside it."""
    found = folders("run/vocabulary/model")(here)
    manifest = here / "run/vocabulary/manifest.json"
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
    code: int = 0
    """Of a good end."""
    spared: str = "-"
    """Calls of files below this folder are not struck."""


class Workshop:
    """Runs a stage, struck or not, in one folder (always the same, as paths stand in what is written)."""

    def __init__(self, stage: Stage, here: Path, launch):
        self.stage, self.here, self.launch = stage, here, launch
        self.old = stage.state(self._fresh())
        running = launch(*stage.command, folder=here, strike=(0, None))
        assert running.wait() == [stage.code], running.output()
        self.calls = Path(f"{running.log}.calls").read_text("utf-8").splitlines()
        self.new, self.names = self._all(), self._names()

    def strikes(self) -> list[Strike]:
        return [(number, how) for number, call in enumerate(self.calls, 1)
                if f" {self.stage.spared}/" not in call for how in strikes_of(call)]  # fmt: skip

    def struck(self, number: int, how: str) -> list[str]:
        """What is wrong after a strike, and after the next call."""
        self._fresh()
        running = self.launch(*self.stage.command, folder=self.here, strike=(number, how))
        (code,) = running.wait()
        found = [*self._end(code, how, running.output()), *self._lost()]
        again = self.launch(*self.stage.command, folder=self.here)
        if again.wait() != [self.stage.code]:
            found.append(f"the next call: {again.output()[-1500:]}")
        elif self._all() != self.new:
            found.append("the next call made another thing")
        elif self._names() != self.names:
            found.append(f"left over or gone: {sorted(set(self._names()) ^ set(self.names))[:5]}")
        return [f"{number} {how} {self.calls[number - 1]}: {problem}" for problem in found]

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

    def _end(self, code: int, how: str, output: str) -> list[str]:
        if code == self.stage.code:  # the call did not matter: nor may it for what was made
            return [] if self._all() == self.new else [f"exit {code}, but another thing was made"]
        if how in ("kill", "torn"):
            return [] if code == -9 else [f"exit {code}: {output[-1500:]}"]
        if how in SIGNALS:
            one = len(re.findall("^stopped by |^stopped, resumable ", output, re.MULTILINE)) == 1
            return [] if code == 75 and one and "Traceback" not in output else [f"exit {code}: {output[-1500:]}"]
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
    """Makes the stages, in folders whose paths are all relative."""

    def __init__(self, base: Path, project, tiny_model_folder, launch):
        self.base, self.project, self.tiny_model_folder, self.launch = base, project, tiny_model_folder, launch

    def run(self, folder: Path, *command: str, code: int = 0) -> None:
        running = self.launch(*command, folder=folder)
        assert running.wait() == [code], running.output()

    def project_in(self, name: str) -> Path:
        """Prepared sources and a recipe of three steps."""
        folder = self.base / name
        shutil.copytree(self.project.folder / "tokenizer", folder / "tokenizer")
        recipe = json.loads(json.dumps(self.project.recipe))
        for language in ("ja", "en"):
            lines = (self.project.folder / f"{language}.jsonl").read_text("utf-8").splitlines(keepends=True)
            (folder / f"{language}.jsonl").write_text("".join(lines[:80]), encoding="utf-8")
            recipe["data"]["sources"][language]["path"] = f"{language}.jsonl"
        recipe["run_dir"], recipe["model"]["tokenizer"] = "run", "tokenizer"
        recipe["data"] |= {"prepared_dir": "data", "sequence_length": 16, "held_out": 0.4}
        probes = ["own_path", "causality", "isolation", "accumulation", "labels", "gradient_scale", "clipping"]
        recipe["training"] |= {
            "max_steps": 3, "global_batch_size": 2, "save_steps": 1, "save_total_limit": 1, "eval_steps": None,
            "warmup_steps": 0, "preflight": {"skip": probes},
        }  # fmt: skip
        recipe["tracking"] = {"report_to": ["tensorboard"]}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        self.run(folder, "prepare", "recipe.yaml", "data.sources.ja.held_out=0.5" if name == "prepare" else "seed=7")
        return folder

    def trained(self, name: str, steps: int) -> Path:
        folder = self.project_in(name)
        self.run(folder, "train", "recipe.yaml", f"training.stop_after_steps={steps}", code=0 if steps == 3 else 75)
        return folder

    def prepare(self) -> Stage:
        """One source is there with other settings, the other is not."""
        folder = self.project_in("prepare")
        shutil.rmtree(folder / "data/en")
        return Stage(["prepare", "recipe.yaml"], folder, folders("data/ja", "data/en"))

    def first_start(self) -> Stage:
        command = ["train", "recipe.yaml", "training.stop_after_steps=1"]
        return Stage(command, self.project_in("first"), checkpoint, losses, code=75)

    def train(self) -> Stage:
        """Two steps and saves more."""
        folder, between = self.trained("train", 1), self.base / "between"
        shutil.copytree(folder, between)
        self.run(between, "train", "recipe.yaml", "training.stop_after_steps=2", code=75)
        return Stage(["train", "recipe.yaml"], folder, checkpoint, losses, [checkpoint(between)])

    def export(self) -> Stage:
        """The last stage of `run`, where the export of an earlier checkpoint lies."""
        folder = self.trained("export", 2)
        self.run(folder, "export", "run", "run/export")
        self.run(folder, "train", "recipe.yaml")
        return Stage(["run", "recipe.yaml"], folder, folders("run/export"))

    def export_verb(self) -> Stage:
        return Stage(["export", "run", "out"], self.trained("verb", 1), folders("out"))

    def vocabulary(self) -> Stage:
        folder = self.base / "vocabulary"
        recipe = extension_recipe(folder, make_base(folder / "base", "llama", self.tiny_model_folder))
        text = yaml.safe_dump(recipe).replace(f"{folder}/", "")
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
        self.run(folder, "vocabulary", "recipe.yaml", "seed=5")
        return Stage(["vocabulary", "recipe.yaml"], folder, vocabulary)

    def evaluate(self) -> Stage:
        pytest.importorskip("lm_eval")
        folder = self.trained("evaluate", 1)
        self.run(folder, "export", "run", "model")
        write_official_data(folder / "sets")
        tasks = ["--tasks", "openbookqa,jemhopqa", "--shots", "0", "--data", "sets", "--output", "out"]
        self.run(folder, "evaluate", "model", *tasks, "--limit", "2")
        # A set that cannot be read makes a task without a score, as it should: results, but others.
        return Stage(["evaluate", "model", *tasks, "--limit", "3"], folder, results, spared="sets")


@pytest.fixture
def workshop(request: pytest.FixtureRequest, project, tiny_model_folder, launch, tmp_path) -> Workshop:
    """Of the stage that the test is called with."""
    stages = Stages(tmp_path, project, tiny_model_folder, launch)
    return Workshop(getattr(stages, request.param)(), tmp_path / "here", launch)


@pytest.mark.parametrize(("workshop", "count"), IN_SUITE.items(), indirect=["workshop"])
def test_a_strike_at_a_file_call_loses_nothing(workshop, count):
    strikes = random.Random(0).sample(workshop.strikes(), count)
    assert [problem for strike in strikes for problem in workshop.struck(*strike)] == []


@pytest.mark.parametrize("workshop", ["prepare", "export_verb"], indirect=True)
def test_a_signal_ends_a_stage_with_one_message_and_loses_nothing(workshop):
    begun = len(workshop.calls) // 2
    assert [problem for how in SIGNALS for problem in workshop.struck(begun, how)] == []


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("workshop", IN_SUITE, indirect=True)
def test_a_strike_at_any_file_call_loses_nothing(workshop):
    assert [problem for strike in workshop.strikes() for problem in workshop.struck(*strike)] == []
