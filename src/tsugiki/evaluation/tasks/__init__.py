"""Task files that lm-eval reads, one folder a profile, and what they call.

`swallow/` measures as published tables were made, `default/` properly. A file names functions of `prompts`, `items`,
`sampler` and `scoring`; nothing here is imported before lm-eval reads a file.
"""

from tsugiki.recipe_evaluation import TASK_FILES

FOLDER = TASK_FILES
"""For lm-eval's `TaskManager(include_path=…)` and `--include_path`."""
