"""The quickstart's second half in a few steps: the path of `tsugiki run`, ends in the table, skips what is done."""

import io
import json
import re

import pytest
from rich.console import Console

from tsugiki.errors import RecipeError
from tsugiki.quickstart.instruct import answers, recipe
from tsugiki.quickstart.instruct import run as instruct
from tsugiki.quickstart.run import NOT_SHOWN


@pytest.fixture(scope="module")
def tuned(first, session):
    """(exit code, text) after a quickstart of a few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "BUDGET", 3)
        patch.setattr(instruct, "recipe_text", lambda *given: recipe.recipe_text(*given, steps=3))
        sample = instruct.write_sample
        patch.setattr(instruct, "write_sample", lambda folder: few(sample(folder)))
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


def few(sample):
    """The sample with as many held-out conversations as are shown."""
    return sample.__class__(sample.sources, sample.held_out_written, sample.held_out_generated[:10])


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


def test_run_again_it_asks_alone(tuned):
    code, text = tuned[1]
    assert code == NOT_SHOWN
    assert "up to date" in text
    assert "preflight" not in text
    assert text.partition("asking")[2].partition("took")[0] == tuned[0][1].partition("asking")[2].partition("took")[0]
