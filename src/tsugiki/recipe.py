"""The recipe: every key that a user can write, with its unit, its default and why that is the default.

Read it from top to bottom as the reference of the YAML file. Sections with a file of their own are `recipe_vocabulary`,
`recipe_chat`, `recipe_filters`, `recipe_executor`, `recipe_training` and `recipe_evaluation`; `recipe_corpus` is what
all corpora have. `recipe_file.load_recipe` reads the file and reports what is wrong by line; `recipe_checks` holds what
needs more than one key to judge, `recipe_resume` what a resumed run may change. Values are strict: the reader follows
YAML 1.2, so a number is a number and text is text, and nothing is converted by guessing.

Every key says what may happen to it when a run is resumed (`json_schema_extra={"resume": ...}`):

- `fixed` (unsaid): part of what the run *is*; a change refuses to resume and shows both values;
- `free`: where, how fast and how often (paths, cadence, limits, sharding, kernels); a change is taken and announced;
- `extending`: may change the future but not the past (a longer run, a data stage that starts later).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tsugiki.corpus.readers import FORMATS
from tsugiki.recipe_chat import CHAT, ChatSection, LossOn
from tsugiki.recipe_corpus import CorpusSection
from tsugiki.recipe_evaluation import EvaluationSection
from tsugiki.recipe_executor import ExecutorSection
from tsugiki.recipe_filters import FiltersSection
from tsugiki.recipe_training import ParallelSection, TrainingSection
from tsugiki.recipe_values import (
    EXTENDING,
    FREE,
    SOURCE_NAMES,
    Count,
    FilePath,
    OneOf,
    PathList,
    PathText,
    Processes,
    SampleRange,
    Section,
    Share,
    SourceName,
    Text,
    Weight,
    whole_number,
)
from tsugiki.recipe_vocabulary import VocabularySection


class ModelSection(Section):
    """Which model is trained: one of `name_or_path` and `architecture`."""

    name_or_path: PathText | None = Field(
        default=None,
        description="A folder in Hugging Face format or a hub id. A hub revision is resolved to a commit once"
        " and recorded. To start a new run from a checkpoint, export it and name the folder here. On resume a folder"
        " that was moved is taken (weights come from the checkpoint), another hub id is refused.",
        json_schema_extra=FREE,
    )
    architecture: dict[str, Any] | None = Field(
        default=None,
        description="Instead of name_or_path: a Hugging Face configuration, model_type included; weights are "
        "drawn at random from the seed.",
    )
    revision: Text | None = Field(
        default=None,
        description="Branch, tag or commit on the hub. Default: the hub's main branch, pinned when first used.",
    )
    tokenizer: PathText | None = Field(
        default=None,
        description="A folder (or hub id) with the tokenizer. Default: the model's own; needed with architecture. On"
        " resume its files must be the same, wherever they lie.",
        json_schema_extra=FREE,
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] | None = (
        Field(
            default=None,
            description="How attention is computed. Default: what the model class chooses. What the machine can "
            "do is asked at start.",
            json_schema_extra=FREE,
        )
    )
    allow_pickle: bool = Field(
        default=False,
        description="Read pytorch_model.bin where no safetensors exist (weights only). Off, since a pickle "
        "can run code.",
        json_schema_extra=FREE,
    )


class SourceSection(CorpusSection):
    """One corpus, tokenised once into one store: one of `path`, `hub` and `store`."""

    format: Annotated[str, OneOf(["auto", *FORMATS, CHAT])] = Field(
        default="auto",
        description="File format; auto goes by the file name without its compression suffix. chat: records are"
        " conversations (messages, ShareGPT, Alpaca, prompt and completion, llm-recipes) in files of JSON or Parquet.",
    )
    store: PathList | None = Field(
        default=None,
        description="Instead of path: tokens that another program wrote, read where they lie. The name of a .bin and"
        " .idx of Megatron-LM without its ending, a .ds of datatrove, a folder or a pattern of such, or a list. That"
        " they are of this model's tokenizer has to be known: no file says so.",
        json_schema_extra=FREE,
    )
    store_held_out: PathList | None = Field(
        default=None,
        description="Beside store: one like it, with the held-out documents. Without it the source has none.",
        json_schema_extra=FREE,
    )
    weight: Weight = Field(
        description="Share of training tokens, relative to the other sources' (any unit: 70 and 30, .7 and "
        ".3). 0 = prepared and validated but never drawn, to watch what is forgotten, or drawn "
        "from a later stage on."
    )
    language: Text | None = Field(
        default=None, description="What it is, for reports: ja, en, math, code …", json_schema_extra=FREE
    )
    max_epochs: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Refuse to start when the run would read the source more often than this. Default: no limit.",
        json_schema_extra=FREE,
    )
    held_out: Share | None = Field(
        default=None,
        description="Share of documents kept for validation, chosen by a hash of the text. Default: data.held_out. "
        "A text that also stands in a source with another share may be trained on there.",
    )
    filters: FiltersSection = Field(
        default=FiltersSection(), description="Which of its documents are not trained on (not of conversations)."
    )
    loss_on: LossOn | None = Field(
        default=None,
        description="Of a chat source: what is trained. assistant: every answer. completion: the answers of the"
        " completion, where the layout has one, else the last. last: the last one. all: every token. Or a list of"
        " roles. A message's own `weight` goes before it. Default: assistant.",
    )
    loss_weight: Annotated[float, Field(gt=0, le=1e6)] = Field(
        default=1.0,
        description="What each trained token of the source counts in the loss, in a recipe with a chat source.",
    )


class StageSection(Section):
    """From `start_step` on, the mixture has these weights."""

    start_step: Count = Field(
        description="The weights hold for every step after this many steps (the first sample they place is "
        "number start_step x global_batch_size)."
    )
    weights: dict[str, Weight] = Field(
        description="Weight of every source in this stage, as in sources. A source drawn until now must be "
        "named: 0 stops drawing from it."
    )


class DataSection(Section):
    """What the model reads."""

    sequence_length: Annotated[int, Field(ge=2, le=2**24), BeforeValidator(whole_number)] = Field(
        description="Tokens a window; every window is a full one. At most what the model's positions allow."
    )
    isolate_documents: bool = Field(
        default=False,
        description="Keep attention within a document, positions restarting. Off: documents that share a "
        "window see each other (as Swallow trained). Conversations never do.",
    )
    packing: Literal["windows", "best_fit"] = Field(
        default="windows",
        description="windows: documents in a row, cut where a window is full. best_fit: a window holds whole documents"
        " and some padding, only those longer than a window are cut, and none sees another. Conversations are always"
        " packed.",
    )
    held_out: Share = Field(
        default=0.001,
        description="Share of each source's documents kept for validation (0.001 of a billion tokens is a "
        "million: enough to measure, little to lose). A small source needs more.",
    )
    add_bos: bool | None = Field(
        default=None,
        description="Put BOS before each document. Default: as the model's own tokenizer does. Conversations begin as"
        " their template writes them; true puts BOS before one that writes none.",
    )
    add_eos: bool | None = Field(
        default=None,
        description="Put EOS after each document. Default: yes where the tokenizer has one, so that the model"
        " can learn where a document ends. Not of conversations: see chat.append_eos.",
    )
    max_bad_documents: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.001,
        description="Share of documents that may be unreadable (malformed, missing key, wrong type, empty) "
        "before preparing stops. They are counted and named in any case.",
        json_schema_extra=FREE,
    )
    max_document_bytes: Annotated[int, Field(ge=1024, le=10**15), BeforeValidator(whole_number)] = Field(
        default=67_108_864,
        description="Longest document in bytes (64 MiB); guards memory against a file without line ends.",
    )
    split_documents: Annotated[int, Field(ge=1000), BeforeValidator(whole_number)] | None = Field(
        default=5_000_000,
        description="Characters beyond which a text becomes several documents, cut at line ends: the tokenizer needs a"
        " hundred times a text's size in memory, and seconds for a million characters. null: never.",
    )
    workers: Processes | None = Field(
        default=None,
        description="Processes that prepare. Default: the number of cores.",
        json_schema_extra=FREE,
    )
    executor: ExecutorSection | None = Field(
        default=None,
        description="Who prepares, where one machine is not enough. Default: this one, with `workers`.",
        json_schema_extra=FREE,
    )
    fast_tokenizer: bool = Field(
        default=True,
        description="Make ids in faster ways that prove to give the same: by segments, by gigatoken or fastokens "
        "(extra `fast`).",
        json_schema_extra=FREE,
    )
    prepared_dir: FilePath | None = Field(
        default=None,
        description="Where token stores live; give a common folder to share them between runs. Default: run_dir/data.",
        json_schema_extra=FREE,
    )
    chat: ChatSection = Field(default=ChatSection(), description="How conversations are written.")
    sources: dict[SourceName, SourceSection] = Field(
        description="The corpora by name. The name seeds a source's order, so renaming it reshuffles it.",
        min_length=1,
        json_schema_extra=SOURCE_NAMES,
    )
    stages: list[StageSection] = Field(
        default=[],
        description="Later changes of the weights. What was drawn before a stage does not depend on it.",
        json_schema_extra=EXTENDING,
    )
    skip: list[SampleRange] = Field(
        default=[],
        description="Ranges [a, b) of global sample numbers that are stepped over, e.g. [[120000, 122048]]: text that"
        " broke the training. `tsugiki sample` shows what they hold. Everything after them comes so much earlier.",
        json_schema_extra=EXTENDING,
    )


class TrackingSection(Section):
    """Where metrics go besides the terminal and metrics.jsonl."""

    report_to: list[Literal["tensorboard", "wandb", "trackio", "none"]] = Field(
        default=["tensorboard"],
        description="Trackers. TensorBoard writes files only; the others send data away, so they are asked for.",
        json_schema_extra=FREE,
    )
    project: Text | None = Field(default=None, description="Project name at the tracker.", json_schema_extra=FREE)
    run_name: Text | None = Field(
        default=None,
        description="Run name at the tracker. Default: the last part of run_dir.",
        json_schema_extra=FREE,
    )


class Recipe(Section):
    """One run, whole. Paths are relative to the directory in which the command is given."""

    run_dir: FilePath = Field(
        description="Folder for everything the run writes. The same recipe and folder again: the run continues.",
        json_schema_extra=FREE,
    )
    seed: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(whole_number)] = Field(
        default=42,
        description="All randomness derives from it: order of data, random weights, stochastic rounding.",
    )
    model: ModelSection = Field(description="Which model is trained.")
    vocabulary: VocabularySection | None = Field(default=None, description="New pieces for its tokenizer.")
    data: DataSection = Field(description="What it reads.")
    training: TrainingSection = Field(description="How the weights move.")
    parallel: ParallelSection = Field(default=ParallelSection(), description="How it is laid over processes.")
    evaluation: EvaluationSection | None = Field(default=None, description="How the model is judged.")
    tracking: TrackingSection = Field(default=TrackingSection(), description="Where metrics go.")

    @property
    def prepared_dir(self) -> Path:
        """Folder of the token stores: `data.prepared_dir`, or `data` in the run directory."""
        return self.data.prepared_dir or self.run_dir / "data"

    @property
    def vocabulary_dir(self) -> Path:
        """Folder of the extended model: `vocabulary.output_dir`, or `vocabulary` in the run directory."""
        return (self.vocabulary and self.vocabulary.output_dir) or self.run_dir / "vocabulary"

    def held_out_share(self, source: str) -> float:
        """The held-out share that applies to a source: its own, or `data.held_out`; 0 where nothing is chosen, since
        another program tokenised it."""
        own = self.data.sources[source].held_out
        if self.data.sources[source].store is not None:
            return 0.0
        return self.data.held_out if own is None else own

    def holds_out(self, source: str) -> bool:
        """Whether a source has a held-out part."""
        return self.held_out_share(source) > 0 or self.data.sources[source].store_held_out is not None

    @property
    def has_chat(self) -> bool:
        """Whether a source's records are conversations."""
        return any(source.is_chat for source in self.data.sources.values())
