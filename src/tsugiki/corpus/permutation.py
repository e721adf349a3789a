"""A shuffle that needs no array: the place of an item in a shuffled order, computed from a key.

`permute(key, size, position)` is a bijection of 0 … size-1 for every key, in constant memory, so that any part of
an epoch's order is known without the rest (10 billion windows shuffled as an array would take 80 GB).

It is a balanced Feistel network: the position is cut into two halves of `half` bits, and each round replaces
(left, right) by (right, left XOR f(right, round key)). Whatever f is, a round can be undone, so the network is a
bijection of 4**half numbers, the smallest such power that is not below `size`. A result outside 0 … size-1 is put
in again until one inside comes out (cycle walking, Black & Rogaway 2002), which keeps it a bijection; four
passes are needed on average at most. Round keys are outputs of splitmix64 (Steele, Lea & Flood 2014), and f is the
same kind of mixing, shortened: two multiplications, each carrying low bits upwards, a shift between them that brings
high bits down, and the topmost bits as the result. The aim is a good shuffle, not secrecy.

The result is part of the data order: it changes only together with `mixture.RULE_VERSION`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 8
MAX_SIZE = 1 << 52  # below, sizes are exact in float64, which finds their bit length without a loop

_GAMMA = np.uint64(0x9E3779B97F4A7C15)  # odd, near 2**64 / golden ratio: splitmix64's step
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_ONE, _S27, _S30, _S31, _S32, _S64 = (np.uint64(n) for n in (1, 27, 30, 31, 32, 64))


def mix(state: NDArray[np.uint64], index: ArrayLike) -> NDArray[np.uint64]:
    """The `index`-th output of splitmix64 started at `state`, element by element (uint64 arrays).

    For one state, different indices give different outputs: the step is odd and the output function a bijection.
    """
    x = state + (np.asarray(index, dtype=np.uint64) + _ONE) * _GAMMA
    x ^= x >> _S30
    x *= _MULTIPLIER_1
    x ^= x >> _S27
    x *= _MULTIPLIER_2
    x ^= x >> _S31
    return x


def permute(key: ArrayLike, size: ArrayLike, position: ArrayLike) -> NDArray[np.int64]:
    """Where the shuffle `key` of 0 … size-1 sends `position`.

    Args:
        key: unsigned 64-bit number or array of them; equal keys and sizes give the same shuffle.
        size: number of items, 1 … 2**52, one or one for each position.
        position: integers [n] in 0 … size-1.

    Returns an int64 array [n] of numbers in 0 … size-1. Raises ValueError for a position or size out of range.
    """
    position = np.atleast_1d(np.asarray(position, dtype=np.int64))
    sizes = np.broadcast_to(np.asarray(size, dtype=np.int64), position.shape)
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), position.shape)
    if position.size == 0:
        return position.copy()
    if sizes.min() < 1 or sizes.max() > MAX_SIZE:
        raise ValueError(f"sizes must be in 1 … {MAX_SIZE}, not {sizes.min()} … {sizes.max()}")
    if position.min() < 0 or (position >= sizes).any():
        raise ValueError("positions must be in 0 … size-1")

    # The exponent of size-1 is its number of bits; half of it, rounded up, and at least 1.
    bits = np.frexp((sizes - 1).astype(np.float64))[1]
    half = np.maximum((bits + 1) // 2, 1).astype(np.uint64)
    round_keys = mix(keys[None, :], np.arange(ROUNDS)[:, None])  # [ROUNDS, n]

    limit = sizes.astype(np.uint64)
    result = _network(position.astype(np.uint64), half, round_keys)
    outside = np.flatnonzero(result >= limit)
    while outside.size:  # each pass leaves fewer: at least a quarter of the network's numbers are inside
        walked = _network(result[outside], half[outside], round_keys[:, outside])
        result[outside] = walked
        outside = outside[walked >= limit[outside]]
    return result.astype(np.int64)


def _network(x: NDArray[np.uint64], half: NDArray[np.uint64], round_keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """All rounds for numbers x [n] below 4**half; round_keys [ROUNDS, n]."""
    top = _S64 - half
    left, right = x >> half, x & ((_ONE << half) - _ONE)
    for key in round_keys:
        mixed = right + key
        mixed *= _MULTIPLIER_1
        mixed ^= mixed >> _S32
        mixed *= _MULTIPLIER_2
        mixed >>= top
        mixed ^= left
        left, right = right, mixed
    return (left << half) | right
