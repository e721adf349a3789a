"""Whether a run has nothing left to train, told from its files: no model is loaded and no preflight repeated for it.

Only a run that its files say is finished, with the recipe and the data at hand, is taken for it. What is in doubt goes
the way of every start, which says what it is.
"""

from collections.abc import Mapping
from pathlib import Path

from tsugiki.checkpoint_files import (
    STATE,
    digest_problems,
    list_temporary,
    list_trash,
    newest_name,
    read_manifest,
)
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import TsugikiError
from tsugiki.files import read_json
from tsugiki.metrics_file import logged_at, read_logged
from tsugiki.recipe import Recipe
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_resume import compare_for_resume
from tsugiki.rewinds import read_rewinds
from tsugiki.state_file import known_state
from tsugiki.training.loop import measures_due
from tsugiki.training.resume import base_changes
from tsugiki.training.retention import due


def is_finished(
    recipe: Recipe, sources: Mapping[str, PreparedSource], tokenizer: TextTokenizer, model_folder: Path | None
) -> bool:
    """Whether the run has made its last step and all that is measured there, and its last checkpoint is whole."""
    steps, state = total_steps(recipe), known_state(recipe.run_dir)
    if state is None or state["status"] != "finished" or state["step"] != steps:
        return False
    try:
        owed = measures_due(recipe.training, steps, at_end=True)
        if owed - logged_at(read_logged(recipe.run_dir / "metrics.jsonl"), steps):
            return False
        return _ends_here(recipe, sources, tokenizer, steps) and base_changes(recipe, model_folder) is None
    except TsugikiError:
        return False  # the way of every start says what is wrong


def _ends_here(recipe: Recipe, sources: Mapping[str, PreparedSource], tokenizer: TextTokenizer, steps: int) -> bool:
    """Whether the newest checkpoint is that of the last step of this recipe on these data. Its digests, which take
    longest, are verified last."""
    directory = recipe.run_dir / "checkpoints"
    name = newest_name(directory)
    if name is None:
        return False
    manifest, then = read_manifest(directory / name), read_json(directory / name / STATE)
    if _left_over(recipe, directory, [name, *manifest["ancestors"]], manifest["lineage"]):
        return False
    rewinds = [each for each in read_rewinds(directory) if each["lineage"] == manifest["lineage"]]
    skipped = [each["skip"] for each in rewinds or manifest.get("rewinds", [])]
    mixture = Mixture.from_recipe(recipe, {name: source.train for name, source in sources.items()}, skipped)
    differences = compare_for_resume(then["recipe"], recipe, steps, skipped)
    return (
        manifest["step"] == steps
        and not any(difference.kind == "fixed" for difference in differences)
        and then["tokenizer"] == tokenizer.fingerprint
        and then["sources"] == {name: source.manifest.fingerprint for name, source in sources.items()}
        and then["mixture"] == mixture.describe()
        and not digest_problems(directory / name, manifest)
    )


def _left_over(recipe: Recipe, directory: Path, line: list[str], lineage: str | None) -> bool:
    """Whether a kill, or a disk that refused, has left what a start deletes."""
    keep = recipe.training.save_total_limit, recipe.training.keep_every
    owed = due(directory, lineage, line, *keep) if lineage else []
    return bool(owed or list_trash(directory) or list_temporary(directory))
