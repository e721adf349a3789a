"""Inputs that are wrong, made from good ones: files cut, flipped and overwritten, and the values inside them replaced.

All of it follows from the random generator given, so that a case is known by its seed.
"""

import copy
import json
import math
from collections.abc import Callable
from random import Random
from typing import Any

HUGE = ["9" * 30, 2**31, 2**63, 2**64, 10**18, 1e300, -1, -(2**63), 0, 0.5, -0.0]
WORDS = [
    "", " ", "\n", "\0", "\x1b[2J\x1b]0;x\x07", "\u202e", "\ufeff", "\ud800", "é" * 300, "../../etc/passwd", "/",
    "/dev/zero", "~nobody/x", "C:\\x", "a\nb", "{{ 7 * 7 }}", "<script>", "nan", "None", "null", "true", "１２", "ｍａｘ",
]  # fmt: skip
LOOK_ALIKES = {"a": "а", "e": "е", "o": "о", "i": "і", "_": "＿", "c": "с", "p": "р", "s": "ѕ"}
BOMS = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0"]
NOISE = [
    b"", b"\0", b"\0" * 64, b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x1b[31m", b"\r", b"\n", b"\t", b"[" * 200, b"{" * 200,
    b'"', b"\\", b"NaN", b"1e999", b"9" * 5000, b",", b":", b"PK\x03\x04", b"\x1f\x8b", b"\x28\xb5\x2f\xfd",
]  # fmt: skip


def refusal(use: Callable[[Any], Any], what: Any, kind: type[Exception], seed: int) -> str | None:
    """The one message of a reader that refuses `what` with an error of a kind; None where it takes it. Any other error
    fails the test and names the seed."""
    try:
        use(what)
    except kind as error:
        return str(error)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error!r}") from error
    return None


def damaged(rng: Random, content: bytes) -> bytes:
    """A file's bytes after one accident or a few."""
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        content = rng.choice(ACCIDENTS)(rng, content)
    return content


def _cut(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _behead(rng: Random, content: bytes) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def _flip(rng: Random, content: bytes) -> bytes:
    flipped = bytearray(content)
    for _ in range(rng.choice([1, 1, 8]) if content else 0):
        flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def _insert(rng: Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(NOISE) + content[at:]


def _overwrite(rng: Random, content: bytes) -> bytes:
    at, noise = rng.randrange(len(content) + 1), rng.choice(NOISE)
    return content[:at] + noise + content[at + len(noise) :]


def _number(rng: Random, content: bytes) -> bytes:
    """Eight bytes where a binary header may keep a length."""
    at = rng.randrange(min(len(content), 64) + 1)
    value = rng.choice([0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1, rng.getrandbits(64)])
    return content[:at] + value.to_bytes(8, "little") + content[at + 8 :]


def _twice(rng: Random, content: bytes) -> bytes:
    at = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[: at[1]] + content[at[0] :]


def _encode_otherwise(rng: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", errors="replace")
    return text.encode(rng.choice(["utf-16", "utf-32", "cp932", "latin-1", "utf-7"]), errors="replace")


def _mark(rng: Random, content: bytes) -> bytes:
    return rng.choice(BOMS) + content


def _replace_all(rng: Random, content: bytes) -> bytes:
    return rng.choice([b"", b"\0" * 100, b"null", b"[]", b"{}", b'"x"', b"0", rng.randbytes(64), b"<!DOCTYPE html>"])


def _line_ends(rng: Random, content: bytes) -> bytes:
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\n", b"", b"\xe2\x80\xa8"]))


ACCIDENTS = [
    _cut, _behead, _flip, _flip, _insert, _overwrite, _number, _twice, _encode_otherwise, _mark, _replace_all, _line_ends,
]  # fmt: skip


def strange_value(rng: Random, depth: int = 0) -> Any:
    """Anything that JSON can hold, the sizes and letters that break programs first."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return rng.choice([None, True, False])
    if kind in (1, 2):
        return rng.choice([*HUGE, rng.randrange(-3, 300), rng.uniform(-3, 3)])
    if kind == 3:
        return rng.choice([math.nan, math.inf, -math.inf, 10**400])
    if kind in (4, 5):
        return rng.choice(WORDS)
    if kind in (6, 7):
        return [strange_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice([*WORDS, "a", "b"]): strange_value(rng, depth + 1) for _ in range(rng.randrange(4))}


def misspelt(rng: Random, word: str) -> str:
    """A word with one letter wrong, lost, doubled or of another alphabet."""
    if not word:
        return "x"
    at = rng.randrange(len(word))
    letter = rng.choice(["", word[at] * 2, "x", word[at].swapcase(), LOOK_ALIKES.get(word[at], "-"), word[at] + " "])
    return word[:at] + letter + word[at + 1 :]


def damaged_tree(rng: Random, tree: Any) -> Any:
    """A tree of JSON values after one change or a few: types, keys, sizes."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if not _is_filled(tree) or rng.random() < 0.02:
            return strange_value(rng)
        node = tree
        while True:  # by levels, so that a long vocabulary does not take nearly every change
            key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
            if not _is_filled(node[key]) or rng.random() < 0.3:
                break
            node = node[key]
        _change(rng, node, key)
    return tree


def _is_filled(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def _change(rng: Random, node: Any, last: Any) -> None:
    value = node[last]
    action = rng.randrange(8)
    if action == 0:
        del node[last]
    elif action == 1 and isinstance(node, dict):
        node[misspelt(rng, last)] = node.pop(last)
    elif action == 2:
        node[last] = [value]
    elif action == 3:
        node[last] = str(value)
    elif action == 4 and isinstance(value, int | float):
        node[last] = rng.choice([-value, value * 10**9, value + 1, value - 1, str(value), bool(value)])
    elif action == 5 and isinstance(value, list | dict):
        node[last] = type(value)()
    elif action == 6 and isinstance(node, dict):
        node[rng.choice([*WORDS, "extra"])] = strange_value(rng)
    elif action == 6 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), copy.deepcopy(value) if rng.random() < 0.5 else strange_value(rng))
    else:
        node[last] = strange_value(rng)


def damaged_json(rng: Random, content: bytes) -> bytes:
    """A JSON file that is damaged as a file or in its values."""
    if rng.random() < 0.4:
        return damaged(rng, content)
    text = json.dumps(
        damaged_tree(rng, json.loads(content)), ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 1])
    )
    return text.encode("utf-8", errors="surrogatepass")


def damaged_lines(rng: Random, content: bytes) -> bytes:
    """A file of JSON Lines, one of whose lines is damaged."""
    lines = content.split(b"\n")
    at = rng.randrange(max(1, len(lines) - 1))
    if rng.random() < 0.3 or not lines[at].strip():
        return damaged(rng, content)
    lines[at] = damaged_json(rng, lines[at])
    return b"\n".join(lines)
