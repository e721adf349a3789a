"""Sources of a quickstart: the embedded text, and folders as people have them."""

import gzip
import itertools
import json
import random

import pytest
import zstandard

from tsugiki.corpus.held_out import HELD_OUT_MINIMUM, is_held_out
from tsugiki.errors import RecipeError
from tsugiki.quickstart.base import read_texts
from tsugiki.quickstart.corpora import (
    embedded_corpora,
    find_corpora,
    language_of,
    language_of_name,
    language_of_text,
    read_file,
)
from tsugiki.quickstart.recipes import EMBEDDED, recipe_text
from tsugiki.quickstart.yardsticks import scored_texts

ENGLISH = "The house is old, and it was built by the man that lives in it with his dog. "
JAPANESE = "この家は古くて、犬と暮らす男が建てたものである。"
GERMAN = "Das Haus ist alt, und der Mann, der es gebaut hat, lebt dort mit seinem Hund. "
CODE = "def read(path): return path.open().read(); x = [y for y in range(10) if y % 2]; "


def json_lines(text, count=200, size=1500, key="text"):
    numbers = random.Random(0)
    return "".join(
        json.dumps({key: f"{numbers.random()} " + text * (size // len(text.encode()))}, ensure_ascii=False) + "\n"
        for _ in range(count)
    )


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "mine"
    path.mkdir()
    (path / "ja-web.jsonl.zst").write_bytes(zstandard.compress(json_lines(JAPANESE).encode()))
    (path / "essays.jsonl.gz").write_bytes(gzip.compress(json_lines(ENGLISH).encode()))
    (path / "scripts").mkdir()
    for number in range(130):
        (path / "scripts" / f"{number}.txt").write_text(f"# {number}\n" + CODE * 20)
    (path / "pairs.jsonl").write_text(json_lines(ENGLISH, key="en"))
    (path / "ja-poem.txt").write_text(JAPANESE * 2000)
    (path / "README.md").write_text("About this data.")
    (path / "picture.png").write_bytes(b"\x89PNG")
    return path


def test_embedded_text_is_as_much_as_promised(tmp_path):
    japanese, english, mathematics = embedded_corpora(tmp_path)
    assert japanese.size >= 100_000
    assert english.size >= japanese.size
    for corpus in (japanese, english, mathematics):
        held_out = list(read_texts(corpus, held_out=True))
        assert len(held_out) >= HELD_OUT_MINIMUM[0]
        assert sum(len(text.encode()) for text in held_out) >= HELD_OUT_MINIMUM[1]
        assert len(held_out) + len(list(read_texts(corpus, held_out=False))) == corpus.documents
    assert [corpus.role for corpus in (japanese, english, mathematics)] == ["target", "replay", "other"]


@pytest.mark.parametrize(("name", "length"), [("japanese", 8), ("english", 18)])
def test_no_two_embedded_pieces_are_the_same_in_other_words(name, length, tmp_path):
    """One held out and one trained on would be a leak. Idioms alone make about 1 % of shared runs of characters."""
    embedded_corpora(tmp_path)
    texts = [json.loads(line)["text"] for line in (tmp_path / f"{name}.jsonl").read_text("utf-8").splitlines()]
    runs = [{text[start : start + length] for start in range(len(text) - length)} for text in texts]
    for one, other in itertools.combinations(runs, 2):
        assert len(one & other) < 0.04 * min(len(one), len(other)), sorted(one & other)[:3]


def test_embedded_text_is_written_once_and_the_same(tmp_path):
    embedded_corpora(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    embedded_corpora(tmp_path)
    assert stamps == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_files_and_subfolders_become_sources_with_languages_and_roles(folder):
    found = {corpus.name: corpus for corpus in find_corpora(folder).corpora}
    assert {name: (corpus.language, corpus.role) for name, corpus in found.items()} == {
        "ja-web": ("ja", "target"),
        "essays": ("en", "replay"),
        "scripts": ("other", "other"),
    }
    assert len(found["scripts"].files()) == 130
    assert found["ja-web"].documents == 200


def test_what_cannot_serve_is_named_with_its_reason(folder):
    reasons = find_corpora(folder).left_out
    assert len(reasons) == 2
    assert "pairs.jsonl: 200 of 200 records are not documents (no key 'text'; it has 'en')" in reasons[1]
    assert reasons[0].startswith("ja-poem.txt: 1 documents")


def test_every_share_holds_out_what_preparing_asks_for(tmp_path):
    """Chosen by what the documents' hashes are, not by what they should be on average: no source is ever refused."""
    numbers = random.Random(1)
    folder = tmp_path / "many"
    folder.mkdir()
    for name in range(60):
        language, text = ("ja", JAPANESE) if name % 2 else ("en", ENGLISH)
        texts = [text * numbers.randint(1, 60) + str(numbers.random()) for _ in range(numbers.randint(110, 400))]
        if name % 3 == 0:
            texts += texts[:20]  # duplicates are held out together
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{language}-{name}.jsonl").write_text(lines)
    found = find_corpora(folder)
    assert len(found.corpora) > 50
    for corpus in found.corpora:
        share = float(f"{corpus.held_out:.4g}")  # as the recipes write it
        texts = [item.text.encode() for path in corpus.files() for item in read_file(path)]
        held_out = [text for text in texts if is_held_out(text, share)]
        assert len(held_out) >= HELD_OUT_MINIMUM[0]
        assert sum(map(len, held_out)) >= HELD_OUT_MINIMUM[1]
        assert share <= 0.3


def test_a_folder_without_two_languages_is_refused_with_the_remedy(folder):
    (folder / "ja-web.jsonl.zst").unlink()
    (folder / "essays.jsonl.gz").unlink()
    with pytest.raises(RecipeError, match=r"(?s)scripts \(other\).*de-books\.jsonl.*left out: ja-poem"):
        find_corpora(folder)
    with pytest.raises(RecipeError, match="not a folder"):
        find_corpora(folder / "nowhere")


def test_a_field_in_code_can_be_the_target_when_all_else_is_english(folder):
    (folder / "ja-web.jsonl.zst").unlink()
    (folder / "ja-poem.txt").unlink()
    assert {c.name: c.role for c in find_corpora(folder).corpora} == {"scripts": "target", "essays": "replay"}


@pytest.mark.parametrize(
    ("name", "language"),
    [("ja-books.jsonl", "ja"), ("ja", "ja"), ("EN_web.txt", "en"), ("my-data.jsonl", None), ("japan.jsonl", None)],
)
def test_language_by_name(name, language):
    assert language_of_name(name) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (JAPANESE, "ja"), (ENGLISH, "en"), (CODE, "other"), ("한국어로 쓴 글이다.", "ko"), ("这是中文写的文章。", "zh"),
        ("Это написано по-русски.", "ru"), ("12 + 30 = 42", "other"), ("", "other"), (f"{JAPANESE} API {ENGLISH[:40]}", "ja"),
        (GERMAN, None),
    ],
)  # fmt: skip
def test_language_by_text(text, language):
    assert language_of_text(text) == language


def test_python_is_not_english_however_much_its_comments_say():
    import argparse
    import inspect
    import textwrap

    for module in (argparse, inspect, textwrap):
        source = inspect.getsource(module)
        assert language_of_text(source) == "other", module
        assert language_of("en-code.txt", source) == "other"


@pytest.mark.parametrize(
    ("name", "text", "language"),
    [
        ("it-tickets-en.jsonl", ENGLISH, "en"), ("id_map.txt", ENGLISH, "en"), ("id_map.txt", "1 = 2; 3 = 4", "other"),
        ("de-books.jsonl", GERMAN, "de"), ("books.jsonl", GERMAN, "other"), ("en-and-ja.txt", JAPANESE, "ja"),
        ("uk-news.txt", "Це написано українською.", "uk"), ("en-news.txt", "Это написано по-русски.", "ru"),
        ("ja-old.txt", "国破山河在城春草木深", "ja"),
    ],
)  # fmt: skip
def test_a_name_decides_only_what_the_text_leaves_open(name, text, language):
    assert language_of(name, text) == language


def test_hidden_folders_hold_no_corpus(folder):
    (folder / "scripts" / ".cache" / "deep").mkdir(parents=True)
    (folder / "scripts" / ".cache" / "deep" / "a.txt").write_text("private")
    (folder / ".git").mkdir()
    (folder / ".git" / "a.txt").write_text("private")
    found = {corpus.name: corpus for corpus in find_corpora(folder).corpora}
    assert set(found) == {"ja-web", "essays", "scripts"}
    assert len(found["scripts"].files()) == 130


def test_names_of_sources_are_such_as_recipes_allow(folder):
    from tsugiki.recipe_file import parse_recipe

    for name in ("aux.jsonl", "Con.web.jsonl", "JA-web.jsonl", "x" * 100 + ".jsonl"):
        (folder / name).write_text(json_lines(JAPANESE))
    (folder / "ja 小説 (1).jsonl").write_text(json_lines(JAPANESE))
    (folder / "日本.jsonl").write_text(json_lines(JAPANESE))
    (folder / "essays.parquet.jsonl").write_text(json_lines(ENGLISH))
    corpora = find_corpora(folder).corpora
    assert len(corpora) == 10
    # the recipe refuses names that cannot be folders side by side on every system
    recipe = parse_recipe(recipe_text(folder / "run", "base", corpora, EMBEDDED), check_files=False)
    assert {"text-aux", "text-Con.web", "JA-web", "ja-web-2"} <= set(recipe.data.sources)


def test_yardsticks_use_the_very_documents_that_were_scored(tmp_path):
    from tsugiki.corpus.prepare import prepare
    from tsugiki.corpus.prepared import open_prepared
    from tsugiki.corpus.tokenizer import TextTokenizer
    from tsugiki.quickstart.base import train_tokenizer
    from tsugiki.recipe_file import parse_recipe

    corpora = embedded_corpora(tmp_path / "corpora")
    train_tokenizer(tmp_path / "tokenizer", list(read_texts(corpora[1], held_out=False)), 500)
    sources = "".join(f"    {c.name}: {{path: {c.paths[0]}, weight: 1, held_out: {c.held_out}}}\n" for c in corpora)
    recipe = parse_recipe(
        f"run_dir: {tmp_path / 'run'}\nmodel: {{architecture: {{model_type: mistral}}, tokenizer: {tmp_path / 'tokenizer'}}}\n"
        f"data:\n  sequence_length: 64\n  workers: 1\n  sources:\n{sources}"
        "training: {max_steps: 1, global_batch_size: 1, micro_batch_size: 1, learning_rate: 1e-3, save_steps: 1}\n"
    )
    tokenizer = TextTokenizer.from_folder(tmp_path / "tokenizer")
    prepare(recipe, tokenizer)
    for name, source in open_prepared(recipe).items():
        corpus = next(corpus for corpus in corpora if corpus.name == name)
        scored = [tokenizer.decode(source.held_out.document(i), skip_special=True) for i in range(7)]
        assert sorted(scored_texts(tmp_path / "run" / "data" / name, corpus, 7)) == sorted(scored)


def test_a_damaged_file_leaves_its_source_out_and_no_other(tmp_path):
    for name in ("ja.jsonl", "en.jsonl"):
        (tmp_path / name).write_text("", encoding="utf-8")
    text = json.dumps({"text": ENGLISH * 20})
    (tmp_path / "en.jsonl").write_text("\n".join([text] * 200), encoding="utf-8")
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(text.encode() * 200)[:-4])
    with pytest.raises(RecipeError) as caught:  # Japanese is missing, not: a file is empty
        find_corpora(tmp_path)
    assert "ja.jsonl" in str(caught.value) or "language" in str(caught.value)
