"""One way of tokenising a corpus, run by benchmarks/preparing.py in a process of its own.

    python preparing_contestants.py SPEC.json

SPEC: `contestant`, `corpus` (JSON Lines), `tokenizer` (a folder with tokenizer.json), `output`, `processes`. `bare`
prints the CPU seconds that `tokenizers` takes for the texts in memory; the others write what they make into `output`.
"""

import json
import multiprocessing
import re
import sys
import time
from pathlib import Path
from typing import Any


def texts_of(corpus: str) -> list[str]:
    with Path(corpus).open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def bare(spec: dict[str, Any]) -> None:
    """The call that takes the least time, on texts in memory; nothing is kept of what it gives. In as many processes as
    the others have, since two that share a core's caches are slower than one."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(spec["processes"]) as pool:
        shares = [(spec, number) for number in range(spec["processes"])]
        print(json.dumps({"cpu": sum(pool.map(_bare_share, shares, chunksize=1))}))


def _bare_share(share: tuple[dict[str, Any], int]) -> float:
    from tokenizers import Tokenizer

    spec, number = share
    tokenizer = Tokenizer.from_file(f"{spec['tokenizer']}/tokenizer.json")
    texts = texts_of(spec["corpus"])[number :: spec["processes"]]
    begun = time.process_time()
    for start in range(0, len(texts), 32):
        tokenizer.encode_batch_fast(texts[start : start + 32], add_special_tokens=False)
    return time.process_time() - begun


OURS = {
    "ours-gigatoken-segments": ("gigatoken", True),
    "ours-segments": ("tokenizers", True),
    "ours-gigatoken": ("gigatoken", False),
    "ours-tokenizers": ("tokenizers", False),
}
"""What makes the ids, and whether by segments; "ours": what it takes itself."""


def ours(spec: dict[str, Any]) -> None:
    """`tsugiki prepare` as a library."""
    from tsugiki.corpus import fast_tokenizer
    from tsugiki.corpus.prepare import prepare
    from tsugiki.corpus.tokenizer import TextTokenizer
    from tsugiki.recipe_file import parse_recipe

    wanted = OURS.get(spec["contestant"])
    if wanted:
        fast_tokenizer.WAYS = (wanted,)
    recipe = {
        "run_dir": spec["output"],
        "model": {"tokenizer": spec["tokenizer"], "architecture": {"model_type": "mistral"}},
        "data": {
            "sequence_length": 4096,
            "workers": spec["processes"],
            "fast_tokenizer": wanted != ("tokenizers", False),
            "sources": {"corpus": {"path": spec["corpus"], "weight": 1, "held_out": 0}},
        },
        "training": {
            "max_steps": 1,
            "global_batch_size": 1,
            "micro_batch_size": 1,
            "learning_rate": 1e-5,
            "save_steps": 1,
        },
    }
    manifest = prepare(
        parse_recipe(json.dumps(recipe), "benchmark"), TextTokenizer.from_folder(Path(spec["tokenizer"]))
    )
    taken = re.sub(r" [0-9.]+", "", manifest["corpus"].library.split(" (")[0])
    if wanted and taken != wanted[0] + " by segments" * wanted[1]:
        sys.exit(f"another way was taken: {manifest['corpus'].library}")
    print(json.dumps({"way": taken}))


_state: dict[str, Any] = {}


def _open(folder: str) -> None:
    from transformers import PreTrainedTokenizerFast

    _state["tokenizer"] = PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")


def _encode(line: str) -> tuple[list[int], int]:
    ids = _state["tokenizer"].encode(json.loads(line)["text"], add_special_tokens=False)
    return [*ids, 2], len(line)


def megatron(spec: dict[str, Any]) -> None:
    """The loop of Megatron-LM's tools/preprocess_data.py around its index builder: lines to a pool, 32 at a time."""
    import numpy
    import torch
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    prefix = f"{spec['output']}/corpus_text_document"
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=numpy.uint16)
    with (
        Path(spec["corpus"]).open(encoding="utf-8") as file,
        multiprocessing.Pool(spec["processes"], _open, (spec["tokenizer"],)) as pool,
    ):
        for ids, _ in pool.imap(_encode, file, 32):
            builder.add_document(torch.IntTensor(ids), [len(ids)])
        pool.close()
        pool.join()
    builder.finalize(f"{prefix}.idx")


def datasets(spec: dict[str, Any]) -> None:
    """`datasets.map` with `tokenizers`, as many tutorials have it; the ids are kept as Arrow."""
    from datasets import disable_progress_bars, load_dataset
    from tokenizers import Tokenizer

    disable_progress_bars()
    tokenizer = Tokenizer.from_file(f"{spec['tokenizer']}/tokenizer.json")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encoded = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*one.ids, 2] for one in encoded]}

    found = load_dataset("json", data_files=spec["corpus"], split="train", cache_dir=f"{spec['output']}/cache")
    made = found.map(
        encode, batched=True, batch_size=100, num_proc=spec["processes"], remove_columns=found.column_names
    )
    made.save_to_disk(f"{spec['output']}/ids")


def datatrove(spec: dict[str, Any]) -> None:
    """datatrove's JsonlReader and MegatronDocumentTokenizer, one task a process, the corpus in as many files."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import MegatronDocumentTokenizer

    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(f"{spec['corpus']}.parts"),
            MegatronDocumentTokenizer(
                output_folder=f"{spec['output']}/ids",
                tokenizer_name_or_path=f"{spec['tokenizer']}/tokenizer.json",
                eos_token="</s>",
            ),
        ],
        tasks=spec["processes"],
        workers=spec["processes"],
        logging_dir=f"{spec['output']}/logs",
    ).run()


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    contestant = spec["contestant"]
    if contestant.startswith("ours"):
        ours(spec)
    else:
        {"bare": bare, "megatron": megatron, "datasets": datasets, "datatrove": datatrove}[contestant](spec)


if __name__ == "__main__":
    main()
