"""Packages that only evaluation needs: imported when they are used, since the core install has none of them."""

from importlib import import_module
from types import ModuleType

from tsugiki.errors import RecipeError


def need(module: str, install: str = "'tsugiki[eval]'") -> ModuleType:
    """The module, imported now (`need("sacrebleu.metrics")` works, too). `install`: what pip is to be given.

    Raises RecipeError with the command that installs it. What Python said is quoted: a package that is there but
    broken looks the same from here.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise RecipeError(f"{package} is needed for this evaluation ({error}): pip install {install}") from None
