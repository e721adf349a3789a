"""A released folder as anybody opens it: a program of its own that knows transformers and nothing of Tsugiki.

    python -P plain.py QUESTION ANSWER

QUESTION is JSON: folder, dtype, device, context, first (ids put before a text), texts, conversations (null for a text;
else ids, and which of them are counted), probes (ids, equally long).
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
        for text, first, talk in zip(asked["texts"], asked["first"], asked["conversations"], strict=True):
            ids = talk["ids"] if talk else tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
            divided.append(ids)
            counted = torch.tensor(talk["counted"][1:] if talk else [True] * (len(first) + len(ids) - 1))
            context = len(ids) if talk else asked["context"]
            nats.append(nats_of(model, torch.tensor([[*first, *ids]], device=asked["device"]), context, counted))
        logits = model(input_ids=torch.tensor(asked["probes"], device=asked["device"])).logits
    np.savez(
        answer, nats=np.array(nats), ids=np.array([token for ids in divided for token in ids], dtype=np.int64),
        counts=np.array([len(ids) for ids in divided]), logits=logits.float().cpu().numpy(),
    )  # fmt: skip


def nats_of(model: torch.nn.Module, ids: torch.Tensor, context: int, counted: torch.Tensor) -> float:
    """Nats of ids [1, tokens] that are counted [tokens - 1], which tells of all but the first, in windows of `context`
    inputs that overlap by half."""
    count = ids.shape[1]
    total, done, end = 0.0, 1, min(count, context + 1)
    while done < count:
        start = max(0, end - context - 1)
        window = ids[:, start:end]
        logits = model(input_ids=window[:, :-1]).logits.float()
        losses = torch.nn.functional.cross_entropy(logits[0], window[0, 1:], reduction="none")
        total += float(losses[done - start - 1 :].double().cpu()[counted[done - 1 : end - 1]].sum())
        done, end = end, min(count, end + max(1, context // 2))
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
