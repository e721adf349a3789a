"""From tensors on a device to files on the disk: the copy that training may not touch, and the shard files.

torch's Hugging Face writer plans who writes what; two of its parts are replaced here. Staging copies in a thread while
the next step computes its gradients, which only reads the weights. It keeps its buffers from save to save (fresh memory
costs a page fault for every 4 KiB, which takes longer than the copy) and pins them where a GPU can use that; it also
copies 0-dimensional DTensors, which torch 2.13 leaves shared with training. Writing streams a safetensors file from the
buffers and hashes it on the way (torch makes two whole copies of the file in memory first), then reads it back: what
the manifest vouches for has been on the disk and back.
"""

import json
import os
from concurrent import futures
from pathlib import Path
from typing import Any, cast

import torch
import xxhash
from torch.distributed.checkpoint import HuggingFaceStorageWriter, SavePlan, SavePlanner
from torch.distributed.checkpoint.planner import WriteItem, WriteItemType
from torch.distributed.checkpoint.staging import AsyncStager
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, fsync_directory, write_atomically, xxh3_file
from tsugiki.model.shard import local
from tsugiki.training.distributed import Processes

FILE_BYTES = 2 << 30
"""A rank's shard is cut into files of about this size, so that ranks can share the work of verifying them."""

_BLOCK = 16 << 20
_SAFETENSORS_TYPE = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}  # fmt: skip


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def describe_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """dtype and full (unsharded) shape by name, as the manifest has it."""
    return {name: {"dtype": dtype_name(t.dtype), "shape": list(t.shape)} for name, t in sorted(tensors.items())}


class Stager(AsyncStager):
    """Copies tensors to buffers on the CPU in the background: they may change once `synchronize_staging`
    has returned."""

    _synchronize_after_execute = False

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._buffers: dict[str, torch.Tensor] = {}
        self._thread = futures.ThreadPoolExecutor(1, "checkpoint-copy")
        self._copying: futures.Future[dict[str, torch.Tensor]] | None = None

    def stage(self, state_dict: dict[str, Any]) -> futures.Future[dict[str, torch.Tensor]]:
        """Begin to copy; the future holds the copy. Raises StorageError on every rank if one has no memory for it."""
        with self._processes.refusing_together():  # none starts a save that the others do not join
            try:
                self._make_buffers(state_dict)
            except (RuntimeError, MemoryError) as error:
                self._buffers = {}
                reason = str(error).splitlines()[0]
                raise StorageError(f"not enough host memory to copy the tensors of a checkpoint ({reason})") from error
        ready = torch.cuda.current_stream().record_event() if _any_cuda(state_dict) else None
        self._copying = self._thread.submit(self._copy, state_dict, ready)
        return self._copying

    def synchronize_staging(self) -> None:
        """Block until the tensors given to `stage` may be changed; at once where nothing is being copied."""
        if self._copying is not None:
            futures.wait([self._copying])  # a failure is told by the save, which waits for the same future
            self._copying = None

    def close(self) -> None:
        """Give the buffers and the thread back."""
        self.synchronize_staging()
        self._thread.shutdown()
        self._buffers = {}

    @torch.no_grad()
    def _make_buffers(self, tensors: dict[str, torch.Tensor]) -> None:
        for name in self._buffers.keys() - tensors.keys():
            del self._buffers[name]
        pin = _worth_pinning(tensors)
        for name, tensor in tensors.items():
            buffer = self._buffers.get(name)
            if buffer is None or not _alike(buffer, tensor):
                self._buffers[name] = _twin(tensor, pin)

    @torch.no_grad()
    def _copy(self, tensors: dict[str, torch.Tensor], ready: Any) -> dict[str, torch.Tensor]:
        """The copy; from a GPU in a stream of its own, after what the event `ready` stands for (the last update)."""
        stream = torch.cuda.Stream(ready.device) if ready is not None else None  # a thread begins on device 0
        with torch.cuda.stream(stream):
            if stream is not None:
                stream.wait_event(ready)
            for name, tensor in tensors.items():
                local(self._buffers[name]).copy_(local(tensor), non_blocking=True)
            if stream is not None:
                stream.synchronize()
        return dict(self._buffers)


def _any_cuda(tensors: dict[str, torch.Tensor]) -> bool:
    return any(tensor.is_cuda for tensor in tensors.values())


def _alike(buffer: torch.Tensor, tensor: torch.Tensor) -> bool:
    if isinstance(buffer, DTensor) != isinstance(tensor, DTensor):
        return False
    if isinstance(tensor, DTensor) and isinstance(buffer, DTensor):
        same = (buffer.placements, buffer.device_mesh) == (tensor.placements, tensor.device_mesh)
        return same and buffer.shape == tensor.shape and buffer.dtype == tensor.dtype
    return buffer.shape == tensor.shape and buffer.dtype == tensor.dtype


def _twin(tensor: torch.Tensor, pin: bool) -> torch.Tensor:
    """A tensor of the same kind (a DTensor keeps its mesh and placement) whose memory is on the CPU and its own."""
    mine = local(tensor)
    memory = torch.empty(mine.shape, dtype=mine.dtype, pin_memory=pin and mine.numel() > 0)
    if not isinstance(tensor, DTensor):
        return memory
    # The public constructor moves a shard to the mesh's device; torch's own staging sets this attribute too.
    twin: Any = tensor.detach() if mine.device.type == "cpu" else tensor.detach().to("cpu")
    twin._local_tensor = memory
    return twin


def _worth_pinning(tensors: dict[str, torch.Tensor]) -> bool:
    """Page-locked memory makes copies from a GPU several times faster, but is taken from everybody for good: only
    where all GPUs of this machine together ask for less than a quarter of its memory."""
    if not _any_cuda(tensors):
        return False
    mine = sum(local(tensor).nbytes for tensor in tensors.values())
    return mine * torch.cuda.device_count() < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 4


class ShardWriter(HuggingFaceStorageWriter):
    """Writes this rank's share into `path` and remembers what it wrote.

    `written`: {file: {"size", "xxh3"}}; `elements`: how many elements of each tensor are in those files.
    `extra_files` (name to bytes) are written along, by the rank that is given them.
    """

    def __init__(self, path: Path, rank: int, extra_files: dict[str, bytes] | None = None) -> None:
        super().__init__(str(path), save_distributed=True, enable_consolidation=False)
        self._directory = path
        self._rank_of_files = rank
        self._extra_files = extra_files or {}
        self.written: dict[str, dict[str, Any]] = {}
        self.elements: dict[str, int] = {}

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write, flush, read back. Raises StorageError naming the file and what the system refused."""
        for name, content in self._extra_files.items():
            write_atomically(self._directory / name, content)
            self._vouch(name, len(content), xxhash.xxh3_128(content).hexdigest())
        results = []
        for index, items in enumerate(_cut_into_files(plan.items), start=1):
            name = f"shard-{self._rank_of_files:05d}-{index:05d}.safetensors"
            path = self._directory / name
            try:
                size, digest = _write_safetensors(path, items, planner)
            except OSError as error:
                raise StorageError(explain_os_error(error, path)) from error
            self._vouch(name, size, digest)
            for item in items:
                count = item.tensor_data.chunk.sizes.numel() if item.tensor_data else 0
                self.elements[item.index.fqn] = self.elements.get(item.index.fqn, 0) + count
                results.append(WriteResult(index=item.index, size_in_bytes=count, storage_data=name))
        try:
            fsync_directory(self._directory)
        except OSError as error:
            raise StorageError(explain_os_error(error, self._directory)) from error
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def _vouch(self, name: str, size: int, digest: str) -> None:
        path = self._directory / name
        try:
            found = xxh3_file(path)
        except OSError as error:
            raise StorageError(explain_os_error(error, path, "read back")) from error
        if found != digest:
            raise StorageError(f"{path} holds other bytes than were written to it: the disk or its driver is failing")
        self.written[name] = {"size": size, "xxh3": digest}


def _cut_into_files(items: list[WriteItem]) -> list[list[WriteItem]]:
    """The items in groups of about FILE_BYTES. Empty shards (fewer rows than ranks) are left out."""
    files: list[list[WriteItem]] = []
    room = 0
    for item in items:
        if item.type == WriteItemType.BYTE_IO or item.tensor_data is None:
            raise TypeError(f"{item.index.fqn} is not a tensor")
        size = item.tensor_data.chunk.sizes.numel() * item.tensor_data.properties.dtype.itemsize
        if size == 0 and item.tensor_data.size.numel() > 0:
            continue
        if not files or size > room:
            files.append([])
            room = FILE_BYTES
        files[-1].append(item)
        room -= size
    return files


def _write_safetensors(path: Path, items: list[WriteItem], planner: SavePlanner) -> tuple[int, str]:
    """Write one file in the layout that torch's Hugging Face reader expects; returns its size and digest.

    Format: https://huggingface.co/docs/safetensors#format; the offset of each shard in its whole tensor stands in
    the metadata. Wide types come first, so that every tensor starts aligned.
    """
    chunks: list[tuple[str, torch.Tensor, list[int]]] = []  # name, shard, its offsets in the whole tensor
    for item in items:
        assert item.tensor_data is not None
        shard = planner.resolve_data(item)
        assert isinstance(shard, torch.Tensor)
        chunks.append((item.index.fqn, shard.detach().contiguous(), list(item.tensor_data.chunk.offsets)))
    chunks.sort(key=lambda chunk: (-chunk[1].dtype.itemsize, chunk[0]))
    header: dict[str, Any] = {
        "__metadata__": {
            "format": "pt",
            "DCP_VERSION": "1.0",
            "DCP_SHARDING_INFO": json.dumps({name: {"saved_offsets": offsets} for name, _, offsets in chunks}),
        }
    }
    end = 0
    for name, shard, _ in chunks:
        start, end = end, end + shard.nbytes
        header[name] = {
            "dtype": _SAFETENSORS_TYPE[shard.dtype], "shape": list(shard.shape), "data_offsets": [start, end],
        }  # fmt: skip
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    digest = xxhash.xxh3_128()
    size = 0
    with path.open("xb", buffering=0) as file:
        head = len(text).to_bytes(8, "little") + text
        for data in [head, *(shard.reshape(-1).view(torch.uint8).numpy() for _, shard, _ in chunks)]:
            view = memoryview(cast(bytes, data))  # or a NumPy array: anything with a buffer
            while view:
                block = view[:_BLOCK]
                done = file.write(block)  # may be short, on a disk that fills up
                digest.update(block[:done])
                view, size = view[done:], size + (done or 0)
        os.fsync(file.fileno())
    return size, digest.hexdigest()
