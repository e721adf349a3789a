"""Any Hugging Face causal language model: loaded, sharded, called in one place, measured, exported."""
