"""The data of evaluation sets: where it comes from, how it is fetched and how it is read."""

from tsugiki.evaluation.data.items import Item, LoadedSet, MissingData
from tsugiki.evaluation.data.loading import load_set
from tsugiki.evaluation.data.sets import SETS, EvaluationSet

__all__ = ["SETS", "EvaluationSet", "Item", "LoadedSet", "MissingData", "load_set"]
