"""The long strings among those that tokenizers stumble over take most of the time that a tokenizer's proof takes."""

from tsugiki.corpus.adversarial import LONG, STRINGS

SHORTER = {name: text[:2_000] for name, text in STRINGS.items() if len(text) > LONG // 2}
"""To put in their places where their length is not what is tested."""
