"""Memory of a CPU that trains: what one step frees stays with the process for the next.

glibc gives each large tensor pages of its own and hands them back when it is freed. Gradients are made and freed by
every step, so that the kernel would clear all their pages for every step anew: with 30 M parameters and a vocabulary of
42,880, 120,000 page faults a step, and a tenth of its CPU time or more.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of <malloc.h>
_NEVER = -1


def keep_freed_memory() -> None:
    """Let malloc keep what is freed from here on, for good; the peak grows by some percent (tensors of unlike size
    leave gaps). Nothing happens where the C library has no such setting."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
