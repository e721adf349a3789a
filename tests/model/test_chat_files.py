"""A folder that says what a model was trained with, read by plain transformers: its template, stops and padding."""

import json

import pytest
import torch
from chat_models import chat_folder, tokenizer_named
from transformers import AutoModelForCausalLM, AutoTokenizer

from tsugiki.chat.conversations import Message
from tsugiki.chat.form import ChatForm
from tsugiki.chat.given import Given
from tsugiki.chat.templates import NAMED, choose_template
from tsugiki.chat.tokenizer import ChatTokenizer
from tsugiki.model.chat_files import GENERATION, TEMPLATE, trained_chat

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "接"}]


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jinja")}


def taught(folder, template, **options):
    """What becomes of a folder whose model was trained with a named template, written into it."""
    tokenizer = ChatTokenizer.from_folder(folder)
    chosen = choose_template(tokenizer, template, **options)
    form = ChatForm(tokenizer, chosen, Given(), append_eos=False)
    changed = trained_chat(files_in(folder), form)
    for name, content in changed.items():
        (folder / name).write_bytes(content)
    return changed, form.renderer, form.end


@pytest.fixture
def bare(tmp_path, tiny_model_folder):
    """`bare(name)`: a base without a chat template."""

    def make(name, **config):
        folder = chat_folder(tmp_path / name, name, tiny_model_folder)
        (folder / TEMPLATE).unlink()
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | config))
        return folder

    return make


@pytest.mark.parametrize(("name", "template"), [("qwen", "chatml"), ("llama3", "llama-3"), ("v1", "llama-2")])
def test_plain_transformers_renders_the_same_prompt_and_stops_by_itself(name, template, bare):
    folder = bare(name)
    _, renderer, end = taught(folder, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    turns = [Message(turn["role"], turn["content"]) for turn in TURNS]
    assert prompt[0].tolist() == renderer.prompt_ids(turns)

    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():  # where it stands now, nothing is likelier than the end token
        hidden = model.model(prompt).last_hidden_state[0, -1]
        model.lm_head.weight.zero_()
        model.lm_head.weight[end.id] = hidden
    model.save_pretrained(folder / "saved")
    for path in folder.iterdir():
        if path.is_file() and path.name not in ("config.json", "model.safetensors"):
            (folder / "saved" / path.name).write_bytes(path.read_bytes())
    model = AutoModelForCausalLM.from_pretrained(folder / "saved")
    assert model.generate(prompt, do_sample=False, max_new_tokens=9)[0, prompt.shape[1] :].tolist() == [end.id]
    stops = model.generation_config.eos_token_id
    assert {2, end.id} == set(stops if isinstance(stops, list) else [stops])  # 2 is the base's
    assert model.generation_config.pad_token_id != end.id
    assert tokenizer.pad_token_id != end.id


def test_what_the_base_says_stays_byte_for_byte(bare, tmp_path, tiny_model_folder):
    own = chat_folder(tmp_path / "own", "qwen", tiny_model_folder)
    end = json.loads((own / "tokenizer.json").read_text())["added_tokens"][-5]
    assert end["content"] == "<|im_end|>"
    (own / GENERATION).write_text(json.dumps({"eos_token_id": [2, end["id"]], "pad_token_id": 7, "temperature": 0.6}))
    assert taught(own, None)[0] == {}

    (own / GENERATION).write_text(json.dumps({"eos_token_id": 2, "top_k": 9, "_from_model_config": True}))
    changed, _, _ = taught(own, None)
    assert {name: json.loads(content) for name, content in changed.items()} == {
        GENERATION: {"eos_token_id": [2, end["id"]], "top_k": 9}
    }
    assert taught(own, None)[0] == {}  # a second time there is nothing to change
    changed, renderer, _ = taught(own, "chatml")
    assert changed == {TEMPLATE: renderer.template.source.encode()}
    assert json.loads((bare("qwen") / "tokenizer_config.json").read_text())["pad_token"] == "<|endoftext|>"


@pytest.mark.parametrize(
    ("name", "template", "padding"), [("v1", "mistral-v1", "<unk>"), ("gemma", "gemma", "<pad>"), ("gpt2", "own", None)]
)
def test_padding_that_ends_answers_gives_way_to_another(name, template, padding, bare, monkeypatch):
    source = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token }}{% endfor %}{{ 'assistant: ' if add_generation_prompt }}"
    monkeypatch.setitem(NAMED, "own", type(NAMED["chatml"])("own", source))
    ends = {"v1": "</s>", "gemma": "<end_of_turn>", "gpt2": "<|endoftext|>"}
    from chat_models import TEMPLATES

    monkeypatch.setitem(TEMPLATES, "gpt2", "own")
    folder = bare(name, pad_token=ends[name], unk_token="<unk>" if name == "v1" else None)
    end_id = tokenizer_named(name).convert_tokens_to_ids(ends[name])
    (folder / GENERATION).write_text(json.dumps({"eos_token_id": 2, "pad_token_id": end_id}))
    _, _, end = taught(folder, template)
    assert (end.piece, end.id) == (ends[name], end_id)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token == padding
    assert json.loads((folder / GENERATION).read_text())["pad_token_id"] == tokenizer.pad_token_id
