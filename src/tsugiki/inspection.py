"""What is this path? A token store, a prepared source, a checkpoint, a run, an experiment or a Hugging Face folder, and
is it whole?

Reads manifests and headers only, and (with `verify`) hashes every file; imports no model library.
"""

import contextlib
import math
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from tsugiki.attribution_results import ATTRIBUTION_FILE
from tsugiki.checkpoint_files import (
    MANIFEST,
    STATE,
    MixtureState,
    StateSummary,
    list_names,
    newest_name,
    read_manifest,
    stored_bytes,
)
from tsugiki.checkpoint_files import verify as verify_checkpoint
from tsugiki.corpus.conversation_figures import describe_chat
from tsugiki.corpus.conversation_store import ConversationStore, conversation_files
from tsugiki.corpus.filters.figures import describe_filters, samples
from tsugiki.corpus.pack_table import table_lengths
from tsugiki.corpus.packed_store import PackedStore
from tsugiki.corpus.prepared import SourceManifest, open_stores
from tsugiki.corpus.prepared import verify as verify_source
from tsugiki.corpus.store import TokenStore, shard_name
from tsugiki.errors import DataError, TsugikiError
from tsugiki.files import read_json
from tsugiki.printable import one_line
from tsugiki.run_folder import runs_in
from tsugiki.state_file import known_state, read_state
from tsugiki.sweep_results import SWEEP_FILE


class _Origin(TypedDict):
    corpora: dict[str, Any]


class _VocabularyManifest(TypedDict):
    made_from: _Origin | None


class _Size(TypedDict):
    before: int
    after: int


class _Change(TypedDict):
    tokens_ratio: float


class _Proof(TypedDict):
    passed: bool


class _VocabularyReport(TypedDict):
    vocabulary_size: _Size
    proofs: list[_Proof]
    held_out: dict[str, _Change]
    sample: dict[str, _Change]


class _ModelConfig(TypedDict, total=False):
    architectures: list[str] | None
    model_type: str
    vocab_size: int


class _ExperimentResult(TypedDict):
    """What is told of `sweep.json` or `attribution.json`."""

    finished: bool
    recipe: str
    sweep: NotRequired[str]
    experiment: NotRequired[str]


EXPERIMENTS = {SWEEP_FILE: "sweep", ATTRIBUTION_FILE: "attribution"}


def inspect_path(path: Path, *, verify: bool = True) -> tuple[list[str], bool]:
    """Lines that say what `path` is, and whether it is sound. Raises DataError when it is nothing that we know."""
    path = path.absolute()
    if not path.exists() and not _is_store(path):
        raise DataError(f"{path}: no such file or directory")
    is_store = _is_store(path)
    for matches, describe in (
        (is_store, _store),
        (_is_source(path), _source),
        ((path / MANIFEST).exists() and (path / "model").is_dir(), _vocabulary),
        ((path / MANIFEST).exists(), _checkpoint),
        ((path / "checkpoints").is_dir() or (path / "state.json").exists(), _run),
        (any((path / name).exists() for name in EXPERIMENTS), _experiment),
        (any(_is_source(child) for child in _children(path)), _sources),
        (any(list_names(path)) if path.is_dir() else False, _checkpoints),
        ((path / "config.json").exists(), _model),
        (bool(runs_in(path)), _runs),
    ):
        if matches:
            return describe(path, verify)
    raise DataError(
        f"{path}: no token store, prepared source, checkpoint, run, experiment or model folder (no manifest, no "
        "recipe.yaml, no config.json)"
    )


def _is_store(path: Path) -> bool:
    """A pair, by either file or the name of both, or shards by the name of all."""
    names = (f"{path.name}.idx", f"{shard_name(path.name, 0)}.idx")
    return any(path.with_name(name).exists() for name in names) or (path.suffix in (".bin", ".idx") and path.is_file())


def _is_source(path: Path) -> bool:
    manifest = path / MANIFEST
    if not manifest.exists():
        return False
    if (path / f"{shard_name('train', 0)}.idx").exists():
        return True
    with contextlib.suppress(OSError), manifest.open("rb") as file:  # of what another program tokenised it is all
        return b'"tokenizer_fingerprint"' in file.read(1000)
    return False


def _children(path: Path) -> list[Path]:
    return sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []


def _store(path: Path, verify: bool) -> tuple[list[str], bool]:
    prefix = path.with_suffix("") if path.suffix in (".bin", ".idx") else path
    sides = [file for file in conversation_files(prefix) if file.exists()]
    store = ConversationStore(prefix) if sides else TokenStore(prefix)
    store.check_indices()
    rows = store.documents()
    lines = [
        f"token store {prefix}",
        f"  {store.document_count:,} documents, {store.token_count:,} tokens, {store.dtype}, "
        f"{len(store.index.shards):,} shard{'s' * (len(store.index.shards) != 1)}",
    ]
    if isinstance(store, ConversationStore):
        lines.append(f"  conversations, {store.trained_tokens:,} of the tokens with a loss weight")
    if len(rows):
        size = int(rows["bytes"].sum())
        lines.append(f"  {size:,} bytes of text, {size / max(store.token_count, 1):.2f} bytes a token")
    if not (prefix.parent / MANIFEST).exists():
        return [*lines, "  no manifest beside it: sizes and index fit each other, digests unknown"], True
    manifest = SourceManifest.read(prefix.parent / MANIFEST)
    files = [file for shard in range(len(store.index.shards)) for file in store.files(shard)]
    digests = manifest.every_digest()
    own = [file.name for file in (*files, *sides) if file.name in digests]
    problems = verify_source(prefix.parent, own) if verify else None
    return _with_problems(lines, problems, len(own))


def _source(path: Path, verify: bool) -> tuple[list[str], bool]:
    manifest = SourceManifest.read(path / MANIFEST)
    lines = [f"prepared source {manifest.name} in {path}"]
    for part in ("train", "held_out"):
        counts = getattr(manifest, part)
        size = f"{counts.bytes:,} bytes of text" if manifest.foreign is None else "size of the text not known"
        lines.append(f"  {part:<9} {counts.documents:,} documents, {counts.tokens:,} tokens, {size}")
    lines.append(
        f"  {len(manifest.files)} files read, {sum(manifest.bad.values()):,} records left out{_kinds(manifest.bad)}"
    )
    if manifest.foreign is not None:
        return _foreign(path, manifest, lines)
    if manifest.filtered is not None:
        kept = manifest.train.documents + manifest.held_out.documents
        lines += [f"  {line}" for line in describe_filters(manifest.filtered, kept)]
        for rule, sample in samples(manifest.filtered):
            lines.append(f"    {rule}: {sample['file']}:{sample['line']}: {sample['text']}")
    if manifest.odd:
        lines.append(f"  kept documents that look odd{_kinds(manifest.odd)}")
    if manifest.chat is None:
        lines.append(f"  BOS {'added' if manifest.add_bos else 'none'}, EOS {'added' if manifest.add_eos else 'none'}")
        lines.append(f"  ids by {manifest.library}")
        packs, damaged = _text_packs(path, manifest, verify)
        problems = [*verify_source(path), *damaged] if verify else damaged or None
        return _with_problems([*lines, *packs], problems, len(manifest.every_digest()))
    lines.append(f"  {manifest.packing}")
    problems = verify_source(path) if verify else None
    for length in table_lengths(path / "train"):
        try:
            packing = manifest.at_length(path, length, True).packing
        except DataError as error:
            problems = [*(problems or []), str(error)]
            continue
        if packing is not None and packing.sequence_length == length != manifest.chat.sequence_length:
            lines.append(f"  {packing}")
    lines += [f"  {line}" for line in describe_chat(manifest.chat)]
    return _with_problems(lines, problems, len(manifest.every_digest()))


def _text_packs(path: Path, manifest: SourceManifest, verify: bool) -> tuple[list[str], list[str]]:
    """Of a source of text, a line for each length for which it is packed, and what is wrong with the tables."""
    lines, problems = [], []
    for length in table_lengths(path / "train"):
        try:
            found = manifest.at_length(path, length, True).text
            if verify:
                PackedStore(path / "train", manifest.stores["train"]).check_packs(length)
        except DataError as error:
            problems.append(str(error))
            continue
        if found is not None:
            lines.append(f"  {found.windows:,} packs of {length:,}: {found}")
    return lines, problems


def _foreign(path: Path, manifest: SourceManifest, lines: list[str]) -> tuple[list[str], bool]:
    """What another program tokenised: nothing says what its files have to hold, but they must agree with each other."""
    foreign, problem = manifest.foreign, None
    packs, damaged = _text_packs(path, manifest, verify=True)
    lines.append(f"  BOS {'first' if manifest.add_bos else 'none'}, EOS {'last' if manifest.add_eos else 'none'}")
    lines += [f"  tokens made {manifest.library}", f"  it begins: {one_line(foreign.text) if foreign else ''}"]
    try:
        for store in open_stores(path, manifest):
            store.check_sizes()
            store.check_indices()
        problem = f"  PROBLEM {damaged[0]}" if damaged else None
    except DataError as error:
        problem = f"  PROBLEM {error}"
    return [*lines, *packs, problem or "  sizes and indices fit each other, digests unknown"], problem is None


def _kinds(counts: dict[str, int]) -> str:
    return ": " + ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) if counts else ""


def _sources(path: Path, verify: bool) -> tuple[list[str], bool]:
    found = [_source(child, verify) for child in _children(path) if _is_source(child)]
    return [line for lines, _ in found for line in lines], all(sound for _, sound in found)


def _checkpoint(path: Path, verify: bool) -> tuple[list[str], bool]:
    try:
        manifest = read_manifest(path)
        problems = verify_checkpoint(path) if verify else None
        if problems:
            return _with_problems([f"checkpoint {path}: damaged"], problems, 0)
        state = read_json(path / STATE, StateSummary)
    except TsugikiError as error:
        return _with_problems([f"checkpoint {path}: damaged"], [str(error)], 0)
    size = sum(entry["size"] for entry in manifest["files"].values())
    lines = [
        f"checkpoint {path}: step {manifest['step']:,}, {size / 1e6:,.1f} MB in {len(manifest['files'])} files",
        f"  {state.get('samples', 0):,} samples, {state.get('tokens', 0):,} target tokens, "
        f"written by {state.get('world_size', 1)} process(es), lineage {state.get('lineage', '?')}",
    ]
    if base := state.get("base"):
        trained = sum(math.prod(entry["shape"]) for n, entry in manifest["tensors"].items() if n.startswith("model."))
        lines.append(
            f"  adapters: {trained:,} parameters, trained beside the {base['parameters']:,} of {base['folder']} "
            f"(digest {base['digest'][:12]})"
        )
    lines += _shares(state.get("mixture", {}))
    return _with_problems(lines, problems, len(manifest["files"]))


def _shares(mixture: MixtureState) -> list[str]:
    lines = []
    for stage in mixture.get("stages", []):
        total = sum(stage["weights"].values()) or 1
        shares = ", ".join(f"{name} {weight / total:.2%}" for name, weight in stage["weights"].items())
        lines.append(f"  from sample {stage['start_sample']:,}: {shares}")
    lines += [f"  stepped over: samples {first:,} to {end - 1:,}" for first, end in mixture.get("skip", [])]
    return lines


def _checkpoints(path: Path, verify: bool) -> tuple[list[str], bool]:
    lines, sound = [], True
    for name in list_names(path):
        try:
            read_manifest(path / str(name))
            problems = verify_checkpoint(path / str(name)) if verify else []
        except TsugikiError as error:
            problems = [str(error)]
        sound &= not problems
        lines.append(f"  {name}  {'; '.join(problems) or ('whole, digests verified' if verify else 'has a manifest')}")
    lines.append(f"  {stored_bytes(path) / 1e6:,.1f} MB in all")
    return [f"checkpoints in {path}", *lines], sound


def _vocabulary(path: Path, verify: bool) -> tuple[list[str], bool]:
    origin = read_json(path / MANIFEST, _VocabularyManifest)["made_from"]
    if origin is None:
        return [f"extended vocabulary {path}: broken off while it was made; run tsugiki vocabulary RECIPE again"], False
    report = read_json(path / "report.json", _VocabularyReport)
    size, passed = report["vocabulary_size"], [proof["passed"] for proof in report["proofs"]]
    lines = [
        f"extended vocabulary {path}: {size['before']:,} -> {size['after']:,} pieces, {sum(passed)} of {len(passed)} "
        "proofs passed"
    ]
    for name, change in (report["held_out"] or report["sample"]).items():
        lines.append(f"  {name}: {change['tokens_ratio']:.3f} of the base's tokens")
    lines.append(f"  learned from {', '.join(origin['corpora'])}; all figures are in report.md")
    more, sound = _model(path / "model", verify)
    return lines + more, sound


def _run(path: Path, verify: bool) -> tuple[list[str], bool]:
    lines, sound, checkpoints = [f"run {path}"], True, path / "checkpoints"
    if (path / STATE).exists():
        state = read_state(path)
        detail = f" ({state['detail']})" if state["detail"] else ""
        lines.append(f"  {state['status']} at step {state['step']:,}{detail}, {state['time']}")
    if checkpoints.is_dir():
        more, sound = _checkpoints(checkpoints, verify)
        lines += more
        newest = newest_name(checkpoints)
        if newest is not None:
            try:
                lines += _shares(read_json(checkpoints / newest / STATE, StateSummary).get("mixture", {}))
            except TsugikiError as error:
                lines, sound = [*lines, f"  PROBLEM {error}"], False
    if (path / "vocabulary" / MANIFEST).exists():
        more, whole = _vocabulary(path / "vocabulary", verify)
        lines, sound = lines + [f"  {line}" for line in more], sound and whole
    for name, what in (
        ("template_tokens", "the model with a chat template's markers"),
        ("recipe.yaml", "recipe, fully resolved"), ("preflight.json", "checks before the first step"),
        ("metrics.jsonl", "metrics"), ("data", "prepared sources"), ("export", "Hugging Face folder"),
        ("evaluation", "answers, records and tables"),
    ):  # fmt: skip
        if (path / name).exists():
            lines.append(f"  {name}: {what}")
    return lines, sound


def _experiment(path: Path, _verify: bool) -> tuple[list[str], bool]:
    """A sweep or an attribution: what it found is printed by its own verb and drawn by `tsugiki report`."""
    name, kind = next((name, kind) for name, kind in EXPERIMENTS.items() if (path / name).exists())
    found = read_json(path / name, _ExperimentResult)
    done = "every run has ended" if found["finished"] else "not every run has ended"
    file = found.get("sweep") or found.get("experiment", "?")
    lines = [f"{kind} {path}: {done}", f"  of {file}, with the recipe {found['recipe']}"]
    lines += _standings(path)
    return [*lines, f"  {name}: what it found; tsugiki report {path} draws it"], True


def _runs(path: Path, _verify: bool) -> tuple[list[str], bool]:
    return [f"runs in {path}", *_standings(path), f"  side by side: tsugiki report {path}/NAME {path}/NAME"], True


def _standings(path: Path) -> list[str]:
    """A line for each run in a folder."""
    lines = []
    for run in runs_in(path):
        state = known_state(run)
        lines.append(f"  {run.name}: {state['status']} at step {state['step']:,}" if state else f"  {run.name}")
    return lines


def _model(path: Path, _verify: bool) -> tuple[list[str], bool]:
    config = read_json(path / "config.json", _ModelConfig)
    weights = sorted(path.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in weights)
    kind = ", ".join(config.get("architectures") or []) or config.get("model_type", "unknown")
    lines = [f"Hugging Face folder {path}: {kind}, {size / 1e6:,.1f} MB in {len(weights)} safetensors file(s)"]
    tokenizer = [name for name in ("tokenizer.json", "tokenizer.model") if (path / name).exists()]
    size_of_vocabulary = f"{config['vocab_size']:,}" if "vocab_size" in config else "?"
    lines.append(f"  vocabulary {size_of_vocabulary}, tokenizer {', '.join(tokenizer) or 'none'}")
    return lines, bool(weights)


def _with_problems(lines: list[str], problems: list[str] | None, files: int) -> tuple[list[str], bool]:
    """Append the verdict; `problems` None means that nothing was verified."""
    if problems is None:
        return [*lines, "  digests not verified"], True
    if problems:
        return [*lines, *(f"  PROBLEM {problem}" for problem in problems)], False
    return [*lines, f"  whole: {files} files have their recorded digests"], True
