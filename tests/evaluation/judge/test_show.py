"""`tsugiki evaluate judge` as a shell sees it: models and files of answers, the table, the files, and no key in any."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from judge_server import Answer, Request, judge_server

from tsugiki import cli
from tsugiki.evaluation import backends
from tsugiki.evaluation.conversations import Budget
from tsugiki.evaluation.instructions import asking, tasks
from tsugiki.evaluation.judge import answers

KEY = "sk-0123456789-very-secret"
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
Run = Callable[..., tuple[int, str, str]]


def longer(request: Request, number: int) -> Answer:
    """A judge of length."""
    blocks = request.body["messages"][1]["content"].split("\n\n<answer ")[1:]
    first, second = (len(block.split(">\n", 1)[1].rsplit("\n</", 1)[0]) for block in blocks)
    return Answer("[[tie]]" if first == second else f"So: [[{1 + (second > first)}]]")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """run("A", "B", ...): exit code, output and errors of `tsugiki evaluate judge`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TSUGIKI_JUDGE_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "160")
    torch.set_num_threads(1)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tsugiki", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert KEY not in out + err
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
        return int(stop.value.code or 0), out, err

    return command


def answer_file(path: Path, texts: dict[str, str], key: str = "answer") -> Path:
    lines = [{"item": prompt[:3], "prompt": prompt, key: text} for prompt, text in texts.items()]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def test_two_files_of_answers_are_compared_and_written_down(run: Run, tmp_path: Path) -> None:
    mine = {"one?": "aaaa", "two?": "b", "three?": "同じ", "mine?": "x"}
    yours = {"one?": "a", "two?": "bbb", "three?": "同じ", "yours?": "x"}
    a, b = answer_file(tmp_path / "a.jsonl", mine), answer_file(tmp_path / "b.jsonl", yours, "output")
    with judge_server(longer) as server:
        code, out, _ = run("judge", a, b, "--judge-url", server.url, "--judge-model", "j[1]", "--output", "out")
        assert code == 0
        assert len(server.requests) == 4
        again = run("judge", a, b, "--judge-url", server.url, "--judge-model", "j[1]", "--output", "out")
        assert len(server.requests) == 4
        assert run("judge", a, b, "--judge-url", server.url, "--judge-model", "j[1]", "--output", "out") == again
    assert "j[1] at" in out
    assert "0.500" in out
    (folder,) = (tmp_path / "out" / "judged").iterdir()
    result = json.loads((folder / "result.json").read_text("utf-8"))
    (counts,) = result["tallies"].values()
    assert (counts["won"], counts["lost"], counts["tied"], counts["score"]) == (1, 1, 1, 0.5)
    assert counts["interval"][0] < 0.5 < counts["interval"][1]
    assert result["judge"] == {"url": server.url, "model": "j[1]", "options": {"temperature": 0, "max_tokens": 1024}}
    lines = [json.loads(line) for line in (folder / "verdicts.jsonl").read_text("utf-8").splitlines()]
    assert [(line["prompt"], line["outcome"]) for line in lines] == [("one?", "a"), ("two?", "b"), ("three?", "tie")]
    assert lines[0]["verdicts"] == ["first", "second"]
    assert lines[0]["said"] == ["So: [[1]]", "So: [[2]]"]
    assert "| a | 3 | 1 | 1 | 1 | 0.500" in (folder / "table.md").read_text("utf-8")


def test_models_answer_what_they_have_not_answered_yet(
    run: Run, language_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = {name: Budget(8, characters=20) for name in tasks.BUDGETS}
    for module in (tasks, asking, answers):
        monkeypatch.setattr(module, "BUDGETS", budgets)
    monkeypatch.setattr(answers, "BUDGET", Budget(8, characters=20))
    folder = shutil.copytree(language_model(), tmp_path / "mine")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    assert run(folder, "--tasks", "instructions_en", "--limit", "3", "--suite", "quick")[0] == 0
    records = next((tmp_path / "evaluation").rglob("records/instructions_en.jsonl"))
    lines = [json.loads(line) for line in records.read_text("utf-8").splitlines()]
    other = answer_file(tmp_path / "other.jsonl", {line["prompt"]: line["answer"] + " And more." for line in lines})

    with monkeypatch.context() as patched, judge_server(longer) as server:
        patched.setattr(backends, "read_pretrained", lambda *_, **__: pytest.fail("weights were loaded"))
        judge = ("--judge-url", server.url, "--judge-model", "j")
        code, out, _ = run("judge", folder, other, *judge, "--tasks", "instructions_en,instructions_ja")
        assert code == 0
        assert "0.000" in out  # the other's are longer
        assert run("judge", records, other, *judge)[0] == 0
    (tmp_path / "qs.jsonl").write_text('{"prompt": "Why?"}\n{"id": "b", "prompt": "なぜ?"}\n', encoding="utf-8")
    third = answer_file(tmp_path / "third.jsonl", {"Why?": "", "なぜ?": ""})
    with judge_server(longer) as server:
        code, out, _ = run(
            "judge", third, folder, "--judge-url", server.url, "--judge-model", "j", "--prompts", "qs.jsonl"
        )
    assert code == 0
    assert "qs" in out


def test_what_cannot_be_compared_is_told(run: Run, tmp_path: Path) -> None:
    a = answer_file(tmp_path / "a.jsonl", {"one?": "aaaa"})
    b = answer_file(tmp_path / "b.jsonl", {"two?": "bbbb"})
    c = answer_file(tmp_path / "c.jsonl", {"one?": "cc"})
    judge = ("--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "j")

    def refused(code: int, told: str, *arguments: object) -> None:
        found, _, err = run("judge", *arguments)
        assert (found, told in " ".join(err.split())) == (code, True), err

    refused(3, "no prompt in common", a, b, *judge)
    refused(3, "compared with itself", a, a, *judge)
    refused(2, "--tasks jsquad: it takes instructions_en", a, c, *judge, "--tasks", "jsquad")
    refused(2, "--judge-options [1]: give a JSON object", a, c, *judge, "--judge-options", "[1]")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "one?"}\n', encoding="utf-8")
    refused(3, "bad.jsonl, line 1: no answer", a, "bad.jsonl", *judge)
    (tmp_path / "twice.jsonl").write_text('{"prompt": "q", "answer": "1"}\n{"prompt": "q", "answer": "2"}\n', "utf-8")
    refused(3, "twice.jsonl, line 2: a second answer", a, "twice.jsonl", *judge)
    with judge_server(lambda request, number: Answer(status=401, body=KEY.encode())) as server:
        refused(3, "the key is refused", a, c, "--judge-url", server.url, "--judge-model", "j")
    with judge_server(lambda request, number: Answer("I would rather not.")) as server:
        refused(3, "gave no verdict on any pair", a, c, "--judge-url", server.url, "--judge-model", "j")
