"""Are the stores those of this tokenizer and this model, clean, and mixed so that the old language survives?"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tsugiki.corpus.control_tokens import control_tokens
from tsugiki.corpus.conversation_store import ConversationStore, conversation_files
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.corpus.store import TokenStore, store_files
from tsugiki.files import xxh3_file
from tsugiki.training.preflight.bench import Bench
from tsugiki.training.preflight.report import Finding, fail, judge, ok, warn

HASHED_BYTES = 1 << 30
"""Files of stores larger than this in all are compared by size and index only: hashing them would take minutes."""
SCANNED_TOKENS = 1 << 25
SAMPLED_DOCUMENTS = 2000
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
    measured = f"fingerprint {ours.fingerprint[:12]}, {size:,} ids for {rows:,} rows"
    # Gemma 3's tokenizer names an image token beyond the rows of its text models; no text becomes it (token_ids).
    return ok(measured, "ids up to rows") if size <= rows else warn(measured, "ids up to rows", explains_itself=True)


def store_files_whole(bench: Bench) -> Finding:
    """The stores' files are those that were written: digests where hashing takes seconds, else those of the indices.

    Rank 0 looks for all."""
    if not bench.run.processes.is_first:
        return ok("looked at by rank 0")
    total = sum(_size(source) for source in bench.run.sources.values())
    wrong, hashed = [], 0
    for name, source in bench.run.sources.items():
        for store in (source.train, source.held_out):
            for path in _files(store):
                recorded = source.manifest.digests.get(path.name)
                small = total <= HASHED_BYTES or path.suffix == ".idx"
                if recorded is None or not small:
                    continue
                hashed += 1
                if not path.exists() or xxh3_file(path) != recorded:
                    wrong.append(f"{name}/{path.name}")
        if source.train.token_count != source.manifest.train.tokens:
            wrong.append(f"{name}: {source.train.token_count:,} tokens, not {source.manifest.train.tokens:,}")
        if isinstance(source.train, ConversationStore):
            for index in _sample(source.train):
                source.train.check(index)
    return judge(
        not wrong, f"{hashed} files hashed" + (f"; changed: {', '.join(wrong[:4])}" if wrong else ""), "as recorded"
    )


def token_ids(bench: Bench) -> Finding:
    """The largest id in each store has a row in the embeddings."""
    rows, largest, scanned = bench.vocabulary, 0, 0
    for name, source in bench.run.sources.items():
        for store in (source.train, source.held_out):
            for block in _blocks(store):
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
        for index in _sample(source.train):
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
    for name, source in _texts(bench):
        manifest = source.manifest
        for index in _sample(source.train):
            document = source.train.document(index)
            looked += 1
            place = f"document {index} of {name} ({_place(source, index)})"
            leading = _run(document, manifest.bos_id)
            trailing = _run(document[::-1], manifest.eos_id)
            if leading != int(manifest.add_bos):
                return fail(f"{place} begins with {leading} BOS", f"{int(manifest.add_bos)}")
            if trailing != int(manifest.add_eos) and manifest.bos_id != manifest.eos_id:
                return fail(f"{place} ends with {trailing} EOS", f"{int(manifest.add_eos)}")
    kinds = {(source.manifest.add_bos, source.manifest.add_eos) for _, source in _texts(bench)}
    words = [f"BOS {'added' if bos else 'none'}, EOS {'added' if eos else 'none'}" for bos, eos in sorted(kinds)]
    found = [f"{' / '.join(words)} in {looked:,} documents"] if words else []
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
    for index in _sample(store):
        ids, trained = np.asarray(store.document(index), np.int64), np.flatnonzero(store.weights(index))
        place = f"conversation {index} ({_place(source, index)})"
        if bos is not None and np.any((ids[1:] == bos) & (ids[:-1] == bos)):
            return f"{place} has BOS twice in a row"
        if chat and of_answers and len(trained) and ids[trained[-1]] != chat.end_id:
            piece = bench.run.tokenizer.piece(int(ids[trained[-1]]))
            return f"the last trained token of {place} is {piece}, not {chat.end_token}"
    return None


def _texts(bench: Bench) -> list[tuple[str, PreparedSource]]:
    """The sources of text, not of conversations."""
    return [(name, source) for name, source in bench.run.sources.items() if not source.is_chat]


def _files(store: TokenStore) -> list[Path]:
    return conversation_files(store.prefix) if isinstance(store, ConversationStore) else store_files(store.prefix)


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


def _size(source: PreparedSource) -> int:
    paths = [path for store in (source.train, source.held_out) for path in _files(store)]
    return sum(path.stat().st_size for path in paths if path.exists())


def _blocks(store: TokenStore) -> Iterator[np.ndarray]:
    """All tokens of a store, or as many of them, in blocks spread evenly over it."""
    block = 1 << 20
    count = -(-store.token_count // block)
    step = max(1, count * block // SCANNED_TOKENS)
    for index in range(0, count, step):
        yield np.asarray(store.tokens[index * block : (index + 1) * block])


def _sample(store: TokenStore) -> list[int]:
    """Indices of documents spread evenly over a store."""
    if not store.document_count:
        return []
    return np.unique(np.linspace(0, store.document_count - 1, SAMPLED_DOCUMENTS).astype(np.int64)).tolist()


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
    rows = source.train.documents
    if index >= len(rows):
        return "unknown place"
    row, files = rows[index], source.manifest.files
    name = files[int(row["file"])].get("path", "?") if int(row["file"]) < len(files) else "?"
    return f"{name}:{int(row['line'])}"
