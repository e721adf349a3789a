"""What a user reads when something is wrong, and the exit code that goes with it.

Every error that a user can cause or meet is one of these classes: `cli.main` prints its message (which names
the file, line or key, and what to do) without a traceback and exits with its code. An OSError that nobody
has put into words is told as a StorageError. Anything else is a defect of ours, is shown with its traceback and exits
with `INTERNAL`.

torchrun returns 1 for any non-zero code of a worker, so a scheduler reads the state file in the run directory
instead (see `state_file.py`).
"""

FINISHED = 0
INTERNAL = 70
RESUMABLE = 75
"""Stopped by a signal or a deadline after saving: run the same command again to continue (EX_TEMPFAIL)."""


class TsugikiError(Exception):
    """Base of all errors that carry a message for the user."""

    exit_code = 1


class RecipeError(TsugikiError):
    """The recipe, an override or a command-line argument is wrong."""

    exit_code = 2


class DataError(TsugikiError):
    """A corpus, a document or a token store cannot be used."""

    exit_code = 3


class ModelError(TsugikiError):
    """The model or its tokenizer cannot be used as asked, or preflight found it training wrongly."""

    exit_code = 3


class DivergedError(TsugikiError):
    """Loss or gradient stayed non-finite; the last good checkpoint is kept."""

    exit_code = 4


class LostProcessError(TsugikiError):
    """Another process of the run has ended or does not answer; what it says itself is the cause."""

    exit_code = 6


class StorageError(TsugikiError):
    """A checkpoint or another artefact cannot be written, read or trusted."""

    exit_code = 5
