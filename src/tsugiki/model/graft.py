"""The chat vector: what instruction tuning changed in a base, added to another model that was made from that base.

    result = ours + scale · (chat − base)

in fp32, rounded once to ours' number format (https://arxiv.org/abs/2310.04799). Where ours equals the base the result
is the chat model's, and where chat equals the base it is ours, bit by bit. Rows of embedding and output layer are
matched by their pieces.

Files are read and written in blocks of numbers, so that a model of any size needs the memory of a few blocks; the new
files are cut as ours are.
"""

import math
import re
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tsugiki import __version__
from tsugiki.errors import ModelError, RecipeError, StorageError
from tsugiki.files import free_bytes, read_json, write_atomically, write_json
from tsugiki.folders import made_anew, only_one
from tsugiki.model.chat_files import as_json
from tsugiki.model.export import check_output
from tsugiki.model.graft_models import GraftModel, excluded_tensors, open_model, require_same_tensors
from tsugiki.model.graft_pieces import NONE, match_rows, sort_pieces
from tsugiki.model.graft_settings import compare_settings
from tsugiki.model.graft_tokenizer import Chat, read_chat, write_generation, write_tokenizer
from tsugiki.model.graft_weights import Graft, Norms, write_file
from tsugiki.model.vocabulary_matrices import with_vocabulary
from tsugiki.model.weight_files import INDEX
from tsugiki.model_folder import COMPANIONS, own_files
from tsugiki.printable import one_line

Say = Callable[[str], None]
RECORD = "chat-vector.json"
FAR = 0.7
"""Share of the base's norm from which on weights are hardly made from it: two models of one shape that have nothing to
do with each other differ by the root of 2, a continued one by a few hundredths."""
_SHOWN = 20
"""Pieces that a message lists."""


def graft_chat(
    base: Path,
    chat: Path,
    ours: Path,
    output: Path,
    say: Say,
    *,
    scale: float = 1.0,
    exclude: Sequence[str] = (),
    add_tokens: bool = False,
) -> None:
    """Write `ours` with `scale` times the difference of `chat` and `base` into the new folder `output`.

    All are folders in Hugging Face format with safetensors. exclude: patterns with `*` and `?` for names of tensors
    that stay ours. add_tokens: give ours the tokens of chat that its template or its stops need and ours has not.

    `output` appears whole or not at all. Raises RecipeError for a folder that is taken, a scale that is no number or a
    pattern that matches nothing; ModelError, with the values, where the models do not fit each other; StorageError
    where the disk refuses.
    """
    output = Path(output)
    check_output(output, "float32")
    if not math.isfinite(scale):
        raise RecipeError(f"--scale must be a number, not {scale}")
    named = (("base", base), ("chat", chat), ("ours", ours))
    with ExitStack() as stack:
        first, second, third = (open_model(label, Path(folder), stack) for label, folder in named)
        for line in compare_settings({model.label: model.config for model in (first, second, third)}):
            say(f"settings   {line}")
        spoken = read_chat(second.folder, second.tokenizer)
        kept = excluded_tensors(exclude, third) | require_same_tensors(first, second, third)
        graft = _match_pieces(first, second, third, spoken, kept, scale, add_tokens, say)
        _require_room(graft, output)
        with only_one(output), made_anew(output) as work:
            stops = _write(graft, spoken, work, say)
            write_json(work / RECORD, _record(graft, exclude))
    norms = dict(sorted(graft.norms.items(), key=lambda item: _in_order(item[0])))
    for line in [*_table(norms), *_doubts(norms)]:
        say(line)
    stopping = ", ".join(f"{piece!r} ({stop})" for piece, stop in zip(spoken.stops, stops, strict=True))
    say(f"stops      {stopping or 'chat names none; those of ours stay'}")
    if not spoken.templated:
        say("template   chat has none; that of ours stays")
    say(f"graft      {output}: {', '.join(sorted(path.name for path in output.iterdir()))}")


def _match_pieces(
    base: GraftModel,
    chat: GraftModel,
    ours: GraftModel,
    spoken: Chat,
    kept: Collection[str],
    scale: float,
    add_tokens: bool,
    say: Say,
) -> Graft:
    """Say which pieces are whose, and refuse what would be lost. Raises ModelError."""
    sets = sort_pieces(base.pieces, chat.pieces, ours.pieces)
    lacking = [piece for piece in spoken.needed if piece not in ours.pieces]
    say(
        f"pieces     {sets.shared:,} in all three; only in ours (their rows stay): {len(sets.only_ours):,}; only in "
        f"chat: {len(sets.only_chat):,}{_listed(sets.only_chat)}"
    )
    if sets.gone:
        say(f"pieces     in base and chat, and not in ours: {len(sets.gone):,}{_listed(sets.gone)}")
    all_kept = all(name in kept for name in ours.vocabulary)
    options = " ".join(f"--exclude '{name}'" for name in ours.vocabulary)
    lost = [piece for piece in sets.only_chat if piece not in lacking]
    if not sets.shared and not all_kept:
        raise ModelError(f"{base.folder}, {chat.folder} and {ours.folder} have no piece in common: other vocabularies")
    if lost and not all_kept:
        raise ModelError(
            f"{len(lost):,} pieces are only in {chat.folder}, and neither its template nor its stops need them, so "
            f"their rows would be lost{_listed(lost)}. Take them out of a copy of its tokenizer.json, or leave "
            f"embedding and output layer ours: {options}"
        )
    if lacking and not add_tokens:
        raise ModelError(
            f"{ours.folder} has no piece for what chat's template or its stops need{_listed(lacking)}: --add-tokens "
            "gives it rows for them, which are chat's"
        )
    if lacking and ours.tokenizer.vocabulary_size > ours.rows:
        raise ModelError(
            f"the tokenizer of {ours.folder} has ids up to {ours.tokenizer.vocabulary_size - 1}, its matrices "
            f"{ours.rows} rows: no token can be added behind them"
        )
    added = {piece: ours.tokenizer.vocabulary_size + number for number, piece in enumerate(lacking)}
    own = [piece for piece in sets.ours_and_chat if piece in spoken.needed and scale != 0]
    rows = max([ours.rows, *(row + 1 for row in added.values())])
    match = match_rows(base.pieces, chat.pieces, ours.pieces | added, (base.rows, chat.rows, rows), [*lacking, *own])
    without = [piece for piece, row in added.items() if match.chat[row] == NONE]
    if without:
        raise ModelError(f"{chat.folder} has no row for{_listed(without)[1:]}, which its template or its stops need")
    if added:
        say(f"pieces     added to ours with chat's rows: {len(added)}{_listed(list(added))}")
    if own:
        say(f"pieces     rows taken from chat, since base has none and the template needs them{_listed(own)}")
    others = len(sets.ours_and_chat) - len(own)
    if others:
        say(f"pieces     in ours and chat, and not in base (their rows stay): {others:,}{_listed(sets.ours_and_chat)}")
    return Graft(base, chat, ours, scale, kept, match, added)


def _write(graft: Graft, spoken: Chat, work: Path, say: Say) -> list[int]:
    """Fill the folder, but for the record. Returns the ids of the stops."""
    ours = graft.ours
    for number, name in enumerate(ours.weights.headers, start=1):
        write_file(graft, name, work / name)
        if len(ours.weights.headers) > 1:
            say(f"graft      {name} ({number} of {len(ours.weights.headers)})")
    grown = graft.rows - ours.rows
    for path in own_files(ours.folder, ["config.json", INDEX]):
        content = path.read_bytes()
        if grown and path.name == INDEX:
            content = as_json(_grown_index(graft, read_json(path)))
        elif grown:
            content = as_json(with_vocabulary(read_json(path), ours.config, graft.rows)[0])
        write_atomically(work / path.name, content)
    for path in own_files(ours.folder, COMPANIONS):
        shutil.copyfile(path, work / path.name)
    write_tokenizer(ours.tokenizer, spoken, graft.added, work)
    return write_generation(ours.tokenizer, spoken, {**ours.pieces, **graft.added}, work)


def _grown_index(graft: Graft, index: dict[str, Any]) -> dict[str, Any]:
    """The index with the new sizes: no tensor has moved to another file."""
    old = [tensor for header in graft.ours.weights.headers.values() for tensor in header.tensors.values()]
    new = [tensor for header in graft.ours.weights.headers.values() for tensor in graft.tensors(header).values()]
    metadata = {**(index.get("metadata") or {}), "total_size": sum(tensor.end - tensor.begin for tensor in new)}
    if isinstance(metadata.get("total_parameters"), int):
        counts = [sum(math.prod(tensor.shape) for tensor in tensors) for tensors in (old, new)]
        metadata["total_parameters"] += counts[1] - counts[0]
    return {**index, "metadata": metadata}


def _require_room(graft: Graft, output: Path) -> None:
    headers = graft.ours.weights.headers.values()
    needed = sum(tensor.end - tensor.begin for header in headers for tensor in graft.tensors(header).values())
    if needed > (free := free_bytes(output)):
        raise StorageError(
            f"{output} needs {needed / 1e9:,.2f} GB and {free / 1e9:,.2f} GB are free there: free some space, or name "
            "another place"
        )


def _record(graft: Graft, exclude: Sequence[str]) -> dict[str, Any]:
    """What the folder is of, for whoever finds it."""
    models = {model.label: model.folder.resolve().name for model in (graft.base, graft.chat, graft.ours)}
    squares = {
        layer: {"base": one.base, "chat_minus_base": one.chat, "ours_minus_base": one.ours}
        for layer, one in graft.norms.items()
    }
    norms = {layer: {key: math.sqrt(value) for key, value in one.items()} for layer, one in squares.items()}
    return {
        "tsugiki": __version__, **models, "scale": graft.scale, "exclude": list(exclude), "added_tokens": graft.added,
        "norms": norms,
    }  # fmt: skip


def _in_order(layer: str) -> list[tuple[int, str]]:
    """By what layers are sorted: 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", layer)]


def _table(norms: dict[str, Norms]) -> list[str]:
    """Norms of the differences, by layer, and their shares of the base's."""
    wide = max(map(len, norms), default=0)
    return [
        f"{'layer':<{wide}}  |chat - base|  of |base|  |ours - base|  of |base|",
        *(
            f"{one_line(layer):<{wide}}  {math.sqrt(one.chat):>13.4g}  {_share(one.chat, one.base):>9.2%}  "
            f"{math.sqrt(one.ours):>13.4g}  {_share(one.ours, one.base):>9.2%}"
            for layer, one in norms.items()
        ),
    ]


def _doubts(norms: dict[str, Norms]) -> list[str]:
    """What looks like a mistake of whoever chose the models."""
    base, chat, ours = (sum(getattr(one, key) for one in norms.values()) for key in ("base", "chat", "ours"))
    return [
        f"note       {label} differs from base by {_share(part, base):.0%} of its norm: is it made from this base?"
        for label, part in (("chat", chat), ("ours", ours))
        if _share(part, base) > FAR
    ]


def _share(part: float, whole: float) -> float:
    return math.sqrt(part / whole) if whole else 0.0


def _listed(pieces: Sequence[str]) -> str:
    """`: 'a', 'b' …` or nothing."""
    shown = ", ".join(one_line(repr(piece), 60) for piece in pieces[:_SHOWN])
    return f": {shown}{' …' if len(pieces) > _SHOWN else ''}" if pieces else ""
