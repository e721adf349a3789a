"""Wrong training is found before step 1: exact probes on the user's own model and data.

`check_run` runs every probe of `PROBES` in order, prints a table, writes `<run_dir>/preflight.json`, and raises
ModelError when one fails. A probe measures something that has one right value, computed independently of the code
under test; nothing is trained, and afterwards weights, optimiser, random states and step are bitwise as before.

All ranks run the same probes in the same order (a sharded forward is a collective); a verdict is the worst of them.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from tsugiki.errors import ModelError, TsugikiError
from tsugiki.files import write_json
from tsugiki.printable import one_line
from tsugiki.training.preflight import attention, data, gradients, labels, optimizer, paths, weights
from tsugiki.training.preflight.bench import Bench, finish_forward, nothing_changed
from tsugiki.training.preflight.report import Entry, Finding, Report, fail
from tsugiki.training.run import Run

__all__ = ["PROBES", "Finding", "Report", "check_run"]

log = logging.getLogger(__name__)


class Probe(NamedTuple):
    """A check: its name (as `training.preflight.skip` takes it), what it does, what to do when it does not pass."""

    name: str
    check: Callable[[Bench], Finding]
    remedy: str
    calls_model: bool = False


DEFECT = "Do not train: this is a defect of the training code or of the model's class, please report it"
REACHED = "Name in training.lora only what text reaches; if it does, this is a defect of the training code: report it"
PREPARE = "Run tsugiki prepare again with this tokenizer (with --verify if its files were changed)"

PROBES = (
    Probe("tokenizer", data.tokenizer, PREPARE),
    Probe("store_files", data.store_files_whole, PREPARE),
    Probe("token_ids", data.token_ids, "Prepare with the model's own tokenizer, or use the model that has these rows"),
    Probe("control_ids", data.control_ids, "Prepare again: control strings in text must be encoded as plain text"),
    Probe("bos_eos", data.bos_eos, "Prepare again; data.add_bos and data.add_eos say what surrounds a document"),
    Probe("formats", weights.formats, "Load the model in the format that training.precision names"),
    Probe("file_weights", weights.file_weights, "Fetch the model again; if its files are whole, report this"),
    Probe("tied", weights.tied, "tie_word_embeddings in config.json must say what the files hold"),
    Probe("buffers", weights.buffers, "Check rope_parameters (rope_theta, scaling) in config.json"),
    Probe("attention", attention.attention_used, "Set model.attn_implementation to what this model can do"),
    Probe("bf16_speed", weights.bf16_speed, "Set training.precision: fp32"),
    Probe("dropout", gradients.dropout, "Set the dropout rates in the model's config.json to 0", True),
    Probe("labels", labels.labels, DEFECT, True),
    Probe("targets", labels.targets, DEFECT),
    Probe("gradient_scale", labels.gradient_scale, DEFECT, True),
    Probe("own_path", labels.own_path, DEFECT, True),
    Probe("causality", attention.causality, "The model looks ahead: check its attention implementation", True),
    Probe("isolation", attention.isolation, "Set another model.attn_implementation", True),
    Probe("accumulation", gradients.accumulation, DEFECT, True),
    Probe("clipping", gradients.clipping, DEFECT, True),
    Probe("router_loss", gradients.router_loss, "Set training.router_aux_loss_coef, or report a defect", True),
    Probe("gradient_paths", paths.gradient_paths, REACHED, True),
    Probe("decay_groups", optimizer.decay_groups, DEFECT),
    Probe("schedule", optimizer.schedule, DEFECT),
    Probe("movable_weights", weights.movable_weights, "training.precision: fp32-master moves them all"),
    Probe("peak_rate", optimizer.peak_rate, "Lower training.learning_rate or lengthen training.warmup_steps"),
    Probe("replay", data.replay, "Add a source of text that the base model was trained on"),
    Probe("epochs", data.epochs, "More text, a lower weight, or a shorter run"),
    Probe("base_sanity", labels.base_sanity, "Look at the samples of tsugiki validate: is this its tokenizer?", True),
)  # fmt: skip


def check_run(run: Run) -> Report:
    """Probe a run that is about to train, and leave it as it was. Collective.

    Raises ModelError naming every check that failed and its remedy.
    """
    skipped: set[str] = set(run.recipe.training.preflight.skip)
    report = Report(run.step, run.processes.world)
    bench = Bench(run)
    run.say("preflight  exact checks on this model and this data")
    with nothing_changed(run):
        for probe in PROBES:
            start = time.perf_counter()
            if probe.name in skipped:
                finding = Finding("skip", "left out by training.preflight.skip")
            elif probe.calls_model and any(entry.name == "token_ids" for entry in report.failed):
                finding = Finding("skip", "not run: an id without a row ends a process on a GPU")
            else:
                finding = _agreed(run, _measure(probe, bench))
            report.entries.append(Entry(probe.name, finding, probe.remedy, time.perf_counter() - start))
            _show(run, report.entries[-1])
            if probe.name == "dropout" and gradients.active_dropout(bench):
                run.model.eval()  # what follows compares losses, which dropout would blur
    _publish(run, report)
    if report.failed:
        raise ModelError(report.failure_text())
    return report


def _measure(probe: Probe, bench: Bench) -> Finding:
    """The probe's finding on this rank; an error is one too, so that all probes are heard."""
    try:
        return probe.check(bench)
    except Exception as error:
        log.debug("preflight probe %s", probe.name, exc_info=True)
        finish_forward(bench.run)
        kind = "" if isinstance(error, TsugikiError) else f"{type(error).__name__}: "
        return fail(f"could not be measured: {kind}{one_line(error, 300)}")


def _agreed(run: Run, finding: Finding) -> Finding:
    """The worst finding of all ranks, with the first such rank's words."""
    if run.processes.world == 1:
        return finding
    failing, warning = run.processes.agree([finding.verdict == "FAIL", finding.verdict == "warn"])
    for verdict, count in (("FAIL", failing), ("warn", warning)):
        if count:
            mine = finding.verdict == verdict
            measured = run.processes.first_text(finding.measured if mine else None)
            threshold = run.processes.first_text((finding.threshold or "-") if mine else None) or ""
            return Finding("FAIL" if failing else "warn", measured or "", threshold.removeprefix("-"))
    return finding


def _show(run: Run, entry: Entry) -> None:
    """One line of the table, as soon as it is known."""
    run.say(entry.line())
    if entry.advice:
        run.say(f"  {'':<20} ->    {entry.advice}")


def _publish(run: Run, report: Report) -> None:
    """The sum of it on the terminal, all of it as JSON in the run."""
    run.say(report.summary())
    if run.processes.is_first:
        run.recipe.run_dir.mkdir(parents=True, exist_ok=True)
        write_json(run.recipe.run_dir / "preflight.json", report.as_json())
