"""One contestant of `training.py` in a process of its own: `python contestants.py SPEC.json`, a JSON line out.

ours      the trunk's own path: `open_run` (load_model, Optimizer) and `train` around `train_step`
trainer   Hugging Face Trainer as its friends would set it up: fused AdamW, packed windows of fixed length held as
          one array, no workers where reading is free, no logging, no progress bar
plain     twenty lines of PyTorch: model with labels, backward, clip, fused AdamW
matmul    the fastest large matrix product of this machine at this moment, the yardstick of the others

Every contestant gets the same architecture, token store, batch, precision and number of threads, and reports
the wall-clock and CPU seconds of each step after the warm-up and its peak memory.
"""

import contextlib
import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsugiki.corpus.store import TokenStore
from tsugiki.corpus.store_writer import StoreWriter
from tsugiki.training.flops import flops_per_token
from tsugiki.training.metrics import memory_gigabytes

Spec = dict[str, Any]
LEARNING_RATE, WEIGHT_DECAY, BETAS, MAX_GRAD_NORM = 1e-3, 0.1, (0.9, 0.95), 1.0


class Enough(Exception):
    """Raised out of a loop once its last measured step is over: what comes after (a final save) is not training."""


class Clock:
    """Wall-clock and CPU time of each step after the warm-up, and the peak of memory at the last one."""

    def __init__(self, spec: Spec, device: torch.device):
        self.warmup, self.steps, self.device = spec["warmup"], spec["steps"], device
        self.marks: list[tuple[float, float]] = []
        self.peak = 0.0

    def tick(self) -> bool:
        """A step has ended; whether it was the last to be measured."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.marks.append((time.perf_counter(), time.process_time()))
        self.peak = memory_gigabytes(self.device)
        return len(self.marks) >= self.warmup + self.steps

    def result(self) -> dict[str, Any]:
        marks = self.marks[self.warmup - 1 :]
        wall, cpu = ([b[i] - a[i] for a, b in itertools.pairwise(marks)] for i in (0, 1))
        return {"seconds": wall, "cpu_seconds": cpu, "peak_gb": self.peak}


def write_store(prefix: Path, tokens: int, vocabulary: int) -> None:
    """A token store of random ids, their frequency falling with their rank as that of words does."""
    random = np.random.default_rng(0)
    writer = StoreWriter(prefix, vocabulary)
    for _ in range(tokens // 1000):
        writer.add_document(np.minimum(vocabulary ** random.random(1000), vocabulary - 1).astype(np.int64).tolist())
    writer.close()


# --- contestants -------------------------------------------------------------------------------------------------


def ours(spec: Spec, device: torch.device) -> dict[str, Any]:
    """The training loop of the package, with nothing left out but the command line around it."""
    from tsugiki.corpus.prepared import Counts, PreparedSource, SourceManifest
    from tsugiki.model import load
    from tsugiki.recipe import Recipe
    from tsugiki.training import run as training_run
    from tsugiki.training.distributed import start_processes, stop_processes
    from tsugiki.training.loop import train
    from tsugiki.training.run import open_run
    from tsugiki.training.signals import StopRequest

    clock, recipe = Clock(spec, device), Recipe.model_validate(_recipe(spec))
    empty = Counts()
    manifest = SourceManifest(
        "tokens", "", "", spec["architecture"]["vocab_size"], False, False, None, None, [], empty, empty
    )
    store = TokenStore(Path(spec["store"]))
    sources = {"tokens": PreparedSource("tokens", None, store, store, manifest)}
    processes = start_processes()
    run = None
    load._read_source = _on(device, load._read_source)
    if not spec.get("saves"):
        training_run._check_disk = lambda run: None  # nothing is written: 7B would ask for 88 GB of disk
    try:
        with StopRequest() as stop:
            run = open_run(recipe, sources, _NoTokenizer(), None, processes, stop, lambda text: None)
            flops = flops_per_token(run.model.hf, spec["sequence_length"])
            watch = _SaveWatch(run.checkpointer) if spec.get("saves") else None
            listener = _Listener(clock, stop_at_end=watch is None)
            with contextlib.suppress(Enough), _profiler(spec) as profiler:
                train(run, [listener])
    finally:
        stop_processes()
    return clock.result() | {
        "data_wait": listener.waits[spec["warmup"] :],
        "saves": watch.saves if watch else [],
        "profile": _summary(profiler) if profiler else None,
        "flops_per_token": flops,
        "parameters": run.model.description["parameters"],
    }


def trainer(spec: Spec, device: torch.device) -> dict[str, Any]:
    """Hugging Face Trainer."""
    import transformers

    transformers.logging.set_verbosity_error()
    clock, model = Clock(spec, device), _plain_model(spec, device)
    flops = flops_per_token(model, spec["sequence_length"])

    class Tick(transformers.TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if clock.tick():
                control.should_training_stop = True

    cuda = device.type == "cuda"
    arguments = transformers.TrainingArguments(
        output_dir=str(Path(spec["folder"]) / "trainer"),
        use_cpu=not cuda,
        max_steps=spec["warmup"] + spec["steps"],
        per_device_train_batch_size=spec["micro_batch"],
        gradient_accumulation_steps=spec["batch"] // spec["micro_batch"],
        learning_rate=LEARNING_RATE, lr_scheduler_type="cosine", weight_decay=WEIGHT_DECAY,
        adam_beta1=BETAS[0], adam_beta2=BETAS[1], max_grad_norm=MAX_GRAD_NORM, optim="adamw_torch_fused",
        bf16=spec["precision"] != "fp32", torch_compile=spec["compile"],
        gradient_checkpointing=spec["activation_checkpointing"] != "none",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        use_liger_kernel=spec["contestant"] == "trainer-liger",
        dataloader_num_workers=2 if cuda else 0, dataloader_pin_memory=cuda,
        remove_unused_columns=False, report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True,
        log_level="error",
    )  # fmt: skip
    runner = transformers.Trainer(model=model, args=arguments, train_dataset=Windows(spec), callbacks=[Tick()])
    runner.remove_callback(transformers.PrinterCallback)
    runner.train()
    return clock.result() | {"flops_per_token": flops, "parameters": model.num_parameters()}


def plain(spec: Spec, device: torch.device) -> dict[str, Any]:
    """The loop that people write first."""
    clock, model = Clock(spec, device), _plain_model(spec, device).train()
    flops = flops_per_token(model, spec["sequence_length"])
    if spec["activation_checkpointing"] != "none":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    forward = torch.compile(model) if spec["compile"] else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    windows, micro = Windows(spec), spec["micro_batch"]
    cuts = spec["batch"] // micro
    for step in range(spec["warmup"] + spec["steps"]):
        for cut in range(cuts):
            first = (step * cuts + cut) * micro
            rows = torch.stack([windows[i % len(windows)]["input_ids"] for i in range(first, first + micro)]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=spec["precision"] == "fp32-master"):
                loss = forward(input_ids=rows, labels=rows, use_cache=False).loss
            (loss / cuts).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.tick()
    return clock.result() | {"flops_per_token": flops, "parameters": model.num_parameters()}


def matmul(spec: Spec, device: torch.device) -> dict[str, Any]:
    """FLOP/s of the fastest of some large products, in the number format that the contestants compute in."""
    dtype = torch.float32 if spec["precision"] == "fp32" else torch.bfloat16
    sizes = (4096, 8192, 16384) if device.type == "cuda" else (1024, 2048)
    return {"flops": max(product_flops(size, dtype, device, seconds=1.5) for size in sizes)}


def product_flops(size: int, dtype: torch.dtype, device: torch.device, seconds: float) -> float:
    """FLOP/s of the best of several square products of `size`, tried for about `seconds`."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.perf_counter() + seconds
    a @ b
    while best == float("inf") or time.perf_counter() < until:
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def probe() -> dict[str, Any]:
    """The device, and its FLOP/s in fp32 and bf16; on one thread, whose best is seldom disturbed by neighbours."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    torch.set_num_threads(1)
    device, size = (torch.device("cuda"), 8192) if gpu else (torch.device("cpu"), 256)
    fp32, bf16 = (product_flops(size, dtype, device, 0.5) for dtype in (torch.float32, torch.bfloat16))
    name, memory = (gpu.name, gpu.total_memory / 2**30) if gpu else (None, 0.0)
    return {"gpu": name, "gpu_gib": memory, "fp32_flops": fp32, "bf16_flops": bf16, "torch": torch.__version__}


CONTESTANTS = {"ours": ours, "trainer": trainer, "trainer-liger": trainer, "plain": plain, "matmul": matmul}


# --- what they are made of ----------------------------------------------------------------------------------------


class Windows(torch.utils.data.Dataset):
    """Packed windows of the store for Trainer and the plain loop; the model shifts labels itself."""

    def __init__(self, spec: Spec):
        length, store = spec["sequence_length"], TokenStore(Path(spec["store"]))
        count = store.window_count(length)
        self.rows = torch.from_numpy(np.asarray(store.read(0, count * length)).astype(np.int64)).view(count, length)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def _on(device: torch.device, build: Callable[..., Any]) -> Callable[..., Any]:
    """`build`, drawing its random weights on the device: on a CPU those of 7B take minutes, and no time is measured."""

    def built(*arguments: Any, **options: Any) -> Any:
        with device:
            return build(*arguments, **options)

    return built


def _plain_model(spec: Spec, device: torch.device) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**spec["architecture"])
    torch.manual_seed(0)
    dtype = torch.bfloat16 if spec["precision"] == "pure-bf16" else torch.float32
    build = _on(device, AutoModelForCausalLM.from_config)
    return build(config, dtype=dtype, attn_implementation="sdpa")


def _recipe(spec: Spec) -> dict[str, Any]:
    steps = spec["warmup"] + spec["steps"]
    return {
        "run_dir": spec["folder"],
        "seed": 0,
        "model": {"architecture": spec["architecture"], "attn_implementation": "sdpa", "tokenizer": spec["folder"]},
        "data": {
            "sequence_length": spec["sequence_length"],
            "sources": {"tokens": {"path": spec["store"], "weight": 1}},
        },
        "training": {
            "max_steps": steps, "global_batch_size": spec["batch"], "micro_batch_size": spec["micro_batch"],
            "learning_rate": LEARNING_RATE, "weight_decay": WEIGHT_DECAY, "max_grad_norm": MAX_GRAD_NORM,
            "adam_beta1": BETAS[0], "adam_beta2": BETAS[1], "precision": spec["precision"],
            "activation_checkpointing": spec["activation_checkpointing"], "compile": spec["compile"],
            "save_steps": spec.get("saves") or steps + 1, "save_total_limit": 1,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip


class _NoTokenizer:
    """The loop asks a tokenizer for its fingerprint only."""

    fingerprint = "random ids"


class _Listener:
    def __init__(self, clock: Clock, stop_at_end: bool):
        self.clock, self.stop_at_end, self.waits = clock, stop_at_end, []

    def after_step(self, figures: dict[str, Any]) -> None:
        self.waits.append(figures["data_wait"])
        if self.clock.tick() and self.stop_at_end:
            raise Enough

    def after_validation(self, step: int, scores: dict[str, Any]) -> None:
        return

    def close(self) -> None:
        return


class _SaveWatch:
    """Seconds that the loop stood still for each checkpoint (to begin it, for its copy before the next update, to
    publish it), and seconds from its beginning to the last byte."""

    def __init__(self, checkpointer: Any):
        self.saves: list[dict[str, float]] = []
        self.checkpointer = checkpointer
        self._begin, self._wait_copied, self._proceed = (
            checkpointer.begin,
            checkpointer.wait_copied,
            checkpointer.proceed,
        )
        checkpointer.begin, checkpointer.wait_copied, checkpointer.proceed = self.begin, self.wait_copied, self.proceed
        self.in_flight = False

    def begin(self, *arguments: Any) -> None:
        start = time.perf_counter()
        self._begin(*arguments)
        record = {"begin": time.perf_counter() - start}
        self.saves.append(record)
        self.in_flight = True
        threading.Thread(target=self._wait, args=(start, record), daemon=True).start()

    def wait_copied(self) -> None:
        start = time.perf_counter()
        self._wait_copied()
        if self.saves:
            self.saves[-1].setdefault("copy", time.perf_counter() - start)  # of the first update after it

    def _wait(self, start: float, record: dict[str, float]) -> None:
        while not self.checkpointer.local_done() and "commit" not in record:
            time.sleep(0.005)
        record.setdefault("written", time.perf_counter() - start)

    def proceed(self) -> str | None:
        waited = time.perf_counter()
        while self.in_flight and not self.checkpointer.local_done():
            time.sleep(0.002)  # the end of the run waits for the writing; that is no stall of a step
        start = time.perf_counter()
        if self.in_flight:
            self.saves[-1].setdefault("written", start - waited + self.saves[-1]["begin"])
        name = self._proceed()
        if self.in_flight:
            self.saves[-1]["commit"] = self.saves[-1].get("commit", 0.0) + time.perf_counter() - start
        self.in_flight = self.in_flight and name is None
        return name


def _profiler(spec: Spec) -> Any:
    if not spec.get("profile"):
        return contextlib.nullcontext()
    return torch.profiler.profile(acc_events=True)


def _summary(profiler: Any) -> list[dict[str, Any]]:
    """Operators by own time on the device, or on the CPU where there is none."""
    rows = []
    for event in profiler.key_averages():
        own = getattr(event, "self_device_time_total", 0) or event.self_cpu_time_total
        rows.append({"name": event.key, "seconds": own / 1e6, "calls": event.count})
    return sorted(rows, key=lambda row: -row["seconds"])[:40]


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    result = CONTESTANTS[spec["contestant"]](spec, device)
    if "seconds" in result:
        result["step_seconds"] = statistics.median(result["seconds"])
        result["step_cpu_seconds"] = statistics.median(result["cpu_seconds"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
