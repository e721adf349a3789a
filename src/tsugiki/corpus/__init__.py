"""Documents in, token windows out: reading, tokenising, storing and mixing corpora (no torch in here)."""
