"""The verbs: parse, call, print. What each verb does is in the module that it calls.

Model code (torch, transformers) is imported inside the verbs that need it, so that `--help`, `prepare`, `validate`
and `inspect` start in well under a second.
"""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from tsugiki import (
    __version__,
    cli_chat,
    cli_evaluation,
    cli_experiments,
    cli_graft,
    cli_plan,
    cli_release,
    cli_report,
    cli_vocabulary,
)
from tsugiki.cli_arguments import Overrides, RecipeFile
from tsugiki.cli_verbs import end
from tsugiki.errors import FINISHED, INTERNAL, RESUMABLE, RecipeError, StorageError, TsugikiError
from tsugiki.files import explain_os_error
from tsugiki.recipe_secrets import hide_secrets
from tsugiki.terminal import console, plain, say, say_styled
from tsugiki.training.signals import Interrupted, interruptible

VERBS = (
    "quickstart", "init", "validate", "plan", "run", "vocabulary", "prepare", "preflight", "train", "watch", "evaluate",
    "data", "sweep", "attribute", "report", "export", "graft-chat", "release", "inspect", "sample", "generate", "chat",
    "recipe",
)  # fmt: skip
"""In the order in which they are needed, which is that of the README."""


class Verbs(TyperGroup):
    """Typer would list verbs that have further verbs after all others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(VERBS)


app = typer.Typer(
    name="tsugiki",
    cls=Verbs,
    help="Graft a new language onto an open-weight language model: continual pretraining from one recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
recipe_app = typer.Typer(help="Print a recipe fully resolved, or the JSON Schema of all.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
app.add_typer(cli_vocabulary.vocabulary_app, name="vocabulary")
app.add_typer(cli_evaluation.evaluate_app, name="evaluate")
app.add_typer(cli_evaluation.data_app, name="data")
app.add_typer(cli_experiments.sweep_app, name="sweep")
app.add_typer(cli_experiments.attribute_app, name="attribute")
app.command()(cli_chat.chat)
app.command()(cli_graft.graft_chat)
app.command()(cli_plan.plan)
app.command()(cli_release.release)
app.command()(cli_report.report)
app.command()(cli_report.watch)


def main() -> None:
    """Run the command line; errors of the user's making end in one message and their class's exit code, and so does a
    request to stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show Japanese shows its code points
            stream.reconfigure(errors="backslashreplace")
    try:
        with interruptible():
            app()
    except Interrupted as stop:
        _tell(f"stopped by {stop}: what is finished is kept; the same command goes on from there")
        sys.exit(RESUMABLE)
    except TsugikiError as error:
        _show(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FINISHED)
    except OSError as error:  # where no stage could say more: the disk or the network
        _show(StorageError(explain_os_error(error, error.filename or "a file", "read or write")))
        sys.exit(StorageError.exit_code)
    except Exception:
        traceback.print_exc()
        print("This is a defect of Tsugiki, not of your recipe; please report the lines above.", file=sys.stderr)
        sys.exit(INTERNAL)


def _show(error: TsugikiError) -> None:
    _tell(f"error: {error}")


def _tell(text: str) -> None:
    # A library's message may quote an address with the password that the environment gave it.
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(plain(hide_secrets(text)))


def _load(recipe: Path, overrides: list[str] | None, *, check_files: bool = True) -> Any:
    from tsugiki.recipe_file import load_recipe

    return load_recipe(recipe, overrides or [], check_files=check_files)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        say(f"tsugiki {__version__}")
        raise typer.Exit


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder to write into; existing files are never overwritten.")],
    kind: Annotated[
        str, typer.Option(help="What to start from: new-language, new-field, instruct, one-gpu or slurm.")
    ] = "new-language",
) -> None:
    """Write a commented recipe to start from."""
    from tsugiki.init import write_template

    for path in write_template(directory, kind):
        say(f"wrote {path}")
    say(f"next: edit the paths in it, then  tsugiki validate {directory}/recipe.yaml")


@app.command()
def validate(
    recipe: RecipeFile,
    overrides: Overrides = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Check the file alone; its model and corpora need not be here.")
    ] = False,
    samples: Annotated[int, typer.Option(help="How many training samples to show.", min=0)] = 3,
) -> None:
    """Check a recipe and its inputs, and show training samples.

    All that can be checked without a GPU; samples have their inputs beside their targets.
    """
    from tsugiki.preview import preview_adapters, preview_samples

    checked = _load(recipe, overrides, check_files=not schema)
    if not schema:
        for line in preview_samples(checked, samples):
            _show_line(line)
        for line in preview_adapters(checked):
            say(line)
        if checked.model.architecture is not None:  # last, since it takes seconds to import transformers
            from tsugiki.model.safe_config import check_architecture

            check_architecture(checked.model.architecture)
    say(f"{recipe}: valid")


@app.command()
def prepare(
    recipe: RecipeFile,
    overrides: Overrides = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Make part I of N (from 0) of the work; --merge puts all together."),
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Put together what --shard has made.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare prepared files with their digests; make damaged shards again.")
    ] = False,
) -> None:
    """Tokenise the corpora, where that is not up to date."""
    from tsugiki.pipeline import run_prepare
    from tsugiki.progress import PrepareProgress

    deal = _deal(shard)
    if deal is not None and merge:
        raise RecipeError("--shard and --merge: the parts are made first, and then put together")
    checked = _load(recipe, overrides)
    with PrepareProgress(console) as progress:
        run_prepare(checked, progress, say, deal=deal, merge=merge, verify=verify)


def _deal(shard: str | None) -> Any:
    """The part of the work that `I/N` names. Raises RecipeError."""
    from tsugiki.corpus.inputs import Deal

    if shard is None:
        return None
    number, _, of = shard.partition("/")
    if not (number.isascii() and number.isdigit() and of.isascii() and of.isdigit() and int(number) < int(of)):
        raise RecipeError(f"--shard {shard}: write I/N with I from 0 to N - 1, such as 0/16")
    return Deal(int(number), int(of))


@app.command()
def run(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """All stages in order; continues what was interrupted."""
    from tsugiki.pipeline import run_all
    from tsugiki.progress import PrepareProgress

    checked = _load(recipe, overrides)
    with PrepareProgress(console) as progress:
        finished = run_all(checked, say, progress, cli_evaluation.evaluate_recipe)
    end(FINISHED if finished else RESUMABLE)


@app.command()
def train(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Train on prepared data, from the newest checkpoint on.

    For several processes: torchrun --nproc-per-node N -m tsugiki train RECIPE
    """
    from tsugiki.pipeline import run_training

    finished = run_training(_load(recipe, overrides), say)
    end(FINISHED if finished else RESUMABLE)


@app.command()
def preflight(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """The checks before training, on your model and data."""
    from tsugiki.pipeline import run_training

    run_training(_load(recipe, overrides), say, only_preflight=True)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint folder, or a run directory (its newest one).")],
    output: Annotated[Path, typer.Argument(help="The Hugging Face folder to write.")],
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    base: Annotated[
        Path | None, typer.Option(help="Of adapters: where their base lies now, if it was moved since training.")
    ] = None,
) -> None:
    """Write a checkpoint as a Hugging Face folder.

    AutoModelForCausalLM.from_pretrained opens it; the tokenizer is included. Adapters are merged into their base, and
    lie beside it in adapter/ as peft loads them.
    """
    from tsugiki.checkpoint_files import is_export_of, newest_name
    from tsugiki.folders import tidy

    if not checkpoint.is_dir():
        raise RecipeError(f"{checkpoint}: no such folder; name a checkpoint or a run directory")
    if (checkpoint / "checkpoints").is_dir():
        name = newest_name(checkpoint / "checkpoints")
        if name is None:
            raise TsugikiError(f"{checkpoint}/checkpoints has no whole checkpoint")
        checkpoint = checkpoint / "checkpoints" / name
    tidy(output)
    if is_export_of(checkpoint, output, dtype):
        say(f"{output} is up to date ({checkpoint.name})")
        return
    from tsugiki.model.export import export as export_checkpoint

    export_checkpoint(checkpoint, output, dtype=dtype, base=base)
    say(f"{checkpoint} -> {output}")


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="A token store, a prepared source, a checkpoint or a run directory.")],
    verify: Annotated[bool, typer.Option(help="Compare every file with its digest.")] = True,
) -> None:
    """Say what a path is, its counts, and verify its digests."""
    from tsugiki.inspection import inspect_path

    lines, sound = inspect_path(path, verify=verify)
    for line in lines:
        say(line)
    end(FINISHED if sound else StorageError.exit_code)


@app.command()
def sample(
    recipe: RecipeFile,
    number: Annotated[int, typer.Argument(metavar="G", help="Global sample number, from 0.", min=0, max=2**62)],
    overrides: Overrides = None,
) -> None:
    """Show which text of which documents is global sample G."""
    from tsugiki.preview import show_sample

    for line in show_sample(_load(recipe, overrides), number):
        _show_line(line)


def _show_line(line: Any) -> None:
    """A line of a sample: text, or a `MarkedLine`, whose colours a terminal that has none shows as brackets."""
    if isinstance(line, str) or console.color_system is None:
        say(str(line))
    else:
        say_styled(line.styled())


@app.command()
def generate(
    model: Annotated[Path, typer.Argument(help="A Hugging Face folder, such as an export.")],
    prompt: Annotated[str, typer.Argument(help="Text to continue.")],
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 100,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.95,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1)] = 0,
) -> None:
    """Continue a text with a model."""
    from tsugiki.model.generate import generate_text

    say(generate_text(model, prompt, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed))


@app.command()
def quickstart(
    directory: Annotated[
        Path | None,
        typer.Option("--run-dir", help="Where to work. Default: quickstart-run, or quickstart-FOLDER with --corpora."),
    ] = None,
    corpora: Annotated[
        Path | None, typer.Option(help="A folder of your own files (JSON Lines, Parquet or text, compressed or not).")
    ] = None,
    minutes: Annotated[float, typer.Option(help="How long to train with --corpora.", min=1.0)] = 30.0,
    instruct: Annotated[
        bool, typer.Option("--instruct", help="Then teach the result to answer, on built-in conversations.")
    ] = False,
) -> None:
    """The whole job offline, in minutes, on a built-in text.

    It ends with what was gained and what was forgotten.
    """
    from tsugiki.quickstart.instruct.run import run_instruct
    from tsugiki.quickstart.run import run_quickstart

    if instruct and corpora is not None:
        raise RecipeError(
            "--instruct continues the built-in quickstart: leave --corpora out, or tune by `tsugiki init`"
        )

    directory = directory or Path(f"quickstart-{corpora.resolve().name}" if corpora else "quickstart-run")
    if any(place.exists() and not place.is_dir() for place in (directory, *directory.parents)):
        raise RecipeError(f"--run-dir {directory} is a file, or lies below one: name a folder")
    if instruct:
        end(run_instruct(directory, console))
    end(run_quickstart(directory, console, corpora=corpora, minutes=minutes))


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of a recipe; editors complete keys from it."""
    import json

    from tsugiki.recipe_file import json_schema

    say(json.dumps(json_schema(), indent=2, ensure_ascii=False))


@recipe_app.command("show")
def recipe_show(recipe: RecipeFile, overrides: Overrides = None) -> None:
    """Print a recipe fully resolved: every key with the value it has."""
    from tsugiki.recipe_file import show

    say(show(_load(recipe, overrides, check_files=False)).rstrip())
