"""What a user's shell sees: exit codes, one message, no traceback, and a fast start."""

import subprocess
import sys

import pytest

from tsugiki import cli
from tsugiki.errors import DataError


def run_cli(monkeypatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tsugiki", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


def test_version(monkeypatch, capsys):
    from tsugiki import __version__

    assert run_cli(monkeypatch, capsys, "--version") == (0, f"tsugiki {__version__}\n", "")


@pytest.mark.parametrize("verb", ["init", "validate", "run", "prepare", "train", "preflight", "export", "graft-chat", "release", "inspect",
                                  "sample", "generate", "chat", "quickstart", "recipe", "report", "watch"])  # fmt: skip
def test_every_verb_has_help(monkeypatch, capsys, verb):
    code, out, _ = run_cli(monkeypatch, capsys, verb, "--help")
    assert code == 0
    assert len(out) > 200


def test_a_report_of_what_is_no_run_is_one_message(monkeypatch, capsys, tmp_path):
    code, _, err = run_cli(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 2
    assert err.startswith(f"error: {tmp_path}: no run directory")
    assert "Traceback" not in err


def test_an_unknown_verb_names_the_nearest(monkeypatch, capsys):
    code, _, err = run_cli(monkeypatch, capsys, "trian", "x")
    assert code == 2
    assert "train" in err


@pytest.mark.parametrize("verb", ["run", "train", "prepare", "preflight", "validate"])
def test_a_missing_recipe_is_one_message(monkeypatch, capsys, verb):
    code, _, err = run_cli(monkeypatch, capsys, verb, "nowhere.yaml")
    assert code == 2
    assert err.startswith("error: nowhere.yaml")
    assert "Traceback" not in err


def test_a_misspelt_override_names_the_nearest_key(monkeypatch, capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("run_dir: run\n")
    code, _, err = run_cli(monkeypatch, capsys, "train", str(recipe), "training.learning_rat=1e-3")
    assert code == 2
    assert "learning_rate" in err


def test_errors_end_with_the_code_of_their_class(monkeypatch, capsys):
    import tsugiki.recipe_file

    def broken(*_, **__):
        raise DataError("corpus.jsonl:3: bad [red]line[/red]\t:smile:")

    monkeypatch.setattr(tsugiki.recipe_file, "load_recipe", broken)
    assert run_cli(monkeypatch, capsys, "prepare", "recipe.yaml") == (
        3,
        "",
        "error: corpus.jsonl:3: bad [red]line[/red]\t:smile:\n",
    )


def test_a_password_in_an_address_is_not_shown(monkeypatch, capsys):
    import tsugiki.recipe_file

    def broken(*_, **__):
        raise DataError("https://someone:password@mirror.example/api/models: 404")

    monkeypatch.setattr(tsugiki.recipe_file, "load_recipe", broken)
    code, out, err = run_cli(monkeypatch, capsys, "prepare", "recipe.yaml")
    assert (code, out) == (3, "")
    assert "mirror.example/api/models: 404" in err
    assert not {"someone", "password"} & set(err.replace("@", " ").replace("/", " ").replace(":", " ").split())


def test_a_defect_of_ours_shows_its_traceback(monkeypatch, capsys):
    import tsugiki.recipe_file

    monkeypatch.setattr(tsugiki.recipe_file, "load_recipe", lambda *_, **__: 1 / 0)
    code, _, err = run_cli(monkeypatch, capsys, "prepare", "recipe.yaml")
    assert code == 70
    assert "ZeroDivisionError" in err
    assert "defect of Tsugiki" in err


@pytest.mark.parametrize(
    "text", [":smile: [red]x[/red]", "a\tb\t\tc", "  " + "long line " * 40, "川\t谷", "می\u200cخواهم 👨\u200d👩"]
)
def test_text_is_printed_as_it_is(capsys, text):
    cli.say(text)
    assert capsys.readouterr().out == text + "\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x9b31mc", "a\\rb\\x9b31mc"),
        ("\u202egnp.txt", "\\u202egnp.txt"),
        ("name \udce9.jsonl", "name \\udce9.jsonl"),
    ],
)
def test_what_others_wrote_steers_no_terminal(monkeypatch, capsys, text, shown):
    import tsugiki.recipe_file

    def broken(*_, **__):
        raise DataError(text)

    cli.say(text)
    assert capsys.readouterr().out == shown + "\n"
    monkeypatch.setattr(tsugiki.recipe_file, "load_recipe", broken)
    assert run_cli(monkeypatch, capsys, "prepare", "recipe.yaml") == (3, "", f"error: {shown}\n")


def test_help_loads_no_model_library():
    code = (
        "import sys; sys.argv = ['tsugiki', '--help']\nfrom tsugiki.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert out.stdout.rstrip().endswith("[]")


@pytest.mark.parametrize("shard", ["3", "3/3", "a/2", "1/0", "-1/2", "1/2/3", "٣/٤"])
def test_a_part_that_is_none_is_refused(monkeypatch, capsys, shard):
    code, _, err = run_cli(monkeypatch, capsys, "prepare", "recipe.yaml", f"--shard={shard}")
    assert (code, err) == (2, f"error: --shard {shard}: write I/N with I from 0 to N - 1, such as 0/16\n")


def test_parts_are_not_made_and_put_together_at_once(monkeypatch, capsys):
    code, _, err = run_cli(monkeypatch, capsys, "prepare", "recipe.yaml", "--shard=0/2", "--merge")
    assert (code, err) == (2, "error: --shard and --merge: the parts are made first, and then put together\n")
