"""What `tsugiki plan` says: counts of what is prepared, near them for what is not, and what machine and time it takes."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tsugiki.amounts import quantity
from tsugiki.cli import app
from tsugiki.corpus.prepare import prepare
from tsugiki.errors import DataError
from tsugiki.plan import READ_BYTES, Terms, expected_tokens, plan_lines
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_inputs import load_base_tokenizer

SENTENCE = "The river remembers the valley, and the valley remembers the river. "


@pytest.fixture
def recipe(tmp_path, tiny_model_folder, tiny_tokenizer_folder):
    """`recipe(**changes)`: two sources of text, Japanese and English; keys by dotted name."""
    (tmp_path / "en.jsonl").write_text(
        "".join(json.dumps({"text": f"{number} {SENTENCE * 12}"}) + "\n" for number in range(300)), encoding="utf-8"
    )
    (tmp_path / "ja.jsonl").write_text(
        "".join(
            json.dumps({"text": f"{number}、{'川は谷を覚えている。' * 30}"}, ensure_ascii=False) + "\n"
            for number in range(200)
        ),
        encoding="utf-8",
    )

    def make(**changes: Any) -> Recipe:
        value = {
            "run_dir": str(tmp_path / "run"),
            "model": {"name_or_path": str(tiny_model_folder("mistral")), "tokenizer": str(tiny_tokenizer_folder)},
            "data": {
                "sequence_length": 32, "workers": 1, "held_out": 0,
                "sources": {
                    "ja": {"path": str(tmp_path / "ja.jsonl"), "weight": 3, "language": "ja"},
                    "en": {"path": str(tmp_path / "en.jsonl"), "weight": 1, "language": "en"},
                },
            },
            "training": {
                "max_steps": 100, "global_batch_size": 4, "micro_batch_size": 2, "learning_rate": 1e-3,
                "save_steps": 25, "save_total_limit": 2,
            },
        }  # fmt: skip
        overrides = [f"{key.replace('__', '.')}={json.dumps(one)}" for key, one in changes.items()]
        return parse_recipe(json.dumps(value), "recipe", overrides, False)

    return make


def planned(recipe: Recipe, **terms: Any) -> dict[str, list[str]]:
    """The lines by their first word."""
    lines: dict[str, list[str]] = {}
    for line in plan_lines(recipe, Terms(**terms)):
        word, _, rest = line.partition(" ")
        lines.setdefault(word, []).append(rest.strip())
    return lines


def test_prepared_sources_are_counted(recipe):
    asked = recipe()
    manifests = prepare(asked, load_base_tokenizer(asked))
    lines = planned(asked)
    assert lines["length"] == ["100 steps of 4 windows of 32 tokens: 12.8k tokens"]
    assert lines["languages"] == ["en 25.0%, ja 75.0%"]
    windows = (manifests["ja"].train.tokens - 1) // 32
    assert lines["source"][1].startswith(f"ja: 75.00%, 9.6k tokens, {300 / windows:.2f} epochs of ")


def test_sources_not_prepared_are_reckoned(recipe):
    """Read to their end here, so that only the part which is not tokenised is guessed."""
    asked = recipe()
    tokenizer = load_base_tokenizer(asked)
    expected = {name: expected_tokens(asked, name, tokenizer) for name in asked.data.sources}
    lines = planned(asked)
    assert all(", about " in line for line in lines["source"])
    assert any("not prepared" in rest for rest in lines[""])
    assert not Path(asked.run_dir).exists()
    manifests = prepare(asked, tokenizer)
    for name, tokens in expected.items():
        assert tokens == pytest.approx(manifests[name].train.tokens, rel=0.03)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_beginning_of_a_large_source(recipe, tmp_path, monkeypatch, ending):
    """From a tenth of a file, compressed or not, its tokens are known within a few hundredths."""
    import gzip

    monkeypatch.setattr("tsugiki.plan.READ_BYTES", 1 << 14)
    monkeypatch.setattr("tsugiki.plan.TOKENISED_SHARE", 2)
    monkeypatch.setattr("tsugiki.corpus.compression.COMPRESSED_CHUNK", 1 << 11)
    monkeypatch.setattr("tsugiki.corpus.pieces.PIECE", 1 << 13)
    content = "".join(
        json.dumps({"text": f"{number} {SENTENCE[: 10 + number * 37 % 50] * 12} {(number * 7919 % 3000) ** 5}"}) + "\n"
        for number in range(3000)
    ).encode()
    path = tmp_path / f"large.jsonl{ending}"
    path.write_bytes(gzip.compress(content, 1) if ending else content)
    asked = recipe(data__sources={"large": {"path": str(path), "weight": 1}})
    tokenizer = load_base_tokenizer(asked)
    tokens = expected_tokens(asked, "large", tokenizer)
    assert tokens == pytest.approx(prepare(asked, tokenizer)["large"].train.tokens, rel=0.06)


@pytest.mark.parametrize("long", [1, 40])
def test_documents_that_differ_from_the_first(recipe, tmp_path, long):
    """What is tokenised is taken from all that is read, and of a long document from its middle."""
    kinds = [f"{'0123456789 ' * 60 * long}", f"{SENTENCE * 10 * long}"]
    texts = [kinds[0]] * (600 // long) + [kinds[1]] * (1800 // long)
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"{kinds[0]}{number} {text}"}) + "\n" for number, text in enumerate(texts))
    )
    asked = recipe(data__sources={"mixed": {"path": str(path), "weight": 1}})
    tokenizer = load_base_tokenizer(asked)
    assert path.stat().st_size < READ_BYTES
    tokens = expected_tokens(asked, "mixed", tokenizer)
    assert tokens == pytest.approx(prepare(asked, tokenizer)["mixed"].train.tokens, rel=0.06)


def test_where_a_cap_bites(recipe):
    asked = recipe(training__max_steps=100_000, data__sources__en__max_epochs=2)
    line = next(one for one in planned(asked)["source"] if one.startswith("en:"))
    epochs = float(re.search(r"([\d.]+) epochs", line)[1])
    most = float(re.search(r"MORE THAN max_epochs 2: at most ([\d.]+)%", line)[1])
    assert most == pytest.approx(25 * 2 / epochs, rel=0.01)


def test_machine(recipe, tiny_model_folder):
    from transformers import AutoModelForCausalLM

    parameters = AutoModelForCausalLM.from_pretrained(tiny_model_folder("mistral")).num_parameters()
    lines = planned(recipe(), processes=4)
    assert lines["memory"][0].startswith(f"{quantity(4 * parameters)}B")
    # Two checkpoints are kept, a third is written beside them; 2 bytes a parameter are exported.
    assert f"{quantity((3 * 12 + 2) * parameters)}B of checkpoints" in lines["disk"][0]
    assert "on each of 4 processes (fp32-master, shard: full)" in lines["memory"][0]


def test_a_batch_that_so_many_processes_cannot_share_is_named(recipe):
    assert "launch" not in planned(recipe(training__global_batch_size=4, training__micro_batch_size=1), processes=4)
    (line,) = planned(recipe(training__global_batch_size=4, training__micro_batch_size=1), processes=3)["launch"]
    assert line.startswith("REFUSED  training.global_batch_size: 4 windows cannot be shared evenly by 3 processes")


def test_adapters_in_one_line(recipe):
    lines = planned(recipe(training__lora={"rank": 2}))
    assert [line.startswith("about ") and "are trained beside" in line for line in lines["lora"]] == [True]
    assert "memory" not in lines


def test_time(recipe):
    assert "no rate has been measured" in planned(recipe())["time"][0]
    said = planned(recipe(training__max_steps=45_000), rate=800.0, price=4.5)["time"][0]
    assert said == "2h 00m at 800 tokens a second (as you say), evaluation not counted: 9.00 at 4.5 an hour"


def test_conversations_must_be_packed_first(recipe, tmp_path):
    (tmp_path / "chat.jsonl").write_text('{"messages": [{"role": "user", "content": "a"}]}\n', encoding="utf-8")
    asked = recipe(data__sources__ja={"path": str(tmp_path / "chat.jsonl"), "weight": 1, "format": "chat"})
    with pytest.raises(DataError, match=r"data\.sources\.ja: .* run tsugiki prepare"):
        planned(asked)


def test_verb(recipe, tmp_path):
    asked = recipe()
    path = tmp_path / "recipe.json"
    path.write_text(asked.model_dump_json(exclude_none=True, exclude_defaults=True), encoding="utf-8")
    shown = CliRunner().invoke(app, ["plan", str(path), "--rate", "100", "training.max_steps=10"])
    assert shown.exit_code == 0, shown.output
    assert "10 steps of 4 windows" in shown.output
    assert "as you say" in shown.output
