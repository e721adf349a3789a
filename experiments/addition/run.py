"""Everything again: text, base, and the four experiments on it.

    python experiments/addition/run.py FOLDER --corpora CORPORA          about three hours on two quiet cores
    python experiments/addition/run.py FOLDER --corpora CORPORA --only factors

FOLDER gets text, token stores and runs. Stopped anywhere, the same command goes on; what is there is not made again.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TEXT = [
    "ja=ja-literature:9000000", "en=en-books:8000000", "code=en-code:4000000", "formal=formal-math:4000000",
    "latex=en-latex-math:4000000",
]  # fmt: skip
EXPERIMENTS = {
    "rates": ("sweep", "rates.yaml"),
    "rates-without-replay": ("sweep", "rates-without-replay.yaml"),
    "factors": ("attribute", "factors.yaml"),
    "transfer": ("attribute", "transfer.yaml"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--only", choices=EXPERIMENTS, action="append", help="one of the experiments, or several")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    early, stopped = str(HERE / "base-early.yaml"), folder / "runs/base-early/checkpoints/step_00002200"
    steps = []
    if not (folder / "data" / "tokenizer").exists():  # written last
        corpora = str(arguments.corpora.resolve())
        steps.append([str(HERE.parent / "passages.py"), "data", "--corpora", corpora, *TEXT])
        steps.append([str(HERE / "make_data.py"), "data"])
    if not (folder / "runs" / "base-early" / "export").exists():
        steps.append(["-m", "tsugiki", "prepare", early])
        if not stopped.exists():
            steps.append(["-m", "tsugiki", "train", early])
        steps.append(["-m", "tsugiki", "export", "runs/base-early", "runs/base-early/export", "--dtype", "float32"])
    if not (folder / "runs" / "base" / "export").exists():
        steps.append(["-m", "tsugiki", "run", str(HERE / "base.yaml")])
    for name in arguments.only or EXPERIMENTS:
        verb, file = EXPERIMENTS[name]
        steps.append(["-m", "tsugiki", verb, str(HERE / file)])
    environment = {"OMP_NUM_THREADS": "1"} | os.environ
    for step in steps:
        print("$ python", " ".join(step), flush=True)
        code = subprocess.run([sys.executable, *step], cwd=folder, env=environment).returncode
        if code and not (
            step[2:] == ["train", early] and stopped.exists()
        ):  # its recipe stops it: "resumable" is its end
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
