"""All filters in one: the first that removes names itself, and what is kept of the others is what they compute alone."""

import pickle
from pathlib import Path

import numpy as np

from tsugiki.corpus.buckets import RECORD
from tsugiki.corpus.filters.contamination import Stretch, build
from tsugiki.corpus.filters.judge import EvaluationIndex, Judge, Kept, odd_names
from tsugiki.corpus.filters.language import Language
from tsugiki.corpus.filters.length import Length
from tsugiki.corpus.filters.quality import Quality
from tsugiki.corpus.filters.signatures import Signature, exact_hash

QUESTION = "one two three four five six seven eight nine ten eleven twelve thirteen"


def test_a_document_counts_for_the_first_filter_that_removes_it() -> None:
    judge = Judge(Length(min_characters=5), Quality(max_sentence=30), Language(("latin",), 0.5))
    judge.open()
    texts = ["かな", "かな" * 20, "かなかなかな", "abcdefg"]
    assert [judge.removed_by(text, len(text.encode())) for text in texts] == [
        "length.min_characters", "quality.max_sentence", "language.min_share", None,
    ]  # fmt: skip


def test_marks_are_those_of_each_filter_also_in_another_process(tmp_path: Path) -> None:
    build(tmp_path, {"first": [["other text"]], "second": [[QUESTION]]}, Stretch())
    signature = Signature(buckets=7)
    judge = Judge(compares=True, near=signature, evaluation=EvaluationIndex(tmp_path, Stretch(), ("first", "second")))
    judge = pickle.loads(pickle.dumps(judge))  # noqa: S301
    judge.open()
    texts = ["nothing of it", f"See: {QUESTION}."]
    records = np.zeros(2, judge.record)
    records["line"] = [3, 4]
    found = judge.mark(
        records, [Kept(text, text.encode(), odd) for text, odd in zip(texts, [[], ["mojibake"]], strict=True)]
    )
    assert found == [{"set": "second", "file": 0, "line": 4, "text": QUESTION}]
    assert records["hit"].tolist() == [0, 2]
    assert records["exact"].tolist() == [exact_hash(text.encode()) for text in texts]
    assert np.array_equal(records["keys"], [signature.keys(text) for text in texts])
    assert [odd_names(int(bits)) for bits in records["odd"]] == [[], ["mojibake"]]


def test_nothing_is_kept_of_documents_where_nothing_is_asked_for() -> None:
    assert Judge().record == RECORD
    assert Judge().removed_by("", 0) is None
