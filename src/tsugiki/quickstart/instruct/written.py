"""The conversations written for the project, read from the folder `text` beside this file."""

import json
from pathlib import Path

from tsugiki.quickstart.instruct.examples import Example

TEXT = Path(__file__).parent / "text"
HELD_OUT = "held-out"


def written(*, held_out: bool = False) -> list[Example]:
    """The written conversations, those to train on or those held out, in the order of their files."""
    examples = []
    for path in sorted(TEXT.glob("*.jsonl")):
        language, _, kind = path.stem.partition("-")
        if (kind == HELD_OUT) != held_out:
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            messages = json.loads(line)["messages"]
            examples.append(Example(language, kind, tuple((each["role"], each["content"]) for each in messages)))
    return examples
