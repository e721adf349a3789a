"""Run directories for tests of reports, with every artefact that a report reads, made without training."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tsugiki.corpus.prepared import Counts, SourceManifest
from tsugiki.recipe_file import parse_recipe, show

STEPS, BATCH, LENGTH = 40, 6, 32


def recipe_tree(run_dir: Path | str, **changes: Any) -> dict[str, Any]:
    """A recipe of two sources, one of them watched only."""
    tree: dict[str, Any] = {
        "run_dir": str(run_dir),
        "model": {"name_or_path": "owner/base-7b"},
        "data": {
            "sequence_length": LENGTH, "prepared_dir": str(Path(run_dir) / "data"),
            "sources": {
                "novels": {"path": "novels/*.jsonl", "weight": 3, "language": "ja"},
                "replay": {"hub": "owner/english", "weight": 1, "language": "en"},
                "code": {"path": "code.jsonl", "weight": 0, "language": "code"},
            },
        },
        "training": {
            "max_steps": STEPS, "global_batch_size": BATCH, "micro_batch_size": 2, "learning_rate": 1e-3, "min_lr": 1e-4,
            "save_steps": 20, "eval_steps": 20, "logging_steps": 2,
        },
    }  # fmt: skip
    for key, value in changes.items():
        node, *parts = [tree, *key.split("__")]
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = value
    return tree


def make_run(folder: Path, text: str = "", **changes: Any) -> Path:
    """A finished run in `folder`; `text` is put wherever a model, a corpus or a name has a say."""
    folder.mkdir(parents=True)
    tree = recipe_tree(folder, **changes)
    if text:
        named = "".join(letter for letter in text if letter.isprintable())  # a recipe takes no control characters
        tree["model"]["name_or_path"] = f"./{named}"
        tree["data"]["sources"]["novels"] |= {"path": f"{named}.jsonl", "language": named}
        tree["tracking"] = {"project": named}
    recipe = parse_recipe(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False), check_files=False)
    (folder / "recipe.yaml").write_text(show(recipe), encoding="utf-8")
    write_lines(folder / "metrics.jsonl", metrics(text))
    write(
        folder / "state.json", {"status": "finished", "step": STEPS, "detail": text, "time": "2026-03-11T10:30:00+0900"}
    )
    write(folder / "preflight.json", {"step": 0, "processes": 2, "probes": [
        {"name": "labels", "verdict": "ok", "measured": f"64 of 64 {text}", "threshold": "all", "remedy": "", "seconds": 0.1},
        {"name": "replay", "verdict": "warning", "measured": text, "threshold": "", "remedy": "", "seconds": 0.1},
    ]})  # fmt: skip
    for step in (20, 40):
        write(folder / f"checkpoints/step_{step:08d}/state.json", checkpoint(step, text))
    for name, documents in (("novels", 400), ("replay", 900), ("code", 50)):
        write(folder / "data" / name / "manifest.json", asdict(manifest(name, documents, text)))
    write(folder / "evaluation/table.json", scores(text))
    write(
        folder / "model/source.json", {"model": {"name": text or "owner/base-7b", "revision": None, "commit": "0" * 40}}
    )
    write(
        folder / "model/config.json",
        {"architectures": [text or "MistralForCausalLM"], "vocab_size": 4608, "model_type": "x"},
    )
    write(folder / "samples.json", {"checkpoint": "step_00000040", "settings": {"seed": 1, "temperature": 0.7}, "samples": [
        {"source": "novels", "language": "ja", "prompt": f"ある日{text}", "before": f" the {text}", "after": f"、猫が{text}"},
    ], "most_tokens": 200, "answers": [
        {"source": "novels", "language": "ja", "earlier": 0, "messages": [{"role": "user", "content": f"接ぎ木は？{text}"}],
         "before": {"text": f"木が{text}", "stopped": False}, "after": {"text": f"枝を{text}", "stopped": True},
         "reference": f"枝を継ぐこと{text}"},
    ]})  # fmt: skip
    write(folder / "environment.json", [start(0, text), start(20, text)])
    if "vocabulary" in tree:
        write(folder / "vocabulary/report.json", vocabulary(text))
    return folder


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_lines(path: Path, records: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")


def step_line(step: int, **changes: Any) -> dict[str, Any]:
    loss = 3 + math.exp(-step / 10)
    return {
        "kind": "step", "step": step, "loss": loss, "loss_by_source": {"novels": loss + 0.2, "replay": loss - 0.4},
        "grad_norm": 1.0, "learning_rate": 1e-3 * (1 - step / 50), "tokens": step * BATCH * LENGTH, "applied": True,
        "tokens_per_second": 96.0, "tflops": 0.5, "mfu": 0.25, "memory_gb": 1.5, "data_wait": 0.01, "joules": 1.8e5,
        "seconds_left": 2.0 * (STEPS - step), **changes,
    }  # fmt: skip


def validation(step: int, novels: float, text: str = "") -> dict[str, Any]:
    def scored(bits: float) -> dict[str, Any]:
        sizes = [100, 200, 150, 250, 300, 120, 180, 220]
        nats = [
            bits * math.log(2) * size * (1 + 0.01 * ((place * 7 + step) % 5 - 2)) for place, size in enumerate(sizes)
        ]
        total = sum(nats)
        return {
            "nats_per_token": 2.0, "perplexity": 7.4, "bits_per_byte": total / math.log(2) / sum(sizes), "nats": total,
            "documents": len(sizes), "tokens": 700, "bytes": sum(sizes), "nats_by_document": nats, "bytes_by_document": sizes,
        }  # fmt: skip

    sources = {"novels": scored(novels), "replay": scored(1.4), "code": scored(0.9 + step / 100)}
    return {"kind": "validation", "step": step, "sources": sources | ({text: scored(1.0)} if text else {})}


def metrics(text: str = "") -> list[dict[str, Any]]:
    """Logged steps with a spike that was gone back from, validations, questions."""
    lines: list[dict[str, Any]] = [validation(0, 2.5, text)]
    lines += [step_line(step) for step in range(2, 21, 2)]
    lines.append(validation(20, 2.2, text))
    lines += [
        step_line(22),
        step_line(24, loss=None, grad_norm=None, applied=False),
        step_line(26, loss=9.0, grad_norm=80.0),
    ]
    lines.append({
        "kind": "spike", "step": 26, "loss": 9.0, "grad_norm": 80.0, "action": "rewound", "reason": f"loss {text}",
        "loss_limit": 4.5, "norm_limit": 100.0, "to": 20, "skip": [300, 306], "samples": [150, 156],
    })  # fmt: skip
    lines += [step_line(step) for step in range(22, 41, 2)]
    lines.append(
        {"kind": "evaluation", "step": 40, "probes": {text or "sums": {"accuracy": 0.5, "items": 120, "chance": 0.25}}}
    )
    lines.append(validation(40, 2.0, text))
    return lines


def checkpoint(step: int, text: str = "") -> dict[str, Any]:
    return {
        "step": step, "samples": step * BATCH, "tokens": step * BATCH * LENGTH, "bad_steps": 0, "lineage": "x",
        "mixture": {
            "rule_version": 1, "seed": 42, "weight_denominator": 100000, "windows": {"code": 10, "novels": 60, "replay": 250},
            "stages": [{"start_sample": 0, "weights": {"novels": 75000, "replay": 25000}}],
        },
        "tokenizer": "t" * 32, "sources": {"novels": "n" * 32, "replay": "r" * 32, "code": "c" * 32}, "optimizer": "fused",
        "world_size": 2, "versions": {"python": "3.11.7", "torch": f"2.13.0+cpu{text}"},
    }  # fmt: skip


def manifest(name: str, documents: int, text: str = "") -> SourceManifest:
    windows = {"novels": 60, "replay": 250, "code": 10}[name]
    return SourceManifest(
        name, name[0] * 32, "t" * 32, 4608, True, True, 1, 2,
        [{"name": f"{name}.jsonl{text}", "path": f"/data/{name}.jsonl", "size": 12345, "mtime_ns": 1, "digest": "d" * 32}],
        Counts(documents, windows * LENGTH + 1, windows * 90, windows * 30), Counts(8, 700, 1520, 500),
        library="fastokens 0.3.5 (the ids of tokenizers 0.23.3 on 239 texts)",
    )  # fmt: skip


def scores(text: str = "") -> dict[str, Any]:
    def cell(
        score: float, reach: float, difference: tuple[float, float, float] | None = None, **facts: Any
    ) -> dict[str, Any]:
        found = {"score": score, "interval": [score - reach, score + reach], **facts}
        if difference:
            found["difference"] = {"estimate": difference[0], "interval": list(difference[1:]), "outside_zero": True}
        return found

    asked = {"metric": "accuracy", "items": 120, "total": 120, "shots": 0, "comparable": True}
    return {
        "suite": f"quick{text}", "baseline": "base",
        "languages": [{"language": "ja", "tasks": {"cloze_ja": f"cloze ja{text}", "order_ja": "order ja"},
                       "averaged": ["cloze_ja", "order_ja"]},
                      {"language": "en", "tasks": {"cloze_en": "cloze en"}, "averaged": ["cloze_en"]}],
        "rows": [
            {"name": "base", "published": False, "tasks": {
                "cloze_ja": cell(0.3, 0.08, **asked), "order_ja": cell(0.4, 0.08, **asked), "cloze_en": cell(0.6, 0.08, **asked)},
             "averages": {"ja": cell(0.35, 0.06), "en": cell(0.6, 0.08)}},
            {"name": f"final{text}", "published": False, "tasks": {
                "cloze_ja": cell(0.5, 0.08, (0.2, 0.1, 0.3), **asked), "order_ja": cell(0.42, 0.08, (0.02, -0.05, 0.09), **asked),
                "cloze_en": cell(0.5, 0.08, (-0.1, -0.18, -0.02), **asked)},
             "averages": {"ja": cell(0.46, 0.06, (0.11, 0.05, 0.17)), "en": cell(0.5, 0.08, (-0.1, -0.18, -0.02))}},
            {"name": f"Mistral{text}", "published": True, "tasks": {"cloze_ja": {"score": 0.44, "interval": None}},
             "averages": {"ja": {"score": None}, "en": {"score": None}}},
        ],
        "notes": [f"a note {text}"],
    }  # fmt: skip


def add_bits(folder: Path, *texts: str) -> None:
    """To the table of scores, what the suite quick has besides: how likely true continuations are, and `texts`, each of
    which gains 0.5 bits per byte."""
    path = folder / "evaluation/table.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    tasks = {"cloze_ja_bits": "cloze ja", **{f"text_{name}": name for name in texts}}
    table["languages"].append({"language": "ja: bits per byte", "tasks": tasks, "averaged": list(tasks)})
    for row, score in zip(table["rows"], (2.5, 2.0), strict=False):
        cell = {"score": score, "interval": [score - 0.1, score + 0.1], "metric": "bits per byte", "items": 120}
        if score == 2.0:
            cell["difference"] = {"estimate": -0.5, "interval": [-0.6, -0.4]}
        row["tasks"] |= dict.fromkeys(tasks, cell)
        row["averages"]["ja: bits per byte"] = cell
    write(path, table)


def start(step: int, text: str = "") -> dict[str, Any]:
    return {
        "step": step, "time": f"2026-03-11T{9 + step // 20:02d}:00:00+0900", "processes": 2, "device": f"NVIDIA H100{text}",
        "devices": 2, "cpu": "EPYC", "cores": 8, "memory_gb": 67.4, "system": "Linux", "peak_tflops": 989.0,
        "flops_per_token": 8.2e6, "parameters": 1377408, "trained_parameters": 1377408,
        "versions": {"tsugiki": "0.1.0", "torch": "2.13.0", "extra": text or "1"},
    }  # fmt: skip


def vocabulary(text: str = "") -> dict[str, Any]:
    def change(before: float, after: float) -> dict[str, Any]:
        one, other = (
            {"tokens": round(1000 * f), "characters": 1000, "bytes": 3000, "tokens_per_character": f}
            for f in (before, after)
        )
        return {"before": one, "after": other, "tokens_ratio": after / before}

    return {
        "vocabulary_size": {"before": 3072, "after": 4608}, "sample": {}, "held_out": {"novels": change(1.1, 0.7)},
        "mixture_tokens_ratio": 0.8, "most_used": [{"id": 1, "text": f"です{text}", "uses": 43}],
        "initialisation": {"method": "mean"},
    }  # fmt: skip
