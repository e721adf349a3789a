"""The numbers of a report against a count by hand and against the parts that they come from."""

import json
import math

import numpy as np
import pytest
from report_runs import BATCH, LENGTH, STEPS, add_bits, make_run, step_line, validation, write, write_lines

from tsugiki.corpus.mixture import Mixture, MixtureStage
from tsugiki.errors import RecipeError
from tsugiki.metrics_file import last_attempt
from tsugiki.report.figures import mixture, speed
from tsugiki.report.measures import UNTRAINED, gains
from tsugiki.report.run_directory import read_run
from tsugiki.report.words import summary


@pytest.fixture
def run(tmp_path):
    return read_run(make_run(tmp_path / "runs" / "first"))


def test_gains_are_those_of_the_table_of_scores_and_of_the_validations(run):
    found = {one.key: one for one in gains(run)}
    assert list(found) == ["cloze_ja", "order_ja", "average ja", "cloze_en", "text_novels", "text_replay", "text_code"]
    cloze = found["cloze_ja"]
    assert (cloze.before, cloze.after, cloze.difference, cloze.difference_limits) == (0.3, 0.5, 0.2, (0.1, 0.3))
    assert cloze.before_limits == pytest.approx((0.22, 0.38))
    assert found["average ja"].average
    assert found["average ja"].difference == 0.11
    novels = found["text_novels"]
    assert (novels.better, novels.items, novels.metric) == ("lower", 8, "bits per byte")
    first, last = (line["sources"]["novels"] for line in (run.metrics.validations[0], run.metrics.validations[-1]))
    assert novels.difference == pytest.approx(last["bits_per_byte"] - first["bits_per_byte"])


def test_scores_through_a_chat_template_are_other_measures_than_plain_ones(tmp_path):
    """But for instruction checks, which are never asked otherwise."""
    folder = make_run(tmp_path / "run")
    path = folder / "evaluation" / "table.json"
    table = json.loads(path.read_text())
    table["languages"][1]["language"] = "en: instructions"
    write(path, table | {"form": "through the chat template, solved examples as turns"})
    keys = [one.key for one in gains(read_run(folder))]
    assert keys[:4] == ["cloze_ja, chat", "order_ja, chat", "average ja, chat", "cloze_en"]


def test_the_interval_of_a_held_out_difference_is_paired_by_document(run):
    """A bootstrap of its own over documents."""
    novels = next(one for one in gains(run) if one.key == "text_novels")
    first, last = (line["sources"]["novels"] for line in (run.metrics.validations[0], run.metrics.validations[-1]))
    sizes = np.array(first["bytes_by_document"])
    change = (np.array(last["nats_by_document"]) - np.array(first["nats_by_document"])) / math.log(2)
    drawn = np.random.default_rng(5).integers(0, len(sizes), (4000, len(sizes)))
    spread = (change[drawn].sum(1) / sizes[drawn].sum(1)).std()
    low, high = novels.difference_limits
    assert low < novels.difference < high
    assert (high - low) / 2 == pytest.approx(1.96 * spread * math.sqrt(8 / 7) * 2.36 / 1.96, rel=0.25)


def test_without_documents_there_is_no_interval(tmp_path):
    folder = make_run(tmp_path / "run")
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for scored in record.get("sources", {}).values():
            del scored["nats_by_document"]
    write_lines(folder / "metrics.jsonl", records)
    novels = next(one for one in gains(read_run(folder)) if one.key == "text_novels")
    assert novels.difference is not None
    assert novels.difference_limits is None


def test_realised_shares_are_a_count_of_the_samples(run):
    order = Mixture(
        42, {"code": 10, "novels": 60, "replay": 250}, [MixtureStage(0, {"novels": 3, "replay": 1, "code": 0})]
    )
    drawn = order.locate(np.arange(STEPS * BATCH))
    counted = {name: int((drawn.source == place).sum()) for place, name in enumerate(order.names)}
    for one in mixture(run):
        assert (one.windows, one.tokens) == (counted[one.name], counted[one.name] * LENGTH)
        assert one.realised == pytest.approx(counted[one.name] / (STEPS * BATCH))
    novels, replay, code = mixture(run)
    assert (novels.asked, replay.asked, code.asked) == (0.75, 0.25, 0.0)
    assert novels.epochs == pytest.approx(180 / 60)
    assert (novels.language, novels.documents, novels.held_out, novels.available) == ("ja", 400, 8, 60 * LENGTH + 1)


def test_stages_of_the_mixture_count_as_long_as_they_lasted(tmp_path):
    stages = [{"start_step": 30, "weights": {"novels": 1, "replay": 0, "code": 1}}]
    novels, replay, code = mixture(read_run(make_run(tmp_path / "run", data__stages=stages)))
    assert novels.asked == pytest.approx(0.75 * 0.75 + 0.5 * 0.25)
    assert replay.asked == pytest.approx(0.25 * 0.75)
    assert code.asked == pytest.approx(0.125)
    assert [one.realised for one in (novels, replay, code)] == pytest.approx(
        [novels.asked, replay.asked, code.asked], abs=0.01
    )


def test_without_manifests_the_asked_shares_remain(tmp_path):
    import shutil

    folder = make_run(tmp_path / "run")
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "checkpoints")
    novels, *_ = mixture(read_run(folder))
    assert (novels.asked, novels.realised, novels.available) == (0.75, None, None)


def test_time_is_tokens_over_rate_and_retaken_steps_count_once(run):
    found = speed(run)
    assert found.tokens == STEPS * BATCH * LENGTH
    assert found.seconds == pytest.approx(found.tokens / 96.0)
    assert (found.tokens_per_second, found.mfu, found.memory_gb) == (96.0, 0.25, 1.5)
    assert found.data_wait == pytest.approx(0.01)


def test_the_last_attempt_is_what_the_model_went_through(run):
    steps = [line["step"] for line in last_attempt(run.metrics.steps)]
    assert steps == list(range(2, 41, 2))
    assert all(line.get("loss") != 9.0 for line in last_attempt(run.metrics.steps))


def test_a_damaged_artefact_is_named_and_left_out(tmp_path):
    folder = make_run(tmp_path / "run")
    write(folder / "samples.json", {"settings": {}, "samples": "none"})
    (folder / "checkpoints/step_00000040/state.json").write_text("{")
    run = read_run(folder)
    assert run.samples is None
    assert run.checkpoint["step"] == 20
    assert any("samples.json" in problem for problem in run.problems)
    assert any("step_00000040" in problem for problem in run.problems)


def test_what_is_no_run_directory_is_refused_in_one_message(tmp_path):
    with pytest.raises(RecipeError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(RecipeError, match=r"no recipe\.yaml"):
        read_run(tmp_path)


def test_a_run_that_was_moved_still_finds_its_data(tmp_path, monkeypatch):
    """Recipes name folders relative to where the run was started."""
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    from pathlib import Path

    make_run(Path("runs/first"))
    (tmp_path / "there").rename(tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    assert set(read_run(tmp_path / "here/runs/first").manifests) == {"novels", "replay", "code"}
    (tmp_path / "here/runs/first").rename(tmp_path / "moved")
    assert set(read_run(tmp_path / "moved").manifests) == {"novels", "replay", "code"}


def test_a_run_that_has_just_begun_has_a_report_too(tmp_path):
    from tsugiki.report.write import write_report

    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text((make_run(tmp_path / "other") / "recipe.yaml").read_text())
    assert all(path.exists() for path in write_report([folder]))
    write_lines(folder / "metrics.jsonl", [step_line(2)])
    assert all(path.exists() for path in write_report([folder]))


def test_true_continuations_are_no_held_out_text(tmp_path):
    folder = make_run(tmp_path / "run")
    add_bits(folder, "novels", "our functions")
    run = read_run(folder)
    found = {one.key: one for one in gains(run)}
    assert [key for key, one in found.items() if one.is_text] == [
        "text_novels", "text_our functions", "text_replay", "text_code"
    ]  # fmt: skip
    assert (found["text_novels"].before, found["text_novels"].from_validation) == (2.5, False)  # the true base's
    assert found["average ja: bits per byte"].name == "average of 3, 2 of them text"
    said = summary(run)
    assert (
        "Held-out text against the base, in bits per byte (lower is better): novels from 2.50 to 2.00; replay" in said
    )
    assert "code from 0.90 to 1.30" in said  # a loss
    assert "cloze ja from" not in said


def test_of_many_texts_the_largest_losses_are_named_with_the_largest_gains(tmp_path):
    folder = make_run(tmp_path / "run")
    sources = {f"s{n}": {"path": "x", "weight": 1, "language": "ja"} for n in range(7)}
    folder = make_run(tmp_path / "many", data__sources=sources)
    before, after = validation(0, 2.0), validation(40, 2.0)
    before["sources"] = {name: {"bits_per_byte": 2.0} for name in sources}
    after["sources"] = {name: {"bits_per_byte": 2.0 + (n - 3) / 10} for n, name in enumerate(sources)}
    write_lines(folder / "metrics.jsonl", [before, step_line(40), after])
    (folder / "evaluation/table.json").unlink()
    said = summary(read_run(folder))
    assert "s0 from 2.00 to 1.70; s1 from 2.00 to 1.80; s5 from 2.00 to 2.20; s6 from 2.00 to 2.30; and 3 more." in said


def test_with_new_pieces_the_base_is_what_a_run_beside_it_measured_on_the_same_documents(tmp_path):
    extended = {"vocabulary": {"add": 1536, "language": "ja"}}
    first = make_run(tmp_path / "runs/first", **extended)
    novels = {one.key: one for one in gains(read_run(first))}["text_novels"]
    assert (novels.base, novels.before) == (UNTRAINED, pytest.approx(2.5, rel=0.02))
    assert "the base with its new pieces untrained" in summary(read_run(first))

    beside = make_run(tmp_path / "runs/without")
    lines = [validation(0, 3.5), step_line(40), validation(40, 3.0)]
    lines[0]["sources"]["replay"]["bytes"] += 1  # other documents
    write_lines(beside / "metrics.jsonl", lines)
    found = {one.key: one for one in gains(read_run(first))}
    assert found["text_novels"].base == "without"
    assert found["text_novels"].before == lines[0]["sources"]["novels"]["bits_per_byte"]
    assert found["text_novels"].difference_limits[1] < -1
    assert found["text_replay"].base == UNTRAINED
    make_run(tmp_path / "others/without", model__name_or_path="owner/another")
    other = make_run(tmp_path / "others/first", **extended)
    assert {one.base for one in gains(read_run(other)) if one.is_text} == {UNTRAINED}
    assert {one.base for one in gains(read_run(beside))} == {""}  # without new pieces step 0 is the base
