"""A chat model behind an OpenAI-compatible address: messages in, text out, or one error that says what to do.

What passes (429, a server's own errors, silence, an answer that is no chat completion) is tried again, later each time;
what does not (a wrong address, a refused key, a refused request) ends at once. Redirects are not followed: they would
carry the key elsewhere. The key is read from the environment, goes into one header, and into nothing that is printed
or written: where a server quotes it, it is taken out.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import TypedDict

from tsugiki.errors import DataError, ModelError, RecipeError
from tsugiki.printable import one_line
from tsugiki.shapes import parse_json

KEY = "TSUGIKI_JUDGE_KEY"
"""The environment variable with the key, where one is needed. Not OPENAI_API_KEY: that one is meant for somebody."""
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
"""Statuses that another try may mend."""
ATTEMPTS = 6
LONGEST_WAIT = 120.0
MOST_BYTES = 1 << 22
OPTIONS: dict[str, Any] = {"temperature": 0, "max_tokens": 1024}
"""What a request says besides model and messages, where nothing else is asked for."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Message(TypedDict):
    content: str | None


class _Choice(TypedDict):
    message: _Message


class _Completion(TypedDict):
    choices: list[_Choice]


class _Passing(Exception):
    """Something that another try may mend, and after how many seconds at least."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Endpoint:
    """A model at an address."""

    url: str
    """As its makers give it, such as http://localhost:8000/v1."""
    model: str
    options: Mapping[str, Any] = field(default_factory=lambda: OPTIONS)
    timeout: float = 120.0
    """Seconds that one answer may take."""
    key: str | None = field(default=None, repr=False)
    sleep: Callable[[float], Any] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RecipeError(f"--judge-url {self.url}: give an address such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise RecipeError(
                f"--judge-url: give the address of {parts.hostname} alone; a key goes into the variable {KEY}"
            )
        if self.key is not None and not (self.key.isascii() and self.key.isprintable()):
            raise RecipeError(f"{KEY} holds characters that no key has, a line break perhaps: set it anew")

    def ask(self, messages: Sequence[Mapping[str, str]]) -> str:
        """What the model answers; "" where it refuses to. Raises ModelError."""
        body = json.dumps({"model": self.model, "messages": list(messages), **self.options}).encode()
        for attempt in range(ATTEMPTS):
            try:
                return self._ask(body)
            except _Passing as error:
                reason, wait = str(error), max(error.wait, 2.0**attempt)
            if attempt + 1 < ATTEMPTS:
                self.sleep(min(wait, LONGEST_WAIT))
        raise ModelError(
            f"{self.url}: {reason}; asked {ATTEMPTS} times. What is judged is kept: the same command goes on from there"
        )

    def _ask(self, body: bytes) -> str:
        address = self.url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        headers = {"Content-Type": "application/json", "User-Agent": "tsugiki"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(address, body, headers)
        handlers: list[Any] = [_NoRedirects()]
        if urlsplit(address).hostname in LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + self.timeout
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout) as response:
                content = self._read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except TimeoutError:
            raise _Passing(f"no answer within {self.timeout:g} seconds (--timeout)") from None
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                raise _Passing(f"no answer within {self.timeout:g} seconds (--timeout)") from None
            raise _Passing(self._said(f"cannot be reached: {cause or type(error).__name__}")) from None
        try:
            choices = parse_json(content, _Completion, "its answer")["choices"]
        except DataError:
            choices = []
        if not choices:
            shown = self._said(content.decode(errors="replace"))
            raise _Passing(f"what it answers is no chat completion: {shown or 'nothing'}")
        return self._without_key(choices[0]["message"]["content"] or "")

    def _read(self, response: Any, deadline: float) -> bytes:
        """The whole body. A server that sends a byte now and then is silent, too."""
        parts, size = [], 0
        while part := response.read1(1 << 16):
            parts.append(part)
            size += len(part)
            if time.monotonic() > deadline:
                raise TimeoutError
            if size > MOST_BYTES:
                raise _Passing(f"its answer has more than {MOST_BYTES:,} bytes")
        return b"".join(parts)

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        """What a status other than success means."""
        if 300 <= error.code < 400:
            elsewhere = self._said(str(error.headers.get("Location", "another address")))
            return ModelError(f"{self.url}: it sends on to {elsewhere}; give the address that answers itself")
        try:
            said = self._said(error.read(1 << 14).decode(errors="replace"))
        except (OSError, http.client.HTTPException):
            said = ""
        reason = f"status {error.code}" + (f", {said}" if said else "")
        if error.code in PASSING:
            stated = error.headers.get("Retry-After", "")
            return _Passing(reason, float(stated) if stated.isdigit() else 0.0)
        if error.code in (401, 403):
            held = "the one in" if self.key is not None else "none was given: put it into"
            return ModelError(f"{self.url}: the key is refused, {held} {KEY} ({reason})")
        hint = "; is the address right, with its /v1?" if error.code in (404, 405) else ""
        return ModelError(f"{self.url}: the request is refused: {reason}{hint}")

    def _said(self, text: str) -> str:
        """What a server said, in one line and without the key."""
        return one_line(self._without_key(text), 300)

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "…") if self.key else text


def key_from_environment() -> str | None:
    """The key, where the user has set one."""
    return os.environ.get(KEY, "").strip() or None
