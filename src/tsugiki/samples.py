"""How the base and the final model go on with the same texts: `<run_dir>/samples.json`, for the report.

Beginnings of held-out documents, which neither model has been trained on by this run. Drawn with one fixed seed, so
that nobody has chosen the prettiest. Of chat sources held-out conversations are answered (`sample_answers.py`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsugiki.checkpoint_files import EXPORT_MARK, ExportMark
from tsugiki.corpus.prepared import PreparedSource, open_prepared
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.files import read_json, write_json
from tsugiki.recipe import Recipe
from tsugiki.recipe_inputs import base_folder, load_base_tokenizer, load_tokenizer, resolve_commits
from tsugiki.sample_answers import BUDGET, answers, find_questions
from tsugiki.vocabulary.template_tokens import folder_of, markers_to_add

FILE = "samples.json"
DOCUMENTS, MOST_SOURCES = 2, 6
PROMPT_BYTES = 72
"""About a dozen English words, two dozen Japanese letters."""
SETTINGS: dict[str, Any] = {"max_new_tokens": 60, "temperature": 0.7, "top_p": 0.9, "seed": 1}
MOST_MEMORY = 0.4
"""Share of the free memory that a model's weights in fp32 may take: beyond that, no samples are worth the risk."""


def make_samples(recipe: Recipe) -> str | None:
    """Write the file, unless it is that of the exported checkpoint already; returns why there is none, or None.

    Raises TsugikiError where a model cannot be used.
    """
    exported = recipe.run_dir / "export"
    mark = read_json(exported / EXPORT_MARK, ExportMark)
    path = recipe.run_dir / FILE
    if path.exists():
        former = read_json(path)
        whole = "answers" in former or not recipe.has_chat
        if former.get("digest") == mark["digest"] and whole:  # a name may be another run's
            return None
    tokenizer = load_tokenizer(recipe)
    held_out = [item for item in open_prepared(recipe, tokenizer).items() if item[1].held_out.document_count]
    sources = dict(held_out[:MOST_SOURCES])
    prompts = _prompts(sources, tokenizer)
    questions = find_questions(recipe, tokenizer.folder, sources, DOCUMENTS)
    if not prompts and not questions:
        return "no source has held-out text to go on with" + (" or to answer" if recipe.has_chat else "")
    commits = resolve_commits(recipe)
    base = base_folder(recipe, commits)
    for folder in (base, exported):
        if folder is not None and (reason := _too_large(folder)):
            return reason
    texts = [text for _, _, text in prompts]
    before, after = (_continued(folder, texts) if folder else [None] * len(texts) for folder in (base, exported))
    found: dict[str, Any] = {
        "checkpoint": mark["checkpoint"],
        "digest": mark["digest"],
        "settings": SETTINGS,
        "samples": [
            {"source": name, "language": language, "prompt": prompt, "before": first, "after": last}
            for (name, language, prompt), first, last in zip(prompts, before, after, strict=True)
        ],
    }
    if recipe.has_chat:
        found["most_tokens"] = BUDGET
        begun, start = _as_begun(recipe, commits, base)
        found["answers"] = answers(begun, commits, start, exported, questions) if questions else []
    write_json(path, found)
    return None


def _as_begun(recipe: Recipe, commits: Mapping[str, str | None], base: Path | None) -> tuple[Recipe, Path | None]:
    """What is asked before: the base, with rows for the template's markers where it got them, as training began with
    (without, it could not even be asked); and the recipe as if that were its base."""
    folder = folder_of(recipe) / "model"
    if base is None or not markers_to_add(recipe, load_base_tokenizer(recipe, commits)) or not folder.is_dir():
        return recipe, base
    model = recipe.model.model_copy(update={"name_or_path": str(folder), "tokenizer": None, "revision": None})
    chat = recipe.data.chat.model_copy(update={"add_template_tokens": False})
    data = recipe.data.model_copy(update={"chat": chat})
    return recipe.model_copy(update={"model": model, "data": data}), folder


def _prompts(sources: Mapping[str, PreparedSource], tokenizer: TextTokenizer) -> list[tuple[str, str | None, str]]:
    """(source, language, beginning) of the first held-out documents of each source."""
    return [
        (name, source.language, beginning(text))
        for name, source in sources.items()
        for text in source.held_out_texts(tokenizer, DOCUMENTS)
    ]


def beginning(text: str) -> str:
    """The first PROMPT_BYTES of a text on one line, at the end of a word where spaces divide words."""
    flat = " ".join(text[: 8 * PROMPT_BYTES].split())
    cut = flat.encode()[:PROMPT_BYTES].decode("utf-8", "ignore")
    whole = cut.rpartition(" ")[0] if len(cut) < len(flat) and not flat[len(cut)].isspace() else cut
    return whole if len(whole) > len(cut) / 2 else cut


def _continued(folder: Path, prompts: list[str]) -> list[str]:
    """What a model adds to each."""
    from tsugiki.model.generate import generate_texts

    if not prompts:
        return []
    texts = generate_texts(folder, prompts, **SETTINGS)
    return [
        text.removeprefix(prompt).rstrip("\ufffd") for prompt, text in zip(prompts, texts, strict=True)
    ]  # a last character that was cut in its bytes is left out


def _too_large(folder: Path) -> str | None:
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    free = _free_memory()
    if free is not None and 2 * weights > MOST_MEMORY * free:
        return f"{folder} has {weights / 1e9:.0f} GB of weights, and {free / 1e9:.0f} GB of memory are free"
    return None


def _free_memory() -> int | None:
    """Bytes of host memory that are free; None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None
    return None
