"""The sections on what was read and how it was cut into tokens: mixture asked and realised, vocabulary, fertility."""

from collections.abc import Sequence

from tsugiki.amounts import quantity
from tsugiki.corpus.conversation_figures import describe_chat
from tsugiki.pages.axes import Axis
from tsugiki.pages.document import Section, section
from tsugiki.pages.dot_chart import Dot, dot_chart
from tsugiki.pages.markup import Part
from tsugiki.pages.table import Column, table
from tsugiki.report.figures import SourceShare, mixture
from tsugiki.report.filtered import filtered
from tsugiki.report.parts import Runs, heading, paragraph
from tsugiki.report.run_directory import RunDirectory, Vocabulary

MOST_PIECES = 30


def data(runs: Runs) -> Section:
    """The mixture of each run, source by source."""
    parts: list[Part] = []
    for run in runs:
        if len(runs) > 1:
            parts.append(heading(run.name))
        parts += _mixture(run)
        parts += filtered(run)
        parts += _conversations(run)
    return section("Data", *parts)


def _mixture(run: RunDirectory) -> list[Part]:
    shares = mixture(run)
    columns: list[Column | str] = [
        "source", "language", Column("asked"), Column("realised"), Column("tokens read"), Column("epochs"),
        Column("tokens there"), Column("documents"), Column("held out"),
    ]  # fmt: skip
    rows: list[list[Part]] = [[
        one.name, one.language or "", f"{one.asked:.1%}", _share(one.realised), _count(one.tokens),
        "–" if one.epochs is None else f"{one.epochs:.2f}", _count(one.available), _exact(one.documents),
        _exact(one.held_out),
    ] for one in shares]  # fmt: skip
    total = sum(one.tokens or 0 for one in shares)
    rows.append(["all", "", f"{sum(one.asked for one in shares):.1%}", _share(sum(one.realised or 0 for one in shares)),
                 _count(total), "", _count(sum(one.available or 0 for one in shares)), "", ""])  # fmt: skip
    parts: list[Part] = [table(columns, rows), paragraph(_in_words(run, shares), "note")]
    return parts


def _conversations(run: RunDirectory) -> list[Part]:
    """Of chat sources: what is trained, how full the packs are, how long conversations are and what was left out."""
    rows: list[list[Part]] = []
    dots: list[Dot] = []
    words: list[Part] = []
    for name, manifest in run.manifests.items():
        chat, packing = manifest.chat, manifest.packing
        if chat is None or packing is None:
            continue
        counts = chat.counts
        rows.append([
            name, _exact(packing.conversations), _count(packing.tokens), f"{packing.trained_share:.1%}",
            f"{packing.packs:,} of {packing.sequence_length:,}", f"{packing.padding_share:.2%}",
            f"{packing.padding_share_unpacked:.1%}", _exact(chat.lengths.over_long),
            _exact(counts["exchanges_dropped"]),
        ])  # fmt: skip
        dots += [Dot(f"up to {bound:,}", number, group=name) for bound, number in chat.lengths.histogram]
        words.append(paragraph(f"{name}: " + "; ".join(describe_chat(chat)) + ".", "soft"))
    if not rows:
        return []
    columns: list[Column | str] = [
        "conversations of", Column("in training"), Column("tokens"), Column("trained"), Column("packs"),
        Column("padding"), Column("padding, one a window"), Column("over a window"), Column("exchanges left out"),
    ]  # fmt: skip
    chart = dot_chart("Conversations by length in tokens", dots, Axis("conversations", digits=",.0f", low=0.0))
    return [table(columns, rows), chart, *words]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _count(value: int | None) -> str:
    return "–" if value is None else quantity(value)


def _exact(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _in_words(run: RunDirectory, shares: Sequence[SourceShare]) -> str:
    text = (
        f"Up to step {run.step:,}: {run.step * run.recipe.training.global_batch_size:,} windows of "
        f"{run.recipe.data.sequence_length:,} tokens. Asked: by the weights of the recipe"
        + (f" and its {len(run.recipe.data.stages)} later stages" if run.recipe.data.stages else "")
        + ". An epoch is one pass over a source's windows."
    )
    repeated = [one.name for one in shares if one.epochs is not None and one.epochs > 4]
    if repeated:
        text += (
            f" Read more than four times, after which repeated text is known to teach little: {', '.join(repeated)}."
        )
    windows = [f"{one.name} has {one.windows_of_text}" for one in shares if one.windows_of_text is not None]
    if windows:
        text += f" What windows cost: {'; '.join(windows)}."
    if any(one.realised is None for one in shares):
        text += " Realised shares need the manifests of the prepared sources, which are not here."
    libraries = sorted({manifest.library for manifest in run.manifests.values() if manifest.library})
    return f"{text} The ids were made by {'; '.join(libraries)}." if libraries else text


def vocabulary(runs: Runs) -> Section | None:
    """Sizes, tokens a character before and after, the pieces used most."""
    parts: list[Part] = []
    for run in runs:
        if run.vocabulary is not None:
            if len(runs) > 1:
                parts.append(heading(run.name))
            parts += _extension(run.vocabulary)
        elif run.manifests:
            if len(runs) > 1:
                parts.append(heading(run.name))
            parts += _fertility(run)
    return section("Vocabulary", *parts) if parts else None


def _extension(found: Vocabulary) -> list[Part]:
    sizes = found["vocabulary_size"]
    changes, where = (found["held_out"], "held-out text") if found["held_out"] else (found["sample"], "the sample")
    columns: list[Column | str] = [
        "source",
        Column("tokens a character, before"),
        Column("after"),
        Column("tokens, to before"),
    ]
    rows: list[list[Part]] = [
        [name, f"{change['before']['tokens_per_character']:.3f}", f"{change['after']['tokens_per_character']:.3f}",
         f"{change['tokens_ratio']:.1%}"]
        for name, change in changes.items()
    ]  # fmt: skip
    text = f"From {sizes['before']:,} to {sizes['after']:,} pieces. Measured on {where}."
    ratio = found.get("mixture_tokens_ratio")
    if ratio is not None:
        text += f" The mixture takes {ratio:.1%} of the tokens that it took before."
    method = found.get("initialisation", {}).get("method")
    if method:
        text += f" New rows were initialised by {method}."
    parts: list[Part] = [paragraph(text), table(columns, rows)]
    dots = [
        Dot(moment, change[when]["tokens_per_character"], group=name)  # type: ignore[literal-required]
        for name, change in changes.items() for moment, when in (("before", "before"), ("after", "after"))
    ]  # fmt: skip
    axis = Axis("tokens a character", digits=".3f", low=0.0)
    parts.append(dot_chart("Tokens a character, by source (fewer: more text in a window)", dots, axis))
    pieces = found.get("most_used", [])[:MOST_PIECES]
    if pieces:
        listed = ", ".join(f"{piece['text']} {piece['uses']:,}" for piece in pieces)
        parts.append(paragraph(f"New pieces used most in the sample: {listed}.", "soft"))
    return parts


def _fertility(run: RunDirectory) -> list[Part]:
    """Without an extension: what the tokenizer spends on each source's text, which the manifests tell."""
    rows: list[list[Part]] = []
    size = next(iter(run.manifests.values())).vocabulary_size
    for name, manifest in run.manifests.items():
        counts = manifest.train if manifest.train.characters else manifest.held_out
        if counts.characters:
            tokens_a_character, bytes_a_token = counts.tokens / counts.characters, counts.bytes / max(counts.tokens, 1)
            rows.append([name, f"{tokens_a_character:.3f}", f"{bytes_a_token:.2f}", f"{counts.characters:,}"])
    columns: list[Column | str] = [
        "source",
        Column("tokens a character"),
        Column("bytes a token"),
        Column("characters"),
    ]
    markers = " and the markers of the chat template" if run.recipe.data.chat.add_template_tokens else ""
    text = f"The base's own pieces{markers}, {size:,} in all; control tokens around documents are counted."
    return [paragraph(text), table(columns, rows)]
