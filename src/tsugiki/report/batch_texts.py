"""Which text was in the batch of a step: the order of data is a function of the sample number, so it can be read from
the token stores years later, where they still are what the run was trained on."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from numpy.typing import NDArray
from typing_extensions import TypedDict

from tsugiki.corpus.prepared import open_stores
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import TsugikiError
from tsugiki.report.figures import order_of_data
from tsugiki.report.run_directory import RunDirectory, found_at

CHARACTERS = 400
"""Of a sample's text that are shown."""


class SampleText(TypedDict):
    """A sample, and how its text begins."""

    sample: int
    source: str
    text: str


def batch_texts(run: RunDirectory, samples: Sequence[int]) -> list[SampleText]:
    """The beginnings of global samples; none where stores or tokenizer are not here, or not those of the run."""
    mixture, prepared = order_of_data(run), found_at(run, run.recipe.prepared_dir)
    if mixture is None or prepared is None or not samples:
        return []
    recorded = run.checkpoint.get("sources", {}) if run.checkpoint else {}
    try:
        tokenizer = _tokenizer_of(run)
        drawn = mixture.locate(samples)
        names = [mixture.names[place] for place in drawn.source.tolist()]
        stores = {
            name: open_stores(prepared / name, run.manifests[name])[0] for name in dict.fromkeys(names)
            if name in run.manifests
            and recorded.get(name, run.manifests[name].fingerprint) == run.manifests[name].fingerprint
        }  # fmt: skip
        length = run.recipe.data.sequence_length
        return [
            SampleText(sample=sample, source=name, text=_text(tokenizer, stores[name].window(window, length)))
            for sample, name, window in zip(samples, names, drawn.window.tolist(), strict=True) if name in stores
        ]  # fmt: skip
    except TsugikiError as error:
        run.problems.append(str(error))
        return []


@lru_cache(maxsize=2)
def _tokenizer_of(run: RunDirectory) -> TextTokenizer:
    """Read once for all spikes of a run."""
    return TextTokenizer.from_folder(run.folder / "model")


def _text(tokenizer: TextTokenizer, tokens: NDArray[Any]) -> str:
    return tokenizer.decode(tokens.tolist()).strip("\ufffd")[:CHARACTERS]  # characters that the window cuts
