"""Parts that go wrong, in a module that an executor's processes can import."""

import os
import signal
import time
from pathlib import Path

from tsugiki.corpus.inputs import Deal


def killed(folder: Path, victim: int, deal: Deal) -> None:
    """One part's process dies as where memory ends; the others leave a file."""
    if deal.number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / f"made {deal.number}").touch()


def divides(folder: Path, deal: Deal) -> None:
    """An error that nobody foresaw, of the first part; the others write for a minute, if they are let."""
    if deal.number == 0:
        while deal.of > 1 and not list(folder.glob("beat *")):
            time.sleep(0.01)
        deal.number / 0
    for beat in range(600):
        (folder / f"beat {beat}").touch()
        time.sleep(0.1)
