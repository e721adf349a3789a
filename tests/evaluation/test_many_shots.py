"""As many shots as the training split has room for, not only as many as leave the test items where there is none."""

import pytest

pytest.importorskip("lm_eval")
from evaluation_tasks import load_task, requests

from tsugiki.evaluation.data import load_set
from tsugiki.evaluation.shots import RESERVED, shuffled


def test_more_shots_come_from_a_training_split_than_would_leave_the_test_items(evaldata):
    count = RESERVED + 4
    task = load_task("tsugiki_gsm8k", evaldata)
    ((prompt, _),) = requests(task, 0, count)
    pool = load_set("gsm8k", evaldata).shots
    expected = [f"Question: {item['question']}\nAnswer: {item['answer']}\n\n" for item in shuffled(pool)[:count]]
    assert prompt.startswith("".join(expected) + "Question: ")
