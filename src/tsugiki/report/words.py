"""What a run is and did, in a paragraph, for the head of the page and for the model card."""

from pathlib import Path

from tsugiki.amounts import quantity
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_machine import looks_like_hub_id
from tsugiki.recipe_training import LoraSection
from tsugiki.report.figures import mixture
from tsugiki.report.measures import BITS, UNTRAINED, Measure, gains
from tsugiki.report.run_directory import RunDirectory

MOST_NAMED = 4
"""Sources named in a sentence."""


def base_name(run: RunDirectory) -> str:
    """The base model, shortly: a hub id as it is, a folder by its last parts."""
    name = run.recipe.model.name_or_path
    if name is None:
        kind = (run.recipe.model.architecture or {}).get("model_type", "model")
        return f"a {kind} with random weights"
    parts = [part for part in name.rstrip("/").split("/") if part not in ("", ".", "..")]
    return hub_base(run) or "/".join(parts[-2:] if parts[-1:] == ["export"] else parts[-1:])


def hub_base(run: RunDirectory) -> str | None:
    """The base's hub id; None for a folder, and for random weights. The run has recorded which; of one that has not, a
    name is an id that could be one and is no folder here."""
    name, origin = run.recipe.model.name_or_path, run.origin.get("model")
    if name is None:
        return None
    if origin is not None and origin["name"] == name:
        return name if origin["commit"] else None
    return name if "/" in name and looks_like_hub_id(name) and not Path(name).exists() else None


def summary(run: RunDirectory) -> str:
    """One paragraph: base, vocabulary, data, steps, rates, and what came of it."""
    return " ".join(sentence for sentence in (_what(run), _with(run), _result(run)) if sentence)


def _what(run: RunDirectory) -> str:
    recipe, total = run.recipe, total_steps(run.recipe)
    tokens = run.step * recipe.training.global_batch_size * recipe.data.sequence_length
    steps = f"{run.step:,} steps" if run.step == total else f"{run.step:,} of {total:,} steps"
    drawn = [f"{one.name} {share:.0%}" for one in mixture(run) if (share := one.realised or one.asked) > 0]
    named = ", ".join(drawn[:MOST_NAMED]) + (f" and {len(drawn) - MOST_NAMED} more" if len(drawn) > MOST_NAMED else "")
    verb = "continued" if recipe.model.name_or_path else "trained"
    text = f"{base_name(run)} was {verb} for {steps} on {quantity(tokens)} tokens ({named})."
    if run.vocabulary:
        sizes = run.vocabulary["vocabulary_size"]
        text += f" Before that its vocabulary grew from {sizes['before']:,} to {sizes['after']:,} pieces."
    return text[:1].upper() + text[1:] if not recipe.model.name_or_path else text


def _with(run: RunDirectory) -> str:
    data, training = run.recipe.data, run.recipe.training
    rate = f"learning rate {training.learning_rate:g}"
    if training.min_lr is not None and training.lr_scheduler != "constant":
        rate += f" to {training.min_lr:g}"
    return (
        f"A step took {training.global_batch_size:,} windows of {data.sequence_length:,} tokens; {rate} "
        f"({training.lr_scheduler}), precision {training.precision}."
        + (f" Its weights were frozen; {lora_words(training.lora)} were trained." if training.lora else "")
    )


def lora_words(lora: LoraSection) -> str:
    """What is trained beside a frozen base."""
    parts = [f"adapters of rank {lora.rank} (LoRA)", *lora.modules_to_save, "the rows of new pieces" * lora.new_rows]
    *others, last = [part for part in parts if part]
    return f"{', '.join(others)} and {last}" if others else last


def _result(run: RunDirectory) -> str:
    measures = gains(run)
    sentences = []
    texts = {one.name: one for one in measures if one.is_text and one.difference is not None}
    moved = [texts[name] for name in run.recipe.data.sources if name in texts]
    if moved:
        against = (
            "the base with its new pieces untrained" if any(one.base == UNTRAINED for one in moved) else "the base"
        )
        told = "; ".join(_moved(one) for one in _most_telling(moved))
        left = f"; and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
        sentences.append(f"Held-out text against {against}, in bits per byte (lower is better): {told}{left}.")
    tasks = [one for one in measures if one.metric != BITS and not one.average and one.difference_limits]
    if tasks:
        rose, fell = (sum(_is(one, way) for one in tasks) for way in (1, -1))
        sentences.append(f"Of {len(tasks)} tasks {rose} rose and {fell} fell by more than the noise of their items.")
    if not sentences and run.status != "finished":
        sentences.append("Nothing has been measured yet that could be compared.")
    return " ".join(sentences)


def _most_telling(texts: list[Measure]) -> list[Measure]:
    """All of a few; of many the largest gains and the largest losses alike, in the recipe's order."""
    ranked = sorted(texts, key=lambda one: one.difference or 0.0)
    kept = texts if len(texts) <= MOST_NAMED else [*ranked[: MOST_NAMED // 2], *ranked[-(MOST_NAMED // 2) :]]
    return [one for one in texts if one in kept]


def _moved(one: Measure) -> str:
    return f"{one.name} from {one.before:.2f} to {one.after:.2f}"


def _is(one: Measure, way: int) -> bool:
    limits = one.difference_limits
    return limits is not None and (limits[0] > 0 if way > 0 else limits[1] < 0)
