"""Chat vectors of tiny models: their numbers against a naive loop, rows by pieces, refusals, and what is read at once."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from graft_models import (
    PLAIN,
    TEMPLATE,
    WEIGHTS,
    add_chat_tokens,
    as_chat,
    change_weights,
    edit,
    make_base,
    naive,
    tensors_of,
    varied,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.chat.given import GIVEN_FILE, Given, given_in
from tsugiki.errors import ModelError, RecipeError, TsugikiError
from tsugiki.model import graft_weights
from tsugiki.model.graft import RECORD, graft_chat
from tsugiki.model.graft_weights import combine
from tsugiki.model.load import read_pretrained
from tsugiki.model.stored_rows import StoredWeights

ARCHITECTURES = [
    "mistral", "mistral-tied", "llama", "qwen3", "gemma2", "gemma3", "gemma3-multimodal", "gpt_neox", "phi", "mixtral",
    "deepseek_v3",
]  # fmt: skip
ROWS = 390
"""Of the models; their tokenizer has 384 pieces, so that six rows are spare."""

Trio = tuple[Path, Path, Path]
MakeTrio = Callable[..., Trio]


@pytest.fixture
def make_trio(
    tmp_path: Path, tiny_model_folder: Callable[..., Path], tiny_tokenizer_folder: Path, tiny_config: Any
) -> MakeTrio:
    """`make_trio(name)`: base, chat and ours in bf16, the latter two made from the first."""

    def make(name: str = "llama", dtype: torch.dtype = torch.bfloat16) -> Trio:
        changes: dict[str, Any] = {"vocab_size": ROWS}
        if "text_config" in tiny_config(name):
            changes = {"text_config": {**tiny_config(name)["text_config"], **changes}}
        base = make_base(tmp_path / "base", tiny_model_folder(name, **changes), tiny_tokenizer_folder, dtype)
        chat = as_chat(varied(base, tmp_path / "chat", 1))
        return base, chat, varied(base, tmp_path / "ours", 2)

    return make


@pytest.fixture
def said() -> list[str]:
    return []


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bit by bit."""
    assert one.keys() == other.keys()
    return all(
        one[name].dtype == other[name].dtype and torch.equal(one[name].view(torch.uint8), other[name].view(torch.uint8))
        for name in one
    )


def silent(_: str) -> None:
    return


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_on_the_base_itself_it_is_the_chat_model_bit_by_bit(name: str, make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, _ = make_trio(name)
    graft_chat(base, chat, base, tmp_path / "out", silent)
    assert not same(tensors_of(base), tensors_of(chat))
    assert same(tensors_of(tmp_path / "out"), tensors_of(chat))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_is_what_a_naive_loop_gives_and_opens_in_transformers(
    name: str, make_trio: MakeTrio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graft_weights, "BLOCK", 1000)  # many blocks a tensor, the last one shorter
    base, chat, ours = make_trio(name)
    graft_chat(base, chat, ours, tmp_path / "out", silent, scale=0.7)
    found = tensors_of(tmp_path / "out")
    assert same(found, naive(ours, base, chat, 0.7))
    assert not same(found, tensors_of(ours))
    read_pretrained(tmp_path / "out")  # every tensor accounted for


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
def test_no_scale_gives_ours_bit_by_bit(dtype: torch.dtype, make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio(dtype=dtype)
    change_weights(ours, lambda _, tensor: torch.where(tensor == 0, -0.0, tensor).to(dtype))
    graft_chat(base, chat, ours, tmp_path / "out", silent, scale=0.0)
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (ours / WEIGHTS).read_bytes()


def test_numbers_of_any_size_are_exact_where_they_can_be() -> None:
    """1 + (2^-20 − 1) is not 2^-20 to eight bits in fp32; and −0 is not 0."""
    base = torch.tensor([1.0, 1.0, 3.0, -0.0, 0.0, 2.0**-90])
    chat = torch.tensor([2.0**-20 * (1 + 2**-7), -(2.0**-60), 3.0, 0.0, -0.0, 2.0**90])
    assert not torch.equal(base + (chat - base), chat)
    assert combine(base, base, chat, 1.0).numpy().tobytes() == chat.numpy().tobytes()
    ours = torch.tensor([-0.0, 5.0])
    assert combine(ours, ours + 1, ours + 1, 0.3).numpy().tobytes() == ours.numpy().tobytes()


def test_formats_may_differ_and_the_result_has_that_of_ours(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    change_weights(base, lambda _, tensor: tensor.float())
    change_weights(chat, lambda _, tensor: tensor.half())
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    assert same(tensors_of(tmp_path / "out"), naive(ours, base, chat, 1.0))


def test_tensors_are_found_in_files_that_are_cut_otherwise(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio("mixtral")
    expected = naive(ours, base, chat, 1.0)
    names = sorted(load_file(ours / WEIGHTS))
    for folder, files in ((base, 3), (ours, 5)):
        cut(folder, names if folder == base else names[::-1], files)
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    assert same(tensors_of(tmp_path / "out"), expected)
    index = "model.safetensors.index.json"
    assert (tmp_path / "out" / index).read_bytes() == (ours / index).read_bytes()
    for path in ours.glob("*.safetensors"):
        assert load_file(path).keys() == load_file(tmp_path / "out" / path.name).keys()
    read_pretrained(tmp_path / "out")


def cut(folder: Path, names: list[str], files: int) -> None:
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = {name: f"model-{at % files:05}.safetensors" for at, name in enumerate(names)}
    for file in set(places.values()):
        own = {name: tensors[name] for name in names if places[name] == file}
        save_file(own, folder / file, metadata={"format": "pt"})
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_no_more_is_read_for_a_block_than_three_of_its_size(
    make_trio: MakeTrio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, chat, ours = make_trio("mistral")
    block = 160  # numbers: ten rows of an embedding, whose 6,240 would be read at once otherwise
    monkeypatch.setattr(graft_weights, "BLOCK", block)
    read: list[int] = []
    held: list[int] = []
    original_bytes, original_blocks = StoredWeights.bytes, graft_weights._blocks

    def counted(self: StoredWeights, name: str, begin: int, end: int) -> bytes:
        read.append(end - begin)
        return original_bytes(self, name, begin, end)

    def blocks(graft: Any, name: str) -> Iterator[Any]:
        read.clear()
        for written in original_blocks(graft, name):
            held.append(sum(read))
            read.clear()
            yield written

    monkeypatch.setattr(StoredWeights, "bytes", counted)
    monkeypatch.setattr(graft_weights, "_blocks", blocks)
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    numbers = sum(tensor.numel() for tensor in tensors_of(ours).values())
    assert max(held) == 3 * block * 2  # bf16
    assert sum(held) == 3 * numbers * 2  # and nothing twice


def test_what_is_excluded_stays_ours(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    graft_chat(base, chat, ours, tmp_path / "out", silent, exclude=["*norm*", "lm_head.weight"])
    found, own, added = tensors_of(tmp_path / "out"), tensors_of(ours), naive(ours, base, chat, 1.0)
    for name, tensor in found.items():
        assert torch.equal(tensor, (own if "norm" in name or "lm_head" in name else added)[name]), name
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    assert (record["scale"], record["exclude"]) == (1.0, ["*norm*", "lm_head.weight"])
    assert "model.norm" not in record["norms"]


def test_norms_of_the_differences_are_told_by_layer(make_trio: MakeTrio, tmp_path: Path, said: list[str]) -> None:
    base, chat, ours = make_trio()
    graft_chat(base, chat, ours, tmp_path / "out", said.append)
    a, b, c = map(tensors_of, (ours, base, chat))
    layer = [name for name in a if name.startswith("model.layers.1.")]
    norms = {
        "base": sum(b[name].double().square().sum() for name in layer) ** 0.5,
        "chat_minus_base": sum((c[name].float() - b[name].float()).double().square().sum() for name in layer) ** 0.5,
        "ours_minus_base": sum((a[name].float() - b[name].float()).double().square().sum() for name in layer) ** 0.5,
    }
    told = json.loads((tmp_path / "out" / RECORD).read_text())["norms"]["model.layers.1"]
    assert told == pytest.approx({key: float(value) for key, value in norms.items()}, rel=1e-6)
    line = next(line for line in said if line.startswith("model.layers.1 "))
    assert line.split()[1] == f"{float(norms['chat_minus_base']):.4g}"
    assert not any("is it made from this base" in line for line in said)


def test_a_model_of_another_base_is_pointed_out(
    make_trio: MakeTrio, tmp_path: Path, said: list[str], tiny_model_folder: Callable[..., Path]
) -> None:
    base, chat, ours = make_trio()
    generator = torch.Generator().manual_seed(9)
    change_weights(ours, lambda _, tensor: torch.randn(tensor.shape, generator=generator).bfloat16())
    graft_chat(base, chat, ours, tmp_path / "out", said.append)
    assert next(line for line in said if "is it made from this base" in line).startswith("note       ours differs")


def test_a_tied_matrix_may_be_stored_once_or_twice(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio("mistral-tied")
    expected = naive(ours, base, chat, 1.0)
    embedding = "model.embed_tokens.weight"
    for folder in (base, ours):
        tensors = load_file(folder / WEIGHTS)
        save_file(
            {**tensors, "lm_head.weight": tensors[embedding].clone()}, folder / WEIGHTS, metadata={"format": "pt"}
        )
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    assert same(tensors_of(tmp_path / "out"), expected | {"lm_head.weight": expected[embedding]})
    head = load_file(base / WEIGHTS)
    save_file({**head, "lm_head.weight": head["lm_head.weight"] + 1}, base / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="not one matrix in all of them: base untied, chat tied, ours tied"):
        graft_chat(base, chat, ours, tmp_path / "other", silent)


def test_files_whose_names_lack_a_prefix_are_understood(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    expected = naive(ours, base, chat, 1.0)
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(base / WEIGHTS).items()}
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    assert same(tensors_of(tmp_path / "out"), expected)


def test_what_transformers_does_not_load_gets_a_difference_or_stays(make_trio: MakeTrio, tmp_path: Path) -> None:
    """As the layers of GLM-4.5 that predict further tokens; whole numbers must not differ."""
    base, chat, ours = make_trio()
    for at, folder in enumerate((base, chat, ours)):
        extra = {"mtp.weight": torch.full((3,), float(at)), "mtp.steps": torch.tensor([4, 5])}
        extra |= {"mtp.ours": torch.ones(2)} if folder == ours else {}
        save_file({**load_file(folder / WEIGHTS), **extra}, folder / WEIGHTS, metadata={"format": "pt"})
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    found = tensors_of(tmp_path / "out")
    assert [found[name].tolist() for name in ("mtp.weight", "mtp.steps", "mtp.ours")] == [[3.0] * 3, [4, 5], [1.0] * 2]
    change_weights(chat, lambda name, tensor: tensor + 1 if name == "mtp.steps" else tensor)
    with pytest.raises(ModelError, match=r"mtp\.steps holds I64 numbers that differ between base and chat"):
        graft_chat(base, chat, ours, tmp_path / "other", silent)


def test_a_sum_that_the_format_cannot_hold_is_refused(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio(dtype=torch.float16)
    change_weights(chat, lambda _, tensor: tensor.float() * 1e6)
    with pytest.raises(ModelError, match="would not be finite: float16 cannot hold the sum"):
        graft_chat(base, chat, ours, tmp_path / "out", silent)


def test_rows_are_matched_by_their_pieces_and_not_by_number(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    graft_chat(base, chat, ours, tmp_path / "plain", silent, scale=0.5)
    state = json.loads((chat / "tokenizer.json").read_text("utf-8"))
    order = torch.arange(ROWS)
    order[3:384] = torch.arange(3, 384).roll(1)  # every ordinary piece has the next number
    vocabulary = state["model"]["vocab"]
    state["model"]["vocab"] = {piece: int(order[token]) for piece, token in vocabulary.items()}
    (chat / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")

    def moved(_: str, tensor: torch.Tensor) -> torch.Tensor:
        new = tensor.clone()
        if len(tensor) == ROWS:
            new[order] = tensor
        return new

    change_weights(chat, moved)
    graft_chat(base, chat, ours, tmp_path / "out", silent, scale=0.5)
    assert same(tensors_of(tmp_path / "out"), tensors_of(tmp_path / "plain"))


def test_tokens_that_the_template_needs_are_refused_or_added(
    make_trio: MakeTrio, tmp_path: Path, said: list[str]
) -> None:
    base, chat, ours = make_trio()
    tokens = [f"<|more_{number}|>" for number in range(5)] + ["<|im_start|>", "<|im_end|>"]
    add_chat_tokens(as_chat(chat, TEMPLATE + "".join(tokens[:5])), tokens)  # seven, of which six have a spare row
    edit(chat / "generation_config.json", lambda values: values.update(eos_token_id=[2, 390]))
    with pytest.raises(ModelError, match=r"ours has no piece for what chat's .*<\|im_end\|>.*--add-tokens"):
        graft_chat(base, chat, ours, tmp_path / "out", silent)
    graft_chat(base, chat, ours, tmp_path / "out", said.append, add_tokens=True)
    assert any("added to ours with chat's rows: 7" in line for line in said)

    model = read_pretrained(tmp_path / "out", dtype=torch.bfloat16)[0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens}
    assert sorted(ids.values()) == list(range(384, 391))
    theirs = AutoTokenizer.from_pretrained(chat)
    was, new, shared = tensors_of(chat), tensors_of(tmp_path / "out"), naive_rows(base, chat, ours)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert new[name].shape == (391, 16)
        assert torch.equal(new[name][:384], shared[name][:384])
        for token, row in ids.items():
            assert torch.equal(new[name][row], was[name][theirs.convert_tokens_to_ids(token)])
    assert model.config.vocab_size == 391
    assert model.generation_config.eos_token_id == [2, ids["<|im_end|>"]]
    talk = [{"role": "user", "content": "A river remembers"}]
    rendered = tokenizer.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    expected = theirs.apply_chat_template(talk, add_generation_prompt=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(rendered) == theirs.convert_ids_to_tokens(expected)
    assert ids["<|im_start|>"] in rendered


def naive_rows(base: Path, chat: Path, ours: Path) -> dict[str, torch.Tensor]:
    a, b, c = map(tensors_of, (ours, base, chat))
    rows = min(len(one["lm_head.weight"]) for one in (a, b, c))
    return {name: (a[name][:rows].float() + (c[name][:rows].float() - b[name][:rows].float())).bfloat16() for name in a}


def test_added_tokens_take_spare_rows_first_and_leave_the_sizes(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio("qwen3")
    add_chat_tokens(as_chat(chat, TEMPLATE), ["<|im_start|>", "<|im_end|>"])
    graft_chat(base, chat, ours, tmp_path / "out", silent, add_tokens=True, exclude=["*embed_tokens*"])
    name = "model.embed_tokens.weight"
    found, own, theirs = (tensors_of(folder)[name] for folder in (tmp_path / "out", ours, chat))
    assert (tmp_path / "out/config.json").read_bytes() == (ours / "config.json").read_bytes()
    made = Tokenizer.from_file(str(tmp_path / "out/tokenizer.json"))
    other = Tokenizer.from_file(str(chat / "tokenizer.json"))
    new = {made.token_to_id(token): other.token_to_id(token) for token in ("<|im_start|>", "<|im_end|>")}
    assert new.keys() == {384, 385}
    for row in range(ROWS):
        assert torch.equal(found[row], theirs[new[row]] if row in new else own[row]), row


def test_tokens_that_ours_has_and_the_base_not_get_chats_rows_where_the_template_needs_them(
    make_trio: MakeTrio, tmp_path: Path, said: list[str]
) -> None:
    base, chat, ours = make_trio()
    add_chat_tokens(as_chat(chat, TEMPLATE), ["<|im_start|>", "<|im_end|>", "<|other|>"])
    add_chat_tokens(ours, ["<|other|>", "<|im_end|>", "<|im_start|>"], seed=6)
    graft_chat(base, chat, ours, tmp_path / "out", said.append)
    graft_chat(base, chat, ours, tmp_path / "none", silent, scale=0.0)
    assert same(tensors_of(tmp_path / "none"), tensors_of(ours))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        found, theirs, own = (tensors_of(folder)[name] for folder in (tmp_path / "out", chat, ours))
        assert torch.equal(found[384:387], torch.stack([own[384], theirs[385], theirs[384]]))
    assert any("taken from chat" in line and "'<|im_start|>', '<|im_end|>'" in line for line in said)


def test_what_only_chat_has_is_no_loss_where_its_rows_are_excluded(
    make_trio: MakeTrio, tmp_path: Path, said: list[str]
) -> None:
    base, chat, ours = make_trio()
    add_chat_tokens(chat, ["<|spare|>"])
    graft_chat(base, chat, ours, tmp_path / "out", said.append, exclude=["*embed_tokens*", "lm_head*"])
    assert any("only in chat: 1: '<|spare|>'" in line for line in said)
    assert torch.equal(tensors_of(tmp_path / "out")["lm_head.weight"], tensors_of(ours)["lm_head.weight"])


def test_a_shard_grows_with_its_index(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    add_chat_tokens(as_chat(chat, TEMPLATE), ["<|im_start|>", "<|im_end|>"])
    for folder in (base, ours):  # without spare rows
        change_weights(folder, lambda _, tensor: tensor[:384] if len(tensor) == ROWS else tensor)
        edit(folder / "config.json", lambda values: values.update(vocab_size=384))
    cut(ours, sorted(load_file(ours / WEIGHTS)), 4)
    graft_chat(base, chat, ours, tmp_path / "out", silent, add_tokens=True)
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors_of(tmp_path / "out").values())
    assert len(read_pretrained(tmp_path / "out")[0].get_input_embeddings().weight) == 386


def test_template_names_and_stops_are_those_of_chat_and_the_rest_is_ours(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    (chat / "chat_template.jinja").unlink()
    edit(chat / "tokenizer_config.json", lambda values: values.update(chat_template=PLAIN, eos_token="<unk>"))
    edit(chat / "generation_config.json", lambda values: values.update(eos_token_id=0, stop_strings=["END"], top_p=0.5))
    (ours / "chat_template.jinja").write_text("that of ours")
    (ours / GIVEN_FILE).write_text('{"tools": [], "template_kwargs": {"of": "ours"}}')
    (chat / GIVEN_FILE).write_text('{"tools": [], "template_kwargs": {"of": "chat"}}')
    (ours / "LICENSE").write_text("as you like")
    (ours / "tsugiki.json").write_text('{"checkpoint": "step_00000040"}')
    edit(ours / "generation_config.json", lambda values: values.update(_from_model_config=True, top_k=7))
    graft_chat(base, chat, ours, tmp_path / "out", silent)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (tokenizer.chat_template, tokenizer.eos_token, tokenizer.bos_token) == (PLAIN, "<unk>", "<s>")
    assert given_in(tmp_path / "out") == Given((), {"of": "chat"})
    generation = json.loads((tmp_path / "out/generation_config.json").read_text())
    assert (generation["eos_token_id"], generation["stop_strings"], generation["top_k"]) == (0, ["END"], 7)
    assert not {"top_p", "_from_model_config"} & generation.keys()
    assert (tmp_path / "out/tokenizer.json").read_bytes() == (ours / "tokenizer.json").read_bytes()
    assert (tmp_path / "out/LICENSE").read_text() == "as you like"
    # A folder that called itself the export of a checkpoint would be taken for it.
    assert not (tmp_path / "out/tsugiki.json").exists()


def test_marks_that_a_template_writes_in_parts_are_found(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    parts = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
    add_chat_tokens(as_chat(chat, parts), ["<|user|>", "<|assistant|>"])
    with pytest.raises(ModelError, match=r"no piece for what chat's template .*'<\|user\|>', '<\|assistant\|>'"):
        graft_chat(base, chat, ours, tmp_path / "out", silent)


def test_texts_longer_or_shorter_are_a_note(make_trio: MakeTrio, tmp_path: Path, said: list[str]) -> None:
    base, chat, ours = make_trio()
    edit(chat / "config.json", lambda values: values.update(max_position_embeddings=512, use_cache=False, junk=1))
    graft_chat(base, chat, ours, tmp_path / "out", said.append)
    assert "settings   max_position_embeddings: base 128, chat 512, ours 128; that of ours stays" in said


def config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", lambda config: config.update(values))


def weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def rope(**values: Any) -> dict[str, Any]:
    return {"rope_theta": 10000.0, "rope_type": "default", **values}


NORM = "model.layers.0.input_layernorm.weight"
HOSTILE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "another kind": ("chat", config(model_type="mistral"), "different kinds: base llama, chat mistral, ours llama"),
    "rope": ("chat", config(rope_parameters=rope(rope_theta=5e5)), r"rope_parameters: base .*10000\.0.*500000\.0"),
    "eps": ("ours", config(rms_norm_eps=1e-5), "rms_norm_eps: base 1e-06, chat 1e-06, ours 1e-05"),
    "heads": ("chat", config(num_key_value_heads=4), "num_key_value_heads: base 2, chat 4, ours 2"),
    "tying": (
        "ours",
        lambda folder: (config(tie_word_embeddings=True)(folder), weights(lambda t: t.pop("lm_head.weight"))(folder)),
        "not one matrix in all of them: base untied, chat untied, ours tied",
    ),
    "shape": ("chat", weights(lambda t: t.update({NORM: torch.ones(15)})), r"has shape \[16\] in ours, \[15\] in chat"),
    "width": ("base", config(hidden_size=20), "hidden_size|has shape"),
    "missing": ("base", weights(lambda t: t.pop(NORM)), "base: the files hold no model.layers.0.input_layernorm"),
    "integers": ("chat", weights(lambda t: t.update({NORM: torch.ones(16, dtype=torch.int8)})), "as BF16 in ours, as I8"),
    "nan": ("chat", weights(lambda t: t[NORM].fill_(float("nan"))), f"{NORM} would not be finite: chat hold NaN"),
    "cut short": ("base", lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-1]), "no whole safetensors"),
    "pickle": ("base", lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), "pickles only"),
    "no weights": ("ours", lambda f: (f / WEIGHTS).unlink(), "ours holds no weights"),
    "no tokenizer": ("chat", lambda f: (f / "tokenizer.json").unlink(), "chat: no tokenizer.json"),
    "a run": (
        "ours",
        lambda f: ((f / "config.json").unlink(), (f / "checkpoints").mkdir()),
        "ours is a run directory: name its export/",
    ),
    "no model": ("base", lambda f: (f / "config.json").unlink(), "base is no model folder"),
    "quantised": ("chat", config(quantization_config={"bits": 4}), "quantised"),
    "more pieces": ("chat", lambda f: add_chat_tokens(f, ["<|spare|>"]), r"1 pieces are only in .*chat.*'<\|spare\|>'"),
    "stop": (
        "chat",
        lambda f: edit(f / "generation_config.json", lambda values: values.update(eos_token_id=9999)),
        "eos_token_id is 9999, and the tokenizer has ids from 0 to 383",
    ),
    "template": ("chat", lambda f: (f / "chat_template.jinja").write_bytes(b"\xff"), "chat_template.jinja is not UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_does_not_fit_is_refused_in_one_message(case: str, make_trio: MakeTrio, tmp_path: Path) -> None:
    which, spoil, message = HOSTILE[case]
    folders = dict(zip(("base", "chat", "ours"), make_trio(), strict=True))
    spoil(folders[which])
    with pytest.raises(TsugikiError, match=message) as refused:
        graft_chat(folders["base"], folders["chat"], folders["ours"], tmp_path / "out", silent)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "chat", "ours"]


def test_arguments_that_mean_nothing_are_refused(make_trio: MakeTrio, tmp_path: Path) -> None:
    base, chat, ours = make_trio()
    with pytest.raises(RecipeError, match=r"'norm' matches no tensor .*'\*norm\*'"):
        graft_chat(base, chat, ours, tmp_path / "out", silent, exclude=["norm"])
    with pytest.raises(RecipeError, match="--scale must be a number, not nan"):
        graft_chat(base, chat, ours, tmp_path / "out", silent, scale=float("nan"))
    with pytest.raises(RecipeError, match="ours exists already"):
        graft_chat(base, chat, ours, ours, silent)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_extended_vocabulary_keeps_its_new_rows(
    family: str,
    tmp_path: Path,
    tiny_model_folder: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    import yaml
    from extension_project import IDS, extension_recipe
    from extension_project import make_base as make_extensible

    from tsugiki.pipeline import run_vocabulary
    from tsugiki.recipe_file import parse_recipe
    from tsugiki.vocabulary import stage

    monkeypatch.setattr(stage, "prove", lambda *_, **__: [])  # which has tests of its own
    base = make_extensible(tmp_path / "base", family, tiny_model_folder)
    recipe = parse_recipe(yaml.safe_dump(extension_recipe(tmp_path, base)))
    run_vocabulary(recipe, silent)
    ours = varied(next(path.parent for path in tmp_path.rglob("vocabulary/model/config.json")), tmp_path / "ours", 3)
    chat = as_chat(varied(base, tmp_path / "chat", 4))
    graft_chat(base, chat, ours, tmp_path / "out", said.append)

    new = len(AutoTokenizer.from_pretrained(ours)) - IDS[family]
    assert new > 20
    assert any(f"only in ours (their rows stay): {new:,}" in line for line in said)
    a, b, c, found = map(tensors_of, (ours, base, chat, tmp_path / "out"))
    used = IDS[family]
    for name, tensor in found.items():
        expected = a[name].clone()
        rows = used if "embed_tokens" in name or "lm_head" in name else len(expected)
        expected[:rows] = a[name][:rows] + (c[name][:rows] - b[name][:rows])
        if rows == used:  # rows without a piece in any of them
            spare = slice(used + new, min(len(a[name]), len(b[name])))
            expected[spare] = a[name][spare] + (c[name][spare] - b[name][spare])
        assert torch.equal(tensor, expected), name
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert len(model.get_input_embeddings().weight) == len(a["model.embed_tokens.weight"])
    for path in ours.iterdir():
        if path.name in ("tokenizer.json", "tokenizer.model", "config.json"):
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


def test_the_command_says_what_it_did_and_an_error_in_one_line(
    make_trio: MakeTrio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from tsugiki import cli

    base, chat, ours = make_trio()
    command = ["tsugiki", "graft-chat", "--base", str(base), "--chat", str(chat), "--to", str(ours)]
    options = ["--scale", "0.5", "--exclude", "*norm*", "--exclude", "lm_head*"]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "out"), *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    assert "stops      '</s>' (2)" in capsys.readouterr().out
    shutil.rmtree(chat)
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "other")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == ModelError.exit_code
    err = capsys.readouterr().err
    assert err.startswith(f"error: {chat}: no such folder")
    assert err.count("\n") == 1
