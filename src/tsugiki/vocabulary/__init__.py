"""Graft a vocabulary: learn pieces for new scripts, merge them into the base's tokenizer, give them rows, prove it."""
