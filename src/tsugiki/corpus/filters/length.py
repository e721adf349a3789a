"""The filter `length`: documents that are too short or too long, in characters or in bytes of UTF-8."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Length:
    """Least and most of a document; None: no limit."""

    min_characters: int | None = None
    max_characters: int | None = None
    min_bytes: int | None = None
    max_bytes: int | None = None

    def failed(self, characters: int, size: int) -> str | None:
        """The rule that a document of so many characters and bytes breaks, if any."""
        if self.min_characters is not None and characters < self.min_characters:
            return "min_characters"
        if self.max_characters is not None and characters > self.max_characters:
            return "max_characters"
        if self.min_bytes is not None and size < self.min_bytes:
            return "min_bytes"
        if self.max_bytes is not None and size > self.max_bytes:
            return "max_bytes"
        return None
