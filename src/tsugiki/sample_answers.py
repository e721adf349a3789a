"""How the base and the final model answer the same held-out conversations: `answers` in `<run_dir>/samples.json`.

A model is asked what comes before the first answer that training has masks for, with the ids that stand there in the
store; the base, whose tokenizer may be another, with those that the same template gives it. Answers are the likeliest
tokens up to an end token, so that asking again gives the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tsugiki.chat.conversations import Conversation, Message
from tsugiki.chat.masks import ConversationEncoder, Sample
from tsugiki.corpus.chat_source import conversation_encoder
from tsugiki.corpus.conversation_excerpt import read_again
from tsugiki.corpus.conversation_store import ConversationStore
from tsugiki.corpus.prepared import PreparedSource
from tsugiki.recipe import Recipe
from tsugiki.recipe_inputs import load_base_tokenizer
from tsugiki.vocabulary.template_tokens import markers_to_add

BUDGET = 200
"""Tokens that an answer may have."""
MOST_CHARACTERS, MOST_MESSAGES = 1500, 6
"""Of a message and of a reference that are shown, and the last messages before the answer."""


@dataclass(frozen=True)
class Question:
    """The beginning of a held-out conversation, up to the first answer that is trained."""

    source: str
    language: str | None
    conversation: Conversation
    """Its messages are those before the answer."""
    ids: list[int]
    """As training has them."""
    reference: str
    """What training would teach the model to say, up to the end token."""

    def as_json(self) -> dict[str, Any]:
        messages = self.conversation.messages
        return {
            "source": self.source, "language": self.language, "earlier": max(len(messages) - MOST_MESSAGES, 0),
            "messages": [{"role": one.role, "content": _shown(_said(one))} for one in messages[-MOST_MESSAGES:]],
            "reference": _shown(self.reference),
        }  # fmt: skip


def find_questions(
    recipe: Recipe, folder: Path, sources: Mapping[str, PreparedSource], conversations: int
) -> list[Question]:
    """Of the first `conversations` held-out samples of each of `sources` that holds conversations (their order is that
    of a hash); `folder`: of the tokenizer that they were prepared with. What its file does not hold any more as it was,
    or trains no answer, is left out."""
    found = []
    for name, source in sources.items():
        if not isinstance(source.held_out, ConversationStore):
            continue
        encoder = conversation_encoder(recipe, name, folder)
        indices = range(min(conversations, source.held_out.document_count))
        files = [str(entry["path"]) for entry in source.manifest.files]
        for again in read_again(encoder, recipe.data.sources[name], source.held_out, files, indices):
            question = _question(encoder, source, *again) if again is not None else None
            if question is not None:
                found.append(question)
    return found


def _question(
    encoder: ConversationEncoder, source: PreparedSource, conversation: Conversation, sample: Sample
) -> Question | None:
    for number, message in enumerate(sample.messages):
        if message.role != "assistant" or not message.weight:
            continue
        before = replace(conversation, messages=sample.messages[:number])
        ids = _prompt(encoder, before)
        if sample.ids[: len(ids)].tolist() == ids and sample.weights[len(ids)] > 0:
            text, start, end = encoder.target(replace(conversation, messages=sample.messages), number)
            reference = text[start:end].removesuffix(encoder.end.piece).strip()
            return Question(source.name, source.language, before, ids, reference)
    return None


def answers(
    recipe: Recipe, commits: Mapping[str, str | None], base: Path | None, final: Path, questions: Sequence[Question]
) -> list[dict[str, Any]]:
    """Each question with what the models in `base` (None: there is none) and `final` answer, and whether they ended
    their answers themselves. The base's is None where it has no tokens for what the template writes."""
    tokenizer = load_base_tokenizer(recipe, commits)
    name = questions[0].source  # template and end token are those of all
    before: Sequence[dict[str, Any] | None] = [None] * len(questions)
    if base is not None and not markers_to_add(recipe, tokenizer):
        encoder = conversation_encoder(recipe, name, tokenizer.folder)
        before = _answered(base, encoder, [_prompt(encoder, one.conversation) for one in questions])
    after = _answered(final, conversation_encoder(recipe, name, final), [one.ids for one in questions])
    return [
        {**question.as_json(), "before": first, "after": last}
        for question, first, last in zip(questions, before, after, strict=True)
    ]


def _prompt(encoder: ConversationEncoder, before: Conversation) -> list[int]:
    return encoder.renderer.prompt_ids(before.messages, before.tools, before.template_kwargs)


def _answered(folder: Path, encoder: ConversationEncoder, prompts: Sequence[list[int]]) -> list[dict[str, Any]]:
    """What a model says behind each of `prompts`."""
    from tsugiki.model.answers import likeliest_answers

    return [
        {"text": one.text.rstrip("\ufffd").strip(), "stopped": one.ended}  # a last character may have been cut
        for one in likeliest_answers(folder, encoder.form, prompts, BUDGET)
    ]


def _said(message: Message) -> str:
    """A message's text, with the calls of tools that it makes."""
    calls = [json.dumps(call.get("function", call), ensure_ascii=False) for call in message.tool_calls]
    return "\n".join(part for part in (message.content, *calls) if part)


def _shown(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"
