"""Requests of four kinds for `evaluation.py`, as the tasks make them, straight from the sets' own files."""

import bz2
import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INTRODUCTION = "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。"


@dataclass(frozen=True)
class Case:
    """`goal`: how many times fewer CPU-seconds than lm-eval's backend. Likelihood: pairs of context and continuation.
    Generation: pairs of context and nothing, with a budget of new tokens and stop strings."""

    name: str
    goal: float
    pairs: list[tuple[str, str]]
    max_new_tokens: int = 0
    until: tuple[str, ...] = ()


def _lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _prompt(instruction: str, shots: list[tuple[str, str]], question: str) -> str:
    blocks = [f"### 入力:\n{asked}\n\n### 応答:\n{answer}" for asked, answer in [*shots, (question, "")]]
    return f"{INTRODUCTION}\n\n### 指示:\n{instruction}\n\n" + "\n\n".join(blocks)


def jcommonsenseqa(data: Path, items: int) -> Case:
    """Five digits after each question, four fixed examples."""

    def asked(item: dict[str, object]) -> str:
        choices = ",".join(f"{number}.{item[f'choice{number}']}" for number in range(5))
        return f"質問：{item['question']}\n選択肢：{choices}"

    folder = data / "jcommonsenseqa"
    shots = [(asked(item), str(item["label"])) for item in _lines(folder / "train-v1.1.json")[:4]]
    questions = _lines(folder / "valid-v1.1.json")[:items]
    contexts = [_prompt("質問に対する答えの番号だけを書きなさい。", shots, asked(item)) for item in questions]
    pairs = [(context, str(digit)) for context in contexts for digit in range(5)]
    return Case(f"likelihood, fixed prefix (JCommonsenseQA, 4 shots, {items} items)", 3.0, pairs)


def jemhopqa(data: Path, items: int) -> Case:
    """Short answers, four fixed examples."""
    folder = data / "jemhopqa"
    shots = json.loads((folder / "train.json").read_text(encoding="utf-8"))[:4]
    questions = json.loads((folder / "dev.json").read_text(encoding="utf-8"))[:items]
    examples = [(f"質問：{item['question']}", item["answer"]) for item in shots]
    instruction = "質問に対する答えだけを書きなさい。"
    pairs = [(_prompt(instruction, examples, f"質問：{item['question']}"), "") for item in questions]
    name = f"short generation, fixed prefix (JEMHopQA, 4 shots, {items} items)"
    return Case(name, 1.5, pairs, max_new_tokens=20, until=("\n\n",))


def hellaswag(data: Path, items: int) -> Case:
    """Four endings of each context, no examples."""
    with bz2.open(data / "hellaswag" / "hellaswag_val_full.txt.bz2", "rt", encoding="utf-8") as file:
        lines = [next(file).rstrip("\n") for _ in range(6 * items)]
    pairs = []
    for begin in range(0, len(lines), 6):  # context, number of the right ending, four endings
        pairs += [(lines[begin], " " + ending) for ending in lines[begin + 2 : begin + 6]]
    return Case(f"likelihood, no prefix (HellaSwag, {items} items)", 0.95, pairs)


def mgsm(data: Path, items: int) -> Case:
    """Long answers, four examples that differ from item to item."""
    exemplars = json.loads((data / "mgsm" / "exemplars_ja.json").read_text(encoding="utf-8"))
    with (data / "mgsm" / "mgsm_ja.tsv").open(encoding="utf-8", newline="") as file:
        questions = [row[0] for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][:items]
    shots = [(one["q"], one["a"]) for one in exemplars.values()]
    pairs = []
    for number, question in enumerate(questions):
        chosen = [shots[(number + step * (1 + number % 3)) % len(shots)] for step in range(4)]
        blocks = [f"{asked}\n{answer}" for asked, answer in chosen]
        pairs.append(("\n\n".join([*blocks, f"問題：{question}\nステップごとの答え："]), ""))
    name = f"long generation, no prefix (MGSM, 4 shots an item, {items} items)"
    return Case(name, 0.95, pairs, max_new_tokens=64, until=("\n",))


CASES: dict[str, Callable[[Path, int], Case]] = {
    "jcommonsenseqa": jcommonsenseqa,
    "jemhopqa": jemhopqa,
    "hellaswag": hellaswag,
    "mgsm": mgsm,
}
