"""What names a model, how it is known, and that a checkpoint answers as its export does."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from evaluation_models import Quiet
from safetensors.torch import load_file, save_file
from tiny_project import prepare_tiny

from tsugiki.errors import ModelError, StorageError
from tsugiki.evaluation.models import checkpoint_at, find_model
from tsugiki.model.export import export


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, tiny_tokenizer_folder) -> Path:
    """A finished run of six steps with checkpoints of the third and the sixth. Copied before it is changed."""
    from tsugiki.pipeline import export_final, run_training
    from tsugiki.recipe_file import parse_recipe
    from tsugiki.training.preflight import PROBES

    torch.set_num_threads(1)
    tiny = prepare_tiny(tmp_path_factory.mktemp("models"), tiny_tokenizer_folder)
    skip = json.dumps([probe.name for probe in PROBES])
    run_dir = tmp_path_factory.mktemp("run") / "tiny"
    recipe = parse_recipe(
        tiny.text, overrides=[f"run_dir={run_dir}", "training.keep_every=3", f"training.preflight.skip={skip}"]
    )
    said: list[str] = []
    assert run_training(recipe, said.append)
    export_final(recipe, said.append)
    return run_dir


def test_a_folder_is_known_by_its_weights_configuration_and_tokenizer(language_model, tmp_path):
    folder = shutil.copytree(language_model(), tmp_path / "model")
    model = find_model(str(folder))
    assert (model.label, model.source, model.files, model.checkpoint) == ("model", str(folder), folder, None)
    with model.weights(tmp_path) as weights:
        assert weights == folder
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert find_model(str(moved)).fingerprint == model.fingerprint
    seen = {model.fingerprint}
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] += 2**-10
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    seen.add(find_model(str(folder)).fingerprint)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    seen.add(find_model(str(folder)).fingerprint)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"eos_token": "<s>"}))
    seen.add(find_model(str(folder)).fingerprint)
    assert len(seen) == 4
    (folder / "README.md").write_text("words")
    assert find_model(str(folder)).fingerprint in seen


def test_a_run_directory_is_its_export_or_its_newest_checkpoint(run_dir, tmp_path):
    model = find_model(str(run_dir))
    assert (model.label, model.files, model.checkpoint) == ("tiny", run_dir / "export", None)
    assert find_model(str(run_dir / "export")).label == "tiny"
    assert find_model(str(run_dir / "export")).fingerprint == model.fingerprint
    going_on = shutil.copytree(run_dir, tmp_path / "tiny")
    shutil.rmtree(going_on / "export")
    without = find_model(str(going_on))
    assert (without.label, without.checkpoint) == ("tiny@6", going_on / "checkpoints/step_00000006")
    mark = json.loads((run_dir / "export/tsugiki.json").read_text("utf-8"))
    shutil.copytree(run_dir / "export", going_on / "export")
    (going_on / "export/tsugiki.json").write_text(json.dumps(mark | {"checkpoint": "step_00000003"}))
    assert find_model(str(going_on)).checkpoint == without.checkpoint  # that export is of an older one


def test_a_checkpoint_is_exported_for_as_long_as_it_is_asked(run_dir, tmp_path):
    checkpoint = checkpoint_at(run_dir, 3)
    model = find_model(str(checkpoint))
    assert (model.label, model.checkpoint) == ("tiny@3", checkpoint)
    assert model.fingerprint != find_model(str(checkpoint_at(run_dir, 6))).fingerprint
    export(checkpoint, tmp_path / "released")
    with model.weights(tmp_path / "scratch") as weights:
        assert weights.parent == tmp_path / "scratch"
        assert (weights / "model.safetensors").read_bytes() == (tmp_path / "released/model.safetensors").read_bytes()
    assert not weights.exists()
    with pytest.raises(KeyboardInterrupt), model.weights(tmp_path / "scratch") as weights:
        raise KeyboardInterrupt
    assert not weights.exists()


def test_a_checkpoint_answers_as_its_export_does(run_dir, official_data, tmp_path):
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation.run import Settings, evaluate
    from tsugiki.evaluation_files import read_records

    checkpoint = checkpoint_at(run_dir, 3)
    export(checkpoint, tmp_path / "released")
    models = [find_model(str(checkpoint)), find_model(str(tmp_path / "released"))]
    settings = Settings(tasks=["xwinograd_en"], data_dir=official_data, limit=3, shots=0)
    (one, _), (other, _) = evaluate(models, settings, tmp_path / "out", lambda text: None, Quiet(), {})
    records = [list(read_records(folder, "tsugiki_xwinograd_en")) for folder in (one, other)]
    assert records[0] == records[1]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {one.parent.name, other.parent.name}


def test_what_is_no_model_is_named_with_what_is_missing(run_dir, language_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty is no model folder \(it has no config\.json\)"):
        find_model(str(tmp_path / "empty"))
    (tmp_path / "file.bin").write_text("x")
    with pytest.raises(ModelError, match=r"file\.bin is a file"):
        find_model(str(tmp_path / "file.bin"))
    (tmp_path / "young/checkpoints").mkdir(parents=True)
    with pytest.raises(ModelError, match="no whole checkpoint yet"):
        find_model(str(tmp_path / "young"))
    with pytest.raises(StorageError, match=r"no checkpoint of step 5: .*keep_every"):
        checkpoint_at(run_dir, 5)
    stray = shutil.copytree(checkpoint_at(run_dir, 3), tmp_path / "elsewhere/step_00000003")
    with pytest.raises(ModelError, match="lies outside its run directory"):
        find_model(str(stray))
    folder = shutil.copytree(language_model(), tmp_path / "no-tokenizer")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        find_model(str(folder))
    with pytest.raises((ModelError, StorageError), match="nobody/nothing"):
        find_model("nobody/nothing")


def test_a_folder_without_weights_is_no_model(language_model, tmp_path):
    folder = shutil.copytree(language_model(), tmp_path / "model")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model.*no weights"):
        find_model(str(folder))


@pytest.mark.parametrize("asked", [{"tasks": ["xwinograd_en"], "shots": 0}, {"suite": "quick"}], ids=["tasks", "quick"])
def test_pickled_weights_are_evaluated_where_the_recipe_of_a_base_allows_them(
    asked, language_model, official_data, tmp_path
):
    pytest.importorskip("lm_eval")
    from tsugiki.evaluation.run import Settings, evaluate
    from tsugiki.evaluation_files import read_results

    whole = language_model()
    folder = shutil.copytree(whole, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    settings, said = Settings(**asked, data_dir=official_data, limit=1), [].append
    ((_, refused),) = evaluate([find_model(str(folder))], settings, tmp_path / "refused", said, Quiet(), {})
    assert re.search(r"pickles only.*Save them as safetensors first", str(refused.failures[0]))
    models = [find_model(str(folder), allow_pickle=True), find_model(str(whole))]
    one, other = evaluate(models, settings, tmp_path / "out", said, Quiet(), {})
    values = [
        {name: task.values.tolist() for name, task in read_results(found[0]).tasks.items()} for found in (one, other)
    ]
    assert values[0] == values[1] != {}
