"""Which documents of a source are worth training on: rules over one document, duplicates over all, evaluation text."""
