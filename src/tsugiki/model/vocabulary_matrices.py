"""Which tensors of a model's files have one row for each piece of the vocabulary.

Nothing is recognised by its name. The model is built twice without memory (on the meta device), for the old and for
the new size: what changes its shape is vocabulary, what does not is not, also where a width happens to equal the
vocabulary's size. It must be exactly the input embedding and the output layer with its bias; a model that keeps more
by piece (DeepSeek-V4's table from piece to expert) is refused. Names in the files are brought to the model's by
transformers' own rules, which drop or add a prefix (GPT-2) and rename (GPT-NeoX's `embed_out`).

A file may hold matrices that transformers leaves aside, such as the copies of embedding and output layer in the
multi-token-prediction layers of GLM-4.5. Those of the same shape are vocabulary as well.
"""

import copy
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from tsugiki.errors import ModelError
from tsugiki.printable import one_line

_BUILT: deque[tuple[PreTrainedConfig, PreTrainedModel]] = deque(maxlen=2)
"""What was built last: with the old and the new size. The models of a chat vector mostly have one configuration."""


@dataclass(frozen=True)
class VocabularyMatrices:
    """Names of tensors as the files have them."""

    own: tuple[str, ...]
    """Input embedding, output layer and its bias; a tied one may be there once or twice."""
    copies: tuple[str, ...]
    """Tensors of the same shape that transformers does not load."""


def find_matrices(
    old: PreTrainedConfig, new: PreTrainedConfig, shapes: Mapping[str, Sequence[int]], where: str
) -> VocabularyMatrices:
    """The vocabulary matrices among the tensors of a model's files.

    old, new: its configuration as it is and with the new size. shapes: of all tensors, by their names in the files.
    Raises ModelError, naming the tensors and `where`, unless each is identified beyond doubt.
    """
    if getattr(old.get_text_config(), "hidden_size_per_layer_input", None):
        raise ModelError(
            f"{where}: this model has an embedding of each piece for every layer (hidden_size_per_layer_input), with a "
            "vocabulary of its own; extending that is not supported"
        )
    model = _build(old, where)
    state = model.state_dict(keep_vars=True)
    names = _layers(model, state, where)
    rows = old.get_text_config().vocab_size
    _require_that_only_they_grow(names, state, _build(new, where).state_dict(), rows, new, where)
    sources = _names_in_files(model, state, shapes)
    own = _own(names, state, sources, shapes, where)
    known = {source for found in sources.values() for source in found}
    return VocabularyMatrices(own, _copies(shapes.keys() - known, own, rows, shapes, where))


@dataclass(frozen=True)
class StoredNames:
    """What transformers makes of the names in a model's files."""

    missing: tuple[str, ...]
    """Parameters of the model that no tensor of the files is loaded into, by their names in the model."""
    loaded: dict[str, str]
    """For each tensor in the files, the name in the model of what it is loaded into."""
    strangers: frozenset[str]
    """Tensors in the files that transformers does not load."""
    tied: bool
    """Whether the configuration makes input embedding and output layer one matrix."""


def match_names(config: PreTrainedConfig, stored: Iterable[str], where: str) -> StoredNames:
    """Compare the names in a model's files with its parameters. Raises ModelError as `find_matrices` does."""
    model = _build(config, where)
    state = model.state_dict(keep_vars=True)
    stored = set(stored)
    sources = _names_in_files(model, state, stored)
    loaded = {source: name for name, found in sources.items() for source in found}
    filled = {id(state[name]) for name in loaded.values()}
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in filled]
    tied = len({id(state[name]) for name in _layers(model, state, where) if state[name].ndim == 2}) == 1
    return StoredNames(tuple(missing), loaded, frozenset(stored - loaded.keys()), tied)


def vocabulary_config(config: PreTrainedConfig, where: str) -> PreTrainedConfig:
    """The part of a configuration that has the vocabulary, or the whole. Raises ModelError where there is none."""
    try:
        text = config.get_text_config()
        parts = [config, *(getattr(config, key, None) for key in config.sub_configs)]
        if isinstance(text.vocab_size, int) and any(text is part for part in parts):
            return text
    except (ValueError, AttributeError):  # several text models, or none
        pass
    raise ModelError(f"{where} names no vocab_size of one text model; its vocabulary cannot be extended")


def with_vocabulary(raw: Any, config: PreTrainedConfig, size: int) -> tuple[Any, Any]:
    """A copy of the content of `config.json` with another vocab_size, and the part of it that has the vocabulary.
    `config` is what it describes."""
    resized = copy.deepcopy(raw)
    text, rows = config.get_text_config(), config.get_text_config().vocab_size
    part = resized
    if text is not config:
        key = next(key for key in config.sub_configs if getattr(config, key, None) is text)
        part = resized.setdefault(key, {})
        if resized.get("vocab_size") == rows:  # some say it twice
            resized["vocab_size"] = size
    part["vocab_size"] = size
    return resized, part


def _build(config: PreTrainedConfig, where: str) -> PreTrainedModel:
    """The model without memory; never change it, since of a configuration that was asked for lately it is the same."""
    known = next((model for other, model in _BUILT if type(other) is type(config) and other == config), None)
    if known is not None:
        return known
    own = copy.deepcopy(config)
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=False)
    except Exception as error:  # each model class raises what it likes
        reason = one_line(error, 500)
        raise ModelError(f"{where}: the model cannot be built from its configuration: {reason}") from error
    _BUILT.append((own, model))
    return model


def _layers(model: PreTrainedModel, state: Mapping[str, Tensor], where: str) -> list[str]:
    """Names of the input embedding's weight and of the output layer's weight and bias; a tied one has two."""
    head = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"{where}: the model names no output layer, so its vocabulary cannot be extended")
    weights = (getattr(model.get_input_embeddings(), "weight", None), getattr(head, "weight", None))
    if not all(isinstance(weight, Tensor) for weight in weights):
        raise ModelError(f"{where}: input embedding or output layer is no single matrix; it cannot be extended")
    wanted = {id(tensor) for tensor in (*weights, getattr(head, "bias", None)) if tensor is not None}
    return sorted(name for name, tensor in state.items() if id(tensor) in wanted)


def _require_that_only_they_grow(
    names: Sequence[str],
    state: Mapping[str, Tensor],
    grown: Mapping[str, Tensor],
    rows: int,
    new: PreTrainedConfig,
    where: str,
) -> None:
    """`state` and `grown` are of the model before and after; the first `names` must differ, by rows, and no other."""
    size = new.get_text_config().vocab_size
    others = {name for name in state if name not in grown or grown[name].shape != state[name].shape} - set(names)
    if others:
        raise ModelError(
            f"{where}: besides those of embedding and output layer, the size of the vocabulary decides that of "
            f"{_list(others)}; the vocabulary of a {new.model_type} model cannot be extended"
        )
    for name in names:
        if (state[name].shape[0], grown[name].shape[0]) != (rows, size):
            raise ModelError(
                f"{where}: for a vocab_size of {rows} and {size}, {name} has {state[name].shape[0]} and "
                f"{grown[name].shape[0]} rows; there must be one for each piece"
            )


def _names_in_files(
    model: PreTrainedModel, state: Mapping[str, Tensor], stored: Iterable[str]
) -> defaultdict[str, list[str]]:
    """For each name in the model, those in the files that transformers loads into it."""
    transforms = get_model_conversion_mapping(model)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    present = dict(state)
    found = defaultdict(list)
    for source in sorted(stored):
        name, _ = rename_source_key(source, renamings, converters, model.base_model_prefix, present)
        if name in state:
            found[name].append(source)
    return found


def _own(
    names: Sequence[str],
    state: Mapping[str, Tensor],
    sources: Mapping[str, list[str]],
    shapes: Mapping[str, Sequence[int]],
    where: str,
) -> tuple[str, ...]:
    """The tensors in the files that are loaded into `names`: one for each, or one for both names of a tied matrix."""
    own = []
    for name in names:
        found = sources.get(name, [])
        if not any(sources.get(alias) for alias in names if state[alias] is state[name]):
            raise ModelError(f"{where}: the files hold no {name}, which config.json asks for: fetch the model again")
        if len(found) > 1:
            raise ModelError(f"{where}: {_list(found)} all stand for {name}; there must be one of them")
        for source in found:
            if list(shapes[source]) != list(state[name].shape):
                raise ModelError(
                    f"{where}: {source} has shape {list(shapes[source])}, but config.json says "
                    f"{list(state[name].shape)}: fetch the model again"
                )
        own += found
    return tuple(sorted(own))


def _copies(
    strangers: Iterable[str], own: Sequence[str], rows: int, shapes: Mapping[str, Sequence[int]], where: str
) -> tuple[str, ...]:
    """Tensors outside of the model that have a row for each piece."""
    suspects = {name for name in strangers if list(shapes[name])[:1] == [rows]}
    copies = {name for name in suspects if any(list(shapes[name]) == list(shapes[source]) for source in own)}
    if suspects != copies:
        raise ModelError(
            f"{where}: {_list(suspects - copies)} has {rows} rows as the vocabulary has, but is no part of the model "
            "that transformers knows; remove it from the files if it is not needed"
        )
    return tuple(sorted(copies))


def _list(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
