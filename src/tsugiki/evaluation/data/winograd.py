"""XWinograd, English: a sentence with a blank and two candidates, made from the table of crosslingual_winograd.

The table marks the pronoun by its position among words; the blank goes where that word stands in the sentence, and
everything else stays as it is.
"""

import json
from pathlib import Path
from typing import Any

from tsugiki.errors import DataError
from tsugiki.evaluation.data.items import DataFiles, Item, Splits
from tsugiki.evaluation.data.rows import Row, read_lines, read_rows

BLANK = "_"
COLUMNS = 7  # language, source, original sentence, sentence, words, pronoun, candidates


def load_xwinograd_en(files: DataFiles) -> Splits:
    """{id (number of the English row), sentence with one "_", option1, option2, label (0 or 1)}.

    There is one split; the published set-up draws its examples from it.
    """
    table = files.find("xwinograd/dataset.tsv")
    if table:
        return Splits(_from_table(table))
    return Splits(_from_lines(files.need("xwinograd/dataset.tsv", "xwinograd/en.jsonl", "xwinograd/test/en.jsonl")))


def _from_lines(path: Path) -> list[Item]:
    """The form of Muennighoff/xwinograd: sentence, option1, option2, answer ("1" or "2")."""
    items: list[Item] = []
    for number, row in enumerate(read_rows(path), 1):
        answer = row.integer("answer")
        if answer not in (1, 2):
            raise row.error(f"'answer' is {answer}, and 1 or 2 is wanted")
        options = [row.text("option1"), row.text("option2")]
        items.append(_item(str(number), row, row.text("sentence"), options, answer - 1))
    return items


def _from_table(path: Path) -> list[Item]:
    items: list[Item] = []
    for number, line in enumerate(read_lines(path), 1):
        cells = line.split("\t")
        if len(cells) != COLUMNS:
            raise DataError(f"{path}: line {number}: {len(cells)} columns, and {COLUMNS} are wanted")
        if cells[0] == "en":
            row = Row(f"{path}: line {number}", {})
            try:
                values = [json.loads(cell) for cell in cells[4:]]
                items.append(_blanked(str(len(items) + 1), row, cells[3], *values))
            except (ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
                raise row.error(f"its words, pronoun and candidates cannot be read ({error})") from None
    if not items:
        raise DataError(f"{path}: no English rows. Put the original dataset.tsv there (`tsugiki data fetch`)")
    return items


def _blanked(
    identity: str, row: Row, sentence: str, words: list[str], pronoun: list[Any], candidates: list[Any]
) -> Item:
    text, (first, end), _ = pronoun
    places = word_places(sentence, words)
    if places is None:
        raise row.error("the words do not make up the sentence")
    start, stop = places[first][0], places[end - 1][1]
    if sentence[start:stop] != text:
        raise row.error(f"the pronoun {text!r} does not stand at its place ({sentence[start:stop]!r} does)")
    right = [bool(candidate[3]) for candidate in candidates]
    if len(candidates) != 2 or sum(right) != 1:
        raise row.error("not two candidates of which one is right")
    options = [candidate[0] for candidate in candidates]
    return _item(identity, row, sentence[:start] + BLANK + sentence[stop:], options, right.index(True))


def word_places(sentence: str, words: list[str]) -> list[tuple[int, int]] | None:
    """Where each word stands in the sentence: (start, end) in characters; None if they do not make it up.

    The tokenizer that split the table wrote quotation marks as `` and ''.
    """
    places = []
    position = 0
    for word in words:
        forms = (word, '"') if word in ("``", "''") else (word,)
        while position < len(sentence) and sentence[position].isspace():
            position += 1
        form = next((form for form in forms if sentence.startswith(form, position)), None)
        if form is None:
            return None
        places.append((position, position + len(form)))
        position += len(form)
    return None if sentence[position:].strip() else places


def _item(identity: str, row: Row, sentence: str, options: list[str], label: int) -> Item:
    if sentence.count(BLANK) != 1:
        raise row.error(f"the sentence has {sentence.count(BLANK)} blanks, and one is wanted")
    checked = Row(row.place, {"option1": options[0], "option2": options[1]})
    return {
        "id": identity,
        "sentence": sentence,
        "option1": checked.text("option1"),
        "option2": checked.text("option2"),
        "label": label,
    }
