"""What a run directory says of its run: every artefact that is there, read in a declared shape; what is not is None.

A run may be going on, have been killed, or have been moved: nothing here needs a file but `recipe.yaml`. A damaged
artefact is named among `problems` and left out; but without what the run has logged there is nothing to show.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypeVar

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from tsugiki import moved
from tsugiki.checkpoint_files import STATE, list_names
from tsugiki.corpus.prepared import MANIFEST, SourceManifest
from tsugiki.errors import TsugikiError
from tsugiki.files import read_json
from tsugiki.metrics_file import Metrics, read_metrics, require_logged
from tsugiki.origin_file import Origin, read_origins
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import show
from tsugiki.run_folder import recipe_of
from tsugiki.state_file import STATE_FILE, State

T = TypeVar("T")


class Stage(TypedDict):
    """A stage of the mixture, as checkpoints keep it."""

    start_sample: int
    weights: dict[str, int]


class MixtureState(TypedDict):
    seed: int
    windows: dict[str, int]
    stages: list[Stage]
    skip: NotRequired[list[list[int]]]
    """Ranges [a, b) of samples that the run stepped over."""


class CheckpointState(TypedDict):
    """`state.json` of a checkpoint."""

    step: int
    samples: int
    tokens: NotRequired[int]
    bad_steps: NotRequired[int]
    mixture: NotRequired[MixtureState]
    tokenizer: NotRequired[str]
    sources: NotRequired[dict[str, str]]
    optimizer: NotRequired[str]
    world_size: NotRequired[int]
    versions: NotRequired[dict[str, str]]


class Probe(TypedDict):
    """One of the checks before step 1."""

    name: str
    verdict: str
    measured: str
    threshold: NotRequired[str]


class Preflight(TypedDict):
    """`preflight.json`."""

    step: int
    processes: int
    probes: list[Probe]


class Fertility(TypedDict):
    tokens: int
    characters: int
    bytes: int
    tokens_per_character: float


class Change(TypedDict):
    before: Fertility
    after: Fertility
    tokens_ratio: float


class Sizes(TypedDict):
    before: int
    after: int


class Piece(TypedDict):
    text: str
    uses: int


class Vocabulary(TypedDict):
    """`report.json` of an extension."""

    vocabulary_size: Sizes
    sample: dict[str, Change]
    held_out: dict[str, Change]
    mixture_tokens_ratio: NotRequired[float | None]
    most_used: NotRequired[list[Piece]]
    initialisation: NotRequired[dict[str, Any]]


class Difference(TypedDict):
    estimate: float
    interval: list[float] | None


class Cell(TypedDict):
    """A row's score in a column of the table of scores."""

    score: float | None
    interval: NotRequired[list[float] | None]
    difference: NotRequired[Difference]
    metric: NotRequired[str]
    items: NotRequired[int]
    shots: NotRequired[int]
    missing: NotRequired[str]


class Row(TypedDict):
    name: str
    published: bool
    tasks: dict[str, Cell]
    averages: dict[str, Cell]


class Language(TypedDict):
    language: str
    tasks: dict[str, str]
    averaged: list[str]


class Scores(TypedDict):
    """`evaluation/table.json`."""

    suite: str
    form: NotRequired[str]
    """In what form its tasks were asked, where it was not plain text."""
    baseline: str | None
    languages: list[Language]
    rows: list[Row]
    notes: list[str]


class Sample(TypedDict):
    """A prompt, and how the base and the final model go on."""

    source: str
    language: str | None
    prompt: str
    before: str | None
    after: str | None


class Turn(TypedDict):
    role: str
    content: str


class Answer(TypedDict):
    """What a model said, and whether it ended that itself."""

    text: str
    stopped: bool


class Answered(TypedDict):
    """The last messages of a conversation before an answer, that of the base and the final model, and its own."""

    source: str
    language: str | None
    earlier: int
    """Messages before those."""
    messages: list[Turn]
    before: Answer | None
    after: Answer
    reference: str


class Samples(TypedDict):
    """`samples.json`."""

    settings: dict[str, Any]
    samples: list[Sample]
    answers: NotRequired[list[Answered]]
    """Of chat sources."""
    most_tokens: NotRequired[int]
    """That an answer may have."""


class Start(TypedDict):
    """What a start of training ran on."""

    step: int
    time: str
    processes: int
    device: str
    devices: NotRequired[int]
    cpu: NotRequired[str]
    cores: NotRequired[int]
    memory_gb: NotRequired[float]
    system: NotRequired[str]
    peak_tflops: NotRequired[float | None]
    flops_per_token: NotRequired[float]
    parameters: NotRequired[int]
    trained_parameters: NotRequired[int]
    versions: NotRequired[dict[str, str]]


@with_config(ConfigDict(extra="ignore"))
class ModelConfig(TypedDict):
    """What of the model's `config.json` is shown."""

    model_type: NotRequired[str]
    architectures: NotRequired[list[str] | None]
    vocab_size: NotRequired[int]
    hidden_size: NotRequired[int]
    num_hidden_layers: NotRequired[int]


KEPT = 64
"""Runs of which computed figures are kept: page, card and figures all ask for them."""


@dataclass(eq=False)
class RunDirectory:
    """A run as its directory tells it; what is computed from it is kept, so that nothing of it is changed later."""

    folder: Path
    name: str
    """The folder's, unless several runs that are shown together share it."""
    recipe: Recipe
    recipe_text: str
    """Fully resolved; what looks like a credential is hidden."""
    metrics: Metrics
    state: State | None = None
    checkpoints: list[tuple[str, int]] = field(default_factory=list)
    """(name, step), oldest first."""
    checkpoint: CheckpointState | None = None
    """Of the newest one that can be read."""
    preflight: Preflight | None = None
    manifests: dict[str, SourceManifest] = field(default_factory=dict)
    """By source."""
    vocabulary: Vocabulary | None = None
    scores: Scores | None = None
    origin: dict[str, Origin] = field(default_factory=dict)
    samples: Samples | None = None
    starts: list[Start] = field(default_factory=list)
    config: ModelConfig = field(default_factory=lambda: ModelConfig())
    has_chat_template: bool = False
    """Whether the base came with one."""
    problems: list[str] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that anything is known of."""
        logged = [line["step"] for line in (*self.metrics.steps[-1:], *self.metrics.validations[-1:])]
        return max([*logged, self.state["step"] if self.state else 0])

    @property
    def status(self) -> str:
        return self.state["status"] if self.state else "not started"

    @property
    def tokenizer(self) -> str | None:
        """The fingerprint of the tokenizer that it was trained with."""
        recorded = self.checkpoint.get("tokenizer") if self.checkpoint else None
        return recorded or next((each.tokenizer_fingerprint for each in self.manifests.values()), None)

    def require_logged(self) -> None:
        """Raise StorageError where less was logged than the run must have."""
        reached = max([self.state["step"] if self.state else 0, *(step for _, step in self.checkpoints)])
        interval, finished = self.recipe.training.logging_steps, self.status == "finished"
        path = self.folder / "metrics.jsonl"
        require_logged(path, self.metrics.reached, reached=reached, interval=interval, finished=finished)


def read_run(folder: Path) -> RunDirectory:
    """A run directory. Raises RecipeError where it is none, with what it lacks, StorageError where what it has logged
    is damaged or lost."""
    recipe = recipe_of(folder)
    run = RunDirectory(folder, folder.resolve().name, recipe, show(recipe), read_metrics(folder / "metrics.jsonl"))

    def optional(path: Path, shape: type[T]) -> T | None:
        return _try(run, lambda: read_json(path, shape)) if path.exists() else None

    run.state = optional(folder / STATE_FILE, State)
    run.checkpoints = [(str(name), name.step) for name in sorted(list_names(folder / "checkpoints"))]
    for name, _ in reversed(run.checkpoints):
        run.checkpoint = optional(folder / "checkpoints" / name / STATE, CheckpointState)
        if run.checkpoint is not None:
            break
    run.require_logged()
    run.preflight = optional(folder / "preflight.json", Preflight)
    run.scores = optional(folder / "evaluation" / "table.json", Scores)
    run.origin = _try(run, lambda: read_origins(folder)) or {}
    run.config = optional(folder / "model" / "config.json", ModelConfig) or ModelConfig()
    settings = optional(folder / "model" / "tokenizer_config.json", dict[str, Any]) or {}
    run.has_chat_template = "chat_template" in settings or (folder / "model" / "chat_template.jinja").exists()
    run.samples = optional(folder / "samples.json", Samples)
    run.starts = optional(folder / "environment.json", list[Start]) or []
    if recipe.vocabulary is not None:
        place = found_at(run, recipe.vocabulary_dir)
        run.vocabulary = optional(place / "report.json", Vocabulary) if place else None
    prepared = found_at(run, recipe.prepared_dir)
    length, packed = recipe.data.sequence_length, recipe.data.packing == "best_fit"
    for name in recipe.data.sources if prepared else ():
        assert prepared is not None
        if (prepared / name / MANIFEST).exists():
            manifest = _try(run, partial(SourceManifest.read, prepared / name / MANIFEST))
            if manifest is not None:
                # The packs of this run's length, which need not be the first that was prepared for.
                mine = _try(run, partial(manifest.at_length, prepared / name, length, packed))
                run.manifests[name] = mine or manifest
    return run


def found_at(run: RunDirectory, path: Path) -> Path | None:
    """Where something that the recipe names lies now."""
    return moved.found_at(run.folder, run.recipe.run_dir, path)


def _try(run: RunDirectory, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except TsugikiError as error:
        run.problems.append(str(error))
        return None
