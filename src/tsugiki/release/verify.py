"""The folder read again before it gets its name: nobody should find out later that a released model is another one.

Three things are compared. Every tensor that transformers reads from the folder is, bit by bit, that of the checkpoint
(or of the mean), rounded once. Plain transformers, in a process of its own that knows nothing of Tsugiki, gives the
logits that our own path gives. And it reads held-out text, which it divides by the folder's tokenizer, and held-out
conversations, at the bits per byte that we find, and that the run's validation of these weights has found.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tsugiki.errors import ModelError
from tsugiki.model.bits_per_byte import bits_per_byte, score_documents
from tsugiki.model.cached.check import is_out_of_memory
from tsugiki.model.conversation_scores import score_conversations
from tsugiki.model.device import DTYPES, default_device
from tsugiki.model.load import read_pretrained
from tsugiki.model.loss import TrainingModel
from tsugiki.printable import one_line
from tsugiki.release import plain
from tsugiki.release.held_out import HeldOutTexts, SourceTexts
from tsugiki.release_file import HeldOut, Logits, Verification

PROBE_TOKENS = 64
"""Positions of a source whose logits are compared."""
CLOSE = {"float32": 1e-3, "bfloat16": 6e-2, "float16": 1e-2}
"""Largest difference of two logits, as a share of the largest logit, that rounding explains; by the dtype of the
computation. The two paths add up in other orders (batches, chunks of the output layer)."""
CLOSE_NATS = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 1e-3}
"""The same of nats over a whole source."""
CLOSE_VALIDATION = 0.02
"""Share by which bits per byte may differ from the run's validation, which computes in the precision of training."""
WRITTEN = "the release as it was written"
"""In messages: it has no name yet."""
WORK = {"cpu": 1.5e12, "cuda": 1e15}
"""Parameters times tokens of held-out text that are worth it, read twice: a few minutes of two CPU cores, or a GPU's
minute."""


def token_budget(parameters: int) -> int:
    """Tokens of held-out text that a model of this size can be asked to read where we are."""
    return int(WORK.get(default_device().type, WORK["cpu"]) // max(parameters, 1))


@dataclass(frozen=True)
class _Answers:
    nats: NDArray[np.float64]
    """Of each text."""
    logits: NDArray[np.float32]
    """[probes, positions, pieces]"""
    ids: list[list[int]]


def verify_folder(
    folder: Path, weights: dict[str, torch.Tensor], dtype: str, held_out: HeldOutTexts, *, validated: bool
) -> Verification:
    """Read a Hugging Face folder again and compare; see the module. weights: what was to be written, by the names of
    the transformers model, in `dtype`; emptied once compared. validated: whether the run's validation is of these
    weights, so that it must agree; that of the last checkpoint only stands beside a mean.

    Raises ModelError, with the figures, where anything differs by more than rounding explains.
    """
    device = default_device()
    computed = dtype if device.type == "cuda" else "float32"
    try:
        ours, count = _our_answers(folder, weights, computed, held_out)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        hint = ": set CUDA_VISIBLE_DEVICES= to have it read on the CPU" if device.type == "cuda" else ""
        raise ModelError(f"memory does not suffice to read the release again{hint}") from None
    if device.type == "cuda":  # what our process keeps of the GPU, the other one cannot have
        gc.collect()
        torch.cuda.empty_cache()
    theirs = _plain_answers(folder, computed, str(device), held_out, len(ours.logits[0, 0]))
    seen = Verification(
        transformers=transformers.__version__, device=str(device), dtype=computed, tensors=count,
        logits=_compare_logits(ours.logits, theirs.logits, computed), held_out={},
    )  # fmt: skip
    at = 0
    for name, source in held_out.sources.items():
        here = slice(at, at := at + len(source.texts))
        seen["held_out"][name] = _compare_source(
            name, source, ours.nats[here], theirs.nats[here], theirs.ids[here], computed, validated
        )
    if held_out.missing:
        seen["no_held_out"] = held_out.missing
    return seen


def _our_answers(
    folder: Path, weights: dict[str, torch.Tensor], dtype: str, held_out: HeldOutTexts
) -> tuple[_Answers, int]:
    """By the path of training and evaluation, and how many tensors the folder has. Raises ModelError where one is not
    what was to be written."""
    hf, _ = read_pretrained(folder, dtype=DTYPES[dtype])
    read = hf.state_dict()
    count = len(weights)
    other = [name for name, value in weights.items() if not torch.equal(read[name], value.to(read[name].dtype))]
    if other:
        raise ModelError(
            f"{WRITTEN}: {len(other)} of {count} tensors are not read as they were written ({', '.join(other[:3])})"
        )
    weights.clear()  # all of it was read: memory for the next process
    hf.to(default_device())
    model = TrainingModel(hf)
    probes = torch.tensor(_probes(held_out, hf.config.get_text_config().vocab_size), device=hf.device)
    with torch.no_grad():
        model.probe_head(probes[:1, :8])
        logits = model.logits(probes).float().cpu().numpy()
    nats = []
    for source in held_out.sources.values():
        nats.append(_our_nats(model, source, held_out.context))
    ids = [each for source in held_out.sources.values() for each in source.ids]
    return _Answers(np.concatenate([*nats, np.zeros(0)]), logits, ids), count


def _our_nats(model: TrainingModel, source: SourceTexts, context: int) -> NDArray[np.float64]:
    """Of each document, as validation finds them."""
    if source.trained is None:
        found = score_documents(model, source.ids, bos_id=source.first, context=context)
        assert found is not None  # nothing asked it to stop
        return found.nats
    conversations = [(np.array(ids), weights) for ids, weights in zip(source.ids, source.trained.weights, strict=True)]
    trained = source.trained
    scores = score_conversations(model, conversations, end_id=trained.end_id, control_ids=trained.control_ids)
    assert scores is not None
    return scores.text_nats


def _plain_answers(folder: Path, dtype: str, device: str, held_out: HeldOutTexts, pieces: int) -> _Answers:
    """By plain transformers in a process of its own."""
    sources = held_out.sources.values()
    question = {
        "folder": str(folder.resolve()), "dtype": dtype, "device": device, "context": held_out.context,
        "texts": [text for source in sources for text in source.texts],
        "conversations": [_given(source, index) for source in sources for index in range(len(source.ids))],
        "first": [[] if source.first is None else [source.first] for source in sources for _ in source.texts],
        "probes": _probes(held_out, pieces),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="tsugiki-release-") as scratch:
        asked, answer = Path(scratch) / "question.json", Path(scratch) / "answer.npz"
        asked.write_text(json.dumps(question, ensure_ascii=True), encoding="utf-8")
        offline = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            [sys.executable, "-P", plain.__file__, str(asked), str(answer)], capture_output=True, env=offline
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise ModelError(f"plain transformers cannot use {WRITTEN}: {one_line(said[-1], 300)}")
        with np.load(answer, allow_pickle=False) as found:
            parts = np.split(found["ids"], np.cumsum(found["counts"]))[:-1]  # behind the last there is an empty one
            return _Answers(found["nats"], found["logits"], [part.tolist() for part in parts])


def _given(source: SourceTexts, index: int) -> dict[str, Any] | None:
    """Of a conversation its ids, and which of them count; text is to be divided there."""
    ids = source.ids[index]
    return None if source.trained is None else {"ids": ids, "counted": source.trained.is_text(index, ids)}


def _probes(held_out: HeldOutTexts, pieces: int) -> list[list[int]]:
    """Equally long beginnings of each source's first document; without text, ids from all over the vocabulary."""
    rows = [
        [*([] if source.first is None else [source.first]), *source.ids[0]][:PROBE_TOKENS]
        for source in held_out.sources.values()
    ]
    length = min(map(len, rows), default=0)
    if length < 2:
        return [[(place * pieces) // PROBE_TOKENS for place in range(PROBE_TOKENS)]]
    return [row[:length] for row in rows]


def _compare_logits(ours: NDArray[np.float32], theirs: NDArray[np.float32], dtype: str) -> Logits:
    if ours.shape != theirs.shape:
        raise ModelError(f"{WRITTEN}: plain transformers gives logits of shape {theirs.shape}, our path {ours.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ModelError(f"{WRITTEN}: logits are not finite. A larger number format may hold the weights (--dtype)")
    difference, largest = float(np.abs(ours - theirs).max()), float(np.abs(ours).max())
    if difference > CLOSE[dtype] * max(largest, 1.0):
        raise ModelError(
            f"{WRITTEN}: plain transformers gives other logits than our path, by {difference:.3g} where the largest is "
            f"{largest:.3g}"
        )
    return Logits(positions=ours.shape[0] * ours.shape[1], largest_difference=difference, largest=largest)


def _compare_source(
    name: str,
    source: SourceTexts,
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    their_ids: list[list[int]],
    dtype: str,
    validated: bool,
) -> HeldOut:
    """ours, theirs: nats of each text of the source."""
    alike = np.array([one == other for one, other in zip(source.ids, their_ids, strict=True)])
    size = max(sum(source.sizes), 1)  # a conversation's beginning may hold no answer
    found = HeldOut(
        documents=len(source.texts), whole=source.whole, bytes=size,
        bits_per_byte=bits_per_byte(float(ours.sum()), size),
        transformers=bits_per_byte(float(theirs.sum()), size),
        last_validation=None if source.validated is None else bits_per_byte(source.validated, size),
        divided_otherwise=int((~alike).sum()),
    )  # fmt: skip
    if source.trained is not None:
        found["conversations"] = True
    what = f"held-out {'text' if source.trained is None else 'answers'} of {name}"
    if not np.isclose(theirs[alike].sum(), ours[alike].sum(), rtol=CLOSE_NATS[dtype], atol=1e-3):
        raise ModelError(
            f"{WRITTEN}: plain transformers reads {what} at {found['transformers']:.4f} bits per byte, our path at "
            f"{found['bits_per_byte']:.4f}"
        )
    last = found["last_validation"]
    if validated and last is not None and abs(found["bits_per_byte"] - last) > CLOSE_VALIDATION * last:
        raise ModelError(
            f"{WRITTEN} reads {what} at {found['bits_per_byte']:.4f} bits per byte; the run's "
            f"validation of the same weights found {last:.4f}. Rounding alone rarely does that: try --dtype float32, "
            "and see whether data or checkpoints were changed since"
        )
    return found


def describe(seen: Verification, of: Sequence[str]) -> list[str]:
    """What was seen, for people. of: the names of the checkpoints."""
    what = of[-1] if len(of) == 1 else f"the mean of {len(of)} checkpoints"
    logits = seen["logits"]
    lines = [
        f"reload     {seen['tensors']:,} tensors, each bitwise that of {what}",
        f"reload     plain transformers {seen['transformers']} in its own process: logits of {logits['positions']:,} "
        f"positions {how_close(logits)} ours (the largest is {logits['largest']:.1f})",
    ]
    for name, one in seen["held_out"].items():
        texts = _texts_in_words(one)
        last = (
            "" if one["last_validation"] is None else f", {of[-1]} by the run's validation {one['last_validation']:.4f}"
        )
        lines.append(
            f"held-out   {name}: {one['bits_per_byte']:.4f} bits per byte, plain transformers {one['transformers']:.4f}"
            f"{last} ({texts})"
        )
        if one["divided_otherwise"]:
            lines.append(
                f"held-out   {name}: AutoTokenizer divides {one['divided_otherwise']} of {texts} otherwise than "
                "training did (control strings written out in text, for one); the two were compared on the others"
            )
    if reason := seen.get("no_held_out"):
        lines.append(f"held-out   none was read: {reason}")
    return lines


def how_close(logits: Logits) -> str:
    """The difference, as in `within 2e-06 of`."""
    difference = logits["largest_difference"]
    return f"within {difference:.1g} of" if difference else "bitwise"


def _texts_in_words(one: HeldOut) -> str:
    count, conversations = one["documents"], one.get("conversations", False)
    kind = "conversation" if conversations else "document"
    text = f"{count:,} {kind}{'s' if count != 1 else ''}" if one["whole"] else f"the beginning of a {kind}"
    return f"the answers of {text}" if conversations else text
