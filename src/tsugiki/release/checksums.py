"""SHA256SUMS: a digest of every file of a folder, in the format that `sha256sum -c SHA256SUMS` reads.

The model card is left out: it is there to be completed by its owner, on the hub too, which keeps digests of its own.
"""

import hashlib
from pathlib import Path

from tsugiki.errors import StorageError
from tsugiki.files import explain_os_error, write_atomically

SUMS, CARD = "SHA256SUMS", "README.md"


def write_sums(folder: Path) -> None:
    """Write the file for all others of a folder. Raises StorageError."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{_sha256(folder / name)}  {name}\n" for name in names if name not in (SUMS, CARD)]
    write_atomically(folder / SUMS, "".join(lines))


def wrong_files(folder: Path) -> list[str]:
    """Files that are missing or not as SHA256SUMS says; no file of that name is one of them. Raises StorageError where
    the file itself cannot be read."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = explain_os_error(error, folder / SUMS, "read") if isinstance(error, OSError) else str(error)
        raise StorageError(reason) from error
    wrong = []
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or _sha256(path) != digest:
            wrong.append(name)
    return wrong


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(explain_os_error(error, path, "read")) from error
