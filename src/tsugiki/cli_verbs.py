"""How verbs answer the shell: by an exit code, and those of a stage together with the verbs beside them."""

from typing import Any, NoReturn

import typer
from typer.core import TyperGroup


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
