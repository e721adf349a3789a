"""What of a conversation is trained: exactly what the model has to emit when it is used.

For the assistant's turn i the prompt P_i is the rendering of the messages before it with the generation prompt, as a
server renders it; the target is the rendering with that message, less P_i, cut behind the end token. What the server
supplies is context, what the model emits is trained. Three things can go wrong, and each is looked at:

- The turn's rendering does not begin with P_i: such a conversation is refused.
- P_j does not begin with P_i and its target, since the template writes an earlier turn anew when a later one is asked
  (Qwen3 drops reasoning, Mistral moves the system prompt): what model i was given is not in P_j. `rewritten_history`
  decides: a sample of its own for each such turn, the last one alone, or no such conversation.
- The ids of P_i are not the beginning of the ids of the whole, since a token would reach over the point (GPT-2's rule
  for white space, `[/INST]` before `[`). The model will be given the ids of P_i, so a token boundary is forced there
  and counted. In the prompt of a later turn nothing forces it: where the ids of P_j do not begin with those so far,
  history is rewritten too, in tokens.

So the ids before each trained turn are always those of its prompt encoded alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from tsugiki.chat.appearance import require_answer, require_messages
from tsugiki.chat.control_strings import Rendering
from tsugiki.chat.conversations import Conversation, Message, Role
from tsugiki.chat.counts import Counts
from tsugiki.chat.form import ChatForm
from tsugiki.chat.given import Given
from tsugiki.chat.splitting import exchanges
from tsugiki.chat.templates import ChatTemplate
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.errors import DataError, ModelError
from tsugiki.printable import one_line

LossOn = Literal["assistant", "completion", "last", "all"] | tuple[Role, ...]


@dataclass(frozen=True)
class MaskSettings:
    """What is trained, and what is done with conversations that cannot be one sample."""

    loss_on: LossOn = "assistant"
    """Every turn of the assistant, those of the completion (the last turn where a format has none), the last one,
    every token, or the turns of the roles that are listed. A message's own weight goes before it."""
    rewritten_history: Literal["each", "last", "refuse"] = "each"
    max_tokens: int | None = None
    """The longest sample. A longer conversation is divided before a user's turn, the system prompt repeated."""
    append_eos: bool = False
    """Where the template writes no token for the end of a turn, put the tokenizer's EOS there."""
    given: Given = field(default_factory=Given)
    """What the template is given beside conversations that bring nothing themselves."""


@dataclass(frozen=True)
class Sample:
    """One sequence for training."""

    ids: NDArray[np.int32]
    """[tokens], BOS included where the template writes one."""
    weights: NDArray[np.float32]
    """[tokens]: what each token counts in the loss *as a target*. The first is 0: nothing predicts it."""
    messages: tuple[Message, ...] = ()
    """What it was rendered from."""

    @property
    def digest(self) -> str:
        """Of ids and weights, for finding the same sample again."""
        return xxhash.xxh3_128_hexdigest(self.ids.tobytes() + b"\0" + self.weights.tobytes())


@dataclass(frozen=True)
class Encoded:
    """What became of one conversation. No sample is left of one whose exchanges were all too long."""

    samples: tuple[Sample, ...]
    counts: Counts
    longest: int = 0
    """Tokens of its longest sample before it was divided."""


@dataclass
class _Growing:
    """A sample while turns are added to it."""

    rendering: Rendering
    ids: list[int]
    weights: list[float]
    turns: int = 0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class _Turn:
    """One trained turn: where its target begins, in tokens, and the whole up to its end."""

    rendering: Rendering
    prompt: Rendering
    prompt_ids: list[int]
    ids: list[int]
    forced: bool
    weight: float
    messages: tuple[Message, ...]
    """With it as the last."""


class ConversationEncoder:
    """Turns conversations into samples, for one tokenizer and template."""

    def __init__(self, tokenizer: ChatTokenizer, template: ChatTemplate, settings: MaskSettings | None = None):
        """Raises ModelError where the template has no end token, or writes BOS twice."""
        self.settings = settings or MaskSettings()
        self.form = ChatForm(tokenizer, template, self.settings.given, append_eos=self.settings.append_eos)
        self.tokenizer, self.renderer, self.end = tokenizer, self.form.renderer, self.form.end
        probe = self.renderer.prompt_ids([Message("user", "a")])
        if len(probe) > 1 and probe[0] == probe[1] == tokenizer.bos_id:
            raise ModelError(f"{tokenizer.where}: the chat template ({template.name}) writes BOS twice")

    def encode(self, conversation: Conversation) -> Encoded:
        """The samples of a conversation.

        Raises DataError, in one line, where the template refuses it, leaves out a message's text, or renders a turn
        that does not begin with its prompt.
        """
        conversation = replace(conversation, messages=self._weighted(conversation))
        whole = self._whole(conversation)
        if not whole.samples or self._fits(whole):
            return whole
        return replace(self._divided(conversation), longest=whole.longest)

    def _weighted(self, conversation: Conversation) -> tuple[Message, ...]:
        """The messages with a weight each: their own, or what `loss_on` gives their place."""
        messages, loss_on = conversation.messages, self.settings.loss_on
        last = max((n for n, message in enumerate(messages) if message.role == "assistant"), default=-1)
        first = last if conversation.completion_start is None else conversation.completion_start
        trained = {
            "assistant": lambda n: True,
            "all": lambda n: True,
            "completion": lambda n: n >= first,
            "last": lambda n: n == last,
        }
        weights: list[float | None] = []
        for number, message in enumerate(messages):
            if isinstance(loss_on, tuple):
                chosen = message.role in loss_on
            else:
                chosen = message.role == "assistant" and trained[loss_on](number)
            if message.weight is None and loss_on == "all" and message.role != "assistant":
                weights.append(None)  # what stands between answers counts whole
            else:
                weights.append(float(chosen) if message.weight is None else message.weight)
        if not any(weights):
            raise DataError("no turn of the conversation is trained: the weight of each is 0")
        return tuple(replace(message, weight=weight) for message, weight in zip(messages, weights, strict=True))

    def _whole(self, conversation: Conversation) -> Encoded:
        """The samples of a conversation that is not divided."""
        grown: list[_Growing] = []
        forced = rewritten = 0
        everything = self.settings.loss_on == "all"
        context = 1.0 if everything else 0.0
        for turn in self._turns(conversation):
            now = grown[-1] if grown else None
            if now is None or not self._goes_on(now, turn):
                if now is not None and self.settings.rewritten_history == "refuse":
                    raise DataError(_rewritten(now.rendering, turn.prompt))
                if now is not None and everything and any(one.weight not in (None, 1) for one in turn.messages[:-1]):
                    raise DataError(
                        "the chat template writes earlier turns anew, where loss_on: all trains all of them: a "
                        "message's own weight cannot be kept"
                    )
                rewritten += now is not None
                now = _Growing(turn.prompt, turn.prompt_ids, [])
                grown.append(now)
            forced += turn.forced
            now.weights += [context] * (len(turn.prompt_ids) - len(now.weights))
            now.weights += [turn.weight] * (len(turn.ids) - len(turn.prompt_ids))
            now.rendering, now.ids, now.messages = turn.rendering, turn.ids, turn.messages
            now.turns += 1
        every = sum(one.turns for one in grown)
        if everything or self.settings.rewritten_history == "last":
            grown = grown[-1:]  # it has the whole conversation
        samples = tuple(self._sample(one) for one in grown)
        turns = sum(one.turns for one in grown)
        counts = Counts(
            conversations=1,
            samples=len(samples),
            turns=turns,
            tokens=sum(len(sample.ids) for sample in samples),
            trained_tokens=sum(int(np.count_nonzero(sample.weights)) for sample in samples),
            tokens_unrepeated=len(samples[-1].ids) if samples else 0,
            rewritten_turns=rewritten,
            turns_left_out=every - turns,
            forced_boundaries=forced,
            control_strings=sum(a < b for a, b in grown[-1].rendering.plain) if grown else 0,
        )
        return Encoded(samples, counts, max((len(sample.ids) for sample in samples), default=0))

    def _sample(self, grown: _Growing) -> Sample:
        weights = np.array(grown.weights, np.float32)
        weights[0] = 0
        ids = np.array(grown.ids, np.int32)
        if len(ids) > 1 and ids[0] == ids[1] == self.tokenizer.bos_id:
            raise DataError("the conversation begins with BOS twice")
        return Sample(ids, weights, grown.messages)

    @staticmethod
    def _goes_on(now: _Growing, turn: _Turn) -> bool:
        """Whether the prompt of a turn is what stands in a sample, and more."""
        return turn.prompt.begins_with(now.rendering) and turn.prompt_ids[: len(now.ids)] == now.ids

    def _turns(self, conversation: Conversation) -> Iterator[_Turn]:
        """The trained turns in order; where every token is trained, those with a weight of 0 too."""
        messages = conversation.messages
        for number, message in enumerate(messages):
            answers = message.role == "assistant"
            if not message.weight and (message.weight is None or self.settings.loss_on != "all"):
                continue
            prompt = self._render(conversation, number, prompt=answers)
            require_messages(messages[:number], conversation.tools or self.renderer.given.tools, prompt)
            rendering = self._ended(conversation, number, prompt)
            prompt_ids = self.tokenizer.encode(prompt)
            ids = self.tokenizer.encode(rendering)
            forced = ids[: len(prompt_ids)] != prompt_ids
            if forced:
                ids = prompt_ids + self.tokenizer.encode_after(rendering, len(prompt.text))
            yield _Turn(rendering, prompt, prompt_ids, ids, forced, message.weight or 0.0, messages[: number + 1])

    def target(self, conversation: Conversation, number: int) -> tuple[str, int, int]:
        """The whole rendering with the assistant's message `number`, and where its target begins and ends in it."""
        prompt = self._render(conversation, number, prompt=True)
        whole = self._render(conversation, number + 1, prompt=False)
        ended = self._ended(conversation, number, prompt)
        text = whole.text if len(whole.text) > len(ended.text) else ended.text
        return text, len(prompt.text), len(ended.text)

    def _render(self, conversation: Conversation, count: int, *, prompt: bool) -> Rendering:
        """The first `count` messages."""
        return self.renderer.render(
            conversation.messages[:count],
            generation_prompt=prompt,
            tools=conversation.tools,
            template_kwargs=conversation.template_kwargs,
        )

    def _ended(self, conversation: Conversation, number: int, prompt: Rendering) -> Rendering:
        """The rendering with message `number`, cut behind its end token."""
        message = conversation.messages[number]
        rendering = self._render(conversation, number + 1, prompt=False)
        if not rendering.begins_with(prompt):
            raise DataError(
                f"message {number + 1} cannot be trained: the rendering with it does not begin with the prompt that a "
                f"server gives for it. {_parting(prompt.text, rendering.text)}"
            )
        start = require_answer(message, number, rendering, len(prompt.text))
        span = rendering.find([self.end.piece], start)
        if span is not None and self.end.written != "by nobody":
            return rendering.upto(span[1])
        if message.role != "assistant":
            return rendering  # a template may end other turns in no token, or in one of their own
        if self.end.written == "by nobody":
            return rendering.with_text(self.end.piece)
        if self.end.written == "by the turn":
            # A turn that calls tools may end in another token: <|eom_id|> in Llama 3.1, <|call|> in gpt-oss.
            others = rendering.find_all(self.tokenizer.specials, start) if message.tool_calls else []
            if others:
                return rendering.upto(others[-1][1])
            raise DataError(
                f"message {number + 1} cannot be trained: the chat template writes no {self.end.piece} behind it: "
                f"{one_line(rendering.text[len(prompt.text) :], 200)}"
            )
        return rendering.with_text(self._next_marker(conversation, number, rendering))

    def _next_marker(self, conversation: Conversation, number: int, rendering: Rendering) -> str:
        """The marker of the turn that follows (an answer of a tool has one of its own), or that of a user's turn."""
        if number + 1 < len(conversation.messages):
            followed = self._render(conversation, number + 2, prompt=False)
            span = followed.find(self.tokenizer.specials, len(rendering.text))
            if followed.begins_with(rendering) and span is not None:
                return followed.text[len(rendering.text) : span[1]]
        return self.end.piece

    def _fits(self, encoded: Encoded) -> bool:
        limit = self.settings.max_tokens
        return limit is None or all(len(sample.ids) <= limit for sample in encoded.samples)

    def _divided(self, conversation: Conversation) -> Encoded:
        """As many exchanges at a time as fit, each part with the system prompt; one that is too long alone is left
        out."""
        system, parts = exchanges(conversation.messages)
        samples: list[Sample] = []
        counts = Counts()
        start = 0

        def part(count: int) -> Encoded | None:
            """The next `count` exchanges; None where nothing of them is trained."""
            messages = (*system, *(message for one in parts[start : start + count] for message in one))
            if not any(message.weight for message in messages):
                return None
            return self._whole(replace(conversation, messages=messages))

        def fits(count: int) -> bool:
            tried = part(count)
            return tried is None or self._fits(tried)

        while start < len(parts):
            count, beyond = 1, len(parts) - start + 1  # `count` fits or is 1, `beyond` does not
            while beyond - count > 1:
                middle = (count + beyond) // 2
                count, beyond = (middle, beyond) if fits(middle) else (count, middle)
            encoded = part(count)
            if encoded is not None and self._fits(encoded):
                samples += encoded.samples
                counts += encoded.counts
            elif encoded is not None:
                counts += Counts(exchanges_dropped=1)
            start += count
        counts = replace(
            counts,
            conversations=1,
            conversations_divided=int(len(samples) > 0),
            conversations_dropped=int(not samples),
            samples=len(samples),
        )
        return Encoded(tuple(samples), counts)


def _rewritten(before: Rendering, now: Rendering) -> str:
    return (
        "the chat template writes earlier turns anew when a later one is asked, so that they cannot share a sample "
        f"(rewritten_history: refuse). {_parting(before.text, now.text)}"
    )


def _parting(first: str, second: str) -> str:
    """Where two texts part, quoted."""
    place = next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
    start = max(place - 30, 0)
    return f"They part at {_quote(first[start : place + 30])} and {_quote(second[start : place + 30])}"


def _quote(text: str) -> str:
    return one_line(json.dumps(text, ensure_ascii=False), 90)
