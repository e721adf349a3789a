"""A released folder as anybody opens it: a program of its own that knows transformers and nothing of Tsugiki.

    python -P plain.py QUESTION ANSWER

QUESTION is JSON: folder, dtype, device, context, first (ids put before a text), texts, probes (ids, equally long).
ANSWER becomes an .npz: nats of each text, ids of all texts after one another with their counts, and the logits of the
probes [probes, positions, pieces].
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(question: Path, answer: Path) -> None:
    """Answer the question."""
    asked = json.loads(question.read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(asked["folder"])
    model = AutoModelForCausalLM.from_pretrained(asked["folder"], dtype=getattr(torch, asked["dtype"]))
    model = model.to(asked["device"]).eval()
    divided, nats = [], []
    with torch.no_grad():
        for text, first in zip(asked["texts"], asked["first"], strict=True):
            ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            divided.append(ids)
            nats.append(nats_of(model, torch.tensor([[*first, *ids]], device=asked["device"]), asked["context"]))
        logits = model(input_ids=torch.tensor(asked["probes"], device=asked["device"])).logits
    np.savez(
        answer, nats=np.array(nats), ids=np.array([token for ids in divided for token in ids], dtype=np.int64),
        counts=np.array([len(ids) for ids in divided]), logits=logits.float().cpu().numpy(),
    )  # fmt: skip


def nats_of(model: torch.nn.Module, ids: torch.Tensor, context: int) -> float:
    """Nats of all tokens but the first of ids [1, tokens], in windows of `context` inputs that overlap by half."""
    count = ids.shape[1]
    total, done, end = 0.0, 1, min(count, context + 1)
    while done < count:
        start = max(0, end - context - 1)
        window = ids[:, start:end]
        logits = model(input_ids=window[:, :-1]).logits.float()
        losses = torch.nn.functional.cross_entropy(logits[0], window[0, 1:], reduction="none")
        total += float(losses[done - start - 1 :].double().sum())
        done, end = end, min(count, end + max(1, context // 2))
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
