"""Whether an extended model is what the recipe asks for: what counts as a change, what does not, and what is said."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from extension_project import extension_recipe, make_base

from tsugiki.checkpoint_files import render_manifest
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, RecipeError
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.vocabulary import made_from as module
from tsugiki.vocabulary.made_from import changes, extended_folder, is_made, is_up_to_date, made_from


@pytest.fixture(scope="module")
def base(tmp_path_factory, tiny_model_folder) -> Path:
    return make_base(tmp_path_factory.mktemp("made-from") / "base", "qwen3", tiny_model_folder)


class Folder:
    """A recipe, and what says that its extended model was made, without a model."""

    def __init__(self, folder: Path, base: Path):
        self.folder, self.base = folder, base
        self.values = extension_recipe(folder, base)

    def recipe(self, **changes: Any) -> Recipe:
        """`vocabulary__add=5`: a key of a section; None removes a key."""
        values = json.loads(json.dumps(self.values))
        for name, value in changes.items():
            *sections, key = name.split("__")
            place = values
            for section in sections:
                place = place.setdefault(section, {})
            place[key] = value
            if value is None:
                del place[key]
        return parse_recipe(yaml.safe_dump(values))

    def mark(self, recipe: Recipe, base: Path | None = None) -> None:
        base = base or self.base
        (recipe.vocabulary_dir / "model").mkdir(parents=True, exist_ok=True)
        (recipe.vocabulary_dir / "model/config.json").write_text("{}")
        content = json.dumps({"made_from": made_from(recipe, TextTokenizer.from_folder(base), base)})
        (recipe.vocabulary_dir / "manifest.json").write_text(content)

    def up_to_date(self, recipe: Recipe, base: Path | None = None) -> bool:
        base = base or self.base
        return is_up_to_date(recipe, TextTokenizer.from_folder(base), base)

    def begin(self, recipe: Recipe) -> None:
        """A checkpoint."""
        place = recipe.run_dir / "checkpoints/step_00000002"
        place.mkdir(parents=True)
        manifest = {"format": 1, "step": 2, "lineage": "x", "ancestors": [], "files": {}, "tensors": {}}
        (place / "manifest.json").write_text(render_manifest(manifest))


@pytest.fixture
def folder(tmp_path, base) -> Folder:
    return Folder(tmp_path, base)


CHANGES = [
    ({"vocabulary__add": 201}, "vocabulary.add was 200, is 201"),
    ({"vocabulary__add": None, "vocabulary__target_size": 640}, "vocabulary.add changed, vocabulary.target_size changed"),
    ({"vocabulary__language": None, "vocabulary__scripts": ["han"], "vocabulary__sources": ["ja"]},
     "vocabulary.language changed, vocabulary.scripts changed"),
    ({"vocabulary__initialise": "normal"}, "vocabulary.initialise was mean, is normal"),
    ({"seed": 5}, "seed was 42, is 5"),
    ({"data__sources__ja__held_out": 0.4}, "corpora.data.sources.ja.held_out was 0.3, is 0.4"),
    ({"data__sources__ja__text_key": "body"}, "corpora.data.sources.ja.text_key was text, is body"),
    ({"vocabulary__sources": ["ja", "en"]}, "corpora.data.sources.en changed"),
]  # fmt: skip


@pytest.mark.parametrize(("changed", "said"), CHANGES, ids=[said for _, said in CHANGES])
def test_a_change_makes_it_anew_or_is_refused_where_a_run_has_begun(folder, changed, said):
    first, other = folder.recipe(), folder.recipe(**changed)
    assert not folder.up_to_date(first)
    folder.mark(first)
    assert folder.up_to_date(first)
    assert not folder.up_to_date(other)
    folder.begin(first)
    assert folder.up_to_date(first)
    with pytest.raises(RecipeError) as refused:
        folder.up_to_date(other)
    hint = " (vocabulary.sources says which sources are learned from)" if "corpora" in said else ""
    assert str(refused.value) == (
        f"{first.vocabulary_dir}: the vocabulary would come out otherwise now ({said}), but {first.run_dir} has "
        f"checkpoints with the old one. Undo the change{hint}, or give another run_dir"
    )


def test_what_changes_no_piece_changes_nothing(folder, tmp_path):
    first = folder.recipe()
    folder.mark(first)
    folder.begin(first)
    (tmp_path / "new.jsonl").write_text('{"text": "x"}\n')
    moved = tmp_path / "moved/deeper"
    moved.mkdir(parents=True)
    shutil.copy(tmp_path / "ja.jsonl", moved)
    for changed in (
        {"training__learning_rate": 1e-4, "training__max_steps": 9, "parallel__shard": "none"},
        {"data__sources__new": {"path": str(tmp_path / "new.jsonl"), "weight": 0}},  # one that joins later
        {"data__sources__en__held_out": 0.1},
        {"data__sources__ja__path": str(moved / "ja.jsonl")},
        {"data__sources__ja__weight": 5},
        {"vocabulary__sources": ["ja"]},  # what it is without saying it
    ):
        assert folder.up_to_date(folder.recipe(**changed)), changed
        assert is_made(folder.recipe(**changed))
    copied = Path(shutil.copytree(folder.base, tmp_path / "copied"))
    assert folder.up_to_date(folder.recipe(model__name_or_path=str(copied)), copied)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors", "ja.jsonl"])
def test_a_file_with_another_content_is_a_change(folder, tmp_path, name):
    base = Path(shutil.copytree(folder.base, tmp_path / "base"))
    recipe = folder.recipe(model__name_or_path=str(base))
    folder.mark(recipe)
    assert folder.up_to_date(recipe, base)
    path = base / name if name != "ja.jsonl" else tmp_path / name
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] + b"\n" * (name != "model.safetensors"))  # fmt: skip
    if name == "tokenizer.json":  # must remain one
        state = json.loads(content)
        state["model"]["merges"].pop()
        path.write_text(json.dumps(state))
    assert not folder.up_to_date(recipe, base)


@pytest.mark.parametrize("at", [0, 5_000, 9_999])
def test_other_weights_are_told_by_beginning_middle_and_end(folder, tmp_path, monkeypatch, at):
    monkeypatch.setattr(module, "SKETCH", 1_000)
    base = Path(shutil.copytree(folder.base, tmp_path / "base"))
    recipe = folder.recipe(model__name_or_path=str(base))  # which asks for weights that can be read
    (base / "model.safetensors").write_bytes(bytes(10_000))
    folder.mark(recipe, base)
    assert folder.up_to_date(recipe, base)
    content = bytearray(10_000)
    content[at] = 1
    (base / "model.safetensors").write_bytes(content)
    assert not folder.up_to_date(recipe, base)


def test_a_folder_that_other_runs_may_use_is_not_replaced(folder, tmp_path):
    mine = folder.recipe(vocabulary__output_dir=str(tmp_path / "shared"))
    folder.mark(mine)
    other = folder.recipe(vocabulary__output_dir=str(tmp_path / "shared"), vocabulary__add=300, run_dir="elsewhere")
    with pytest.raises(RecipeError, match=r"add was 200, is 300\), but other runs may use the one that is there"):
        folder.up_to_date(other)
    assert folder.up_to_date(mine.model_copy(update={"run_dir": tmp_path / "second"}))


def test_a_model_that_is_not_whole_is_none(folder):
    recipe = folder.recipe()
    folder.mark(recipe)
    (recipe.vocabulary_dir / "model/config.json").unlink()
    assert not folder.up_to_date(recipe)
    folder.mark(recipe)
    for content in ('{"made_from": null}', "{}"):
        (recipe.vocabulary_dir / "manifest.json").write_text(content)
        assert not folder.up_to_date(recipe)
        with pytest.raises(RecipeError, match="holds no extended model yet: run tsugiki vocabulary RECIPE first"):
            extended_folder(recipe)
    for content in ("[]", '{"made_from": {}}', '{"made_from": {"base": []}}'):
        (recipe.vocabulary_dir / "manifest.json").write_text(content)
        with pytest.raises(DataError, match=r"vocabulary/manifest\.json: "):
            extended_folder(recipe)


def test_stages_after_it_refuse_one_that_was_made_otherwise(folder, tmp_path, base):
    recipe = folder.recipe()
    folder.mark(recipe)
    assert extended_folder(recipe) == recipe.vocabulary_dir / "model"
    other = folder.recipe(vocabulary__add=300)
    assert not is_made(other)
    with pytest.raises(RecipeError, match=r"otherwise \(vocabulary.add was 200, is 300\): run tsugiki vocabulary"):
        extended_folder(other)
    held_out = folder.recipe(data__sources__ja__held_out=0.4)  # else pieces are learned from what is held out now
    with pytest.raises(
        RecipeError, match=r"otherwise \(corpora.data.sources.ja.held_out was 0.3, is 0.4\): run tsugiki"
    ):
        extended_folder(held_out)
    another = Path(shutil.copytree(base, tmp_path / "another"))
    config = json.loads((another / "config.json").read_text())
    (another / "config.json").write_text(json.dumps(config | {"rope_theta": 5.0}))
    with pytest.raises(RecipeError, match=r"model\.name_or_path is another model now"):
        extended_folder(folder.recipe(model__name_or_path=str(another)))


def test_without_the_bases_folder_its_tokenizer_stands_for_it(folder):
    recipe = folder.recipe()
    folder.mark(recipe)
    tokenizer = TextTokenizer.from_folder(folder.base)
    assert is_up_to_date(recipe, tokenizer, None)
    assert not is_up_to_date(folder.recipe(vocabulary__add=300), tokenizer, None)


def test_changes_are_said_in_words():
    before = {"a": 1, "b": {"c": [1], "d": None}, "gone": 1, "base": {"model.safetensors": [1, "x"]}, "long": "x" * 90}
    now = {"a": 2, "b": {"c": [1], "d": 3}, "base": {"model.safetensors": [1, "y"]}, "long": "y"}
    assert changes(before, now) == [
        "a was 1, is 2", "b.d changed", "base.model.safetensors changed", "gone changed", "long changed",
    ]  # fmt: skip
    assert changes(before, before) == []
