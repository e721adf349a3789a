"""The sample laid out for a run: files to train on, and those held out, which are asked before and after."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsugiki.files import write_atomically
from tsugiki.quickstart.instruct.examples import Example
from tsugiki.quickstart.instruct.generated import LANGUAGES, generated
from tsugiki.quickstart.instruct.written import written

SEED = 1
GENERATED = 2_400
GENERATED_HELD_OUT = 200


@dataclass(frozen=True)
class Sample:
    """Files of conversations by the name of their source, and what is held out."""

    sources: dict[str, Path]
    """`written-en`, `written-ja`, `generated-en`, `generated-ja`"""
    watched: dict[str, Path]
    """`held-out-en`, `held-out-ja`: what is held out, written and generated, which is measured and never trained on."""
    held_out_written: list[Example]
    held_out_generated: list[Example]


def write_sample(directory: Path) -> Sample:
    """Write the sample as six chat sources into `directory` (a file that is there with the same text stays)."""
    held_out = written(held_out=True), generated(SEED, GENERATED_HELD_OUT, held_out=True)
    sources = _write(directory, "written", written()) | _write(directory, "generated", generated(SEED, GENERATED))
    return Sample(sources, _write(directory, "held-out", [*held_out[0], *held_out[1]]), *held_out)


def _write(directory: Path, name: str, examples: Sequence[Example]) -> dict[str, Path]:
    """A file of each language, by the name of its source."""
    paths = {}
    for language in LANGUAGES:
        records = [example.record() for example in examples if example.language == language]
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        path = paths[f"{name}-{language}"] = directory / f"{name}-{language}.jsonl"
        if not path.exists() or path.read_text(encoding="utf-8") != lines:
            directory.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lines)
    return paths
