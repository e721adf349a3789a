"""The verbs of evaluation: `tsugiki evaluate` with its `diff` and `judge`, and `tsugiki data fetch`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tsugiki.cli_arguments import json_object
from tsugiki.cli_verbs import stage_group
from tsugiki.errors import DataError, RecipeError
from tsugiki.recipe_evaluation import BATCH_TOKENS, DATA_DIR, INSTRUCTION_TASKS
from tsugiki.terminal import console, say

evaluate_app = typer.Typer(
    cls=stage_group("models"),
    help="Evaluate models on tasks; compare results by item.",
    no_args_is_help=True,
    subcommand_metavar="MODEL... | RECIPE | diff A B | judge A B",
)
data_app = typer.Typer(help="Fetch the data of the evaluation tasks.", no_args_is_help=True)


@evaluate_app.command("models", hidden=True)
def evaluate(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Hugging Face folders, hub ids, checkpoints or run directories; or a recipe, which names them, and "
            "KEY.PATH=VALUE.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        str,
        typer.Option(
            help="default: fourteen tasks measured properly. swallow: the same as published. quick: built-in probes."
        ),
    ] = "default",
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Some of the tasks, with commas between; instructions_en, instructions_ja, too. Default: all."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N items of each task.", min=1)] = None,
    shots: Annotated[
        int | None, typer.Option(help="Solved examples before each question. Default: each task's own.", min=0)
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder of the tasks' data; nothing is fetched.")] = Path(DATA_DIR),
    baseline: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Show differences to this model, item by item paired.")
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Add the rows that Swallow published (suite swallow).")
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder for answers, records and tables.")] = Path("evaluation"),
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LANGUAGE=FILE", help="suite quick: text to score in bits per byte, e.g. ja=novels.jsonl."
        ),
    ] = None,
    add_bos: Annotated[
        bool | None, typer.Option("--add-bos/--no-add-bos", help="Default: as the tokenizer does; swallow: no.")
    ] = None,
    batch_tokens: Annotated[int, typer.Option(help="Tokens at a time, their cache included.", min=1)] = BATCH_TOKENS,
    dtype: Annotated[
        str | None, typer.Option(help="bfloat16, float16 or float32. Default: bfloat16 on a GPU, else float32.")
    ] = None,
    backend: Annotated[str, typer.Option(help="hf (transformers) or vllm (where it is installed).")] = "hf",
    task_dir: Annotated[Path | None, typer.Option(help="A folder of your own lm-eval task files.")] = None,
    allow_task_code: Annotated[
        bool, typer.Option("--allow-task-code", help="Run the code of the files in --task-dir: they are programs.")
    ] = False,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run code that the model writes (tasks code, humaneval).")
    ] = False,
    chat_template: Annotated[
        bool, typer.Option("--chat-template", help="Ask the suite's tasks through each model's chat template.")
    ] = False,
    fewshot_as_multiturn: Annotated[
        bool, typer.Option(help="With it: solved examples as turns of their own, or all in one question.")
    ] = True,
    template: Annotated[
        str | None, typer.Option(help="A chat template by name, for all models. Default: each tokenizer's own.")
    ] = None,
    tools: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="A list of functions' schemas to offer. Default: as each was trained."),
    ] = None,
    template_kwargs: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Of the template: {"enable_thinking": false}. Default: as each was trained.'),
    ] = None,
) -> None:
    """Evaluate models; goes on where it was stopped, answer by answer."""
    from tsugiki.evaluation.models import find_model
    from tsugiki.evaluation.run import Settings
    from tsugiki.evaluation.show import evaluate_and_show, without_score
    from tsugiki.progress import EvaluationProgress
    from tsugiki.recipe_file import load_recipe

    recipes = [name for name in models if Path(name).suffix in (".yaml", ".yml") and "=" not in name]
    if recipes and (models[0] != recipes[0] or any("=" not in name for name in models[1:])):
        raise RecipeError(f"{recipes[0]} is a recipe, which names its models itself: give only KEY=VALUE after it")
    if recipes:
        _refuse_options(context, models)
        evaluate_recipe(load_recipe(Path(models[0]), models[1:]))
        return
    settings = Settings(
        suite=suite, tasks=_names(tasks), data_dir=data, limit=limit, shots=shots, add_bos=add_bos,
        batch_tokens=batch_tokens, dtype=dtype, backend=backend, task_dir=task_dir, allow_task_code=allow_task_code,
        allow_code_execution=allow_code_execution, chat_template=chat_template,
        fewshot_as_multiturn=fewshot_as_multiturn, template=template,
        tools=_tools(tools), template_kwargs=_kwargs(template_kwargs),
    )  # fmt: skip
    with EvaluationProgress(console) as progress:
        results = evaluate_and_show(
            [find_model(name) for name in models], settings, output, say, progress, console,
            baseline=find_model(baseline) if baseline else None, published=published,
            texts=_texts(text or []),
        )  # fmt: skip
    missing = without_score(results)
    if missing and (tasks is not None or not any(result.scored() for result in results)):
        raise DataError(f"no score for {', '.join(missing)}: see above")  # what was asked for by name, or anything


@evaluate_app.command("diff")
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of one model's results (with scores.json).")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another's.")],
    tasks: Annotated[str | None, typer.Option(help="Some of the tasks, with commas between. Default: all.")] = None,
    limit: Annotated[int, typer.Option(help="Most items to list of each task.", min=0)] = 10,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a changed item.")] = False,
) -> None:
    """List the items whose scores differ between two models."""
    from tsugiki.evaluation.show import show_diff

    show_diff(first, second, console, tasks=_names(tasks) or [], limit=limit, json_lines=json_lines)


@evaluate_app.command("judge")
def judge(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A model, named as for evaluation, or a file of answers (.jsonl).")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    judge_url: Annotated[
        str, typer.Option(metavar="URL", help="Address of an OpenAI-compatible server: http://localhost:8000/v1.")
    ],
    judge_model: Annotated[str, typer.Option(metavar="NAME", help="The model there that judges.")],
    tasks: Annotated[
        str, typer.Option(help="Instruction checks whose prompts are answered, with commas between.")
    ] = "instructions_en,instructions_ja",
    prompts: Annotated[
        Path | None, typer.Option(help='Instead: a file of prompts, a line each: {"id": "a", "prompt": "..."}.')
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N prompts of each.", min=1)] = None,
    data: Annotated[Path, typer.Option(help="Folder of the files of ifeval and m_ifeval_ja.")] = Path(DATA_DIR),
    output: Annotated[Path, typer.Option(help="Folder for answers and verdicts.")] = Path("evaluation"),
    judge_options: Annotated[
        str | None,
        typer.Option(metavar="JSON", help='Of each request. Default: {"temperature": 0, "max_tokens": 1024}.'),
    ] = None,
    parallel: Annotated[int, typer.Option(help="Requests at a time.", min=1, max=256)] = 4,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer of the judge may take.", min=1)] = 120,
    batch_tokens: Annotated[int, typer.Option(help="Tokens at a time for the models.", min=1)] = BATCH_TOKENS,
    dtype: Annotated[str | None, typer.Option(help="bfloat16, float16 or float32.")] = None,
    backend: Annotated[str, typer.Option(help="hf (transformers) or vllm (where it is installed).")] = "hf",
    template: Annotated[str | None, typer.Option(help="A chat template by name, for both models.")] = None,
    tools: Annotated[
        str | None, typer.Option(metavar="JSON", help="Functions to offer. Default: as each model was trained.")
    ] = None,
    template_kwargs: Annotated[str | None, typer.Option(metavar="JSON", help="Arguments of the chat template.")] = None,
) -> None:
    """Let a third model compare two models' answers, in both orders. A key is read from TSUGIKI_JUDGE_KEY alone."""
    from tsugiki.evaluation.judge.answers import prompts_of_file, prompts_of_tasks
    from tsugiki.evaluation.judge.endpoint import OPTIONS, Endpoint, key_from_environment
    from tsugiki.evaluation.judge.show import judge_and_show
    from tsugiki.evaluation.run import Settings
    from tsugiki.progress import EvaluationProgress

    names = _names(tasks) or []
    if unknown := [name for name in names if name not in INSTRUCTION_TASKS]:
        raise RecipeError(f"--tasks {', '.join(unknown)}: it takes {', '.join(INSTRUCTION_TASKS)}")
    options = OPTIONS if judge_options is None else json_object(judge_options, "--judge-options")
    endpoint = Endpoint(judge_url, judge_model, options, timeout, key_from_environment())
    settings = Settings(
        batch_tokens=batch_tokens, dtype=dtype, backend=backend, template=template,
        tools=_tools(tools), template_kwargs=_kwargs(template_kwargs),
    )  # fmt: skip
    asked_for = [prompts_of_file(prompts, limit)] if prompts else prompts_of_tasks(names, data, limit)
    with EvaluationProgress(console) as progress:
        judge_and_show(
            (first, second), asked_for, settings, endpoint, output, say, progress, console, parallel=parallel,
            limit=limit,
        )  # fmt: skip


@data_app.command("fetch")
def fetch(
    sets: Annotated[list[str] | None, typer.Argument(metavar="[SET]...", help="Default: all that can be had.")] = None,
    directory: Annotated[Path, typer.Option("--data", help="Folder to put them into.")] = Path(DATA_DIR),
) -> None:
    """Fetch evaluation sets from where they are published, with their licences shown and digests checked."""
    from tsugiki.evaluation.data import SETS
    from tsugiki.evaluation.data.fetch import fetch as fetch_sets

    fetch_sets(sets or list(SETS), directory, say)


def evaluate_recipe(recipe: Any) -> None:
    """The stage `evaluate` of a recipe, on the terminal."""
    from tsugiki.pipeline import run_evaluation
    from tsugiki.progress import EvaluationProgress

    with EvaluationProgress(console) as progress:
        run_evaluation(recipe, say, progress, console)


def _refuse_options(context: typer.Context, arguments: list[str]) -> None:
    """What is asked of a recipe's models stands in the recipe."""
    given = [
        name for name in context.params
        if name != "models" and (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    ]  # fmt: skip
    if given:
        raise RecipeError(
            f"--{given[0].replace('_', '-')} is for models that are named here; with a recipe set its key instead, as "
            f"in: tsugiki evaluate {arguments[0]} evaluation.limit=10"
        )


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _tools(text: str | None) -> tuple[dict[str, Any], ...] | None:
    from tsugiki.chat.given import tools_of

    return None if text is None else tools_of(text, "--tools")


def _kwargs(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json_object(text, "--template-kwargs")


def _texts(pairs: list[str]) -> dict[str, tuple[str, list[str]]]:
    """By file name: language and documents."""
    from tsugiki.corpus.named_texts import read_texts

    texts = {}
    for pair in pairs:
        language, mark, file = pair.partition("=")
        if not mark or not language or not file:
            raise RecipeError(f"--text {pair}: give a language and a file, e.g. --text ja=novels.jsonl")
        name = file if Path(file).name in texts else Path(file).name  # two folders may have files of one name
        texts[name] = (language, [text.text for text in read_texts([Path(file)])])
    return texts
