"""Serves a run's page to this machine only, and sends it new records during the run.

All paths start with a secret token, and the Host header must name this server. So another page in the same browser cannot read
the run, even through a domain name that it points at this machine (DNS rebinding).
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
from socket import socket
from socketserver import BaseServer
from urllib.parse import parse_qs, urlsplit

from rosd_kit.errors import RunError
from rosd_kit.report.packing import detail, overview, row
from rosd_kit.report.page import compact, live_page
from rosd_kit.report.reading import Record, RunRecords, records, sample_files

_HOST = "127.0.0.1"
_POLICY = "frame-ancestors 'none'"


@dataclass
class Follower:
    """Reads a run's folder and finds what a page does not have yet.

    `generation` changes when records disappear, for example when the run resumes from an earlier step; a page with another
    generation gets everything.
    """

    folder: Path
    generation: str = field(default_factory=lambda: secrets.token_hex(4))
    _steps: list[int] = field(default_factory=list)
    _chunks: list[tuple[str, int]] = field(default_factory=list)
    _rows: dict[tuple[str, int], Record] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def update(self, have: Mapping[str, str]) -> Record:
        """Return what is new to a page; `have` is its generation and its counts of metrics, evaluations and chunks."""
        with self._lock:
            run = RunRecords.read(self.folder)
            files = sample_files(self.folder)
            self._update_generation(run, files)
            current = have.get("generation") == self.generation
            metrics, evaluations, chunks = (
                _parse_count(have.get(name)) if current else 0 for name in ("metrics", "evaluations", "chunks")
            )
            return {
                "generation": self.generation,
                "have": {"metrics": len(run.metrics), "evaluations": len(run.evaluations), "chunks": len(files)},
                "overview": overview(run, first_metric=metrics, first_evaluation=evaluations),
                "chunks": [self._chunk(file) for file in files[chunks:]],
            }

    def details(self, number: int, generation: str) -> list[Record] | None:
        """Return the details of a chunk's rollouts, or None if this generation has no such chunk."""
        files = sample_files(self.folder)
        if generation != self.generation or not 0 <= number < len(files):
            return None
        return [detail(record) for record in records(files[number])]

    def _update_generation(self, run: RunRecords, files: list[Path]) -> None:
        steps = [record["step"] for record in run.metrics]
        chunks = [_version(file) for file in files]
        if steps[: len(self._steps)] != self._steps or chunks[: len(self._chunks)] != self._chunks:
            self.generation = secrets.token_hex(4)
            self._rows.clear()
        self._steps, self._chunks = steps, chunks

    def _chunk(self, file: Path) -> Record:
        key = _version(file)
        if key not in self._rows:
            samples = records(file)
            self._rows[key] = {"step": samples[0]["step"] if samples else 0, "rows": [row(record) for record in samples]}
        return self._rows[key]


class LiveServer:
    """Serves one run's page at `address`. Use it as a context manager, or call `serve`."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        """Listen on `port`; 0 means any free port. Raises `RunError` if there is no run or the port is taken."""
        name = RunRecords.read(folder).folder.resolve().name
        token = secrets.token_urlsafe(24)
        handler = partial(_Handler, follower=Follower(folder), page=live_page(name).encode(), token=token)
        try:
            self.server = ThreadingHTTPServer((_HOST, port), handler)
        except OSError as error:
            raise RunError(f"report --port: cannot listen on {port}: {error.strerror}. Choose another port, or 0.") from error
        self.server.daemon_threads = True
        self.address = f"http://{_HOST}:{self.server.server_address[1]}/{token}/"

    def serve(self) -> None:
        """Serve until interrupted."""
        self.server.serve_forever(poll_interval=0.2)

    def __enter__(self) -> LiveServer:
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers GET requests under the secret path and refuses all others."""

    def __init__(
        self, request: socket, address: tuple[str, int], server: BaseServer, *, follower: Follower, page: bytes, token: str
    ) -> None:
        self.follower, self.page, self.token = follower, page, token
        super().__init__(request, address, server)

    def do_GET(self) -> None:
        """Send the page, an update, or the details of a chunk."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{_HOST}:{port}", f"localhost:{port}"):
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        try:
            url = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(url.query, max_num_fields=20).items()}
        except ValueError:  # half an IPv6 address, for example, or too many fields
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        _, token, *rest = [*url.path.split("/"), ""]
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        match rest[:-1]:
            case [""]:
                self._send_ok(self.page, "text/html; charset=utf-8")
            case ["update"]:
                self._send_ok(compact(self.follower.update(query)), "application/json")
            case ["details", number]:
                details = self.follower.details(_parse_count(number, -1), query.get("generation", ""))
                if details is None:
                    self._refuse(HTTPStatus.NOT_FOUND)
                else:
                    self._send_ok(compact(details), "application/json")
            case _:
                self._refuse(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, since paths contain the secret."""

    def _send_ok(self, body: bytes, kind: str) -> None:
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


def _version(file: Path) -> tuple[str, int]:
    """Return a key that changes when a file is replaced; sample files are replaced as a whole, never appended to."""
    return file.name, file.stat().st_mtime_ns


def _parse_count(text: str | None, default: int = 0) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 18 else default
