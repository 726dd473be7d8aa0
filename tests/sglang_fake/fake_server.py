"""A server that speaks SGLang's protocol as 0.5.21 does, with a script of faults.

It knows no model: a brain computes. What would kill the real server (an id outside the vocabulary, text without memory)
kills this one, and `crashes` says why. Standard library only, so that a launched one is there at once.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

#: What a real server calls the weights that it was started with.
DEFAULT = "default"

Payload = dict[str, Any]
#: What goes wrong with one answer: an HTTP status, one of the words of `_Handler.spoil`, or a change of the answer.
ServerFault = int | str | Callable[["FakeServer", Payload], Payload]


class Brain(Protocol):
    """What computes behind a server. Whatever it raises is an HTTP 400."""

    vocabulary: int

    def score(self, ids: list[int]) -> list[float]: ...
    def sample(self, ids: list[int], params: Mapping[str, Any]) -> tuple[list[int], list[float]]: ...
    def load_files(self, folder: str) -> None: ...
    def load_bucket(self, handle: str) -> None: ...
    def join(self, invitation: Payload) -> None: ...
    def receive(self, request: Payload) -> None: ...
    def leave(self, name: str) -> None: ...
    def reset(self) -> None: ...


@dataclass(frozen=True)
class Heard:
    """A request as it arrived."""

    route: str
    payload: Payload
    authorization: str | None


class Refused(Exception):
    """The request is wrong; the answer says so with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeServer:
    """One server on loopback; alive once made. `script` says what goes wrong, `heard` what arrived."""

    def __init__(
        self,
        brain: Brain,
        *,
        version: str = "0.5.21",
        dtype: str = "float32",
        context: int = 512,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.brain = brain
        self.version = version
        self.dtype = dtype
        self.context = context
        self.api_key = api_key
        self.label = DEFAULT
        self.told_label: str | None = None
        self.updating = False
        self.released: set[str] = set()
        self.heard: list[Heard] = []
        self.crashes: list[str] = []
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._script: defaultdict[str, deque[ServerFault | None]] = defaultdict(deque)
        self._address = (host, port)
        self._changing = threading.RLock()
        self._http: _Http | None = None
        self.come_back()

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    def script(self, what: str, *faults: ServerFault | None) -> None:
        """Spoil the next answers to `generate`, `score` or a route such as `/health`; None lets one pass."""
        self._script[what].extend(faults)

    def come_back(self) -> None:
        """Listen, on the same port as before."""
        self._http = _Http(self._address, _Handler)
        self._http.fake = self
        self._address = self._http.server_address[:2]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        """Be gone: nobody listens, and all connections are cut."""
        with self._changing:
            http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """Begin anew with the weights of the beginning and their label."""
        with self._changing:
            self.brain.reset()
            self.label, self.updating, self.released = DEFAULT, False, set()

    def close(self) -> None:
        self.closing.set()
        self.die()

    def asked(self, what: str) -> list[Payload]:
        """Return what arrived at a route, or as `generate` or `score`."""
        return [heard.payload for heard in list(self.heard) if what in (heard.route, _kind(heard.route, heard.payload))]

    def routes(self, *ignored: str) -> list[str]:
        """Return the routes that were called, in order, but for some."""
        return [heard.route for heard in list(self.heard) if heard.route not in ignored]

    def answer(self, route: str, payload: Payload, authorization: str | None) -> Payload | str:
        """Do what a route does. Raises `Refused`."""
        self.heard.append(Heard(route, payload, authorization))
        if self.api_key and route != "/health" and authorization != f"Bearer {self.api_key}":
            raise Refused(401, "Unauthorized")
        found = getattr(self, f"_{route.removeprefix('/')}", None)
        if found is None:
            raise Refused(404, "Not Found")
        try:
            answer: Payload | str = found(payload)
        except Refused:
            raise
        except Exception as error:
            raise Refused(400, f"{type(error).__name__}: {error}") from error
        return answer

    def fault(self, route: str, payload: Payload) -> ServerFault | None:
        """Take what the script says of this answer."""
        with self._changing:
            planned = self._script[_kind(route, payload)]
            return planned.popleft() if planned else None

    def _crash(self, reason: str) -> None:
        self.crashes.append(reason)
        self.die()
        raise Refused(500, reason)

    # -- what it is

    def _health(self, payload: Payload) -> str:
        return ""

    def _server_info(self, payload: Payload) -> Payload:
        limits = {"context_length": None, "max_req_input_len": self.context, "max_total_num_tokens": 8192}
        return {"version": self.version, "model_path": "fake", "dtype": self.dtype, "tp_size": 1, **limits}

    def _model_info(self, payload: Payload) -> Payload:
        return {"model_path": "fake", "weight_version": self.told_label or self.label}

    # -- text

    def _generate(self, payload: Payload) -> Payload:
        ids, params = payload["input_ids"], payload["sampling_params"]
        if self.released:
            self._crash(f"asked for text without its {sorted(self.released)}")
        if not all(0 <= token < self.brain.vocabulary for token in ids):
            self._crash("asked to read an id outside the vocabulary")
        most = params["max_new_tokens"]
        if len(ids) + most > self.context:
            raise Refused(400, f"Requested token count exceeds the context length {self.context}.")
        label = self.label
        if not most:
            scores = [None, *self.brain.score(ids)]
            found: list[int] = []
            logprobs = {"input_token_logprobs": [[score, token, None] for score, token in zip(scores, ids, strict=True)]}
        else:
            found, values = self.brain.sample(ids, params)
            logprobs = {"output_token_logprobs": [[value, token, None] for value, token in zip(values, found, strict=True)]}
        ended = bool(found) and found[-1] in params.get("stop_token_ids", ())
        meta = {
            "finish_reason": {"type": "stop", "matched": found[-1]} if ended else {"type": "length", "length": most},
            "prompt_tokens": len(ids),
            "completion_tokens": len(found),
            "weight_version": label,
            "weight_versions": [{"version": label, "start": 0, "end": len(found)}],
            **logprobs,
        }
        return {"text": "", "output_ids": found, "meta_info": meta}

    # -- weights

    @property
    def _has_sessions(self) -> bool:
        return tuple(int(part) for part in self.version.split(".")[:3]) >= (0, 5, 21)

    def _update_weights_from_disk(self, payload: Payload) -> Payload:
        return self._updated(self.brain.load_files, payload["model_path"], payload)

    def _update_weights_from_tensor(self, payload: Payload) -> Payload:
        self._must_be_updating()
        assert payload["load_format"] == "flattened_bucket"
        return self._updated(self.brain.load_bucket, payload["serialized_named_tensors"][0], payload)

    def _update_weights_from_distributed(self, payload: Payload) -> Payload:
        self._must_be_updating()
        return self._updated(self.brain.receive, payload, payload)

    def _init_weights_update_group(self, payload: Payload) -> Payload:
        self.brain.join(payload)
        return _done()

    def _destroy_weights_update_group(self, payload: Payload) -> Payload:
        self.brain.leave(payload["group_name"])
        return _done()

    def _updated(self, load: Callable[[Any], None], what: object, payload: Payload) -> Payload:
        if "weights" in self.released:
            self._crash("asked to load weights without memory for them")
        if payload.get("flush_cache", True):
            self._crash("asked to flush within an update: any request, such as one for health, ends a real server then")
        with self._changing:
            load(what)
            self.label = payload.get("weight_version") or self.label
        return _done()

    def _begin_weight_update(self, payload: Payload) -> Payload:
        return self._session(opening=True)

    def _end_weight_update(self, payload: Payload) -> Payload:
        return self._session(opening=False)

    def _session(self, *, opening: bool) -> Payload:
        if not self._has_sessions:
            raise Refused(404, "Not Found")
        if self.updating == opening:
            raise Refused(400, f"a weight-update session is {'already' if opening else 'not'} open")
        self.updating = opening
        return _done()

    def _must_be_updating(self) -> None:
        if self._has_sessions and not self.updating:
            raise Refused(400, "must run between begin_weight_update() and end_weight_update()")

    # -- memory

    def _flush_cache(self, payload: Payload) -> str:
        return "Cache flushed."

    def _release_memory_occupation(self, payload: Payload) -> str:
        self.released |= set(payload["tags"])
        return ""

    def _resume_memory_occupation(self, payload: Payload) -> str:
        if not set(payload["tags"]) <= self.released:
            self._crash("asked to resume memory that was not released")
        self.released -= set(payload["tags"])
        return ""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeServer

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing: connections break on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections.add(self.connection)

    def finish(self) -> None:
        self.server.fake.connections.discard(self.connection)
        with suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def log_message(self, format: str, *values: object) -> None:
        """Write no log."""

    @property
    def _route(self) -> str:
        return self.path.partition("?")[0]

    def _serve(self, payload: Payload) -> None:
        fake = self.server.fake
        fault = fake.fault(self._route, payload)
        if isinstance(fault, int | str):
            fake.heard.append(Heard(self._route, payload, self.headers["authorization"]))
            self.spoil(fault)
            return
        try:
            answer = fake.answer(self._route, payload, self.headers["authorization"])
            if fault is not None:
                answer = fault(fake, answer if isinstance(answer, dict) else {})
        except Refused as refused:
            self._send(refused.status, {"error": {"message": str(refused)}})
            return
        if fake._http is None:
            self.close_connection = True  # it died meanwhile
            return
        self._send(200, answer)

    def spoil(self, fault: int | str) -> None:
        """Answer badly: a status, `closed`, `cut` (half an answer), `truncated` (half a JSON) or `hang`."""
        self.close_connection = True
        match fault:
            case int():
                self.close_connection = False
                self._send(fault, {"error": {"message": f"scripted {fault}"}})
            case "closed":
                pass
            case "cut":
                self._write(200, b'{"output_ids": [1,', length=500)
            case "truncated":
                self._write(200, b'{"output_ids": [1, 2, 3], "meta_info": {"finish_re')
            case "hang":
                self.server.fake.closing.wait(30)
            case _:
                raise AssertionError(fault)

    def _send(self, status: int, answer: Payload | str) -> None:
        if isinstance(answer, str):
            self._write(status, answer.encode(), kind="text/plain")
        else:
            self._write(status, json.dumps(answer).encode())

    def _write(self, status: int, body: bytes, *, kind: str = "application/json", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def _kind(route: str, payload: Payload) -> str:
    if route != "/generate":
        return route
    return "generate" if payload["sampling_params"]["max_new_tokens"] else "score"


def _done() -> Payload:
    return {"success": True, "message": "Success"}


# -- faults that change an answer


def changed_meta(**fields: object) -> ServerFault:
    """Return a fault that puts other facts into `meta_info`."""

    def change(fake: FakeServer, answer: Payload) -> Payload:
        return {**answer, "meta_info": {**answer["meta_info"], **fields}}

    return change


#: SGLang says this with HTTP 200.
aborted = changed_meta(finish_reason={"type": "abort", "message": "out of memory"})
stale = changed_meta(weight_versions=[{"version": "another", "start": 0, "end": 1}])
mixed = changed_meta(weight_versions=[{"version": DEFAULT, "start": 0, "end": 1}, {"version": "another", "start": 1, "end": 2}])
without_logprobs = changed_meta(output_token_logprobs=[])
unfinished = changed_meta(finish_reason=None)


def restarting(fake: FakeServer, answer: Payload) -> Payload:
    """Fail, and be there again with the weights of the beginning."""
    fake.restart()
    raise Refused(503, "restarting")


def dying(fake: FakeServer, answer: Payload) -> Payload:
    """Be gone for good in the middle of a request."""
    fake.die()
    return answer
