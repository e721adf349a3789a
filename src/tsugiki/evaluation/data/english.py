"""The six English sets: OpenBookQA, TriviaQA, HellaSwag, SQuAD2, XWinograd and GSM8K.

Each loader takes the set's official files, the Parquet form in which the Hugging Face hub serves it, and the smaller
forms in which parts of the set go round; a note says so where that changes the items.
"""

import re
from collections import Counter
from pathlib import Path

from tsugiki.errors import DataError
from tsugiki.evaluation.data.items import DataFiles, Item, Splits, hub_names, splits
from tsugiki.evaluation.data.rows import Row, read_lines, read_object, read_rows
from tsugiki.evaluation.data.squad import read_questions

LETTERS = "ABCD"
HELLASWAG_LINES = 6
"""Lines of an item in the text form: context, label, four endings."""
TRIVIA_PROMPT = re.compile(r"Question: (.*)\nAnswer:", re.DOTALL)


def _hub_file(split: str) -> str:
    return f"{split}-00000-of-00001.parquet"


def load_gsm8k(files: DataFiles) -> Splits:
    """{id (row number), question, answer (the rationale, ending in `#### N`)}."""
    test = files.need("gsm8k/test.jsonl", f"gsm8k/{_hub_file('test')}", f"gsm8k/main/{_hub_file('test')}")
    train = files.find("gsm8k/train.jsonl", f"gsm8k/{_hub_file('train')}", f"gsm8k/main/{_hub_file('train')}")
    return splits(_solutions, test, train)


def _solutions(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, row in enumerate(read_rows(path), 1):
        answer = row.text("answer")
        if "####" not in answer:
            raise row.error("the answer has no '####' before its number")
        items.append({"id": str(number), "question": row.text("question"), "answer": answer})
    return items


def load_hellaswag(files: DataFiles) -> Splits:
    """{id (row number), context, endings (4), label}, cleaned as lm-eval does it.

    The validation split is the test: the labels of the test split are secret.
    """
    official = files.find("hellaswag/hellaswag_val.jsonl", *hub_names("hellaswag", "validation"))
    train = files.find("hellaswag/hellaswag_train.jsonl", *hub_names("hellaswag", "train"))
    if official:
        return splits(_endings, official, train)
    joined = files.need("hellaswag/hellaswag_val.jsonl", "hellaswag/hellaswag_val_full.txt.bz2")
    note = "contexts are joined in the file given, the sentence to be ended without its capital"
    shots = _endings(train) if train else []
    return Splits(
        _joined_endings(joined), shots, published_shots=train is not None, published_items=False, notes=[note]
    )


def _endings(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, row in enumerate(read_rows(path), 1):
        endings = row.texts("endings")
        if len(endings) != 4:
            raise row.error(f"{len(endings)} endings, and four are wanted")
        # `ctx_b` is the beginning of the sentence to be ended; it is empty in the WikiHow half of the set.
        last = row.text("ctx_b") if row.values.get("ctx_b") else ""
        context = f"{row.text('activity_label')}: {row.text('ctx_a')} {last.capitalize()}"
        items.append(
            {
                "id": str(number),
                "context": without_brackets(context),
                "endings": [without_brackets(ending) for ending in endings],
                "label": row.label("label", 4),
            }
        )
    return items


def without_brackets(text: str) -> str:
    """Text without the marks of WikiHow: `[title]` ends a sentence, other brackets go, then one pass over doubled
    spaces (lm-eval's steps in its order; the published numbers rest on them)."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _joined_endings(path: Path) -> list[Item]:
    lines = read_lines(path)
    if not lines or len(lines) % HELLASWAG_LINES:
        raise DataError(f"{path}: {len(lines):,} lines, which is no multiple of {HELLASWAG_LINES}: the file is cut off")
    items: list[Item] = []
    for start in range(0, len(lines), HELLASWAG_LINES):
        context, label, *endings = lines[start : start + HELLASWAG_LINES]
        row = Row(f"{path}: line {start + 1}", {"context": context, "label": label, "endings": endings})
        items.append(
            {
                "id": str(start // HELLASWAG_LINES + 1),
                "context": row.text("context"),
                "endings": row.texts("endings"),
                "label": row.label("label", 4),
            }
        )
    return items


def load_openbookqa(files: DataFiles) -> Splits:
    """{id, question, choices (4), label}. The `main` configuration: questions without the book's facts."""
    official = files.find(*_open_book_names("test"))
    train = files.find(*_open_book_names("train"))
    if official:
        return splits(_open_book, official, train)
    short = files.need(*_open_book_names("test"), "openbookqa/openbook_qa.jsonl")
    return Splits(_short_open_book(short), _open_book(train) if train else [], published_shots=train is not None)


def _open_book_names(split: str) -> list[str]:
    inside = f"OpenBookQA-V1-Sep2018/Data/Main/{split}.jsonl"
    names = [f"{split}.jsonl", f"main/{split}.jsonl", inside, _hub_file(split), f"main/{_hub_file(split)}"]
    return [f"openbookqa/{name}" for name in names]


def _open_book(path: Path) -> list[Item]:
    items: list[Item] = []
    for row in read_rows(path):
        if row.values.get("question_stem") is not None:  # the hub's form: columns of texts and of letters
            question, columns = row.text("question_stem"), row.row("choices")
            choices, letters = columns.texts("text"), columns.texts("label")
        else:
            question = row.row("question").text("stem")
            options = row.row("question").rows("choices")
            choices, letters = [option.text("text") for option in options], [option.text("label") for option in options]
        if letters != list(LETTERS) or len(choices) != len(letters):
            raise row.error(f"choices are lettered {letters}, and A to D are wanted")
        key = row.text("answerKey").strip()
        if key not in letters:
            raise row.error(f"'answerKey' is {key!r}, which is none of {letters}")
        items.append({"id": row.text("id"), "question": question, "choices": choices, "label": letters.index(key)})
    return items


def _short_open_book(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, row in enumerate(read_rows(path), 1):
        choices = row.texts("choices")
        if len(choices) != 4:
            raise row.error(f"{len(choices)} choices, and four are wanted")
        label = row.label("gold", 4)
        items.append({"id": str(number), "question": row.text("query"), "choices": choices, "label": label})
    return items


def load_triviaqa(files: DataFiles) -> Splits:
    """{id, question, answer, aliases, normalized_aliases}: the dev split of rc.nocontext, which is the questions of
    web-dev and of wikipedia-dev; about 3,000 stand in both and count twice, as published.

    The training split is read in the hub's form only: the official JSON of it is several gigabytes of evidence.
    """
    hub = files.find(*_trivia_names("validation"))
    train = files.find(*_trivia_names("train"))
    if hub:
        return splits(_hub_trivia, hub, train)
    shots, published = _hub_trivia(train) if train else [], train is not None
    official = ["triviaqa/qa/web-dev.json", "triviaqa/qa/wikipedia-dev.json"]
    if both := files.find_all(*official):
        rows = [_trivia(row) for path in both for row in read_object(path).rows("Data")]
        return Splits(numbered_repeats(rows), shots, published_shots=published)
    subset = files.find("triviaqa/triviaqa_sm_sub.jsonl") or files.missing(
        *_trivia_names("validation"), *official, "triviaqa/triviaqa_sm_sub.jsonl"
    )
    return Splits(_short_trivia(subset), shots, published_shots=published)


def _trivia_names(split: str) -> list[str]:
    return [f"triviaqa/{_hub_file(split)}", f"triviaqa/rc.nocontext/{_hub_file(split)}"]


def _trivia(row: Row) -> Item:
    answer = row.row("Answer")
    return {
        "id": row.text("QuestionId"),
        "question": row.text("Question"),
        "answer": answer.text("Value"),
        "aliases": answer.texts("Aliases"),
        "normalized_aliases": answer.texts("NormalizedAliases"),
    }


def _hub_trivia(path: Path) -> list[Item]:
    items: list[Item] = []
    for row in read_rows(path):
        answer = row.row("answer")
        items.append(
            {
                "id": row.text("question_id"),
                "question": row.text("question"),
                "answer": answer.text("value"),
                "aliases": answer.texts("aliases"),
                "normalized_aliases": answer.texts("normalized_aliases"),
            }
        )
    return numbered_repeats(items)


def _short_trivia(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, row in enumerate(read_rows(path), 1):
        prompt = TRIVIA_PROMPT.fullmatch(row.text("context"))
        if prompt is None:
            raise row.error("'context' is not 'Question: …', a newline and 'Answer:'")
        items.append(
            {
                "id": str(number),
                "question": prompt[1],
                "answer": row.text("answer"),
                "aliases": row.texts("aliases"),
                "normalized_aliases": [],
            }
        )
    return items


def numbered_repeats(items: list[Item]) -> list[Item]:
    """The items, the second of an id named `ID#2` and so on."""
    seen: Counter[str] = Counter()
    for item in items:
        identity = str(item["id"])
        seen[identity] += 1
        if seen[identity] > 1:
            item["id"] = f"{identity}#{seen[identity]}"
    return items


def load_squad2(files: DataFiles) -> Splits:
    """{id, title, context, question, answers (empty: unanswerable)}. The dev split is the test."""
    test = files.need("squadv2/dev-v2.0.json", *_squad_names("validation"))
    train = files.find("squadv2/train-v2.0.json", *_squad_names("train"))
    return splits(read_questions, test, train)


def _squad_names(split: str) -> list[str]:
    return [f"squadv2/{_hub_file(split)}", f"squadv2/squad_v2/{_hub_file(split)}"]
