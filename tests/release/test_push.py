"""To the hub: a stand-in of it on the loopback interface, with huggingface_hub's own code in between."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import HfApi

from tsugiki.errors import RecipeError, StorageError
from tsugiki.release import make, push
from tsugiki.release.push import open_hub

NAME = "team/model"


class Hub:
    """Repositories, what was sent, and which upload of a large file fails."""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}
        self.sent: list[str] = []
        self.commits: list[list[str]] = []
        self.tokens: set[str | None] = set()
        self.broken = False
        self.address = ""

    def answer(self, method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        self.tokens.add(headers.get("Authorization"))
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "type": "user", "auth": {}}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.private:
                return 409, {"error": "there already", "url": f"{self.address}/{name}"}
            self.private[name] = asked.get("private", asked.get("visibility") == "private")
            return 200, {"url": f"{self.address}/{name}"}
        if path.startswith(f"/api/models/{NAME}/preupload"):
            files = [
                {"path": each["path"], "uploadMode": "lfs" if each["path"].endswith("safetensors") else "regular",
                 "shouldIgnore": False} for each in json.loads(body)["files"]
            ]  # fmt: skip
            return 200, {"files": files}
        if path.endswith("/info/lfs/objects/batch"):
            found = []
            for each in json.loads(body)["objects"]:
                link = {"href": f"{self.address}/large/{each['oid']}"}
                found.append({**each} if each["oid"] in self.large else {**each, "actions": {"upload": link}})
            return 200, {"transfer": "basic", "objects": found}
        if path.startswith("/large/"):
            digest = path.rpartition("/")[2]
            if self.broken and self.sent:
                return 403, {"error": "cut off"}
            assert hashlib.sha256(body).hexdigest() == digest
            self.large[digest] = body
            self.sent.append(digest)
            return 200, {}
        if path.startswith(f"/api/models/{NAME}/commit"):
            names = []
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "deletedFile":
                    del self.files[value["path"]]
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.large[value["oid"]]
                    names.append(value["path"])
                elif line["key"] == "file":
                    import base64

                    self.files[value["path"]] = base64.b64decode(value["content"])
                    names.append(value["path"])
            self.commits.append(names)
            return 200, {"commitUrl": f"{self.address}/{NAME}/commit/abc", "commitOid": "a" * 40, "success": True}
        if path.startswith(f"/api/models/{NAME}/tree"):
            return 200, [{"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in self.files]
        if path.startswith(f"/api/models/{NAME}/paths-info"):
            return 200, []
        if path.startswith(f"/api/models/{NAME}") and method == "GET":
            if NAME not in self.private:
                return 404, {"error": "not there"}
            siblings = [{"rfilename": name} for name in self.files]
            return 200, {"id": NAME, "private": self.private[NAME], "sha": "a" * 40, "siblings": siblings}
        return 500, {"error": f"not expected: {method} {path}"}


@pytest.fixture
def hub(monkeypatch):
    """A running stand-in, which `HfApi` reaches with a token of the environment."""
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, value = found.answer(self.command, self.path.partition("?")[0], body, self.headers)
            content = json.dumps(value).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = handle_any

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: HfApi(endpoint=found.address))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    (out / "report").mkdir(parents=True)
    (out / ".cache").mkdir()
    for name in ("README.md", "config.json", "report/report.html", ".cache/x"):
        (out / name).write_text(name)
    for part in (1, 2):
        (out / f"model-0000{part}-of-00002.safetensors").write_bytes(bytes([part]) * 1000)
    return out


def sent_names(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


def test_a_push_is_private_whole_and_made_with_the_environments_token(hub, folder):
    assert push.push(open_hub(NAME, public=False), folder) == f"{hub.address}/{NAME}"
    assert hub.private == {NAME: True}
    assert set(hub.files) == sent_names(folder)
    for name, content in hub.files.items():
        assert content == (folder / name).read_bytes(), name
    assert "Bearer hf_of_the_environment" in hub.tokens


def test_public_is_asked_for_by_name(hub, folder):
    push.push(open_hub(NAME, public=True), folder)
    assert hub.private == {NAME: False}


def test_an_upload_that_was_cut_off_is_gone_on_with(hub, folder):
    hub.broken = True
    with pytest.raises(StorageError, match=r"is whole, but it did not get to .* goes on with the upload"):
        push.push(open_hub(NAME, public=False), folder)
    assert hub.commits == []  # nobody finds half a model there
    arrived = list(hub.sent)
    assert len(arrived) == 1
    hub.broken = False
    push.push(open_hub(NAME, public=False), folder)
    assert len(hub.sent) == 2  # each large file once
    assert set(hub.files) == sent_names(folder)


def test_weights_of_an_earlier_release_go_and_other_files_stay(hub, folder):
    hub.private[NAME] = True
    hub.files = {"model.safetensors": b"", "model.safetensors.index.json": b"", "picture.png": b"", "config.json": b""}
    push.push(open_hub(NAME, public=False), folder)
    assert set(hub.files) == sent_names(folder) | {"picture.png"}


@pytest.mark.parametrize(
    ("private", "public", "said"), [(False, False, "everybody sees it"), (True, True, "and private")]
)
def test_a_repository_that_others_see_than_was_asked_is_refused(hub, private, public, said):
    hub.private[NAME] = private
    with pytest.raises(RecipeError, match=said):
        open_hub(NAME, public=public)


@pytest.mark.parametrize("name", ["model", "a/b/c", "team/", "/model", "team/my model", "../model", "te--am/x"])
def test_what_is_no_repository_is_refused_without_asking(name, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: pytest.fail("asked"))
    with pytest.raises(RecipeError, match="OWNER/NAME"):
        open_hub(name, public=False)


def test_a_missing_token_and_a_hub_that_does_not_answer_are_told(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(
        HfApi, "whoami", lambda _: (_ for _ in ()).throw(huggingface_hub.errors.LocalTokenNotFoundError())
    )
    with pytest.raises(RecipeError, match="set HF_TOKEN"):
        open_hub(NAME, public=False)
    monkeypatch.setattr(HfApi, "whoami", lambda _: (_ for _ in ()).throw(ConnectionError("no route")))
    with pytest.raises(StorageError, match=r"does not answer as it should \(ConnectionError: no route\)"):
        open_hub(NAME, public=False)


def test_the_hub_is_asked_before_any_work(monkeypatch, tmp_path):
    from tsugiki.pipeline import run_release

    asked = []

    def refuse(name: str, *, public: bool) -> None:
        asked.append((name, public))
        raise RecipeError("no token")

    monkeypatch.setattr(push, "open_hub", refuse)
    monkeypatch.setattr(make, "release", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(RecipeError, match="no token"):
        run_release(tmp_path, tmp_path / "out", print, push_to=NAME, public=True)
    assert asked == [(NAME, True)]


def test_a_release_is_pushed_once_it_is_whole(trained, tmp_path, plain_here, hub):
    from tsugiki.pipeline import run_release

    lines: list[str] = []
    run_release(trained, tmp_path / "release", lines.append, push_to=NAME)
    assert set(hub.files) == sent_names(tmp_path / "release")
    assert lines[-1].startswith("push")
    assert hub.private[NAME] is True
