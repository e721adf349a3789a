"""The recipes of a quickstart, as files that a person reads, copies and changes.

The quickstart then runs these files as `tsugiki run` would: there is no other path.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsugiki.errors import RecipeError
from tsugiki.files import write_atomically
from tsugiki.quickstart.base import architecture
from tsugiki.quickstart.corpora import Corpus
from tsugiki.scripts import LANGUAGES

WHY_PRECISION = {
    "fp32": "fp32-master is faster on CPUs with bf16 instructions, and far slower on others",
    "fp32-master": "fp32 weights, bf16 products, which are the faster ones on the machine that wrote this",
}
PLAIN = re.compile(r"[A-Za-z0-9_./*-]+")
REPLAY = 30
"""Per cent of tokens in the language that the base knows."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides a quickstart besides its text."""

    vocabulary: int
    hidden_size: int
    layers: int
    heads: int
    sequence_length: int
    batch: int
    """Windows a step."""
    micro_batch: int
    base_steps: int
    continued_steps: int
    """Of `without-extension` too, so that the two differ in their vocabulary alone."""
    without_replay_steps: int
    base_rate: float
    continued_rate: float
    eval_documents: int
    tokenizer_target_bytes: int
    """Text of the new language that the tokenizer sees: real bases have seen some, and spend more tokens on it."""
    tokenizer_replay_bytes: int
    base_target: float
    """Per cent of the base's tokens in the new language."""
    added: int = 0
    """Pieces that the vocabulary grows by before it is continued; 0 where the language has no script of its own."""
    sample_characters: int = 1_000_000
    """Of the new language, to learn those pieces from."""
    precision: str = "fp32"
    weight_decay: float = 0.1

    @property
    def steps(self) -> dict[str, int]:
        """Steps of each run, in order. The runs after `continued` leave one thing out each."""
        steps = {"base": self.base_steps, "continued": self.continued_steps}
        if self.added:
            steps["without-extension"] = self.continued_steps
        return steps | {"without-replay": self.without_replay_steps}

    def extends(self, run: str) -> bool:
        """Whether a run trains the model with the larger vocabulary."""
        return self.added > 0 and run in ("continued", "without-replay")


EMBEDDED = Plan(
    vocabulary=3072, hidden_size=128, layers=4, heads=4, sequence_length=256, batch=4, micro_batch=4,
    base_steps=400, continued_steps=250, without_replay_steps=100, base_rate=4e-3, continued_rate=3e-3,
    eval_documents=200, tokenizer_target_bytes=15_000, tokenizer_replay_bytes=1_000_000, base_target=2, added=1536,
)  # fmt: skip
"""About a million parameters, two and a half minutes on two cores. In fp32, so that the figures do not depend on what a
machine multiplies fastest. The tokenizer takes 1.1 tokens for a character of Japanese, as Mistral's does."""


def mixture(corpora: Sequence[Corpus], shares: Mapping[str, float]) -> dict[str, float]:
    """Weights in per cent by source: each role's share, divided in it by the root of the sizes.

    The root lets a small source be read more often than its size says, a large one less. Shares of roles that no
    source has go to the others in proportion; a role with share 0 keeps its sources, undrawn.
    """
    present = {corpus.role for corpus in corpora}
    total = sum(share for role, share in shares.items() if role in present)
    weights = {}
    for corpus in corpora:
        roots = sum(other.size**0.5 for other in corpora if other.role == corpus.role)
        weights[corpus.name] = round(100 * shares[corpus.role] / total * corpus.size**0.5 / roots, 2)
    return weights


def target_language(corpora: Sequence[Corpus]) -> str:
    """The language that is to be learnt."""
    return next(corpus.language for corpus in corpora if corpus.role == "target")


def can_extend(corpora: Sequence[Corpus]) -> bool:
    """Whether the language to be learnt has scripts of its own, so that pieces for it leave English as it is."""
    return target_language(corpora) in LANGUAGES


def recipe_text(directory: Path, run: str, corpora: Sequence[Corpus], plan: Plan) -> str:
    """The recipe of one of the plan's runs, or of `calibration`: the base's first steps, to measure speed."""
    base = {"target": plan.base_target, "replay": 98 - plan.base_target, "other": 2.0}
    other = 15.0 if any(corpus.role == "other" for corpus in corpora) else 0.0
    continued = {"target": 100 - REPLAY - other, "replay": float(REPLAY), "other": other}
    if run in ("base", "calibration"):
        return _recipe(
            directory, run, corpora, plan, steps=plan.base_steps, rate=plan.base_rate,
            warmup=_warmup(plan.base_steps, 0.1), weights=mixture(corpora, base),
            model=_random_weights(directory, plan),
            title="the base. A small Mistral from random weights, on English with a few per cent of the rest, as\n"
            "real base models have seen." if run == "base" else "A few steps, to measure how fast this machine is.",
        )  # fmt: skip
    steps = plan.steps[run]
    titles = {
        "continued": f"continued pretraining of the base on the new language, with {REPLAY} % of English replay"
        + (",\nafter its vocabulary has grown by pieces for that language." if plan.added else "."),
        "without-extension": "the same, step by step, with the base's own vocabulary, to see what new pieces bring.",
        "without-replay": "as `continued` for fewer steps and without replay, to see what is forgotten. A source of\n"
        "weight 0 is never drawn, but measured.",
    }
    if run == "without-replay":
        continued |= {"replay": 0.0}
    return _recipe(
        directory, run, corpora, plan, steps=steps, rate=plan.continued_rate, warmup=_warmup(steps, 0.05),
        weights=mixture(corpora, continued), model=_exported_base(directory),
        evaluate_every=-(-steps // 2) if run == "continued" else steps, title=titles[run],
    )  # fmt: skip


def _warmup(steps: int, share: float) -> int:
    """A share of the steps, but at least the 20 in which Adam's second moment settles."""
    return min(max(20, int(share * steps)), steps // 2)


def write_recipes(directory: Path, corpora: Sequence[Corpus], plan: Plan) -> dict[str, Path]:
    """Write a recipe for each of the plan's runs (`base.yaml`, `continued.yaml` …); returns their paths by run.

    Raises RecipeError when one is there and says something else: it was edited, or another version wrote it.
    """
    paths = {run: directory / f"{run}.yaml" for run in plan.steps}
    for run, path in paths.items():
        text = recipe_text(directory, run, corpora, plan)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise RecipeError(
                f"{path} is not what this quickstart writes: it was edited, or another version or --corpora wrote it. "
                f"Run yours with `tsugiki run`; for a new quickstart give another --run-dir, or remove {directory}"
            )
        if not path.exists():
            write_atomically(path, text)
    return paths


def _recipe(
    directory: Path, run: str, corpora: Sequence[Corpus], plan: Plan, *, title: str, model: Iterable[str],
    weights: Mapping[str, float], steps: int, rate: float, warmup: int, evaluate_every: int = 0,
) -> str:  # fmt: skip
    path = directory / f"{run}.yaml"
    runs = list(plan.steps)
    number = f"{runs.index(run) + 1} of {len(runs)}: " if run in runs else ""
    comment = "".join(f"# {line}\n" for line in f"{number}{title}".splitlines())
    tokenizer = "extended" if plan.extends(run) else "base"
    sources = [
        f"    {corpus.name}: {{path: {_paths(corpus.paths)}, weight: {weights[corpus.name]:g}, "
        f"language: {corpus.language}, held_out: {corpus.held_out:.4g}}}"
        for corpus in corpora
    ]
    tolerated = max(corpus.bad for corpus in corpora)
    lines = [
        f"{comment}# Written by `tsugiki quickstart`. Copy it to change it. To run it: tsugiki run {yaml_path(path)}",
        f"run_dir: {yaml_path(directory / run)}",
        "seed: 42",
        "",
        "model:",
        *model,
        "",
        *(_vocabulary(directory, corpora, plan) if plan.extends(run) else []),
        "data:",
        f"  sequence_length: {plan.sequence_length}",
        f"  prepared_dir: {yaml_path(directory / 'data' / tokenizer)}   # token stores of this tokenizer",
        *(
            [f"  max_bad_documents: {1.01 * tolerated:.4g}   # as counted when the folder was read"]
            if tolerated
            else []
        ),
        "  sources:",
        *sources,
        "",
        "training:",
        f"  max_steps: {steps}",
        f"  global_batch_size: {plan.batch}   # windows: {plan.batch * plan.sequence_length:,} tokens a step",
        f"  micro_batch_size: {plan.micro_batch}",
        f"  learning_rate: {rate:.2g}   # a small model takes, and needs, larger steps than a large one",
        f"  min_lr: {rate / 10:.2g}",
        f"  warmup_steps: {warmup}",
        f"  weight_decay: {plan.weight_decay:g}",
        f"  precision: {plan.precision}   # {WHY_PRECISION[plan.precision]}",
        f"  save_steps: {-(-steps // 4)}",
        *([f"  eval_steps: {evaluate_every}", f"  eval_documents: {plan.eval_documents}"] if evaluate_every else []),
        f"  logging_steps: {_logging_steps(steps)}",
        "",
        "parallel: {shard: none}",
    ]
    return "\n".join(lines) + "\n"


def _logging_steps(steps: int) -> int:
    """Ten to fifteen lines a run, the last interval as long as the others where that can be."""
    lines = next((lines for lines in (12, 10, 11, 13, 14, 15) if steps % lines == 0), 12)
    return -(-steps // lines)


def _random_weights(directory: Path, plan: Plan) -> list[str]:
    config = architecture(
        plan.vocabulary, hidden_size=plan.hidden_size, layers=plan.layers, heads=plan.heads,
        sequence_length=plan.sequence_length,
    )  # fmt: skip
    return [
        "  architecture:   # a Hugging Face configuration: weights are drawn at random",
        *(f"    {key}: {json.dumps(value)}" for key, value in config.items()),
        f"  tokenizer: {yaml_path(directory / 'tokenizer')}",
    ]


def _exported_base(directory: Path) -> list[str]:
    return [
        f"  name_or_path: {yaml_path(directory / 'base' / 'export')}"
        "   # what base.yaml made; any Hugging Face folder or hub id"
    ]


def _vocabulary(directory: Path, corpora: Sequence[Corpus], plan: Plan) -> list[str]:
    return [
        "vocabulary:   # learnt from the sources of this language, their held-out documents left out",
        f"  language: {target_language(corpora)}",
        f"  add: {plan.added}",
        f"  sample_characters: {plan.sample_characters}",
        f"  output_dir: {yaml_path(directory / 'vocabulary')}   # the extended model, the same for runs with it",
        "",
    ]


def _paths(paths: Sequence[str]) -> str:
    return yaml_path(paths[0]) if len(paths) == 1 else "[" + ", ".join(map(yaml_path, paths)) + "]"


def yaml_path(value: str | Path) -> str:
    """A path as YAML: bare where nothing in it could be read otherwise, else quoted as JSON is."""
    text = str(value)
    return text if PLAIN.fullmatch(text) and not text.startswith(("*", "-")) else json.dumps(text, ensure_ascii=False)
