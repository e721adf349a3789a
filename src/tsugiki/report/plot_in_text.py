"""A curve in letters: Braille patterns, eight dots a letter, or stars where a terminal has only ASCII."""

from collections.abc import Sequence

from tsugiki.pages.axes import write_ticks
from tsugiki.pages.buckets import thin

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a Braille letter by column and row (Unicode, block Braille Patterns)."""


def plot(points: Sequence[tuple[float, float]], width: int, rows: int, ascii_only: bool = False) -> str:
    """`rows` lines of at most `width` letters, the largest value above and the smallest below, and a line of steps."""
    low, high = min(y for _, y in points), max(y for _, y in points)
    labels = write_ticks([low, high]) if high - low > 1e-3 * abs(high) else [f"{low:.6g}", f"{high:.6g}"]
    labels = [f"{float(label.replace(',', '')):.4g}" if len(label) > 8 else label for label in labels]
    margin = max(map(len, labels)) + 1
    columns = max(width - margin - 1, 8)
    across, down = (1, 1) if ascii_only else (2, 4)
    grid = [[0] * columns for _ in range(rows)]
    buckets = [
        b for b in thin([([x for x, _ in points], [y for _, y in points])], most=columns * across)[0] if b is not None
    ]
    first, last = points[0][0], points[-1][0]
    tall, wide = rows * down - 1, columns * across - 1
    previous: tuple[int, int] | None = None
    for bucket in buckets:
        if bucket.low is None or bucket.high is None:
            previous = None
            continue
        place = round((bucket.middle - first) / (last - first) * wide) if last > first else 0
        heights = [bucket.low, bucket.high] if bucket.low_first else [bucket.high, bucket.low]
        for value in heights:
            dot = (place, round((value - low) / (high - low) * tall) if high > low else tall // 2)
            for x, y in _between(previous or dot, dot):
                row, column = rows - 1 - y // down, x // across
                grid[row][column] |= 1 if ascii_only else DOTS[x % 2][3 - y % 4]
            previous = dot
    letters = [
        ["*" if cell else " " for cell in row] if ascii_only else [chr(0x2800 + cell) for cell in row] for row in grid
    ]
    names = [labels[1], *[""] * (rows - 2), labels[0]]
    lines = [f"{name:>{margin}} {''.join(row)}" for name, row in zip(names, letters, strict=True)]
    steps = f"{first:,.0f}", f"{last:,.0f}"
    return "\n".join([*lines, " " * (margin + 1) + steps[0] + steps[1].rjust(columns - len(steps[0]))])


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots of a straight line, `end` included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * n / steps), round(start[1] + (end[1] - start[1]) * n / steps))
        for n in range(steps + 1)
    ]
