"""A file takes its name when all of it has arrived and is the right one; otherwise nothing is left behind.

A server on the loopback stands in for the origins of the sets.
"""

import dataclasses
import hashlib
import http.server
import io
import json
import tarfile
import threading

import pytest
from evaluation_data import TEST

from tsugiki.errors import DataError, RecipeError
from tsugiki.evaluation.data import SETS, load_set
from tsugiki.evaluation.data import fetch as fetching
from tsugiki.evaluation.data.fetch import fetch
from tsugiki.evaluation.data.sets import OriginalFile


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` (path → bytes); `short` are cut off, `elsewhere` redirect, `refused` answer with a code."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.elsewhere, self.refused = {}, {}, {}
        self.short, self.unannounced, self.asked = set(), set(), []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        server.asked.append(self.path)
        if self.path in server.elsewhere:
            self.send_response(302)
            self.send_header("Location", server.elsewhere[self.path])
            self.end_headers()
            return
        content = server.files.get(self.path)
        code = server.refused.get(self.path, 200 if content is not None else 404)
        if code != 200:
            self.send_error(code)
            return
        self.send_response(200)
        if self.path not in server.unannounced:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path in server.short else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def sha256(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def gsm8k(server, official_data, monkeypatch):
    """GSM8K as the server has it: the test split with a known digest, the training split without one."""
    for split in ("test", "train"):
        server.files[f"/{split}.jsonl"] = (official_data / f"gsm8k/{split}.jsonl").read_bytes()
    files = (
        OriginalFile("gsm8k/test.jsonl", f"{server.address}/test.jsonl", sha256(server.files["/test.jsonl"])),
        OriginalFile("gsm8k/train.jsonl", f"{server.address}/train.jsonl"),
    )
    monkeypatch.setitem(SETS, "gsm8k", dataclasses.replace(SETS["gsm8k"], files=files))
    return server


@pytest.fixture
def said():
    return []


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_files_are_fetched_checked_and_accounted_for(gsm8k, tmp_path, said):
    fetch(["gsm8k"], tmp_path, said.append)
    assert names(tmp_path / "gsm8k") == ["SOURCE.json", "test.jsonl", "train.jsonl"]
    assert (tmp_path / "gsm8k/test.jsonl").read_bytes() == gsm8k.files["/test.jsonl"]
    assert len(load_set("gsm8k", tmp_path).test) == TEST
    source = json.loads((tmp_path / "gsm8k/SOURCE.json").read_text())
    record = source["train.jsonl"]
    assert record["url"] == f"{gsm8k.address}/train.jsonl"
    assert record["digest"] == sha256(gsm8k.files["/train.jsonl"])
    assert record["size"] == len(gsm8k.files["/train.jsonl"])
    assert "MIT" in record["licence"]
    assert "Cobbe" in record["citation"]


def test_licence_and_source_are_said_before_anything_is_asked_for(gsm8k, tmp_path):
    asked_when_said = []
    fetch(["gsm8k"], tmp_path, lambda line: asked_when_said.append((line, len(gsm8k.asked))))
    assert "MIT" in asked_when_said[0][0]
    assert asked_when_said[0][1] == 0
    sources = [(line, asked) for line, asked in asked_when_said if "fetching" in line]
    assert [asked for _, asked in sources] == [0, 1]
    assert f"{gsm8k.address}/test.jsonl" in sources[0][0]


def test_a_digest_that_nobody_knows_is_shown(gsm8k, tmp_path, said):
    fetch(["gsm8k"], tmp_path, said.append)
    (test,) = [line for line in said if "test.jsonl:" in line]
    (train,) = [line for line in said if "train.jsonl:" in line]
    assert "as expected" in test
    assert sha256(gsm8k.files["/train.jsonl"]) in train
    assert "no digest is known" in train


def test_what_is_there_and_sound_is_not_fetched_again(gsm8k, tmp_path, said):
    fetch(["gsm8k"], tmp_path, said.append)
    gsm8k.asked.clear()
    fetch(["gsm8k"], tmp_path, said.append)
    assert gsm8k.asked == []
    (tmp_path / "gsm8k/test.jsonl").unlink()
    fetch(["gsm8k"], tmp_path, said.append)
    assert gsm8k.asked == ["/test.jsonl"]


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_file_that_was_changed_is_named_and_not_overwritten(gsm8k, tmp_path, said, split):
    """One is known by the registry's digest, the other by the one that its own fetch recorded."""
    fetch(["gsm8k"], tmp_path, said.append)
    path = tmp_path / f"gsm8k/{split}.jsonl"
    path.write_text("mine\n")
    with pytest.raises(DataError, match="gsm8k"):
        fetch(["gsm8k"], tmp_path, said.append)
    assert path.read_text() == "mine\n"
    assert f"{path} is there but is not the original" in said[-1]
    assert "Delete it" in said[-1]


def test_a_wrong_digest_leaves_nothing_behind(gsm8k, tmp_path, said):
    gsm8k.files["/test.jsonl"] += b"\n"
    with pytest.raises(DataError, match="not fetched: gsm8k"):
        fetch(["gsm8k"], tmp_path, said.append)
    assert names(tmp_path / "gsm8k") == []
    assert "what arrived is not the original" in said[-1]
    assert sha256(gsm8k.files["/test.jsonl"]) in said[-1]


def test_a_transfer_that_is_cut_off_leaves_nothing_behind(gsm8k, tmp_path, said):
    gsm8k.short.add("/train.jsonl")
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    size = len(gsm8k.files["/train.jsonl"])
    assert f"broke off after {size // 2:,} of {size:,} bytes" in said[-1]
    assert names(tmp_path / "gsm8k") == ["SOURCE.json", "test.jsonl"]
    gsm8k.short.clear()
    fetch(["gsm8k"], tmp_path, said.append)
    assert gsm8k.asked == ["/test.jsonl", "/train.jsonl", "/train.jsonl"]


def test_a_file_that_has_moved_is_said_with_what_to_do(gsm8k, tmp_path, said):
    del gsm8k.files["/test.jsonl"]
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "404" in said[-1]
    assert "the file has moved" in said[-1]
    assert str(tmp_path / "gsm8k/test.jsonl") in said[-1]
    assert names(tmp_path / "gsm8k") == []


def test_a_set_that_asks_for_consent_says_so(gsm8k, tmp_path, said):
    gsm8k.refused["/test.jsonl"] = 403
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "asks for a login or for consent" in said[-1]
    assert "by hand" in said[-1]


def test_a_host_that_cannot_be_reached_is_named(gsm8k, tmp_path, said, monkeypatch):
    nowhere = OriginalFile("gsm8k/test.jsonl", "http://127.0.0.1:1/test.jsonl")
    monkeypatch.setitem(SETS, "gsm8k", dataclasses.replace(SETS["gsm8k"], files=(nowhere,)))
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "127.0.0.1 cannot be reached" in said[-1]


def test_an_empty_answer_and_an_endless_one_are_refused(gsm8k, tmp_path, said, monkeypatch):
    train = gsm8k.files["/train.jsonl"]
    gsm8k.files["/train.jsonl"] = b""
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "the file is empty" in said[-1]
    gsm8k.files["/train.jsonl"] = train
    gsm8k.unannounced.add("/train.jsonl")
    monkeypatch.setattr(fetching, "MAX_BYTES", len(train) - 1)
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "over" in said[-1]
    assert names(tmp_path / "gsm8k") == ["SOURCE.json", "test.jsonl"]


def test_one_set_that_fails_does_not_stop_the_others(gsm8k, tmp_path, said, monkeypatch):
    gone = OriginalFile("xwinograd/dataset.tsv", f"{gsm8k.address}/gone.tsv")
    monkeypatch.setitem(SETS, "xwinograd_en", dataclasses.replace(SETS["xwinograd_en"], files=(gone,)))
    with pytest.raises(DataError, match=r"not fetched: xwinograd_en \("):
        fetch(["xwinograd_en", "gsm8k"], tmp_path, said.append)
    assert len(load_set("gsm8k", tmp_path).test) == TEST


def test_an_unknown_name_is_an_error_before_anything_is_fetched(gsm8k, tmp_path, said):
    with pytest.raises(RecipeError, match="'gsm'"):
        fetch(["gsm8k", "gsm"], tmp_path, said.append)
    assert gsm8k.asked == []


def test_what_arrives_is_read_before_it_is_called_fetched(gsm8k, tmp_path, said):
    gsm8k.files["/train.jsonl"] = b'{"question": "?"}\n'
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "no key 'answer'" in said[-1]


def test_a_redirection_is_followed_but_never_out_of_encryption(gsm8k, tmp_path, said):
    gsm8k.elsewhere["/test.jsonl"] = f"{gsm8k.address}/moved.jsonl"
    gsm8k.files["/moved.jsonl"] = gsm8k.files["/test.jsonl"]
    fetch(["gsm8k"], tmp_path, said.append)
    assert gsm8k.asked[:2] == ["/test.jsonl", "/moved.jsonl"]
    request = fetching.urllib.request.Request("https://example.org/a")
    with pytest.raises(fetching.urllib.error.URLError, match="not encrypted"):
        fetching._StayEncrypted().redirect_request(request, None, 302, "Found", {}, "http://example.org/a")


def archive(members):
    """A gzipped tar of (TarInfo, bytes or None)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            if content is not None:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return buffer.getvalue()


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.fixture
def wmt20(server, official_data, monkeypatch):
    """WMT20 en-ja out of one archive; its examples as plain files."""
    entry = SETS["wmt20_en_ja"]
    files = []
    for file in entry.files:
        if file.member:
            file = dataclasses.replace(file, url=f"{server.address}/test.tgz", digest=None)
        else:
            server.files[f"/{file.path}"] = (official_data / file.path).read_bytes()
            file = dataclasses.replace(file, url=f"{server.address}/{file.path}", digest=None)
        files.append(file)
    monkeypatch.setitem(SETS, "wmt20_en_ja", dataclasses.replace(entry, files=tuple(files)))
    return server


def official_members(official_data):
    folder = official_data / "wmt20"
    return [
        (tarfile.TarInfo(f"sgm/{path.name}"), path.read_bytes()) for path in sorted((folder / "sgm").glob("*enja*"))
    ]


def test_named_members_are_copied_out_of_an_archive_and_nothing_else_is(wmt20, official_data, tmp_path, said):
    outside = tmp_path / "outside"
    hostile = [
        (tarfile.TarInfo("../../outside"), b"slipped"),
        (tarfile.TarInfo(str(outside)), b"slipped"),
        (link("sgm/newstest2020-link.sgm", str(outside)), None),
        (tarfile.TarInfo("sgm/another.sgm"), b"<seg id='1'>x</seg>"),
    ]
    content = archive([*hostile, *official_members(official_data)])
    wmt20.files["/test.tgz"] = content
    entry = SETS["wmt20_en_ja"]
    known = f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}"
    files = tuple(dataclasses.replace(file, digest=known) if file.member else file for file in entry.files)
    SETS["wmt20_en_ja"] = dataclasses.replace(entry, files=files)  # put back by the fixture's monkeypatch
    data = tmp_path / "data"
    fetch(["wmt20_en_ja"], data, said.append)
    assert wmt20.asked.count("/test.tgz") == 1
    assert names(data / "wmt20/sgm") == ["SOURCE.json", "newstest2020-enja-ref.ja.sgm", "newstest2020-enja-src.en.sgm"]
    assert names(tmp_path) == ["data"]
    assert load_set("wmt20_en_ja", data).test == load_set("wmt20_en_ja", official_data).test
    source = json.loads((data / "wmt20/sgm/SOURCE.json").read_text())
    assert source["newstest2020-enja-ref.ja.sgm"]["member"] == "sgm/newstest2020-enja-ref.ja.sgm"
    wmt20.asked.clear()
    fetch(["wmt20_en_ja"], data, said.append)
    assert wmt20.asked == []


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_member_that_is_no_plain_file_is_refused(wmt20, tmp_path, said, kind):
    secret = tmp_path / "secret"
    secret.write_text("<seg id='1'>mine</seg>")
    wmt20.files["/test.tgz"] = archive([(link("sgm/newstest2020-enja-src.en.sgm", str(secret), kind), None)])
    with pytest.raises(DataError):
        fetch(["wmt20_en_ja"], tmp_path / "data", said.append)
    assert "no plain file" in said[-1]
    assert names(tmp_path / "data/wmt20/sgm") == []


def test_a_member_that_unpacks_to_too_much_is_refused(wmt20, official_data, tmp_path, said, monkeypatch):
    bomb = [(tarfile.TarInfo("sgm/newstest2020-enja-src.en.sgm"), b"0" * 5_000_000)]
    wmt20.files["/test.tgz"] = archive(bomb)
    assert len(wmt20.files["/test.tgz"]) < 100_000
    monkeypatch.setattr(fetching, "MAX_BYTES", 1_000_000)
    with pytest.raises(DataError):
        fetch(["wmt20_en_ja"], tmp_path, said.append)
    assert "sensible size" in said[-1]
    assert names(tmp_path / "wmt20/sgm") == []


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (lambda content: b"no archive at all", "not an archive that can be read"),
        (lambda content: content[: len(content) // 2], "not an archive that can be read"),
        (lambda content: archive([(tarfile.TarInfo("other"), b"x")]), "the archive holds no sgm/newstest2020"),
    ],
)
def test_an_archive_that_is_damaged_or_another_is_named(wmt20, official_data, tmp_path, said, damage, part):
    wmt20.files["/test.tgz"] = damage(archive(official_members(official_data)))
    with pytest.raises(DataError):
        fetch(["wmt20_en_ja"], tmp_path, said.append)
    assert f"{wmt20.address}/test.tgz" in said[-1]
    assert part in said[-1]
    assert not [name for name in names(tmp_path / "wmt20/sgm") if name.startswith(".")]


def test_a_full_disk_is_a_storage_error_that_leaves_nothing_behind(gsm8k, tmp_path, said, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_copy", full)
    with pytest.raises(DataError):
        fetch(["gsm8k"], tmp_path, said.append)
    assert "the disk is full" in said[-1]
    assert names(tmp_path / "gsm8k") == []
