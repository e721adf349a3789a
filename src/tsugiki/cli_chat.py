"""The verb that talks to a model: `tsugiki chat`."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tsugiki.cli_arguments import json_object
from tsugiki.cli_verbs import end
from tsugiki.errors import FINISHED, DataError
from tsugiki.terminal import console, plain

if TYPE_CHECKING:
    from tsugiki.model.talk import Talk

COMMANDS = {
    "/reset": "forget what was said",
    "/system TEXT": "give the model another system prompt, or none",
    "/exit": "leave, as Ctrl-D does",
}
HELP = "; ".join(f"{command}: {what}" for command, what in COMMANDS.items())


def chat(
    model: Annotated[
        str,
        typer.Argument(help="A Hugging Face folder, a run directory, a checkpoint or a hub id.", show_default=False),
    ],
    system: Annotated[str, typer.Option(help="The system prompt.", show_default=False)] = "",
    template: Annotated[
        str | None,
        typer.Option(help="A chat template by name, e.g. chatml. Default: the tokenizer's own.", show_default=False),
    ] = None,
    tools: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", help="A list of functions' schemas to offer; [] for none. Default: as it was trained."
        ),
    ] = None,
    template_kwargs: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help='Arguments of the template: {"enable_thinking": false}. Default: as it was trained.',
        ),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens that an answer may have.")] = 1024,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.9,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1)] = 0,
) -> None:
    """Talk to a model in the terminal.

    /reset forgets what was said, /system TEXT gives another system prompt, /exit or Ctrl-D leaves, Ctrl-C stops an
    answer. What is piped in is asked line by line.
    """
    from tsugiki.chat.given import tools_of
    from tsugiki.evaluation.models import find_model
    from tsugiki.model.talk import Talk

    offered = None if tools is None else tools_of(tools, "--tools")
    kwargs = None if template_kwargs is None else json_object(template_kwargs, "--template-kwargs")
    found = find_model(model)
    with tempfile.TemporaryDirectory() as scratch, found.weights(Path(scratch)) as folder:
        talk = Talk(
            folder, template=template, tools=offered, template_kwargs=kwargs, max_new_tokens=max_new_tokens,
            temperature=temperature, top_p=top_p, seed=seed,
        )  # fmt: skip
    talk.set_system(system)
    if sys.stdin.isatty():
        _note(f"{found.label}  {HELP}")
        with _interrupts_raise():
            _converse(talk)
    else:
        for line in _piped():
            _take(talk, line)


def _converse(talk: "Talk") -> None:
    """Ask what is typed, until the user leaves. What goes wrong with a question is told, and the next one is asked."""
    with suppress(ImportError):  # not every Python is built with it
        import readline  # noqa: F401 (arrow keys and earlier lines, in `input`)
    while True:
        try:
            line = input("> ")
            line.encode()
            _take(talk, line)
        except EOFError:
            console.print()
            return
        except KeyboardInterrupt:
            _note("stopped")
        except UnicodeEncodeError:
            _note("that was not UTF-8 text")
        except DataError as error:
            _note(f"{error}. /reset begins anew")


def _piped() -> Iterator[str]:
    """The lines of stdin. Raises DataError for one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode()
        except UnicodeDecodeError:
            raise DataError(f"line {number} of the input is not UTF-8 text") from None


def _take(talk: "Talk", line: str) -> None:
    """Do what a line says: a command, or a question to the model. Raises DataError where the model cannot be asked."""
    command, _, rest = line.strip().partition(" ")
    if command == "/exit":
        end(FINISHED)
    elif command == "/reset":
        talk.reset()
        _note("what was said is forgotten")
    elif command == "/system":
        talk.set_system(rest.strip())
        _note("the system prompt is changed" if talk.system else "there is no system prompt any more")
    elif command[:1] == "/" and command[1:].isalpha():
        _note(f"there is no command {command}. {HELP}")
    elif command:
        _answer(talk, line.strip())


def _answer(talk: "Talk", question: str) -> None:
    """Answers go to stdout, everything else to stderr."""
    begun = False
    try:
        for piece in talk.ask(question):
            console.print(plain(piece, end_line=False))
            begun = begun or bool(piece)
    finally:
        if begun:
            console.print()
    if talk.cut is not None:
        _note(f"the answer was cut: {talk.cut}")
    elif not begun:
        _note("the answer is empty")


def _note(text: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(plain(text))


@contextmanager
def _interrupts_raise() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt, each time it is pressed: it stops an answer, where in other verbs it ends the
    command. A process that ignores it still does."""
    former = signal.getsignal(signal.SIGINT)
    if former is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
