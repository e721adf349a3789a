"""The verbs of the vocabulary: `tsugiki vocabulary RECIPE`, and its `check` and `compare` for any tokenizers."""

from pathlib import Path
from typing import Annotated

import typer

from tsugiki.cli_arguments import Overrides, RecipeFile
from tsugiki.cli_verbs import end, stage_group
from tsugiki.errors import FINISHED, RecipeError, TsugikiError
from tsugiki.terminal import console, say

vocabulary_app = typer.Typer(
    cls=stage_group("extend"),
    help="Extend a base's vocabulary; check, compare tokenizers.",
    no_args_is_help=True,
    subcommand_metavar="RECIPE | COMMAND [ARGS]...",
)


@vocabulary_app.command("extend", hidden=True)
def vocabulary_extend(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Learn pieces for the recipe's language, prove the tokenizer, resize the model; skipped when up to date."""
    from tsugiki.pipeline import run_vocabulary
    from tsugiki.recipe_file import load_recipe

    run_vocabulary(load_recipe(recipe, overrides or []), say)


TextFiles = Annotated[
    list[Path], typer.Option(metavar="FILES", help="Files of text: JSON Lines, Parquet or plain, compressed or not.")
]


@vocabulary_app.command("check")
def vocabulary_check(
    tokenizer: Annotated[
        list[Path], typer.Argument(metavar="TOKENIZER", help="The folder of the extended tokenizer, ours or another's.")
    ],
    base: Annotated[Path, typer.Option(help="The folder of the tokenizer that it extends.")],
    text: TextFiles,
    language: Annotated[
        str | None, typer.Option(help="The language of new pieces, e.g. ja. Default: the scripts that they hold.")
    ] = None,
    text_key: Annotated[str, typer.Option(help="Key or column that holds the text.")] = "text",
) -> None:
    """Prove that an extended tokenizer is exact, and name each defect with examples; exit code 1 for any."""
    from tsugiki.vocabulary.check import check_tokenizer

    sound = True
    folders, files = _folders_and_files(tokenizer, text)
    if len(folders) > 1:
        raise RecipeError(f"check takes one folder, not {', '.join(map(str, folders))}")
    for line, passed in check_tokenizer(folders[0], base, files, language=language, text_key=text_key):
        sound = sound and passed
        say(line)
    end(FINISHED if sound else TsugikiError.exit_code)


@vocabulary_app.command("compare")
def vocabulary_compare(
    tokenizers: Annotated[
        list[Path], typer.Argument(metavar="TOKENIZERS", help="Folders of tokenizers; ratios are to the first.")
    ],
    text: TextFiles,
    text_key: Annotated[str, typer.Option(help="Key or column that holds the text.")] = "text",
) -> None:
    """Show side by side how many tokens the same text costs."""
    from tsugiki.vocabulary.check import compare_tokenizers

    folders, files = _folders_and_files(tokenizers, text)
    console.print(compare_tokenizers(folders, files, text_key=text_key))


def _folders_and_files(arguments: list[Path], text: list[Path]) -> tuple[list[Path], list[Path]]:
    """What was meant by `A B --text c d`: an option takes one value, so that d stands among the arguments."""
    missing = [path for path in [*arguments, *text] if not path.exists()]
    if missing:
        raise RecipeError(f"{', '.join(map(str, missing))}: no such file or folder")
    folders, files = ([path for path in arguments if path.is_dir() is kind] for kind in (True, False))
    if not folders:
        raise RecipeError("name the folder of a tokenizer")
    return folders, [*text, *files]
