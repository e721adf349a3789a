"""What computes the answers: the model itself through transformers, or vLLM where that is installed and asked for.

Weights are loaded at the first request, so that a run whose answers are all in the journal needs none.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation.extras import need
from tsugiki.evaluation.models import NamedModel
from tsugiki.evaluation.vllm import VllmEngine
from tsugiki.files import read_json
from tsugiki.model.cached import CachedModel, Continuation, LogLikelihood, Prompt
from tsugiki.model.cached.check import is_out_of_memory
from tsugiki.model.device import DTYPES, default_device, default_dtype
from tsugiki.model.generate import end_tokens
from tsugiki.model.load import read_pretrained
from tsugiki.model.safe_config import build_config, read_config
from tsugiki.model.weight_files import CONFIGURATION_FILES
from tsugiki.recipe_machine import POSITION_KEYS

BACKENDS = ("hf", "vllm")


@dataclass(frozen=True)
class Facts:
    """What a result's header says of the computation."""

    name: str
    dtype: str
    device: str
    batch_tokens: int

    @property
    def numerics(self) -> tuple[str, str]:
        """What of it may change an answer: part of the journal's keys. The device and the size of a batch change the
        last digits only, and work that was begun elsewhere or ran out of memory is gone on with."""
        return self.name, self.dtype


class LazyBackend:
    """An engine that is opened by its first request."""

    def __init__(self, facts: Facts, max_length: int, load: Callable[[], Any]):
        self.facts, self.max_length = facts, max_length
        self._load = load
        self._engine: Any = None

    def score(self, requests: Sequence[Continuation], done: Callable[[int, LogLikelihood], None]) -> None:
        """See `CachedModel.score`."""
        self._opened().score(requests, done)

    def generate(self, requests: Sequence[Prompt], done: Callable[[int, list[int]], None]) -> None:
        """See `CachedModel.generate`."""
        self._opened().generate(requests, done)

    @property
    def why_plain(self) -> str | None:
        """Why nothing is shared between requests; None where it is, or where no request had to be asked."""
        return getattr(self._engine, "why_plain", None)

    def _opened(self) -> Any:
        self._engine = self._engine or self._load()
        return self._engine


def open_backend(
    name: str,
    model: NamedModel,
    tokenizer: TextTokenizer,
    scratch: Path,
    held: ExitStack,
    *,
    batch_tokens: int,
    dtype: str | None,
) -> LazyBackend:
    """The backend of a model; what it exports or holds goes when `held` closes."""
    if name not in BACKENDS:
        raise RecipeError(f"--backend {name}: it is one of {', '.join(BACKENDS)}")
    chosen, device = place(dtype)
    positions = max_positions(model.files)
    # No extra brings it: its builds go with those of CUDA.
    vllm = need("vllm", install="vllm") if name == "vllm" else None

    def load() -> Any:
        folder = held.enter_context(model.weights(scratch))
        stops = configured_stops(folder, tokenizer)
        if vllm is not None:
            return VllmEngine(vllm, folder, dtype=chosen, max_length=positions, stop_ids=stops)
        with enough_memory(f"the model {model.source}"):
            hf, _ = read_pretrained(folder, dtype=DTYPES[chosen], allow_pickle=model.allow_pickle)
            hf.to(device)
            return CachedModel(hf, batch_tokens=batch_tokens, stop_ids=stops)

    # vLLM reads the last token of a continuation, too, and writes one more whether it is wanted or not.
    usable = positions - 2 if name == "vllm" else positions
    return LazyBackend(Facts(name, chosen, device, batch_tokens), usable, load)


@contextmanager
def enough_memory(what: str) -> Iterator[None]:
    """Raise ModelError where memory runs out within."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(
            f"memory does not suffice for {what}: load it with --dtype bfloat16, on a device with more memory, or with "
            "a smaller --batch-tokens"
        ) from None


def place(dtype: str | None) -> tuple[str, str]:
    """The dtype (a key of DTYPES, the device's default where none is asked for) and the device to compute with."""
    if dtype is not None and dtype not in DTYPES:
        raise RecipeError(f"--dtype {dtype}: it is one of {', '.join(DTYPES)}")
    device = default_device()
    return dtype or default_dtype(device), str(device)


def configured_stops(folder: Path, tokenizer: TextTokenizer) -> frozenset[int]:
    """End tokens that a folder's configurations name, and the tokenizer's EOS."""
    files = [folder / name for name in CONFIGURATION_FILES if (folder / name).exists()]
    return end_tokens(tokenizer.eos_id, *(read_json(path).get("eos_token_id") for path in files))


def max_positions(folder: Path) -> int:
    """How many tokens the model of a folder can read. Raises ModelError where its configuration does not say."""
    values, _ = read_config(folder)
    config = build_config(values, str(folder / "config.json")).get_text_config()
    for key in POSITION_KEYS:
        found = getattr(config, key, None)
        if isinstance(found, int) and found > 0:
            return found
    raise ModelError(
        f"{folder / 'config.json'} does not say how many positions the model has (max_position_embeddings)"
    )
