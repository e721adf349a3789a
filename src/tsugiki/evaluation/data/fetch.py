"""Fetching evaluation sets from where their makers publish them: over https, checked, as a whole or not at all.

A file takes its name only when all of it has arrived and its digest is the known one. What is there already and sound
is left alone; what is there and differs is never overwritten. `SOURCE.json` in each folder says where its files came
from, with their digests, the date and the licence.

Archives are not unpacked: the one member that is wanted, a plain file, is copied out under a name of ours.
"""

import contextlib
import gzip
import hashlib
import http.client
import os
import ssl
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tsugiki.errors import DataError, RecipeError, StorageError, TsugikiError
from tsugiki.evaluation.data.loading import load_set
from tsugiki.evaluation.data.sets import SETS, EvaluationSet, OriginalFile
from tsugiki.files import explain_os_error, fsync_directory, read_json, write_json

BLOCK = 1 << 20
MAX_BYTES = 1 << 30
"""No file of any set comes near it; a transfer or an archive member that passes it is stopped."""
TIMEOUT = 60  # seconds without a byte
SOURCE_FILE = "SOURCE.json"


def fetch(names: Sequence[str], directory: Path, say: Callable[[str], None]) -> None:
    """Bring the sets `names` (of SETS) into `directory`, one folder a set; `say` gets a line at a time.

    Every set is tried; DataError at the end names those that failed. Raises RecipeError for an unknown name.
    """
    for name in names:
        if name not in SETS:
            raise RecipeError(f"{name!r} is no evaluation set; there are {', '.join(SETS)}")
    failed = []
    for name in names:
        try:
            _fetch_set(SETS[name], Path(directory), say)
        except TsugikiError as error:
            say(f"  {error}")
            failed.append(name)
    if failed:
        raise DataError(f"not fetched: {', '.join(failed)} (the lines above say why). Run the same command to go on")


def _fetch_set(entry: EvaluationSet, directory: Path, say: Callable[[str], None]) -> None:
    say(f"{entry.title}: {entry.licence}; cite {entry.citation}")
    missing = [file for file in entry.files if not _is_sound(file, directory / file.path, say)]
    for url in dict.fromkeys(file.url for file in missing):  # an archive is fetched once for all its members
        wanted = [file for file in missing if file.url == url]
        say(f"  fetching {url}")
        folder = (directory / wanted[0].path).parent
        with _storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as arrived:
                _download(wanted[0], arrived, directory)
                for file in wanted:
                    _store(file, arrived, entry, directory / file.path, say)
    loaded = load_set(entry.name, directory)
    say(f"  {len(loaded.test):,} items, {len(loaded.shots):,} examples{''.join(f'; {note}' for note in loaded.notes)}")


def _is_sound(file: OriginalFile, path: Path, say: Callable[[str], None]) -> bool:
    """Whether the file is there, unchanged. Raises DataError when it is there and differs from what it should be."""
    if not path.exists():
        return False
    with _storage_errors(path), path.open("rb") as content:
        found = _digest(content, "sha256")
    # An archive's digest says nothing of its members.
    expected = (None if file.member else file.digest) or _recorded(path)
    if expected and expected != found:
        raise DataError(
            f"{path} is there but is not the original: {found}, expected {expected}. Delete it to fetch the original"
        )
    say(f"  {path} is there ({found if expected else f'{found}; nothing is known to compare it with'})")
    return True


def _recorded(path: Path) -> str | None:
    """The digest that an earlier fetch has recorded."""
    source = path.parent / SOURCE_FILE
    return read_json(source).get(path.name, {}).get("digest") if source.exists() else None


def _download(file: OriginalFile, target: IO[bytes], directory: Path) -> None:
    """The bytes of the address, all of them, with the digest that is known. Raises DataError."""
    by_hand = f"Or put the file at {directory / file.path} by hand"
    request = urllib.request.Request(file.url, headers={"User-Agent": "tsugiki"})
    opener = urllib.request.build_opener(_StayEncrypted)
    size = 0
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            announced = answer.headers.get("Content-Length")
            while block := answer.read(BLOCK):
                target.write(block)
                size += len(block)
                if size > MAX_BYTES:
                    raise DataError(f"{file.url}: over {MAX_BYTES:,} bytes, which no evaluation set has")
    except urllib.error.HTTPError as error:
        refused = "its owner asks for a login or for consent" if error.code in (401, 403) else "the file has moved"
        raise DataError(f"{file.url}: {error.code} {error.reason}: {refused}. {by_hand}") from None
    except urllib.error.URLError as error:
        host = urlsplit(file.url).hostname
        raise DataError(f"{file.url}: {host} cannot be reached ({error.reason}). {by_hand}") from None
    except (http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
        raise DataError(f"{file.url}: the transfer broke off after {size:,} bytes ({error})") from None
    # `read` gives what there is when a connection ends early, without an error.
    if announced is not None and size != int(announced):
        raise DataError(f"{file.url}: the transfer broke off after {size:,} of {int(announced):,} bytes")
    if not size:
        raise DataError(f"{file.url}: the file is empty. {by_hand}")
    if file.digest:
        found = _digest(target, file.digest.partition(":")[0])
        if found != file.digest:
            raise DataError(f"{file.url}: what arrived is not the original: {found}, expected {file.digest}")


def _store(
    file: OriginalFile, arrived: IO[bytes], entry: EvaluationSet, path: Path, say: Callable[[str], None]
) -> None:
    """Give the file its name, and write down where it came from."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as temporary:
        place = Path(temporary.name)
        try:
            size = _copy_member(arrived, file, temporary) if file.member else _copy(arrived, temporary)
            digest = _digest(temporary, "sha256")
            os.fchmod(temporary.fileno(), 0o644)
            os.fsync(temporary.fileno())
            place.replace(path)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
    fsync_directory(path.parent)
    source = path.parent / SOURCE_FILE
    records: dict[str, Any] = read_json(source) if source.exists() else {}
    records[path.name] = {
        "url": file.url,
        **({"member": file.member} if file.member else {}),
        "digest": digest,
        "size": size,
        "date": datetime.now(UTC).date().isoformat(),
        "licence": entry.licence,
        "citation": entry.citation,
    }
    write_json(source, records)
    checked = "as expected" if file.digest else "no digest is known to compare it with"
    say(f"  {path}: {size:,} bytes, {digest}, {checked}")


def _copy(arrived: IO[bytes], target: IO[bytes]) -> int:
    arrived.seek(0)
    size = 0
    while block := arrived.read(BLOCK):
        size += target.write(block)
    return size


def _copy_member(arrived: IO[bytes], file: OriginalFile, target: IO[bytes]) -> int:
    """Copy one plain file out of a tar archive, under whatever name `target` has. Raises DataError."""
    arrived.seek(0)
    try:
        with tarfile.open(fileobj=arrived, mode="r:*") as archive:
            for info in archive:
                if info.name.removeprefix("./") == file.member:
                    content = archive.extractfile(info) if info.isreg() else None
                    if content is None or info.size > MAX_BYTES:
                        raise DataError(f"{file.url}: {file.member} in it is no plain file of a sensible size")
                    size = 0
                    while block := content.read(BLOCK):
                        size += target.write(block)
                    return size
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file.url}: not an archive that can be read ({error})") from None
    raise DataError(f"{file.url}: the archive holds no {file.member}")


def _digest(file: IO[bytes], algorithm: str) -> str:
    """`ALGORITHM:HEX` of a whole open file."""
    file.seek(0)
    digest = hashlib.new(algorithm, usedforsecurity=False)
    while block := file.read(BLOCK):
        digest.update(block)
    return f"{algorithm}:{digest.hexdigest()}"


@contextlib.contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(explain_os_error(error, path)) from error


class _StayEncrypted(urllib.request.HTTPRedirectHandler):
    """Follows no redirection from https to plain http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
