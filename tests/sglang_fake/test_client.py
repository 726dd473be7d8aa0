"""What one server says, and what each way of failing is called."""

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
from rosd_kit.sglang.client import Client, is_loopback
from rosd_kit.sglang.protocol import RequestRejected, ServerFault, parse_generate, parse_scores
from rosd_kit.types import Sampling
from tests.sglang_fake import fake

PROMPT = [5, 6, 7, 8]


def ask(url: str, *, timeout: float = 5.0, score: bool = False, **options):
    """Ask one server once, for text or for the scores of the prompt."""

    async def asking():
        client = Client(url, timeout=timeout, **options)
        try:
            if score:
                return await client.score(PROMPT)
            sampling = Sampling(temperature=0.0, max_new_tokens=3)
            return await client.generate(PROMPT, sampling, budget=3, seed=1, end_ids=[3])
        finally:
            await client.close()

    return asyncio.run(asking())


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
        (fake.aborted, "aborted"),
        (fake.unfinished, "garbled"),
        (fake.without_logprobs, "garbled"),
        (fake.changed_meta(finish_reason={"type": "sneezed"}), "garbled"),
        (fake.changed_meta(prompt_tokens=None), "garbled"),
    ],
)
def test_what_another_try_may_mend_is_a_fault_with_a_name(serve, fault, kind):
    server = serve()
    server.script("generate", fault)
    with pytest.raises(ServerFault) as found:
        ask(server.url, timeout=0.3 if fault == "hang" else 5.0)
    assert found.value.kind == kind
    assert len(ask(server.url).token_ids) == 3, "the next answer is whole"


def test_nobody_there_is_a_fault(serve):
    server = serve()
    server.die()
    with pytest.raises(ServerFault, match=rf"unreachable: {server.url}/generate: "):
        ask(server.url)


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_a_wrong_request_is_refused_with_the_servers_words(serve, status):
    server = serve()
    server.script("generate", status)
    with pytest.raises(RequestRejected, match=rf"/generate: HTTP {status} .*scripted {status}"):
        ask(server.url)


@pytest.mark.parametrize("score", [False, True])
def test_a_server_that_adds_to_the_prompt_is_refused(serve, score):
    server = serve()
    kept = [[None, 1, None], *([-1.0, token, None] for token in PROMPT)]
    server.script("score" if score else "generate", fake.changed_meta(prompt_tokens=5, input_token_logprobs=kept))
    with pytest.raises(
        RequestRejected, match=r"template: the server (read a prompt of|scored) 5 tokens.*router or a server option"
    ):
        ask(server.url, score=score)


def test_scores_of_other_tokens_are_refused_but_for_the_id_that_sglang_reports_as_0(serve):
    server = serve()

    def told(*ids):
        return fake.changed_meta(input_token_logprobs=[[None if i == 0 else -1.0, t, None] for i, t in enumerate(ids)])

    server.script("score", told(5, 6, 9, 8), told(5, 6, 0, 8))
    with pytest.raises(RequestRejected, match="template: the server scored 4 tokens that are not the 4"):
        ask(server.url, score=True)
    assert ask(server.url, score=True) == [-1.0, -1.0, -1.0]


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
def test_only_tried_versions_are_taken_unless_any_is(serve, version, accepted):
    server = serve(version=version)

    async def facts(any_version):
        client = Client(server.url, timeout=5.0, any_version=any_version)
        try:
            return await client.facts()
        finally:
            await client.close()

    assert asyncio.run(facts(True)).context == 512
    if accepted:
        assert asyncio.run(facts(False)).brackets == (version != "0.5.17")
    else:
        with pytest.raises(EngineError, match=rf"SGLang {version}; .* 0\.5\.17 to 0\.5\.23.*rollout\.any_version=true"):
            asyncio.run(facts(False))


def test_the_key_is_sent_and_a_wrong_one_refused(serve):
    server = serve(api_key="secret")
    assert ask(server.url, api_key="secret").token_ids
    with pytest.raises(RequestRejected, match="HTTP 401"):
        ask(server.url)
    assert [heard.authorization for heard in server.heard] == ["Bearer secret", None]


@pytest.mark.parametrize(
    ("url", "own"),
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
def test_only_this_machines_own_addresses_are_loopback(url, own):
    assert is_loopback(url) == own


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(serve, monkeypatch):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        assert ask(serve().url).token_ids


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
WHOLE = {
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
    """Yield the way to every part of a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inside:
        yield from paths(part, (*path, key))


@given(path=st.sampled_from(list(paths(WHOLE))), value=st.sampled_from([math.inf, -math.inf, math.nan, 1.5]) | JSON)
def test_whatever_a_server_answers_is_read_or_is_a_fault_or_a_refusal(path, value):
    payload = copy.deepcopy({"answer": WHOLE})
    inner = payload
    *way, last = ("answer", *path)
    for key in way:
        inner = inner[key]
    inner[last] = value
    with suppress(ServerFault, RequestRejected):
        answer = parse_generate(payload["answer"], PROMPT)
        assert len(answer.token_ids) == len(answer.logprobs)
    with suppress(ServerFault, RequestRejected):
        assert len(parse_scores(payload["answer"], PROMPT)) == len(PROMPT) - 1


def test_a_whole_answer_is_read():
    answer = parse_generate(WHOLE, PROMPT)
    assert (answer.token_ids, answer.logprobs, answer.finish, answer.labels) == ((7, 8), (-0.5, -1.5), "length", {"a"})
    assert parse_scores(WHOLE, PROMPT) == [-1.0, -2.0, -3.0]
