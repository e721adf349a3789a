"""Which of the logged steps the model went through."""

from collections.abc import Sequence

from tsugiki.metrics_file import StepLine


def last_attempt(lines: Sequence[StepLine]) -> list[StepLine]:
    """Without those that were taken again: where a run went back, the later ones stay."""
    kept: list[StepLine] = []
    for line in lines:
        while kept and kept[-1]["step"] >= line["step"]:
            kept.pop()
        kept.append(line)
    return kept
