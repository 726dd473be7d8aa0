"""A fake server that speaks SGLang's protocol as 0.5.21 does, with scripted faults.

It knows no model: a backend computes. What would crash the real server (an id outside the vocabulary, generating with released
memory) crashes this one, and `crashes` says why. Standard library only, so that a launched one starts at once.
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

#: The label that a real server gives the weights it was started with.
DEFAULT = "default"

Payload = dict[str, Any]
#: A fault of one response: an HTTP status, one of the words of `_Handler.spoil`, or a function that changes the response.
Fault = int | str | Callable[["FakeServer", Payload], Payload]


class Backend(Protocol):
    """Computes behind a server. Any exception becomes HTTP 400."""

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
class ReceivedRequest:
    """A request as it arrived."""

    route: str
    payload: Payload
    authorization: str | None


class Rejected(Exception):
    """Raised for a wrong request; the response carries its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeServer:
    """One server on loopback, listening once created. `script` plans faults; `received` holds the requests that arrived."""

    def __init__(
        self,
        backend: Backend,
        *,
        version: str = "0.5.21",
        dtype: str = "float32",
        context: int = 512,
        api_key: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.backend = backend
        self.version = version
        self.dtype = dtype
        self.context = context
        self.api_key = api_key
        self.label = DEFAULT
        self.reported_label: str | None = None
        self.updating = False
        self.released: set[str] = set()
        self.received: list[ReceivedRequest] = []
        self.crashes: list[str] = []
        self.pace = 0.0  # seconds per token of a request with a name
        self.slots = threading.Semaphore(1000)  # requests with a name that are worked on at once; others wait
        self.open: dict[str, threading.Event] = {}  # set where a request is to end
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self._script: defaultdict[str, deque[Fault | None]] = defaultdict(deque)
        self._address = (host, port)
        self._changing = threading.RLock()
        self._weights = threading.RLock()  # a response's label is that of the weights that it was sampled from
        self._http: _Http | None = None
        self.listen()

    @property
    def url(self) -> str:
        return f"http://{self._address[0]}:{self._address[1]}"

    def script(self, kind: str, *faults: Fault | None) -> None:
        """Plan faults for the next requests to `generate`, `score` or a route like `/health`; None lets one succeed."""
        self._script[kind].extend(faults)

    def listen(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._http = _Http(self._address, _Handler)
        self._http.fake = self
        self._address = self._http.server_address[:2]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def die(self) -> None:
        """Stop listening and cut all connections."""
        with self._changing:
            http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """Behave as after a restart: initial weights under their default label, no update open, no memory released."""
        with self._changing, self._weights:
            self.backend.reset()
            self.label, self.updating, self.released = DEFAULT, False, set()

    def close(self) -> None:
        self.closing.set()
        self.die()

    def payloads(self, kind: str) -> list[Payload]:
        """Return the payloads that arrived at a route, or as `generate` or `score`."""
        received = list(self.received)
        return [request.payload for request in received if kind in (request.route, _kind(request.route, request.payload))]

    def routes(self, *ignored: str) -> list[str]:
        """Return the routes that were called, in order, except the ignored ones."""
        return [request.route for request in list(self.received) if request.route not in ignored]

    def respond(self, route: str, payload: Payload, authorization: str | None) -> Payload | str:
        """Handle a request and return the response. Raises `Rejected`."""
        self.received.append(ReceivedRequest(route, payload, authorization))
        if self.api_key and route != "/health" and authorization != f"Bearer {self.api_key}":
            raise Rejected(401, "Unauthorized")
        handler = getattr(self, f"_{route.removeprefix('/')}", None)
        if handler is None:
            raise Rejected(404, "Not Found")
        try:
            response: Payload | str = handler(payload)
        except Rejected:
            raise
        except Exception as error:
            raise Rejected(400, f"{type(error).__name__}: {error}") from error
        return response

    def next_fault(self, route: str, payload: Payload) -> Fault | None:
        """Take the planned fault of this request, if any."""
        with self._changing:
            planned = self._script[_kind(route, payload)]
            return planned.popleft() if planned else None

    def _crash(self, reason: str) -> None:
        self.crashes.append(reason)
        self.die()
        raise Rejected(500, reason)

    # -- state

    def _health(self, payload: Payload) -> str:
        return ""

    def _server_info(self, payload: Payload) -> Payload:
        limits = {"context_length": None, "max_req_input_len": self.context, "max_total_num_tokens": 8192}
        return {"version": self.version, "model_path": "fake", "dtype": self.dtype, "tp_size": 1, **limits}

    def _model_info(self, payload: Payload) -> Payload:
        return {"model_path": "fake", "weight_version": self.reported_label or self.label}

    # -- generation

    def _generate(self, payload: Payload) -> Payload:
        ids, params = payload["input_ids"], payload["sampling_params"]
        if self.released:
            self._crash(f"generate called while {sorted(self.released)} is released")
        if not all(0 <= token < self.backend.vocabulary for token in ids):
            self._crash("generate called with an id outside the vocabulary")
        budget = params["max_new_tokens"]
        if len(ids) + budget > self.context:
            raise Rejected(400, f"Requested token count exceeds the context length {self.context}.")
        output: list[int] = []
        with self._weights:
            label = self.label
            if budget:
                output, values = self.backend.sample(ids, params)
            else:
                scores = [None, *self.backend.score(ids)]
        ended = bool(output) and output[-1] in params.get("stop_token_ids", ())
        reason: Payload = {"type": "stop", "matched": output[-1]} if ended else {"type": "length", "length": budget}
        if (name := payload.get("rid")) and (sent := self._paced(name, len(output))) is not None:
            if sent == 0:  # a real server says no more about a request that waited
                meta = {"finish_reason": {"type": "abort", "message": "Abort in waiting queue"}, "weight_version": label}
                return {"text": "", "output_ids": [], "meta_info": meta}
            output, values, reason = output[:sent], values[:sent], {"type": "abort", "message": "Abort"}
        if budget:
            logprobs = {"output_token_logprobs": [[value, token, None] for value, token in zip(values, output, strict=True)]}
        else:
            logprobs = {"input_token_logprobs": [[score, token, None] for score, token in zip(scores, ids, strict=True)]}
        meta = {
            "finish_reason": reason,
            "prompt_tokens": len(ids),
            "completion_tokens": len(output),
            "weight_version": label,
            "weight_versions": [{"version": label, "start": 0, "end": len(output)}],
            **logprobs,
        }
        return {"text": "", "output_ids": output, "meta_info": meta}

    def _paced(self, name: str, tokens: int) -> int | None:
        """Take the time of so many tokens; return how many there are if the request is ended meanwhile: one more is sampled."""
        end = self.open[name] = threading.Event()
        try:
            while not self.slots.acquire(timeout=0.005):
                if end.is_set():
                    return 0
            try:
                if end.is_set():
                    return 0
                sent = next((sent + 1 for sent in range(tokens) if end.wait(self.pace)), None)
                if sent is not None:
                    self.closing.wait(0.2)  # what waits is ended before there is room for it
                return sent
            finally:
                self.slots.release()
        finally:
            del self.open[name]

    def _abort_request(self, payload: Payload) -> Payload:
        if open_request := self.open.get(payload["rid"]):  # a real server ignores other names too
            open_request.set()
        return {}

    # -- weights

    @property
    def _has_sessions(self) -> bool:
        return tuple(int(number) for number in self.version.split(".")[:3]) >= (0, 5, 21)

    def _update_weights_from_disk(self, payload: Payload) -> Payload:
        return self._updated(self.backend.load_files, payload["model_path"], payload)

    def _update_weights_from_tensor(self, payload: Payload) -> Payload:
        self._must_be_updating()
        assert payload["load_format"] == "flattened_bucket"
        return self._updated(self.backend.load_bucket, payload["serialized_named_tensors"][0], payload)

    def _update_weights_from_distributed(self, payload: Payload) -> Payload:
        self._must_be_updating()
        return self._updated(self.backend.receive, payload, payload)

    def _init_weights_update_group(self, payload: Payload) -> Payload:
        self.backend.join(payload)
        return _done()

    def _destroy_weights_update_group(self, payload: Payload) -> Payload:
        self.backend.leave(payload["group_name"])
        return _done()

    def _updated(self, load: Callable[[Any], None], argument: object, payload: Payload) -> Payload:
        if "weights" in self.released:
            self._crash("weights sent while their memory is released")
        if payload.get("flush_cache", True):
            self._crash(
                "flush requested inside an update: a real server exits then if any request is running, even a health check"
            )
        with self._weights:
            load(argument)
            self.label = payload.get("weight_version") or self.label
        return _done()

    def _begin_weight_update(self, payload: Payload) -> Payload:
        return self._session(opening=True)

    def _end_weight_update(self, payload: Payload) -> Payload:
        return self._session(opening=False)

    def _session(self, *, opening: bool) -> Payload:
        if not self._has_sessions:
            raise Rejected(404, "Not Found")
        if self.updating == opening:
            raise Rejected(400, f"a weight-update session is {'already' if opening else 'not'} open")
        self.updating = opening
        return _done()

    def _must_be_updating(self) -> None:
        if self._has_sessions and not self.updating:
            raise Rejected(400, "must run between begin_weight_update() and end_weight_update()")

    # -- memory

    def _flush_cache(self, payload: Payload) -> str:
        return "Cache flushed."

    def _release_memory_occupation(self, payload: Payload) -> str:
        self.released |= set(payload["tags"])
        return ""

    def _resume_memory_occupation(self, payload: Payload) -> str:
        if not set(payload["tags"]) <= self.released:
            self._crash("resume requested for memory that is not released")
        self.released -= set(payload["tags"])
        return ""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeServer

    def handle_error(self, request: object, address: object) -> None:
        """Print nothing: connections break on purpose here."""


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
        fault = fake.next_fault(self._route, payload)
        if isinstance(fault, int | str):
            fake.received.append(ReceivedRequest(self._route, payload, self.headers["authorization"]))
            self.spoil(fault)
            return
        try:
            response = fake.respond(self._route, payload, self.headers["authorization"])
            if fault is not None:
                response = fault(fake, response if isinstance(response, dict) else {})
        except Rejected as rejected:
            self._send(rejected.status, {"error": {"message": str(rejected)}})
            return
        if fake._http is None:
            self.close_connection = True  # the fault stopped the server
            return
        self._send(200, response)

    def spoil(self, fault: int | str) -> None:
        """Send an HTTP status, or fail as named: `closed`, `cut` (half a body), `truncated` (half a JSON object), `hang`."""
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
                self.close_connection = False  # or the next request may be sent on a connection that is being closed
                self._write(200, b'{"output_ids": [1, 2, 3], "meta_info": {"finish_re')
            case "hang":
                self.server.fake.closing.wait(300)
            case _:
                raise AssertionError(fault)

    def _send(self, status: int, response: Payload | str) -> None:
        if isinstance(response, str):
            self._write(status, response.encode(), content_type="text/plain")
        else:
            self._write(status, json.dumps(response).encode())

    def _write(self, status: int, body: bytes, *, content_type: str = "application/json", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)


def _kind(route: str, payload: Payload) -> str:
    if route != "/generate":
        return route
    return "generate" if payload["sampling_params"]["max_new_tokens"] else "score"


def _done() -> Payload:
    return {"success": True, "message": "Success"}


# -- faults that change a response


def changed_meta(**fields: object) -> Fault:
    """Return a fault that replaces fields of `meta_info`."""

    def change(server: FakeServer, response: Payload) -> Payload:
        return {**response, "meta_info": {**response["meta_info"], **fields}}

    return change


#: SGLang sends this with HTTP 200.
aborted = changed_meta(finish_reason={"type": "abort", "message": "out of memory"})
stale = changed_meta(weight_versions=[{"version": "another", "start": 0, "end": 1}])
mixed = changed_meta(weight_versions=[{"version": DEFAULT, "start": 0, "end": 1}, {"version": "another", "start": 1, "end": 2}])
without_logprobs = changed_meta(output_token_logprobs=[])
unfinished = changed_meta(finish_reason=None)


def restarting(server: FakeServer, response: Payload) -> Payload:
    """Fail the request and restart with the initial weights."""
    server.restart()
    raise Rejected(503, "restarting")


def dying(server: FakeServer, response: Payload) -> Payload:
    """Stop for good in the middle of a request."""
    server.die()
    return response
