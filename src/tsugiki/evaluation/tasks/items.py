"""Items and shots as lm-eval takes them: one dataset, in which each row says which of the two it is.

lm-eval tells a sampler which item the shots are for only when both come from one split, and that must be known to
repeat published draws. So rows of both kinds are in "test", and two functions take them apart.
"""

import os
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from tsugiki.errors import DataError
from tsugiki.evaluation.data import load_set
from tsugiki.evaluation.extras import need
from tsugiki.evaluation.shots import arrange

DATA_VARIABLE = "TSUGIKI_EVAL_DATA"
MOST_SHOTS = 64
"""Of a pool whose first members are the shots of every item, as many are kept: the largest has 130,000."""


def load(items: str, profile: str, data_dir: str | None = None, **_: Any) -> dict[str, Any]:
    """What a task file's `custom_dataset` names: {"test": dataset} of the set that `metadata.items` says.

    `data_dir` comes from the metadata that lm-eval was given (`--metadata '{"data_dir": …}'`), or from the environment.
    Columns beside the item's own: `role` ("item" or "shot"), `place` (in the order of evaluation), `places` (how many
    items) and `draw` (name of the published draw, or "").

    Raises DataError when no folder was named, MissingData when the set is not in it.
    """
    folder = data_dir or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise DataError(f"no folder with evaluation data was named: give --data, or set {DATA_VARIABLE}")
    loaded = load_set(items, Path(folder))
    arrangement = arrange(profile, loaded)
    draw = items if arrangement.draw else ""
    pool = arrangement.pool if arrangement.draw else arrangement.pool[:MOST_SHOTS]
    places = len(arrangement.items)
    rows = [
        {**item, "role": "item", "place": place, "places": places, "draw": draw}
        for place, item in enumerate(arrangement.items)
    ]
    rows += [{**shot, "role": "shot", "place": i, "places": places, "draw": draw} for i, shot in enumerate(pool)]
    return {"test": need("datasets").Dataset.from_list(rows)}


def evaluated(rows: Any) -> Any:
    """The items (a task file's `process_docs`)."""
    return _of_role(rows, "item")


def shots(rows: Any) -> Any:
    """The pool for shots (`fewshot_config.process_docs`)."""
    return _of_role(rows, "shot")


def _of_role(rows: Any, role: str) -> Any:
    found = _found.setdefault(rows, {})
    if role not in found:
        found[role] = rows.select([i for i, value in enumerate(rows["role"]) if value == role])
    return found[role]


_found: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
"""By dataset and role: lm-eval asks for every item anew."""
