"""The suites' prompts through a model's chat template, as lm-eval's `--apply_chat_template` writes them.

lm-eval makes messages of a task (its description is the system turn, each solved example a question and its answer,
unless all stand in one question), has them rendered, and hands on text. Text alone does not say which `<|im_end|>` the
template wrote and which stood in an item, so the renderings that hold such are remembered by their text.

Two things differ from lm-eval's own backend. A template that has no system turn gets the description before the first
question, where lm-eval would leave it out. And a continuation is encoded behind the rendering as it is: lm-eval takes
white space from a prompt's end and scores it with the continuation, as it does without a template.
"""

from collections.abc import Mapping, Sequence

from tsugiki.chat.control_strings import Rendering
from tsugiki.chat.conversations import Message
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError
from tsugiki.evaluation.conversations import Chat
from tsugiki.evaluation.encoding import Encoded, Encoder

SYSTEM, QUESTION = "probed instruction", "probed question"


class Templated:
    """Renders the messages of tasks for one model."""

    def __init__(self, chat: Chat):
        self.chat = chat
        self._divided: dict[str, Rendering] = {}
        self.system_turn = self._takes_system()
        """Whether the template shows a system turn."""

    def _takes_system(self) -> bool:
        try:
            shown = self.chat.renderer.render(
                [Message("system", SYSTEM), Message("user", QUESTION)], generation_prompt=True
            )
        except DataError:
            return False
        return SYSTEM in shown.text

    def render(self, history: Sequence[Mapping[str, str]], *, answered: bool) -> str:
        """The text of a conversation with the prompt for an answer behind it; where it is `answered`, up to the end of
        its last message, which is the beginning of the answer. Raises DataError where the template refuses it."""
        turns = [(turn["role"], turn["content"]) for turn in history]
        if turns[0][0] == "system" and not self.system_turn and len(turns) > 1:
            turns = [(turns[1][0], turns[0][1] + turns[1][1]), *turns[2:]]
        messages = [Message(role, content) for role, content in turns]  # type: ignore[arg-type]
        found = self.chat.renderer.render(messages, generation_prompt=not answered)
        if answered:
            last = messages[-1].content
            place = found.text.rfind(last.strip())  # a template may trim it
            begun = last.lstrip() if found.text.startswith(last.lstrip(), place) else last.strip()
            found = found.upto(place + len(begun))
        if found.plain:
            self._divided[found.text] = found
        return found.text

    def ids(self, text: str) -> list[int]:
        """The ids of what `render` gave."""
        return self.chat.tokenizer.encode(self._divided.get(text, Rendering(text)))


class TemplatedEncoder(Encoder):
    """Encodes what `Templated` rendered. BOS stands where the template writes it."""

    def __init__(self, tokenizer: TextTokenizer, templated: Templated, *, max_length: int):
        super().__init__(tokenizer, add_bos=False, max_length=max_length)
        self._templated = templated
        probe = templated.ids(templated.render([{"role": "user", "content": "a"}], answered=False))
        bos = templated.chat.tokenizer.bos_id
        self.before = probe[:1] if probe[:1] == [bos] else []
        self.frame = len(probe)

    def prompts(self, texts: Sequence[str], *, room: int) -> list[Encoded]:
        """See `Encoder`."""
        return [self._fit(self._ids(text), [], room) for text in texts]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """See `Encoder`; the continuation begins a token of its own."""
        return [self._fit(self._ids(context), self._alone(text), 0) for context, text in pairs]

    def _ids(self, text: str) -> list[int]:
        return self._templated.ids(text) if text else self._start([])  # lm-eval's own, for mutual information
