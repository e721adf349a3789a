"""Ids as another version of transformers gives them; runs in an environment of its own, without this project.

Usage: transformers4_ids.py FOLDER TEXTS OUTPUT. TEXTS is a JSON list; OUTPUT gets the version, the class that was
loaded, its length, and ids with and without what the template adds.
"""

import json
import sys
from pathlib import Path

import transformers
from transformers import AutoTokenizer

folder, texts, output = map(Path, sys.argv[1:])
tokenizer = AutoTokenizer.from_pretrained(folder)
given = json.loads(texts.read_text(encoding="utf-8"))
found = {
    "version": transformers.__version__,
    "class": type(tokenizer).__name__,
    "length": len(tokenizer),
    "ids": tokenizer(given)["input_ids"],
    "plain": tokenizer(given, add_special_tokens=False)["input_ids"],
    "decoded": [tokenizer.decode(ids, skip_special_tokens=True) for ids in tokenizer(given)["input_ids"]],
}
output.write_text(json.dumps(found), encoding="utf-8")
