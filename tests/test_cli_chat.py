"""`tsugiki chat` as it is used: piped in, and typed into a terminal."""

import io
import os
import select
import sys
import time
from types import SimpleNamespace

import pytest
from chat_models import chat_folder
from command_child import run_in_terminal

from tsugiki import cli
from tsugiki.model.talk import Talk


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model_folder):
    """A model that never ends an answer by itself for long."""
    place = tmp_path_factory.mktemp("chat") / "qwen"
    return chat_folder(place, "qwen", tiny_model_folder, max_position_embeddings=100_000)


def piped(monkeypatch, capsys, folder, text, *options):
    monkeypatch.setattr(sys, "argv", ["tsugiki", "chat", str(folder), *options])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(text)))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    out, err = capsys.readouterr()
    return stop.value.code or 0, out, err


class Echo(Talk):
    """Answers with the question, in two pieces, and tells what came before."""

    def __init__(self, folder, **settings):
        self.system, self.turns, self.cut, self.settings = None, [], None, settings

    def set_system(self, text):
        self.system = text or None

    def ask(self, text):
        self.turns.append(text)
        yield f"{self.system}: "
        yield "+".join(self.turns)


def test_what_is_piped_in_is_asked_line_by_line(monkeypatch, capsys, folder):
    import tsugiki.model.talk

    monkeypatch.setattr(tsugiki.model.talk, "Talk", Echo)
    lines = "接ぎ木\r\n\n  /etc/hosts\n/rset\n/system  Be brief \nc\n/reset\nd\n/system\ne\x1b[2J\n/exit\nf\n"
    code, out, err = piped(monkeypatch, capsys, folder, lines.encode(), "--system", "S")
    assert code == 0
    assert out.splitlines() == [
        "S: 接ぎ木", "S: 接ぎ木+/etc/hosts", "Be brief: 接ぎ木+/etc/hosts+c", "Be brief: d", "None: d+e\\x1b[2J",
    ]  # fmt: skip
    assert err.splitlines()[0].startswith("there is no command /rset. /reset: forget what was said")
    assert err.splitlines()[1:] == [
        "the system prompt is changed", "what was said is forgotten", "there is no system prompt any more",
    ]  # fmt: skip


def test_input_that_is_not_utf8_and_a_conversation_that_is_full_end_it_with_one_message(
    monkeypatch, capsys, tmp_path, folder, tiny_model_folder
):
    code, out, err = piped(monkeypatch, capsys, folder, b"\n\xff\n")
    assert (code, out, err) == (3, "", "error: line 2 of the input is not UTF-8 text\n")
    small = chat_folder(tmp_path / "small", "qwen", tiny_model_folder)
    code, out, err = piped(monkeypatch, capsys, small, b"a\nb\n", "--temperature", "0", "--max-new-tokens", "5")
    assert code == 0
    assert err.splitlines() == ["the answer was cut: it has 5 tokens (--max-new-tokens)"] * 2
    code, _, err = piped(monkeypatch, capsys, small, b"a\n" + b"b " * 200 + b"\n", "--max-new-tokens", "5")
    assert code == 3
    assert "tokens, and the model has 128 positions" in err


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--template-kwargs", "[1]", 'give a JSON object, e.g. {"enable_thinking": false}'),
        ("--tools", "{}", """give a JSON list of functions' schemas, as in a file of them: --tools "$(cat tools.json)"; or [] for none"""),
    ],
)  # fmt: skip
def test_what_the_template_cannot_be_given_is_one_message(monkeypatch, capsys, folder, option, value, said):
    code, _, err = piped(monkeypatch, capsys, folder, b"a\n", option, value)
    assert (code, err) == (2, f"error: {option} {value}: {said}\n")


@pytest.mark.parametrize(("place", "said"), [("nowhere", "nowhere"), ("bare", "is no model folder")])
def test_what_is_no_model_is_one_message(monkeypatch, capsys, tmp_path, place, said):
    (tmp_path / "bare").mkdir()
    code, out, err = piped(monkeypatch, capsys, tmp_path / place, b"a\n")
    assert code != 0
    assert (out, err.count("\n"), "Traceback" in err) == ("", 1, False)
    assert said in err


def test_in_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(fork_context, folder):
    terminal, end = os.openpty()
    command = ["chat", str(folder), "--temperature", "0", "--max-new-tokens", "90000"]
    environment = {"TERM": "dumb", "OMP_NUM_THREADS": "1"}
    process = fork_context.Process(target=run_in_terminal, args=(command, environment, os.ttyname(end)))
    process.start()
    seen = b""

    def until(found, pressing=b""):
        """Read until the output is as wanted. `pressing`: a key that is pressed, and again while nothing comes of it: one
        that is pressed between the prompt and readline's waiting for input is seen with the next."""
        nonlocal seen
        deadline = time.monotonic() + 60
        os.write(terminal, pressing)
        while not found(seen):
            assert time.monotonic() < deadline, seen
            if select.select([terminal], [], [], 5)[0]:
                seen += os.read(terminal, 4096)
            else:
                os.write(terminal, pressing)

    try:
        until(lambda text: text.endswith(b"> "))
        assert b"/reset: forget what was said" in seen
        os.write(terminal, b"Hi\n")
        until(lambda text: len(text.partition(b"Hi\r\n")[2]) > 40)  # it speaks
        os.write(terminal, b"\x03")
        until(lambda text: text.endswith(b"stopped\r\n> "))
        os.write(terminal, b"not sent")
        until(lambda text: text.endswith(b"not sent"))
        until(lambda text: text.endswith(b"stopped\r\n> ") and text.count(b"stopped") >= 2, pressing=b"\x03")
        os.write(terminal, b"/reset\n")
        until(lambda text: text.endswith(b"what was said is forgotten\r\n> "))
        os.write(terminal, b"\x04")
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
        os.close(terminal)
        os.close(end)
