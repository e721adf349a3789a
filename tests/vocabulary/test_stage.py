"""The stage as a whole, in its own process: what it makes, and that whatever breaks it off leaves nothing half-made."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from extension_project import FAMILIES, IDS, ROWS, extension_recipe, make_base, texts_of

from tsugiki.corpus.held_out import is_held_out
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, ModelError, RecipeError, StorageError, TsugikiError
from tsugiki.pipeline import run_vocabulary
from tsugiki.recipe import Recipe
from tsugiki.recipe_file import parse_recipe
from tsugiki.recipe_vocabulary import VocabularySection
from tsugiki.vocabulary import report, stage
from tsugiki.vocabulary.made_from import is_made
from tsugiki.vocabulary.piece_proofs import Proof
from tsugiki.vocabulary.resize import ResizeFacts, resize_model


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_model_folder) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stage")
    return {family: make_base(folder / family, family, tiny_model_folder) for family in FAMILIES}


@pytest.fixture
def recipe_of(tmp_path, bases):
    """recipe_of("qwen3", vocabulary={"add": 100}): the tiny recipe with keys of sections changed."""

    def make(family: str = "qwen3", **changes: Any) -> Recipe:
        values = extension_recipe(tmp_path, bases[family])
        for section, keys in changes.items():
            values[section] = values[section] | keys if isinstance(keys, dict) else keys
        return parse_recipe(yaml.safe_dump(values))

    return make


@pytest.fixture
def unproved(monkeypatch):
    """Without the proofs and the chart, which have tests of their own and take most of the time."""
    monkeypatch.setattr(stage, "prove", lambda *_, **__: [Proof("self", True, 1, 0, "all", ())])
    monkeypatch.setattr(report, "plot", lambda _, path: path)


def silent(_text: str) -> None:
    return


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def pieces_of(recipe: Recipe) -> dict[str, int]:
    return json.loads((recipe.vocabulary_dir / "model/tokenizer.json").read_text("utf-8"))["model"]["vocab"]


@pytest.mark.usefixtures("unproved")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_recipe_gives_the_same_files_and_another_seed_other_rows(recipe_of, tmp_path, family):
    made = [recipe_of(family, run_dir=str(tmp_path / name), seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    for recipe in made:
        assert run_vocabulary(recipe, silent) is not None
    first, same, other = (contents(recipe.vocabulary_dir / "model") for recipe in made)
    assert first == same
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


@pytest.mark.usefixtures("unproved")
def test_a_second_call_does_nothing(recipe_of):
    recipe, said = recipe_of(), []
    run_vocabulary(recipe, silent)
    before = {path: path.stat().st_mtime_ns for path in recipe.vocabulary_dir.rglob("*")}
    assert run_vocabulary(recipe, said.append) is None
    assert said == [f"vocabulary {recipe.vocabulary_dir} is up to date"]
    assert {path: path.stat().st_mtime_ns for path in recipe.vocabulary_dir.rglob("*")} == before


FAILED = [
    Proof("self", False, 200, 2, "2 of 200 new pieces that never form", ("id 390 '川は' comes as 川 は",)),
    Proof("round trip", False, 9, 1, "1 of 9 texts", ("ja.jsonl:17: '川' expected '谷'",)),
]


def failing(name: str, monkeypatch: pytest.MonkeyPatch) -> type[BaseException]:
    """Break the stage at one place; returns what comes of it."""

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    if name == "prove":
        monkeypatch.setattr(stage, "prove", lambda *_, **__: FAILED)
        return TsugikiError
    if name == "interrupt":
        monkeypatch.setattr(stage, "build_report", interrupt)
        return KeyboardInterrupt
    monkeypatch.setattr(stage, name, full)
    return StorageError


BREAKS = ["prove", "write_tokenizer", "build_report", "write_report", "interrupt"]


@pytest.mark.usefixtures("unproved")
def test_what_breaks_the_stage_off_leaves_nothing_and_an_earlier_model_as_it_was(recipe_of):
    def break_off(recipe: Recipe, place: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            expected = failing(place, patch)
            with pytest.raises(expected):
                run_vocabulary(recipe, silent)

    recipe, larger = recipe_of(), recipe_of(vocabulary={"add": 300})
    for place in BREAKS:
        break_off(recipe, place)
        assert [path.name for path in recipe.run_dir.iterdir()] == [], place
    run_vocabulary(recipe, silent)
    before = contents(recipe.vocabulary_dir)
    for place in BREAKS:
        break_off(larger, place)
        assert contents(recipe.vocabulary_dir) == before, place
        assert is_made(recipe), place
        assert not is_made(larger), place
    assert run_vocabulary(larger, silent) is not None
    assert len(pieces_of(larger)) == 704


def test_a_failed_proof_names_pieces_and_lines(recipe_of, monkeypatch):
    failing("prove", monkeypatch)
    with pytest.raises(TsugikiError) as failed:
        run_vocabulary(recipe_of(), silent)
    assert str(failed.value) == (
        "the extended tokenizer is not exact, and is not used:\n"
        "  self: 2 of 200 new pieces that never form\n    id 390 '川は' comes as 川 は\n"
        "  round trip: 1 of 9 texts\n    ja.jsonl:17: '川' expected '谷'"
    )


@pytest.mark.parametrize("name", ["model/weights.bin", "manifest.json", "notes.txt"])
def test_a_folder_of_somebody_else_is_not_replaced(recipe_of, tmp_path, unproved, name):
    path = tmp_path / "theirs" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    recipe = recipe_of(vocabulary={"output_dir": str(tmp_path / "theirs")})
    with pytest.raises(StorageError, match="was not written by this stage"):
        run_vocabulary(recipe, silent)
    assert contents(tmp_path / "theirs") == {name: b"{}"}


def test_a_folder_that_cannot_be_written_is_one_message(recipe_of, tmp_path, unproved):
    (tmp_path / "file").write_text("")
    recipe = recipe_of()
    recipe = recipe.model_copy(
        update={"vocabulary": recipe.vocabulary.model_copy(update={"output_dir": tmp_path / "file/below"})}
    )
    with pytest.raises(StorageError, match="file: a file of this name is in the way"):
        run_vocabulary(recipe, silent)


@pytest.mark.usefixtures("unproved")
def test_pieces_are_learned_from_what_is_named_and_from_nothing_held_out(recipe_of, tmp_path, monkeypatch):
    learned: list[str] = []
    learn = stage.learn

    def watched(base: Any, texts: list[str], kept: list[str], *arguments: Any, **keys: Any) -> Any:
        learned[:] = [*texts, *kept]
        return learn(base, texts, kept, *arguments, **keys)

    monkeypatch.setattr(stage, "learn", watched)
    japanese = texts_of("ja")
    book = next(book for count in range(50, 60) if not is_held_out((book := "".join(japanese[:count])).encode(), 0.3))
    run_vocabulary(recipe_of(), silent)
    expected = [text for text in japanese if not is_held_out(text.encode(), 0.3)]
    assert sorted("".join(learned)) == sorted("".join(expected))

    for name, texts in (("one", [book]), ("more", japanese)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    corpora = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("one", "more")}
    said: list[str] = []
    own = recipe_of(vocabulary={"corpora": corpora, "sample_characters": 9_000, "language": "ja"})
    made = run_vocabulary(own, said.append)
    assert "learning from 9,000 characters of more, one" in said[0]
    assert sum(map(len, learned)) == 9_000
    assert set(made.sample) == {"one", "more", "ja", "en"}
    assert made.sample["one"].before.characters == made.sample["more"].before.characters == 4_500


@pytest.mark.usefixtures("unproved")
def test_no_piece_crosses_a_words_end_where_that_is_asked_for(recipe_of, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "word_divider", lambda: list)  # each character a word of its own
    keys = {"add": 58, "min_character_count": 300}
    assert run_vocabulary(recipe_of(run_dir=str(tmp_path / "free"), vocabulary=keys), silent) is not None
    with pytest.raises(DataError, match=r"yields \d\d new pieces, 58 are asked for"):  # single characters
        run_vocabulary(recipe_of(run_dir=str(tmp_path / "split"), vocabulary=keys | {"split_words": True}), silent)


def section(**keys: Any) -> VocabularySection:
    return VocabularySection(language="ja", **keys)


@pytest.mark.parametrize(
    ("keys", "used", "rows", "size"),
    [
        ({"target_size": 42_880}, 32_000, 32_000, 42_880),
        ({"target_size": 42_881}, 32_000, 32_000, 42_944),
        ({"add": 10_880}, 32_000, 32_000, 42_880),
        ({"add": 1}, 32_000, 32_000, 32_064),
        ({"add": 100}, 151_669, 151_936, 151_936),  # Qwen has spare rows, and all of them get a piece
        ({"add": 1000}, 151_669, 151_936, 152_704),
        ({"add": 1}, 100, 101, 128),
    ],
)
def test_rows_are_a_multiple_of_64_and_none_is_padding(keys, used, rows, size):
    assert stage.final_size(section(**keys), used, rows) == size


def test_a_size_that_adds_nothing_and_a_tokenizer_that_does_not_fit_are_refused():
    with pytest.raises(RecipeError, match="32,000 is not more than the base's 32,000 pieces"):
        stage.final_size(section(target_size=32_000), 32_000, 32_000)
    with pytest.raises(ModelError, match="has 32,001 pieces, but its model 32,000 rows: they do not fit"):
        stage.final_size(section(add=5), 32_001, 32_000)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_row_of_the_model_has_an_id(recipe_of, unproved, family):
    recipe = recipe_of(family, vocabulary={"add": 5})
    run_vocabulary(recipe, silent)
    config = json.loads((recipe.vocabulary_dir / "model/config.json").read_text())
    assert config["vocab_size"] == TextTokenizer.from_folder(recipe.vocabulary_dir / "model").vocabulary_size == 448
    assert IDS[family] + 5 < ROWS[family] or family == "llama"


@pytest.mark.parametrize("name", ["llama", "mistral-tied", "qwen3", "gpt_neox", "phi", "mixtral", "deepseek_v3",
                                  "gemma3-multimodal"])  # fmt: skip
def test_the_cost_of_a_token_follows_from_the_models_parameters(tiny_model_folder, tmp_path, name):
    from transformers import AutoModelForCausalLM

    base = tiny_model_folder(name)
    facts = resize_model(base, tmp_path / "out", used=101, size=128, pieces=[[5]] * 27, method="mean", noise=0, seed=0)
    size = stage.model_size(tmp_path / "out", facts)
    model = AutoModelForCausalLM.from_pretrained(base)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert (size.rows_before, size.rows_after, size.width, size.tied) == (101, 128, 16, tied)
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    bias = 27 if name == "phi" else 0
    assert size.added_parameters == grown.num_parameters() - model.num_parameters() - bias
    if name in ("mixtral", "deepseek_v3", "gemma3-multimodal"):
        assert size.parameters is None
        return
    assert size.parameters == model.num_parameters() + bias


def test_copies_of_matrices_are_not_counted(tiny_model_folder, tmp_path):
    """A tied matrix that is stored under both its names is one matrix."""
    from safetensors.torch import load_file, save_file

    folder = tiny_model_folder("mistral-tied")
    tensors = load_file(folder / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    embedding = tensors["model.embed_tokens.weight"]
    save_file({**tensors, "lm_head.weight": embedding.clone()}, tmp_path / "model.safetensors")
    names = ("lm_head.weight", "model.embed_tokens.weight")
    size = stage.model_size(tmp_path, ResizeFacts(names, 101, 101, True, "float32"))
    assert size.parameters == sum(tensor.numel() for tensor in tensors.values())


def test_a_configuration_without_a_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ModelError, match="no vocab_size; is this a language model"):
        stage.rows_of(tmp_path)
    (tmp_path / "config.json").write_text('{"text_config": {"vocab_size": 9}}')
    assert stage.rows_of(tmp_path) == 9


def test_a_recipe_without_the_section_has_nothing_to_extend(recipe_of):
    with pytest.raises(RecipeError, match="has no vocabulary section"):
        run_vocabulary(recipe_of().model_copy(update={"vocabulary": None}), silent)


def test_seconds_are_kept_by_phase():
    clock = stage.Clock()
    with clock.phase("learn"):
        pass
    assert clock.seconds.keys() == {"learn"}
    assert SimpleNamespace(**clock.seconds).learn < 1
