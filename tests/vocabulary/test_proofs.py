"""Good extended tokenizers of both families pass every proof; each broken one is named by the proof that should."""

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from extended_tokenizers import (
    CHARACTERS,
    TEXTS,
    WORDS,
    add_merge,
    byte_level_base,
    edit_json,
    edit_model,
    extend_byte_level,
    extend_sentencepiece,
    read_json,
    sentencepiece_base,
    small_sentencepiece_base,
    spelled,
    write_config,
    write_fast,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, pre_tokenizers

from tsugiki.corpus.adversarial import adversarial_strings
from tsugiki.corpus.named_texts import Text
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.corpus.tokenizer_engines import open_engine
from tsugiki.errors import ModelError, StorageError
from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary import proofs as proofs_module
from tsugiki.vocabulary.loading_proofs import LineSample, prove_transformers
from tsugiki.vocabulary.piece_proofs import read_vocabulary
from tsugiki.vocabulary.proofs import Proof, TextProofs, prove

JAPANESE = TargetCharacters.of_language("ja")
NAMES = ["loads", "ids", "pieces", "self", "round trip", "identity", "engines", "template", "transformers"]
KINDS = ["sentencepiece", "sentencepiece, Mistral's own", "byte-level", "byte-level, words first"]
FIRST = 2_459
"""Id of the first new piece of "sentencepiece"."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    """A base and a good extension of it for each kind; not to be changed."""
    root = tmp_path_factory.mktemp("tokenizers")
    made = {}
    for kind in KINDS:
        if "sentencepiece" in kind:
            make = small_sentencepiece_base if kind == "sentencepiece" else sentencepiece_base
            base = make(root / f"base of {kind}")
            made[kind] = base, extend_sentencepiece(base, root / kind)
        else:
            base = byte_level_base(root / f"base of {kind}", ignore_merges="words" in kind)
            made[kind] = base, extend_byte_level(base, root / kind)
    return made


@pytest.fixture
def copy(folders, tmp_path) -> Callable[[str], tuple[Path, Path]]:
    """`copy(kind)`: a base, and a copy of its good extension that may be broken."""

    def make(kind: str) -> tuple[Path, Path]:
        base, good = folders[kind]
        shutil.copytree(good, tmp_path / "extended")
        return base, tmp_path / "extended"

    return make


def proofs_of(extended: Path, base: Path, texts: list[str] = TEXTS, target: TargetCharacters | None = JAPANESE):
    numbered = [Text(f"sample.jsonl:{number}", text) for number, text in enumerate(texts, 1)]
    return {proof.name: proof for proof in prove(extended, base, numbered, target=target)}


def failed(proofs: dict[str, Proof]) -> set[str]:
    assert all(proof.passed == (proof.failed == 0) == (not proof.examples) for proof in proofs.values())
    return {name for name, proof in proofs.items() if not proof.passed}


def said(proof: Proof) -> str:
    return "\n".join([proof.summary, *proof.examples])


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_extension_passes_every_proof(folders, long_strings, kind):
    require_all_passed(*folders[kind], JAPANESE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_extension_passes_where_the_target_is_inferred(folders, kind):
    require_all_passed(*folders[kind], None)


def require_all_passed(base: Path, extended: Path, target: TargetCharacters | None) -> None:
    proofs = proofs_of(extended, base, target=target)
    assert list(proofs) == NAMES
    assert failed(proofs) == set()
    own, old = engines_of(extended), engines_of(base)
    assert proofs["pieces"].checked == proofs["self"].checked == own[0].vocabulary_size - old[0].vocabulary_size > 10
    assert proofs["engines"].checked > 100 if len(own) == 2 else proofs["engines"].checked == 0


def test_each_line_without_target_characters_is_compared_wherever_it_stands(folders):
    base, extended = folders["byte-level"]
    none = proofs_of(extended, base, [])["identity"].checked
    assert (
        proofs_of(extended, base, TEXTS)["identity"].checked - none == 2 + 2 + 1
    )  # whole texts, and lines of two others


@pytest.mark.parametrize("target", [TargetCharacters(["cyrillic"]), None], ids=["cyrillic", "inferred"])
def test_pieces_of_spaced_words_may_begin_with_the_mark_of_the_space(folders, tmp_path, target):
    base, _ = folders["sentencepiece"]
    extended = extend_sentencepiece(base, tmp_path / "extended", ["ыы", "▁ыы", "▁ыыы"])
    texts = ["река ыыы ыы выы, ыыыы", "the river", "ыы"]
    proofs = proofs_of(extended, base, texts, target)
    assert failed(proofs) == set()
    assert open_engine(extended / "tokenizer.model").encode("ыыы").tolist() == [FIRST + 2]
    inside = extend_sentencepiece(base, tmp_path / "inside", ["ыы", "ы▁", "▁▁ы"])
    assert f"'▁▁ы' (id {FIRST + 2:,}) holds '▁'" in said(proofs_of(inside, base, texts, target)["pieces"])


# --- the SentencePiece family, broken -------------------------------------------------------------------------------


def new_pieces(extended: Path, base: Path) -> list[str]:
    tokenizer, size = TextTokenizer.from_folder(extended), TextTokenizer.from_folder(base).vocabulary_size
    return [tokenizer.piece(token) for token in range(size, tokenizer.vocabulary_size)]


@pytest.mark.parametrize("normalized", [False, True])
def test_pieces_as_added_tokens(folders, tmp_path, normalized):
    base, good = folders["sentencepiece"]
    extended = tmp_path / "extended"
    shutil.copytree(base, extended)
    write_fast(extended)
    write_config(extended, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer = Tokenizer.from_file(str(extended / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken(piece, normalized=normalized) for piece in new_pieces(good, base)])
    tokenizer.save(str(extended / "tokenizer.json"))
    (extended / "tokenizer.model").unlink()
    proofs = proofs_of(extended, base)
    # What lies between two of them is normalised by itself, and gets a space.
    assert failed(proofs) == ({"pieces"} if normalized else {"pieces", "round trip"})
    assert f"'瓜' (id {FIRST + 1:,}) is an added token" in said(proofs["pieces"])
    assert "added token" in said(proofs["pieces"])
    assert proofs["pieces"].failed == len(new_pieces(good, base))
    assert normalized or "sample.jsonl:1: " in said(proofs["round trip"])


def test_a_character_that_is_no_piece(folders, tmp_path):
    base, _ = folders["sentencepiece"]
    pieces = [piece for piece in (*CHARACTERS, *WORDS) if piece != "瞭"]
    extended = extend_sentencepiece(base, tmp_path / "extended", pieces)
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"pieces", "self", "engines"}
    assert "'瞭' is no piece" in said(proofs["pieces"])
    assert proofs["pieces"].failed == proofs["self"].failed == 1
    assert "覚瞭" in said(proofs["self"])
    assert "tokenizer.json" in said(proofs["self"])
    assert "sample.jsonl:3" in said(proofs["engines"])


@pytest.mark.parametrize("step", [0, 1])
def test_scores_above_the_base(folders, tmp_path, step):
    base, good = folders["sentencepiece"]
    pieces = new_pieces(good, base)
    extended = extend_sentencepiece(base, tmp_path / "extended", pieces, [0.0 - step * n for n in range(len(pieces))])
    proofs = proofs_of(extended, base)
    # Where all scores are equal, SentencePiece merges from left to right and tokenizers by rank.
    assert failed(proofs) == ({"pieces"} if step else {"pieces", "engines"})
    assert proofs["pieces"].failed == len(pieces)
    assert "score 0, expected below -29,645" in said(proofs["pieces"])


def swap(first: str, second: str) -> Callable[[dict], None]:
    def edit(state: dict) -> None:
        vocabulary = state["model"]["vocab"]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
        for token in state["added_tokens"]:
            token["id"] = vocabulary[token["content"]]
        state["added_tokens"].sort(key=lambda token: token["id"])

    return edit


def test_control_tokens_that_moved(copy):
    base, extended = copy("sentencepiece")
    edit_json(extended, swap("<s>", "</s>"))
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"ids", "template"}  # the template still names the old id
    assert "tokenizer.json: id 1 is '</s>', expected '<s>'" in said(proofs["ids"])


def test_control_tokens_that_became_ordinary(copy):
    base, extended = copy("sentencepiece")
    edit_model(extended, lambda model: setattr(model.pieces[2], "type", model.pieces[2].NORMAL))
    proofs = proofs_of(extended, base)
    assert "ids" in failed(proofs)
    assert "tokenizer.model: '</s>' (id 2) is marked as ordinary" in said(proofs["ids"])


def test_merges_in_the_order_of_ids(copy):
    base, extended = copy("sentencepiece")
    write_fast(extended, by="id")
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"engines", "identity"}
    assert "tokenizer.json" in said(proofs["identity"])


def test_metaspace_instead_of_prepend(copy):
    base, extended = copy("sentencepiece")
    tokenizer = Tokenizer.from_file(str(extended / "tokenizer.json"))
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.save(str(extended / "tokenizer.json"))
    proofs = proofs_of(extended, base)
    assert {"engines", "identity"} <= failed(proofs) <= {"engines", "identity", "round trip"}
    assert "sample.jsonl:5" in said(proofs["engines"])  # begins with a space


def test_a_folder_saved_anew_by_transformers_5(copy):
    from transformers import AutoTokenizer

    base, extended = copy("sentencepiece")
    saved = extended.parent / "saved"
    AutoTokenizer.from_pretrained(extended).save_pretrained(saved)
    proofs = proofs_of(saved, base)
    assert failed(proofs) == {"transformers"}
    assert "re-saved class: transformers 4 cannot load it; copy the files instead" in proofs["transformers"].summary


def test_the_llama_class_where_it_builds_a_tokenizer_of_its_own(copy):
    base, extended = copy("sentencepiece")
    write_config(extended, tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    (extended / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"transformers"}
    assert "tokenizer_class LlamaTokenizer" in proofs["transformers"].summary


@pytest.mark.parametrize("target", [JAPANESE, None], ids=["japanese", "inferred"])
@pytest.mark.parametrize("piece", ["ñð", "12", "日ñ", "ыы"])
def test_pieces_with_characters_of_other_text(folders, tmp_path, piece, target):
    base, _ = folders["sentencepiece"]
    extended = extend_sentencepiece(base, tmp_path / "extended", ["輩", "吾", piece, "吾輩"])
    proofs = proofs_of(extended, base, [*TEXTS, f"some {piece} here"], target)
    if piece == "ыы" and target is None:
        assert failed(proofs) == set()  # Cyrillic is then one of its scripts
        assert "cyrillic" in proofs["identity"].summary
        return
    never_alone = {"identity"} if "日" not in piece else set()
    assert failed(proofs) == {"pieces"} | never_alone
    assert f"{piece!r} (id {FIRST + 2:,}) holds" in said(proofs["pieces"])
    assert not never_alone or "sample.jsonl:7" in said(proofs["identity"])


def test_a_piece_that_no_merge_makes(copy):
    base, extended = copy("sentencepiece")
    edit_json(extended, lambda state: state["model"]["merges"].remove(["吾", "輩"]))
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"self", "engines"}
    assert "'吾輩'" in said(proofs["self"])
    assert "▁ 吾 輩 by tokenizer.json" in said(proofs["self"])


def test_a_piece_of_the_base_once_more(copy):
    base, extended = copy("sentencepiece")
    edit_model(extended, lambda model: model.pieces.add(piece="▁the", score=-40_000))
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"loads", "ids", "pieces"} == set(proofs)
    assert "'▁the' has the ids 272 and 2,473" in said(proofs["ids"])
    assert "is also the base's" in said(proofs["pieces"])


def test_files_that_disagree(copy):
    base, extended = copy("sentencepiece")
    edit_json(extended, swap("吾", "猫"))
    proofs = proofs_of(extended, base)
    assert "engines" in failed(proofs)
    assert "in tokenizer.model and" in said(proofs["ids"])
    assert not {"round trip", "identity", "template"} & failed(proofs)


def test_a_template_without_bos(copy):
    base, extended = copy("sentencepiece")
    edit_json(extended, lambda state: state.update(post_processor=None))
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"template"}
    assert "a text comes as …, expected <s> …" in said(proofs["template"])


def test_pieces_that_a_model_finds_before_it_merges(copy):
    base, extended = copy("sentencepiece")
    edit_model(extended, lambda model: setattr(model.pieces[-1], "type", model.pieces[-1].USER_DEFINED))
    assert "pieces" in failed(proofs_of(extended, base))


# --- the byte-level family, broken ----------------------------------------------------------------------------------


def change(edit: Callable[[dict], None]) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder, lambda state: edit(state["model"]))


def add_piece(model: dict, left: str, right: str) -> None:
    model["merges"].append([left, right])
    model["vocab"][left + right] = max(model["vocab"].values()) + 1


def leave_a_gap(model: dict) -> None:
    model["vocab"][max(model["vocab"], key=model["vocab"].get)] += 1


BROKEN = {
    "gap": (change(leave_a_gap), {"ids", "transformers"}, "without a piece"),
    "moved": (lambda folder: edit_json(folder, swap(spelled("ある"), "<|end|>")), {"ids"}, "expected '<|end|>'"),
    "no merge": (change(lambda model: model["merges"].remove([spelled("あ"), spelled("る")])), {"self"}, "'ある'"),
    "merges reversed": (change(lambda model: model["merges"].reverse()), {"pieces", "identity"}, "in another order"),
    "Latin": (change(lambda model: add_merge(model, "qz", 1)), {"pieces", "identity"}, "'qz'"),
    "digits": (change(lambda model: add_merge(model, "46", 1)), {"pieces", "identity"}, "'46'"),
    "shared first bytes": (change(lambda model: add_merge(model, "“", 2)), {"pieces", "identity"}, "E2 80"),
    "last bytes": (
        change(lambda model: add_piece(model, spelled("輩")[1], spelled("輩")[2])),
        {"pieces"},
        "BC A9 (id 409) begins inside a character",
    ),
    "a character and a part": (
        change(lambda model: add_piece(model, spelled("猫"), spelled("吾")[:2])),
        {"pieces"},
        "E7 8C AB E5 90 (id 409) holds part of a character",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_byte_level_tokenizers(copy, name):
    base, extended = copy("byte-level")
    spoil, expected, named = BROKEN[name]
    spoil(extended)
    proofs = proofs_of(extended, base, [*TEXTS, "qz “quoted” 46"])
    assert failed(proofs) == expected
    assert any(named in said(proofs[proof]) for proof in expected)


def test_words_that_are_looked_up_whole_are_also_made_by_merges(copy):
    """With `ignore_merges` a piece without merges is found where it is a whole word, and nowhere else."""
    base, extended = copy("byte-level, words first")

    def edit(state: dict) -> None:
        state["model"]["merges"].remove([spelled("で"), spelled("ある")])

    edit_json(extended, edit)
    assert open_engine(extended / "tokenizer.json").encode("である").size == 1
    proofs = proofs_of(extended, base)
    assert failed(proofs) == {"self"}
    assert "by merges alone" in said(proofs["self"])


def test_a_folder_without_a_tokenizer_is_named(folders, tmp_path):
    base, extended = folders["byte-level"]
    with pytest.raises(ModelError, match="no tokenizer"):
        prove(extended, tmp_path, [])
    with pytest.raises(ModelError, match="no tokenizer"):
        prove(tmp_path, base, [])


def test_a_disk_that_refuses_a_file_is_no_fault_of_the_tokenizer(folders, monkeypatch):
    _, folder = folders["sentencepiece"]
    path = folder / "tokenizer.json"
    engine = open_engine(path)

    def refusing(file, *_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

    reads = [
        (builtins, lambda: prove_transformers(folder, engine, ["a"], [])),  # transformers' own
        (io, lambda: open_engine(path)),  # of tokenizer_config.json
        (io, lambda: read_vocabulary(path, {})),
        (io, lambda: read_vocabulary(folder / "tokenizer.model", {})),
    ]
    for module, read in reads:
        read()
        with monkeypatch.context() as patch:
            patch.setattr(module, "open", refusing)
            with pytest.raises(StorageError, match="the disk reported an input/output error"):
                read()


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
            st.sampled_from([*CHARACTERS, *WORDS, "\u3099", " ", "\n", "</s>", "<|end|>", "the river", "\ufe0f"]),
        ),
        max_size=8,
    )
)
def test_any_text_comes_back_and_is_as_it_was(folders, kind, data):
    base, extended = folders[kind]
    text = "".join(data)
    proofs = TextProofs(engines_of(extended), engines_of(base)[0], JAPANESE)
    proofs.check([Text("any:1", text)])
    assert {proof.name for proof in proofs.proofs() if not proof.passed} == set()


ENGINES: dict[Path, list] = {}


def engines_of(folder: Path) -> list:
    if folder not in ENGINES:
        names = ("tokenizer.model", "tokenizer.json")
        ENGINES[folder] = [open_engine(folder / name) for name in names if (folder / name).exists()]
    return ENGINES[folder]


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.text("アイウ川谷山朝の", min_size=1, max_size=4), min_size=1, max_size=6, unique=True))
def test_any_words_grafted_letter_by_letter_pass(folders, tmp_path_factory, words):
    base, _ = folders["byte-level"]
    merges = [(letter, cut) for letter in dict.fromkeys("".join(words)) for cut in (2, 3)]
    known = {letter for letter, _ in merges}
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in known:
                known.add(word[:end])
                merges.append((word[:end], 3 * (end - 1)))
    extended = extend_byte_level(base, tmp_path_factory.mktemp("words") / "extended", merges)
    proofs = proofs_of(extended, base, [*TEXTS, "。".join(words)])
    # A merge made earlier may take a word's letters; the word then never forms.
    pieces = new_pieces(extended, base)
    ranks = {tuple(merge): rank for rank, merge in enumerate(read_json(extended)["model"]["merges"])}
    never = [piece for piece in pieces if merged_by_hand(piece, ranks) != [piece]]
    assert failed(proofs) == ({"self"} if never else set())
    assert proofs["pieces"].checked == len(pieces)
    assert len({example.split(" comes ")[0] for example in proofs["self"].examples}) == min(len(never), 4)


def merged_by_hand(letters: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding as it is defined: the earliest merge that applies, leftmost first, until none does."""
    parts = list(letters)
    while pairs := [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]:
        at = min(pairs)[1]
        parts[at : at + 2] = ["".join(parts[at : at + 2])]
    return parts


def test_texts_of_every_chunk_count(copy, monkeypatch):
    base, extended = copy("byte-level")
    edit_json(extended, lambda state: add_merge(state["model"], "qz", 1))
    texts = ["qz", "the river", "川", "qz", "a", "qz"]
    whole = proofs_of(extended, base, texts)
    monkeypatch.setattr(proofs_module, "CHUNK", 5)
    assert proofs_of(extended, base, texts) == whole
    assert [example.split(":")[1] for example in whole["identity"].examples[:3]] == ["1", "4", "6"]


def test_code_points_that_are_no_characters_may_share_the_first_bytes_of_a_target(folders):
    """U+3040 is not assigned, and begins as hiragana do. What stands around it must be as it was all the same."""
    base, extended = folders["byte-level"]
    text = "the \u3040 river"
    before, after = (open_engine(folder / "tokenizer.json").encode(text).tolist() for folder in (base, extended))
    assert before != after
    assert not failed(proofs_of(extended, base, [text]))


def test_text_around_unassigned_code_points_is_compared(copy):
    base, extended = copy("byte-level")
    edit_json(extended, lambda state: add_merge(state["model"], "qz", 1))
    assert "identity" in failed(proofs_of(extended, base, ["the \u3040 qz"]))


def test_adversarial_strings_have_names_and_every_control_token(long_strings):
    strings = dict(adversarial_strings(["<s>", "<pad>"]))
    assert len(strings) == len(list(adversarial_strings(["<s>", "<pad>"]))) > 100
    assert max(map(len, strings.values())) >= 99_000
    assert all(any(token in text for text in strings.values()) for token in ("<s>", "<pad>", "\0", "\ufeff", "\r\n"))
    assert all(" " * count in strings[f"{count} spaces"] for count in range(1, 41))
    "".join(strings.values()).encode()  # no lone surrogate


def test_the_lines_for_transformers_come_from_all_texts():
    sample = LineSample(documents=50, lines=2)
    for number in range(1_000):
        sample.offer(f"{number}\n\n  \nline\nno more")
    lines = sample.lines()
    assert len(lines) == 100
    numbers = [int(line) for line in lines[::2]]
    assert lines[1::2] == ["line"] * 50
    assert min(numbers) < 200
    assert max(numbers) > 800
