"""Every launcher's environment gives the same place."""

import pytest

from tsugiki.errors import RecipeError
from tsugiki.training.distributed import Place, _first_slurm_host, read_place


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place(0, 1, 0, "none")),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(3, 8, 1, "torchrun")),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "16", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"}, Place(5, 16, 1, "Slurm")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "16", "SLURM_LOCALID": "0"}, Place(0, 1, 0, "none")),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "2"},
            Place(2, 4, 2, "Open MPI"),
        ),
        (
            {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1",
             "SLURM_LOCALID": "0", "SLURM_STEP_ID": "0"},
            Place(1, 2, 1, "torchrun"),
        ),
    ],
)  # fmt: skip
def test_place_is_read_from_each_launcher(environment, place):
    assert read_place(environment) == place


@pytest.mark.parametrize("rank", ["8", "-1", "one"])
def test_a_place_that_cannot_be_is_refused(rank):
    with pytest.raises(RecipeError):
        read_place({"RANK": rank, "WORLD_SIZE": "8", "LOCAL_RANK": "0"})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu[003-006,009],login1", "gpu003"),
        ("node7", "node7"),
        ("a1,b2", "a1"),
        ("a1,b[2-3]", "a1"),
        ("x[12]", "x12"),
        ("", ""),
    ],
)
def test_first_host_of_a_slurm_node_list(nodes, first):
    assert _first_slurm_host(nodes) == first
