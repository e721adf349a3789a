"""The recipe's sections `evaluation`, how the trained model is judged, on which tasks, beside which others, and
`training.evaluate`, what it is asked meanwhile.

They say nothing about how it is trained, so that every key may change when a run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from tsugiki.chat.templates import NAMED
from tsugiki.recipe_chat import Tool
from tsugiki.recipe_values import FREE, Count, CountOrZero, FilePath, OneOf, Section, Text

DATA_DIR = "evaluation-data"
"""Where `tsugiki data fetch` puts sets and evaluation looks for them, where no other folder is named."""

TASK_FILES = Path(__file__).parent / "evaluation" / "tasks"
"""A folder a suite, a file a task: to be there is all that makes it one of the suite. Those in `extra/` run when they
are named."""
BATCH_TOKENS = 16384
"""Tokens at a time where nothing else is asked for."""
CODE_TASKS = ("code", "humaneval", "jhumaneval")
"""Of the suite quick: those that run what a model writes."""
TEXTS = "texts"
"""Of the suite quick: held-out text in bits per byte alone, without the probes."""
INSTRUCTION_TASKS = {"instructions_en": "en", "instructions_ja": "ja", "ifeval": "en", "m_ifeval_ja": "ja"}
"""Of every suite, where they are named: instruction checks, asked through the model's chat template; and their
languages."""
QUICK_TASKS = (TEXTS, *CODE_TASKS)
"""What may be named of the suite quick."""


def split_tasks(named: list[str] | None) -> tuple[list[str] | None, list[str]]:
    """Of the tasks that are named (None: all of the suite): those of the suite, and the instruction checks."""
    if named is None:
        return None, []
    instructions = [name for name in dict.fromkeys(named) if name in INSTRUCTION_TASKS]
    return [name for name in named if name not in INSTRUCTION_TASKS], instructions


def task_names(suite: str, *, extra: bool = True) -> list[str]:
    """The tasks of a suite on lm-eval, by the names of their files; with those of `extra/` or without."""
    folder = TASK_FILES / suite
    return sorted(path.stem for path in (folder.rglob if extra else folder.glob)("*.yaml"))


class EvaluateSection(Section):
    """Questions to the model while it trains."""

    every: Count = Field(
        description="Steps between evaluations, made before the first and after the last step too.",
        json_schema_extra=FREE,
    )
    suite: Literal["quick"] = Field(
        default="quick",
        description="quick: the built-in probes (copying, sums, cloze) in the languages of the sources. They need no"
        " data, change nothing in the run and take about as long as 80,000 tokens of held-out text.",
        json_schema_extra=FREE,
    )


class EvaluationSection(Section):
    """The stage `evaluate`: the final model on the tasks of a suite, and beside it the base and chosen steps."""

    suite: Literal["default", "swallow", "quick"] = Field(
        default="default",
        description="default: fourteen tasks in Japanese and English, measured properly. swallow: the same as published"
        " for Swallow, to compare with its tables. quick: small built-in probes and held-out bits per byte, without"
        " data or the extra `eval`.",
        json_schema_extra=FREE,
    )
    tasks: list[Text] | None = Field(
        default=None,
        description="Some of the suite's tasks, or your own; of quick, `texts` for bits per byte alone; in any suite"
        " the instruction checks instructions_en, instructions_ja, ifeval and m_ifeval_ja. Default: all of the suite.",
        json_schema_extra=FREE,
    )
    chat_template: bool = Field(
        default=False,
        description="Apply the model's chat template to the prompts of the suite's tasks, as lm-eval's"
        " --apply_chat_template does. Instruction checks are always asked through it.",
        json_schema_extra=FREE,
    )
    fewshot_as_multiturn: bool = Field(
        default=True,
        description="With chat_template: each solved example is a turn of its own. false: all stand in one question.",
        json_schema_extra=FREE,
    )
    template: Annotated[str, OneOf(NAMED)] | None = Field(
        default=None,
        description="A chat template by name, for all models. Default: that of each model's tokenizer; for a base"
        " without one, that of data.chat.",
        json_schema_extra=FREE,
    )
    tools: list[Tool] | None = Field(
        default=None,
        description="JSON schemas of functions that are offered through the chat template; [] for none. Default: those"
        " of data.chat; without conversations in the recipe, those that each model was trained with.",
        json_schema_extra=FREE,
    )
    template_kwargs: dict[str, Any] | None = Field(
        default=None,
        description="Arguments of the chat template, such as {enable_thinking: false}. Default: as for tools.",
        json_schema_extra=FREE,
    )
    data_dir: FilePath | None = Field(
        default=None,
        description="Folder of the tasks' data, as `tsugiki data fetch` lays it out. Default: evaluation-data.",
        json_schema_extra=FREE,
    )
    limit: Count | None = Field(
        default=None, description="Only the first items of each task. Default: all.", json_schema_extra=FREE
    )
    shots: CountOrZero | None = Field(
        default=None,
        description="Solved examples before each question. Default: each task's own.",
        json_schema_extra=FREE,
    )
    base: bool | Literal["only"] = Field(
        default=True,
        description="Also evaluate the base model, and show differences to it. only: it alone, before anything is"
        " trained.",
        json_schema_extra=FREE,
    )
    steps: list[Count] = Field(
        default=[],
        description="Also evaluate the checkpoints of these steps (training.keep_every must have kept them).",
        json_schema_extra=FREE,
    )
    published: bool = Field(
        default=False,
        description="Put the rows that Swallow published into the table (suite swallow).",
        json_schema_extra=FREE,
    )
    add_bos: bool | None = Field(
        default=None,
        description="Put BOS before each prompt. Default: as the tokenizer does; swallow: no, as published.",
        json_schema_extra=FREE,
    )
    batch_tokens: Count = Field(
        default=BATCH_TOKENS,
        description="Tokens at a time, those of the cache included; halved by itself where a GPU's memory runs out.",
        json_schema_extra=FREE,
    )
    backend: Literal["hf", "vllm"] = Field(
        default="hf", description="hf: transformers. vllm: where it is installed.", json_schema_extra=FREE
    )
    task_dir: FilePath | None = Field(
        default=None,
        description="A folder of your own lm-eval task files; they are programs (see allow_task_code).",
        json_schema_extra=FREE,
    )
    allow_task_code: bool = Field(
        default=False,
        description="Run the code of the files in task_dir. Off: a task file can run anything.",
        json_schema_extra=FREE,
    )
    allow_code_execution: bool = Field(
        default=False,
        description="Run what the model writes for the tasks `code`, `humaneval` and `jhumaneval`, in a process with"
        " limits. Off: no limit is a wall.",
        json_schema_extra=FREE,
    )
