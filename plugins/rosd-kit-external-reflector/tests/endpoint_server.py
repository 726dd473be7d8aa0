"""A chat endpoint on this machine that answers as it is told to: real sockets, made-up answers."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes]


def said(text: Any, reason: str = "stop") -> Answer:
    """Return a well-formed answer with this text."""
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}]}).encode()


@dataclass
class Heard:
    """What the server was asked, with which keys, and how many requests it ever had at once."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Answer], *, seconds: float = 0.0) -> Iterator[Heard]:
    """Serve `answer(number of the request, its body)`, each after so many seconds."""
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with heard.lock:
                number = len(heard.bodies)
                heard.bodies.append(body)
                heard.keys.append(self.headers.get("authorization"))
                heard.paths.append(self.path)
                heard.now += 1
                heard.most = max(heard.most, heard.now)
            time.sleep(seconds)
            status, content = answer(number, body)
            with heard.lock:
                heard.now -= 1
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # the other side no longer waits

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    heard.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
