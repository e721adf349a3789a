"""What the figures of `training.py` say: medians, spread, goals met or missed, as a table and as Markdown."""

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figures = dict[str, list[dict[str, Any]]]
"""By contestant, one report a round."""

# Published rates of dense 7-8B models, each on one GPU of many, bf16 unless said otherwise.
ANCHORS = (
    ("Llama 3.1 8B, torchtitan, 8 x H100 (500 W)", "FSDP, selective checkpointing; + compile; + float8",
     "5,762; 6,667; 8,532", "torchtitan benchmarks/llama3_h100_202412"),
    ("Llama 3.1 8B, torchtitan, 32 x H200", "FSDP, compile, float8", "10,938", "torchtitan trainy-whitefiber 2025-06"),
    ("OLMo-1124 7B at 4,096, OLMo-core, H100", "bf16; fp8", "10,000; 13,000", "OLMo-core README v1.9.0"),
    ("Llama 8B at 4,096, OLMo-core, H100", "bf16; fp8", "9,500; 12,500", "OLMo-core README v1.9.0"),
    ("Llama 2 7B at 4,096, NeMo 24.12, 8 x H100", "fp8", "16,934", "NeMo performance summary"),
)  # fmt: skip

# Operators of torch by what they are for; the first match counts.
KINDS = (
    ("matrix products", ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "gemm", "nvjet", "cutlass")),
    ("attention", ("flash_attention", "efficient_attention", "scaled_dot_product", "fmha")),
    ("optimiser and clipping", ("_fused_adam", "multi_tensor", "_foreach", "linalg_vector_norm", "fusedadam")),
    ("sharding", ("fsdp", "c10d", "all_gather", "reduce_scatter", "chunk_cat", "split_with_sizes", "nccl", "gloo")),
    ("copies and casts", ("copy_", "aten::cat", "aten::clone", "memcpy", "_to_copy")),
    ("filling memory", ("zero_", "fill_", "memset")),
    ("softmax of the loss", ("exp_", "amax", "gather", "scatter_add", "logsumexp", "log_softmax", "aten::sub_",
                             "aten::div_", "nll_loss")),
    ("embedding", ("embedding", "index")),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One contestant in one case: medians over rounds, and (lowest, highest)."""

    case: str
    contestant: str
    tokens_per_second: float
    spread: tuple[float, float]
    tokens_per_cpu_second: float
    share_of_peak: float | None
    peak_gb: float
    ratio: float | None
    """Tokens a second over Trainer's, median of the rounds' ratios."""
    cpu_ratio: float | None
    """The same of tokens a CPU second, which neighbours on the machine disturb less."""


@dataclass(frozen=True)
class Goal:
    text: str
    case: str
    found: str
    met: bool


@dataclass(frozen=True)
class Summary:
    rows: list[Row]
    goals: list[Goal]
    peaks: dict[str, list[float]]
    """Matmul peak of each case's rounds, FLOP/s."""


def summarise(found: dict[str, Figures], saving: dict[str, Any] | None, *, cpu: bool) -> Summary:
    """Medians of all rounds, and what they make of the goals."""
    rows, peaks = [], {}
    for case, figures in found.items():
        peaks[case] = [report["flops"] for report in figures["matmul"]]
        for name, reports in figures.items():
            if name != "matmul" and reports:
                rows.append(_row(case, name, reports, figures.get("trainer", []), peaks[case], cpu))
    return Summary(rows, _goals(rows, found, saving, cpu), peaks)


def _row(
    case: str, name: str, reports: list[dict[str, Any]], trainer: list[dict[str, Any]], peaks: list[float], cpu: bool
) -> Row:
    rates = [report["tokens_per_second"] for report in reports]
    shares = [r["tokens_per_second"] * r["flops_per_token"] / p for r, p in zip(reports, peaks, strict=False)]

    def ratio(key: str) -> float | None:
        pairs = [a[key] / b[key] for a, b in zip(reports, trainer, strict=False)]
        return statistics.median(pairs) if pairs else None

    return Row(
        case, name, statistics.median(rates), (min(rates), max(rates)),
        statistics.median(report["tokens_per_cpu_second"] for report in reports),
        statistics.median(shares) if shares else None,
        statistics.median(report["peak_gb"] for report in reports),
        ratio("tokens_per_second"), ratio("tokens_per_cpu_second") if cpu else None,
    )  # fmt: skip


def _goals(rows: list[Row], found: dict[str, Figures], saving: dict[str, Any] | None, cpu: bool) -> list[Goal]:
    at = {(row.case, row.contestant): row for row in rows}
    goals = []
    for case in found:
        # Trainer's best against our best that was measured, compiled or not.
        mine = _fastest([at.get((case, "ours")), at.get((case, "ours compiled"))])
        theirs = _fastest([row for (place, name), row in at.items() if place == case and name.startswith("trainer")])
        if mine is None or theirs is None:
            continue
        if cpu and "x 512" in case:
            large = "42,880" in case
            least, ratio = (1.6 if large else 1.25), mine.tokens_per_second / theirs.tokens_per_second
            if theirs.contestant == "trainer" and mine.ratio is not None:
                ratio = mine.ratio  # taken within rounds
            goals.append(
                Goal(f"at least {least} times Trainer's tokens a second", case, f"{ratio:.2f}", ratio >= least)
            )
            if large:
                memory = mine.peak_gb / theirs.peak_gb
                goals.append(Goal("at most half of Trainer's peak memory", case, f"{memory:.2f}", memory <= 0.5))
            share = mine.share_of_peak or 0.0
            goals.append(Goal("at least 45 % of the matmul peak", case, f"{share:.0%}", share >= 0.45))
        if not cpu and case.startswith("7B"):
            rate = mine.tokens_per_second
            goals.append(Goal("at least 11,000 tokens a second (on an H200)", case, f"{rate:,.0f}", rate >= 11_000))
            share = mine.share_of_peak or 0.0
            goals.append(Goal("at least 60 % of the matmul peak", case, f"{share:.0%}", share >= 0.6))
    if saving:
        stall = _stall(saving)
        if stall is not None:
            goals.append(Goal(*stall))
        wait = statistics.mean(saving["data_wait"])
        goals.append(Goal("waiting for data under 1 % of the time", "checkpoints and data", f"{wait:.3%}", wait < 0.01))
    return goals


def _fastest(rows: list[Row | None]) -> Row | None:
    return max((row for row in rows if row is not None), key=lambda row: row.tokens_per_second, default=None)


def _stall(saving: dict[str, Any]) -> tuple[str, str, str, bool] | None:
    """Of saves after the first, which also gets its memory from the system."""
    saves = saving["saves"][1:-1] or saving["saves"]  # at the last one the process ends: nothing is stalled
    if not saves:
        return None
    parts = ("begin", "copy", "commit")
    begin, copy, commit = (statistics.median(save.get(part, 0.0) for save in saves) for part in parts)
    written = statistics.median(save["written"] for save in saves)
    share = (begin + copy + commit) / written
    found = (
        f"{share:.1%} ({begin:.4f} s to begin, {copy:.4f} s for the copy, {commit:.4f} s to publish; {written:.2f} s "
        "until written)"
    )
    return ("a checkpoint stalls training for at most 2 % of its writing", "checkpoints and data", found, share <= 0.02)


# --- pages ---------------------------------------------------------------------------------------------------------

HEADINGS = ("contestant", "tokens/s", "low to high", "x Trainer", "per CPU s", "x Trainer (CPU)", "of peak", "peak GB")


def cells(row: Row) -> list[str]:
    """One row as text, in the order of HEADINGS."""
    return [
        row.contestant,
        f"{row.tokens_per_second:,.0f}",
        f"{row.spread[0]:,.0f} to {row.spread[1]:,.0f}",
        f"{row.ratio:.2f}" if row.ratio else "",
        f"{row.tokens_per_cpu_second:,.0f}",
        f"{row.cpu_ratio:.2f}" if row.cpu_ratio else "",
        f"{row.share_of_peak:.0%}" if row.share_of_peak else "",
        f"{row.peak_gb:.2f}",
    ]


def print_table(summary: Summary) -> None:
    """The table and the goals on the terminal."""
    widths = [max([len(heading), *(len(cells(row)[i]) for row in summary.rows)]) for i, heading in enumerate(HEADINGS)]
    case = None
    for row in summary.rows:
        if row.case != case:
            case = row.case
            print(f"\n{case}")
            print("  " + "  ".join(heading.rjust(width) for heading, width in zip(HEADINGS, widths, strict=True)))
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(cells(row), widths, strict=True)))
    print()
    for goal in summary.goals:
        print(f"{'met   ' if goal.met else 'MISSED'}  {goal.case}: {goal.text}: {goal.found}")


def write_report(
    path: Path, machine: dict[str, Any], summary: Summary, profiles: dict[str, list[dict[str, Any]]], about: str
) -> None:
    """The same as a page, with where the time goes in cases that missed a goal. `about`: rounds and steps in words."""
    gpu = machine["gpu"]
    lines = [
        f"# Training speed: {gpu or machine['processor'] + ', ' + str(machine['threads']) + ' threads'}",
        "",
        f"{machine['date']}, torch {machine['torch']}, {about}, each contestant in a process of its own; made by "
        "`python benchmarks/training.py`. Medians over rounds. Model FLOPs a token are 6 N + 12 L d s; the share is of "
        "the fastest matrix product measured in the same round; peak memory is "
        + ("what torch allocated on the GPU." if gpu else "the largest resident size of the process (VmHWM)."),
    ]
    if not gpu:
        lines += ["", number_format(machine)]
    case = None
    for row in summary.rows:
        if row.case != case:
            case = row.case
            peaks = summary.peaks[case]
            best = f"{min(peaks) / 1e9:,.0f} to {max(peaks) / 1e9:,.0f} GFLOP/s" if peaks else "not measured"
            lines += ["", f"## {case}", "", f"Matmul peak {best}.", "", "| " + " | ".join(HEADINGS) + " |"]
            lines.append("|" + "|".join(["---", *["---:"] * (len(HEADINGS) - 1)]) + "|")
        lines.append("| " + " | ".join(cells(row)) + " |")
    lines += ["", "## Goals", "", "| case | goal | found | |", "|---|---|---|---|"]
    lines += [f"| {g.case} | {g.text} | {g.found} | {'met' if g.met else '**missed**'} |" for g in summary.goals]
    for name, profile in profiles.items():
        ratio = next((row.ratio for row in summary.rows if (row.case, row.contestant) == (name, "ours")), None)
        lines += ["", f"## Where the time goes: {name}", "", *_profile_lines(profile, ratio)]
    if gpu:
        lines += [
            "",
            "## Published rates to compare with",
            "",
            "| model, machine | settings | tokens/s and GPU | source |",
        ]
        lines += ["|---|---|---:|---|", *("| " + " | ".join(anchor) + " |" for anchor in ANCHORS)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def number_format(machine: dict[str, Any]) -> str:
    """Which number format the contestants compute in on this CPU, and why."""
    ratio = machine["bf16_flops"] / machine["fp32_flops"]
    what = "trains in fp32" if ratio < 1 else "computes in bf16 over fp32 weights"
    return f"Matrix products in bf16 run at {ratio:.3g} times the speed of fp32 here, so every contestant {what}."


def _profile_lines(profile: list[dict[str, Any]], ratio: float | None) -> list[str]:
    total = sum(row["seconds"] for row in profile)
    shares: dict[str, float] = {}
    for row in profile:
        kind = kind_of(row["name"])
        shares[kind] = shares.get(kind, 0.0) + row["seconds"] / total
    by_size = sorted(shares.items(), key=lambda item: -item[1])
    lines = ["Own time of operators in one profiled run of ours (torch profiler):", ""]
    lines.append(", ".join(f"{kind} {share:.0%}" for kind, share in by_size if share >= 0.005) + ".")
    needed = shares.get("matrix products", 0.0) + shares.get("attention", 0.0)
    if ratio and needed:
        lines.append(
            f"Matrix products and attention, which every contestant must compute, take {needed:.0%}: with nothing else "
            f"left to do, ours would be {ratio / needed:.2f} times as fast as Trainer instead of {ratio:.2f}."
        )
    lines += ["", "| operator | seconds | calls | share |", "|---|---:|---:|---:|"]
    for row in profile[:12]:
        share = row["seconds"] / total
        lines.append(f"| `{row['name'][:60]}` | {row['seconds']:.3f} | {row['calls']:,} | {share:.1%} |")
    return lines


def kind_of(operator: str) -> str:
    """What an operator of torch is for."""
    name = operator.lower()
    return next((kind for kind, pieces in KINDS if any(piece in name for piece in pieces)), "element-wise and other")
