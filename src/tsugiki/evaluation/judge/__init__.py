"""Answers of two models compared by a third, which the user runs behind an OpenAI-compatible address."""
