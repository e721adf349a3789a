"""The model card: Markdown with the metadata that Hugging Face reads, of what a run has measured and no more."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tsugiki import __version__
from tsugiki.amounts import quantity
from tsugiki.printable import escape_markdown, one_line
from tsugiki.report.figures import BITS, Measure, gains, mixture
from tsugiki.report.run_directory import RunDirectory, found_at
from tsugiki.report.words import base_name, is_hub_id, summary

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
NOT_LANGUAGES = {"code", "math", "other"}
LONGEST_README = 1 << 20
"""Bytes of a base's README.md that are looked at."""


def make_card(run: RunDirectory) -> str:
    """README.md for the final model's folder."""
    metadata = yaml.safe_dump(_metadata(run), sort_keys=False, allow_unicode=True, width=100)
    blocks = [f"# {_text(run.name)}", _text(summary(run)), *_sections(run)]
    return f"---\n{metadata}---\n\n" + "\n\n".join(blocks) + "\n"


def _text(text: str) -> str:
    return escape_markdown(one_line(text))


def _metadata(run: RunDirectory) -> dict[str, Any]:
    languages = [one.language for one in mixture(run) if one.language and (one.realised or one.asked) > 0]
    languages = [each for each in dict.fromkeys(languages) if LANGUAGE.fullmatch(each) and each not in NOT_LANGUAGES]
    base, licence = run.recipe.model.name_or_path, _base_licence(run)
    sets = dict.fromkeys(source.hub for source in run.recipe.data.sources.values() if source.hub and source.weight > 0)
    found: dict[str, Any] = {
        "language": languages,
        "license": licence.get("license"),
        "license_name": licence.get("license_name"),
        "license_link": licence.get("license_link"),
        "base_model": base if is_hub_id(base) else None,
        "base_model_relation": "finetune" if is_hub_id(base) else None,
        "datasets": list(sets),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tsugiki", "continual-pretraining"],
        "model-index": _index(run),
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _index(run: RunDirectory) -> list[dict[str, Any]]:
    results = []
    for one in gains(run):
        if one.after is None or one.average:
            continue
        kind = "bits_per_byte" if one.metric == BITS else (one.metric or "score")
        results.append({
            "task": {"type": "text-generation"},
            "dataset": {"name": one_line(one.name), "type": re.sub(r"[^\w.-]+", "-", one.key)},
            "metrics": [{"type": kind, "value": round(one.after, 4), "name": _metric(one)}],
        })  # fmt: skip
    return [{"name": one_line(run.name), "results": results}] if results else []


def _metric(one: Measure) -> str:
    return "bits per byte (lower is better)" if one.metric == BITS else one.metric or "score"


def _base_licence(run: RunDirectory) -> dict[str, str]:
    """What the card of the base says of its licence, where the base lies in a folder on this machine."""
    name = run.recipe.model.name_or_path
    folder = found_at(run, Path(name)) if name else None
    if folder is None or not (folder / "README.md").is_file():
        return {}
    with (folder / "README.md").open("rb") as file:
        text = file.read(LONGEST_README).decode("utf-8", "replace")
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
    try:
        stated = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, RecursionError):
        return {}
    keys = ("license", "license_name", "license_link")
    return {key: stated[key] for key in keys if isinstance(stated.get(key), str)} if isinstance(stated, dict) else {}


def _sections(run: RunDirectory) -> Iterator[str]:
    measures = [one for one in gains(run) if one.after is not None]
    if measures:
        yield "## Evaluation"
        yield _table(
            ["", "language", "base", "this model", "difference"],
            [[one.name, one.language, _score(one.before), _score(one.after), _difference(one)] for one in measures], 2,
        )  # fmt: skip
        yield (
            f"In square brackets: 95 % intervals of the difference on the same items. {BITS.capitalize()}: held-out "
            "text, lower is better. What was forgotten shows in the rows of the old language alone."
        )
    yield "## Training data"
    yield _table(
        ["source", "language", "share", "tokens", "epochs"],
        [[one.name, one.language or "", f"{one.realised or one.asked:.1%}", quantity(one.tokens) if one.tokens else "–",
          "–" if one.epochs is None else f"{one.epochs:.2f}"] for one in mixture(run)], 2,
    )  # fmt: skip
    yield "## Training"
    training, data = run.recipe.training, run.recipe.data
    facts = [
        ("base", base_name(run)), ("steps", f"{run.step:,}"), ("windows a step", f"{training.global_batch_size:,}"),
        ("tokens a window", f"{data.sequence_length:,}"), ("learning rate", f"{training.learning_rate:g}"),
        ("schedule", training.lr_scheduler), ("precision", training.precision), ("seed", str(run.recipe.seed)),
    ]  # fmt: skip
    yield _table(["setting", "value"], [list(fact) for fact in facts], 2)
    yield "The exact recipe, versions and fingerprints are in the report beside this card."
    yield "## Use"
    yield (
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'folder = "."  # this folder, or the name of its repository\n'
        "tokenizer = AutoTokenizer.from_pretrained(folder)\nmodel = AutoModelForCausalLM.from_pretrained(folder)\n```"
    )
    yield "## Limits"
    licence = _base_licence(run).get("license")
    yield (
        "A base model: it continues text and has not been taught to follow instructions or to refuse. What it learnt "
        "from the base and from the sources above it may repeat, errors and prejudices included. "
        + (
            f"The base is under {_text(licence)}."
            if licence
            else "The licence of the base was not found: see the base's page."
        )
    )
    yield f"Trained with Tsugiki {__version__}."


def _table(headings: list[str], rows: list[list[str]], words: int) -> str:
    rules = ["---" if place < words else "---:" for place in range(len(headings))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, rules, *([*map(_text, row)] for row in rows)])


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _difference(one: Measure) -> str:
    if one.difference is None:
        return "–"
    limits = one.difference_limits
    return f"{one.difference:+.3f}" + (f" [{limits[0]:+.3f}, {limits[1]:+.3f}]" if limits else "")
