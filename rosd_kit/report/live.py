"""Serves a run's page on this machine only, and tells it what is new while the run goes on.

Everything lies under a path that holds a secret, and requests are answered only if they name this server as their host, so
that no other page that is open in the same browser can read a run, also not by a name that it makes point here.
"""

from __future__ import annotations

import gzip
import hmac
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from rosd_kit.errors import RunError
from rosd_kit.report.packing import detail, overview, row
from rosd_kit.report.page import compact, live_page
from rosd_kit.report.reading import Record, RunRecords, records, sample_files

_HOST = "127.0.0.1"
_POLICY = "frame-ancestors 'none'"


@dataclass
class Follower:
    """What there is of a run now, and what of it a page does not have yet.

    `generation` changes when something that was there before is no more, as when a run goes on from an earlier step; a page
    that has another one gets everything.
    """

    folder: Path
    generation: str = field(default_factory=lambda: secrets.token_hex(4))
    _steps: list[int] = field(default_factory=list)
    _chunks: list[tuple[str, int]] = field(default_factory=list)
    _rows: dict[tuple[str, int], Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, have: Mapping[str, str]) -> Record:
        """Return what is new to a page that has so many records, evaluations and chunks of a generation."""
        with self._lock:
            run = RunRecords.read(self.folder)
            files = sample_files(self.folder)
            self._notice(run, files)
            known = have.get("generation") == self.generation
            metrics, evaluations, chunks = (
                _count(have.get(name)) if known else 0 for name in ("metrics", "evaluations", "chunks")
            )
            return {
                "generation": self.generation,
                "have": {"metrics": len(run.metrics), "evaluations": len(run.evaluations), "chunks": len(files)},
                "overview": overview(run, first_metric=metrics, first_evaluation=evaluations),
                "chunks": [self._listed(file) for file in files[chunks:]],
            }

    def details(self, number: int, generation: str) -> list[Record] | None:
        """Return the details of the rollouts of one chunk; None where there is none, or of another generation only."""
        files = sample_files(self.folder)
        if generation != self.generation or not 0 <= number < len(files):
            return None
        return [detail(record) for record in records(files[number])]

    def _notice(self, run: RunRecords, files: list[Path]) -> None:
        steps = [record["step"] for record in run.metrics]
        chunks = [_identity(file) for file in files]
        if steps[: len(self._steps)] != self._steps or chunks[: len(self._chunks)] != self._chunks:
            self.generation = secrets.token_hex(4)
            self._rows.clear()
        self._steps, self._chunks = steps, chunks

    def _listed(self, file: Path) -> Record:
        key = _identity(file)
        if key not in self._rows:
            found = records(file)
            self._rows[key] = {"step": found[0]["step"] if found else 0, "rows": [row(record) for record in found]}
        return self._rows[key]


class LiveServer:
    """A server of one run's page; `address` is what to open. Use as a context, or call `serve`."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen on `port`, or on any free one. Raises `RunError` when there is no run, or the port is taken."""
        name = RunRecords.read(folder).folder.resolve().name
        token = secrets.token_urlsafe(24)
        handler = partial(_Handler, follower=Follower(folder), page=live_page(name).encode(), token=token)
        try:
            self.server = ThreadingHTTPServer((_HOST, port), handler)
        except OSError as error:
            raise RunError(f"report --port: {port} cannot be listened on: {error.strerror}. Choose another, or 0.") from error
        self.server.daemon_threads = True
        self.address = f"http://{_HOST}:{self.server.server_address[1]}/{token}/"

    def serve(self) -> None:
        """Answer until interrupted."""
        self.server.serve_forever(poll_interval=0.2)

    def __enter__(self) -> LiveServer:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET under the secret path; everything else does not exist."""

    def __init__(self, *arguments: Any, follower: Follower, page: bytes, token: str) -> None:
        self.follower, self.page, self.token = follower, page, token
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer the page, what is new, or the details of a chunk."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{_HOST}:{port}", f"localhost:{port}"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        url = urlsplit(self.path)
        _, token, *rest = [*url.path.split("/"), ""]
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        asked = {name: values[-1] for name, values in parse_qs(url.query).items()}
        match rest[:-1]:
            case [""]:
                self._answer(self.page, "text/html; charset=utf-8")
            case ["update"]:
                self._answer(compact(self.follower.update(asked)), "application/json")
            case ["details", number]:
                found = self.follower.details(_count(number, -1), asked.get("generation", ""))
                if found is None:
                    self._refuse(HTTPStatus.NOT_FOUND)
                else:
                    self._answer(compact(found), "application/json")
            case _:
                self._refuse(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: addresses hold the secret."""

    def _answer(self, body: bytes, kind: str) -> None:
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=5)
        self._send(HTTPStatus.OK, body, kind, gzipped=body[:2] == b"\x1f\x8b")

    def _refuse(self, status: HTTPStatus) -> None:
        self._send(status, f"{status.value} {status.phrase}\n".encode(), "text/plain")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, *, gzipped: bool = False) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Content-Security-Policy": _POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        if gzipped:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body)


def _identity(file: Path) -> tuple[str, int]:
    """Return what tells a file from another one of its name: samples are written aside and renamed, never appended to."""
    return file.name, file.stat().st_mtime_ns


def _count(text: str | None, otherwise: int = 0) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else otherwise
