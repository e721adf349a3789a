"""A source whose tokens another program wrote: Megatron's pairs or datatrove's files, read where they lie.

Their headers are read once; the manifest keeps what they said, as that of a source of ours does. What was tokenised by
what is not in such files: every id must have its place in this run's vocabulary, and the beginning is shown as text,
for people to judge. There are no texts to hold documents out of, so held-out documents come from a store of their own
(`store_held_out`), in the order in which they lie there.
"""

import glob
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.corpus.datatrove_index import named_tokenizer, token_type
from tsugiki.corpus.fingerprint import InputRecord, fingerprint
from tsugiki.corpus.prepared import PARTS, Counts, ForeignFacts, SourceManifest, open_stores
from tsugiki.corpus.store import DATATROVE, FORMATS, MEGATRON, Shard, StoreIndex, TokenStore
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.recipe import Recipe, SourceSection

FORMAT_NAMES = {MEGATRON: "Megatron-LM's format", DATATROVE: "datatrove's"}
SAMPLED_BLOCKS, BLOCK_TOKENS = 256, 4096
SAMPLED_DOCUMENTS = 200
SHOWN_TOKENS, SHOWN_CHARACTERS = 200, 200


def foreign_files(name: str, source: SourceSection) -> dict[str, list[str]]:
    """Of each part the files of tokens, without their ending, in order.

    Raises DataError for a pattern that matches no store.
    """
    return {
        "train": _matches(f"data.sources.{name}.store", source.store or []),
        "held_out": _matches(f"data.sources.{name}.store_held_out", source.store_held_out or []),
    }


def are_unchanged(files: dict[str, list[str]], records: list[InputRecord]) -> bool:
    """Whether the files are those that were looked at, by path, size and time."""
    found = [_looked_at(path) for paths in files.values() for path in paths]
    return found == [(entry["path"], entry["size"], entry["mtime_ns"]) for entry in records]


def _records(files: dict[str, list[str]]) -> list[InputRecord]:
    """What stands for the content of the files: sizes, and both ends of the index. Names are those below the folder
    that the files of a part share: a store may be moved as a whole."""
    records = []
    for part, paths in files.items():
        base = os.path.commonpath([os.path.dirname(path) for path in paths] or ["/"])  # noqa: PTH120
        for path in paths:
            tokens, size, mtime = _looked_at(path)
            content = xxhash.xxh3_128(f"{size}".encode())
            with open(path + FORMATS[_format([path])][1], "rb") as file:  # noqa: PTH123
                content.update(file.read(BLOCK_TOKENS))
                file.seek(max(file.seek(0, os.SEEK_END) - BLOCK_TOKENS, 0))
                content.update(file.read())
            name = f"{part}/{os.path.relpath(tokens, base)}"
            records.append(
                InputRecord(name=name, path=tokens, size=size, mtime_ns=mtime, digest=content.hexdigest())
            )  # fmt: skip
    return records


def _looked_at(path: str) -> tuple[str, int, int]:
    """Path and size of a file of tokens, and when it or its index was changed."""
    tokens, index = (path + ending for ending in FORMATS[_format([path])])
    try:
        of_tokens, of_index = os.stat(tokens), os.stat(index)  # noqa: PTH116
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}") from None
    return tokens, of_tokens.st_size, max(of_tokens.st_mtime_ns, of_index.st_mtime_ns)


def foreign_manifest(recipe: Recipe, name: str, tokenizer: TextTokenizer) -> SourceManifest:
    """The manifest of a source that another program tokenised, by the headers of its files and a sample of its tokens.

    Raises DataError for files that are damaged or of two kinds, and for an id outside the tokenizer's vocabulary.
    """
    files = foreign_files(name, recipe.data.sources[name])
    records = _records(files)
    manifest = SourceManifest(
        name=name, fingerprint=fingerprint(recipe, name, tokenizer, records),
        tokenizer_fingerprint=tokenizer.fingerprint, vocabulary_size=tokenizer.vocabulary_size, add_bos=False,
        add_eos=False, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id, files=records, train=Counts(),
        held_out=Counts(), foreign=ForeignFacts("", None, ""),
    )  # fmt: skip
    for part in PARTS:
        index = _index(files[part])
        tokens, documents = (sum(getattr(shard, key) for shard in index.shards) for key in ("tokens", "documents"))
        manifest.stores[part] = index
        setattr(manifest, part, Counts(documents, tokens))
    train, held_out = open_stores(Path("/"), manifest)
    if not train.token_count:
        raise DataError(f"source {name}: its store holds no tokens")
    _require_ids(name, (train, held_out), tokenizer)
    starts, ends = _around((train, held_out), tokenizer)
    kind = manifest.stores["train"].format
    named = named_tokenizer(Path(f"{files['train'][0]}.ds")) if kind == DATATROVE else None
    shown = tokenizer.decode(train.read(0, SHOWN_TOKENS).tolist())[:SHOWN_CHARACTERS]
    library = (
        f"by another program ({FORMAT_NAMES[kind]}{f', of the tokenizer {named}' if named else ''}); that they are "
    )
    library += "of this tokenizer is not known"
    facts = ForeignFacts(kind, named, shown)
    return replace(manifest, add_bos=starts, add_eos=ends, library=library, foreign=facts)


def _matches(key: str, patterns: list[str]) -> list[str]:
    found: set[str] = set()
    for pattern in patterns:
        path = str(Path(pattern).expanduser().absolute())
        if os.path.isdir(path):  # noqa: PTH112
            path = f"{glob.escape(path)}/*"
        candidates = [path] if os.path.lexists(path) else glob.glob(path, recursive=True)  # noqa: PTH207
        matched = {stem for candidate in candidates if (stem := _stem(candidate)) is not None}
        if not matched and os.path.lexists(f"{path}.idx"):
            matched = {path}  # the prefix, as Megatron-LM is given it
        if not matched:
            raise DataError(
                f"{key}: {pattern} matches no store: it is the name of a .bin and .idx of Megatron-LM without these "
                "endings, a .ds of datatrove, a folder of such, or a pattern that matches them"
            )
        found |= matched
    return sorted(found)


def _stem(path: str) -> str | None:
    """A path without the ending of a file of tokens or its index; None for any other file."""
    for endings in FORMATS.values():
        for ending in sorted(endings, key=len, reverse=True):
            if path.endswith(ending):
                return path.removesuffix(ending)
    return None


def _format(paths: list[str]) -> str:
    kinds = {path: [kind for kind, (tokens, _) in FORMATS.items() if os.path.exists(path + tokens)] for path in paths}  # noqa: PTH110
    for path, found in kinds.items():
        if len(found) != 1:
            raise DataError(
                f"{path}: " + ("both a .bin and a .ds" if found else "there is no .bin or .ds of this name")
            )
    different = {found[0] for found in kinds.values()}
    if len(different) > 1:
        raise DataError(
            f"{paths[0]} … {paths[-1]}: stores of Megatron-LM and of datatrove in one source: make two of it"
        )
    return different.pop() if different else MEGATRON


def _index(paths: list[str]) -> StoreIndex:
    kind = _format(paths)
    shards, types = [], {}
    for path in paths:
        if kind == MEGATRON:
            one = StoreIndex.of_files(Path(path))
            shard, types[path] = one.shards[0], one.dtype
        else:
            if os.path.exists(f"{path}.ds.loss"):  # noqa: PTH110
                raise DataError(
                    f"{path}.ds.loss: masks of the loss are not read: the source would train what they mask"
                )
            dtype = token_type(Path(f"{path}.ds"))
            types[path] = dtype.str
            shard = Shard(path, os.stat(f"{path}.ds").st_size // dtype.itemsize, 0)  # noqa: PTH116
            opened = StoreIndex.opened(kind, Path(f"{path}.ds.index"), shard.tokens)
            shard = replace(shard, documents=opened.documents)
        shards.append(replace(shard, name=path))
    if len(set(types.values())) > 1:
        raise DataError(
            f"{paths[0]} … {paths[-1]}: their ids are of different types ({', '.join(sorted(set(types.values())))})"
        )
    return StoreIndex(next(iter(types.values()), "<u2"), shards, kind)


def _require_ids(name: str, stores: tuple[TokenStore, ...], tokenizer: TextTokenizer) -> None:
    for store in stores:
        blocks = -(-store.token_count // BLOCK_TOKENS)
        for block in _spread(blocks, SAMPLED_BLOCKS):
            tokens = store.read(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS)
            wrong = tokens[(tokens < 0) | (tokens >= tokenizer.vocabulary_size)]
            if len(wrong):
                raise DataError(
                    f"source {name}: its store holds id {int(wrong[0]):,}, and the tokenizer in {tokenizer.folder} has "
                    f"{tokenizer.vocabulary_size:,}: it was made by another tokenizer"
                )


def _around(stores: tuple[TokenStore, ...], tokenizer: TextTokenizer) -> tuple[bool, bool]:
    """Whether documents begin with BOS, and whether they end with EOS: all that are looked at."""
    looked = [
        store.document(index) for store in stores for index in _spread(store.document_count, SAMPLED_DOCUMENTS)
    ]  # fmt: skip
    whole = [document for document in looked if len(document)]
    starts, ends = tokenizer.bos_id, tokenizer.eos_id
    return (
        starts is not None and bool(whole) and all(document[0] == starts for document in whole),
        ends is not None and bool(whole) and all(document[-1] == ends for document in whole),
    )


def _spread(count: int, most: int) -> list[int]:
    found: NDArray[np.int64] = np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).astype(np.int64))
    return found.tolist()
