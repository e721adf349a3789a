"""Made-up results of attributions, as `attribution.json` holds them: estimated from runs with planted effects."""

from dataclasses import asdict
from pathlib import Path

from tsugiki.attribution_results import AttributionResult, CellResult, MeasuredMetric
from tsugiki.experiment_results import Metric
from tsugiki.experiments.attribution import Comparison, Run, attribute
from tsugiki.experiments.attribution_design import Factor, full_design
from tsugiki.experiments.correlation import correlate
from tsugiki.experiments.measured import Ending
from tsugiki.experiments.transfer import MixtureRun, transfer
from tsugiki.files import write_json
from tsugiki.sweep_results import Probe, RunResult

FACTORS = [Factor("code", ("without", "with")), Factor("rate", ("low", "high")), Factor("precision", ("fp32", "bf16"))]
METRICS = [Metric("sums"), Metric("bits_per_byte:en", higher_is_better=False)]
BASE = {"sums": 0.8, "bits_per_byte:en": 2.0}
JITTER = (0.001, -0.001, -0.002, 0.002)


def values(cell: dict[str, str], seed: int, place: int) -> dict[str, float]:
    """The high rate costs .2 sums, with code .1 less of it; English .05 bits a byte. Precision does nothing."""
    high, code = cell["rate"] == "high", cell["code"] == "with"
    noise = JITTER[(place * 3 + seed) % 4]
    return {"sums": 0.7 - 0.2 * high + 0.1 * high * code + noise, "bits_per_byte:en": 2.1 + 0.05 * high - noise}


def made_attribution(*, hostile: str = "", failed: str = "", seeds: int = 2, compare: bool = True) -> AttributionResult:
    """Of three factors, one of which is called `hostile`; `failed`: why the first run of the last cell diverged."""
    named = hostile or "code"
    factors = [Factor(named if one.name == "code" else one.name, one.levels) for one in FACTORS]
    plain = full_design(FACTORS)
    cells = [{named if name == "code" else name: level for name, level in cell.items()} for cell in plain]
    runs, results = [], []
    for place, (cell, of_it) in enumerate(zip(cells, plain, strict=True)):
        own = []
        for seed in range(1, seeds + 1):
            bad = bool(failed) and place == len(cells) - 1 and seed == 1
            found = values(of_it, seed, place)
            runs.append(Run(cell, seed, Ending(True, failed) if bad else found))
            name = f"cell-{place}-seed-{seed}"
            own.append(RunResult(
                seed, f"runs/effects/{name}", f"runs/effects/{name}.yaml", "diverged" if bad else "done", 12 if bad else 100,
                failed if bad else "", {} if bad else found, None if bad else 2.5, 3 if of_it["rate"] == "high" else 0,
            ))  # fmt: skip
        done = [run.measured for run in own if run.measured]
        means = {name: sum(one[name] for one in done) / len(done) for name in done[0]} if done else {}
        results.append(CellResult(f"{hostile}cell-{place}", cell, {"training.learning_rate": 0.01}, tuple(own), means))
    comparisons = (
        [Comparison(cells[0], {**cells[0], named: "with", "rate": "high"}, {"data": [named]})] if compare else []
    )
    found = attribute(factors, runs, METRICS, comparisons)
    pairs = (correlate(runs, ("sums", "bits_per_byte:en"), [factor.name for factor in factors]),)
    return _result(results, attribution=found, correlations=pairs)


def made_transfer(*, hostile: str = "") -> AttributionResult:
    """Of two sources: sums help both domains alone, and English nothing."""
    sources = [f"sums{hostile}", "code"]
    metrics = [Metric("bits_per_byte:sums", False), Metric("bits_per_byte:code", False), Metric("arithmetic")]
    runs, results = [], []
    for place, mixture in enumerate([(), sources[:1], sources[1:], sources]):
        own = []
        for seed in (1, 2):
            noise = JITTER[(place * 3 + seed) % 4]
            found = {
                "bits_per_byte:sums": 2 - 0.5 * (sources[0] in mixture) + noise,
                "bits_per_byte:code": 2 - 0.3 * ("code" in mixture) - 0.1 * (sources[0] in mixture) - noise,
                "arithmetic": 0.3 + 0.4 * (sources[0] in mixture) + noise,
            }
            runs.append(MixtureRun(frozenset(mixture), seed, found))
            own.append(
                RunResult(seed, f"runs/x/{place}-{seed}", f"runs/x/{place}-{seed}.yaml", "done", 100, "", found, 2.5)
            )
        levels = {name: "with" if name in mixture else "without" for name in sources}
        means = {name: sum(run.measured[name] for run in own) / 2 for name in found}
        results.append(CellResult(f"mixture-{place}", levels, {}, tuple(own), means))
    matrix = transfer(
        sources, runs, metrics, {sources[0]: ["bits_per_byte:sums", "arithmetic"], "code": ["bits_per_byte:code"]}
    )
    return _result(results, transfer=matrix, metrics=metrics)


def _result(cells, *, metrics=METRICS, **found) -> AttributionResult:
    given = {"attribution": None, "transfer": None, "correlations": (), "problem": ""} | found
    return AttributionResult(
        format=1, experiment="effects.yaml", recipe="recipe.yaml", directory="runs/effects", finished=True,
        probe=Probe(100, 1000, "full", 40, "100 of 1,000 steps each"), seeds=(1, 2),
        metrics=tuple(MeasuredMetric(one.name, one.higher_is_better, ("task",), {}) for one in metrics),
        base={name: value for name, value in BASE.items() if name in {one.name for one in metrics}}, cells=tuple(cells),
        plan=("attribute  8 trials",), **given,
    )  # fmt: skip


def write_attribution(folder: Path, result: AttributionResult) -> Path:
    """The folder with its `attribution.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "attribution.json", asdict(result))
    return folder
