"""One conversation of the sample, in the form in which it is asked, trained on and judged."""

from dataclasses import dataclass

Argument = tuple[str | int, ...]
"""What an exercise is about, in a canonical form: its family, then numbers or words."""


@dataclass(frozen=True)
class Example:
    """A conversation that ends with the assistant's answer."""

    language: str
    """`en` or `ja`: that of all its messages, but for the few that translate"""
    kind: str
    messages: tuple[tuple[str, str], ...]
    """(role, content): at most one system message, which comes first, then user and assistant by turns"""
    arguments: tuple[Argument, ...] = ()
    """Of a generated example, one an exercise; a written one has none."""

    def record(self) -> dict[str, list[dict[str, str]]]:
        """The conversation in OpenAI's `messages` form."""
        return {"messages": [{"role": role, "content": content} for role, content in self.messages]}

    def prompt(self) -> list[dict[str, str]]:
        """All messages but the last: what the model is asked."""
        return self.record()["messages"][:-1]

    def answer(self) -> str:
        """The assistant's last message."""
        return self.messages[-1][1]
