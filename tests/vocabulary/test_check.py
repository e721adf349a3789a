"""`tsugiki vocabulary check` and `compare`: verdicts, and every mistake of a user as one message."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from extended_tokenizers import PAIRS
from extension_project import lines_of

from tsugiki import cli
from tsugiki.terminal import Terminal
from tsugiki.vocabulary.check import short_names


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model_folder) -> Path:
    """`base`, `extended` (good), `defect` (one whose piece was put in as an added token), `model` without a tokenizer,
    `other`, and `ja.jsonl` and `en.jsonl`."""
    folder = tmp_path_factory.mktemp("check")
    base, extended = PAIRS["byte-level"](folder)
    assert (base.folder, extended.folder) == (folder / "base", folder / "extended")
    for name in ("base", "extended"):
        (folder / name / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    shutil.copytree(extended.folder, folder / "defect")
    path = folder / "defect/tokenizer.json"
    state = json.loads(path.read_text("utf-8"))
    token = {"id": extended.vocabulary_size, "content": "の市場", "special": False, "single_word": False,
             "lstrip": False, "rstrip": False, "normalized": False}  # fmt: skip
    path.write_text(json.dumps(state | {"added_tokens": [*state["added_tokens"], token]}))
    shutil.copytree(tiny_model_folder("llama"), folder / "model")
    for language in ("ja", "en"):
        (folder / f"{language}.jsonl").write_text("\n".join(lines_of(language, 12)) + "\n", encoding="utf-8")
    return folder


def run_cli(monkeypatch, capsys, folder: Path, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["tsugiki", "vocabulary", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


CHECK = ("check", "extended", "--base", "base")


def test_a_good_tokenizer_passes_every_proof(monkeypatch, capsys, folder):
    code, out, err = run_cli(monkeypatch, capsys, folder, *CHECK, "--text", "ja.jsonl", "--language", "ja")
    assert (code, err) == (0, "")
    verdicts = [line.split(":")[0] for line in out.splitlines()]
    names = ["loads", "ids", "pieces", "self", "round trip", "identity", "engines", "template", "transformers"]
    assert verdicts == [f"ok     {name}" for name in names]


def test_a_defect_is_named_with_examples_and_ends_with_code_1(monkeypatch, capsys, folder):
    code, out, _ = run_cli(monkeypatch, capsys, folder, "check", "defect", "--base", "base", "--text", "ja.jsonl")
    assert code == 1
    lines = out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("DEFECT pieces: "))
    assert lines[at + 1].startswith("           ")
    assert "の市場" in out


@pytest.mark.parametrize(
    "arguments",
    [
        (*CHECK, "--text", "ja.jsonl", "--text", "en.jsonl"),
        (*CHECK, "--text", "ja.jsonl", "en.jsonl"),
        ("check", "--base", "base", "--text", "ja.jsonl", "en.jsonl", "extended"),
    ],
)
def test_files_may_follow_one_another_or_each_have_the_option(monkeypatch, capsys, folder, arguments):
    code, out, _ = run_cli(monkeypatch, capsys, folder, *arguments)
    assert code == 0
    one, all_of_it = run_cli(monkeypatch, capsys, folder, *CHECK, "--text", "ja.jsonl")[1], out

    def decoded(text: str) -> int:
        return next(int(line.split()[3].replace(",", "")) for line in text.splitlines() if "round trip" in line)

    assert decoded(all_of_it) == decoded(one) + 12


def test_comparing_takes_folders_and_files_in_any_order_and_fits_80_columns(monkeypatch, capsys, folder):
    text = ("--text", "ja.jsonl", "en.jsonl")
    monkeypatch.setattr(cli, "console", Terminal(width=80, highlight=False, soft_wrap=True, emoji=False))
    code, out, err = run_cli(monkeypatch, capsys, folder, "compare", "base", "extended", *text)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for word in ("base", "extended", "ja.jsonl", "en.jsonl"):
        assert word in out
    assert run_cli(monkeypatch, capsys, folder, "compare", *text, "base", "extended")[1] == out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((*CHECK, "--text", "none.jsonl"), 2, "none.jsonl: no such file or folder"),
        ((*CHECK, "--text", "ja.jsonl", "none.jsonl"), 2, "none.jsonl: no such file or folder"),
        (("check", "none", "--base", "base", "--text", "ja.jsonl"), 2, "none: no such file or folder"),
        (("check", "extended", "--base", "none", "--text", "ja.jsonl"), 2, "none: no such folder"),
        (("check", "extended", "defect", "--base", "base", "--text", "ja.jsonl"), 2, "not extended, defect"),
        (("check", "en.jsonl", "--base", "base", "--text", "ja.jsonl"), 2, "name the folder of a tokenizer"),
        ((*CHECK, "--text", "ja.jsonl", "--language", "jp"), 2, "--language: 'jp' is not a language"),
        ((*CHECK, "--text", "ja.jsonl", "--text-key", "body"), 3, "ja.jsonl:1: missing key: no key 'body'"),
        ((*CHECK, "--text", "base"), 3, "base is no file; name the files of text in it"),
        (("check", "model", "--base", "base", "--text", "ja.jsonl"), 3, "model: no tokenizer.json and no tokenizer.model"),
        (("check", "extended", "--base", "model", "--text", "ja.jsonl"), 3, "model: no tokenizer.json and no tokenizer.mo"),
        (("compare", "base", "model", "--text", "ja.jsonl"), 3, "model: no tokenizer.json and no tokenizer.model"),
        (("compare", "base", "none", "--text", "ja.jsonl"), 2, "none: no such file or folder"),
        (("compare", "--text", "ja.jsonl", "en.jsonl"), 2, "name the folder of a tokenizer"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message(monkeypatch, capsys, folder, arguments, code, said):
    ended, _, err = run_cli(monkeypatch, capsys, folder, *arguments)
    assert ended == code
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.jsonl", "", "empty.jsonl: the file is empty"),
        ("half.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n', "half.jsonl:2: a lone surrogate"),
        ("broken.jsonl", '{"text": "a"}\n{"te', "broken.jsonl:2: malformed"),
    ],
)
@pytest.mark.parametrize("command", [CHECK, ("compare", "base", "extended")])
def test_text_that_cannot_be_read_is_named_by_file_and_line(monkeypatch, capsys, folder, command, name, content, said):
    (folder / name).write_text(content)
    code, _, err = run_cli(monkeypatch, capsys, folder, *command, "--text", "ja.jsonl", name)
    assert code == 3
    assert err.startswith(f"error: {said}")


@pytest.mark.parametrize("content", ["", "{}", "[]", "{broken", '{"model": {"type": "BPE", "vocab": 3}}', "\xff"])
def test_a_broken_tokenizer_is_a_defect_of_the_extended_one_and_an_error_of_the_base(
    monkeypatch, capsys, folder, tmp_path, content
):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tokenizer.json").write_text(content, encoding="latin-1")
    for arguments in (("check", str(broken), "--base", "base"), ("check", "extended", "--base", str(broken)),
                      ("compare", "base", str(broken))):  # fmt: skip
        code, out, err = run_cli(monkeypatch, capsys, folder, *arguments, "--text", "ja.jsonl")
        assert code in (1, 3), (arguments, err)
        assert str(broken) in out + err
        assert "Traceback" not in err


def test_help_of_the_stage_loads_no_model_library():
    for arguments in (["vocabulary", "--help"], ["vocabulary", "check", "--help"], ["prepare", "--help"]):
        code = (
            f"import sys; sys.argv = ['tsugiki', *{arguments}]\nfrom tsugiki.cli import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "print([name for name in ('torch', 'transformers', 'numpy', 'tokenizers') if name in sys.modules])"
        )
        environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        assert out.stdout.rstrip().endswith("[]")
        assert "Usage" in out.stdout


def test_what_is_no_verb_is_a_recipe(monkeypatch, capsys, folder):
    code, _, err = run_cli(monkeypatch, capsys, folder, "nowhere.yaml")
    assert code == 2
    assert err.startswith("error: nowhere.yaml")


def test_paths_are_named_by_as_few_parts_as_tell_them_apart():
    run = [Path("runs/a/vocabulary/model"), Path("runs/b/vocabulary/model"), Path("base")]
    assert list(short_names(run)) == ["a/vocabulary/model", "b/vocabulary/model", "base"]
    assert short_names([Path("/x/ja.txt"), Path("/x/en.txt")]) == {
        "ja.txt": Path("/x/ja.txt"),
        "en.txt": Path("/x/en.txt"),
    }
    assert short_names([Path("/a"), Path("a")]) == {"/a": Path("/a"), "a": Path("a")}
    assert short_names([Path("a/b"), Path("a/b")]) == {"b": Path("a/b")}
    assert short_names([Path(), Path("x/y")]) == {".": Path(), "x/y": Path("x/y")}
