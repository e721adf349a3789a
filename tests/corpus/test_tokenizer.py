"""Ids as the model's own libraries give them, control strings as text, BOS and EOS as the tokenizer does by default."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import ModelError

LITERALS = ["</s>", "<s>", "<unk>", "a</s>b", "<s><s>川</s>", "x <s> y", "</s></s>\n<s>", "<0x41>", "▁"]


SENTENCES = [
    "A river remembers the valley that it made, and the valley remembers the river.",
    "When 12 is divided by 4 the answer is 3, and 3 times 4 is 12 again.",
    "川は自分が作った谷を覚えていて、谷もまた川を覚えている。",
    "朝の市場では、魚と野菜の匂いが混ざり合い、人々の声が響いていた。",
]


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
    elsewhere = pickle.loads(pickle.dumps(ours.engine.opener()))()  # noqa: S301 - as it goes to another process
    assert elsewhere(text).tolist() == ids


@settings(deadline=None, max_examples=80)
@given(st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(LITERALS)), max_size=6))
def test_any_text_comes_back(tokenizer, pieces):
    text = "".join(pieces)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_array(text).tolist() == ids
    assert all(3 <= token < tokenizer.vocabulary_size for token in ids)


def test_ids_are_those_of_the_library_itself(tmp_path, make_texts):
    sentencepiece = pytest.importorskip("sentencepiece")
    folder = sentencepiece_folder(tmp_path / "sp")
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ours = TextTokenizer.from_folder(folder)
    for text in make_texts(6):
        assert ours.encode(text) == theirs.encode(text)


KINDS = ["byte-level", "byte-fallback", "unigram"]
CONTROL = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(kind)`: a folder whose tokenizer.json spells its control tokens by merges or pieces of its own, with
    added tokens outside the vocabulary: <|late|> is special, <|end|> is EOS and not special, <tool> is neither."""
    sentences = [f"{name} x{name}y" for name in CONTROL] * 40 + SENTENCES * 20

    def make(kind: str) -> Path:
        if kind == "byte-level":
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(
                vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
            )
        else:
            tokenizer = Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(unk_token="<unk>"))
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
            tokenizer.decoder = decoders.Sequence(
                [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            )
            trainer = (
                trainers.UnigramTrainer(
                    vocab_size=400, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"]
                )
                if kind == "unigram"
                else trainers.BpeTrainer(vocab_size=400, show_progress=False)
            )
        tokenizer.train_from_iterator(sentences, trainer)
        state = json.loads(tokenizer.to_str())
        _spell_control_tokens(state["model"], kind)
        state["added_tokens"] = []
        tokenizer = Tokenizer.from_str(json.dumps(state))
        tokenizer.add_special_tokens([*CONTROL, "<|late|>"])
        tokenizer.add_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<tool>", normalized=False)])
        folder = tmp_path_factory.mktemp(kind)
        tokenizer.save(str(folder / "tokenizer.json"))
        config = {"bos_token": "<s>", "eos_token": "<|end|>"}
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        return folder

    return make


def _spell_control_tokens(model: dict, kind: str) -> None:
    """Give the control tokens the first ids, and make each of them what the model finds where a text spells it."""
    if kind == "unigram":
        others = [[piece, score] for piece, score in model["vocab"] if piece not in CONTROL]
        letters = {letter for name in [*CONTROL, "|"] for letter in name} - {piece for piece, _ in others}
        others += [[letter, -20.0] for letter in sorted(letters)]
        model["vocab"] = [[name, 0.0] for name in CONTROL] + others
        model["unk_id"] = 0
        return
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)] if kind == "byte-fallback" else []
    pieces = [piece for piece in model["vocab"] if piece not in CONTROL]
    merges = [merge for merge in model["merges"] if "".join(merge) not in CONTROL]
    for name in CONTROL:
        for end in range(2, len(name) + 1):
            merge = [name[: end - 1], name[end - 1]]
            if merge not in merges:
                merges.append(merge)
        pieces += [name[:end] for end in range(1, len(name))] + list(name)
    model["vocab"] = {piece: token for token, piece in enumerate(dict.fromkeys([*CONTROL, *bytes_, *pieces]))}
    model["merges"] = merges
    model["byte_fallback"] = kind == "byte-fallback"


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_spells_a_control_token_of_any_kind_of_model(trained, kind):
    folder = trained(kind)
    ours, theirs = TextTokenizer.from_folder(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    control = {theirs.token_to_id(name) for name in [*CONTROL, "<|late|>", "<|end|>"]}
    assert (ours.bos_id, ours.eos_id) == (1, theirs.token_to_id("<|end|>"))
    for name in [*CONTROL, "<|late|>", "<|end|>"]:
        text = f"A river{name}remembers {name} {name}{name}"
        assert control & set(theirs.encode(text, add_special_tokens=False).ids)  # the library itself finds some
        assert not control & set(ours.encode(text)), name
        assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_ordinary_text_are_those_of_the_library_with_every_kind_of_model(trained, kind):
    folder = trained(kind)
    ours, theirs = TextTokenizer.from_folder(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in [*SENTENCES, "\n\n  two  spaces ", "s> </ <un pad", "a <tool> b", "文書<tool>", "?!é日本"]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    tool = theirs.token_to_id("<tool>")
    assert tool in ours.encode("a <tool> b")
    assert ours.vocabulary_size == theirs.get_vocab_size() == tool + 1


def added_folder(folder: Path, tables: str) -> Path:
    """A SentencePiece model with tokens added beside it, as chat models are published."""
    config = {"eos_token": "<|im_end|>"}
    if tables == "added_tokens_decoder":
        names = {0: "<unk>", 1: "<s>", 2: "</s>", 32000: "<|im_end|>"}
        plain = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        config[tables] = {str(token): {"content": name, "special": True, **plain} for token, name in names.items()}
    sentencepiece_folder(folder, **config)
    if tables == "added_tokens.json":
        (folder / tables).write_text('{"<|im_end|>": 32000}', encoding="utf-8")
    return folder


@pytest.mark.parametrize("tables", ["added_tokens_decoder", "added_tokens.json"])
def test_tokens_added_beside_a_sentencepiece_model_are_those_of_auto_tokenizer(tmp_path, tables):
    from transformers import AutoTokenizer

    folder = added_folder(tmp_path / "sp", tables)
    ours, theirs = TextTokenizer.from_folder(folder), AutoTokenizer.from_pretrained(folder)
    assert (ours.bos_id, ours.eos_id, ours.vocabulary_size) == (1, 32_000, 32_001)
    assert (theirs.bos_token_id, theirs.eos_token_id, len(theirs)) == (1, 32_000, 32_001)
    assert ours.piece(32_000) == theirs.convert_ids_to_tokens(32_000) == "<|im_end|>"
    ids = [1, *ours.encode("a river"), 32_000]
    assert ours.decode(ids) == "<s>a river<|im_end|>"
    assert ours.decode(ids, skip_special=True) == "a river"
    assert ours.decode([32_000]) == theirs.decode([32_000]) == "<|im_end|>"
    assert 32_000 not in ours.encode("a river<|im_end|>")


@pytest.mark.parametrize("key", ["bos_token", "eos_token"])
@pytest.mark.parametrize("kind", ["fast", "sentencepiece"])
def test_a_named_token_that_does_not_exist_is_an_error(tmp_path, fast_folder, kind, key):
    if kind == "fast":
        folder, file = fast_folder("<s> $A", **{key: "<|im_end|>"}), "tokenizer.json"
    else:
        folder, file = sentencepiece_folder(tmp_path / "sp", **{key: "<|im_end|>"}), "tokenizer.model"
    with pytest.raises(ModelError, match=rf"names '<\|im_end\|>' as {key}, which is no token of {file}; correct"):
        TextTokenizer.from_folder(folder)


def test_a_sentencepiece_model_has_no_token_that_its_configuration_rules_out(tmp_path):
    ours = TextTokenizer.from_folder(sentencepiece_folder(tmp_path / "sp", eos_token=None))
    assert (ours.bos_id, ours.eos_id, ours.default_add_eos) == (1, None, False)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer_config.json", '{"added_tokens_decoder": {"x": {"content": "a"}}}'),
     ("tokenizer_config.json", '{"added_tokens_decoder": {"5": "a"}}'),
     ("added_tokens.json", '{"a": "b"}'), ("added_tokens.json", "{")],
)  # fmt: skip
def test_a_table_of_added_tokens_that_is_none_is_named(tmp_path, name, content):
    folder = sentencepiece_folder(tmp_path / "sp")
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=rf"{name}: "):
        TextTokenizer.from_folder(folder)


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
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    for change in ({"chat_template": "{{ messages }}"}, {"model_max_length": 9}, {"eos_token": {"content": "</s>"}}):
        (folder / "tokenizer_config.json").write_text(json.dumps(config | change), encoding="utf-8")
        (folder / "vocab.json").write_text(json.dumps(change), encoding="utf-8")
        assert TextTokenizer.from_folder(folder).fingerprint == before
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<unk>"}), encoding="utf-8")
    assert TextTokenizer.from_folder(folder).fingerprint != before
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    path = folder / "tokenizer.json"
    path.write_bytes(path.read_bytes() + b" ")
    assert TextTokenizer.from_folder(folder).fingerprint != before


def test_the_fingerprint_of_a_sentencepiece_model_follows_its_added_tokens(tmp_path):
    folder = sentencepiece_folder(tmp_path / "sp")
    seen = {TextTokenizer.from_folder(folder).fingerprint}
    for change in ({"add_bos_token": False}, {"added_tokens_decoder": {"32000": {"content": "<x>", "special": True}}}):
        (folder / "tokenizer_config.json").write_text(json.dumps(change), encoding="utf-8")
        seen.add(TextTokenizer.from_folder(folder).fingerprint)
    assert len(seen) == 3
    (folder / "tokenizer_config.json").write_text(json.dumps(change | {"chat_template": "x"}), encoding="utf-8")
    assert TextTokenizer.from_folder(folder).fingerprint in seen


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


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"]
)
def test_a_file_of_a_gigabyte_is_refused_before_it_is_read(tmp_path, tiny_tokenizer_folder, name):
    folder = shutil.copytree(tiny_tokenizer_folder, tmp_path / "huge")
    if name == "tokenizer.model":
        (folder / "tokenizer.json").unlink()
    with (folder / name).open("wb") as file:
        file.truncate(1 << 30)  # takes no room
    with pytest.raises(ModelError, match=f"{name} has 1,074 MB; a tokenizer's file may have 268"):
        TextTokenizer.from_folder(folder)


def test_a_prefix_at_which_the_library_would_abort_is_named(tmp_path, tiny_tokenizer_folder):
    folder = shutil.copytree(tiny_tokenizer_folder, tmp_path / "prefix")
    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    state["model"]["continuing_subword_prefix"] = "/"
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(
        ModelError, match=r"tokenizer\.json: the merge .* second piece with the continuing_subword_prefix"
    ):
        TextTokenizer.from_folder(folder)
