"""Whether a run may go on from a checkpoint: what must be as it was, and what may have changed and is announced."""

import functools
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tsugiki.corpus.mixture import order_conflict
from tsugiki.errors import RecipeError
from tsugiki.files import read_json
from tsugiki.model.ranks import on_first_rank
from tsugiki.recipe import Recipe
from tsugiki.recipe_resume import compare_for_resume, config_changes
from tsugiki.training.checkpoint_reader import Found

if TYPE_CHECKING:
    from tsugiki.training.run import Run


def require_same_run(run: "Run", found: Found) -> None:
    """Say what has changed since the checkpoint; RecipeError where it would not be the same run. Collective."""
    _compare_recipes(run, found)
    if found.state["tokenizer"] != run.tokenizer.fingerprint:
        raise RecipeError(f"cannot continue {found.path}: the tokenizer's files have changed since it was written")
    _compare_data(run, found)
    _compare_bases(run, found)
    changes = on_first_rank(lambda: base_changes(run.recipe, run.model_folder), run.processes.control)
    if changes:
        raise RecipeError(f"cannot continue {run.recipe.run_dir}: {changes}")
    now, then = software_versions(), found.state["versions"]
    changed = [f"{name} {then[name]} -> {now.get(name)}" for name in then if now.get(name) != then[name]]
    if changed:
        run.say(f"software has changed since the checkpoint, so bits may differ: {', '.join(changed)}")
    if found.state["world_size"] != run.processes.world:
        run.say(
            f"{found.state['world_size']} -> {run.processes.world} processes: the order of data is the same, "
            "sums are rounded in another order"
        )


def _compare_recipes(run: "Run", found: Found) -> None:
    differences = compare_for_resume(
        found.state["recipe"], run.recipe, found.state["step"], [rewind["skip"] for rewind in run.rewinds]
    )
    refused = [difference for difference in differences if difference.kind == "fixed"]
    if refused:
        lines = [f"  {difference}" for difference in refused]
        raise RecipeError(
            f"cannot continue {found.path}: these keys are fixed once a run has begun\n"
            + "\n".join(lines)
            + "\nGive the old values, or start a new run in another run_dir (its model.name_or_path may be an "
            "export of this checkpoint)"
        )
    for difference in differences:
        run.say(f"changed since the checkpoint: {difference}")


def _compare_data(run: "Run", found: Found) -> None:
    conflict = order_conflict(found.state["mixture"], run.mixture.describe(), found.state["samples"])
    if conflict:
        raise RecipeError(f"cannot continue {found.path}: {conflict}")
    for name, drawn in run.mixture.drawn_before(run.mixture.reached(found.state["samples"])).items():
        if drawn and run.sources[name].manifest.fingerprint != found.state["sources"][name]:
            raise RecipeError(
                f"cannot continue {found.path}: source {name} was prepared anew from other text or with other "
                "settings; give the old inputs, or start a new run in another run_dir"
            )


def _compare_bases(run: "Run", found: Found) -> None:
    """Adapters fit the base that they were trained beside, and no other."""
    if run.model.adapters is not None and run.model.adapters.base != found.state["base"]["digest"]:
        raise RecipeError(
            f"cannot continue {found.path}: the weights in {run.model_folder} are not those of the base that its "
            f"adapters were trained beside (then in {found.state['base']['folder']}); give that base in "
            "model.name_or_path"
        )


def base_changes(recipe: Recipe, model_folder: Path | None) -> str | None:
    """Why the base model's folder, which may have moved since the run began, is not the one that it began with."""
    recorded = recipe.run_dir / "model/config.json"
    if model_folder is None or not recorded.exists():
        return None
    path = model_folder / "config.json"
    changes = config_changes(read_json(recorded), read_json(path))
    return f"{path} computes otherwise: {'; '.join(changes)}" if changes else None


@functools.cache  # every save asks, and reading packages' metadata takes milliseconds
def software_versions() -> dict[str, str]:
    """What a resumed run must share with the run it continues to get the same bits."""
    packages = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
    return {"python": platform.python_version()} | {package: version(package) for package in packages}
