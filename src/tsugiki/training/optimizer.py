"""AdamW in the precisions that a recipe can ask for, built so that a bad step never touches the weights.

Every preset runs torch's fused AdamW or that of `stochastic_rounding.py`. Both take `found_inf`: where it is 1,
weights, moments and step count stay bitwise as they were, without the host having to look. (Multiplying an update by
zero would not do: NaN times zero is NaN, and a zero gradient still moves weights by the momentum.)

The moments are created here and not by the first step, so that saving or loading at step 0 changes nothing
(torch's own state-dict helpers run a dummy step for that).

The vocabulary's matrices (input embeddings and output layer) may have a learning rate of their own and be trained
alone at first, for rows that were added to a pretrained model.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from tsugiki.errors import RecipeError
from tsugiki.recipe_training import TrainingSection
from tsugiki.training.stochastic_rounding import StochasticRoundingAdamW


def vocabulary_names(hf: PreTrainedModel) -> set[str]:
    """Names of what holds a row for each piece: input embeddings and output layer, a tied one once, its bias too.

    Found by module, whatever they are called; a model that names no output layer has its input embeddings alone.
    """
    modules = [module for module in (hf.get_input_embeddings(), hf.get_output_embeddings()) if module is not None]
    own = {id(parameter) for module in modules for parameter in module.parameters()}
    return {name for name, parameter in hf.named_parameters() if id(parameter) in own}


def no_decay_names(hf: PreTrainedModel, *, decay_embeddings: bool) -> set[str]:
    """Names of parameters without weight decay: norms, biases, other vectors; embeddings and output layer when asked.

    Classified by module and shape before anything is flattened. Names are those of `hf.named_parameters()`.
    """
    names = set() if decay_embeddings else vocabulary_names(hf)
    for module_name, module in hf.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_embedding = isinstance(module, nn.Embedding)  # of positions, too
            is_norm = "norm" in type(module).__name__.lower()  # Cohere's have a row a head
            if parameter.ndim < 2 or is_norm or (is_embedding and not decay_embeddings):
                names.add(f"{module_name}.{name}" if module_name else name)
    return names


def _matching(patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    """The names that match any of the patterns. Raises RecipeError for a pattern that matches none: what was meant to
    stay would be trained."""
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            near = difflib.get_close_matches(pattern, names, 1, cutoff=0.4)
            hint = f"; the nearest name is {near[0]}" if near else ""
            raise RecipeError(f"training.freeze: {pattern!r} matches no parameter of this model{hint}")
        found |= matching
    return found


class Group(NamedTuple):
    """Tensors that are updated alike."""

    weight_decay: float
    lr_factor: float
    """Of the schedule's learning rate."""
    tensors: int
    parameters: int


class Optimizer:
    """AdamW over named parameters, with freezing by pattern and steps that can be refused on the device.

    `parameters` maps names as the model's own (see TrainingModel.named_hf_parameters) to trainable tensors;
    `vocabulary` are the names to which `embedding_lr_factor` and `embedding_warmup_steps` apply (vocabulary_names).
    Raises RecipeError where none of them is trained, or freezing leaves nothing to a step of that warm-up.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], no_decay: Iterable[str], training: TrainingSection,
        *, seed: int, vocabulary: Iterable[str] = (),
    ):  # fmt: skip
        self.parameters = {name: tensor for name, tensor in parameters.items() if tensor.requires_grad}
        self.freeze = [(rule.until_step, _matching(rule.parameters, list(parameters))) for rule in training.freeze]
        no_decay, vocabulary = set(no_decay), set(vocabulary)
        keys = {"embedding_warmup_steps": training.embedding_warmup_steps > 0,
                "embedding_lr_factor": training.embedding_lr_factor != 1}  # fmt: skip
        for key in (key for key, asked in keys.items() if asked and not vocabulary & self.parameters.keys()):
            raise RecipeError(
                f"training.{key}: nothing of input embeddings and output layer is trained; with training.lora set "
                "new_rows or name them in modules_to_save, or leave this key out"
            )
        if training.embedding_warmup_steps:
            self.freeze.append((training.embedding_warmup_steps, parameters.keys() - vocabulary))
            if not self.parameters.keys() - self.frozen(1):  # later steps free more
                raise RecipeError(
                    "training.embedding_warmup_steps: training.freeze holds all that these steps would train "
                    f"({', '.join(sorted(vocabulary))}); free one of them there, or leave this key out"
                )
        members: dict[tuple[float, float], list[str]] = {}
        for name in self.parameters:
            decay = 0.0 if name in no_decay else training.weight_decay
            factor = training.embedding_lr_factor if name in vocabulary else 1.0
            members.setdefault((decay, factor), []).append(name)
        groups = [
            {
                "params": [self.parameters[name] for name in names], "names": names, "weight_decay": decay,
                "lr_factor": factor, "step": 0,
            }
            for (decay, factor), names in sorted(members.items(), reverse=True)
        ]  # fmt: skip
        betas = (training.adam_beta1, training.adam_beta2)
        self.implementation = "fused"
        if training.precision == "bf16-stochastic":
            self.implementation = "stochastic-rounding"
            self.torch: torch.optim.Optimizer = StochasticRoundingAdamW(
                groups, betas=betas, eps=training.adam_epsilon, seed=seed
            )
        else:
            self.torch = torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=training.adam_epsilon, fused=True)
        moments = torch.float32 if training.precision == "bf16-stochastic" else None
        for tensor in self.parameters.values():
            self.torch.state[tensor] = {
                "step": torch.zeros((), dtype=torch.float32, device=tensor.device),
                "exp_avg": torch.zeros_like(tensor, dtype=moments, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(tensor, dtype=moments, requires_grad=False),
            }

    def frozen(self, step: int) -> set[str]:
        """Names that step `step` does not move, by the recipe's `freeze` rules and `embedding_warmup_steps`."""
        active = [names for until, names in self.freeze if until is None or step <= until]
        return set().union(*active) & self.parameters.keys()

    def drop_frozen_gradients(self, step: int) -> None:
        """Forget the gradients of frozen parameters, before clipping, so that the norm is that of what moves.

        They are computed and dropped rather than switched off: switching `requires_grad` on a sharded model
        in mid-run changes its reduction dtype (pytorch#186998).
        """
        for name in self.frozen(step):
            self.parameters[name].grad = None

    def step(self, step: int, learning_rate: float, *, skip: torch.Tensor) -> None:
        """Make update `step`; where `skip` (a 0-dim tensor on the device) is 1, change nothing.

        `learning_rate` is the schedule's, of which each group takes its factor.
        """
        for group in self.torch.param_groups:
            group["lr"] = learning_rate * group["lr_factor"]
            group["step"] = step
        self.torch.grad_scale = None  # type: ignore[attr-defined]
        self.torch.found_inf = skip.float()  # type: ignore[attr-defined]
        self.torch.step()
        self.torch.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state as named tensors, for the checkpoint: `<parameter>.exp_avg`, `.exp_avg_sq`, `.step`."""
        return {
            f"{name}.{key}": self.torch.state[tensor][key]
            for name, tensor in self.parameters.items()
            for key in ("exp_avg", "exp_avg_sq", "step")
        }

    def groups(self) -> list[Group]:
        """The groups of the update, for the table printed at start."""
        return [
            Group(
                group["weight_decay"], group["lr_factor"], len(group["params"]),
                sum(tensor.numel() for tensor in group["params"]),
            )
            for group in self.torch.param_groups
        ]  # fmt: skip
