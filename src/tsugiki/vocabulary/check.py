"""What the command line asks of tokenizers that lie in folders: the proofs of one, the costs of several."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from tsugiki.corpus.named_texts import read_texts
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import RecipeError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.fertility import compare, draw_comparison
from tsugiki.vocabulary.proofs import Proof, prove


def check_tokenizer(
    extended: Path, base: Path, files: Sequence[Path], *, language: str | None, text_key: str
) -> Iterator[tuple[str, bool]]:
    """The lines of every proof, with its examples where it failed, and whether it passed.

    Raises TsugikiError for folders and files that cannot be read.
    """
    for folder in (extended, base):
        _require_folder(folder)
    target = None
    if language is not None:
        try:
            target = TargetCharacters.of_language(language)
        except ValueError as error:
            raise RecipeError(f"--language: {error}") from None
    for proof in prove(extended, base, read_texts(files, text_key), target=target):
        yield "\n".join(lines_of(proof)), proof.passed


def lines_of(proof: Proof) -> list[str]:
    """A proof in words, a line and one for each example."""
    verdict = "ok    " if proof.passed else "DEFECT"
    return [f"{verdict} {proof.name}: {proof.summary}", *(f"           {example}" for example in proof.examples)]


def compare_tokenizers(folders: Sequence[Path], files: Sequence[Path], *, text_key: str) -> Table:
    """The table of what text costs with each tokenizer. Raises TsugikiError for what cannot be read."""
    for folder in folders:
        _require_folder(folder)
    tokenizers = {name: TextTokenizer.from_folder(folder) for name, folder in short_names(folders).items()}
    texts = {name: (text.text for text in read_texts([file], text_key)) for name, file in short_names(files).items()}
    return draw_comparison(compare(tokenizers, texts))


def short_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Paths by their last parts, as few as tell them apart: a table has no room for whole ones."""
    for parts in range(1, max((len(path.parts) for path in paths), default=1)):
        names = {"/".join(path.parts[-parts:]): path for path in paths}
        if len(names) == len(set(paths)) and "" not in names:  # the current directory has no part
            return names
    return {str(path): path for path in paths}


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RecipeError(f"{folder}: no such folder")
