"""The process group of a test that has one process. Imported by a conftest, a fixture holds there."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from tsugiki.model.shard import make_mesh
from tsugiki.training.distributed import Processes, start_processes, stop_processes


@pytest.fixture(scope="session", autouse=True)
def one_process_group() -> Iterator[None]:
    """The group of one that `make_mesh` makes where there is none; left as found."""
    was_initialised = dist.is_initialized()
    make_mesh("full")
    yield
    if not was_initialised and dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    """The one process of this test; left as found."""
    was_joined = dist.is_initialized()
    yield start_processes()
    if not was_joined:
        stop_processes()
