"""The verb that adds a chat vector to a model: `tsugiki graft-chat`."""

from pathlib import Path
from typing import Annotated

import typer

from tsugiki.terminal import say


def graft_chat(
    output: Annotated[Path, typer.Argument(help="The Hugging Face folder to write.", show_default=False)],
    base: Annotated[str, typer.Option(metavar="B", help="The base that both were made from: a folder or a hub id.")],
    chat: Annotated[str, typer.Option(metavar="C", help="The chat model made from it: a folder or a hub id.")],
    ours: Annotated[
        str, typer.Option("--to", metavar="OURS", help="The model that is to follow instructions, such as an export.")
    ],
    scale: Annotated[float, typer.Option(help="How much of the difference is added.")] = 1.0,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Tensors that stay ours, e.g. '*norm*'; may be given several times."),
    ] = None,
    add_tokens: Annotated[
        bool, typer.Option("--add-tokens", help="Add the tokens of C that its template needs and OURS has not.")
    ] = False,
) -> None:
    """Make yours a chat model by the difference of two.

    OURS + scale * (C - B), with the template and the stops of C; no training, and no model in memory.
    """
    from tsugiki.corpus.hub import resolve_model_folder
    from tsugiki.model.graft import graft_chat as graft

    first, second, third = (resolve_model_folder(name)[0] for name in (base, chat, ours))
    graft(first, second, third, output, say, scale=scale, exclude=exclude or (), add_tokens=add_tokens)
