"""A model's folder is what lies in it: a private file is not published by a link that came with the model."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

from tsugiki.corpus.tokenizer import TOKENIZER_FILES, TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.model.export import _copy_companions
from tsugiki.model.safe_config import read_config
from tsugiki.model.weight_files import CONFIGURATION_FILES
from tsugiki.model_folder import COMPANIONS
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import Inputs, record_inputs
from tsugiki.vocabulary.resize import resize_model

COMMIT = "c" * 40


@pytest.fixture
def folder(tmp_path: Path, tiny_language_model_folder: Path) -> Path:
    """A model's folder with a chat template, and a private file elsewhere."""
    shutil.copytree(tiny_language_model_folder, tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "private").write_text("{}")
    return tmp_path / "model"


def record(folder: Path, run_dir: Path) -> None:
    """What a run does with a model's folder before it trains: read it, and copy what exports need."""
    documents = folder.parent / "a.jsonl"
    documents.touch()
    recipe = parse_recipe(json.dumps({
        "run_dir": str(run_dir), "model": {"name_or_path": str(folder)},
        "data": {"sequence_length": 64, "sources": {"ja": {"path": str(documents), "weight": 1}}},
        "training": {"max_steps": 3, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 3},
    }))  # fmt: skip
    read_config(folder)
    record_inputs(recipe, Inputs(TextTokenizer.from_folder(folder), folder, {}))


@pytest.mark.parametrize("name", [*TOKENIZER_FILES, *CONFIGURATION_FILES])
@pytest.mark.parametrize("relative", [True, False], ids=["relative", "absolute"])
def test_a_link_out_of_the_folder_is_refused_by_name_and_copied_nowhere(folder, tmp_path, name, relative):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../private" if relative else tmp_path / "private")
    with pytest.raises(ModelError, match=rf"model/{name} is a link .* {tmp_path}/private: put a copy"):
        record(folder, tmp_path / "run")
    assert not (tmp_path / "run/model" / name).exists()


def test_links_within_the_folder_and_to_the_folder_are_followed(folder, tmp_path):
    (folder / "files").mkdir()
    for path in list(folder.glob("*.json")):
        path.rename(folder / "files" / path.name)
        path.symlink_to(Path("files") / path.name)
    (tmp_path / "alias").symlink_to(folder)
    record(tmp_path / "alias", tmp_path / "run")
    for path in (folder / "files").iterdir():
        copy = tmp_path / "run/model" / path.name
        assert not copy.is_symlink()
        assert copy.read_bytes() == path.read_bytes()


@pytest.fixture
def snapshot(folder: Path, tmp_path: Path) -> Path:
    """The same model in the hub's cache, as the hub's library finds it there."""
    repository = tmp_path / "hub/models--owner--name"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copyfile(path, repository / f"blobs/{number:040x}")
        (repository / "snapshots" / COMMIT / path.name).symlink_to(f"../../blobs/{number:040x}")
    found = snapshot_download("owner/name", revision=COMMIT, cache_dir=tmp_path / "hub", local_files_only=True)
    return Path(found)


def test_the_cache_of_the_hub_is_taken_as_it_is(folder, snapshot, tmp_path):
    assert (snapshot / "tokenizer.json").is_symlink()
    # Newer versions keep what several models share once, in a store beside them, where the model's blob is a link to.
    blob, shared = (snapshot / "tokenizer.json").resolve(), tmp_path / "hub/blobs/ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(Path("../../blobs/ab") / shared.name)
    (tmp_path / "alias").symlink_to(tmp_path / "hub")
    for place in (snapshot, tmp_path / "alias" / snapshot.relative_to(tmp_path / "hub")):
        record(place, tmp_path / "run")
        for path in (tmp_path / "run/model").glob("[!s]*"):  # source.json is our own
            assert path.read_bytes() == (folder / path.name).read_bytes()
        assert (tmp_path / "run/model/chat_template.jinja").exists()
        shutil.rmtree(tmp_path / "run")


def test_from_the_cache_no_link_leads_to_another_model_or_past_the_blobs(snapshot, tmp_path):
    other = tmp_path / "hub/models--owner--other/blobs"
    other.mkdir(parents=True)
    (other / "0").write_text("{}")
    link = snapshot / "chat_template.jinja"
    for target in (other / "0", tmp_path / "hub/models--owner--name/blobs/../../../private"):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(ModelError, match=r"chat_template\.jinja is a link"):
            record(snapshot, tmp_path / "run")


@pytest.mark.parametrize("name", [COMPANIONS[0], "LICENSE", "generation_config.json"])
def test_an_extended_model_takes_no_file_from_elsewhere(folder, tmp_path, name):
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "private")
    rows = json.loads((folder / "config.json").read_text())["vocab_size"]
    with pytest.raises(ModelError, match=f"{name} is a link"):
        resize_model(folder, tmp_path / "out", used=rows, size=rows, pieces=[], method="mean", noise=0.0, seed=0)
    assert not (tmp_path / "out" / name).exists()


def test_an_export_takes_no_file_from_elsewhere(folder, tmp_path):
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.jinja").symlink_to(tmp_path / "private")
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match=r"chat_template\.jinja is a link"):
        _copy_companions(folder, tmp_path / "out")
    assert not (tmp_path / "out/chat_template.jinja").exists()
