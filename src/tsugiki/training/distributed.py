"""Which process this is, and the groups through which processes talk.

The same command works under torchrun, Slurm (`srun`) and Open MPI (`mpirun`): each tells a process its place by
other environment variables, which are read here and nowhere else. Alone, a process is a group of one, so that
there is one path through sharding, clipping and checkpoints.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tsugiki.errors import LostProcessError, RecipeError, StorageError

# (rank, world size, local rank) as each launcher spells them, in order of precedence: torchrun under Slurm sets both.
LAUNCHERS = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "Slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


@dataclass(frozen=True)
class Place:
    """Where this process stands among all."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    launcher: str = "none"


def read_place(environment: Mapping[str, str]) -> Place:
    """This process's place, from the first launcher whose three variables are all set.

    Slurm sets its variables for a plain `sbatch` or `salloc` shell too; only a step with tasks (`srun`, which
    sets SLURM_STEP_ID) counts. Raises RecipeError when a variable is no number or out of range.
    """
    for launcher, names in LAUNCHERS.items():
        if not all(name in environment for name in names):
            continue
        if launcher == "Slurm" and "SLURM_STEP_ID" not in environment:
            continue
        try:
            rank, world, local_rank = (int(environment[name]) for name in names)
        except ValueError:
            values = ", ".join(f"{name}={environment[name]!r}" for name in names)
            raise RecipeError(f"{launcher} variables are not numbers: {values}") from None
        if not 0 <= rank < world:
            raise RecipeError(f"{launcher} says rank {rank} of {world} processes ({names[0]}, {names[1]})")
        return Place(rank, world, local_rank, launcher)
    return Place()


@dataclass(frozen=True)
class Processes:
    """All processes of a run, as seen from this one. `control` and `storage` are gloo groups of their own: a
    checkpoint that is written in the background must never share a group with training (it would hang)."""

    place: Place
    device: torch.device
    control: dist.ProcessGroup
    storage: dist.ProcessGroup

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def world(self) -> int:
        return self.place.world

    @property
    def is_first(self) -> bool:
        return self.place.rank == 0

    def agree(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over all ranks, on the CPU: costs no device synchronisation. In fp64, so that counts (below
        2^53) stay whole."""
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, group=self.control)
        return tensor.tolist()

    def broadcast(self, value: Any) -> Any:
        """`value` of rank 0 on every rank. Plain data only (numbers, text, lists, dicts)."""
        holder = [value]
        dist.broadcast_object_list(holder, src=0, group=self.control)
        return holder[0]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, by rank, on every rank. Plain data only."""
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value, group=self.control)
        return values

    def first_text(self, text: str | None) -> str | None:
        """The text of the first rank that has one, on every rank."""
        return next((text for text in self.gather(text) if text), None)

    @contextlib.contextmanager
    def refusing_together(self) -> Iterator[None]:
        """A StorageError of the block, on whichever rank, is raised on every rank: what one cannot do, none does."""
        refusal = None
        try:
            yield
        except StorageError as error:
            refusal = str(error)
        refusal = self.first_text(refusal)
        if refusal is not None:
            raise StorageError(refusal)


def start_processes(timeout_minutes: float = 30.0) -> Processes:
    """Join the other processes and choose this one's device. Raises RecipeError when the launch is incomplete,
    LostProcessError when the others do not come."""
    place = read_place(os.environ)
    cuda = torch.cuda.is_available()
    if cuda and place.local_rank >= torch.cuda.device_count():
        raise RecipeError(
            f"local rank {place.local_rank} has no GPU of its own ({torch.cuda.device_count()} visible): "
            "start at most one process per GPU, or make all GPUs visible to each process"
        )
    device = torch.device("cuda", place.local_rank) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    timeout = timedelta(minutes=timeout_minutes)
    with others_alive(timeout_minutes):
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            if place.world == 1 and place.launcher != "torchrun":
                dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
            else:
                _name_meeting_point(place)
                dist.init_process_group(backend, rank=place.rank, world_size=place.world, timeout=timeout)
        control = dist.new_group(backend="gloo", timeout=timeout)
        storage = dist.new_group(backend="gloo", timeout=timeout)
    return Processes(place, device, control, storage)


@contextlib.contextmanager
def others_alive(timeout_minutes: float) -> Iterator[None]:
    """Raise LostProcessError in place of what torch says when another process has ended, or is silent for too long."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        silent = "timed out" in str(error).lower()
        what = f"has not answered for {timeout_minutes:g} minutes (parallel.timeout_minutes)" if silent else "has ended"
        raise LostProcessError(
            f"another process of this run {what}: its own output says why. The last checkpoint stands; the same "
            "command goes on from there"
        ) from error


def stop_processes() -> None:
    """Leave the group; safe to call when none was joined."""
    if dist.is_initialized():
        dist.destroy_process_group()


def _name_meeting_point(place: Place) -> None:
    """MASTER_ADDR and MASTER_PORT, which torchrun sets and the others may not."""
    if "MASTER_ADDR" not in os.environ:
        address = _first_slurm_host(os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", ""))
        if place.launcher == "Slurm" and address:
            os.environ["MASTER_ADDR"] = address
        elif place.world > 1 and _one_machine(place):
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        else:
            raise RecipeError(
                f"{place.launcher} started {place.world} processes but MASTER_ADDR is not set: "
                "export MASTER_ADDR=<host of rank 0> (and MASTER_PORT) before the launch"
            )
    # A port per job, so that two jobs on one host do not meet; the same on every rank of a job.
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PMIX_NAMESPACE") or ""
    digits = "".join(character for character in job if character.isdigit()) or "0"
    os.environ.setdefault("MASTER_PORT", str(29500 + int(digits) % 1000))


def _one_machine(place: Place) -> bool:
    local = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") or os.environ.get("SLURM_NTASKS_PER_NODE")
    return local is not None and local.isdigit() and int(local) == place.world


def _first_slurm_host(nodes: str) -> str:
    """The first host of a Slurm node list such as `gpu[003-006,009],login1`."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return head.split(",")[0]
    return head + rest.split("]")[0].split(",")[0].split("-")[0]
