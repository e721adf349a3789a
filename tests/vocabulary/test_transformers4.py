"""A folder loads in transformers 4 as it does in 5, and one that 5 saved anew does not."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from extended_tokenizers import (
    ENGLISH,
    TEXTS,
    byte_level_base,
    extend_byte_level,
    extend_sentencepiece,
    sentencepiece_base,
)

from tsugiki.corpus.adversarial import STRINGS
from tsugiki.corpus.tokenizer_engines import open_engine

VERSION = "4.57.6"
MODEL_TYPES = [None, "mistral", "mixtral", "llama"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of an environment with transformers 4, made for the test."""
    folder = tmp_path_factory.mktemp("transformers4") / "venv"
    venv.create(folder, with_pip=True)
    interpreter = folder / "bin" / "python"
    packages = [f"transformers=={VERSION}", "tokenizers", "sentencepiece"]
    command = [interpreter, "-m", "pip", "install", "--quiet", "--no-input", *packages]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if installed.returncode:
        reason = (installed.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"transformers {VERSION} cannot be installed here: {reason}")
    return interpreter


@pytest.fixture
def ask(python, tmp_path):
    """`ask(folder, texts)`: the finished process, and what transformers 4 made of the texts."""
    script = Path(__file__).parent.parent / "support" / "transformers4_ids.py"

    def run(folder: Path, texts: list[str]) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
        given, output = tmp_path / "texts.json", tmp_path / "output.json"
        given.write_text(json.dumps(texts), encoding="utf-8")
        output.unlink(missing_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        command = [python, script, folder, given, output]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
        return ended, json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}

    return run


def texts_without(control: list[str]) -> list[str]:
    """Adversarial strings and ordinary lines that spell no control token."""
    lines = [line for text in (*TEXTS, *ENGLISH) for line in (text, *text.split("\n"))]
    spaces = [f"{' ' * count}a{' ' * count}川" for count in range(1, 41)]
    texts = [*STRINGS.values(), *lines, *spaces]
    return [text for text in texts if text and not any(token in text for token in control)]


def make(kind: str, root: Path) -> Path:
    if kind == "sentencepiece":
        return extend_sentencepiece(sentencepiece_base(root / "base"), root / "extended")
    return extend_byte_level(byte_level_base(root / "base"), root / "extended")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
@pytest.mark.parametrize("kind", ["sentencepiece", "byte-level"])
def test_transformers_4_gives_the_ids_of_the_files(ask, tmp_path, kind, model_type):
    folder = make(kind, tmp_path)
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}), encoding="utf-8")
    control = ["<s>", "</s>", "<unk>"] if kind == "sentencepiece" else ["<|begin|>", "<|end|>"]
    texts = texts_without(control)
    assert len(texts) > 90
    ended, found = ask(folder, texts)
    assert found, ended.stderr[-2000:]
    assert (found["version"], found["class"]) == (VERSION, "PreTrainedTokenizerFast")
    truth = open_engine(folder / ("tokenizer.model" if kind == "sentencepiece" else "tokenizer.json"))
    expected = [truth.encode(text).tolist() for text in texts]
    assert found["length"] == truth.vocabulary_size
    assert found["plain"] == expected
    bos = truth.token_id(control[0] if kind == "sentencepiece" else "<|begin|>")
    assert found["ids"] == [[bos, *ids] for ids in expected]
    changed = [text for text, came in zip(texts, found["decoded"], strict=True) if text != came]
    assert all("▁" in text for text in changed if kind == "sentencepiece")
    assert changed == [] or kind == "sentencepiece"


def test_transformers_4_does_not_load_what_5_saved_anew(ask, tmp_path):
    """The reason for the proof's message; the day that 4 loads it, the message can go."""
    code = "import sys; from transformers import AutoTokenizer as A; A.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])"
    folder = make("sentencepiece", tmp_path)
    subprocess.run([sys.executable, "-c", code, folder, tmp_path / "saved"], check=True, timeout=300)
    ended, found = ask(tmp_path / "saved", TEXTS)
    assert ended.returncode != 0
    assert found == {}
    assert "TokenizersBackend" in ended.stderr
