"""The recipe of the quickstart's instruction tuning, as a file that a person reads, copies and changes."""

from collections.abc import Mapping
from pathlib import Path

from tsugiki.quickstart.corpora import HELD_OUT
from tsugiki.quickstart.recipes import yaml_path

TEMPLATE = "chatml"
STEPS = 600
WEIGHTS = {"written": 20, "generated": 25}
"""Of a source of each kind, in either language; the rest is replay."""
WATCHED = 0.999
"""Share of the sample's held-out conversations that are measured: all, the least that a share can leave out."""
REPLAYED, REPLAY = {"japanese": "ja", "english": "en"}, 5


EVAL_DOCUMENTS = 60
"""Of each source: of the held-out conversations about half, so that measuring takes little of the time."""


def recipe_text(directory: Path, sources: Mapping[str, Path], watched: Mapping[str, Path], steps: int = STEPS) -> str:
    """Tuning of `<directory>/continued/export` on the sample's `sources`, and a little of the text that it has read;
    `watched` is what the sample holds out."""
    apart = [
        f"    {name}: {{path: {yaml_path(path)}, format: chat, weight: 0, held_out: {WATCHED}, "
        f"language: {name.rpartition('-')[2]}}}"
        for name, path in watched.items()
    ]
    lines = [
        f"    {name}: {{path: {yaml_path(path)}, format: chat, weight: {WEIGHTS[name.rpartition('-')[0]]}, "
        f"language: {name.rpartition('-')[2]}}}"
        for name, path in sources.items()
    ]
    texts = {name: yaml_path(directory / "corpora" / f"{name}.jsonl") for name in REPLAYED}
    replay = [
        f"    {name}: {{path: {path}, weight: {REPLAY}, held_out: {HELD_OUT}, language: {REPLAYED[name]}}}"
        for name, path in texts.items()
    ]
    return "\n".join([
        "# Instruction tuning of the quickstart's continued model: all weights, every answer trained, text as replay.",
        "# Written by `tsugiki quickstart --instruct`. Copy it to change it. To run it: "
        f"tsugiki run {yaml_path(directory / 'instruct.yaml')}",
        f"run_dir: {yaml_path(directory / 'instruct')}",
        "seed: 42",
        "",
        "model:",
        f"  name_or_path: {yaml_path(directory / 'continued' / 'export')}",
        "",
        "data:",
        "  sequence_length: 256   # conversations are packed into windows of so many tokens",
        "  held_out: 0   # of sources that do not say otherwise",
        f"  chat: {{template: {TEMPLATE}, add_template_tokens: true}}   # the base has no <|im_start|>: it gets rows",
        "  sources:",
        "    # Weight 0: measured while training, and never trained on.",
        *apart,
        *lines,
        *replay,
        "",
        "training:",
        f"  max_steps: {steps}",
        "  global_batch_size: 4   # windows: 1,024 tokens a step, a third of them trained",
        "  micro_batch_size: 4",
        "  learning_rate: 2.0e-3   # a small model takes, and needs, larger steps than a large one",
        "  min_lr: 2.0e-4",
        f"  warmup_steps: {min(20, steps // 2)}",
        "  precision: fp32",
        f"  save_steps: {-(-steps // 3)}",
        f"  eval_steps: {-(-steps // 3)}",
        f"  eval_documents: {EVAL_DOCUMENTS}",
        f"  logging_steps: {-(-steps // 12)}",
        "",
        "parallel: {shard: none}",
        "",
    ])  # fmt: skip
