"""The folder of a sweep or an attribution as its page reads it: where runs and recipes lie, and links to them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from tsugiki.attribution_results import AttributionResult
from tsugiki.errors import RecipeError
from tsugiki.files import read_json
from tsugiki.pages.markup import Markup, element, join, joined
from tsugiki.sweep_results import RunResult, SweepResult

Result = TypeVar("Result", SweepResult, AttributionResult)


def read_result(path: Path, shape: type[Result], version: int, again: str) -> Result:
    """What an experiment wrote, of the layout `version`; `again` writes it anew. Raises RecipeError where it has
    another layout, DataError or StorageError as `read_json`."""
    result = read_json(path, shape)
    if result.format != version:
        raise RecipeError(
            f"{path} has format {result.format}, and this version reads {version}: write it again with {again}"
        )
    return result


@dataclass(frozen=True)
class ExperimentFolder:
    """A folder with runs, each beside its recipe."""

    folder: Path

    def run_folder(self, run: RunResult) -> Path:
        """Where a run lies now: in the experiment's folder, wherever that was moved to."""
        return self.folder / Path(run.run_dir).name

    def recipe_file(self, run: RunResult) -> Path:
        return self.folder / Path(run.recipe).name

    def recipe_text(self, run: RunResult) -> str | None:
        """The recipe of a run, where it still lies there."""
        try:
            return self.recipe_file(run).read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            return None

    def links(self, run: RunResult, output: Path) -> Markup:
        """To the run's own report where there is one, and its recipe, from a page in `output`."""
        found = [("report", self.run_folder(run) / "report/report.html"), ("recipe", self.recipe_file(run))]
        links = [element("a", name, href=_address(path, output)) for name, path in found if path.is_file()]
        return join(*(part for link in links for part in (link, " "))) if links else join(run.run_dir)


def _address(path: Path, output: Path) -> str:
    """A relative link; beginning with a dot, so that no part of a name is taken for a scheme."""
    return "./" + quote(os.path.relpath(path, output))


def stacked(texts: Sequence[str]) -> Markup:
    """Texts below each other, none of them broken."""
    return joined(join(element("br") if place else None, element("span", text, class_="whole"))
                  for place, text in enumerate(texts))  # fmt: skip


def written(changes: Mapping[str, Any]) -> str:
    """Changes of a recipe on one line."""
    return ", ".join(f"{key}={value}" for key, value in changes.items())
