"""lm-eval's sampler of shots, as a pure function of the item and of how many are asked for."""

from typing import Any

from lm_eval.api.samplers import ContextSampler

from tsugiki.evaluation.shots import DRAWS, Stream, first

_OWN_COLUMNS = ("id", "role", "place", "places", "draw")


class Sampler(ContextSampler):
    """The first shots of the pool for every item, or those that the published set-up drew for this one.

    lm-eval's `--seed` has no say: shots are part of what is measured.
    """

    _stream: Stream | None = None

    def sample(self, n: int, eval_doc: dict[str, Any] | None = None, df: Any = None, **_: Any) -> list[dict[str, Any]]:
        """n shots for `eval_doc`. Raises DataError when the pool has too few."""
        assert eval_doc is not None, "the task file must give items and shots in one split"
        pool = self.df
        if not eval_doc["draw"]:
            return first(pool, n)
        draw = DRAWS[eval_doc["draw"]]
        if self._stream is None:
            self._stream = Stream(draw, eval_doc["places"], len(pool))
        drawn = [pool[i] for i in self._stream.at(eval_doc["place"], n)]
        if draw.own:
            drawn = [shot for shot in drawn if _content(shot) != _content(eval_doc)]
        return drawn[:n]


def _content(row: dict[str, Any]) -> dict[str, Any]:
    """What the published set-up compared to find the item among its shots: everything but our own columns."""
    return {key: value for key, value in row.items() if key not in _OWN_COLUMNS}
