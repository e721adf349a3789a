"""The list of mutations does not rot: what each changes still stands where it says, and its test is there. (Whether
the tests kill them is asked by `make mutations`; here of one, to see that the machinery tells.)"""

import re
from collections import Counter
from dataclasses import replace

import pytest
from mutate import ROOT, load, problem_of, try_out

MUTATIONS = load()


def test_names_are_unique():
    assert [name for name, count in Counter(mutation.name for mutation in MUTATIONS).items() if count > 1] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "_"))
def test_what_a_mutation_changes_stands_once_in_its_file_and_its_test_exists(mutation):
    assert mutation.path(ROOT).read_text("utf-8").count(mutation.old) == 1
    assert mutation.new != mutation.old
    path, test = mutation.killed_by.split("::")
    assert re.search(rf"^def {re.escape(test.partition('[')[0])}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


def test_a_test_that_failed_and_said_so_is_a_kill_and_nothing_else_is():
    failed = "E  ModelError: labels: no shift\nFAILED tests/x.py::test_y\n"
    assert problem_of(1, failed, "labels: ") == ""
    assert problem_of(1, failed, "clipping: ") == "killed, but nothing says 'clipping: '"
    assert problem_of(0, "1 passed\n", "") == "SURVIVES"
    assert problem_of(1, "1 error\nERROR tests/x.py\n", "").startswith("no verdict")  # no import, no fixture
    assert problem_of(4, "no tests ran\n", "").startswith("no verdict")


def test_a_mutation_is_tried_on_a_copy_and_killed_and_the_program_as_it_is_survives():
    (mutation,) = [one for one in MUTATIONS if one.name == "the first number of a solution is its answer"]
    assert try_out(mutation).problem == ""
    assert try_out(replace(mutation, new=mutation.old)).problem == "SURVIVES"
    assert mutation.path(ROOT).read_text("utf-8").count(mutation.old) == 1
