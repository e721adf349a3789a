"""The sections that let another person do it again: recipe, versions, hardware, fingerprints, commands."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from tsugiki import __version__
from tsugiki.amounts import quantity
from tsugiki.pages.document import Section, section
from tsugiki.pages.markup import Part, element, join
from tsugiki.pages.table import Column, table
from tsugiki.recipe_yaml import read
from tsugiki.report.parts import Runs, heading, paragraph, side_by_side
from tsugiki.report.run_directory import RunDirectory
from tsugiki.report.words import base_name
from tsugiki.shapes import Path, dotted

OWN_KEYS = {"run_dir", "tracking.run_name"}
"""That differ from run to run and say nothing."""


def differences(runs: Runs) -> list[tuple[str, list[str]]]:
    """Keys whose values differ between the runs' resolved recipes, with each run's value."""
    flat = [dict(_flat((), read(run.recipe_text, run.name).tree)) for run in runs]
    keys = dict.fromkeys(key for each in flat for key in each)
    found = []
    for key in keys:
        values = [each.get(key) for each in flat]
        if key not in OWN_KEYS and any(value != values[0] for value in values):
            found.append((key, ["–" if value is None else value for value in values]))
    return found


def _flat(path: Path, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, below in value.items():
            yield from _flat((*path, str(key)), below)
    elif value is not None:
        yield dotted(path), value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def recipes_compared(runs: Runs) -> Section | None:
    """What several runs were asked differently."""
    if len(runs) < 2:
        return None
    rows: list[list[Part]] = [
        [key, *(element("span", value, class_="anywhere") for value in values)] for key, values in differences(runs)
    ]
    if not rows:
        return section("Recipes compared", paragraph("The recipes ask for the same, but for where they write."))
    columns: list[Column | str] = ["key", *(Column(run.name, numeric=False) for run in runs)]
    return section("Recipes compared", table(columns, rows), paragraph("Keys with equal values are left out.", "note"))


def provenance(runs: Runs) -> Section:
    """Model, hardware, versions and fingerprints, then each recipe and its checks."""
    parts: list[Part] = [
        side_by_side(runs, [
            ("base", base_name),
            ("commit", _commit),
            ("parameters", lambda run: _start(run, "parameters", quantity)),
            ("kind", lambda run: ", ".join(run.config.get("architectures") or []) or run.config.get("model_type", "")),
            ("vocabulary", lambda run: f"{size:,}" if (size := run.config.get("vocab_size")) else ""),
            ("device", _device),
            ("processor", lambda run: _start(run, "cpu", str)),
            ("memory", lambda run: _start(run, "memory_gb", lambda size: f"{size:.0f} GB")),
            ("system", lambda run: _start(run, "system", str)),
            ("processes", _processes),
            ("optimizer", lambda run: run.checkpoint.get("optimizer", "") if run.checkpoint else ""),
            ("seed", lambda run: str(run.recipe.seed)),
        ], numeric=False),
        heading("Versions"),
        side_by_side(runs, [(name, partial(_version, name)) for name in _all_versions(runs)]),
        heading("Fingerprints"),
        *(_fingerprints(run, len(runs) > 1) for run in runs),
    ]  # fmt: skip
    for run in runs:
        parts += [_checks(run, len(runs) > 1), heading(f"Recipe of {run.name}" if len(runs) > 1 else "Recipe"),
                  element("pre", run.recipe_text, class_="recipe", tabindex="0")]  # fmt: skip
    return section("Recipe, versions, data", *parts)


def _commit(run: RunDirectory) -> str:
    origin = run.origin.get("model")
    return (origin["commit"] if origin else None) or ""


def _start(run: RunDirectory, key: str, write: Any) -> str:
    value = run.starts[-1].get(key) if run.starts else None
    return "" if value is None else write(value)


def _device(run: RunDirectory) -> str:
    if not run.starts:
        return ""
    start = run.starts[-1]
    count = start.get("devices") or start["processes"]
    return f"{count} × {start['device']}" if count > 1 else start["device"]


def _processes(run: RunDirectory) -> str:
    count = run.starts[-1]["processes"] if run.starts else run.preflight["processes"] if run.preflight else None
    return "" if count is None else f"{count:,}"


def _version(name: str, run: RunDirectory) -> str | None:
    return _versions(run).get(name)


def _versions(run: RunDirectory) -> dict[str, str]:
    """Of the last start; of the newest checkpoint where no start was recorded."""
    known = dict(run.checkpoint.get("versions", {})) if run.checkpoint else {}
    return known | (run.starts[-1].get("versions", {}) if run.starts else {})


def _all_versions(runs: Runs) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in _versions(run)))


def _fingerprints(run: RunDirectory, named: bool) -> Part:
    """What the tokenizer and each prepared source were made from, as xxh3 digests."""
    rows: list[list[Part]] = []
    if run.tokenizer:
        rows.append(["tokenizer", element("code", run.tokenizer, class_="whole"), ""])
    recorded = run.checkpoint.get("sources", {}) if run.checkpoint else {}
    for name in run.recipe.data.sources:
        manifest = run.manifests.get(name)
        digest = recorded.get(name) or (manifest.fingerprint if manifest else None)
        files = (
            [f"{file['name']} {file['size']:,} bytes {file['digest'][:12]}" for file in manifest.files[:3]]
            if manifest
            else []
        )
        more = f" and {len(manifest.files) - 3:,} more" if manifest and len(manifest.files) > 3 else ""
        rows.append([f"source {name}", element("code", digest or "–", class_="whole"), "; ".join(files) + more])
    return table(["of" if not named else run.name, "fingerprint (xxh3)", "made from"], rows)


def _checks(run: RunDirectory, named: bool) -> Part:
    if run.preflight is None:
        return None
    probes = run.preflight["probes"]
    failed = [probe for probe in probes if probe["verdict"] != "ok"]
    title = f"Checks before step 1{f' of {run.name}' if named else ''}: "
    title += f"all {len(probes)} passed" if not failed else f"{len(failed)} of {len(probes)} warned or failed"
    rows: list[list[Part]] = [[probe["name"], probe["verdict"], probe["measured"]] for probe in probes]
    return element("details", element("summary", title), table(["check", "verdict", "measured"], rows))


def again(runs: Runs) -> Section:
    """The commands that repeat a run."""
    parts: list[Part] = []
    for run in runs:
        version, torch = (_versions(run).get(name, "").split("+")[0] for name in ("tsugiki", "torch"))
        lines = [
            f"# in the folder of the source of Tsugiki {version or __version__}, whose README says more",
            "pip install -e ." + (f" 'torch=={torch}'" if torch else ""),
            "# save the recipe above as recipe.yaml; set its paths to where model and corpora lie",
            "tsugiki validate recipe.yaml",
            "tsugiki run recipe.yaml",
            "tsugiki sample recipe.yaml 0       # the text of any global sample",
        ]  # fmt: skip
        world = run.starts[-1]["processes"] if run.starts else 1
        if world > 1:
            lines[4] = f"torchrun --nproc-per-node {world} -m tsugiki run recipe.yaml   # or over several machines"
        if len(runs) > 1:
            parts.append(heading(run.name))
        parts.append(element("pre", "\n".join(lines)))
    parts.append(paragraph(
        "The order of data is a function of seed, weights and source sizes alone. The same bits need the same number "
        "of processes, versions and kind of device; equal fingerprints of tokenizer and sources show equal data.",
        "note",
    ))  # fmt: skip
    return section("Do it again", join(*parts))
