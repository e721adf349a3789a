"""Which worked examples ("shots") stand before an item, and whether a result may stand beside published ones.

Published set-ups chose shots in three ways, and a score moves by points with the choice, so each is repeated exactly:

- the four tasks of llm-jp-eval: the first k of the training pool after `random.seed(42)` and a shuffle, the same for
  every item. The default profile takes its shots like this everywhere: all prompts of a task then share a prefix;
- the four tasks of the Japanese harness: one generator, seeded with 42, shuffles the test items and then draws shots
  for item after item;
- the six English tasks in lm-eval 0.4.2: one generator a task, seeded with 1234 whatever `--seed` says, draws for item
  after item. Where the task names neither a test split nor a split for shots (TriviaQA, HellaSwag, SQuAD2) one more is
  drawn than asked for, and the last is dropped.

A drawn shot depends on the item's place in the order of evaluation. It is computed from that place, not from what was
drawn before in this process: a limit or a resumed run changes no prompt.

Where the user has no training split, sixteen test items, chosen by a hash of their ids, give the shots and leave the
evaluation: the same sixteen for every k, so that scores at different k are over the same items.
"""

from dataclasses import dataclass
from random import Random

import xxhash

from tsugiki.errors import DataError
from tsugiki.evaluation.data import Item, LoadedSet

RESERVED = 16
"""Test items that leave the evaluation where shots come from nowhere else (at most half of the items)."""

SEED = 42
TASK_FILE_SEED = 1234
"""Of lm-eval's random shots where a task file names no rule of its own: lm-eval's default."""


@dataclass(frozen=True)
class Draw:
    """How a published set-up drew shots anew for each item: one `random.Random(seed)` for the whole task."""

    seed: int
    shuffles: bool = False
    """The same generator shuffled the test items first; they are evaluated in that order."""
    extra: int = 0
    """How many more were drawn than asked for."""
    own: bool = False
    """The pool is the test split itself: the item, if drawn, is taken out (with `extra=0` it then has k - 1 shots)."""


DRAWS: dict[str, Draw] = {
    "xlsum_ja": Draw(42, shuffles=True),
    "mgsm_ja": Draw(42, shuffles=True),
    "wmt20_en_ja": Draw(42, shuffles=True, extra=1, own=True),
    "wmt20_ja_en": Draw(42, shuffles=True, extra=1, own=True),
    "openbookqa": Draw(1234),
    "triviaqa": Draw(1234, extra=1),
    "hellaswag": Draw(1234, extra=1),
    "squad2": Draw(1234, extra=1),
    "xwinograd_en": Draw(1234, own=True),
    "gsm8k": Draw(1234),
}


@dataclass(frozen=True)
class ShotPlan:
    """What a table says about the shots of one result."""

    comparable: bool
    """Items, shots and measure are those of the published set-up."""
    obstacles: list[str]
    """What is unlike the published choice of shots."""
    ids: list[str] | None
    """The shots of every prompt, in order; None where they differ from item to item."""


@dataclass(frozen=True)
class Arrangement:
    """The items of a task in order of evaluation, and what their shots are taken from."""

    items: list[Item]
    pool: list[Item]
    draw: Draw | None
    """None: the first k of the pool, for every item."""


def published_shots(name: str) -> int:
    """Shots of the published set-up (for the English six, that of July 2024)."""
    return 1 if name == "xlsum_ja" else 4


def describe(profile: str, loaded: LoadedSet, k: int) -> ShotPlan:
    """What k shots are in this profile ("swallow" or "default") with the set as it was found.

    Raises DataError when there are fewer than k to take.
    """
    name, arrangement = loaded.name, arrange(profile, loaded)
    ids = None if arrangement.draw and k > 0 else [str(shot["id"]) for shot in first(arrangement.pool, k)]
    obstacles = []
    if profile == "swallow" and k != published_shots(name):
        obstacles.append(f"{k} shots (published: {published_shots(name)})")
    if not loaded.shots and arrangement.draw is None:
        obstacles.append(
            f"no training split: {len(arrangement.pool)} test items give the shots and leave the evaluation"
        )
    elif profile == "swallow" and not _pool_as_published(loaded):
        obstacles.append(f"shots from {len(loaded.shots)} other examples than the published training split")
    comparable = profile == "swallow" and loaded.published_items and not obstacles
    return ShotPlan(comparable, obstacles, ids)


def arrange(profile: str, loaded: LoadedSet) -> Arrangement:
    """Items in order of evaluation and the pool for shots.

    The default profile takes items in the order of a hash of their ids, so that the first n are a random sample.
    """
    if profile == "swallow" and _pool_as_published(loaded):
        draw = DRAWS.get(loaded.name)
        if draw is None:
            return Arrangement(loaded.test, shuffled(loaded.shots), None)
        order = list(range(len(loaded.test)))
        if draw.shuffles:
            Random(draw.seed).shuffle(order)
        return Arrangement([loaded.test[i] for i in order], loaded.test if draw.own else loaded.shots, draw)
    by_hash = sorted(loaded.test, key=_hash)
    if loaded.shots:
        return Arrangement(loaded.test if profile == "swallow" else by_hash, shuffled(loaded.shots), None)
    reserved = by_hash[: min(RESERVED, len(by_hash) // 2)]
    leaving = {item["id"] for item in reserved}
    items = loaded.test if profile == "swallow" else by_hash
    return Arrangement([item for item in items if item["id"] not in leaving], reserved, None)


def _pool_as_published(loaded: LoadedSet) -> bool:
    """Whether the published choice of shots can be repeated: from their pool, or from the test items themselves."""
    draw = DRAWS.get(loaded.name)
    return loaded.published_shots or (draw is not None and draw.own)


def _hash(item: Item) -> tuple[int, str]:
    identity = str(item["id"])
    return xxhash.xxh3_64_intdigest(identity.encode()), identity


def shuffled(pool: list[Item]) -> list[Item]:
    """The pool in the order of llm-jp-eval 1.3.0 (which then keeps its first 90 %: more than anyone takes)."""
    copy = list(pool)
    Random(SEED).shuffle(copy)
    return copy


def first(pool: list[Item], k: int) -> list[Item]:
    """The first k of the pool. Raises DataError when it has fewer."""
    if k > len(pool):
        raise DataError(f"{k} shots asked for, {len(pool)} there: lower --shots or give the training split")
    return pool[:k]


class Stream:
    """The draws of one published set-up for any item, any number of times.

    `items` and `pool` are the sizes of test split and pool. A generator cannot be asked for its n-th draw: draws are
    replayed from the first item on, and kept.
    """

    def __init__(self, draw: Draw, items: int, pool: int) -> None:
        self._draw, self._items, self._pool = draw, items, pool
        self._generators: dict[int, Random] = {}
        self._drawn: dict[int, list[list[int]]] = {}

    def at(self, place: int, k: int) -> list[int]:
        """Places in the pool drawn for the item at `place` when k shots are asked for: `k + draw.extra` of them.

        Raises DataError when the pool is smaller than that.
        """
        if k == 0:
            return []
        count = k + self._draw.extra
        if count > self._pool:
            raise DataError(f"{k} shots asked for, {self._pool} items to draw from: lower --shots")
        if k not in self._generators:
            self._generators[k] = Random(self._draw.seed)
            if self._draw.shuffles:
                self._generators[k].shuffle(list(range(self._items)))
        drawn = self._drawn.setdefault(k, [])
        while len(drawn) <= place:
            drawn.append(self._generators[k].sample(range(self._pool), count))
        return drawn[place]
