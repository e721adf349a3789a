"""The quickstart's second half in a few steps: the path of `tsugiki run`, ends in the table, skips what is done."""

import io
import json
import re
from dataclasses import replace
from html import unescape

import pytest
from rich.console import Console

from tsugiki.errors import RecipeError
from tsugiki.quickstart.instruct import answers, recipe, sample
from tsugiki.quickstart.instruct import run as instruct
from tsugiki.quickstart.run import NOT_SHOWN


@pytest.fixture(scope="module")
def tuned(first, session):
    """(exit code, text) after a quickstart of a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "BUDGET", 3)
        patch.setattr(instruct, "recipe_text", lambda *given: recipe.recipe_text(*given, steps=3))
        patch.setattr(sample, "GENERATED", 300)
        write = instruct.write_sample
        patch.setattr(instruct, "write_sample", lambda folder: few(write(folder)))
        runs = []
        for _ in range(2):
            stream = io.StringIO()
            runs.append((instruct.run_instruct(session.folder, Console(file=stream, width=80)), stream.getvalue()))
        edited = session.folder / "instruct.yaml"
        text = edited.read_text()
        edited.write_text(text + "# mine\n")
        with pytest.raises(RecipeError, match=r"instruct\.yaml is not what this quickstart writes"):
            instruct.run_instruct(session.folder, Console(file=io.StringIO()))
        edited.write_text(text)
        return runs


def few(whole):
    """A sample with as many held-out conversations as are shown."""
    return replace(whole, held_out_generated=whole.held_out_generated[:10])


def test_ends_in_the_table_and_says_when_its_promise_is_not_kept(tuned, session):
    code, text = tuned[0]
    assert code == NOT_SHOWN  # three steps teach nothing
    assert "NOT AS PROMISED: 0% of the answers end by themselves, at least 90% should" in text
    for piece in (
        "'<|im_start|>', '<|im_end|>' added",
        "end themselves",
        "right language",
        "before",
        "does not end",
        "next",
    ):
        assert piece in text
    assert re.search(r"end themselves +70 +0 \[0, 5\] ", text)  # whole in 80 columns
    results = json.loads((session.folder / "instruct-results.json").read_text())
    assert [len(results["answers"]), results["scores"][0]["answers"]] == [70, 70]
    assert (session.folder / "instruct/export/chat_template.jinja").read_text()


def test_its_report_has_curves_of_held_out_conversations_and_answers_before_and_after(tuned, session):
    run = session.folder / "instruct"
    assert any(line.startswith("report     ") for line in tuned[0][1].splitlines())  # cut at 80 columns
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [0, 1, 2, 3]
    names = ["held-out-en", "held-out-ja", "japanese", "english"]
    assert list(validations[-1]["sources"]) == names
    assert [validations[-1]["sources"][name]["documents"] for name in names[:2]] == [60, 60]
    samples = json.loads((run / "samples.json").read_text("utf-8"))
    assert [one["source"] for one in samples["answers"]] == [names[0]] * 2 + [names[1]] * 2
    assert all(one["before"] is not None for one in samples["answers"])  # asked with the markers' rows
    held_out = {path: path.read_text("utf-8") for path in (session.folder / "instruct-data").glob("held-out-*.jsonl")}
    assert all(
        any(one["messages"][-1]["content"][:20] in text for text in held_out.values()) for one in samples["answers"]
    )
    page = " ".join(unescape(re.sub(r"<[^>]*>", " ", (run / "report/report.html").read_text("utf-8"))).split())
    assert "Where answers end" in page
    assert "Beginnings of held-out conversations" in page


def test_run_again_it_asks_alone(tuned):
    code, text = tuned[1]
    assert code == NOT_SHOWN
    assert "up to date" in text
    assert "preflight" not in text
    assert text.partition("asking")[2].partition("took")[0] == tuned[0][1].partition("asking")[2].partition("took")[0]
