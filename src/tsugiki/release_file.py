"""`release.json`: what a released folder says of how it was made and how it was verified. The release writes it, the
model card tells it."""

from typing import NotRequired

from typing_extensions import TypedDict

FILE = "release.json"
FORMAT = 1


class ReleasedCheckpoint(TypedDict):
    """A checkpoint whose weights were taken; `digest` is that of its manifest."""

    name: str
    step: int
    digest: str


class HeldOut(TypedDict):
    """Held-out text of a source, read by the released model."""

    documents: int
    whole: bool
    """False where only the beginning of a document could be afforded."""
    bytes: int
    bits_per_byte: float
    """By our own path, from the ids that training has seen."""
    transformers: float
    """By plain transformers, which has divided the text itself."""
    last_validation: float | None
    """The run's own, of the same documents after the newest of the checkpoints; None where there is none."""
    divided_otherwise: int
    """Documents that the folder's AutoTokenizer divides in another way than training did."""
    conversations: NotRequired[bool]
    """True where the documents are conversations, whose answers alone count, and whose ids both paths were given."""


class Logits(TypedDict):
    """Our logits beside those of plain transformers, over all positions and pieces compared."""

    positions: int
    largest_difference: float
    largest: float


class Verification(TypedDict):
    """What was seen when the folder was read again."""

    transformers: str
    device: str
    dtype: str
    """Of the computation."""
    tensors: int
    """All of them, each bitwise that of the checkpoint (or of the mean), rounded once."""
    logits: Logits
    held_out: dict[str, HeldOut]
    no_held_out: NotRequired[str]
    """Why there is none."""


class Release(TypedDict):
    """The file."""

    format: int
    tsugiki: str
    run: str
    dtype: str
    checkpoints: list[ReleasedCheckpoint]
    """Oldest first; more than one: the weights are their mean."""
    newest: bool
    """Whether this is the run's last checkpoint alone, which the run's own scores are of."""
    base: bool
    """Whether there was one; False for random weights."""
    licence: dict[str, str]
    """What the base's card states; empty where it states nothing."""
    licence_files: list[str]
    verification: Verification
