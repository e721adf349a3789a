"""Calls to transformers: without its noise, and with what it refuses as one error of ours."""

import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import transformers

from tsugiki.errors import ModelError
from tsugiki.printable import one_line


@contextmanager
def in_words(what: str) -> Iterator[None]:
    """transformers' refusals (unknown attention, missing package, damaged file) as one ModelError."""
    try:
        yield
    except pickle.UnpicklingError:  # torch's own text proposes to run the code
        raise ModelError(f"{what}: a pickled file holds more than tensors, which is never run") from None
    except (OSError, ValueError, ImportError, RuntimeError, AttributeError, KeyError, TypeError, MemoryError) as error:
        raise ModelError(f"{what}: {type(error).__name__}: {one_line(error, 500)}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise ModelError(f"{what}: damaged safetensors file: {error}") from error
        raise


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no warnings of transformers: what matters is checked and said by us."""
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()
