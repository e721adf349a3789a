"""Data for the tests of evaluation: the real sets where they are on this machine, and made-up ones of their formats."""

import os
from pathlib import Path

import pytest
from evaluation_data import write_official_data


@pytest.fixture(scope="session")
def evaldata() -> Path:
    """The folder of real evaluation sets: TSUGIKI_EVALDATA, or shared/evaldata beside the checkout. Skips without."""
    named = os.environ.get("TSUGIKI_EVALDATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared/evaldata"
    if not folder.is_dir():
        pytest.skip(f"no evaluation data in {folder} (set TSUGIKI_EVALDATA)")
    return folder


@pytest.fixture(scope="session")
def official_data(tmp_path_factory) -> Path:
    """A folder with made-up files of every set in its official format. Shared: write nothing into it."""
    folder = tmp_path_factory.mktemp("official")
    write_official_data(folder)
    return folder
