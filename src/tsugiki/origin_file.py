"""`<run_dir>/model/source.json`: where a run's model and tokenizer came from, with the commits that later starts take
again."""

from pathlib import Path

from typing_extensions import TypedDict

from tsugiki.files import read_json

SOURCE = "source.json"


class Origin(TypedDict):
    """Of model or tokenizer."""

    name: str
    revision: str | None
    commit: str | None


def read_origins(run_dir: Path) -> dict[str, Origin]:
    """By role, `model` and `tokenizer`; empty where the run has recorded none. Raises DataError where it is damaged."""
    path = run_dir / "model" / SOURCE
    return read_json(path, dict[str, Origin]) if path.exists() else {}
