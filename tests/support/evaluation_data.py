"""Made-up files of every evaluation set in its official format, in the folders where they are looked for.

Nothing in them is of the real sets. Each has `TEST` test items and, where the set has a split for examples, `POOL` of
those (MGSM: 8, as it really has). What matters to readers is in them: several answers, brackets, quotation marks,
commas in numbers, line breaks in a cell.
"""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

TEST = 12
POOL = 10
ANIMALS = ["犬", "猫", "馬", "牛", "羊", "猿", "鳥", "魚", "虫", "狐", "狸", "熊"]
NAMES = ["Ann", "Bob", "Cid", "Dan", "Eve", "Fay", "Gil", "Hal", "Ida", "Jon", "Kim", "Lee"]


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def write_lines(path: Path, values: list[Any]) -> None:
    """JSON Lines, or lines of text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_official_data(folder: Path) -> None:
    """All fourteen sets."""
    for write in (
        jcommonsenseqa, jemhopqa, niilc, jsquad, xlsum_ja, mgsm_ja, wmt20, openbookqa, triviaqa, hellaswag, squad2,
        xwinograd_en, gsm8k,
    ):  # fmt: skip
        write(folder)


def jcommonsenseqa(folder: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        choices = {f"choice{place}": ANIMALS[(number + place) % 12] for place in range(5)}
        question = f"{number}番目に出てくる動物は何？"
        return {"q_id": 9000 + number, "question": question, **choices, "label": number % 5}

    write_lines(folder / "jcommonsenseqa/valid-v1.1.json", [row(number) for number in range(TEST)])
    write_lines(folder / "jcommonsenseqa/train-v1.1.json", [row(100 + number) for number in range(POOL)])


def jemhopqa(folder: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        kind = "comparison" if number % 2 else "compositional"
        answer = ("YES" if number % 4 == 1 else "NO") if number % 2 else ANIMALS[number % 12]
        return {
            "qid": f"{number:032x}", "type": kind, "question": f"『動物{number}』と『動物{number + 1}』は同じですか？",
            "answer": answer, "derivations": [["動物", "種", [answer]]], "page_ids": ["1"], "time_dependent": False,
        }  # fmt: skip

    write_json(folder / "jemhopqa/dev.json", [row(number) for number in range(TEST)])
    write_json(folder / "jemhopqa/train.json", [row(100 + number) for number in range(POOL)])


def niilc(folder: Path) -> None:
    """One question more than TEST: the one without an answer. Every third has two answers."""

    def question(number: int, answers: list[str]) -> str:
        listed = "\n".join(f"    <answer>{answer}</answer>" for answer in answers)
        return (
            f'<question id="MADE-UP-{number:05}-01">\n  <text>{number}番の動物は？</text>\n'
            f"  <answers>\n{listed}\n  </answers>\n  <meta>\n    <A.3></A.3>\n  </meta>\n</question>"
        )

    def document(numbers: range) -> list[str]:
        items = [question(n, [ANIMALS[n % 12], "けもの"] if n % 3 == 0 else [ANIMALS[n % 12]]) for n in numbers]
        items.insert(1, question(numbers.stop, ["-"]))
        return ["<?xml version='1.0' encoding=\"UTF-8\"?>", "<questions>", *items, "</questions>"]

    write_lines(folder / "niilc/NIILC-ECQA2015_test.xml", document(range(TEST)))
    write_lines(folder / "niilc/NIILC-ECQA2015_dev.xml", document(range(100, 100 + POOL)))


def jsquad(folder: Path) -> None:
    def article(number: int) -> dict[str, Any]:
        animal = ANIMALS[number % 12]
        answers = [{"text": animal, "answer_start": 9}, {"text": f"{animal}の一種", "answer_start": 9}]
        question = {"id": f"a{number}p0q0", "question": "何の話か。", "answers": answers, "is_impossible": False}
        paragraph = {"context": f"動物{number} [SEP] これは{animal}の一種で、森に住む。", "qas": [question]}
        return {"title": f"動物{number}", "paragraphs": [paragraph]}

    write_json(folder / "jsquad/valid-v1.1.json", {"data": [article(number) for number in range(TEST)]})
    write_json(folder / "jsquad/train-v1.1.json", {"data": [article(100 + number) for number in range(POOL)]})


def xlsum_ja(folder: Path) -> None:
    def write(path: Path, numbers: range) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "url", "title", "summary", "text"])
            for number in numbers:
                animal = ANIMALS[number % 12]
                text = (
                    f'森で{animal}が見つかった。\n「{animal}」は, "珍しい"という。'
                    + f"{number}日目も調べが続いた。" * 3
                )
                table.writerow(
                    [str(number), "https://example.org", "題", f"森で{animal}が見つかり、調べが続いている。", text]
                )

    write(folder / "xlsum_ja/test.csv", range(TEST))
    write(folder / "xlsum_ja/train.csv", range(100, 100 + POOL))


def mgsm_ja(folder: Path) -> None:
    problems = [f"犬が{n}匹、猫が{n + 1000}匹います。合わせて何匹ですか？\t{2 * n + 1000:,}" for n in range(TEST)]
    write_lines(folder / "mgsm/mgsm_ja.tsv", problems)

    def exemplar(number: int) -> dict[str, str]:
        return {
            "q": f"問題：犬が{number}匹、猫が{number + 1}匹います。合わせて何匹ですか？",
            "a": f"ステップごとの答え：{number}+{number + 1}={2 * number + 1}。答えは{2 * number + 1}です。",
        }

    english = {str(number): {"q": "Question: ?", "a": "Step-by-Step Answer: 1."} for number in range(1, 9)}
    japanese = {str(number): exemplar(number) for number in range(1, 9)}
    # As in the official file: strings in escapes, cut over several lines.
    literal = json.dumps({"en": english, "ja": japanese}, indent=4).replace("\\u5408", '"\n                 "\\u5408')
    source = f'"""Prompts for mgsm."""\n\nEXEMPLAR_NUMBER_ANSWERS = [3, 5]\n\nMGSM_EXEMPLARS = {literal}\n'
    (folder / "mgsm/exemplars.py").write_text(source, encoding="utf-8")


def wmt20(folder: Path) -> None:
    """Both directions in WMT's SGML, and newstest2021 in plain files."""

    def sgml(kind: str, language: str, sentences: list[str]) -> list[str]:
        segments = [f'<seg id="{number}">{text}</seg>' for number, text in enumerate(sentences, 1)]
        head = f'<{kind} setid="newstest2020" srclang="any" trglang="{language}">'
        return [head, '<doc docid="made.up.1" genre="news">', "<p>", *segments, "</p>", "</doc>", f"</{kind}>"]

    def english(number: int) -> str:
        return f"{NAMES[number % 12]} & Co. saw  animal {number}."  # two spaces, as real lines have

    def japanese(number: int) -> str:
        return f"{NAMES[number % 12]}社は{ANIMALS[number % 12]}を{number}匹見た。"

    sides = {"en": english, "ja": japanese}
    for source, target in (("en", "ja"), ("ja", "en")):
        for kind, side, language in (("srcset", "src", source), ("refset", "ref", target)):
            path = folder / f"wmt20/sgm/newstest2020-{source}{target}-{side}.{language}.sgm"
            write_lines(path, sgml(kind, language, [sides[language](number) for number in range(TEST)]))
        for side, language in ((f"src.{source}", source), (f"ref.A.{target}", target)):
            path = folder / f"wmt21/newstest2021.{source}-{target}.{side}"
            write_lines(path, [sides[language](100 + number) for number in range(POOL)])


def openbookqa(folder: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        texts = [f"a {name.lower()}" for name in (NAMES * 2)[number % 12 : number % 12 + 4]]
        choices = [{"text": text, "label": letter} for text, letter in zip(texts, "ABCD", strict=True)]
        question = {"stem": f"Thing {number} is most like", "choices": choices}
        return {"id": f"7-{number}", "question": question, "answerKey": "ABCD"[number % 4]}

    write_lines(folder / "openbookqa/main/test.jsonl", [row(number) for number in range(TEST)])
    write_lines(folder / "openbookqa/main/train.jsonl", [row(100 + number) for number in range(POOL)])


def triviaqa(folder: Path) -> None:
    """Two files that share their first question, as web and Wikipedia do; examples in the hub's Parquet form."""

    def row(number: int) -> dict[str, Any]:
        name = NAMES[number % 12]
        answer = {
            "Aliases": [f"{name} Smith", name], "NormalizedAliases": [f"{name.lower()} smith", name.lower()],
            "NormalizedValue": name.lower(), "Type": "WikipediaEntity", "Value": name,
        }  # fmt: skip
        return {
            "Answer": answer,
            "EntityPages": [],
            "Question": f"Who is person {number}?",
            "QuestionId": f"tc_{number}",
        }

    def hub(number: int) -> dict[str, Any]:
        official = row(number)["Answer"]
        answer = {
            "aliases": official["Aliases"], "normalized_aliases": official["NormalizedAliases"],
            "matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "",
            "normalized_value": official["NormalizedValue"], "type": official["Type"], "value": official["Value"],
        }  # fmt: skip
        return {
            "question": f"Who is person {number}?",
            "question_id": f"tc_{number}",
            "question_source": "",
            "answer": answer,
        }

    half = TEST // 2
    write_json(folder / "triviaqa/qa/web-dev.json", {"Data": [row(number) for number in range(half)], "Version": 1.0})
    wikipedia = [row(0), *(row(number) for number in range(half, TEST - 1))]
    write_json(folder / "triviaqa/qa/wikipedia-dev.json", {"Data": wikipedia, "Version": 1.0})
    write_parquet(folder / "triviaqa/train-00000-of-00001.parquet", [hub(100 + number) for number in range(POOL)])


def hellaswag(folder: Path) -> None:
    """Half as from ActivityNet, half as from WikiHow (brackets, no `ctx_b`)."""

    def row(number: int) -> dict[str, Any]:
        name = NAMES[number % 12]
        endings = [f"walks to house {place}." for place in range(4)]
        if number % 2:
            first, last, label = (
                f"How to see {name} [title] Look out of the window. [step] Wait.",
                "",
                "Home and Garden",
            )
            endings = [f"[substeps] {ending.capitalize()}" for ending in endings]
        else:
            first, last, label = f"A dog sits by {name}. ", "the DOG", "Walking the dog"
        return {
            "ind": number, "activity_label": label, "ctx_a": first, "ctx_b": last, "ctx": f"{first} {last}",
            "split": "val", "split_type": "indomain", "label": number % 4, "endings": endings, "source_id": f"made~{number}",
        }  # fmt: skip

    write_lines(folder / "hellaswag/hellaswag_val.jsonl", [row(number) for number in range(TEST)])
    write_lines(folder / "hellaswag/hellaswag_train.jsonl", [row(100 + number) for number in range(POOL)])


def squad2(folder: Path) -> None:
    """Every third question cannot be answered."""

    def article(number: int) -> dict[str, Any]:
        name = NAMES[number % 12]
        unanswerable = number % 3 == 2
        answers = (
            []
            if unanswerable
            else [{"text": name, "answer_start": 0}, {"text": f"{name} the elder", "answer_start": 0}]
        )
        question = {
            "id": f"{number:024x}",
            "question": "Who lives here?",
            "answers": answers,
            "is_impossible": unanswerable,
        }
        if unanswerable:
            question["plausible_answers"] = [{"text": name, "answer_start": 0}]
        context = "It is empty." if unanswerable else f"{name} the elder lives in house {number}."
        return {"title": f"House_{number}", "paragraphs": [{"context": context, "qas": [question]}]}

    for name, start, count in (("dev", 0, TEST), ("train", 100, POOL)):
        data = [article(start + number) for number in range(count)]
        write_json(folder / f"squadv2/{name}-v2.0.json", {"version": "v2.0", "data": data})


def xwinograd_en(folder: Path) -> None:
    """English rows with the pronoun's form elsewhere in the sentence too, quotation marks, and a row in French."""

    def row(number: int) -> str:
        first, second = NAMES[number % 12], NAMES[(number + 1) % 12]
        sentence = f'{first} said "he" to {second} since he is number {number}.'
        words = [first, "said", "``", "he", "''", "to", second, "since", "he", "is", "number", str(number), "."]
        candidates = [[first, [0, 1], [first], number % 2 == 0], [second, [6, 7], [second], number % 2 == 1]]
        cells = [words, ["he", [8, 9], ["he"]], candidates]
        return "\t".join(["en", "made.up", "?", sentence, *(json.dumps(cell) for cell in cells)])

    french = row(0).replace("en\t", "fr\t", 1)
    write_lines(folder / "xwinograd/dataset.tsv", [row(0), french, *(row(number) for number in range(1, TEST))])


def gsm8k(folder: Path) -> None:
    def row(number: int) -> dict[str, str]:
        total = 2 * number + 1000
        answer = (
            f"There are {number}+{number + 1000}=<<{number}+{number + 1000}={total}>>{total} animals.\n#### {total:,}"
        )
        return {"question": f"{number} dogs and {number + 1000} cats: how many animals?", "answer": answer}

    write_lines(folder / "gsm8k/test.jsonl", [row(number) for number in range(TEST)])
    write_lines(folder / "gsm8k/train.jsonl", [row(100 + number) for number in range(POOL)])
