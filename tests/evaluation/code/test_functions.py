"""Our functions: their own solutions pass, what returns anything else does not, and the quickest guesses fail."""

import ast

import pytest

from tsugiki.evaluation.code.judge import why_wrong
from tsugiki.evaluation.code.problems import CodeProblem, cut_body, own_problems

PROBLEMS = own_problems()


def test_there_are_enough_and_each_prompt_ends_after_its_docstring() -> None:
    assert len(PROBLEMS) >= 30
    assert len({problem.id for problem in PROBLEMS}) == len(PROBLEMS)
    for problem in PROBLEMS:
        assert problem.prompt.startswith(f"def {problem.entry_point}(")
        assert problem.prompt.endswith('    """\n')
        (function,) = ast.parse(problem.prompt + problem.solution).body
        assert isinstance(function, ast.FunctionDef)
        assert ast.get_docstring(function)
        assert len(function.body) > 1
        assert f">>> {problem.entry_point}(" in problem.prompt
        assert "@" not in problem.prompt
        assert cut_body(problem.solution + "\n\ndef other():\n    pass\n") == problem.solution


def test_the_example_of_each_docstring_is_true() -> None:
    for problem in PROBLEMS:
        namespace: dict = {}
        exec(problem.prompt + problem.solution, namespace)  # noqa: S102 - ours
        example = problem.prompt.split(">>> ")[1].splitlines()
        assert repr(eval(example[0], namespace)) == example[1].strip(), problem.id


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.id)
def test_its_own_solution_passes_and_the_cases_tell_right_from_wrong(problem: CodeProblem) -> None:
    assert why_wrong(problem, problem.solution, allow_code_execution=True) is None
    assert len({repr(case.value) for case in problem.cases}) >= 2  # no constant is right
    assert why_wrong(problem, "    return None\n", allow_code_execution=True) is not None
    first = problem.prompt.split("(")[1].split(":")[0]
    assert why_wrong(problem, f"    return {first}\n", allow_code_execution=True) is not None


def test_inputs_and_values_are_the_same_each_time() -> None:
    assert own_problems() == PROBLEMS
