"""The arrows between the rooms of the house, read from the source."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/tsugiki"
STAGES = {"vocabulary", "training", "evaluation", "experiments", "report"}


def room_of(module: str) -> str:
    return module.split(".")[1] if module.count(".") else module


def imported(path: Path, *, only_top: bool = False) -> set[str]:
    """Names of modules that a file imports, anywhere in it or only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def rooms(name: str) -> set[str]:
    files = [SOURCE / f"{name}.py"] if (SOURCE / f"{name}.py").exists() else sorted((SOURCE / name).rglob("*.py"))
    return {room_of(module) for path in files for module in imported(path) if module.startswith("tsugiki.")}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_import_neither_each_other_nor_the_pipeline(stage):
    if not (SOURCE / stage).exists():
        pytest.skip("no such stage yet")
    assert rooms(stage).isdisjoint((STAGES - {stage}) | {"pipeline", "cli", "quickstart"})


@pytest.mark.parametrize("part", ["recipe", "recipe_file", "recipe_checks", "corpus", "model", "files", "errors"])
def test_parts_know_no_stage(part):
    assert rooms(part).isdisjoint(STAGES | {"pipeline", "cli", "quickstart"})


def test_only_the_command_line_and_the_quickstart_call_the_pipeline():
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if room not in ("cli", "quickstart", "pipeline", "preview"):
            assert "tsugiki.pipeline" not in imported(path), path


def test_corpora_know_no_model():
    assert rooms("corpus").isdisjoint({"model", "training"})
    for path in (SOURCE / "corpus").glob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"torch", "transformers"}, path


@pytest.mark.parametrize("module", ["cli", "pipeline", "preview", "inspection", "recipe_file"])
def test_what_starts_fast_loads_no_model_library_at_import(module):
    names = {name.split(".")[0] for name in imported(SOURCE / f"{module}.py", only_top=True)}
    assert not names & {"torch", "transformers"}
