"""Task files that lm-eval reads, one folder a profile, and what they call.

`swallow/` measures as published tables were made, `default/` properly. A file names functions of `prompts`, `items`,
`sampler` and `scoring`; nothing here is imported before lm-eval reads a file.
"""

from pathlib import Path

NAMES = (
    "jcommonsenseqa", "jemhopqa", "niilc", "jsquad", "xlsum_ja", "mgsm_ja", "wmt20_en_ja", "wmt20_ja_en",
    "openbookqa", "triviaqa", "hellaswag", "squad2", "xwinograd_en", "gsm8k",
)  # fmt: skip
"""The fourteen sets in the order of tables: eight Japanese, six English."""

PROFILES = {"swallow": "swallow", "default": "tsugiki"}
"""Profile (its folder) → prefix of its task names."""

FOLDER = Path(__file__).parent
"""For lm-eval's `TaskManager(include_path=…)` and `--include_path`."""
