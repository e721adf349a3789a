"""`metrics.jsonl` read back: half of a last line is a kill, anything else that is no record is damage that is named."""

import json

import pytest

from tsugiki.errors import StorageError
from tsugiki.metrics_file import NOTHING, add_lines, read_logged, read_metrics, require_logged

LINES = [json.dumps({"kind": "step", "step": step, "loss": 2.0}) for step in (1, 2, 3)]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(LINES) + "\n")
    return path


@pytest.mark.parametrize("last", ['{"kind": "step", "st', "\0" * 4096, "{", ""])
def test_a_last_line_that_was_cut_is_left_out(path, last):
    path.write_text(path.read_text() + last)
    assert [line["step"] for line in read_metrics(path).steps] == [1, 2, 3]
    assert [record["step"] for record in read_logged(path)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("line", "said"),
    [("{}", "kind is missing"), ('{"kind": "step", "st', "not valid JSON"), ("\0\0\0", "not valid JSON"),
     ('{"kind": "step", "step": "4"}', "must be a whole number"),
     ('{"kind": "stap", "step": 4}', "kind must be one of step, validation"),
     ('{"kind": "validation", "step": 4}', "sources is missing"),
     ('{"kind": "step", "step": 4, "loss": "low"}', "loss must be a number")],
)  # fmt: skip
@pytest.mark.parametrize("read", [read_metrics, read_logged])
def test_a_whole_line_that_is_no_record_is_named_with_a_remedy(path, line, said, read):
    path.write_text("\n".join([LINES[0], line, *LINES[1:]]) + "\n")
    with pytest.raises(StorageError, match=rf"(?s)metrics\.jsonl, line 2\b.*{said}.*Take that line out"):
        read(path)


def test_lines_that_are_read_piece_by_piece_keep_their_numbers(path):
    found = read_metrics(path)
    add_lines(found, (LINES[0] + "\n").encode(), path)
    with pytest.raises(StorageError, match=r"line 6\b"):
        add_lines(found, b'\n{"kind": 5}\n', path)


@pytest.mark.parametrize(
    ("logged", "reached", "finished", "said"),
    [(NOTHING, 0, False, None), (NOTHING, 9, False, None),  # before the first record is due
     (NOTHING, 10, False, "is empty"), (0, 10, False, None), (91, 100, True, None), (90, 100, True, "ends at step 90"),
     (10, 100, False, None)],  # intervals may change between two starts
)  # fmt: skip
def test_a_run_that_lacks_what_it_must_have_logged_is_told_so(path, logged, reached, finished, said):
    def ask() -> None:
        require_logged(path, logged, reached=reached, interval=10, finished=finished)

    if said is None:
        ask()
        return
    with pytest.raises(StorageError, match=said):
        ask()


def test_what_is_lost_can_be_said_to_be_and_the_run_goes_on(path):
    path.unlink()
    with pytest.raises(StorageError, match="is not there") as error:
        require_logged(path, read_metrics(path).reached, reached=100, interval=10, finished=True)
    path.write_text(str(error.value).split("echo '")[1].split("'")[0] + "\n")
    require_logged(path, read_metrics(path).reached, reached=100, interval=10, finished=True)
