"""CPU-seconds of evaluation: ours against lm-eval's own Hugging Face backend at its best batch size.

    python benchmarks/evaluation.py --model FOLDER --data DIR            four cases, about a quarter of an hour
    python benchmarks/evaluation.py --model FOLDER --data DIR --cases hellaswag --batch-sizes 1 8

DIR holds the sets' own files in folders of their names. Same model object in fp32, same token ids, one thread, one
after the other in one process; what is measured is process time, since machines with neighbours change their speed by
the minute. lm-eval's `auto` tries batches of up to 64 of the longest request, each with logits over all its tokens:
name it among `--batch-sizes` on a machine that has the memory. Writes benchmarks/results/evaluation-cpu.json and .md.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from evaluation_requests import CASES, Case

RESULTS = Path(__file__).resolve().parent / "results"
ITEMS = {"jcommonsenseqa": 16, "jemhopqa": 12, "hellaswag": 16, "mgsm": 6}
MOST_LOGITS = 2**28
"""lm-eval keeps logits of a whole batch, and their log-softmax: 2 GiB of fp32 at this many."""


@dataclass(frozen=True)
class Figure:
    """One case: CPU-seconds by contestant, ours included; `difference` is the largest one of log-likelihoods (None:
    texts), `equal` the share of equal answers (greedy flags, or texts)."""

    case: str
    goal: float
    seconds: dict[str, float]
    ratio: float
    difference: float | None
    equal: float


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch-sizes", nargs="+", default=["1", "8", "16"])
    parser.add_argument("--batch-tokens", type=int, default=8192, help="ours")
    parser.add_argument("--items", type=int, help="items of each case")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    bench = Bench(arguments.model, arguments.batch_tokens)
    figures = []
    for name in arguments.cases:
        case = CASES[name](arguments.data, arguments.items or ITEMS[name])
        figures.append(bench.compare(case, arguments.batch_sizes))
        print(line(figures[-1]), flush=True)
    write(figures, arguments.model.name)


class Bench:
    """The model, and both ways to call it."""

    def __init__(self, model: Path, batch_tokens: int):
        import torch
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from tsugiki.model.cached import CachedModel
        from tsugiki.model.generate import stop_ids

        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.hf = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.lm = HFLM(pretrained=self.hf, tokenizer=self.tokenizer, batch_size=1)
        self.vocabulary = self.hf.config.vocab_size
        ends = stop_ids(self.hf, self.tokenizer.eos_token_id)
        self.ours = CachedModel(self.hf, batch_tokens=batch_tokens, stop_ids=ends)

    def compare(self, case: Case, batch_sizes: list[str]) -> Figure:
        """All contestants on one case."""
        likelihood = not case.max_new_tokens
        encoded = [
            self.lm._encode_pair(*pair) if likelihood else (self.lm.tok_encode(pair[0]), []) for pair in case.pairs
        ]
        longest = max(len(context) + len(tokens) for context, tokens in encoded)
        print(f"{case.name}: {len(encoded)} requests of up to {longest} tokens", flush=True)
        theirs: Callable[..., Any] = self._lm_eval_scores if likelihood else self._lm_eval_texts
        mine: Callable[..., Any] = self._our_scores if likelihood else self._our_texts
        seconds: dict[str, float] = {}
        expected: list[Any] = []
        for size in batch_sizes:
            if likelihood and size != "auto" and int(size) * longest * self.vocabulary > MOST_LOGITS and size != "1":
                print(f"  lm-eval, batch {size}: left out, its logits would take too much memory", flush=True)
                continue
            self.lm.batch_size_per_gpu = size if size == "auto" else int(size)
            seconds[f"lm-eval, batch {size}"], expected = measure(lambda: theirs(case, encoded))
        seconds["tsugiki"], got = measure(lambda: mine(case, encoded))
        best = min(value for name, value in seconds.items() if name != "tsugiki")
        if likelihood:
            difference = max(abs(one[0] - other[0]) for one, other in zip(expected, got, strict=True))
            equal = sum(one[1] == other[1] for one, other in zip(expected, got, strict=True)) / len(got)
        else:
            difference, equal = None, sum(one == other for one, other in zip(expected, got, strict=True)) / len(got)
        return Figure(case.name, case.goal, seconds, best / seconds["tsugiki"], difference, equal)

    def _lm_eval_scores(self, case: Case, encoded: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        requests = [(pair, *ids) for pair, ids in zip(case.pairs, encoded, strict=True)]
        return self.lm._loglikelihood_tokens(requests, disable_tqdm=True)

    def _our_scores(self, case: Case, encoded: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        from tsugiki.model.cached import Continuation, LogLikelihood

        found: dict[int, LogLikelihood] = {}
        self.ours.score([Continuation(*ids) for ids in encoded], found.__setitem__)
        return [(found[i].logprob, found[i].greedy) for i in range(len(encoded))]

    def _lm_eval_texts(self, case: Case, encoded: list[tuple[list[int], list[int]]]) -> list[str]:
        from lm_eval.api.instance import Instance

        options = {"until": list(case.until), "max_gen_toks": case.max_new_tokens, "do_sample": False}
        requests = [
            Instance("generate_until", {}, (context, options), number) for number, (context, _) in enumerate(case.pairs)
        ]
        return self.lm.generate_until(requests, disable_tqdm=True)

    def _our_texts(self, case: Case, encoded: list[tuple[list[int], list[int]]]) -> list[str]:
        from tsugiki.model.cached import Prompt

        def text(new: list[int]) -> str:
            return self.tokenizer.decode(new, skip_special_tokens=True)

        def ends(new: list[int]) -> bool:
            end = text(new[-12:])  # a stop string is no longer than that in tokens
            return any(stop in end for stop in case.until)

        found: dict[int, str] = {}

        def done(i: int, new: list[int]) -> None:
            found[i] = text(new)
            for stop in case.until:
                found[i] = found[i].split(stop)[0]

        self.ours.generate([Prompt(ids, case.max_new_tokens, ends) for ids, _ in encoded], done)
        return [found[i] for i in range(len(encoded))]


def measure(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU-seconds of all threads, and what came out."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def line(figure: Figure) -> str:
    """One case on one line."""
    seconds = ", ".join(f"{name} {value:.1f} s" for name, value in figure.seconds.items())
    met = "met" if figure.ratio >= figure.goal else "MISSED"
    within = "" if figure.difference is None else f"log-likelihoods within {figure.difference:.1e}, "
    return (
        f"  {seconds}: {figure.ratio:.2f} times as fast (goal {figure.goal:g}: {met});"
        f" {within}{figure.equal:.1%} of answers equal"
    )


def write(figures: list[Figure], model: str) -> None:
    """The table as JSON and as Markdown."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "evaluation-cpu.json").write_text(
        json.dumps({"model": model, "figures": [asdict(figure) for figure in figures]}, indent=2, ensure_ascii=False)
        + "\n",
        encoding="utf-8",
    )
    rows = [
        f"# Evaluation: CPU-seconds against lm-eval's Hugging Face backend\n\n{model}, fp32, one thread.\n",
        "| case | lm-eval by batch size | tsugiki | ratio | goal | log-likelihoods within | equal answers |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        theirs = ", ".join(
            f"{name.removeprefix('lm-eval, batch ')}: {value:.1f} s"
            for name, value in figure.seconds.items()
            if name != "tsugiki"
        )
        rows.append(
            f"| {figure.case} | {theirs} | {figure.seconds['tsugiki']:.1f} s | {figure.ratio:.2f} | {figure.goal:g}"
            f" | {'–' if figure.difference is None else f'{figure.difference:.1e}'} | {figure.equal:.1%} |"
        )
    (RESULTS / "evaluation-cpu.md").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
