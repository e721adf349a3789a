"""The six Japanese sets that are not translation: JCommonsenseQA, JEMHopQA, NIILC, JSQuAD, XL-Sum and MGSM.

Each loader takes the set's official files; the pool of examples is the split that the published set-up (the
evaluation of Swallow, 2024) drew from, where that file is there. Questions and answers are given as they stand.
"""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tsugiki.errors import DataError
from tsugiki.evaluation.data.items import DataFiles, Item, Splits, hub_names, splits
from tsugiki.evaluation.data.rows import Row, read_lines, read_object, read_rows, read_text
from tsugiki.evaluation.data.squad import read_questions

NO_ANSWER = "-"
"""What NIILC has in place of an answer to a question that has none; the published set-up leaves these items out."""
MGSM_ANSWER = re.compile(r"-?[0-9]+(,[0-9]{3})*(\.[0-9]+)?")


def load_jcommonsenseqa(files: DataFiles) -> Splits:
    """{id, question, choices (5), label}. JGLUE v1.1; its valid split is the test (the test split came in 2025)."""
    test = files.need("jcommonsenseqa/valid-v1.1.json")
    train = files.find("jcommonsenseqa/train-v1.1.json")
    return splits(_commonsense, test, train)


def _commonsense(path: Path) -> list[Item]:
    return [
        {
            "id": str(row.integer("q_id")),
            "question": row.text("question"),
            "choices": [row.text(f"choice{index}") for index in range(5)],
            "label": row.label("label", 5),
        }
        for row in read_rows(path)
    ]


def load_jemhopqa(files: DataFiles) -> Splits:
    """{id, question, answer, type}. Version 1.0, as published; version 1.2 (12 of 120 answers differ) without it."""
    old = files.find("jemhopqa/dev.json")
    if old:
        return splits(_multi_hop, old, files.find("jemhopqa/train.json"))
    new = files.need("jemhopqa/dev.json", "jemhopqa/dev_ver1.2.json")
    train = files.find("jemhopqa/train_ver1.2.json")
    note = "JEMHopQA version 1.2; published results are on version 1.0 (12 of its 120 items differ)"
    return splits(_multi_hop, new, train, published_shots=False, published_items=False, notes=[note])


def _multi_hop(path: Path) -> list[Item]:
    return [
        {
            "id": row.text("qid"),
            "question": row.text("question"),
            "answer": row.text("answer"),
            "type": row.text("type"),
        }
        for row in read_rows(path)
    ]


def load_niilc(files: DataFiles) -> Splits:
    """{id, question, answers}. NIILC-ECQA2015 in XML; questions without an answer are left out, as published."""
    test = files.need("niilc/NIILC-ECQA2015_test.xml")
    pool = files.find("niilc/NIILC-ECQA2015_dev.xml")
    items, left_out = _encyclopaedic(test)
    notes = [f"{left_out} of {len(items) + left_out} questions have no answer and are left out, as published"]
    return Splits(
        items,
        _encyclopaedic(pool)[0] if pool else [],
        published_shots=pool is not None,
        notes=notes if left_out else [],
    )


def _encyclopaedic(path: Path) -> tuple[list[Item], int]:
    """Items of one XML file, and how many questions have no answer."""
    text = read_text(path)
    if "<!DOCTYPE" in text:  # entities could expand without bound, and the original files have none
        raise DataError(f"{path}: the XML declares a document type, which the original file does not do")
    try:
        # As bytes: the declaration in the file names its encoding, which is refused in front of decoded text.
        root = ElementTree.fromstring(text.encode("utf-8"))
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not valid XML ({error}). Fetch the file again") from None
    items: list[Item] = []
    left_out = 0
    for number, question in enumerate(root.iter("question"), 1):
        texts = [answer.text or "" for answer in question.findall("answers/answer")]
        row = Row(
            f"{path}: question {number}",
            {
                "id": question.get("id"),
                "text": question.findtext("text"),
                "answers": [text for text in texts if text.strip()],
            },
        )
        answers = row.texts("answers")
        if not answers:
            raise row.error("it has no answer (one without any is marked by '-')")
        if answers == [NO_ANSWER]:
            left_out += 1
            continue
        items.append({"id": row.text("id"), "question": row.text("text"), "answers": answers})
    if not items:
        raise DataError(f"{path}: no questions in it. Put the set's original file there (`tsugiki data fetch`)")
    return items, left_out


def load_jsquad(files: DataFiles) -> Splits:
    """{id, context (title, " [SEP] ", paragraph, as the file has it), question, answers}. JGLUE v1.1."""
    test = files.need("jsquad/valid-v1.1.json")
    shots: list[Item] = []
    train = files.find("jsquad/train-v1.1.json")
    if train:
        shots = _comprehension(train)
    elif four := files.find("jsquad/fewshot4_train.json"):
        shots = [_quoted_example(number, row) for number, row in enumerate(read_rows(four), 1)]
    return Splits(_comprehension(test), shots, published_shots=train is not None)


def _comprehension(path: Path) -> list[Item]:
    items = read_questions(path)
    for item in items:
        del item["title"]  # it stands at the head of the context
        if not item["answers"]:
            raise DataError(f"{path}: question {item['id']} has no answer, and every question of JSQuAD has one")
    return items


def _quoted_example(number: int, row: Row) -> Item:
    return {
        "id": f"example-{number}",
        "context": row.text("context"),
        "question": row.text("question"),
        "answers": [row.text("answer")],
    }


def load_xlsum_ja(files: DataFiles) -> Splits:
    """{id (row number), text, summary}. The Japanese part of XL-Sum, filtered by overlap (mkshing/xlsum_ja)."""
    test = files.need(*hub_names("xlsum_ja", "test", "test.csv"))
    train = files.find(*hub_names("xlsum_ja", "train", "train.csv"))
    return splits(_articles, test, train)


def _articles(path: Path) -> list[Item]:
    return [
        {"id": str(number), "text": row.text("text"), "summary": row.text("summary")}
        for number, row in enumerate(read_rows(path), 1)
    ]


def load_mgsm_ja(files: DataFiles) -> Splits:
    """Test: {id (row number), question, answer (a number as text, without commas)}; shots: {id, question, answer}.

    An example's question begins with its label (問題：) and its answer with its own (ステップごとの答え：), as the file
    of exemplars has them; a test question has none.
    """
    test = files.need("mgsm/mgsm_ja.tsv")
    exemplars = files.find("mgsm/exemplars.py", "mgsm/exemplars_ja.json")
    return Splits(
        _word_problems(test), _exemplars(exemplars) if exemplars else [], published_shots=exemplars is not None
    )


def _word_problems(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, line in enumerate(read_lines(path), 1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise DataError(
                f"{path}: line {number}: {len(fields)} fields, and a question, a tab and a number are wanted"
            )
        row = Row(f"{path}: line {number}", {"question": fields[0], "answer": fields[1].strip()})
        answer = row.text("answer")
        if not MGSM_ANSWER.fullmatch(answer):
            raise row.error(f"the answer {answer!r:.40} is not a number")
        items.append({"id": str(number), "question": row.text("question"), "answer": answer.replace(",", "")})
    return items


def _exemplars(path: Path) -> list[Item]:
    """The eight worked examples: a JSON object, or the literal in the official Python file, which is never run."""
    examples = _python_exemplars(path) if path.suffix == ".py" else read_object(path)
    items: list[Item] = []
    for key in examples.values:
        row = examples.row(key)
        items.append({"id": f"exemplar-{key}", "question": row.text("q"), "answer": row.text("a")})
    if not items:
        raise DataError(f"{path}: the file holds no examples")
    return items


def _python_exemplars(path: Path) -> Row:
    try:
        for statement in ast.parse(read_text(path)).body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "MGSM_EXEMPLARS":
                return Row(f"{path}: MGSM_EXEMPLARS", ast.literal_eval(statement.value)).row("ja")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(f"{path}: MGSM_EXEMPLARS is not a plain literal ({error})") from None
    raise DataError(f"{path}: it assigns no MGSM_EXEMPLARS. Put the original exemplars.py there")
