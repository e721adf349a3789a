"""The arrows between the rooms of the house, read from the source; and what starts fast, measured."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/tsugiki"
STAGES = {"vocabulary", "training", "evaluation", "experiments", "report", "release"}
ABOVE = {
    "pipeline", "recipe_inputs", "samples", "sample_answers", "cli", "cli_evaluation", "cli_experiments", "cli_report", "cli_release", "cli_graft", "cli_chat", "cli_plan", "cli_vocabulary", "cli_arguments", "cli_verbs", "quickstart", "preview", "plan",
}  # fmt: skip
PARTS = [
    "recipe", "recipe_values", "recipe_training", "recipe_chat", "recipe_corpus", "recipe_length", "recipe_evaluation", "recipe_filters", "recipe_vocabulary", "recipe_executor", "recipe_file", "recipe_checks", "recipe_source_checks", "recipe_kinds", "recipe_machine",
    "recipe_names", "recipe_resume", "recipe_secrets", "recipe_yaml",
    "corpus", "chat", "model", "files", "errors", "schedule", "terminal", "printable", "shapes", "statistics", "estimates",
    "experiment_results", "sweep_results", "attribution_results", "evaluation_files", "score_combinations",
    "checkpoint_files", "checkpoint_tensors", "folders", "metrics_file", "model_folder", "rewinds", "amounts", "pages",
    "differences", "least_squares", "licence", "moved", "release_file", "state_file", "run_folder", "run_cost",
    "init", "inspection", "lora_size", "origin_file", "plots", "progress", "scripts",
]  # fmt: skip
HEAVY = {"torch", "transformers"}


@cache
def imported(path: Path, *, at_start: bool = False) -> frozenset[str]:
    """Modules that a file imports: anywhere in it, or (`at_start`) only while it is itself being imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in _running_at_import(tree) if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            names.add(node.module)
            # `from tsugiki.training import loop` names a module, too
            names |= {f"{node.module}.{alias.name}" for alias in node.names if file_of(f"{node.module}.{alias.name}")}
    return frozenset(names)


def _running_at_import(tree: ast.AST) -> list[ast.AST]:
    """Nodes outside functions and outside `if TYPE_CHECKING:`."""
    found: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        found += [node, *_running_at_import(node)]
    return found


@cache
def file_of(module: str) -> Path | None:
    """The source file of one of our modules."""
    place = SOURCE.parent.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()), None)


def room_of(module: str) -> str | None:
    """`corpus` for tsugiki.corpus.store; None for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "tsugiki" and len(parts) > 1 else None


def files_of(room: str) -> list[Path]:
    single = SOURCE / f"{room}.py"
    return [single] if single.exists() else sorted((SOURCE / room).rglob("*.py"))


def rooms(room: str) -> set[str]:
    """The rooms that a room imports from."""
    return {found for path in files_of(room) for module in imported(path) if (found := room_of(module))}


def loaded_with(module: str, seen: set[str] | None = None) -> set[str]:
    """All modules that importing one of ours brings in, as far as our own sources tell."""
    seen = set() if seen is None else seen
    path = file_of(module)
    if module not in seen:
        seen.add(module)
        parents = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
        for name in imported(path, at_start=True) | parents if path else ():
            loaded_with(name, seen)
    return seen


def test_every_module_has_its_place_in_the_picture():
    found = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found - {"__init__", "__main__"} == {*STAGES, *ABOVE, *PARTS}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_import_neither_each_other_nor_the_pipeline(stage):
    assert rooms(stage).isdisjoint((STAGES - {stage}) | ABOVE)


@pytest.mark.parametrize("part", PARTS)
def test_parts_know_no_stage(part):
    assert rooms(part).isdisjoint(STAGES | ABOVE)


def test_only_the_command_line_the_quickstart_and_previews_call_the_pipeline():
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room not in ABOVE:
            assert "tsugiki.pipeline" not in imported(path), path


def test_corpora_know_no_model():
    assert rooms("corpus").isdisjoint({"model", "training"})
    for path in files_of("corpus"):
        assert not {name.split(".")[0] for name in imported(path)} & HEAVY, path


@pytest.mark.parametrize("leaf", ["errors", "recipe_secrets", "amounts", "printable"])
def test_leaves_import_nothing_of_ours(leaf):
    assert rooms(leaf) == set()


@pytest.mark.parametrize(
    "module",
    [
        "report.write",
        "report.watch",
        "cli",
        "pipeline",
        "preview",
        "inspection",
        "recipe_file",
        "checkpoint_files",
        "corpus.prepare",
    ],
)
def test_what_starts_fast_brings_in_no_model_library(module):
    assert not {name.split(".")[0] for name in loaded_with(f"tsugiki.{module}")} & HEAVY


def test_the_graph_is_really_read():
    assert {"torch", "tsugiki.model.loss", "tsugiki.training"} <= loaded_with("tsugiki.training.loop")
    assert "tsugiki.training.stage" in imported(SOURCE / "pipeline.py")
    assert "tsugiki.training.stage" not in imported(SOURCE / "pipeline.py", at_start=True)
    assert {"corpus", "model", "recipe"} <= rooms("training")


def test_what_starts_fast_loads_no_model_library():
    """The same, asked of Python itself, which also sees what other packages bring in."""
    code = (
        "import sys, tsugiki.cli, tsugiki.pipeline, tsugiki.preview, tsugiki.inspection\n"
        "sys.argv = ['tsugiki', '--help']\n"
        "try:\n    tsugiki.cli.main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert out.stdout.rstrip().endswith("[]"), out.stdout
