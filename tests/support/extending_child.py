"""Runs what docs/extending.md adds to the source, in a copy of which this process stands; leaves `seen.json`.

Argument: a model folder. The copy's `src` comes first on the path.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from transformers import AutoConfig, MistralForCausalLM

import tsugiki
from tsugiki.cli import main
from tsugiki.corpus.readers import format_of, read_documents
from tsugiki.corpus.records import Reading
from tsugiki.errors import RecipeError
from tsugiki.evaluation.suites import SUITES, full_names
from tsugiki.evaluation_files import read_records
from tsugiki.model.loss import TrainingModel
from tsugiki.recipe_evaluation import task_names
from tsugiki.recipe_file import json_schema, parse_recipe

TEXTS = [f"{word} number {number}: {word} and more {word}" for number in range(10) for word in ("川", "river", "谷")]


def run(*words: str) -> None:
    """A command of `tsugiki`, in this process."""
    sys.argv = ["tsugiki", *words]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def refused(text: str, *overrides: str) -> str:
    try:
        parse_recipe(text, "r", overrides)
    except RecipeError as error:
        return str(error)
    raise AssertionError("taken")


def documents(name: str) -> list[Any]:
    """What is read of a file of tab-separated values."""
    return list(read_documents(Path(name), format_of(Path(name), "auto"), Reading("text", "utf-8", max_bytes=1000)))


def schedule_and_format(model: Path) -> dict[str, Any]:
    Path("a.tsv").write_text("id\ttext\n" + "".join(f"{n}\t{text}\n" for n, text in enumerate(TEXTS)), "utf-8")
    Path("a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), "utf-8")
    sources = {kind: {"path": f"a.{kind}", "weight": 1, "language": "en"} for kind in ("tsv", "jsonl")}
    recipe: dict[str, Any] = {
        "run_dir": "run",
        "model": {"name_or_path": str(model)},
        "data": {"sequence_length": 16, "held_out": 0, "workers": 1, "sources": sources},
        "training": {
            "max_steps": 7, "global_batch_size": 2, "micro_batch_size": 2, "save_steps": 7, "precision": "fp32",
            "learning_rate": 1e-3, "min_lr": 1e-4, "warmup_steps": 2, "decay_steps": 4, "lr_scheduler": "wsd_sqrt",
            "logging_steps": 1,
        },
        "tracking": {"report_to": ["none"]},
    }  # fmt: skip
    text = yaml.safe_dump(recipe)
    Path("recipe.yaml").write_text(text, "utf-8")
    run("prepare", "recipe.yaml")
    run("train", "recipe.yaml")
    logged = [json.loads(line) for line in Path("run/metrics.jsonl").read_text("utf-8").splitlines()]
    Path("bad.tsv").write_bytes(b"id\ttext\n1\tgood\n2\t\xff\xfe\n3\ta\tb\n4\t \n")
    manifests = {kind: json.loads(Path(f"run/data/{kind}/manifest.json").read_text("utf-8")) for kind in sources}
    return {
        "rates": [line["learning_rate"] for line in logged if line["kind"] == "step"],
        "without decay_steps": refused(text, "training.decay_steps="),
        "decay_steps of another": refused(text, "training.lr_scheduler=cosine"),
        "schema": json_schema()["$defs"]["TrainingSection"]["properties"]["lr_scheduler"]["enum"],
        "prepared": {kind: manifest["train"] for kind, manifest in manifests.items()},
        "texts": [item.text for item in documents("a.tsv")] == TEXTS,
        "bad": [[item.kind, item.line, item.detail] for item in documents("bad.tsv")[1:]],
    }


def task(model: Path) -> dict[str, Any]:
    suite = SUITES["default"]
    run("evaluate", str(model), "--tasks", "currencies")
    (folder,) = Path("evaluation").glob("*/default")
    known = [suite.prefix + name for name in task_names("default")]
    return {"suite": full_names(suite, None, known), "records": list(read_records(folder, "tsugiki_currencies"))}


class Padded(MistralForCausalLM):
    """Cuts the padding of its output layer off."""

    def forward(self, *arguments: Any, **named: Any) -> Any:
        output = super().forward(*arguments, **named)
        output.logits = output.logits[..., :90]
        return output


def output_layer(model: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    hf = Padded(AutoConfig.from_pretrained(model)).train()
    inputs, targets = torch.randint(3, 90, (2, 12)), torch.randint(3, 90, (2, 12))
    parameters = list(hf.parameters())
    expected = F.cross_entropy(hf(inputs, use_cache=False).logits.flatten(0, 1), targets.flatten(), reduction="sum")
    wanted = torch.autograd.grad(expected, parameters)
    ours = TrainingModel(hf, chunk_tokens=5)
    ours.probe_head(inputs[:1, :8])
    loss = ours(inputs, targets).loss_sum
    found = torch.autograd.grad(loss, parameters)
    apart = max(float((a - b).norm() / b.norm().clamp(min=1e-9)) for a, b in zip(found, wanted, strict=True))
    return {
        "head": ours.describe_head(), "loss": loss.item(), "loss of logits": expected.item(), "gradients apart": apart,
    }  # fmt: skip


if __name__ == "__main__":
    assert Path(tsugiki.__file__).is_relative_to(Path.cwd()), "the copy's source must come first"
    folder = Path(sys.argv[1])
    seen = output_layer(folder) | schedule_and_format(folder) | task(folder)
    Path("seen.json").write_text(json.dumps(seen), "utf-8")
