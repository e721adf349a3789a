"""The registry: fourteen sets, and addresses that can be trusted as far as they say."""

import re

from tsugiki.evaluation.data import SETS

ORDER = [
    "jcommonsenseqa", "jemhopqa", "niilc", "jsquad", "xlsum_ja", "mgsm_ja", "wmt20_en_ja", "wmt20_ja_en",
    "openbookqa", "triviaqa", "hellaswag", "squad2", "xwinograd_en", "gsm8k",
]  # fmt: skip


def test_the_fourteen_sets_stand_in_the_order_of_the_tables():
    assert list(SETS) == ORDER
    assert all(entry.name == name for name, entry in SETS.items())


def test_every_file_comes_over_https_and_lands_below_the_data_folder():
    for entry in SETS.values():
        assert entry.licence
        assert entry.citation
        for file in entry.files:
            assert file.url.startswith("https://")
            assert re.fullmatch(r"[a-z0-9_]+(/[A-Za-z0-9._-]+)+", file.path)
            assert ".." not in file.path


def test_plain_files_are_known_by_their_sha256():
    """A file that is there already is compared by it; only an archive may be known by another digest."""
    for entry in SETS.values():
        for file in entry.files:
            if file.digest and not file.member:
                assert re.fullmatch(r"sha256:[0-9a-f]{64}", file.digest), file.path


def test_what_fetch_brings_is_what_the_loaders_look_for(official_data, tmp_path):
    """Made-up files under the names that `fetch` gives them."""
    import shutil

    from evaluation_data import openbookqa, write_parquet

    from tsugiki.evaluation.data import load_set
    from tsugiki.evaluation.data.rows import read_rows

    for name, entry in SETS.items():
        folder = tmp_path / name
        for file in entry.files:
            source, target = official_data / file.path, folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                shutil.copy(source, target)
            elif name == "triviaqa":  # the examples stand in for the test: the same format
                shutil.copy(official_data / "triviaqa/train-00000-of-00001.parquet", target)
            else:
                assert name == "openbookqa"
                openbookqa(tmp_path / "raw")
                split = "test" if "test" in file.path else "train"
                rows = [row.values for row in read_rows(tmp_path / f"raw/openbookqa/main/{split}.jsonl")]
                write_parquet(target, [hub_open_book(row) for row in rows])
        loaded = load_set(name, folder)
        assert set(loaded.files) == {file.path for file in entry.files}


def hub_open_book(row):
    choices = row["question"]["choices"]
    columns = {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}
    return {
        "id": row["id"],
        "question_stem": row["question"]["stem"],
        "choices": columns,
        "answerKey": row["answerKey"],
    }
