"""A tiny prepared project for tests that run the loop in this process."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from one_process import processes  # noqa: F401 - a fixture
from tiny_project import PreparedTiny, prepare_tiny

from tsugiki.recipe_file import parse_recipe
from tsugiki.training.distributed import Processes
from tsugiki.training.run import Run, open_run
from tsugiki.training.signals import StopRequest


@pytest.fixture(scope="session")
def prepared_tiny(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> PreparedTiny:
    return prepare_tiny(tmp_path_factory.mktemp("tiny"), tiny_tokenizer_folder)


@pytest.fixture(scope="session")
def chatting_tiny(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path) -> PreparedTiny:
    """Conversations (`talk`) beside text (`en`)."""
    return prepare_tiny(tmp_path_factory.mktemp("chat"), tiny_tokenizer_folder, chat=True)


@pytest.fixture
def open_tiny(open_in: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """open_tiny(**{"training.max_steps": 4}): a run on a tiny random Mistral, where its newest checkpoint stands.

    `architecture`: a name of `tiny_config`, or a whole configuration. `given` replaces arguments of `open_run` and
    fields of `Processes` (place), and the project (prepared). What the run says is in `run.said`.
    """
    return partial(open_in, tmp_path / "run")


@pytest.fixture(scope="module")
def open_in(
    processes: Processes,  # noqa: F811
    prepared_tiny: PreparedTiny,
    tiny_config: Callable[..., dict[str, Any]],
) -> Callable[..., Run]:
    """open_in(run_dir, …): the same in that directory, for what tests of a module share."""

    def build(
        run_dir: Path, /, architecture: str | dict[str, Any] | None = None, given: dict[str, Any] | None = None, **changes: Any
    ) -> Run:  # fmt: skip
        given = dict(given or {})
        changes.setdefault("training.eval_documents", 1)
        prepared = given.pop("prepared", prepared_tiny)
        if architecture:
            rows = parse_recipe(prepared.text).model.architecture["vocab_size"]
            values = tiny_config(architecture) if isinstance(architecture, str) else architecture
            changes["model.architecture"] = json.dumps({**values, "vocab_size": rows})
        recipe = parse_recipe(
            prepared.text, overrides=[f"run_dir={run_dir}", *(f"{k}={v}" for k, v in changes.items())]
        )
        place = given.pop("place", processes.place)
        said: list[str] = []
        arguments = {
            "sources": prepared.sources, "tokenizer": prepared.tokenizer, "model_folder": None,
            "processes": replace(processes, place=place), "stop": StopRequest(), "say": said.append,
        }  # fmt: skip
        run = open_run(recipe, **{**arguments, **given})
        run.said = said  # type: ignore[attr-defined]
        return run

    return build
