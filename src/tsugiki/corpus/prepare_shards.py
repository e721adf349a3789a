"""Preparing in parts that other machines, or a scheduler's tasks, make: each tokenises its share, and one puts all
together.

    <prepared_dir>/<source>.shards/<i>-of-<N>/    buckets, the list of what was left out, and what was counted

The buckets of all parts hold what those of one process would, so the stores have the same bytes, and the counts and
lists of the parts are put in the order in which one process would have come upon them. Sources of conversations, and
stores that others wrote, are small work: they are prepared where all is put together.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tsugiki.corpus.filters.asked import Filters
from tsugiki.corpus.filters.figures import FilterFigures
from tsugiki.corpus.inputs import EXAMPLES, Deal, Position, Progress, SourceDocuments
from tsugiki.corpus.prepare_text import tokenise_documents, write_stores
from tsugiki.corpus.prepared import LEFT_OUT, SourceManifest, source_directory
from tsugiki.corpus.text_source import TextSource
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.unfinished import UnfinishedText, gone_on_with
from tsugiki.errors import DataError
from tsugiki.files import read_json, write_json
from tsugiki.folders import made_anew, only_one
from tsugiki.recipe import Recipe

STATE = "shard.json"
REMOVED = "filtered: "
"""What the kind of a listed document begins with that a filter removed."""


def shard_folder(recipe: Recipe, name: str, deal: Deal) -> Path:
    """Where a part of a source's work lies until all are put together."""
    return _shards(recipe, name) / f"{deal.number}-of-{deal.of}"


def _shards(recipe: Recipe, name: str) -> Path:
    directory = source_directory(recipe, name)
    return directory.with_name(f"{directory.name}.shards")


def prepare_shard(
    recipe: Recipe, name: str, tokenizer: TextTokenizer, filters: Filters, deal: Deal, progress: Progress | None = None
) -> None:
    """Make one part of a source's work, unless it is there. Goes on with what an interrupted call has left."""
    target = shard_folder(recipe, name, deal)
    with only_one(target):
        files = SourceDocuments(recipe, name, target / LEFT_OUT)
        source = TextSource(recipe, tokenizer, files, filters, target)
        current = _current(source, target, deal)
        if current is None:
            with made_anew(target) as work, gone_on_with(work):
                documents = SourceDocuments(recipe, name, work / LEFT_OUT, progress, deal)
                state, buckets = tokenise_documents(replace(source, documents=documents, folder=work))
                state.position = Position(len(documents.files))
                state.keep(documents, [path.stat().st_size for path in buckets.paths])
                write_json(work / STATE, asdict(state))
        if progress:
            progress.finish(name, current is not None)


def merge_shards(source: TextSource) -> SourceManifest:
    """Write both stores from all parts; returns the manifest, without digests.

    Raises DataError where a part is missing, or was made with other settings or of other files.
    """
    documents, folders = source.documents, _complete(source.recipe, source.name)
    states: list[UnfinishedText] = []
    for number, folder in enumerate(folders):
        found = _current(source, folder, Deal(number, len(folders)))
        if found is None:
            raise DataError(f"{folder}: made with other settings, or of files that have changed; make it again")
        states.append(found)
    state = _together(states, folders, documents)
    if documents.progress:
        documents.progress.start(source.name, documents.total_bytes)
        documents.progress.advance(documents.total_bytes, documents.seen - sum(documents.bad.values()))
    buckets = source.buckets(state.bits, beside=folders)
    manifest = write_stores(source, state, buckets)
    buckets.remove()
    return manifest


def remove_shards(recipe: Recipe, name: str) -> None:
    """Remove the parts of a source that has been put together."""
    shutil.rmtree(_shards(recipe, name), ignore_errors=True)


def _complete(recipe: Recipe, name: str) -> list[Path]:
    """The folders of all parts in their order. Raises DataError, naming the command, where one is missing."""
    there = [path for path in _shards(recipe, name).glob("*-of-*") if (path / STATE).exists()]
    counts = {path.name.partition("-of-")[2] for path in there}
    if len(counts) != 1:
        what = f"parts of several divisions ({', '.join(sorted(counts))}); remove those of one" if counts else "no part"
        raise DataError(f"{_shards(recipe, name)}: {what}; tsugiki prepare RECIPE --shard 0/N makes the first of N")
    of = int(counts.pop())
    missing = [number for number in range(of) if not (_shards(recipe, name) / f"{number}-of-{of}" / STATE).exists()]
    if missing:
        numbers = ", ".join(map(str, missing[:12])) + (", …" if len(missing) > 12 else "")
        raise DataError(
            f"{_shards(recipe, name)}: {len(missing)} of {of} parts are missing: {numbers}; make each by "
            f"tsugiki prepare RECIPE --shard {missing[0]}/{of}"
        )
    return [_shards(recipe, name) / f"{number}-of-{of}" for number in range(of)]


def _current(source: TextSource, folder: Path, deal: Deal) -> UnfinishedText | None:
    """What is known of a part in a folder, if it was made with these settings, of files that are what they were."""
    try:
        state = read_json(folder / STATE, UnfinishedText) if (folder / STATE).exists() else None
    except DataError:
        return None
    same = state is not None and state.key == source.key(deal) and state.describes_all(source.documents)
    return state if same else None


def _together(states: list[UnfinishedText], folders: list[Path], documents: SourceDocuments) -> UnfinishedText:
    """What one process would have found, in its order. Lists what was left out in `documents`' list."""
    whole = replace(states[0], filtered=FilterFigures(), bad={}, bad_examples=[], hits=[], files={})
    for state in states:
        for name, record in state.files.items():
            if whole.files.setdefault(name, record)["digest"] != record["digest"]:
                raise DataError(f"{record['path']}: it changed between two parts; make all of them again")
    hits = [hit for state in states for hit in state.hits]
    whole.keep_hits(sorted(hits, key=lambda hit: (hit["file"], hit["line"])))
    whole.seen = [sum(counts) for counts in zip(*(state.seen for state in states), strict=True)]
    whole.odd = dict(sum((Counter(state.odd) for state in states), Counter[str]()))
    whole.read = documents.total_bytes
    for key in ("replaced", "split", "parts"):
        setattr(whole, key, sum(getattr(state, key) for state in states))
    whole.restore(documents)
    documents.bad, documents.bad_examples = {}, []
    for number, entry in sorted(_left_out(folders, documents), key=lambda one: (one[0], one[1]["line"])):
        kind, line = entry["kind"], entry["line"]
        if kind.startswith(REMOVED):
            rule = kind.removeprefix(REMOVED)
            entry["detail"] = whole.filtered.count(rule, documents.files[number].name, line, entry["detail"])
        else:
            documents.bad[kind] = documents.bad.get(kind, 0) + 1
            if len(documents.bad_examples) < EXAMPLES:
                documents.bad_examples.append(f"{entry['file']}:{line}: {kind}: {entry['detail']}")
        with documents.left_out.open("a", encoding="utf-8") as listing:
            listing.write(json.dumps(entry) + "\n")
    return whole


def _left_out(folders: list[Path], documents: SourceDocuments) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of its file, entry) of all lists."""
    numbers = {str(file.path): number for number, file in enumerate(documents.files)}
    for folder in folders:
        if (folder / LEFT_OUT).exists():
            for line in (folder / LEFT_OUT).read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                yield numbers[entry["file"]], entry
