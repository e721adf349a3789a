"""The sums of the experiments, held-out questions, and the base's tokenizer, beside the passages of `passages.py`.

    python experiments/addition/make_data.py FOLDER

The questions are two tasks for the evaluation, `sums` and `sums_ja`. Sums are of numbers from 1 to 99. One pair in ten
with two digits each is held out, in both orders: no text has it, and the questions ask for nothing else.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

from tsugiki.files import write_atomically
from tsugiki.quickstart.base import train_tokenizer

TOKENIZER_BYTES = {"ja": 200_000, "en": 3_000_000, "code": 700_000, "formal": 200_000, "latex": 200_000}
"""What the tokenizer learns from, of each source."""
VOCABULARY = 2048
SUMS, SUMS_JA = 200_000, 40_000
LINES = 20
"""Sums in a document."""
QUESTIONS = 400
WORDINGS = ("{a}+{b}={n}", "{a}たす{b}は{n}です。")


def is_held_out(a: int, b: int) -> bool:
    """Whether a sum is kept for the questions: a tenth of those with two digits each."""
    low, high = sorted((a, b))
    return low >= 10 and blake2b(f"{low}+{high}".encode(), digest_size=4).digest()[0] % 10 == 0


def sums(wording: str, count: int) -> Iterator[str]:
    """`count` sums that are not held out, as documents of LINES lines."""
    random = Random(wording)
    lines: list[str] = []
    for _ in range(count):
        while True:
            a, b = random.randint(1, 99), random.randint(1, 99)
            if not is_held_out(a, b):
                break
        lines.append(wording.format(a=a, b=b, n=a + b))
        if len(lines) == LINES:
            yield "\n".join(lines)
            lines = []


def questions(wording: str) -> Iterator[dict[str, str]]:
    """QUESTIONS sums that are held out, each after four that are not, as a text goes on."""
    asked = [(a, b) for a in range(10, 100) for b in range(10, 100) if is_held_out(a, b)]
    random = Random(f"questions {wording}")
    random.shuffle(asked)
    before = (text for document in sums(wording, SUMS) for text in document.split("\n"))
    for a, b in asked[:QUESTIONS]:
        lines = [next(before) for _ in range(4)]
        question, answer = wording.format(a=a, b=b, n="|").split("|")[0], a + b
        yield {"id": f"{a}+{b}", "question": "\n".join([*lines, question]), "answer": str(answer)}


def write_lines(path: Path, records: Iterator[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    sample: list[str] = []
    for source, size in TOKENIZER_BYTES.items():
        lines = (folder / f"{source}.jsonl").read_text(encoding="utf-8").splitlines()
        text = "\n".join(json.loads(line)["text"] for line in lines)
        sample.append(text.encode()[:size].decode(errors="ignore"))
    for source, wording, count in (("sums", WORDINGS[0], SUMS), ("sums_ja", WORDINGS[1], SUMS_JA)):
        write_lines(folder / f"{source}.jsonl", ({"text": text} for text in sums(wording, count)))
        write_lines(folder / "questions" / source / "test.jsonl", questions(wording))
        sample.append("\n".join(sums(wording, 2_000)))
    shutil.copytree(Path(__file__).with_name("tasks"), folder / "tasks", dirs_exist_ok=True)
    train_tokenizer(folder / "tokenizer", sample, VOCABULARY)


if __name__ == "__main__":
    main()
