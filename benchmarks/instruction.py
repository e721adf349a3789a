"""Speed and memory of instruction tuning: ours against TRL's SFTTrainer, and against padding to the full length.

    python benchmarks/instruction.py             three rounds; on two idle CPU cores about a quarter of an hour
    python benchmarks/instruction.py --quick     one round, fewer steps

The same model, conversations, masks, positions a step (8 x 512), precision and threads for all. TRL packs by best fit,
too, and is measured at both ends: one row at a time with accumulation (its frugal setting), and all eight rows at once,
which it flattens into one row with a dense mask. Each contestant runs in a process of its own and rounds are
interleaved, A B C A B C, since such machines change their speed by the minute. The figure is tokens *learnt* a second:
padding and prompts cost time and teach nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from training import HERE, RESULTS, environment, mistral, number_format, probe_machine, processor

CONTESTANTS = {
    "ours, 8 rows at a time": ("ours", 8),
    "ours, 1 row at a time": ("ours", 1),
    "TRL, 8 rows at a time": ("trl", 8),
    "TRL, 1 row at a time": ("trl", 1),
    "padded to full length, 8 rows": ("padded", 8),
}
ARCHITECTURE = mistral(8192, 256, 1024, 8, 8, 2)
LENGTH, BATCH, CONVERSATIONS = 512, 8, 4000


def measure(name: str, options: argparse.Namespace, precision: str) -> dict[str, Any]:
    """What one process reports. Exits with its message where it fails."""
    contestant, micro_batch = CONTESTANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        spec = {
            "contestant": contestant, "architecture": ARCHITECTURE, "sequence_length": LENGTH, "batch": BATCH,
            "micro_batch": micro_batch, "precision": precision, "activation_checkpointing": "none", "compile": False,
            "warmup": 2, "steps": options.steps, "threads": options.threads, "conversations": CONVERSATIONS,
            "store": "-", "folder": folder,
        }  # fmt: skip
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, str(HERE / "instruction_contestants.py"), str(path)]
        out = subprocess.run(command, env=environment(options.threads), capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{name} failed: {out.stderr.strip()[-2000:]}")
    result = json.loads(out.stdout.splitlines()[-1])
    print(
        f"  {name:<30} {result['trained_per_second']:8,.0f} trained tokens/s  "
        f"{result['trained_per_cpu_second']:7,.0f} a CPU second  {result['peak_gb']:5.2f} GB  "
        f"padding {result['padding']:.1%}", flush=True,
    )  # fmt: skip
    return result


def table(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Markdown rows: medians over rounds, and ours over each of the others within rounds."""
    lines = [
        "| | trained tokens/s | a CPU second | peak GB | padding | ours is faster by |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, reports in found.items():
        middle = {key: statistics.median(r[key] for r in reports) for key in reports[0] if key in
                  ("trained_per_second", "trained_per_cpu_second", "peak_gb", "padding")}  # fmt: skip
        lines.append(
            f"| {name} | {middle['trained_per_second']:,.0f} | {middle['trained_per_cpu_second']:,.0f} | "
            f"{middle['peak_gb']:.2f} | {middle['padding']:.1%} | {ratio(found, name):.2f} |"
        )
    return lines


def ratio(found: dict[str, list[dict[str, Any]]], other: str, mine: str = "ours, 8 rows at a time") -> float:
    """Median over rounds of our rate over another's."""
    pairs = zip(found[mine], found[other], strict=True)
    return statistics.median(a["trained_per_second"] / b["trained_per_second"] for a, b in pairs)


def goals(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What was wanted, and what came."""

    def peak(name: str) -> float:
        return statistics.median(report["peak_gb"] for report in found[name])

    at_eight, at_one = ratio(found, "TRL, 8 rows at a time"), ratio(found, "TRL, 1 row at a time")
    wanted = [
        ("at least 1.2 times TRL's best", min(at_eight, at_one), min(at_eight, at_one) >= 1.2),
        ("at least twice TRL with 8 rows at a time", at_eight, at_eight >= 2),
    ]
    for rows in ("8 rows at a time", "1 row at a time"):
        share = peak(f"ours, {rows}") / peak(f"TRL, {rows}")
        wanted.append((f"no more memory than TRL with {rows}", share, share <= 1))
    return [f"- {text}: {value:.2f}, {'met' if met else '**missed**'}" for text, value, met in wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, fewer steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each process (all cores)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder for the results (benchmarks/results)")
    options = parser.parse_args()
    options.steps, rounds = (3, 1) if options.quick else (6, 3)
    machine = probe_machine() | {
        "processor": processor(),
        "threads": options.threads,
        "date": time.strftime("%Y-%m-%d"),
    }
    precision = "fp32-master" if machine["bf16_flops"] > machine["fp32_flops"] else "fp32"
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for number in range(1, rounds + 1):
        print(f"round {number} of {rounds}", flush=True)
        for name in CONTESTANTS:
            found[name].append(measure(name, options, precision))
    text = [
        "# Instruction tuning: ours and TRL", "",
        f"12 M parameters, vocabulary 8,192, 8 x 512 positions a step, {precision}; {machine['processor']}, "
        f"{options.threads} threads, torch {machine['torch']}, {machine['date']}. {number_format(machine)} Medians of "
        f"{rounds} rounds of {options.steps} steps.", "", *table(found), "", *goals(found), "",
    ]  # fmt: skip
    print("\n".join(text))
    if not options.quick:
        where = "gpu" if machine["gpu"] else "cpu"
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / f"instruction-{where}.md").write_text("\n".join(text), encoding="utf-8")
        (options.output / f"instruction-{where}.json").write_text(
            json.dumps({"machine": machine, "found": found}, indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
