"""Are the stores those of this tokenizer and this model, clean, and mixed so that the old language survives?"""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random

import numpy as np

from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.corpus.store import TokenStore
from tsugiki.errors import DataError
from tsugiki.files import xxh3_file
from tsugiki.training.preflight.bench import Bench
from tsugiki.training.preflight.report import Finding, fail, judge, ok, warn

HASHED_BYTES = 5 << 29
"""Of the stores' files that are hashed, drawn by lot where they have more in all: two full shards, in seconds."""
CHECKED_BLOCKS = 16
"""Of each table of packs: 16 million documents."""
SCANNED_TOKENS = 1 << 26
"""Of all stores together."""
SCANNED_BLOCK = 1 << 16
SAMPLED_DOCUMENTS = 2000
"""Of a source."""
MOST_DOCUMENTS = 10_000
"""Of all sources together."""
EPOCHS = 4.0
"""Up to here repeated text is nearly as good as new text (Muennighoff et al., arXiv 2305.16264)."""


def tokenizer(bench: Bench) -> Finding:
    """Every store was made with the very tokenizer of this run, and every id of it has a row in the model."""
    ours = bench.run.tokenizer
    others = [
        name for name, source in bench.run.sources.items() if source.manifest.tokenizer_fingerprint != ours.fingerprint
    ]  # fmt: skip
    if others:
        return fail(
            f"{', '.join(others)} was tokenised with another tokenizer than {ours.folder}", "equal fingerprints"
        )
    size, rows = ours.vocabulary_size, bench.vocabulary
    unknown = [name for name, source in bench.run.sources.items() if source.manifest.foreign is not None]
    if unknown and size <= rows:
        named = [f"{name} (by {_named(bench.run.sources[name])})" for name in unknown]
        return warn(
            f"another program made the tokens of {', '.join(named)}: nothing says that they are of {ours.folder}",
            "equal fingerprints",
            explains_itself=True,
        )
    measured = f"fingerprint {ours.fingerprint[:12]}, {size:,} ids for {rows:,} rows"
    # Gemma 3's tokenizer names an image token beyond the rows of its text models; no text becomes it (token_ids).
    return ok(measured, "ids up to rows") if size <= rows else warn(measured, "ids up to rows", explains_itself=True)


def _named(source: PreparedSource) -> str:
    foreign = source.manifest.foreign
    return f"the tokenizer {foreign.tokenizer}" if foreign and foreign.tokenizer else "a tokenizer that is not named"


def store_files_whole(bench: Bench) -> Finding:
    """The stores' files are those that were written: all by their sizes; by digest all, or as many as take seconds.

    Rank 0 looks for all."""
    if not bench.run.processes.is_first:
        return ok("looked at by rank 0")
    recorded: dict[Path, tuple[str, str]] = {}
    for name, source in bench.run.sources.items():
        for store in (source.train, source.held_out):
            try:
                store.check_sizes()
            except DataError as error:
                return fail(f"source {name}: {error}", "as recorded")
        folder = source.train.prefix.parent
        recorded |= {folder / file: (name, digest) for file, digest in source.manifest.every_digest().items()}
    wrong, hashed = [], _drawn(recorded, HASHED_BYTES)
    for path in hashed:
        name, digest = recorded[path]
        if not path.exists() or xxh3_file(path) != digest:
            wrong.append(f"{name}/{path.name}")
    for source in bench.run.sources.values():
        if isinstance(source.train, ConversationStore):
            for index in _sample(bench, source.train):
                source.train.check(index)
        elif isinstance(source.train, PackedStore):
            try:
                source.train.check_packs(bench.sequence_length, CHECKED_BLOCKS)
            except DataError as error:
                return fail(f"source {source.name}: {error}", "as recorded")
    unknown = [name for name, source in bench.run.sources.items() if source.manifest.foreign is not None]
    measured = f"{len(hashed):,} of {len(recorded):,} files hashed, the sizes of all are right"
    measured += f"; of {', '.join(unknown)} no digests are known" if unknown else ""
    return judge(not wrong, f"changed: {', '.join(wrong[:4])}" if wrong else measured, "as recorded")


def _drawn(paths: Iterable[Path], most: int) -> list[Path]:
    """All files, or as many as have `most` bytes, drawn by the time: every start looks at others."""
    drawn = list(paths)
    Random(time.time_ns()).shuffle(drawn)
    found = []
    for path in drawn:
        size = path.stat().st_size if path.exists() else 0
        if size <= most:
            found.append(path)
            most -= size
    return found


def token_ids(bench: Bench) -> Finding:
    """The largest id in each store has a row in the embeddings."""
    rows, largest, scanned = bench.vocabulary, 0, 0
    for name, source in bench.run.sources.items():
        for store in (source.train, source.held_out):
            for block in _blocks(store, SCANNED_TOKENS // (2 * len(bench.run.sources))):
                scanned += len(block)
                top = int(block.max()) if len(block) else 0
                if top >= rows:
                    return fail(f"source {name} holds id {top:,}", f"below {rows:,}, the model's rows")
                largest = max(largest, top)
    return ok(f"largest id {largest:,} in {scanned:,} tokens scanned", f"below {rows:,}")


def control_ids(bench: Bench) -> Finding:
    """No control token stands inside a document: a literal `</s>` in a text must have stayed text."""
    control = control_tokens(bench.run.tokenizer)
    looked = 0
    for name, source in _texts(bench):  # in a conversation they are the template's
        for index in _sample(bench, source.train):
            document, begin, end = _inside(source, index)
            looked += 1
            found = np.flatnonzero(np.isin(document[begin:end], control)) + begin
            if len(found):
                piece = bench.run.tokenizer.piece(int(document[found[0]]))
                return fail(
                    f"{piece} inside document {index} of {name} ({_place(source, index)}), {len(found)} in all", "0"
                )
    if not looked:
        return ok("no documents: in conversations control tokens are the template's")
    return ok(f"none of {len(control)} control tokens inside {looked:,} documents", "0")


def bos_eos(bench: Bench) -> Finding:
    """Documents begin with exactly one BOS and end with exactly one EOS, where the manifest says so; conversations have
    no BOS twice in a row, and what of them is trained ends with the template's end token."""
    looked = 0
    texts = [(name, source) for name, source in _texts(bench) if source.manifest.foreign is None]
    for name, source in texts:
        manifest = source.manifest
        for index in _sample(bench, source.train):
            document = source.train.document(index)
            looked += 1
            leading = _run(document, manifest.bos_id)
            trailing = _run(document[::-1], manifest.eos_id)
            if leading != int(manifest.add_bos):
                said, wanted = f"begins with {leading} BOS", manifest.add_bos
            elif trailing != int(manifest.add_eos) and manifest.bos_id != manifest.eos_id:
                said, wanted = f"ends with {trailing} EOS", manifest.add_eos
            else:
                continue
            return fail(f"document {index} of {name} ({_place(source, index)}) {said}", f"{int(wanted)}")
    kinds = {(source.manifest.add_bos, source.manifest.add_eos) for _, source in texts}
    words = [f"BOS {'added' if bos else 'none'}, EOS {'added' if eos else 'none'}" for bos, eos in sorted(kinds)]
    found = [f"{' / '.join(words)} in {looked:,} documents"] if words else []
    found += [f"{name}: as another program put them" for name, one in bench.run.sources.items() if one.manifest.foreign]
    for name, source in bench.run.sources.items():
        if isinstance(source.train, ConversationStore):
            problem = _wrong_ends(bench, source, source.train)
            if problem:
                return fail(f"{name}: {problem}", "one BOS, an end token behind every answer")
            found.append(f"{name}: answers end with {source.manifest.chat.end_token if source.manifest.chat else '?'}")
    return ok("; ".join(found), "once each")


def _wrong_ends(bench: Bench, source: PreparedSource, store: ConversationStore) -> str | None:
    """What is wrong with where conversations begin and where answers end, or None."""
    chat, bos = source.manifest.chat, source.manifest.bos_id
    of_answers = bench.run.recipe.data.sources[source.name].loss_on in (None, "assistant", "completion", "last")
    for index in _sample(bench, store):
        ids, trained = np.asarray(store.document(index), np.int64), np.flatnonzero(store.weights(index))
        if bos is not None and np.any((ids[1:] == bos) & (ids[:-1] == bos)):
            return f"conversation {index} ({_place(source, index)}) has BOS twice in a row"
        if chat and of_answers and len(trained) and ids[trained[-1]] != chat.end_id:
            piece, place = bench.run.tokenizer.piece(int(ids[trained[-1]])), _place(source, index)
            return f"the last trained token of conversation {index} ({place}) is {piece}, not {chat.end_token}"
    return None


def _texts(bench: Bench) -> list[tuple[str, PreparedSource]]:
    """The sources of text, not of conversations."""
    return [(name, source) for name, source in bench.run.sources.items() if not source.is_chat]


def replay(bench: Bench) -> Finding:
    """A pretrained model keeps what it sees again: a mixture of one language alone forgets the others."""
    if bench.run.recipe.model.name_or_path is None:
        return ok("random weights: nothing to forget")
    plans = bench.run.mixture.plan(bench.run.total_steps * bench.run.recipe.training.global_batch_size)
    shares: dict[str, float] = {}
    for plan in plans:
        language = bench.run.recipe.data.sources[plan.name].language
        if plan.samples and language is None:
            return ok(f"source {plan.name} names no language, so the share of replay is not known")
        if plan.samples and language is not None:
            shares[language] = shares.get(language, 0.0) + plan.share
    measured = ", ".join(
        f"{language} {share:.1%}" for language, share in sorted(shares.items(), key=lambda item: -item[1])
    )
    if len(shares) > 1:
        return ok(measured)
    return warn(
        f"{measured}: no text of another language is replayed",
        "1 % already cuts forgetting, 5 % is usual for a weak shift, 25 % for a new language (arXiv 2403.08763)",
    )


def epochs(bench: Bench) -> Finding:
    """How often the run reads each source."""
    plans = bench.run.mixture.plan(bench.run.total_steps * bench.run.recipe.training.global_batch_size)
    measured = ", ".join(f"{plan.name} {plan.epochs:.2f}" for plan in plans)
    threshold = f"at most {EPOCHS:g} epochs: beyond, repeated text teaches less and less"
    return ok(measured, f"at most {EPOCHS:g}") if all(p.epochs <= EPOCHS for p in plans) else warn(measured, threshold)


def _blocks(store: TokenStore, most: int) -> Iterator[np.ndarray]:
    """All tokens of a store, or about `most` of them, in blocks spread evenly over it."""
    count = -(-store.token_count // SCANNED_BLOCK)
    for index in _spread(count, max(1, most // SCANNED_BLOCK)):
        yield store.read(index * SCANNED_BLOCK, (index + 1) * SCANNED_BLOCK)


def _sample(bench: Bench, store: TokenStore) -> list[int]:
    """Indices of documents spread evenly over a store."""
    return _spread(store.document_count, min(SAMPLED_DOCUMENTS, MOST_DOCUMENTS // len(bench.run.sources)))


def _spread(count: int, most: int) -> list[int]:
    """All numbers below `count`, or `most` of them at even distances."""
    return np.unique(np.linspace(0, count - 1, max(1, min(count, most))).astype(np.int64)).tolist() if count else []


def _inside(source: PreparedSource, index: int) -> tuple[np.ndarray, int, int]:
    """A document's tokens, and the part of them between the BOS and EOS that stand around it."""
    document = np.asarray(source.train.document(index), dtype=np.int64)
    begin = _run(document, source.manifest.bos_id)
    end = len(document) - _run(document[::-1], source.manifest.eos_id)
    return document, begin, max(begin, end)


def _run(tokens: np.ndarray, token: int | None) -> int:
    """How many tokens at the start are `token`."""
    if token is None:
        return 0
    other = np.flatnonzero(tokens != token)
    return int(other[0]) if len(other) else len(tokens)


def _place(source: PreparedSource, index: int) -> str:
    """File and line of a document."""
    rows = source.train.documents(index, index + 1)
    if not len(rows):
        return "unknown place"
    row, files = rows[0], source.manifest.files
    name = files[int(row["file"])].get("path", "?") if int(row["file"]) < len(files) else "?"
    return f"{name}:{int(row['line'])}"
