"""`validate` and `sample` show conversations as the model gets them: what is trained, and what the template adds."""

import copy
import json
import re

import pytest
from chat_tokenizers import family
from typer.testing import CliRunner

from tsugiki import cli, terminal
from tsugiki.corpus.mixture import Mixture
from tsugiki.corpus.planned import describe_plan
from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.windows import WindowReader
from tsugiki.errors import DataError
from tsugiki.inspection import inspect_path
from tsugiki.pipeline import run_prepare
from tsugiki.preview import preview_samples, show_sample
from tsugiki.recipe import SourceSection
from tsugiki.recipe_file import parse_recipe

TEMPLATE = (
    "{{- '<|im_start|>system\nSYSTEM OF THE TEMPLATE<|im_end|>\n' if messages[0].role != 'system' }}"
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{{- '<|im_start|>assistant\n' if add_generation_prompt }}"
)
CHATS = [
    [("user", f"質問{number}: what?"), ("assistant", f"Answer {number}.\nSecond line {number}.")]
    for number in range(60)
]


@pytest.fixture
def recipe(tmp_path):
    tokenizer = copy.deepcopy(family("qwen"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    records = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in CHATS]
    (tmp_path / "talk.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    values = {
        "run_dir": str(tmp_path / "run"),
        "model": {
            "architecture": {"model_type": "mistral", "vocab_size": len(tokenizer)},
            "tokenizer": str(tmp_path / "tokenizer"),
        },
        "data": {"sequence_length": 256, "held_out": 0, "workers": 1,
                 "sources": {"talk": {"path": str(tmp_path / "talk.jsonl"), "format": "chat", "weight": 1}}},
        "training": {"max_steps": 3, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-3, "save_steps": 3},
    }  # fmt: skip
    (tmp_path / "recipe.json").write_text(json.dumps(values))
    return parse_recipe(json.dumps(values))


def shown_conversations(text: str) -> dict[int, str]:
    """By line of the file, what stands below its place, without the margin."""
    parts = re.split(r"^  from index .*talk\.jsonl:(\d+)  .*\n", text, flags=re.M)
    return {
        int(line): "".join(re.findall(r"^  \| (.*)\n", body, re.M)).replace("⏎", "\n")
        for line, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_brackets_say_what_is_trained_and_what_the_template_adds(recipe):
    run_prepare(recipe)
    found = shown_conversations("\n".join(map(str, show_sample(recipe, 0))))
    assert found
    for line, text in found.items():
        (_, question), (_, answer) = CHATS[line - 1]
        assert text == (
            "‹<|im_start|>system\nSYSTEM OF THE TEMPLATE<|im_end|>\n<|im_start|>user\n›".replace("\n<", "\n›‹<")
            + f"{question}‹<|im_end|>\n›‹<|im_start|>assistant\n›⟦{answer}‹<|im_end|>›⟧".replace(".\nS", ".\n⟧⟦S")
        ).replace("system\nS", "system\n›‹S")


def test_validate_shows_conversations_before_and_after_preparing(recipe):
    before = "\n".join(map(str, preview_samples(recipe, 1)))
    assert "not prepared yet" in before
    run_prepare(recipe)
    after = "\n".join(map(str, preview_samples(recipe, 1)))
    assert "not prepared yet" not in after
    for text in (before, after):
        assert "SYSTEM OF THE TEMPLATE" in text
        assert re.search(r"⟦Answer \d+\.⏎⟧", text)
        assert re.search(r"of 256 positions hold \d+ conversations; \d+ targets", text)


def test_preparing_and_inspecting_say_how_long_how_full_and_how_much_is_trained(recipe, tmp_path):
    said = []
    run_prepare(recipe, say=said.append)
    source = open_prepared(recipe)["talk"]
    lengths, trained = source.train.lengths.tolist(), sum(int((source.train.weights(n) > 0).sum()) for n in range(60))
    packs = source.train.window_count(256)
    facts = (
        f"60 conversations of {sum(lengths):,} tokens ({trained / sum(lengths):.1%} trained) in {packs} packs of 256: "
        f"{1 - sum(lengths) / packs / 256:.2%} padding ({1 - sum(lengths) / 60 / 256:.1%} with a conversation a window)"
    )
    median = sorted(lengths)[29]
    lines, sound = inspect_path(tmp_path / "run/data/talk")
    assert sound
    for text in ("\n".join(said), "\n".join(lines)):
        assert facts in text
        assert "chat template: the tokenizer's own; answers end in <|im_end|>" in text
        assert f"tokens a conversation: median {median}, longest {max(lengths)}; up to " in text
    store, _ = inspect_path(tmp_path / "run/data/talk/train")
    assert f"  conversations, {trained:,} of the tokens with a loss weight" in store
    said.clear()
    longer = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sequence_length": 512})})
    run_prepare(longer, say=said.append)
    assert "packs of 512: " in said[0]


def test_the_share_of_trained_tokens_stands_beside_that_of_positions(recipe, tmp_path):
    (tmp_path / "text.jsonl").write_text("".join(json.dumps({"text": f"text {n} " * 200}) + "\n" for n in range(40)))
    text = SourceSection(path=[str(tmp_path / "text.jsonl")], weight=1)
    sources = {"talk": recipe.data.sources["talk"], "text": text}
    mixed = recipe.model_copy(update={"data": recipe.data.model_copy(update={"sources": sources})})
    run_prepare(mixed)
    prepared = open_prepared(mixed)
    mixture = Mixture.from_recipe(mixed, {name: source.train for name, source in prepared.items()})
    reader = WindowReader(prepared, mixture, 256, False)
    counts = {"talk": 0, "text": 0}
    draws = 2 * mixture.windows["talk"]  # an epoch of conversations
    for sample in range(draws):
        batch = reader.read(sample)
        counts[mixture.names[batch.source[0]]] += batch.target_count
    lines = describe_plan(mixture, draws, prepared, 256)
    share = counts["talk"] / sum(counts.values())
    assert lines[0].startswith("talk: 50.00%, ")
    assert lines[0].endswith(f"{share:.2%} of the trained tokens")
    assert f"data       {lines[0].split(',')[0]}" in "\n".join(map(str, preview_samples(mixed, 0)))


def test_where_a_record_is_not_there_any_more_what_is_trained_is_shown_all_the_same(recipe, tmp_path):
    run_prepare(recipe)
    lines = (tmp_path / "talk.jsonl").read_text()
    for change in (lines.replace("what?", "why?"), None):
        if change is None:
            (tmp_path / "talk.jsonl").unlink()
        else:
            (tmp_path / "talk.jsonl").write_text(change)
        text = "\n".join(map(str, show_sample(recipe, 0)))
        assert "its record is not there as it was, so what the template adds is not marked" in text
        assert re.search(r"\| ⟦Answer \d+\.⏎⟧", text)
        assert "‹<" not in text


def test_a_source_that_is_bad_is_told_before_it_is_prepared(recipe, tmp_path):
    records = (tmp_path / "talk.jsonl").read_text().splitlines()
    (tmp_path / "talk.jsonl").write_text("\n".join([records[0], '{"messages": 3}', *records[1:]]))
    with pytest.raises(DataError, match=r"1 of 61 documents cannot be used"):
        list(preview_samples(recipe, 1))
    many = [record for number in range(5) for record in records]
    (tmp_path / "talk.jsonl").write_text("\n".join([records[0], '{"messages": 3}', *many]))
    text = "\n".join(map(str, preview_samples(recipe, 1)))
    assert re.search(
        r"talk: 1 of the first \d+ documents cannot be used, first .*talk\.jsonl:2: not a conversation", text
    )


def test_a_terminal_with_colours_gets_them_in_place_of_brackets(recipe, tmp_path, monkeypatch):
    run_prepare(recipe)
    for colours in (None, "truecolor"):
        with monkeypatch.context() as patch:
            console = terminal.Terminal(highlight=False, soft_wrap=True, emoji=False, force_terminal=True,
                                        color_system=colours, no_color=False)  # fmt: skip
            patch.setattr(terminal, "console", console)
            patch.setattr(cli, "console", console)
            result = CliRunner().invoke(cli.app, ["sample", str(tmp_path / "recipe.json"), "0"], catch_exceptions=False)
        bold = re.search(r"\x1b\[1;32mAnswer \d+\.\x1b\[0m", result.output)
        assert bool(bold) == (colours is not None)
        assert ("⟦" in result.output) == (colours is None)
        assert "SYSTEM OF THE TEMPLATE" in result.output
