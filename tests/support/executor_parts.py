"""Parts that go wrong, in a module that an executor's processes can import."""

import os
import signal
from pathlib import Path

from tsugiki.corpus.inputs import Deal


def killed(folder: Path, victim: int, deal: Deal) -> None:
    """One part's process dies as where memory ends; the others leave a file."""
    if deal.number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"made {deal.number}").touch()


def divides(deal: Deal) -> None:
    """An error that nobody foresaw."""
    deal.number / 0
