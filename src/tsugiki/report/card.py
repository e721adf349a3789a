"""The model card: Markdown with the metadata that Hugging Face reads, of what a run has measured and no more."""

import re
from collections.abc import Iterator
from pathlib import Path
from pprint import pformat
from typing import Any

import yaml

from tsugiki import __version__
from tsugiki.amounts import quantity
from tsugiki.licence import KEYS, find_licence
from tsugiki.printable import markdown, markdown_table, one_line
from tsugiki.release_file import Release
from tsugiki.report.examples import answers_in_markdown
from tsugiki.report.figures import mixture
from tsugiki.report.measures import BITS, Measure, gains, untrained_base
from tsugiki.report.run_directory import RunDirectory, found_at
from tsugiki.report.words import base_name, hub_base, lora_words, summary

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*")
NOT_LANGUAGES = {"code", "math", "other"}


def make_card(run: RunDirectory, release: Release | None = None) -> str:
    """README.md for the final model's folder; with `release` for that of these weights, which may be others."""
    metadata = yaml.safe_dump(_metadata(run, release), sort_keys=False, allow_unicode=True, width=100)
    blocks = [f"# {markdown(run.name)}", markdown(summary(run)), *_sections(run, release)]
    return f"---\n{metadata}---\n\n" + "\n\n".join(blocks) + "\n"


def _metadata(run: RunDirectory, release: Release | None) -> dict[str, Any]:
    languages = [one.language for one in mixture(run) if one.language and (one.realised or one.asked) > 0]
    languages = [each for each in dict.fromkeys(languages) if LANGUAGE.fullmatch(each) and each not in NOT_LANGUAGES]
    base, licence = hub_base(run), _stated_licence(run, release)
    sets = dict.fromkeys(source.hub for source in run.recipe.data.sources.values() if source.hub and source.weight > 0)
    found: dict[str, Any] = {
        "language": languages,
        "license": licence.get("license"),
        "license_name": licence.get("license_name"),
        "license_link": licence.get("license_link"),
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
        "datasets": list(sets),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tsugiki", "instruction-tuning" if run.recipe.has_chat else "continual-pretraining"],
        "model-index": _index(run, release),
    }
    return {key: value for key, value in found.items() if value not in (None, [])}


def _index(run: RunDirectory, release: Release | None) -> list[dict[str, Any]]:
    """The scores of these weights: of others than the run's last, what the release has measured itself."""
    scores: list[tuple[str, str, str, float]] = []  # name, key, metric, value
    if _is_measured(release):
        scores = [
            (one.name, one.key, one.metric or "score", one.after)
            for one in gains(run) if one.after is not None and not one.average
        ]  # fmt: skip
    elif release is not None:
        found = release["verification"]["held_out"]
        scores = [(name, f"text_{name}", BITS, one["bits_per_byte"]) for name, one in found.items() if one["whole"]]
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": one_line(name), "type": re.sub(r"[^\w.-]+", "-", key)},
            "metrics": [{
                "type": "bits_per_byte" if metric == BITS else metric, "value": round(value, 4),
                "name": f"{BITS} (lower is better)" if metric == BITS else metric,
            }],
        }
        for name, key, metric, value in scores
    ]  # fmt: skip
    return [{"name": one_line(run.name), "results": results}] if results else []


def _stated_licence(run: RunDirectory, release: Release | None) -> dict[str, str]:
    """What the card of the base says of its licence, where the base lies in a folder on this machine, or as the release
    has found it."""
    if release is not None:
        return release["licence"]
    name = run.recipe.model.name_or_path
    folder = found_at(run, Path(name)) if name else None
    return find_licence(folder).stated if folder is not None and folder.is_dir() else {}


def _licence_in_words(run: RunDirectory, release: Release | None) -> str:
    if run.recipe.model.name_or_path is None:
        return ""
    stated, files = _stated_licence(run, release), release["licence_files"] if release else []
    if stated:
        text = f" The base is under {markdown(next(stated[key] for key in ('license_name', *KEYS) if key in stated))}"
        return text + (f" ({_files(files)})." if files else ".")
    if files:
        return f" The licence of the base is in {_files(files)}."
    return " The licence of the base was not found: see the base's page."


def _files(names: list[str]) -> str:
    return ", ".join(f"[{markdown(name)}]({name})" for name in names)


def _is_measured(release: Release | None) -> bool:
    """Whether the run's scores are of these weights."""
    return release is None or release["newest"]


def _sections(run: RunDirectory, release: Release | None) -> Iterator[str]:
    measures = [one for one in gains(run) if one.after is not None]
    if release is not None:
        yield from _of_release(release)
    if measures:
        final = "this model" if _is_measured(release) else "last checkpoint"
        yield "## Evaluation"
        if not _is_measured(release):
            yield "Of the run's last checkpoint, whose weights are not these."
        yield _table(
            ["", "language", "metric", "base", final, "difference"],
            [[one.name, one.language, one.metric or "mean", _score(one.before), _score(one.after), _difference(one)]
             for one in measures], 3,
        )  # fmt: skip
        ranges = "In square brackets: 95 % intervals of the difference on the same items. "
        yield (
            (ranges if any(one.difference_limits for one in measures) else "")
            + f"{BITS.capitalize()}: lower is better. "
            "What was forgotten shows in the rows of the old language alone."
        )
        if which := untrained_base(measures):
            yield markdown(which)
    answered = run.samples.get("answers") if run.samples is not None else None
    if answered and _is_measured(release):
        yield "## Answers"
        yield "To the first held-out conversation of each source, the likeliest token always; shortened here."
        yield from answers_in_markdown(answered)
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
    if training.lora is not None:
        facts.insert(1, ("trained", lora_words(training.lora)))
    yield _table(["setting", "value"], [list(fact) for fact in facts], 2)
    yield "The exact recipe, versions and fingerprints are in the report beside this card."
    yield "## Use"
    yield f"```python\n{_LOAD}{_answer(run) if run.recipe.has_chat else ''}```"
    yield "## Limits"
    yield (
        f"{_taught(run)} What it learnt from the base and from the sources above it may repeat, errors and prejudices "
        "included." + _licence_in_words(run, release)
    )
    yield f"Trained with Tsugiki {__version__}."


_LOAD = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or the name of its repository
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
"""
_ANSWER = """
turns = [{"role": "user", "content": "…"}]
prompt = tokenizer.apply_chat_template(
    turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
answer = model.generate(**prompt, max_new_tokens=512)  # ends by itself
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def _answer(run: RunDirectory) -> str:
    """How it is asked: with what its template was given in training. (transformers writes dates by itself.)"""
    given = run.recipe.data.chat.given
    kwargs = {key: value for key, value in given.template_kwargs.items() if key != "today"}
    values = ({"tools": list(given.tools)} if given.tools else {}) | kwargs
    if not values:
        return _ANSWER
    stated = f"given = {pformat(values, width=100, sort_dicts=False)}  # as in training\n"
    return _ANSWER.replace("prompt =", f"{stated}prompt =").replace("    turns,", "    turns, **given,")


def _taught(run: RunDirectory) -> str:
    """What it has been taught besides to continue text."""
    if run.recipe.has_chat:
        return (
            "It was taught to answer by the conversations above, and what to refuse by them alone. It may state what "
            "is not so."
        )
    text = "This training was on plain text: it has taught the model neither to follow instructions nor to refuse."
    if run.has_chat_template:
        text += " The base has a chat template; what it had been taught by it may have been weakened."
    return text


def _of_release(release: Release) -> Iterator[str]:
    """Which weights these are, and what was seen when the folder was read again."""
    seen, steps = release["verification"], [f"{one['step']:,}" for one in release["checkpoints"]]
    yield "## This release"
    weights = f"step {steps[0]}" if len(steps) == 1 else f"the mean of the checkpoints of steps {', '.join(steps)}"
    logits = seen["logits"]
    difference = logits["largest_difference"]
    close = f" within {difference:.1g}" if difference else ", bit by bit"
    yield (
        f"The weights of {weights}, in {release['dtype']}. Read again from this folder, each of {seen['tensors']:,} "
        f"tensors was bitwise that; transformers {seen['transformers']} gave the logits of our own path{close} (the "
        f"largest is {logits['largest']:.1f}). `release.json` has the figures, "
        "`SHA256SUMS` the digests of all files but this one."
    )
    if seen["held_out"]:
        yield _table(
            ["held-out text", "documents", "bits per byte", "by transformers", "last checkpoint in training"],
            [[f"{name} (answers)" if one.get("conversations") else name,
              f"{one['documents']:,}" if one["whole"] else "a beginning", _bits(one["bits_per_byte"]),
              _bits(one["transformers"]), _bits(one["last_validation"])] for name, one in seen["held_out"].items()], 1,
        )  # fmt: skip


def _bits(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(headings: list[str], rows: list[list[str]], words: int) -> str:
    return markdown_table(headings, (map(markdown, row) for row in rows), texts=words)


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _difference(one: Measure) -> str:
    if one.difference is None:
        return "–"
    limits = one.difference_limits
    return f"{one.difference:+.3f}" + (f" [{limits[0]:+.3f}, {limits[1]:+.3f}]" if limits else "")
