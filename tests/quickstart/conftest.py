"""One whole quickstart of a few steps, shared by the tests that look at it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from shorter_strings import SHORTER

from tsugiki.corpus import workers
from tsugiki.corpus.adversarial import STRINGS
from tsugiki.quickstart import run as quickstart
from tsugiki.quickstart.recipes import EMBEDDED
from tsugiki.samples import SETTINGS

TINY = replace(
    EMBEDDED, vocabulary=1024, hidden_size=32, layers=1, heads=2, sequence_length=64, base_steps=12, continued_steps=8,
    without_replay_steps=4, eval_documents=2, added=128,
)  # fmt: skip


class Session:
    """Runs quickstarts in one folder and keeps what they print."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, **options):
        stream = io.StringIO()
        code = quickstart.run_quickstart(self.folder, Console(file=stream, width=120), **options)
        return code, stream.getvalue()


@pytest.fixture(scope="package")
def tiny_plan():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "EMBEDDED", TINY)
        for name, text in SHORTER.items():
            patch.setitem(STRINGS, name, text)
        patch.setitem(SETTINGS, "max_new_tokens", 8)
        patch.setattr(workers, "usable_cores", lambda: 1)  # processes take longer to start than their work
        yield TINY


@pytest.fixture(scope="package")
def session(tiny_plan, tmp_path_factory):
    return Session(tmp_path_factory.mktemp("quickstart") / "run")


@pytest.fixture(scope="package")
def first(session):
    """(exit code, text) of a quickstart from nothing."""
    return session.run()
