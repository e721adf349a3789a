"""What a resume may change: the keys that differ from the checkpoint's recipe, each judged by its class.

A key's class is declared in `recipe`; what depends on more than the key is judged here: on the step that was reached (a
longer run, a later stage, a source that joins or leaves), or on whether a base model moved or is another one. Nothing
here reads a corpus or starts torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic_core import PydanticUndefined

from tsugiki.corpus.stepping import Range, below, merged, reached
from tsugiki.recipe import Recipe
from tsugiki.recipe_chat import CHAT
from tsugiki.recipe_checks import total_steps
from tsugiki.recipe_names import field_at, section_at
from tsugiki.recipe_values import Section
from tsugiki.schedule import make_schedule
from tsugiki.shapes import Path, dotted


@dataclass(frozen=True)
class Difference:
    """One key whose value is not what the checkpoint was made with.

    `kind` is "free" or "extending" (taken; `note` says what should be announced, if anything) or "fixed"
    (refuse to resume).
    """

    key: str
    old: Any
    new: Any
    kind: str
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.key}: {_shown(self.old)} in the checkpoint, {_shown(self.new)} in the recipe{note}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else text[:197] + "..."


def compare_for_resume(
    old: Mapping[str, Any], new: Recipe, step: int, rewound: Sequence[Sequence[int]] = ()
) -> list[Difference]:
    """Keys that differ between a checkpoint's recipe and the one at hand, judged after `step` steps.

    Args:
        old: `recipe.model_dump(mode="json")` as the checkpoint keeps it; keys it lacks have their defaults.
        new: the recipe to go on with.
        step: steps that the checkpoint has behind it.
        rewound: ranges of samples that the run steps over by itself, whatever the recipes say.
    """
    batch = new.training.global_batch_size
    skipped = merged([*_ranges((old.get("data") or {}).get("skip")), *rewound])
    skipped_now = merged([*new.data.skip, *rewound])
    end = reached(step * batch, skipped)
    # Stages begin at sample numbers: what is stepped over brings them nearer.
    differences = list(_compare((), old, new.model_dump(mode="json"), old, -(-end // batch)))
    differences = [_skip_judged(difference, skipped, skipped_now, end) for difference in differences]
    differences = [_chat_judged(difference, old, new) for difference in differences]
    return [_base_judged(_length_judged(difference, old, new, step), new) for difference in differences]


def _ranges(value: Any) -> list[Any]:
    """A checkpoint's `data.skip`; none of them where it has no such key yet."""
    return value if isinstance(value, list) else []


def _skip_judged(difference: Difference, old: Sequence[Range], new: Sequence[Range], end: int) -> Difference:
    """Samples may be stepped over as long as none below `end`, which are read, is one of them or was one."""
    if difference.key != "data.skip":
        return difference
    if below(old, end) == below(new, end):
        return replace(difference, kind="extending", note=f"no sample below {end:,} changes")
    note = f"samples below {end:,} are read already; step over later ones, or move away the checkpoints after which "
    return replace(difference, kind="fixed", note=note + "they were read")


def _chat_judged(difference: Difference, old: Mapping[str, Any], new: Recipe) -> Difference:
    """How conversations are written says nothing of a run without any: the first chat source to join brings its keys,
    and the last one to leave takes them along. (What adds rows to the model changes it all the same.)"""
    adds_rows = difference.key == "data.chat.add_template_tokens"
    if not difference.key.startswith("data.chat.") or adds_rows or (_has_chat(old) and new.has_chat):
        return difference
    return replace(difference, kind="extending", note="no conversation has been trained on")


def _has_chat(old: Mapping[str, Any]) -> bool:
    sources = (old.get("data") or {}).get("sources") or {}
    return any(source.get("format") == CHAT for source in sources.values() if isinstance(source, Mapping))


def _compare(path: Path, old: Any, new: Any, whole: Mapping[str, Any], step: int) -> Iterator[Difference]:
    if path == ("data", "stages"):
        if (old or []) != new:
            yield _compare_stages(old or [], new, step)
        return
    named = path == ("data", "sources")
    section = section_at(path)
    if (named or section is not None) and isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in [*new, *(key for key in old if key not in new)]:
            if named and (name not in old or name not in new):
                yield _source_joined_or_left(name, old.get(name), new.get(name), whole, step)
            else:
                before = old[name] if name in old else _default(section, name)
                yield from _compare((*path, name), before, new.get(name), whole, step)
        return
    if old != new:
        field = field_at(path)
        extra = field.json_schema_extra if field is not None else None
        kind = extra.get("resume", "fixed") if isinstance(extra, dict) else "fixed"
        yield Difference(dotted(path), old, new, str(kind))


def _default(section: type[Section] | None, name: str) -> Any:
    field = section.model_fields.get(name) if section is not None else None
    if field is None or field.default is PydanticUndefined:
        return None
    default = field.default
    return default.model_dump(mode="json") if isinstance(default, Section) else default


def _compare_stages(old: list[Any], new: list[Any], step: int) -> Difference:
    """A stage that starts at `step` or later has placed no sample yet."""
    if _past(old, step) == _past(new, step):
        return Difference("data.stages", old, new, "extending", f"nothing before step {step} changes")
    return Difference(
        "data.stages",
        old,
        new,
        "fixed",
        f"changes steps before {step}, which are done; add a stage from {step} on",
    )


def _past(stages: list[Any], step: int) -> list[Any]:
    return [stage for stage in stages if isinstance(stage, Mapping) and stage.get("start_step", 0) < step]


def _source_joined_or_left(name: str, old: Any, new: Any, whole: Mapping[str, Any], step: int) -> Difference:
    key = f"data.sources.{name}"
    if old is None:
        if new["weight"] == 0:
            return Difference(key, None, new, "extending", "joins in a later stage, or is only validated")
        note = f"a new source cannot have been drawn before step {step}: give it weight 0 here and add a stage"
        return Difference(key, None, new, "fixed", note)
    stages = _past((whole.get("data") or {}).get("stages") or [], step)
    if any(weights.get(name, 0) for weights in ({name: old.get("weight")}, *(s["weights"] for s in stages))):
        note = "it has been drawn from; keep it, and stop drawing with a stage that gives it weight 0"
        return Difference(key, old, None, "fixed", note)
    return Difference(key, old, None, "extending", "was never drawn")


def _length_judged(difference: Difference, old: Mapping[str, Any], new: Recipe, step: int) -> Difference:
    """A changed length is taken if the run is not past it; where the schedule bends, that is announced."""
    key = difference.key.removeprefix("training.")
    if key not in ("max_steps", "max_tokens", "decay_steps") or difference.kind != "extending":
        return difference
    training = new.training
    steps = total_steps(new)
    if steps < step:
        note = f"the run is at step {step} already, past a length of {steps}"
        return replace(difference, kind="fixed", note=note)
    old_decay = (old.get("training") or {}).get("decay_steps")
    was = make_schedule(training.model_copy(update={"decay_steps": old_decay}), _steps_before(old, new))
    now = make_schedule(training, steps)
    note = ""
    if was(step) != now(step):  # equal: all that was trained lies on the new curve, too
        note = f"the {training.lr_scheduler} now ends at step {steps}: after step {step} the learning rate jumps from "
        note += f"{was(step):.3g} to {now(step + 1):.3g}"
    return replace(difference, kind="extending", note=note)


def _steps_before(old: Mapping[str, Any], new: Recipe) -> int:
    training = old.get("training") or {}
    if training.get("max_steps") is not None:
        return int(training["max_steps"])
    if training.get("max_tokens") is None:
        return total_steps(new)
    batch = training.get("global_batch_size") or new.training.global_batch_size
    length = (old.get("data") or {}).get("sequence_length") or new.data.sequence_length
    return -(-int(training["max_tokens"]) // (int(batch) * int(length)))


# --- the base model -------------------------------------------------------------------------------


def _base_judged(difference: Difference, new: Recipe) -> Difference:
    """A base that lies in another folder now is taken: a run with a checkpoint reads the base's configuration, whose
    changes `config_changes` tells, and no weights (beside adapters, the same ones). Another model of the hub is
    another run."""
    if difference.key != "model.name_or_path":
        return difference
    if isinstance(difference.new, str) and FilePath(difference.new).is_dir():
        beside = new.training.lora is not None
        note = "the adapters' base, if its values are the same" if beside else "weights are the checkpoint's"
        return replace(difference, kind="free", note=note)
    note = "not a folder here; a base that was moved or downloaded is taken by its folder's name"
    return replace(difference, kind="fixed", note=note)


WRITERS_MARKS = frozenset(("_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache"))
"""Keys of a config.json that say how the file was written or used, not what the model computes."""


def config_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What a base model's config.json says otherwise than the one that the run began with, such as
    `rope_theta: 10000 -> 1000000`: models of the same shapes may still compute differently."""
    keys = [key for key in {**old, **new} if key not in WRITERS_MARKS and old.get(key) != new.get(key)]
    return [f"{key}: {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in keys]
