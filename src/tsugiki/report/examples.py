"""What the base and the final model say: beginnings that both go on with, and held-out conversations that both answer.
A section of the page, and of the card."""

from collections.abc import Iterator, Sequence

from tsugiki.pages.document import Section, section
from tsugiki.pages.markup import Markup, Part, element
from tsugiki.printable import escape_markdown, one_line
from tsugiki.report.parts import Runs, heading, paragraph
from tsugiki.report.run_directory import Answer, Answered, Sample

IN_CARD = 400
"""Characters of each text that a card shows."""


def samples(runs: Runs) -> Section | None:
    """How base and final model go on with the same beginnings, and answer the same questions."""
    parts: list[Part] = []
    for run in runs:
        found = run.samples
        answered = found.get("answers", []) if found is not None else []
        if found is None or not (found["samples"] or answered):
            continue
        if len(runs) > 1:
            parts.append(heading(run.name))
        parts += _by_source(found["samples"], [_sample(one) for one in found["samples"]])
        if found["samples"]:
            settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in found["settings"].items())
            said = f"Beginnings of held-out documents, and how the base and the final model go on: {settings}."
            parts.append(paragraph(said, "note"))
        parts += _by_source(answered, [_answered(one) for one in answered])
        if answered:
            parts.append(paragraph(_how(found.get("most_tokens"), answered), "note"))
    return section("Texts before and after", *parts) if parts else None


def _by_source(said: Sequence[Sample | Answered], shown: Sequence[Markup]) -> Iterator[Part]:
    """With the name of each source before what is of it."""
    source = None
    for one, part in zip(said, shown, strict=True):
        if one["source"] != source:
            source = one["source"]
            yield heading(source)
        yield part


def _sample(sample: Sample) -> Markup:
    """A beginning, and below it its two continuations side by side."""
    language = sample["language"] or None
    continued = []
    for title, text in (("before", sample["before"]), ("after", sample["after"])):
        if text is not None:
            continued.append(_titled(title, text.lstrip(" "), language))
    prompt = element("p", sample["prompt"], " …", class_="prompt", lang=language)
    return element("div", prompt, element("div", *continued, class_="pair"), class_="example")


def _answered(one: Answered) -> Markup:
    """A conversation, below it the two answers side by side, and what it says itself."""
    language = one["language"] or None
    parts: list[Part] = []
    if one["earlier"]:
        parts.append(paragraph(f"{one['earlier']:,} earlier messages", "note"))
    for message in one["messages"]:
        parts.append(paragraph(message["role"], "note"))
        parts.append(element("p", message["content"], class_="turn", lang=language))
    said = [
        _titled(_ended(title, answer), answer["text"], language)
        for title, answer in (("before", one["before"]), ("after", one["after"]))
        if answer is not None
    ]
    parts += [element("div", *said, class_="pair"), _titled("reference answer", one["reference"], language)]
    return element("div", *parts, class_="example")


def _titled(title: str, text: str, language: str | None) -> Markup:
    return element("div", paragraph(title, "note"), element("blockquote", text, class_="sample", lang=language))


def _ended(title: str, answer: Answer) -> str:
    return title if answer["stopped"] else f"{title} (did not end)"


def _how(most_tokens: int | None, answered: Sequence[Answered]) -> str:
    text = (
        "Beginnings of held-out conversations, and the likeliest answer of the base and of the final model"
        + (f", of {most_tokens:,} tokens at most" if most_tokens is not None else "")
        + "."
    )
    if any(one["before"] is None for one in answered):
        text += (
            " Where the base could not be asked (it has random weights, or no tokens for the chat template's marks) "
        )
        text += "its answer is left out."
    return text


def answers_in_markdown(answered: Sequence[Answered]) -> Iterator[str]:
    """The first conversation of each source, as paragraphs."""
    first = {one["source"]: one for one in reversed(answered)}
    for source, one in reversed(first.items()):
        yield f"### {_line(source)}"
        yield from (_said(message["role"], message["content"]) for message in one["messages"])
        for title, answer in (("base", one["before"]), ("this model", one["after"])):
            if answer is not None:
                yield _said(_ended(title, answer), answer["text"])
        yield _said("reference answer", one["reference"])


def _said(who: str, text: str) -> str:
    return f"**{_line(who)}:** {_line(text)}"


def _line(text: str) -> str:
    return escape_markdown(one_line(text, IN_CARD))
