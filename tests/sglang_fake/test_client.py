"""Requests to one server, and the names of the ways in which they fail."""

from __future__ import annotations

import asyncio
import copy
import math
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.errors import EngineError
from rosd_kit.serving.client import is_loopback
from rosd_kit.serving.protocol import RequestRejected, ServerFault
from rosd_kit.sglang.client import SGLangClient
from rosd_kit.sglang.protocol import has_update_sessions, parse_generate, parse_scores
from rosd_kit.types import Sampling
from tests.sglang_fake import fake_server

PROMPT = [5, 6, 7, 8]


def request(url: str, *, timeout: float = 60.0, score: bool = False, **options):
    """Send one request: generate, or score the prompt."""

    async def send():
        client = SGLangClient(url, timeout=timeout, **options)
        try:
            if score:
                return await client.score(PROMPT)
            sampling = Sampling(temperature=0.0, max_new_tokens=3)
            return await client.generate(PROMPT, sampling, budget=3, seed=1, end_ids=[3])
        finally:
            await client.close()

    return asyncio.run(send())


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (503, "unavailable"),
        (429, "unavailable"),
        (500, "unavailable"),
        ("closed", "unreachable"),
        ("cut", "unreachable"),
        ("truncated", "garbled"),
        ("hang", "timeout"),
        (fake_server.aborted, "aborted"),
        (fake_server.unfinished, "garbled"),
        (fake_server.without_logprobs, "garbled"),
        (fake_server.changed_meta(finish_reason={"type": "sneezed"}), "garbled"),
        (fake_server.changed_meta(prompt_tokens=None), "garbled"),
    ],
)
def test_a_failure_that_a_retry_may_fix_is_a_fault_with_a_kind(serve, fault, kind):
    server = serve()
    server.script("generate", fault)
    with pytest.raises(ServerFault) as error:
        request(server.url, timeout=0.3 if fault == "hang" else 60.0)
    assert error.value.kind == kind
    assert len(request(server.url).token_ids) == 3, "the next response is complete"


def test_sampling_options_arrive_as_the_server_names_them(serve):
    server = serve()

    async def send(*samplings):
        client = SGLangClient(server.url, timeout=60.0)
        try:
            for sampling in samplings:
                await client.generate(PROMPT, sampling, budget=3, seed=1, end_ids=[3])
        finally:
            await client.close()

    asyncio.run(send(Sampling(), Sampling(temperature=0.7, top_k=20, top_p=0.9, min_p=0.05, stop=("###", "\n\n"))))
    plain, limited = (payload["sampling_params"] for payload in server.payloads("generate"))
    names = ("temperature", "top_k", "top_p", "min_p", "stop")
    assert [plain[name] for name in names] == [1.0, -1, 1.0, 0.0, []]
    assert [limited[name] for name in names] == [0.7, 20, 0.9, 0.05, ["###", "\n\n"]]


def test_an_unreachable_server_is_a_fault(serve):
    server = serve()
    server.die()
    with pytest.raises(ServerFault, match=rf"unreachable: {server.url}/generate: "):
        request(server.url)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_wrong_request_is_rejected_with_the_servers_message(serve, status):
    server = serve()
    server.script("generate", status)
    with pytest.raises(RequestRejected, match=rf"/generate: HTTP {status} .*scripted {status}"):
        request(server.url)


@pytest.mark.parametrize("score", [False, True])
def test_a_server_that_changes_the_prompt_is_an_error(serve, score):
    server = serve()
    scored = [[None, 1, None], *([-1.0, token, None] for token in PROMPT)]
    server.script("score" if score else "generate", fake_server.changed_meta(prompt_tokens=5, input_token_logprobs=scored))
    with pytest.raises(
        RequestRejected, match=r"template: the server (read a prompt of|scored) 5 tokens.*router or a server option"
    ):
        request(server.url, score=score)


def test_scores_of_other_tokens_are_rejected_except_the_id_that_sglang_reports_as_0(serve):
    server = serve()

    def scores_of(*ids):
        return fake_server.changed_meta(input_token_logprobs=[[None if i == 0 else -1.0, t, None] for i, t in enumerate(ids)])

    server.script("score", scores_of(5, 6, 9, 8), scores_of(5, 6, 0, 8))
    with pytest.raises(RequestRejected, match="template: the server scored 4 tokens that are not the 4"):
        request(server.url, score=True)
    assert request(server.url, score=True) == [-1.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("0.5.16", False),
        ("0.5.17", True),
        ("0.5.21.post1", True),
        ("0.5.23", True),
        ("0.5.24", False),
        ("0.6.0", False),
        ("1.0", False),
        ("main-abcdef", False),
    ],
)
def test_only_tested_versions_are_accepted_unless_any_is_allowed(serve, version, accepted):
    server = serve(version=version)

    async def server_info(any_version):
        client = SGLangClient(server.url, timeout=60.0, any_version=any_version)
        try:
            return await client.server_info()
        finally:
            await client.close()

    assert asyncio.run(server_info(True)).context_length == 512
    if accepted:
        assert has_update_sessions(asyncio.run(server_info(False))) == (version != "0.5.17")
    else:
        with pytest.raises(EngineError, match=rf"SGLang {version}; .* 0\.5\.17 to 0\.5\.23.*rollout\.any_version=true"):
            asyncio.run(server_info(False))


def test_a_request_without_the_api_key_is_rejected(serve):
    server = serve(api_key="secret")
    assert request(server.url, api_key="secret").token_ids
    with pytest.raises(RequestRejected, match="HTTP 401"):
        request(server.url)
    assert [received.authorization for received in server.received] == ["Bearer secret", None]


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.3.2.1", True),
        ("http://[::1]:30000", True),
        ("http://localhost:30000", True),
        ("http://10.0.0.1", False),
        ("http://0.0.0.0", False),
        ("http://localhost.example.org", False),
    ],
)
def test_only_addresses_of_this_machine_are_loopback(url, loopback):
    assert is_loopback(url) == loopback


def test_loopback_requests_bypass_the_proxy_of_the_environment(serve, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert request(serve().url).token_ids


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
COMPLETE = {
    "output_ids": [7, 8],
    "meta_info": {
        "finish_reason": {"type": "length", "length": 2},
        "prompt_tokens": len(PROMPT),
        "weight_version": "a",
        "weight_versions": [{"version": "a", "start": 0, "end": 2}],
        "output_token_logprobs": [[-0.5, 7, None], [-1.5, 8, None]],
        "input_token_logprobs": [[None, 5, None], [-1.0, 6, None], [-2.0, 7, None], [-3.0, 8, None]],
    },
}


def paths(value, path=()):
    """Yield the path to every element of a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


@given(path=st.sampled_from(list(paths(COMPLETE))), value=st.sampled_from([math.inf, -math.inf, math.nan, 1.5]) | JSON)
def test_any_response_is_parsed_or_is_a_fault_or_a_rejection(path, value):
    payload = copy.deepcopy({"response": COMPLETE})
    parent = payload
    *keys, last = ("response", *path)
    for key in keys:
        parent = parent[key]
    parent[last] = value
    with suppress(ServerFault, RequestRejected):
        result = parse_generate(payload["response"], PROMPT)
        assert len(result.token_ids) == len(result.logprobs)
    with suppress(ServerFault, RequestRejected):
        assert len(parse_scores(payload["response"], PROMPT)) == len(PROMPT) - 1


def test_a_complete_response_is_parsed():
    result = parse_generate(COMPLETE, PROMPT)
    assert (result.token_ids, result.logprobs, result.finish_reason, result.labels) == ((7, 8), (-0.5, -1.5), "length", {"a"})
    assert parse_scores(COMPLETE, PROMPT) == [-1.0, -2.0, -3.0]
