"""A chat model behind an address: what is sent, what passes and is tried again, what ends at once, and where no key is."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from judge_server import Answer, Request, judge_server

from tsugiki.errors import ModelError, RecipeError
from tsugiki.evaluation.judge.endpoint import ATTEMPTS, LONGEST_WAIT, Endpoint, key_from_environment

KEY = "sk-" + "very-secret" * 3
ASKED = [{"role": "system", "content": "判定して"}, {"role": "user", "content": "A or B?"}]


def always(**told: Any) -> Callable[[Request, int], Answer]:
    return lambda request, number: Answer(**told)


def in_turn(*answers: Answer) -> Callable[[Request, int], Answer]:
    return lambda request, number: answers[number]


def endpoint(url: str, waits: list[float] | None = None, **changes: Any) -> Endpoint:
    settings: dict[str, Any] = {"key": KEY, "timeout": 20.0, **changes}
    return Endpoint(url, "judge-1", sleep=(waits if waits is not None else []).append, **settings)


@pytest.mark.parametrize("suffix", ["", "/", "/chat/completions"])
def test_a_request_is_the_protocols(suffix: str) -> None:
    with judge_server(always(text="A, since 「」. [[1]]")) as server:
        assert endpoint(server.url + suffix).ask(ASKED) == "A, since 「」. [[1]]"
        assert endpoint(server.url, key=None, options={"seed": 1}).ask(ASKED)
    first, second = server.requests
    assert first.path == "/v1/chat/completions"
    assert first.body == {"model": "judge-1", "messages": ASKED, "temperature": 0, "max_tokens": 1024}
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.headers["content-type"] == "application/json"
    assert second.body == {"model": "judge-1", "messages": ASKED, "seed": 1}
    assert "authorization" not in second.headers


def test_what_passes_is_tried_again_later_each_time() -> None:
    waits: list[float] = []
    answers = [
        Answer(status=429, headers={"Retry-After": "7"}, body=b"slow down"), Answer(status=500, body=b""),
        Answer(body=b"<html>starting</html>"), Answer(body=b'{"choices": []}'), Answer(hangs="cut"), Answer("[[tie]]"),
    ]  # fmt: skip
    with judge_server(in_turn(*answers)) as server:
        assert endpoint(server.url, waits).ask(ASKED) == "[[tie]]"
    assert len(server.requests) == 6
    assert waits == [7, 2, 4, 8, 16]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(status=503, body=b"overloaded", headers={"Retry-After": "9999"}), "status 503, overloaded"),
        (Answer(status=429, body=KEY.encode()), "status 429, …"),
        (Answer(body=b'{"choices": [{"message": {}}]}'), "no chat completion: .*choices"),
        (Answer(body=b""), "no chat completion: nothing"),
    ],
)
def test_what_does_not_pass_away_ends_with_what_was_said(answer: Answer, told: str) -> None:
    waits: list[float] = []
    with judge_server(lambda request, number: answer) as server, pytest.raises(ModelError, match=told) as raised:
        endpoint(server.url, waits).ask(ASKED)
    assert "the same command goes on" in str(raised.value)
    assert KEY not in str(raised.value)
    assert len(server.requests) == ATTEMPTS == len(waits) + 1
    assert max(waits) <= LONGEST_WAIT


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(status=401, body=f'{{"error": "bad key {KEY}"}}'.encode()), r"the key is refused.*TSUGIKI_JUDGE_KEY"),
        (Answer(status=400, body=b'{"error": "no max_tokens \x1b[31m"}'), r"refused: status 400, .*no max_tokens"),
        (Answer(status=404, body=b"not found"), "is the address right, with its /v1"),
        (Answer(status=422, body=b"x" * 99999), "status 422"),
    ],
)
def test_what_is_wrong_ends_at_once_and_quotes_no_key(answer: Answer, told: str) -> None:
    with judge_server(lambda request, number: answer) as server, pytest.raises(ModelError, match=told) as raised:
        endpoint(server.url).ask(ASKED)
    assert len(server.requests) == 1
    assert KEY not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_redirect_is_not_followed_with_the_key() -> None:
    with judge_server(always(text="[[1]]")) as other:
        moved = Answer(status=307, headers={"Location": other.url + "/chat/completions"}, body=b"")
        with judge_server(lambda request, number: moved) as server, pytest.raises(ModelError, match=other.url):
            endpoint(server.url).ask(ASKED)
    assert other.requests == []


@pytest.mark.parametrize("how", ["at once", "dripping"])
def test_a_server_that_hangs_holds_nobody(how: str) -> None:
    with judge_server(lambda request, number: Answer("[[1]]" * 50, hangs=how)) as server:
        with pytest.raises(ModelError, match=r"no answer within 0\.2 seconds \(--timeout\); asked 6 times"):
            endpoint(server.url, timeout=0.2).ask(ASKED)
        assert len(server.requests) == ATTEMPTS


def test_nobody_at_the_address_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelError, match=f"{url}: cannot be reached: .*refused"):
            endpoint(url).ask(ASKED)


def test_a_judge_that_refuses_says_nothing() -> None:
    refusal = b'{"choices": [{"message": {"content": null, "refusal": "I will not"}}]}'
    with judge_server(always(body=refusal)) as server:
        assert endpoint(server.url).ask(ASKED) == ""


def test_an_answer_that_quotes_the_key_loses_it() -> None:
    with judge_server(always(text=f"[[1]] {KEY}")) as server:
        assert endpoint(server.url).ask(ASKED) == "[[1]] …"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:8000", "give an address such as http"), ("ftp://host/v1", "give an address such as http"),
        (f"http://user:{KEY}@host/v1", "the address of host alone"), (f"http://host/v1?key={KEY}", "of host alone"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_holds_a_key_is_refused(url: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as raised:
        endpoint(url)
    assert KEY not in str(raised.value)


def test_the_key_comes_from_its_own_variable_and_shows_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "for somebody else")
    monkeypatch.delenv("TSUGIKI_JUDGE_KEY", raising=False)
    assert key_from_environment() is None
    monkeypatch.setenv("TSUGIKI_JUDGE_KEY", f" {KEY}\n")
    assert key_from_environment() == KEY
    assert KEY not in repr(endpoint("http://host/v1"))
    with pytest.raises(RecipeError, match="TSUGIKI_JUDGE_KEY holds characters") as raised:
        endpoint("http://host/v1", key=f"{KEY}\r\nX-Other: 1")
    assert KEY not in str(raised.value)
