"""What a start costs from a million tokens to a trillion: first batch, first batch after a resume, and every batch.

    python benchmarks/data_start.py            all sizes; a few minutes, 5 GB of memory, 3 GB of disk
    python benchmarks/data_start.py --quick    up to a billion tokens

A mixture of 64 sources in files of 50 million tokens (at a trillion tokens 20,000 of them), windows of 4,096 tokens,
1,024 a step. Ours is what a training process does: read the manifests, lay out the mixture, read the windows of a step.
Against it the methods of Megatron-LM and nanotron, which build arrays as long as the run (`data_start_peers`). Sizes
whose arrays would not fit are computed from the largest that was built, and marked.

The files of tokens are sparse (nothing but zeros, which take no room), their indices are whole; all indices are one
file under many names. So reading costs what it costs from memory: what is measured is all the rest. Each measurement
is a process of its own, caches warm, in seconds of its CPU: nothing waits for a disk here, so on an idle machine they
pass on the clock, too, and on a busy one they stay what they are.
"""

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import data_start_peers
import matplotlib as mpl
import numpy as np
from data_start_peers import DOCUMENT_TOKENS, document_lengths

from tsugiki.corpus.fingerprint import fingerprint
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.prepared import MANIFEST, Counts, SourceManifest, open_prepared
from tsugiki.corpus.store import DOCUMENT, Shard, StoreIndex, shard_files, shard_name
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.corpus.windows import WindowReader
from tsugiki.files import write_atomically, write_json
from tsugiki.recipe import Recipe

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).resolve().parent / "results"
SOURCES, LENGTH, WINDOWS = 64, 4096, 1024
FILE_TOKENS = 50_000_000
MICRO_BATCH = 16
SIZES = [10**exponent for exponent in range(6, 13)]
LARGEST = {"megatron": 10**11, "nanotron": 10**11}
"""Up to here a method's arrays are built."""
NAMES = {"ours": "Tsugiki", "megatron": "Megatron-LM's arrays", "nanotron": "nanotron's arrays"}
TOKENIZER: Any = SimpleNamespace(
    fingerprint="0" * 32, folder=Path("tokenizer"), bos_id=1, eos_id=2, default_add_bos=True, default_add_eos=True
)


def shares() -> np.ndarray:
    """Uneven weights, as mixtures have."""
    return np.geomspace(1, 20, SOURCES)


def source_names() -> list[str]:
    """In the order in which mixtures take them."""
    return [f"source{number:02d}" for number in range(SOURCES)]


def recipe_of(folder: Path) -> Recipe:
    """A recipe over the sources in `folder`."""
    weights = dict(zip(source_names(), shares().tolist(), strict=True))
    sources = {name: {"path": "/corpus/*.jsonl", "weight": weight} for name, weight in weights.items()}
    return Recipe.model_validate(
        {
            "run_dir": str(folder / "run"),
            "model": {"architecture": {"model_type": "mistral"}, "tokenizer": "tokenizer"},
            "data": {"sequence_length": LENGTH, "prepared_dir": str(folder), "held_out": 0.0, "sources": sources},
            "training": {
                "max_steps": 10,
                "global_batch_size": WINDOWS,
                "micro_batch_size": 1,
                "learning_rate": 1e-4,
                "save_steps": 10,
            },
        }
    )


def make_sources(folder: Path, tokens: int) -> None:
    """Prepared sources of so many tokens in all, in files of at most FILE_TOKENS."""
    folder.mkdir()
    a_source = tokens // SOURCES
    count = max(1, -(-a_source // FILE_TOKENS))
    lengths = document_lengths(a_source // count)
    model = folder / "model"
    writer = StoreWriter(model, 40_000)
    writer.add_documents(np.zeros(int(lengths.sum()), np.uint16), lengths, np.zeros(len(lengths), DOCUMENT))
    shard = writer.close().shards[0]
    _, index, rows = shard_files(folder / shard.name)
    recipe = recipe_of(folder)
    for name in source_names():
        directory = folder / name
        directory.mkdir()
        shards = [Shard(shard_name("train", i), shard.tokens, shard.documents, ["0" * 32] * 3) for i in range(count)]
        for one in shards:
            own_tokens, own_index, own_rows = shard_files(directory / one.name)
            with own_tokens.open("wb") as file:
                file.truncate(2 * one.tokens)
            os.link(index, own_index)
            os.link(rows, own_rows)
        files: Any = [
            {"name": f"{name}/{i:05d}.jsonl.zst", "path": f"/corpus/{name}/{i:05d}.jsonl.zst", "size": 10**8 + i,
             "mtime_ns": 10**18 + i, "digest": f"{i:032x}"} for i in range(count)
        ]  # fmt: skip
        counts = Counts(count * shard.documents, count * shard.tokens, 4 * count * shard.tokens, count * shard.tokens)
        manifest = SourceManifest(
            name=name, fingerprint=fingerprint(recipe, name, TOKENIZER, files), tokenizer_fingerprint="0" * 32,
            vocabulary_size=40_000, add_bos=True, add_eos=True, bos_id=1, eos_id=2, files=files, train=counts,
            held_out=Counts(), stores={"train": StoreIndex("<u2", shards), "held_out": StoreIndex("<u2", [])},
        )  # fmt: skip
        write_json(directory / MANIFEST, manifest.as_json())


def own_memory() -> int:
    """Bytes of this process that no file stands behind."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) * 1024


def measure_ours(folder: Path, step: int) -> dict[str, float]:
    """Start at a step, as `pipeline` does."""
    recipe = recipe_of(folder)
    gc.collect()
    before, start = own_memory(), time.process_time()
    sources = open_prepared(recipe, TOKENIZER)
    mixture = Mixture.from_recipe(recipe, {name: source.train for name, source in sources.items()})
    reader = WindowReader(sources, mixture, LENGTH, isolate_documents=False)
    opened = time.process_time() - start
    most = read_step(reader, step)
    first = time.process_time() - start
    steps = 8
    start = time.process_time()
    for number in range(steps):
        most = max(most, read_step(reader, step + 1 + number))
    batch = (time.process_time() - start) / steps
    start = time.process_time()
    for number in range(20):
        mixture.locate(np.arange(1000) + 1000 * number)
    located = (time.process_time() - start) / 20
    apart = WindowReader(sources, mixture, LENGTH, isolate_documents=True)
    read_step(apart, step)
    start = time.process_time()
    read_step(apart, step + 1)
    isolated = time.process_time() - start
    start = time.process_time()
    for source in sources.values():
        source.train.check_sizes()
    sizes = time.process_time() - start
    return {
        "open": opened, "first_batch": first, "batch": batch, "bytes": most - before, "locate": located,
        "isolated": isolated, "check_sizes": sizes,
    }  # fmt: skip


def read_step(reader: WindowReader, step: int) -> int:
    """Read the windows of a step as training does, some at a time; the most memory that was in use."""
    most = 0
    for place in range(0, WINDOWS, MICRO_BATCH):
        reader.read(np.arange(place, place + MICRO_BATCH) + step * WINDOWS)
        most = max(most, own_memory()) if place % 128 == 0 else most
    return most


def measure_peer(method: str, folder: Path, tokens: int) -> dict[str, float]:
    """Build the arrays, read a few steps."""
    files = []
    for number in range(SOURCES):
        files.append(folder / f"{number}.bin")
        with files[-1].open("wb") as file:
            file.truncate(2 * (tokens // SOURCES))
    before = own_memory()
    built = getattr(data_start_peers, method)(files, shares(), tokens, LENGTH)
    held = own_memory() - before
    samples = np.random.default_rng(0).integers(0, tokens // LENGTH, (5, WINDOWS))
    for one in samples.ravel().tolist():  # from here on what is read lies in memory, as for ours
        inputs_and_targets(built.read(one))
    start = time.process_time()
    for one in samples.ravel().tolist():
        inputs_and_targets(built.read(one))
    batch = (time.process_time() - start) / len(samples)
    return {"first_batch": built.seconds + batch, "batch": batch, "bytes": built.bytes, "held": held}


def inputs_and_targets(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As all of them give a window to the model."""
    window = tokens.astype(np.int64)
    return window[:-1].copy(), window[1:].copy()


def in_process(folder: Path, method: str, tokens: int, step: int = 0) -> dict[str, float]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", method, str(folder), str(tokens), str(step)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure_all(sizes: list[int]) -> Iterator[dict[str, Any]]:
    """A row for each size and method."""
    with tempfile.TemporaryDirectory(prefix="data-start-") as place:
        for tokens in sizes:
            folder = Path(place) / f"{tokens}"
            make_sources(folder, tokens)
            in_process(folder, "ours", tokens)  # warm
            ours = in_process(folder, "ours", tokens)
            late = in_process(folder, "ours", tokens, step=max(1, tokens // LENGTH // WINDOWS // 2))
            files = SOURCES * max(1, -(-(tokens // SOURCES) // FILE_TOKENS))
            yield {"method": "ours", "tokens": tokens, "files": files, "resume": late["first_batch"], **ours}
            for method in ("megatron", "nanotron"):
                if tokens <= LARGEST[method]:
                    with tempfile.TemporaryDirectory(prefix="data-start-") as bins:
                        found = in_process(Path(bins), method, tokens)
                    yield {"method": method, "tokens": tokens, "files": SOURCES, **found}


def with_computed(rows: list[dict[str, Any]], sizes: list[int]) -> list[dict[str, Any]]:
    """The rows, and those that are computed: time and memory grow with the tokens."""
    for method in ("megatron", "nanotron"):
        largest = max((row for row in rows if row["method"] == method), key=lambda row: row["tokens"])
        for tokens in (size for size in sizes if size > largest["tokens"]):
            seconds = (largest["first_batch"] - largest["batch"]) * tokens / largest["tokens"] + largest["batch"]
            size = data_start_peers.expected_bytes(method, tokens, LENGTH)
            rows.append(
                {"method": method, "tokens": tokens, "files": SOURCES, "first_batch": seconds,
                 "batch": largest["batch"], "bytes": size, "computed": True}
            )  # fmt: skip
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| tokens | method | files | first batch | after a resume | every batch | memory |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for row in sorted(rows, key=lambda row: (row["tokens"], list(NAMES).index(row["method"]))):
        about = "~" if row.get("computed") else ""
        # Megatron keeps its arrays on disk: the next start maps them. nanotron builds them again.
        later = {"ours": "resume", "nanotron": "first_batch"}.get(row["method"])
        again = "maps what it built" if later is None else f"{about}{seconds(row[later])}"
        lines.append(
            f"| {short(row['tokens'])} | {NAMES[row['method']]} | {row['files']:,} | "
            f"{about}{seconds(row['first_batch'])} | {again} | {seconds(row['batch'])} | "
            f"{about}{row['bytes'] / 1e6:,.1f} MB |"
        )
    return "\n".join(lines)


def seconds(value: float) -> str:
    """In the unit that suits it."""
    return f"{1000 * value:,.0f} ms" if value < 1 else f"{value:,.1f} s"


def short(tokens: int) -> str:
    """1 M, 10 B."""
    for unit, size in (("T", 10**12), ("B", 10**9), ("M", 10**6)):
        if tokens >= size:
            return f"{tokens // size} {unit}"
    return str(tokens)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """First batch and memory over the size of the mixture."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, label, unit in (
        (axes[0], "first_batch", "seconds to the first batch", 1),
        (axes[1], "bytes", "memory of the order, MB", 1e-6),
    ):
        for method, colour in (("ours", "#1b6ca8"), ("megatron", "#c44e2b"), ("nanotron", "#7a7a7a")):
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["tokens"])
            axis.plot(
                [row["tokens"] for row in own], [row[key] * unit for row in own], "-", color=colour, label=NAMES[method]
            )
            for computed, fill in ((False, colour), (True, "white")):
                some = [row for row in own if bool(row.get("computed")) == computed]
                axis.plot(
                    [row["tokens"] for row in some], [row[key] * unit for row in some], "o", color=colour, mfc=fill
                )
        axis.set(xscale="log", yscale="log", xlabel="tokens of the mixture", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to a billion tokens, written nowhere")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        method, folder, tokens, step = arguments.measure
        found = (
            measure_ours(Path(folder), int(step))
            if method == "ours"
            else measure_peer(method, Path(folder), int(tokens))
        )
        print(json.dumps(found))
        return
    sizes = [size for size in SIZES if size <= 10**9] if arguments.quick else SIZES
    rows = []
    for row in measure_all(sizes):
        rows.append(row)
        print(json.dumps(row), flush=True)
    rows = with_computed(rows, sizes)
    print(table(rows))
    if not arguments.quick:
        largest = max((row for row in rows if row["method"] == "ours"), key=lambda row: row["tokens"])
        text = (
            f"# Starting on a mixture of {SOURCES} sources\n\n`python benchmarks/data_start.py` on "
            f"{platform.machine()} with {os.cpu_count()} cores, numpy {np.__version__}: windows of {LENGTH:,} tokens, "
            f"{WINDOWS:,} a step; seconds of CPU, files in memory. ~ is computed from the largest size that was built. "
            "Memory is what no file stands behind: for ours all that grew since the start, with the windows in hand; "
            "for the others their arrays alone.\n\n"
            f"{table(rows)}\n\nA batch of ours comes with weights of its targets, of the others with inputs and "
            "targets alone. Megatron-LM keeps its arrays on disk, so that the next start with the same settings maps "
            "them; nanotron builds them in every process. Batches of Megatron-LM's way that take seconds read "
            "documents all over mapped files of 200 GB: most of it seems to be page faults, and was not told apart. At "
            "sizes that are computed the batch is that of the largest that was built.\n\n"
            f"At the largest size: {1000 * largest['locate']:.2f} ms to order 1,000 samples, "
            f"{seconds(largest['isolated'])} a step where documents are isolated (their bounds are looked up in as "
            f"many files), {seconds(largest['check_sizes'])} to look whether all files have their sizes, as "
            "`tsugiki prepare` and the checks before a run do.\n\n![first batch and memory](data-start.png)\n"
        )
        write_atomically(RESULTS / "data-start.md", text)
        write_json(RESULTS / "data-start.json", {"rows": rows, "document_tokens": DOCUMENT_TOKENS})
        draw(rows, RESULTS / "data-start.png")


if __name__ == "__main__":
    main()
