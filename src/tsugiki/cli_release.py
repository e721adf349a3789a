"""The verb that makes a folder to publish: `tsugiki release`."""

from pathlib import Path
from typing import Annotated

import typer

from tsugiki.terminal import say


def release(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory (its newest checkpoint), or a checkpoint.")
    ],
    output: Annotated[Path, typer.Argument(help="The Hugging Face folder to write.")],
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    average: Annotated[
        str | None, typer.Option(metavar="last:N", help="Take the mean of the last N checkpoints.", show_default=False)
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Upload to the hub, private, with your token.", show_default=False),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: for everybody to see.")] = False,
) -> None:
    """A verified folder to publish: card, licence, report.

    Read again by plain transformers before it appears; checksums included.
    """
    from tsugiki.errors import RecipeError
    from tsugiki.pipeline import run_release

    if public and push is None:
        raise RecipeError("--public is about --push OWNER/NAME, which is missing")
    run_release(run, output, say, dtype=dtype, average=average, push_to=push, public=public)
