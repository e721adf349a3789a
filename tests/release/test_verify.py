"""Reading a folder again: it agrees with transformers for every kind of model, and what is wrong is named."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from run_directories import MakeRun
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError
from tsugiki.model.export import Weights, read_weights, write_model
from tsugiki.release import plain, verify
from tsugiki.release.held_out import HeldOutTexts, SourceTexts
from tsugiki.release.verify import describe, verify_folder

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
TEXTS = ["The valley remembers the river that made it.", "川は自分が作った谷を覚えている。" * 4, "9 が 3 つ"]
Written = Callable[..., tuple[Path, Weights, HeldOutTexts]]


@pytest.fixture
def written(
    tmp_path: Path, make_run: MakeRun, tiny_model_folder: Callable[..., Path], tiny_tokenizer_folder: Path
) -> Written:
    """written("llama"): a folder as a release writes it, what was written, and texts to read."""

    def write(name: str, *, texts: list[str] = TEXTS, dtype: str = "bfloat16"):
        _, checkpoint = make_run(tmp_path / "run", tiny_model_folder(name, vocab_size=384), tiny_tokenizer_folder)
        weights = read_weights([checkpoint], dtype)
        folder = tmp_path / "out"
        folder.mkdir()
        write_model(weights, folder)
        tokenizer = TextTokenizer.from_folder(folder)
        ids = [tokenizer.encode(text) for text in texts]
        source = SourceTexts(texts, ids, [len(text.encode()) for text in texts], tokenizer.bos_id, whole=True)
        return folder, weights, HeldOutTexts({"ja": source}, context=16)

    return write


@pytest.mark.parametrize(
    "name", ["llama", "qwen3", "gemma2", "gemma3", "gpt_neox", "granite", "phi", "mixtral", "qwen3_moe", "deepseek_v3"]
)
def test_every_kind_of_model_is_read_as_transformers_reads_it(name, written, plain_here):
    folder, weights, held_out = written(name)
    count = len(weights.tensors)
    seen = verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)
    assert seen["tensors"] == count > 10
    assert weights.tensors == {}  # its memory is free for the other process
    assert seen["logits"]["largest_difference"] < 1e-4 * seen["logits"]["largest"]

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    with torch.no_grad():  # the first text fits into no window: but its first 16 targets do
        ids = tokenizer(TEXTS[2], return_tensors="pt").input_ids
        loss = model(ids, labels=ids).loss * (ids.shape[1] - 1)
    alone = HeldOutTexts({"ja": held_out.sources["ja"]}, context=64)
    ours, _ = verify._our_answers(folder, {}, "float32", alone)
    assert ours.nats[2] == pytest.approx(float(loss), rel=1e-5)
    (found,) = seen["held_out"].values()
    assert found["transformers"] == pytest.approx(found["bits_per_byte"], rel=1e-5)


def test_a_model_whose_head_is_tied_in_name_only_is_read_with_both(written, plain_here):
    folder, weights, held_out = written("mistral-tied")
    assert "lm_head.weight" not in weights.tensors
    verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)


def test_other_logits_of_transformers_are_found(written, plain_here, monkeypatch):
    folder, weights, held_out = written("llama")
    answers = verify._plain_answers

    def shifted(*arguments: object) -> verify._Answers:
        found = answers(*arguments)
        return verify._Answers(found.nats, np.roll(found.logits, 1, axis=1), found.ids)

    monkeypatch.setattr(verify, "_plain_answers", shifted)
    with pytest.raises(ModelError, match="gives other logits than our path, by"):
        verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)


def test_other_losses_of_transformers_are_found(written, plain_here, monkeypatch):
    folder, weights, held_out = written("llama")
    nats = plain.nats_of
    monkeypatch.setattr(plain, "nats_of", lambda *arguments: nats(*arguments) * 1.001)
    with pytest.raises(ModelError, match=r"reads held-out text of ja at .* our path at"):
        verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)


@pytest.mark.parametrize(
    ("factor", "validated", "refused"), [(1.01, True, False), (1.05, True, True), (1.05, False, False)]
)
def test_the_runs_validation_must_agree_where_it_is_of_these_weights(written, plain_here, factor, validated, refused):
    folder, weights, held_out = written("llama")
    ours, _ = verify._our_answers(folder, dict(weights.tensors), "float32", held_out)
    source = held_out.sources["ja"]
    told = SourceTexts(
        source.texts, source.ids, source.sizes, source.first, whole=True, validated=float(ours.nats.sum()) * factor
    )
    asked = HeldOutTexts({"ja": told}, context=16)
    if refused:
        with pytest.raises(ModelError, match="validation of the same weights found"):
            verify_folder(folder, weights.tensors, "bfloat16", asked, validated=validated)
    else:
        (found,) = verify_folder(folder, weights.tensors, "bfloat16", asked, validated=validated)["held_out"].values()
        assert found["last_validation"] == pytest.approx(found["bits_per_byte"] * factor)


def test_texts_that_transformers_divides_otherwise_are_counted_and_left_out(written, plain_here):
    folder, weights, held_out = written("llama", texts=[*TEXTS, "an </s> written out"])
    seen = verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)
    assert seen["held_out"]["ja"]["divided_otherwise"] == 1
    assert any("divides 1 of 4 documents otherwise" in line for line in describe(seen, ["step_00000007"]))


def test_numbers_too_large_for_the_format_are_told(written, plain_here):
    folder, weights, held_out = written("llama", dtype="float16")
    with torch.no_grad():
        weights.tensors["model.norm.weight"][:] = 1e6  # infinity in fp16
    shutil.rmtree(folder)
    folder.mkdir()
    write_model(weights, folder)
    with pytest.raises(ModelError, match=r"not finite.*--dtype"):
        verify_folder(folder, weights.tensors, "float16", held_out, validated=True)


def test_a_folder_that_transformers_cannot_open_is_told_in_a_line(written, monkeypatch):
    folder, weights, held_out = written("llama")
    said = b"Traceback (most recent call last):\n  File x\nOSError: no tokenizer\x1b[2J here\n"
    monkeypatch.setattr(
        verify, "subprocess", SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=1, stderr=said))
    )
    with pytest.raises(ModelError, match=r"plain transformers cannot use .*: OSError: no tokenizer") as caught:
        verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)
    assert "\x1b" not in str(caught.value)


def test_memory_that_runs_out_is_told(written, monkeypatch):
    folder, weights, held_out = written("llama")

    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(verify, "read_pretrained", exhausted)
    with pytest.raises(ModelError, match="memory does not suffice to read the release again"):
        verify_folder(folder, weights.tensors, "bfloat16", held_out, validated=True)


def test_the_other_process_knows_nothing_of_us():
    assert "tsugiki" not in {line.split()[1].split(".")[0] for line in Path(plain.__file__).read_text("utf-8").splitlines()
                             if line.startswith(("import ", "from "))}  # fmt: skip
