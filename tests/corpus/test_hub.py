"""Hub data sets and models: found at one commit, read by our own readers, refused in words. No network: the hub is a
folder, or a stand-in that serves one from memory under a commit."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tsugiki.corpus.hub import hub_files, resolve_model_folder
from tsugiki.corpus.prepare import prepare
from tsugiki.corpus.prepared import open_prepared
from tsugiki.corpus.records import BadRecord, Document, Reading
from tsugiki.corpus.tokenizer import TextTokenizer
from tsugiki.errors import DataError, ModelError, RecipeError
from tsugiki.recipe import Recipe, SourceSection

datasets = pytest.importorskip("datasets")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def source(hub: str, **keys: Any) -> SourceSection:
    return SourceSection(**{"hub": hub, "weight": 1.0, **keys})


def read(files: list[Any], text_key: str = "text", as_records: bool = False) -> list[Document | BadRecord]:
    how = Reading(text_key, "utf-8", max_bytes=1 << 20, as_records=as_records)
    return [item for file in files for item in file.read(how)]


def write_lines(path: Path, texts: list[Any], key: str = "text") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps({key: text}) + "\n" for text in texts).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_dates_stay_text_and_a_bad_record_is_named_by_line(tmp_path: Path) -> None:
    write_lines(tmp_path / "data" / "train.jsonl", ["2024-01-01", 5, "2024-01-02"])
    items = read(hub_files("data.sources.s", source(str(tmp_path))))
    assert [item.text for item in items if isinstance(item, Document)] == ["2024-01-01", "2024-01-02"]
    assert [(item.kind, item.line) for item in items if isinstance(item, BadRecord)] == [("wrong type", 2)]


def test_parquet_text_and_compressed_files_are_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "p").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"content": ["一", "two", None]}), tmp_path / "p" / "train.parquet")
    items = read(hub_files("data.sources.s", source(str(tmp_path / "p"), text_key="content")), "content")
    assert [getattr(item, "text", None) for item in items] == ["一", "two", None]
    write_lines(tmp_path / "z" / "train.jsonl.gz", ["packed"])
    assert [item.text for item in read(hub_files("data.sources.s", source(str(tmp_path / "z"))))] == ["packed"]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train.txt").write_text("one\ndocument\n")
    assert [item.text for item in read(hub_files("data.sources.s", source(str(tmp_path / "t"))))] == ["one\ndocument\n"]


def test_conversations_are_read_from_data_sets_of_either_kind(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    (tmp_path / "p").mkdir()
    pyarrow.parquet.write_table(pyarrow.table({"id": [7], "messages": [said]}), tmp_path / "p" / "train.parquet")
    write_lines(tmp_path / "j" / "train.jsonl", [said], key="messages")
    for folder in ("p", "j"):
        items = read(hub_files("data.sources.s", source(str(tmp_path / folder), format="chat")), as_records=True)
        assert [json.loads(item.text) for item in items if isinstance(item, Document)] == [{"messages": said}]
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "train.txt").write_text("plain text")
    with pytest.raises(DataError, match=r"conversations .* are read from files of jsonl or parquet, not text"):
        read(hub_files("data.sources.s", source(str(tmp_path / "t"), format="chat")), as_records=True)


def test_the_split_that_was_asked_for_is_read_and_a_wrong_one_lists_those_there_are(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_lines(tmp_path / "data" / f"{split}.jsonl", [split])
    assert [item.text for item in read(hub_files("data.sources.s", source(str(tmp_path), split="test")))] == ["test"]
    with pytest.raises(DataError, match=r"no split 'dev'; it has train, test"):
        hub_files("data.sources.s", source(str(tmp_path), split="dev"))
    with pytest.raises(DataError, match="nothing-like-it"):
        hub_files("data.sources.s", source(str(tmp_path), subset="nothing-like-it"))


def test_a_script_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    with pytest.raises(DataError):
        hub_files("data.sources.s", source(str(folder)))
    assert not mark.exists()


def test_a_kind_of_file_that_would_be_guessed_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\nhello\n")
    with pytest.raises(DataError, match="'csv'; only json, parquet or text are read"):
        hub_files("data.sources.s", source(str(tmp_path)))


def test_a_missing_extra_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(RecipeError, match=r"pip install 'tsugiki\[hub\]'"):
        hub_files("data.sources.s", source("owner/name"))


def test_without_a_network_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    monkeypatch.setattr(HfApi, "model_info", refuse)
    with pytest.raises(DataError, match=r"(?s)data\.sources\.s\.hub: owner/name: no route.*path of downloaded files"):
        hub_files("data.sources.s", source("owner/name"))
    with pytest.raises(ModelError, match=r"(?s)owner/no-such-model-here.*no route.*give the folder's path"):
        resolve_model_folder("owner/no-such-model-here")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, list[str]]], None]]:
    """Serve files from memory as the data set owner/name; its main branch is at COMMIT."""
    import fsspec
    from huggingface_hub import HfApi

    memory = fsspec.filesystem("memory")
    asked: dict[str, str] = {}

    def serve(files: dict[str, list[str]]) -> None:
        for name, texts in files.items():
            content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
            memory.pipe(f"/owner/name@{COMMIT}/{name}", content)
        urls = [f"memory://owner/name@{COMMIT}/{name}" for name in files]

        def builder(hub: str, subset: str | None, revision: str) -> Any:
            asked["revision"] = revision
            return SimpleNamespace(name="json", config=SimpleNamespace(data_files={"train": urls}))

        monkeypatch.setattr(datasets, "load_dataset_builder", builder)
        monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: SimpleNamespace(sha=COMMIT))

    yield serve
    assert asked["revision"] == COMMIT  # never a branch, which may move between two calls
    memory.rm("/owner", recursive=True)


def test_a_branch_is_resolved_to_a_commit_that_is_recorded_and_not_read_twice(
    served: Callable[[dict[str, list[str]]], None], tokenizer: TextTokenizer, make_recipe: Callable[..., Recipe],
    make_texts: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    texts = make_texts(160)
    served({"data/0.jsonl": texts[:80], "data/1.jsonl": texts[80:]})
    recipe = make_recipe({"s": {"hub": "owner/name"}})
    manifest = prepare(recipe, tokenizer)["s"]
    assert [(entry["name"], entry["commit"]) for entry in manifest.files] == [
        ("data/0.jsonl", COMMIT),
        ("data/1.jsonl", COMMIT),
    ]
    assert manifest.train.documents + manifest.held_out.documents == 160
    rows = open_prepared(recipe)["s"].train.documents()
    assert {int(row["file"]) for row in rows} == {0, 1}

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a finished source asks the hub nothing")

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    assert prepare(recipe, tokenizer)["s"].fingerprint == manifest.fingerprint


def test_a_local_folder_wins_over_the_hub(tmp_path: Path) -> None:
    assert resolve_model_folder(str(tmp_path)) == (tmp_path, None)


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_said(name: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve_model_folder(name)


class FakeHub:
    """Models by id: the commit that each revision stands for, and the files that a download leaves in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.commits, self.files, self.online = folder, {"main": COMMIT}, ["config.json"], True
        self.patterns: list[str] = []

    def model_info(self, _api: Any, name: str, revision: str | None = None) -> Any:
        if not self.online:
            raise ConnectionError("no route to host")
        commit = self.commits.get(revision or "main", revision)
        return SimpleNamespace(sha=commit, siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def snapshot_download(
        self, name: str, revision: str, allow_patterns: list[str], local_files_only: bool = False
    ) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        folder = self.folder / name / revision
        self.patterns = allow_patterns
        if local_files_only and not folder.exists():
            raise LocalEntryNotFoundError("not in the cache")
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    import huggingface_hub

    hub = FakeHub(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *args, **keys: hub.model_info(*args, **keys))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


@pytest.mark.parametrize("name", ["owner/model", "gpt2"])
def test_a_branch_of_a_model_that_has_moved_is_not_followed_once_its_commit_is_known(
    name: str, fake_hub: FakeHub, tmp_path: Path
) -> None:
    assert resolve_model_folder(name) == (tmp_path / name / COMMIT, COMMIT)
    fake_hub.commits["main"] = "f" * 40
    assert resolve_model_folder(name, known_commit=COMMIT) == (tmp_path / name / COMMIT, COMMIT)
    assert resolve_model_folder(name)[1] == "f" * 40
    fake_hub.online = False
    assert resolve_model_folder(name, "main", known_commit=COMMIT) == (tmp_path / name / COMMIT, COMMIT)
    with pytest.raises(ModelError, match="no route to host"):
        resolve_model_folder(name, known_commit="a" * 40)


def test_pickles_are_fetched_only_when_allowed_and_there_is_nothing_else(fake_hub: FakeHub) -> None:
    def fetched(allow_pickle: bool) -> bool:
        resolve_model_folder("owner/model", allow_pickle=allow_pickle)
        return any(pattern.endswith(".bin") for pattern in fake_hub.patterns)

    fake_hub.files = ["config.json", "model.safetensors", "pytorch_model.bin"]
    assert not fetched(False)
    assert not fetched(True)
    fake_hub.files = ["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"]
    assert fetched(True)
    with pytest.raises(ModelError, match=r"pickles only.*set model\.allow_pickle: true"):
        fetched(False)
    resolve_model_folder("owner/model", files="tokenizer")
    assert "config.json" not in fake_hub.patterns


def test_several_subsets_without_a_default_are_all_named(tmp_path: Path) -> None:
    for subset in ("arxiv", "algebraic-stack"):
        write_lines(tmp_path / subset / "train.jsonl", [subset])
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("arxiv", "algebraic-stack"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")
    with pytest.raises(DataError, match=r"set data\.sources\.s\.subset to one of arxiv, algebraic-stack$"):
        hub_files("data.sources.s", source(str(tmp_path)))
    (item,) = read(hub_files("data.sources.s", source(str(tmp_path), subset="arxiv")))
    assert isinstance(item, Document)
    assert item.text == "arxiv"
