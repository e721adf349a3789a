"""What an extension brought: against counts one by one, whole models, and a mixture carried out."""

import json
import unicodedata
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from extended_tokenizers import ADDED, ENGLISH, JAPANESE, PAIRS, byte_level_pair, sentencepiece_pair, spelled

from tsugiki.scripts import TargetCharacters
from tsugiki.vocabulary.fertility import Fertility
from tsugiki.vocabulary.gains import Change, ModelSize, VocabularyReport, build_report, cover, of_one_token

TARGET = TargetCharacters.of_language("ja")


@pytest.fixture(scope="module", params=list(PAIRS))
def pair(request, tmp_path_factory):
    return PAIRS[request.param](tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def report(pair):
    samples = {"ja": iter(JAPANESE), "en": iter(ENGLISH), "empty": iter([""])}
    return build_report(*pair, samples, {"ja": iter(["川は響く。"])}, TARGET, {"ja": 3, "en": 1})


def has_own_piece(tokenizer, character: str) -> bool:
    """By a look into the vocabulary."""
    if tokenizer.engine.path.name == "tokenizer.json":
        return tokenizer.engine.token_id(spelled(character)) is not None
    return tokenizer.engine.token_id(character) is not None


def test_changes_by_source(pair, report):
    base, extended = pair
    assert list(report.sample) == ["ja", "en"]  # what holds no text is left out
    for name, texts in (("ja", JAPANESE), ("en", ENGLISH)):
        change = report.sample[name]
        assert change.before.tokens == sum(len(base.encode(text)) for text in texts)
        assert change.after.tokens == sum(len(extended.encode(text)) for text in texts)
        assert change.before.characters == change.after.characters == sum(map(len, texts))
        assert change.ratio == change.after.tokens / change.before.tokens == 1 - change.saved
    assert report.sample["ja"].ratio < 1
    assert report.sample["en"].ratio == 1
    assert report.held_out["ja"].after.tokens == len(extended.encode("川は響く。"))
    assert report.judged == {"ja": report.held_out["ja"], "en": report.sample["en"]}


def test_new_pieces_most_used_and_never_used(pair, report):
    base, extended = pair
    uses = Counter(token for text in [*JAPANESE, *ENGLISH] for token in extended.encode(text))
    new = range(base.vocabulary_size, extended.vocabulary_size)
    assert report.new_pieces == len(new)
    expected = sorted((token for token in new if uses[token]), key=lambda token: (-uses[token], token))
    assert [(piece.id, piece.uses) for piece in report.most_used] == [(token, uses[token]) for token in expected]
    never = [token for token in new if not uses[token]]
    assert report.unused == len(never) > 0
    assert [piece.id for piece in report.first_unused] == never
    shown = {piece.text for piece in [*report.most_used, *report.first_unused]}
    assert len(shown) == len(new)
    assert "鬱" in {piece.text for piece in report.first_unused}


def test_only_the_first_pieces_are_named(pair, monkeypatch):
    monkeypatch.setattr("tsugiki.vocabulary.gains.PIECES_NAMED", 2)
    report = build_report(*pair, {"ja": JAPANESE}, {}, TARGET, {})
    assert len(report.most_used) == len(report.first_unused) == 2 < report.unused


def test_coverage_by_script(pair, report):
    base, extended = pair
    text = "".join(JAPANESE)
    kinds = {
        "hiragana": [c for c in text if unicodedata.name(c, "").startswith("HIRAGANA")],
        "katakana": [c for c in text if unicodedata.name(c, "").startswith("KATAKANA")],
        "han": [c for c in text if unicodedata.name(c, "").startswith("CJK UNIFIED") or c == "々"],
        "marks": [c for c in text if c in "、。"],
    }
    assert [coverage.script for coverage in report.sample_coverage] == list(kinds)
    for coverage in report.sample_coverage:
        characters = kinds[coverage.script]
        assert (coverage.occurrences, coverage.distinct) == (len(characters), len(set(characters)))
        for tokenizer, occurrences, distinct in (
            (base, coverage.occurrences_before, coverage.distinct_before),
            (extended, coverage.occurrences_after, coverage.distinct_after),
        ):
            known = [c for c in characters if has_own_piece(tokenizer, c)]
            assert (occurrences, distinct) == (len(known), len(set(known)))
    assert [coverage.script for coverage in report.held_out_coverage] == ["hiragana", "han", "marks"]


def test_letter_of_several_scripts_counts_in_each(pair):
    coverages = {coverage.script: coverage for coverage in cover(*pair, TARGET, {"ー": 3, "x": 7, "Ａ": 2})}
    assert coverages.keys() == {"hiragana", "katakana", "marks"}
    assert coverages["hiragana"].occurrences == coverages["katakana"].occurrences == 3
    assert coverages["marks"].occurrences == 2


def test_characters_of_one_token_in_the_real_vocabulary(tmp_path):
    base, extended = sentencepiece_pair(tmp_path)
    characters = {chr(code) for code in [*range(0x3041, 0x3100), *range(0x4E00, 0x5200)]} | set("".join(ADDED))
    for tokenizer in (base, extended):
        assert of_one_token(tokenizer, characters) == {each for each in characters if has_own_piece(tokenizer, each)}
    assert of_one_token(base, "鬱") == set()
    assert of_one_token(extended, "鬱") == {"鬱"}


def test_token_for_the_unknown_is_no_character(tmp_path):
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"<unk>": 0, "\n": 1, "川": 2}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    from tsugiki.corpus.tokenizer import TextTokenizer

    folder = TextTokenizer.from_folder(tmp_path)
    assert len(folder.encode("谷")) == 1
    assert of_one_token(folder, "川谷") == {"川"}


def test_character_replaced_by_its_equivalent_is_judged_by_that(tmp_path):
    from tokenizers import Tokenizer, normalizers

    from tsugiki.corpus.tokenizer import TextTokenizer

    _, extended = byte_level_pair(tmp_path)
    tokenizer = Tokenizer.from_file(str(extended.engine.path))
    tokenizer.normalizer = normalizers.NFC()
    (tmp_path / "nfc").mkdir()
    tokenizer.save(str(tmp_path / "nfc" / "tokenizer.json"))
    compatibility = "\ufa10"  # its canonical form is U+585A
    assert of_one_token(TextTokenizer.from_folder(tmp_path / "nfc"), compatibility) == set()
    vocabulary = json.loads(tokenizer.to_str())
    first, second, third = spelled("\u585a")
    for left, right in ((first, second), (first + second, third)):
        vocabulary["model"]["vocab"].setdefault(left + right, len(vocabulary["model"]["vocab"]))
        vocabulary["model"]["merges"].append([left, right])
    (tmp_path / "nfc" / "tokenizer.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    assert of_one_token(TextTokenizer.from_folder(tmp_path / "nfc"), compatibility) == {compatibility}


def change(before: int, after: int) -> Change:
    return Change(Fertility(before, 100, 300, 1), Fertility(after, 100, 300, 1))


def facts(**changes) -> VocabularyReport:
    empty = {"sample": {}, "held_out": {}, "weights": {}, "sample_coverage": [], "held_out_coverage": []}
    pieces = {"most_used": [], "unused": 0, "first_unused": []}
    return VocabularyReport(size_before=10, size_after=20, **{**empty, **pieces, **changes})


def test_ratio_of_a_mixture_is_that_of_its_text():
    ratios = {"ja": Fraction(1, 2), "en": Fraction(1), "code": Fraction(9, 10)}
    weights = {"ja": 60, "en": 30, "code": 10, "watched": 0}
    # 100 new tokens drawn by weight: their text took the base this many.
    before = sum(weights[name] / ratio for name, ratio in ratios.items())
    report = facts(
        sample={name: change(1000, 900) for name in ratios},
        held_out={name: change(1000, int(1000 * ratio)) for name, ratio in ratios.items()},
        weights=weights,
    )
    assert report.mixture_ratio == pytest.approx(float(100 / before))


def test_mixture_with_an_unmeasured_source_has_no_ratio():
    assert facts(sample={"ja": change(2, 1)}, weights={"ja": 1, "en": 1}).mixture_ratio is None
    assert facts(sample={"ja": change(2, 1)}, weights={}).mixture_ratio is None
    assert facts(sample={"ja": change(2, 1)}, weights={"ja": 1, "en": 0}).mixture_ratio == 0.5


@pytest.mark.parametrize("name", ["mistral", "mistral-tied", "llama", "qwen3", "mixtral"])
def test_parameters_and_flops_are_those_of_the_models(tiny_config, name):
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from tsugiki.training.flops import flops_per_token

    def model_of(rows: int):
        values = tiny_config(name, vocab_size=rows)
        return AutoModelForCausalLM.from_config(CONFIG_MAPPING[values["model_type"]].from_dict(values))

    before, after = model_of(101), model_of(128)
    tied = before.config.tie_word_embeddings
    flops = [flops_per_token(model, sequence_length=0) for model in (before, after)]
    visited = round(flops[0] / 6) + (0 if tied else 101 * 16)  # what else there is multiplies no token
    size = ModelSize(101, 128, 16, tied, visited)
    assert size.added_parameters == after.num_parameters() - before.num_parameters()
    assert [size.flops_before, size.flops_after] == pytest.approx(flops)
    assert size.flops_ratio == pytest.approx(flops[1] / flops[0])
    if name != "mixtral":  # parameters counted from the model, norms left out
        assert visited == sum(parameter.numel() for parameter in before.parameters() if parameter.ndim > 1)


def test_without_parameters_there_are_no_flops():
    size = ModelSize(32_000, 42_880, 4096, False)
    assert size.added_parameters == 10_880 * 4096 * 2
    assert size.flops_before is size.flops_after is size.flops_ratio is None


def test_json_holds_all_of_it(report, pair):
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["vocabulary_size"] == {"before": pair[0].vocabulary_size, "after": pair[1].vocabulary_size}
    assert value["sample"]["ja"]["tokens_ratio"] == report.sample["ja"].ratio
    assert value["held_out"]["ja"]["after"]["tokens"] == report.held_out["ja"].after.tokens
    assert value["mixture_tokens_ratio"] == pytest.approx(4 / (3 / report.judged["ja"].ratio + 1))
    assert len(value["most_used"]) + value["unused"]["count"] == report.new_pieces
    assert value["single_characters"]["sample"][0]["script"] == "hiragana"
    assert value["model"] is None
    assert np.isclose(value["sample"]["en"]["before"]["bytes_per_token"], report.sample["en"].before.bytes_per_token)
