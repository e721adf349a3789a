"""Evaluations in processes of their own: killed, interrupted, two at once, and gone on with."""

import json
import signal
import time
from pathlib import Path

import pytest
from evaluation_data import write_official_data
from evaluation_models import POSITIONS, Quiet, join_folders

pytest.importorskip("lm_eval")
ASKED = ("--tasks", "openbookqa,jemhopqa,hellaswag,triviaqa", "--shots", "0", "--batch-tokens", "256", "--limit", "6")


@pytest.fixture(scope="module")
def arguments(tiny_model_folder, tiny_tokenizer_folder, tmp_path_factory) -> list[str]:
    """`evaluate` with a tiny model and made-up data."""
    folder = tmp_path_factory.mktemp("evaluation")
    weights = tiny_model_folder("mistral", vocab_size=384, max_position_embeddings=POSITIONS)
    join_folders(folder / "tiny", weights, tiny_tokenizer_folder)
    write_official_data(folder / "data")
    return ["evaluate", str(folder / "tiny"), "--data", str(folder / "data"), *ASKED]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """Records of a run that nothing disturbs, by task, in this process."""
    from tsugiki.evaluation.models import find_model
    from tsugiki.evaluation.run import Settings, evaluate

    settings = Settings(tasks=ASKED[1].split(","), data_dir=Path(arguments[3]), shots=0, batch_tokens=256, limit=6)
    output = tmp_path_factory.mktemp("whole")
    evaluate([find_model(arguments[1])], settings, output, lambda text: None, Quiet(), {})
    return results(output)


def results(output: Path) -> tuple[dict, int]:
    """Records without log-probabilities by task (other batches round otherwise), and the lines of the journal, in which
    no question may stand twice."""
    (journal,) = output.glob("*/journal.jsonl")
    lines = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert len({(one["task"], one["item"], one["part"], one["digest"]) for one in lines}) == len(lines)
    records = {}
    for path in sorted(output.glob("*/default-*/records/*.jsonl")):
        records[path.stem] = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for record in records[path.stem]:
            for choice in record.get("choices", []):
                del choice["logprob"]
    return records, len(lines)


def answered(output: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in output.glob("*/journal.jsonl"))


def wait_for_answers(output: Path, count: int, alive) -> None:
    deadline = time.monotonic() + 120
    while answered(output) < count:
        assert alive(), "ended before it was stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_a_killed_process_had_answered_is_kept_and_the_scores_are_those_of_one_run(
    arguments, whole, launch, tmp_path
):
    """`kill -9` in the middle, then again."""
    output = tmp_path / "out"
    first = launch(*arguments, "--output", output)
    wait_for_answers(output, 20, lambda: first.processes[0].is_alive())
    first.signal(signal.SIGKILL)
    assert first.wait() == [-signal.SIGKILL]
    assert 20 <= answered(output) < whole[1]
    again = launch(*arguments, "--output", output)
    assert again.wait() == [0], again.output()
    assert again.output().count("scored     ") == 4
    assert results(output) == whole


def test_an_interrupt_ends_with_its_code_and_a_message_and_nothing_is_lost(arguments, whole, launch, tmp_path):
    output = tmp_path / "out"
    running = launch(*arguments, "--output", output)
    wait_for_answers(output, 20, lambda: running.processes[0].is_alive())
    for _ in range(3):  # Python drops an interrupt that comes while it calls back from C; a user presses again
        running.signal(signal.SIGINT)
        running.processes[0].join(timeout=2)
        if not running.processes[0].is_alive():
            break
    assert running.wait() == [75], running.output()
    assert running.output().count("stopped by SIGINT: what is finished is kept; the same command goes on") == 1
    assert "Traceback" not in running.output()
    kept = next(output.glob("*/journal.jsonl")).read_bytes()
    assert 20 <= answered(output) < whole[1]
    again = launch(*arguments, "--output", output)
    assert again.wait() == [0], again.output()
    assert next(output.glob("*/journal.jsonl")).read_bytes().startswith(kept)
    assert results(output) == whole


def test_two_evaluations_of_one_model_do_not_write_one_journal(arguments, whole, launch, tmp_path):
    output = tmp_path / "out"
    first = launch(*arguments, "--output", output)
    wait_for_answers(output, 1, lambda: first.processes[0].is_alive())
    first.signal(signal.SIGSTOP)  # in the middle, for as long as the other one tries
    try:
        second = launch(*arguments, "--output", output)
        assert second.wait() == [5], second.output()
    finally:
        first.signal(signal.SIGCONT)
    (line,) = (line for line in second.output().splitlines() if line.startswith("error: "))
    assert "journal.jsonl: another evaluation of this model is writing there" in line
    assert "--output" in line
    assert "Traceback" not in second.output()
    assert first.wait() == [0], first.output()
    assert results(output) == whole
