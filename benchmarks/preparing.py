"""Speed of preparing: ours in four ways, Megatron-LM's loop, `datasets.map` and datatrove.

    python benchmarks/preparing.py --corpora DIR                      three rounds, an hour and a half on two cores
    python benchmarks/preparing.py --corpora DIR --peer-python PATH   datatrove from another environment

DIR holds ja-literature.jsonl.zst and en-books.jsonl.zst. The tokenizer is Mistral's with 10,880 pieces for Japanese,
learnt from the corpus. Every contestant reads the same plain JSON Lines with two processes, in a process tree of its
own; rounds are interleaved, since such machines change their speed by the minute, and the best of each is taken. The
tree is looked at five times a second: CPU seconds are those of all its processes, start included; memory is the largest
sum of their proportional set sizes; disk the most that lay in its folder at once.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import zstandard
from vocabulary_authors import mistral_folder

from training import HERE, RESULTS, processor
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.base import open_base
from tsugiki.vocabulary.learn import learn

CORPORA = {"Japanese": "ja-literature", "English": "en-books"}
ALTERED = {
    "Japanese": ["のの", "のノ", "はハ", "にニ", "をヲ", "たタ", "でデ", "とト"],
    "English": ["ee", "ei", "ao", "td", "nm", "sz", "rl", "hk"],
}
"""What each copy of a corpus writes instead of what, the first as it is: no library is to be quick because it remembers
the copy before."""
CONTESTANTS = {
    "ours-gigatoken-segments": "ours, gigatoken by segments",
    "ours-gigatoken": "ours, gigatoken",
    "ours-segments": "ours, tokenizers by segments",
    "ours-tokenizers": "ours, tokenizers",
    "megatron": "Megatron-LM's loop",
    "datasets": "datasets.map",
    "datatrove": "datatrove",
}
PIECES, PROCESSES = 10_880, 2


def make_tokenizer(folder: Path, japanese: list[str]) -> None:
    """Mistral's tokenizer with pieces for Japanese, in a new folder. Takes a minute."""
    folder.mkdir()
    tokenizer = TextTokenizer.from_folder(mistral_folder(folder))
    base = open_base(tokenizer, TargetCharacters(["han", "hiragana", "katakana"]))
    learnt = learn(base, japanese[20:], japanese[:20], PIECES, max_length=16)
    (folder / "tokenizer.model").unlink()
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(base.state(learnt.pieces)), encoding="utf-8")


def write_corpus(source: Path, target: Path, altered: list[str]) -> tuple[list[str], int]:
    """The texts of a corpus, and the bytes of a copy for each of `altered`, written to `target` and to parts of it."""
    with source.open("rb") as file:
        texts = [
            json.loads(line)["text"]
            for line in io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        ]
    parts = Path(f"{target}.parts")
    parts.mkdir()
    streams = [(parts / f"{number}.jsonl").open("w", encoding="utf-8") for number in range(PROCESSES)]
    size = 0
    with target.open("w", encoding="utf-8") as whole:
        for old, new in altered:
            for number, text in enumerate(text.replace(old, new) for text in texts):
                size += len(text.encode())
                line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
                whole.write(line)
                streams[number % PROCESSES].write(line)
    for stream in streams:
        stream.close()
    return texts, size


class Watch(threading.Thread):
    """Looks at the memory of a process tree and the size of a folder until it is stopped."""

    def __init__(self, pid: int, folder: Path):
        super().__init__(daemon=True)
        self.pid, self.folder, self.memory, self.disk, self.stopped = pid, folder, 0, 0, threading.Event()
        self.cpu: dict[int, float] = {}

    def run(self) -> None:
        while not self.stopped.wait(0.2):
            found = tree(self.pid)
            self.memory = max(self.memory, sum(map(pss, found)))
            for pid in found:
                self.cpu[pid] = max(self.cpu.get(pid, 0.0), cpu_seconds(pid))
            self.disk = max(self.disk, folder_size(self.folder))


def tree(root: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents.setdefault(int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1]), []).append(
                    int(entry.name)
                )
            except OSError:
                continue
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """Of a process itself, without its children."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def waited_for() -> float:
    """CPU seconds of all children of this process that have ended, with theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def folder_size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def measure(contestant: str, corpus: Path, tokenizer: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, CPU seconds, memory and disk of one contestant on one corpus. Exits with its message where it fails."""
    python = options.peer_python if contestant == "datatrove" else sys.executable
    with tempfile.TemporaryDirectory(dir=corpus.parent) as name:
        folder = Path(name)
        output = folder / "output"
        output.mkdir()
        spec = {
            "contestant": contestant, "corpus": str(corpus), "tokenizer": str(tokenizer), "output": str(output),
            "processes": PROCESSES,
        }  # fmt: skip
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
        begun, before = time.perf_counter(), waited_for()
        child = subprocess.Popen(
            [python, str(HERE / "preparing_contestants.py"), str(folder / "spec.json")], env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        watch = Watch(child.pid, output)
        watch.start()
        out, errors = child.communicate()
        seconds = time.perf_counter() - begun
        watch.stopped.set()
        watch.join()
        if child.returncode:
            sys.exit(f"{contestant} failed: {errors.strip()[-2000:]}")
        if contestant == "bare":
            cpu = json.loads(out.splitlines()[-1])["cpu"]
        else:  # what was waited for is counted exactly, what was not as it was last seen
            cpu = max(waited_for() - before, sum(watch.cpu.values()))
        return {"seconds": seconds, "cpu": cpu, "memory": watch.memory, "disk": max(watch.disk, folder_size(output))}


def render(results: dict[str, Any]) -> list[str]:
    """The page."""
    lines = [
        "# Speed of preparing",
        "",
        f"`python benchmarks/preparing.py`: {results['machine']}, {PROCESSES} processes each, best of "
        f"{results['rounds']} interleaved rounds. The same plain JSON Lines and tokenizer for all: Mistral's with "
        "10,880 pieces for Japanese. MB are of documents in UTF-8; CPU seconds those of all processes, start included.",
        "",
    ]
    if results["copies"] < 3:
        lines += ["Each corpus was read once: seconds of start, proof of the tokenizer included, weigh much.", ""]
    if results["load"] > 1:
        lines += [
            f"Other work ran on the machine (load {results['load']:.0f} when it began): ratios hold, seconds do not.",
            "",
        ]
    for language, found in results["corpora"].items():
        bare_rate = found["bytes"] / 1e6 / found["bare"]["cpu"]
        peers = [found[name]["cpu"] for name in CONTESTANTS if name in found and not name.startswith("ours")]
        lines += [
            f"## {language}, {found['bytes'] / 1e6:.0f} MB",
            "",
            f"`encode_batch_fast` alone, as many processes, texts in memory, ids left where they are: {bare_rate:.2f} "
            "MB a CPU second.",
            "",
            "| | MB a CPU second | of `encode_batch_fast` alone | of the best peer | wall seconds | memory | disk |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, title in CONTESTANTS.items():
            if name in found:
                one = found[name]
                rate = found["bytes"] / 1e6 / one["cpu"]
                lines.append(
                    f"| {title} | {rate:.2f} | {rate / bare_rate:.2f} | {min(peers) / one['cpu']:.2f} | "
                    f"{one['seconds']:.1f} | {one['memory'] / 1e6:,.0f} MB | {one['disk'] / 1e6:,.0f} MB |"
                )
        lines.append("")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=Path, required=True)
    parser.add_argument("--peer-python", help="an interpreter that has datatrove; without it datatrove is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--copies",
        type=int,
        choices=range(1, 9),
        default=8,
        help="how many copies of each corpus are read, each altered in another way, so that the start weighs less",
    )
    parser.add_argument("--tokenizer", type=Path, help="where it lies, or is to lie; else it is made for this once")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    contestants = ["bare", *(name for name in CONTESTANTS if name != "datatrove" or options.peer_python)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpora, sizes = {}, {}
        for language, file in CORPORA.items():
            corpora[language] = folder / f"{file}.jsonl"
            texts, sizes[language] = write_corpus(
                options.corpora / f"{file}.jsonl.zst", corpora[language], ALTERED[language][: options.copies]
            )
            if language == "Japanese":
                tokenizer = options.tokenizer or folder / "tokenizer"
                if not tokenizer.exists():
                    make_tokenizer(tokenizer, texts)
        best: dict[str, Any] = {language: {"bytes": sizes[language]} for language in corpora}
        for _ in range(options.rounds):
            for language, corpus in corpora.items():
                for contestant in contestants:
                    found = measure(contestant, corpus, tokenizer, options)
                    print(f"{language} {contestant}: {found['cpu']:.1f} CPU s, {found['seconds']:.1f} s", flush=True)
                    kept = best[language].setdefault(contestant, found)
                    best[language][contestant] = {key: min(kept[key], found[key]) for key in found}
    machine = f"{processor()}, {len(os.sched_getaffinity(0))} CPUs"
    results = {
        "machine": machine, "load": load, "rounds": options.rounds, "copies": options.copies, "corpora": best,
    }  # fmt: skip
    (RESULTS / "preparing-cpu.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    lines = render(results)
    (RESULTS / "preparing-cpu.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
