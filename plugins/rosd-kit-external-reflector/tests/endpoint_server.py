"""A local chat endpoint with real sockets and scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]


def completion(text: object, reason: str = "stop") -> Answer:
    """Return a well-formed answer with this text."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return 200, json.dumps({"choices": [choice]}).encode()


@dataclass
class Received:
    """The requests that the server has received, and its largest number of concurrent requests."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    max_concurrent: int = 0
    concurrent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Answer]) -> Iterator[Received]:
    """Answer each request with `answer(its number, its body)`."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with received.lock:
                number = len(received.bodies)
                received.bodies.append(body)
                received.keys.append(self.headers.get("authorization"))
                received.paths.append(self.path)
                received.concurrent += 1
                received.max_concurrent = max(received.max_concurrent, received.concurrent)
            status, content = answer(number, body)
            with received.lock:
                received.concurrent -= 1
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # the client has given up

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    received.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
