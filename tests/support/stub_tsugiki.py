"""Stands in for `python -m tsugiki run|evaluate|vocabulary|prepare RECIPE`: leaves the files that they leave, in no time.

What happens is told by the learning rate: .5 diverges, .25 is killed, .125 fails with a message, any other goes well.
A file WAIT in the run's parent folder makes training wait for a signal, and save.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import yaml

BYTES = [100, 200, 300]


def main() -> int:
    verb, path = sys.argv[3], Path(sys.argv[4])
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    run_dir, rate, seed = Path(recipe["run_dir"]), float(recipe["training"]["learning_rate"]), recipe["seed"]
    with (run_dir.parent / "calls.txt").open("a") as file:
        threads, gpus = os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")
        file.write(f"{verb} {run_dir.name} threads={threads} gpus={gpus} {' '.join(sys.argv[5:])}\n")
    if verb == "run":
        return run(recipe, run_dir, rate)
    if verb == "evaluate":
        suite = next((word.partition("=")[2] for word in sys.argv[5:] if word.startswith("evaluation.suite=")), None)
        is_base = recipe["evaluation"]["base"] == "only"
        return evaluate(run_dir, suite or recipe["evaluation"]["suite"], 0.0 if is_base else rate, seed)
    (run_dir.parent / f"made-{verb}.txt").write_text(recipe["data"]["prepared_dir"])
    return 0


def run(recipe: dict, run_dir: Path, rate: float) -> int:
    run_dir.mkdir(exist_ok=True)
    settings = recipe["training"]
    total = settings["max_steps"]
    last = min(total, settings["stop_after_steps"] or total)
    state = json.loads((run_dir / "state.json").read_text()) if (run_dir / "state.json").exists() else {"step": 0}

    def write(status: str, step: int, detail: str = "") -> None:
        (run_dir / "state.json").write_text(json.dumps({"status": status, "step": step, "detail": detail, "time": ""}))

    def log(step: int) -> None:
        with (run_dir / "metrics.jsonl").open("a") as file:
            line = {
                "kind": "step",
                "step": step,
                "loss": 4 - rate * 100,
                "tokens_per_second": 1000.0,
                "seconds_left": 60.0,
            }
            file.write(json.dumps(line) + "\n")

    write("running", state["step"])
    if (run_dir.parent / "WAIT").exists():
        asked = []
        signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
        log(1)
        (run_dir.parent / "pid").write_text(str(os.getpid()))
        (run_dir.parent / "pid").rename(run_dir.parent / f"waiting-{run_dir.name}")
        deadline = time.monotonic() + 120  # nothing is left behind where a test fails
        while not asked and time.monotonic() < deadline:
            time.sleep(0.01)
        write("resumable", 1, "SIGTERM")
        return 75
    if rate == 0.5:
        detail = "loss or gradient was not finite in steps 2 to 4; none of them was applied."
        print(f"error: {detail}")
        write("failed", 4, detail)
        return 4
    if rate == 0.25:
        os.kill(os.getpid(), signal.SIGKILL)
    if rate == 0.125:
        print("error: preflight: a check failed, so this run would train wrongly\nmore")
        return 3
    for step in range(state["step"] + 1, last + 1):
        log(step)
    write("finished" if last == total else "resumable", last, "" if last == total else "training.stop_after_steps")
    return 0 if last == total else 75


def evaluate(run_dir: Path, suite: str, rate: float, seed: int) -> int:
    """English gets worse with the rate, Japanese better up to .01; an item's value depends on its number and seed."""
    gain = min(rate, 0.01) * 50 - max(rate - 0.01, 0) * 50
    noise = [0.001 * ((seed * 7 + number * 3) % 5) for number in range(len(BYTES))]
    tasks, items = {}, {}

    def add(task: str, language: str, metric: str, combine: str, values: list) -> None:
        tasks[task] = {
            "title": task, "language": language, "metric": metric, "combine": combine, "total": len(values), "shots": 0,
            "chance": None, "comparable": True, "notes": [], "digest": "d",
        }  # fmt: skip
        items[task] = {str(number): value for number, value in enumerate(values)}

    if suite == "quick":
        for name, worse in (("ja", -gain), ("en", rate * 20)):
            nats = [(2 + worse + jitter) * size * 0.6931471805599453 for size, jitter in zip(BYTES, noise, strict=True)]
            add(
                f"text_{name}",
                f"{name}: bits per byte",
                "bits per byte",
                "bits_per_byte",
                [[n, b] for n, b in zip(nats, BYTES, strict=True)],
            )
    for task, language in (("cloze_ja", "ja"), ("order_ja", "ja"), ("cloze_en", "en"), ("swallow_mgsm_ja", "ja")):
        if (suite == "quick") != task.startswith("swallow"):
            add(task, language, "accuracy", "mean", [0.5 + jitter for jitter in noise])
    content = {"format": 1, "name": run_dir.name, "header": {"suite": suite}, "tasks": tasks, "items": items}
    folder = run_dir / "evaluation" / f"{run_dir.name}-0123abcd" / suite
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(json.dumps(content))
    return 0


if __name__ == "__main__":
    sys.exit(main())
