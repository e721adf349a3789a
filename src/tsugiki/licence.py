"""The licence of a base model as its own folder states it: never guessed.

The field of its model card (https://huggingface.co/docs/hub/model-cards#specifying-a-license) and the files that have
to go with every copy: licence, notice and use policy.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tsugiki.model_folder import own_files

CARD = "README.md"
LICENCE_FILES = re.compile(r"(licen[cs]e|copying|notice|use[-_ ]policy|acceptable[-_ ]use)([-_. ].*)?", re.I)
"""Names of files that go with every copy. (Llama's use policy is a part of its licence.)"""
PATTERNS = [CARD, *(f"{name}*" for name in ("LICENSE", "LICENCE", "License", "license", "COPYING", "NOTICE", "Notice",
                                            "USE_POLICY", "ACCEPTABLE_USE"))]  # fmt: skip
"""The same for the hub, which distinguishes capitals."""
KEYS = ("license", "license_name", "license_link")
LONGEST = 1 << 20
"""Bytes of a card, or of a licence, that are believed."""


@dataclass(frozen=True)
class Licence:
    """What a base says of its licence."""

    stated: dict[str, str] = field(default_factory=dict)
    """`KEYS` of its model card that are there."""
    files: list[Path] = field(default_factory=list)

    @property
    def known(self) -> bool:
        return bool(self.stated or self.files)

    @property
    def name(self) -> str | None:
        """As the card states it: its own name where the hub knows it as `other`."""
        return self.stated.get("license_name") or self.stated.get("license")


def find_licence(folder: Path) -> Licence:
    """The licence of the model in a folder. Raises ModelError where one of its files is a link out of the folder."""
    names = sorted(path.name for path in folder.iterdir())
    files = own_files(folder, [name for name in names if LICENCE_FILES.fullmatch(name)])
    return Licence(_stated(folder / CARD), [path for path in files if path.stat().st_size <= LONGEST])


def _stated(card: Path) -> dict[str, str]:
    """The keys in the metadata of a model card, which is YAML between two lines of ---."""
    if not card.is_file():
        return {}
    with card.open("rb") as file:
        text = file.read(LONGEST).decode("utf-8", "replace")
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.S)
    try:
        stated = yaml.safe_load(match[1]) if match else None
    except (yaml.YAMLError, RecursionError):
        return {}
    if not isinstance(stated, dict):
        return {}
    return {key: stated[key] for key in KEYS if isinstance(stated.get(key), str)}
