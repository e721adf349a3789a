"""Two models without parameters, to say what a figure in bits per byte means.

A language model worth the name predicts held-out text better than a general compressor that has seen the same
training text, and far better than letter frequencies. Both yardsticks work on UTF-8 bytes, so they compare with any
tokenizer.
"""

import lzma
from concurrent.futures import ThreadPoolExecutor

import numpy as np

WINDOW_BYTES = 64 << 20
"""How far back `xz -9` looks: training text farther from the end than this does not help it."""


def xz_bits_per_byte(training: bytes, held_out: bytes) -> float:
    """What `xz -9e` adds for the held-out text after the training text, in bits per byte of held-out text.

    The size of both together minus the size of the training text alone, so that container and learning are not
    charged to the held-out text. It takes a second or two a megabyte and up to 1.4 GB of memory; of a training
    text over `WINDOW_BYTES` give the last part. Raises ValueError without held-out text.
    """
    if not held_out:
        raise ValueError("there is no held-out text to measure on")
    with ThreadPoolExecutor(2) as pool:  # lzma runs outside the interpreter's lock
        alone, together = pool.map(_xz_size, (training, training + held_out))
    return 8 * (together - alone) / len(held_out)


def unigram_bits_per_byte(training: bytes, held_out: bytes) -> float:
    """Cross-entropy of the held-out bytes under the training text's byte frequencies, in bits per byte.

    Each of the 256 byte values is counted once more than it occurs (Laplace), so none is impossible. Raises
    ValueError without held-out text.
    """
    if not held_out:
        raise ValueError("there is no held-out text to measure on")
    seen = np.bincount(np.frombuffer(training, dtype=np.uint8), minlength=256) + 1
    scored = np.bincount(np.frombuffer(held_out, dtype=np.uint8), minlength=256)
    return float(-(scored * np.log2(seen / seen.sum())).sum() / len(held_out))


def _xz_size(text: bytes) -> int:
    return len(lzma.compress(text, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME))
