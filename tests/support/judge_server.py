"""A stand-in for a chat model's server: it speaks the protocol on the loopback and answers what a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Answer:
    """What the server sends."""

    text: str | None = None
    """The content of a chat completion; with `body` something else is sent."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hangs: str = ""
    """"at once": nothing is ever sent; "dripping": a byte now and then; "cut": the connection goes in the middle."""

    def content(self) -> bytes:
        if self.body is not None:
            return self.body
        message = {"role": "assistant", "content": self.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"id": "c-1", "object": "chat.completion", "choices": [choice], "usage": {}}).encode()


@dataclass
class Request:
    """What was sent to it."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Server:
    url: str
    requests: list[Request]


@contextmanager
def judge_server(answer: Callable[[Request, int], Answer]) -> Iterator[Server]:
    """A server whose n-th request (from 0) gets `answer(request, n)`."""
    requests: list[Request] = []
    lock, over = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            request = Request(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(content))
            with lock:
                requests.append(request)
                number = len(requests) - 1
            told = answer(request, number)
            if told.hangs == "at once":
                over.wait(30)
                return
            body = told.content()
            self.send_response(told.status)
            for name, value in {"Content-Type": "application/json", **told.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if told.hangs == "cut":
                self.wfile.write(body[:5])
                return
            if told.hangs == "dripping":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    if over.wait(0.05):
                        return
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:  # a client that has gone
            return

    server = Quiet(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield Server(f"http://127.0.0.1:{server.server_port}/v1", requests)
    finally:
        over.set()
        server.shutdown()
        server.server_close()
