"""Log-likelihoods and greedy continuations of many requests at once, with a cache: start at `model.py`."""

from tsugiki.model.cached.model import CachedModel
from tsugiki.model.cached.requests import Continuation, LogLikelihood, Prompt

__all__ = ["CachedModel", "Continuation", "LogLikelihood", "Prompt"]
