"""One contestant of `instruction.py` in a process of its own: `python instruction_contestants.py SPEC.json`, a JSON
line out.

ours     the trunk's path: a store of conversations, its packs in windows' places, loss weights
trl      TRL's SFTTrainer, best-fit packing on; it keeps conversations apart by positions
padded   the same without packing, every conversation padded to the full length, as llm-recipes trains

All get the same architecture, conversations (ids and masks), positions a step, precision and number of threads. What is
counted are the tokens that a step learns from.
"""

import contextlib
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contestants import (
    BETAS,
    LEARNING_RATE,
    MAX_GRAD_NORM,
    WEIGHT_DECAY,
    Clock,
    Enough,
    Spec,
    _NoTokenizer,
    _plain_model,
    _recipe,
)

Conversations = list[tuple[np.ndarray, np.ndarray]]
"""Ids and whether each is learnt."""


def conversations(spec: Spec) -> Conversations:
    """Lengths as of short chats: log-normal around 120 tokens, half of them within a factor of 1.8; one to four turns,
    of which a third to two thirds are answers. Ids fall in frequency with their rank, as words do."""
    random, made = np.random.default_rng(0), []
    vocabulary, longest = spec["architecture"]["vocab_size"], spec["sequence_length"]
    for _ in range(spec["conversations"]):
        length = int(np.clip(random.lognormal(np.log(120), 0.87), 16, longest))
        ids = np.minimum(vocabulary ** random.random(length), vocabulary - 1).astype(np.int64)
        learnt = np.zeros(length, bool)
        turns = int(random.integers(1, 5)) if length >= 64 else 1
        for start, end in itertools.pairwise(np.linspace(0, length, turns + 1).astype(int).tolist()):
            learnt[start + int((end - start) * random.uniform(1 / 3, 2 / 3)) : end] = True
        learnt[0] = False
        made.append((ids, learnt))
    return made


def ours(spec: Spec, device: torch.device) -> dict[str, Any]:
    """The training loop of the package, with nothing left out but the command line around it."""
    from tsugiki.corpus.conversation_records import TokenisedConversation, as_records
    from tsugiki.corpus.conversation_store import ConversationStore, ConversationWriter
    from tsugiki.corpus.pack_table import make_packs
    from tsugiki.corpus.prepared import Counts, PreparedSource, SourceManifest
    from tsugiki.recipe import Recipe
    from tsugiki.training.distributed import start_processes, stop_processes
    from tsugiki.training.loop import train
    from tsugiki.training.run import open_run
    from tsugiki.training.signals import StopRequest

    prefix, length = Path(spec["folder"]) / "chat", spec["sequence_length"]
    rows = [
        TokenisedConversation(ids, learnt.astype(np.float32), draw=0, file=0, line=line)
        for line, (ids, learnt) in enumerate(conversations(spec), start=1)
    ]
    records, payload = as_records(rows, "chat", ["chat.jsonl"])
    writer = ConversationWriter(prefix, spec["architecture"]["vocab_size"])
    writer.add(records, np.cumsum(records["length"].astype(np.int64)) - records["length"], payload)
    writer.close()
    store = ConversationStore(prefix)
    packs = make_packs(store, length)

    clock, recipe = Clock(spec, device), Recipe.model_validate(_recipe(spec))
    manifest = SourceManifest(
        "tokens", "", "", spec["architecture"]["vocab_size"], False, False, None, None, [], Counts(), Counts()
    )
    sources = {"tokens": PreparedSource("tokens", None, store, store, manifest)}
    processes = start_processes()
    listener = _Listener(clock)
    try:
        with StopRequest() as stop, contextlib.suppress(Enough):
            train(open_run(recipe, sources, _NoTokenizer(), None, processes, stop, lambda text: None), [listener])
    finally:
        stop_processes()
    padding = 1 - float(store.lengths.sum()) / (len(packs) * length)
    return clock.result() | {"trained": listener.trained[spec["warmup"] :], "padding": padding}


def trl(spec: Spec, device: torch.device) -> dict[str, Any]:
    """SFTTrainer; on a CPU it needs no workers, and nothing is logged or saved."""
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    packing, length = spec["contestant"] != "padded", spec["sequence_length"]
    clock = Clock(spec, device)

    class Tick(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            control.should_training_stop = clock.tick()

    arguments = SFTConfig(
        output_dir=str(Path(spec["folder"]) / "trl"), use_cpu=device.type == "cpu",
        max_steps=spec["warmup"] + spec["steps"], per_device_train_batch_size=spec["micro_batch"],
        gradient_accumulation_steps=spec["batch"] // spec["micro_batch"],
        packing=packing, packing_strategy="bfd", max_length=length,
        pad_to_multiple_of=None if packing else length,
        learning_rate=LEARNING_RATE, lr_scheduler_type="cosine", weight_decay=WEIGHT_DECAY,
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], max_grad_norm=MAX_GRAD_NORM, optim="adamw_torch_fused",
        bf16=spec["precision"] != "fp32", dataloader_num_workers=0,
        dataloader_pin_memory=device.type == "cuda", shuffle_dataset=True,
        report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True, log_level="error",
    )  # fmt: skip
    made = conversations(spec)
    labels = [np.where(learnt, ids, -100) for ids, learnt in made]
    data = Dataset.from_dict({"input_ids": [ids for ids, _ in made], "labels": labels})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>")),
        pad_token="<pad>", eos_token="<eos>",
    )  # fmt: skip
    model = _plain_model(spec, device)
    runner = SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[Tick()])
    runner.remove_callback(PrinterCallback)
    collate = runner.data_collator

    def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = collate(examples)
        seen.append(int((batch["labels"] != -100).sum()))
        return batch

    seen: list[int] = []
    runner.data_collator = counted
    runner.train()
    cuts = spec["batch"] // spec["micro_batch"]
    steps = [seen[i : i + cuts] for i in range(0, len(seen), cuts)][: spec["warmup"] + spec["steps"]]
    measured = steps[spec["warmup"] :]
    real = sum(len(ids) for ids, _ in made)
    rows = len(runner.train_dataset)
    return clock.result() | {
        "trained": [sum(step) for step in measured],
        "padding": 0.0 if packing else 1 - real / (rows * length),
    }


class _Listener:
    """Trained tokens of each step; stops the loop when the clock has seen enough."""

    def __init__(self, clock: Clock):
        self.clock, self.trained = clock, []

    def after_step(self, figures: dict[str, Any]) -> None:
        self.trained.append(figures["tokens"] - sum(self.trained))
        if self.clock.tick():
            raise Enough

    def after_validation(self, step: int, scores: dict[str, Any]) -> None:
        return

    def close(self) -> None:
        return


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    result = {"ours": ours, "trl": trl, "padded": trl}[spec["contestant"]](spec, device)
    result["trained_per_second"] = sum(result["trained"]) / sum(result["seconds"])
    result["trained_per_cpu_second"] = sum(result["trained"]) / sum(result["cpu_seconds"])
    result["step_seconds"] = statistics.median(result["seconds"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
