"""A process that prepares a recipe and may be killed, forked from one that has imported what preparing needs."""

from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from tsugiki.corpus import pieces, unfinished
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe


class Children:
    """Starts such processes: `children(recipe)` is one that is about to begin."""

    def __init__(self, context: ForkServerContext, piece: int, save_seconds: float):
        """`piece`: bytes of text in a batch. `save_seconds`: between what is kept of an unfinished source."""
        self._context, self._settings = context, (piece, save_seconds)

    def __call__(self, recipe: Recipe) -> BaseProcess:
        begun = self._context.Event()
        text = recipe.model_dump_json(exclude_none=True)
        child = self._context.Process(target=_prepare, args=(text, *self._settings, begun))
        child.start()
        assert begun.wait(60)
        return child


def _prepare(text: str, piece: int, save_seconds: float, begun: Event) -> None:
    pieces.PIECE, unfinished.SAVE_SECONDS = piece, save_seconds
    recipe = parse_recipe(text, "recipe", [], False)
    tokenizer = TextTokenizer.from_folder(Path(recipe.model.tokenizer or ""))
    begun.set()
    prepare(recipe, tokenizer)
