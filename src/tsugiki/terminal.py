"""What verbs share: arguments, printing plain text, ending with an exit code, and verbs that have more beside them."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from typer.core import TyperGroup

from tsugiki.errors import RecipeError
from tsugiki.printable import printable

KEPT = {letter: letter for letter in "\n\t\u200c\u200d"}
"""What a terminal shows as it is, besides letters, marks and spaces: the joiners are part of Persian and Hindi words,
and of emoji."""


RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY.PATH=VALUE]...",
        help="Change keys for this call, e.g. training.max_steps=100",
        show_default=False,
    ),
]
"""What most verbs take."""


class Terminal(Console):
    """Prints what it is given, and goes on where nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """The reader has gone (`| head`, a pager that was left): a training of days must not end for that."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = Terminal(highlight=False, soft_wrap=True, emoji=False)


def say(text: str) -> None:
    """Print plain text: what comes from recipes, corpora and models is never read as markup, steers no terminal, and
    keeps its tabs."""
    console.print(plain(text))


def say_styled(parts: Iterable[tuple[str, str]]) -> None:
    """Print a line whose parts have styles, as rich names them; the text is plain, as that of `say`."""
    segments = [Segment(printable(text, KEPT), Style.parse(style)) for text, style in parts]
    console.print(Segments([*segments, Segment.line()]))


def plain(text: str, *, end_line: bool = True) -> Segments:
    """A line of text for a console, or (`end_line=False`) a part of one, without markup, its control codes written as
    escapes. Half a surrogate pair, as in names of files that are not UTF-8, is one of them."""
    return Segments([Segment(printable(text, KEPT)), *([Segment.line()] if end_line else [])])


def json_object(text: str, option: str) -> dict[str, Any]:
    """A JSON object given on the command line. Raises RecipeError for anything else."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"{option} {text}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise RecipeError(f'{option} {text}: give a JSON object, e.g. {{"enable_thinking": false}}')
    return found


def end(code: int) -> NoReturn:
    """End with an exit code: a return value would not reach the shell."""
    raise typer.Exit(code)


def stage_group(verb: str) -> type[TyperGroup]:
    """A group for a stage's verb that takes an argument and has further verbs beside: what does not begin with one of
    those belongs to the hidden `verb`, whose name nobody types and no message says."""

    class StageGroup(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if args and args[0] not in (*self.commands, *ctx.help_option_names):
                args = [verb, *args]
            return super().parse_args(ctx, args)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, command, rest = super().resolve_command(ctx, args)
            if name == verb and command is not None:
                command.context_class = _without_its_name(command.context_class)
            return name, command, rest

        def format_options(self, ctx: Any, formatter: Any) -> None:
            """The verb's own arguments and options: nobody types its name, so nobody could ask for its help."""
            command = self.commands[verb]
            command.format_options(type(ctx)(command, info_name=ctx.info_name, parent=ctx.parent), formatter)
            self.format_commands(ctx, formatter)

    return StageGroup


def _without_its_name(context: type[Any]) -> type[Any]:
    """A context whose usage lines name the group alone."""

    class Unnamed(context):
        @property
        def command_path(self) -> str:
            return str(self.parent.command_path)

    return Unnamed
