"""The SQuAD format, in which SQuAD2 and JSQuAD are published: articles, their paragraphs, questions on each."""

from pathlib import Path

from tsugiki.errors import DataError
from tsugiki.evaluation.data.items import Item
from tsugiki.evaluation.data.rows import Row, read_object, read_rows


def read_questions(path: Path) -> list[Item]:
    """Items {id, title, context, question, answers} of a SQuAD file (JSON), or of the hub's Parquet form of it.

    `answers` is empty where the context does not answer the question (SQuAD2). Raises DataError.
    """
    if path.suffix == ".parquet":
        return [_flat_question(row) for row in read_rows(path)]
    items: list[Item] = []
    for article in read_object(path).rows("data"):
        title = article.text("title")
        for paragraph in article.rows("paragraphs"):
            context = paragraph.text("context")
            for question in paragraph.rows("qas"):
                answers = [answer.text("text") for answer in question.rows("answers")]
                items.append(_question(question, title, context, answers))
    if not items:
        raise DataError(f"{path}: no questions in it. Put the set's original file there (`tsugiki data fetch`)")
    return items


def _flat_question(row: Row) -> Item:
    return _question(row, row.text("title"), row.text("context"), row.row("answers").texts("text"))


def _question(row: Row, title: str, context: str, answers: list[str]) -> Item:
    if row.values.get("is_impossible") is True and answers:
        raise row.error("'is_impossible' is true, but there are answers")
    if row.values.get("is_impossible") is False and not answers:
        raise row.error("'is_impossible' is false, but there are no answers")
    return {
        "id": row.text("id"),
        "title": title,
        "context": context,
        "question": row.text("question"),
        "answers": answers,
    }
