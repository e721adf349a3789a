"""What one rank does for all: fallible work on rank 0, so that no other rank waits for one that failed."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from tsugiki.errors import TsugikiError

Answer = TypeVar("Answer")


def on_first_rank(work: Callable[[], Answer], group: dist.ProcessGroup | None = None) -> Answer:
    """What `work` returns on rank 0, on every rank; its error, too. Collective, over `group` (None: the default one).

    The answer is plain data (numbers, text, lists, dicts). Of an error that is none of ours, the other ranks learn as
    a TsugikiError that names it.
    """
    answer: Any = None
    error: tuple[type[TsugikiError], str] | None = None
    if dist.get_rank() == 0:
        try:
            answer = work()
        except TsugikiError as ours:
            error = (type(ours), str(ours))
        except BaseException as other:
            dist.broadcast_object_list([None, (TsugikiError, f"rank 0 failed: {other!r}")], src=0, group=group)
            raise
    told = [answer, error]
    dist.broadcast_object_list(told, src=0, group=group)
    answer, error = told
    if error is not None:
        kind, text = error
        raise kind(text)
    return answer
