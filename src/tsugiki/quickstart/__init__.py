"""The built-in run on the built-in text."""
