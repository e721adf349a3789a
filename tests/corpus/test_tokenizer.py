"""Ids as the model's own libraries give them, control strings as text, BOS and EOS as the tokenizer does by default."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError

LITERALS = ["</s>", "<s>", "<unk>", "a</s>b", "<s><s>川</s>", "x <s> y", "</s></s>\n<s>", "<0x41>", "▁"]


def mistral_files() -> Path:
    mistral_common = pytest.importorskip("mistral_common", reason="mistral-common carries the real tokenizer")
    return Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"


def sentencepiece_folder(folder: Path, **config: object) -> Path:
    folder.mkdir()
    shutil.copy(mistral_files(), folder / "tokenizer.model")
    (folder / "config.json").write_text('{"model_type": "mistral"}', encoding="utf-8")
    if config:
        named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **config}
        (folder / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    return folder


@pytest.fixture
def fast_folder(tmp_path, tiny_tokenizer_folder):
    """`fast_folder(template, **config)`: the tiny byte-level tokenizer with another template and configuration."""

    def make(template: str | None, **config: object) -> Path:
        folder = tmp_path / "fast"
        shutil.copytree(tiny_tokenizer_folder, folder)
        state = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")) | {"post_processor": None}
        tokenizer = Tokenizer.from_str(json.dumps(state))
        if template:
            tokenizer.post_processor = processors.TemplateProcessing(
                single=template, pair=f"{template} $B", special_tokens=[("<s>", 1), ("</s>", 2)]
            )
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps(
                {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **config}
            ),
            encoding="utf-8",
        )
        return folder

    return make


def added_by_transformers(folder: Path) -> tuple[bool, bool]:
    """Whether AutoTokenizer puts BOS before and EOS after a text by default."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ids = theirs("abc").input_ids
    return ids[0] == theirs.bos_token_id, ids[-1] == theirs.eos_token_id


@pytest.mark.parametrize("template", [None, "<s> $A", "<s> $A </s>", "$A </s>"])
@pytest.mark.parametrize("stated", [None, True, False])
def test_with_a_tokenizer_json_bos_is_what_auto_tokenizer_adds(fast_folder, template, stated):
    folder = fast_folder(template, **({} if stated is None else {"add_bos_token": stated}))
    ours = TextTokenizer.from_folder(folder)
    assert ours.default_add_bos == added_by_transformers(folder)[0] == ("<s>" in (template or ""))
    assert (ours.bos_id, ours.eos_id) == (1, 2)
    assert ours.default_add_eos  # whatever the template: the end of a document must be learnable


@pytest.mark.parametrize("stated", [True, False])
def test_with_a_sentencepiece_model_the_stated_key_decides_as_in_auto_tokenizer(tmp_path, stated):
    folder = sentencepiece_folder(tmp_path / "sp", add_bos_token=stated)
    ours = TextTokenizer.from_folder(folder)
    assert ours.default_add_bos == added_by_transformers(folder)[0] == stated
    assert (ours.bos_id, ours.eos_id, ours.vocabulary_size) == (1, 2, 32_000)


def test_a_bare_sentencepiece_model_gets_bos_as_its_model_was_trained(tmp_path):
    ours = TextTokenizer.from_folder(sentencepiece_folder(tmp_path / "sp"))
    assert (ours.default_add_bos, ours.default_add_eos, ours.bos_id, ours.eos_id) == (True, True, 1, 2)


def test_a_tokenizer_without_control_tokens_adds_none(fast_folder):
    folder = fast_folder(None, bos_token=None, eos_token=None)
    ours = TextTokenizer.from_folder(folder)
    assert (ours.bos_id, ours.eos_id, ours.default_add_bos, ours.default_add_eos) == (None, None, False, False)


def test_special_tokens_may_be_written_as_objects_and_in_either_file(fast_folder):
    folder = fast_folder("<s> $A")
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}', encoding="utf-8")
    (folder / "special_tokens_map.json").write_text('{"bos_token": "<s>"}', encoding="utf-8")
    ours = TextTokenizer.from_folder(folder)
    assert (ours.bos_id, ours.eos_id) == (1, 2)


@pytest.mark.parametrize("text", LITERALS)
@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_control_strings_in_a_text_stay_text(tmp_path, tiny_tokenizer_folder, kind, text):
    folder = tiny_tokenizer_folder if kind == "byte-level" else sentencepiece_folder(tmp_path / "sp")
    ours = TextTokenizer.from_folder(folder)
    ids = ours.encode(text)
    assert not {0, ours.bos_id, ours.eos_id} & set(ids)
    if text != "▁":  # SentencePiece's own sign for a space
        assert ours.decode(ids) == text


@settings(deadline=None, max_examples=80)
@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(LITERALS)), max_size=6))
def test_any_text_comes_back_and_batches_change_nothing(tokenizer, pieces):
    text = "".join(pieces)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_batch([text, "other", text])[::2] == [ids, ids]
    assert all(3 <= token < tokenizer.vocabulary_size for token in ids)


def test_ids_are_those_of_the_library_itself(tmp_path, make_texts):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = sentencepiece_folder(tmp_path / "sp")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    documents = make_texts(6)
    assert TextTokenizer.from_folder(folder).encode_batch(documents) == [theirs.encode(text) for text in documents]


def test_a_truncation_or_padding_left_in_the_file_cuts_nothing(fast_folder):
    folder = fast_folder("<s> $A")
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    whole = file.encode("river " * 50, add_special_tokens=False).ids
    file.enable_truncation(8)
    file.enable_padding(length=600)
    file.save(str(folder / "tokenizer.json"))
    assert TextTokenizer.from_folder(folder).encode("river " * 50) == whole


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_control_tokens_show_in_decoded_text_unless_skipped(tmp_path, tiny_tokenizer_folder, kind):
    folder = tiny_tokenizer_folder if kind == "byte-level" else sentencepiece_folder(tmp_path / "sp")
    ours = TextTokenizer.from_folder(folder)
    ids = [1, *ours.encode("a river"), 2, 1, *ours.encode("川"), 2]
    assert ours.decode(ids) == "<s>a river</s><s>川</s>"
    assert ours.decode(ids, skip_special=True).replace(" ", "") == "ariver川"
    assert (ours.piece(1), ours.piece(10**6)) == ("<s>", "<1000000>")


def test_the_fingerprint_follows_the_files_that_decide_ids(fast_folder):
    folder = fast_folder("<s> $A")
    before = TextTokenizer.from_folder(folder).fingerprint
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    (folder / "README.md").write_text("nothing", encoding="utf-8")
    same = TextTokenizer.from_folder(folder)
    assert same.fingerprint == before
    assert [path.name for path in same.files] == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert TextTokenizer.from_folder(folder).fingerprint != before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (None, b"", "no tokenizer.json and no tokenizer.model in this folder"),
        ("tokenizer.json", b"{", "not a tokenizer that the installed tokenizers library reads"),
        ("tokenizer.json", b"\x00\xff", "not a tokenizer"),
        ("tokenizer.model", b"not a protocol buffer", "not a SentencePiece model"),
        ("tokenizer_config.json", b"{", "not JSON"),
        ("tokenizer_config.json", b"[]", "not a JSON object"),
    ],
)
def test_files_that_are_no_tokenizer_are_named(tmp_path, name, content, said):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        TextTokenizer.from_folder(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
