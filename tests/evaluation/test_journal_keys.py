"""What makes another answer makes another key: nothing old is taken for it, and what it was before is still known."""

import json
import shutil

import pytest

pytest.importorskip("lm_eval")
from evaluation_models import Quiet

from tsugiki.evaluation import backends, run
from tsugiki.evaluation.models import find_model
from tsugiki.evaluation.run import Settings


def evaluate(model, output, tasks, **settings):
    """The header of the result, and how many answers the journal has."""
    given = Settings(tasks=tasks, limit=2, **settings)
    ((folder, result),) = run.evaluate([find_model(str(model))], given, output, [].append, Quiet(), {})
    return result, (folder.parent / "journal.jsonl").read_text("utf-8").count("\n")


@pytest.mark.parametrize(
    ("suite", "task", "answers"), [("default", "openbookqa", 8), ("default", "jemhopqa", 2), ("quick", "code", 2)]
)  # fmt: skip
def test_answers_in_another_dtype_are_asked_for_anew(suite, task, answers, language_model, official_data, tmp_path):
    """Or the header would tell of a precision that the answers were not computed in."""
    settings = {"suite": suite, "data_dir": official_data, "allow_code_execution": suite == "quick"}
    _, first = evaluate(language_model(), tmp_path, [task], dtype="bfloat16", **settings)
    result, both = evaluate(language_model(), tmp_path, [task], dtype="float32", **settings)
    _, again = evaluate(language_model(), tmp_path, [task], dtype="bfloat16", **settings)
    assert (first, both, again) == (answers, 2 * answers, 2 * answers)
    assert result.header["backend"]["dtype"] == "float32"


def test_another_dtype_is_really_computed_in(language_model, official_data, tmp_path):
    texts = []
    for dtype in ("bfloat16", "float32"):
        evaluate(language_model(), tmp_path / dtype, ["openbookqa"], data_dir=official_data, dtype=dtype)
        evaluate(language_model(), tmp_path / "both", ["openbookqa"], data_dir=official_data, dtype=dtype)
        alone, both = (
            [json.loads(line)["choices"] for line in next((tmp_path / place).rglob("records/*.jsonl")).open("rb")]
            for place in (dtype, "both")
        )
        assert alone == both
        texts.append(alone)
    assert texts[0] != texts[1]


def test_the_size_of_a_batch_asks_for_nothing_anew(language_model, official_data, tmp_path, monkeypatch):
    _, first = evaluate(language_model(), tmp_path, ["jemhopqa"], data_dir=official_data, batch_tokens=512)
    monkeypatch.setattr(backends, "read_pretrained", lambda *_, **__: pytest.fail("weights were loaded"))
    _, again = evaluate(language_model(), tmp_path, ["jemhopqa"], data_dir=official_data, batch_tokens=4096)
    assert first == again == 2


def test_other_end_tokens_make_another_model(language_model, tmp_path):
    """`backends.configured_stops` reads them from both configurations."""
    folder = tmp_path / "model"
    shutil.copytree(language_model(), folder)
    found = {find_model(str(folder)).fingerprint}
    for ends in ([2], [2, 7]):
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        found.add(find_model(str(folder)).fingerprint)
    assert len(found) == 3
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 9}))
    assert find_model(str(folder)).fingerprint not in found
