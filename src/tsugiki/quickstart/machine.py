"""What this machine is fast at, measured: how many threads, and which number format.

On quiet cores two threads are nearly twice as fast as one. Where something else keeps a core busy, each of the
thousand small operations of a step waits for the thread that has been put aside, and two threads were measured up to
ten times slower than one. One and two round differently: in hundreds of steps of so small a model at so high a rate,
that makes a few hundredths of a bit per byte. With the same number every figure repeats.

On CPUs with instructions for bf16 a small model trains two to three times as fast in `fp32-master` as in `fp32`; on
CPUs without them, hundreds of times slower.
"""

import statistics
import time
from typing import Any

WORTH = 1.25
"""How many times faster more threads must be to be used."""
ROUNDS = range(3, 12)
"""At least and at most so many; no new one is begun after `SECONDS`."""
SECONDS = 0.5
WORTH_BF16 = 1.5
"""How many times faster bf16 products must be: what is not a product gains nothing, and casts cost a little."""


def choose_threads() -> int:
    """Set torch's threads to one, or to all it would use where that is clearly faster; returns the number."""
    import torch

    most = torch.get_num_threads()
    if most == 1:
        return 1
    pieces = torch.randn(2048, 128), torch.randn(128, 384)
    times: dict[int, list[float]] = {1: [], most: []}
    begin = time.perf_counter()
    while len(times[1]) < ROUNDS.start or (len(times[1]) < ROUNDS.stop and time.perf_counter() - begin < SECONDS):
        for threads in times:  # turn by turn, so that both meet the same weather
            torch.set_num_threads(threads)
            times[threads].append(_time(*pieces))
    chosen = most if statistics.median(times[1]) >= WORTH * statistics.median(times[most]) else 1
    torch.set_num_threads(chosen)
    return chosen


def choose_precision() -> str:
    """`fp32-master` (products in bf16) where a GPU does the work or this CPU multiplies bf16 clearly faster, else
    `fp32`."""
    import torch

    from tsugiki.model.matmul_speed import matmul_seconds

    if torch.cuda.is_available():
        return "fp32-master"
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(ROUNDS.start):
        for kind in best:  # turn by turn, as above
            best[kind] = min(best[kind], matmul_seconds(kind))
    return "fp32-master" if best[torch.float32] >= WORTH_BF16 * best[torch.bfloat16] else "fp32"


def _time(left: Any, right: Any) -> float:
    """Seconds of a few products and element-wise operations, small as those of a step."""
    begin = time.perf_counter()
    for _ in range(4):
        (left @ right).relu_()
    return time.perf_counter() - begin
