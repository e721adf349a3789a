"""WMT20 news translation between English and Japanese, and the pairs of other test sets that serve as examples.

The published set-up draws its examples from the test set itself. The pool here is another set (newstest2021, or
NTREX-128), so that no test item is ever an example.
"""

import re
from pathlib import Path

from tsugiki.errors import DataError
from tsugiki.evaluation.data.items import DataFiles, Item, Splits
from tsugiki.evaluation.data.rows import Row, read_lines

SEGMENT = re.compile(r"<seg [^>]*>(.*)</seg>")
THREE_LETTERS = {"en": "eng", "ja": "jpn"}
NTREX = {"en": "NTREX-128.newstest2019-src.eng.txt", "ja": "NTREX-128.newstest2019-ref.jpn.txt"}


def load_wmt20(files: DataFiles, source: str, target: str) -> Splits:
    """{id (line number), source, reference} for one direction (`en`, `ja`).

    The official archive has SGML files (folder `sgm`); OPUS-MT-testsets has the same as two plain files.
    """
    pair = f"{THREE_LETTERS[source]}-{THREE_LETTERS[target]}"
    plain = [f"wmt20/newstest2020.{pair}.{THREE_LETTERS[language]}" for language in (source, target)]
    sides = ((source, "src"), (target, "ref"))
    official = [f"wmt20/sgm/newstest2020-{source}{target}-{side}.{language}.sgm" for language, side in sides]
    found = files.find_all(*official) or files.find_all(*plain) or files.missing(*official, *plain)
    return Splits(_pairs(*found), _examples(files, source, target))


def _examples(files: DataFiles, source: str, target: str) -> list[Item]:
    """Pairs of another test set, in the same direction where there is one."""
    names = [f"newstest2021.{source}-{target}.{side}" for side in (f"src.{source}", f"ref.A.{target}")]
    for folder in ("wmt21", "mt_fallback"):
        if newer := files.find_all(*(f"{folder}/{name}" for name in names)):
            return _pairs(*newer)
        if ntrex := files.find_all(f"{folder}/{NTREX[source]}", f"{folder}/{NTREX[target]}"):
            return _pairs(*ntrex)
    return []


def _pairs(source: Path, reference: Path) -> list[Item]:
    sources, references = _sentences(source), _sentences(reference)
    if len(sources) != len(references):
        raise DataError(
            f"{source} has {len(sources):,} lines and {reference} has {len(references):,}: they are not translations "
            "of each other. Put the original pair there (`tsugiki data fetch`)"
        )
    items: list[Item] = []
    for number, (text, translation) in enumerate(zip(sources, references, strict=True), 1):
        items.append(
            {
                "id": str(number),
                "source": Row(f"{source}: sentence {number}", {"text": text}).text("text"),
                "reference": Row(f"{reference}: sentence {number}", {"text": translation}).text("text"),
            }
        )
    return items


def _sentences(path: Path) -> list[str]:
    """Lines of a plain file, or segments of WMT's SGML, read as sacrebleu reads them: line by line, entities kept."""
    lines = read_lines(path)
    if path.suffix != ".sgm":
        return lines
    sentences = []
    for number, line in enumerate(lines, 1):
        if line.startswith("<seg "):
            segment = SEGMENT.match(line)
            if segment is None:
                raise DataError(f"{path}: line {number}: a segment that does not end on its line")
            sentences.append(" ".join(segment[1].split()))
    if not sentences:
        raise DataError(f"{path}: the file holds no segments. Put the original file there (`tsugiki data fetch`)")
    return sentences
