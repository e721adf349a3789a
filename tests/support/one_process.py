"""The process group that sharded models need, in a test that has one process. Imported by a conftest, it holds there."""

from collections.abc import Iterator

import pytest
import torch.distributed as dist

from tsugiki.model.shard import make_mesh


@pytest.fixture(scope="session", autouse=True)
def one_process_group() -> Iterator[None]:
    """The group of one that `make_mesh` makes where there is none; left as found."""
    was_initialised = dist.is_initialized()
    make_mesh("full")
    yield
    if not was_initialised and dist.is_initialized():
        dist.destroy_process_group()
