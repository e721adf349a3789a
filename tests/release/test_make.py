"""A release of a tiny run: what the folder holds, what is refused, what an interruption leaves."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.evaluation.models import find_model
from tsugiki.model.bits_per_byte import bits_per_byte
from tsugiki.pipeline import run_release
from tsugiki.recipe_file import parse_recipe
from tsugiki.release import make
from tsugiki.training.signals import Interrupted

STEPS = ["step_00000002", "step_00000004", "step_00000006"]
FILES = {
    "README.md", "SHA256SUMS", "config.json", "generation_config.json", "model.safetensors", "release.json", "report",
    "tokenizer.json", "tokenizer_config.json", "tsugiki.json", "LICENSE", "NOTICE.txt",
}  # fmt: skip


def released(run: Path, output: Path, **options: object) -> list[str]:
    lines: list[str] = []
    run_release(run, output, lines.append, **options)
    return lines


def weights_at(run: Path, name: str) -> dict[str, torch.Tensor]:
    (shard,) = (run / "checkpoints" / name).glob("*.safetensors")
    return {key.removeprefix("model."): value for key, value in load_file(shard).items() if key.startswith("model.")}


def card_of(folder: Path) -> tuple[dict, str]:
    _, head, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


def test_a_release_of_a_run_on_conversations_reads_held_out_ones_again(talked_once, tmp_path, plain_here):
    """At the bits per byte of the run's validation and of plain transformers, over the text of answers alone."""
    said = released(talked_once, tmp_path / "out")
    lines = [json.loads(line) for line in (talked_once / "metrics.jsonl").read_text("utf-8").splitlines()]
    validated = [line for line in lines if line["kind"] == "validation"][-1]["sources"]["talk"]
    seen = json.loads((tmp_path / "out/release.json").read_text("utf-8"))["verification"]
    assert "no_held_out" not in seen
    one = seen["held_out"]["talk"]
    assert (one["documents"], one["whole"], one["conversations"], one["divided_otherwise"]) == (3, True, True, 0)
    assert one["bytes"] == validated["bytes"]
    assert one["transformers"] == pytest.approx(one["bits_per_byte"], rel=1e-5)
    assert one["last_validation"] == pytest.approx(validated["bits_per_byte"], rel=1e-4)
    assert one["bits_per_byte"] == pytest.approx(validated["bits_per_byte"], rel=0.02)
    (line,) = (line for line in said if line.startswith("held-out   talk: "))
    assert line.endswith(f"validation {one['last_validation']:.4f} (the answers of 3 conversations)")
    _, text = card_of(tmp_path / "out")
    assert "| talk (answers) | 3 |" in text

    # Independently: transformers' own loss of the text of answers, conversation by conversation.
    store = ConversationStore(talked_once.parent / "data/talk/held_out")
    tokenizer, model = (kind.from_pretrained(tmp_path / "out") for kind in (AutoTokenizer, AutoModelForCausalLM))
    nats = 0.0
    for index in range(3):
        ids, weights = torch.from_numpy(store.document(index).astype("int64")), torch.from_numpy(store.weights(index))
        answered = (weights > 0) & ~torch.isin(ids, torch.tensor(tokenizer.all_special_ids))
        with torch.no_grad():
            chances = model.float()(ids[None, :-1]).logits[0].log_softmax(-1)
        nats -= float(chances.gather(1, ids[1:, None])[answered[1:]].sum())
    assert one["bits_per_byte"] == pytest.approx(bits_per_byte(nats, one["bytes"]), rel=1e-4)


def test_a_validation_of_other_answers_ends_the_release(talked_once, tmp_path, plain_here):
    run = shutil.copytree(talked_once, tmp_path / "run")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        if line["kind"] == "validation":
            talk = line["sources"]["talk"]
            talk["nats_by_document"] = [1.05 * nats for nats in talk["nats_by_document"]]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.raises(ModelError, match=r"reads held-out answers of talk at .* of the same weights found"):
        released(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_release_is_whole_verified_and_opened_by_anybody(trained, tmp_path):
    said = released(trained, tmp_path / "out")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in (out / "report").iterdir()} == {"report.html", "report.json"}
    assert (out / "LICENSE").read_text() == "All may use it.\n"
    if shutil.which("sha256sum"):
        checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True)
        assert checked.returncode == 0
        assert checked.stdout.count(": OK") == len(FILES) - 3 + 2  # all but itself, the card and the folder; its two

    expected = weights_at(trained, STEPS[-1])
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.dtype == torch.bfloat16
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name].to(torch.bfloat16)), name

    made = json.loads((out / "release.json").read_text("utf-8"))
    seen = made["verification"]
    assert (made["newest"], made["base"], made["dtype"]) == (True, True, "bfloat16")
    assert made["checkpoints"][0]["name"] == STEPS[-1]
    assert seen["tensors"] == len(expected)
    assert seen["logits"]["largest_difference"] < 1e-4
    assert seen["held_out"].keys() == {"ja", "en"}
    for source, one in seen["held_out"].items():
        assert (one["documents"], one["whole"], one["divided_otherwise"]) == (3, True, 0)
        assert one["transformers"] == pytest.approx(one["bits_per_byte"], rel=1e-5)
        assert one["last_validation"] == pytest.approx(one["bits_per_byte"], rel=0.01)
        assert any(f"held-out   {source}: {one['bits_per_byte']:.4f} bits per byte" in line for line in said)

    head, text = card_of(out)
    assert (head["license"], head["license_name"], head["license_link"]) == ("other", "our-licence", "LICENSE")
    assert "The base is under our-licence ([LICENSE](LICENSE), [NOTICE.txt](NOTICE.txt))" in text
    assert "The weights of step 6, in bfloat16" in text
    assert str(tmp_path) not in text
    assert {each["dataset"]["type"] for each in head["model-index"][0]["results"]} == {"text_ja", "text_en"}


@torch.no_grad()
def test_our_bits_per_byte_are_those_of_a_plain_loss(trained, tmp_path, plain_here):
    released(trained, tmp_path / "out", dtype="float32")
    found = json.loads((tmp_path / "out/release.json").read_text("utf-8"))["verification"]["held_out"]["en"]
    from tsugiki.corpus.prepared import SourceManifest
    from tsugiki.corpus.store import TokenStore

    manifest, store = (
        SourceManifest.read(trained.parent / "data/en/manifest.json"),
        TokenStore(trained.parent / "data/en/held_out"),
    )
    assert manifest.add_bos
    assert manifest.add_eos
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    nats, size = 0.0, 0
    for index in range(found["documents"]):
        ids = store.document(index)[:-1].astype(int).tolist()
        size += len(tokenizer.decode(ids[1:]).encode())
        scores = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
        nats -= sum(float(scores[place - 1, ids[place]]) for place in range(1, min(len(ids), 33)))  # the first window
        for end in range(48, len(ids) + 15, 16):  # later ones: 32 inputs, of which the last 16 are scored
            end, first = min(end, len(ids) - 1), end - 15
            start = max(0, end - 32)
            scores = torch.log_softmax(model(torch.tensor([ids[start:end]])).logits[0].double(), -1)
            nats -= sum(float(scores[place - 1 - start, ids[place]]) for place in range(first, end + 1))
    assert size == found["bytes"]
    assert found["bits_per_byte"] == pytest.approx(bits_per_byte(nats, size), rel=1e-4)


def test_a_mean_is_released_told_and_evaluated_like_any_other(trained, tmp_path, plain_here):
    out = tmp_path / "mean"
    said = released(trained, out, average="last:3", dtype="float32")
    assert any("the mean of step_00000002, step_00000004, step_00000006" in line for line in said)
    parts = [weights_at(trained, name) for name in STEPS]
    for name, value in load_file(out / "model.safetensors").items():
        exact = np.mean([part[name].double().numpy() for part in parts], axis=0)
        np.testing.assert_allclose(value.numpy(), exact, rtol=1e-6, atol=1e-8, err_msg=name)
    made = json.loads((out / "release.json").read_text("utf-8"))
    assert [one["step"] for one in made["checkpoints"]] == [2, 4, 6]
    assert made["newest"] is False
    found = made["verification"]["held_out"]
    assert all(one["last_validation"] is not None for one in found.values())  # beside it, for the reader

    head, text = card_of(out)
    assert "the mean of the checkpoints of steps 2, 4, 6" in text
    assert "Of the run's last checkpoint, whose weights are not these" in text
    measured = {one["dataset"]["name"]: one["metrics"][0]["value"] for one in head["model-index"][0]["results"]}
    assert measured == {name: round(one["bits_per_byte"], 4) for name, one in found.items()}

    model = find_model(str(out))
    assert (model.label, model.checkpoint) == ("mean", None)
    released(trained, tmp_path / "last", dtype="float32")
    assert model.fingerprint != find_model(str(tmp_path / "last")).fingerprint


def test_again_it_is_up_to_date_and_a_changed_file_is_named(trained, tmp_path, plain_here):
    out = tmp_path / "out"
    released(trained, out)
    (out / "README.md").write_text("completed by its owner")
    assert "is up to date" in released(trained, out)[0]
    assert plain_here() == 1
    with pytest.raises(RecipeError, match="exists already"):
        released(trained, out, dtype="float32")
    with pytest.raises(RecipeError, match="exists already"):
        released(trained, out, average="last:2")
    (out / "tokenizer_config.json").write_text("{}")
    with pytest.raises(StorageError, match=r"tokenizer_config\.json is not as SHA256SUMS says"):
        released(trained, out)


def test_a_run_that_goes_on_is_released_with_a_word(trained, tmp_path, plain_here):
    (trained / "state.json").write_text('{"status": "resumable", "step": 6, "detail": "", "time": ""}')
    said = released(trained / "checkpoints/step_00000004", tmp_path / "out")
    assert any("not finished (resumable)" in line for line in said)
    made = json.loads((tmp_path / "out/release.json").read_text("utf-8"))
    assert (made["newest"], made["checkpoints"][0]["step"]) == (False, 4)
    assert all(one["last_validation"] for one in made["verification"]["held_out"].values())


def test_without_prepared_data_the_reason_is_told(trained, tmp_path, plain_here):
    (tmp_path / "data").unlink()
    recipe = trained / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("prepared_dir: ", "prepared_dir: /nowhere"))
    said = released(trained, tmp_path / "out")
    assert any("none was read" in line and "is not there any more" in line for line in said)
    seen = json.loads((tmp_path / "out/release.json").read_text("utf-8"))["verification"]
    assert seen["held_out"] == {}
    assert seen["logits"]["positions"] == 64


def test_a_base_without_a_licence_is_said_to_have_none(trained, tmp_path, plain_here, tiny_language_model_folder):
    (tmp_path / "base").unlink()
    shutil.copytree(tiny_language_model_folder, tmp_path / "base")
    recipe = trained / "recipe.yaml"
    lines = recipe.read_text().splitlines()
    recipe.write_text("\n".join(
        f"  name_or_path: {tmp_path / 'base'}" if line.startswith("  name_or_path") else line for line in lines
    ))  # fmt: skip
    said = released(trained, tmp_path / "out")
    assert any("licence    of the base: not found" in line for line in said)
    head, text = card_of(tmp_path / "out")
    assert "license" not in head
    assert "The licence of the base was not found" in text


def test_the_licence_of_a_hub_base_is_fetched_at_the_commit_that_was_trained_from(trained, monkeypatch):
    asked = []

    def resolve(name: str, revision: str | None, *, files: str, known_commit: str | None) -> tuple[Path, str | None]:
        asked.append((name, files, known_commit))
        return trained.parent / "base", known_commit

    recipe = parse_recipe((trained / "recipe.yaml").read_text("utf-8"), overrides=["model.name_or_path=owner/base"],
                          check_files=False)  # fmt: skip
    origin = {"name": "owner/base", "revision": None, "commit": "c" * 40}
    (trained / "model/source.json").write_text(json.dumps({"model": origin, "tokenizer": origin}))
    monkeypatch.setattr(make, "resolve_model_folder", resolve)
    found = make.base_licence(trained, recipe, lambda _text: None)
    assert asked == [("owner/base", "licence", "c" * 40)]
    assert found is not None
    assert (found.name, [path.name for path in found.files]) == ("our-licence", ["LICENSE", "NOTICE.txt"])

    def offline(*_: object, **__: object) -> None:
        raise ModelError("not to be had from the hub")

    monkeypatch.setattr(make, "resolve_model_folder", offline)
    lines: list[str] = []
    nothing = make.base_licence(trained, recipe, lines.append)
    assert nothing is not None
    assert not nothing.known
    assert "not to be had" in lines[0]
    assert "not found; the card says so" in lines[1]


def test_refusals_come_before_work_and_leave_nothing(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(make, "read_weights", lambda *_: pytest.fail("worked"))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("keep")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(RecipeError, match="taken exists already"):
        released(trained, taken)
    with pytest.raises(RecipeError, match="int8"):
        released(trained, tmp_path / "out", dtype="int8")
    with pytest.raises(RecipeError, match=r"has 3 whole checkpoints.*take --average last:3"):
        released(trained, tmp_path / "out", average="last:4")
    monkeypatch.setattr(make, "free_bytes", lambda _: 1000)
    with pytest.raises(StorageError, match=r"needs 0\.05 GB and 0\.00 GB are free"):
        released(trained, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_damage_a_wrong_tensor_and_an_interruption_leave_nothing(trained, tmp_path, plain_here, monkeypatch):
    before = sorted(path.name for path in tmp_path.iterdir())
    write = make.write_model

    def write_wrongly(weights: object, folder: Path) -> None:
        write(weights, folder)
        stored = load_file(folder / "model.safetensors")
        stored["model.norm.weight"][3] += 0.5
        save_file(stored, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(make, "write_model", write_wrongly)
    with pytest.raises(ModelError, match=r"1 of 21 tensors are not read as they were written \(model\.norm\.weight\)"):
        released(trained, tmp_path / "out")
    monkeypatch.setattr(make, "write_model", write)

    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted(15)

    monkeypatch.setattr(make, "verify_folder", interrupted)
    with pytest.raises(Interrupted):
        released(trained, tmp_path / "out")

    (shard,) = (trained / "checkpoints" / STEPS[1]).glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StorageError, match=r"step_00000004 cannot be exported: .* is damaged"):
        released(trained, tmp_path / "out", average="last:3")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_run_whose_log_is_damaged_is_not_released(trained, tmp_path):
    path = trained / "metrics.jsonl"
    path.write_text("{}\n" + path.read_text("utf-8"))
    with pytest.raises(StorageError, match=r"metrics\.jsonl, line 1\b.*Take that line out"):
        released(trained, tmp_path / "out")
    path.unlink()
    with pytest.raises(StorageError, match="is not there"):
        released(trained, tmp_path / "out")
    assert not (tmp_path / "out").exists()
