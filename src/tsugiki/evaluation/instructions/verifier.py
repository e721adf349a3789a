"""A verifier: a function from an answer and arguments to whether the answer follows an instruction; and its arguments.

The arguments are the function's keyword-only parameters, checked by their annotations when prompts are read, so that a
verifier is never called with others.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from tsugiki.shapes import dotted, explain

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Character = Annotated[str, Field(min_length=1, max_length=1)]


@dataclass(frozen=True)
class Verifier:
    """One kind of instruction."""

    id: str
    function: Callable[..., bool]
    arguments: type[BaseModel]

    def problem(self, arguments: Mapping[str, Any]) -> str | None:
        """What is wrong with arguments, in words; None where nothing is."""
        try:
            self.arguments.model_validate(arguments)
        except ValidationError as error:
            details = error.errors(include_url=False)[0]
            name = dotted(details["loc"])
            if details["type"] == "missing":
                return f"{self.id} needs {name}"
            if details["type"] == "extra_forbidden":
                return f"{self.id} takes no {name}: it takes {', '.join(self.arguments.model_fields) or 'nothing'}"
            return f"{self.id}: {name} {explain(details)}"
        ranged = {"at_least", "at_most"} & self.arguments.model_fields.keys()
        if ranged and all(arguments.get(name) is None for name in ranged):
            return f"{self.id} needs {' or '.join(sorted(ranged))}"
        return None

    def follows(self, answer: str, arguments: Mapping[str, Any]) -> bool:
        """Whether an answer follows the instruction. One that says nothing follows none."""
        return bool(answer.strip()) and self.function(answer, **arguments)


def verifier_of(name: str, function: Callable[..., bool]) -> Verifier:
    """The verifier that a function is, under a name."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {
        parameter.name: (hints[parameter.name], ... if parameter.default is parameter.empty else parameter.default)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return Verifier(name, function, create_model(name, __config__=ConfigDict(strict=True, extra="forbid"), **fields))
