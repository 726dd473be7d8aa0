"""The reflector `external`: the laws of its slot, all failures of an endpoint, and the secrecy of the key."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest
from endpoint_server import Answer, completion, serving
from rosd_kit_external_reflector import External

import rosd_kit as rk
from rosd_kit.testing import fake_case, fake_generate, parametrize_with_checks

RECIPE = Path(__file__).parents[1] / "recipe.yaml"
KEY = "sk-very-secret-0123456789"
REFLECTION = "<error_quote>25 + 4 = 30</error_quote> <explanation>25 + 4 is 29 .</explanation>"
GARBAGE = {
    "no JSON": b"<html>proxy</html>",
    "half a JSON": b'{"choices": [{"message"',
    "a list": b"[]",
    "null": b"null",
    "no choices": b'{"choices": []}',
    "choices of text": b'{"choices": ["text"]}',
    "no message": b'{"choices": [{"index": 0}]}',
    "no text": completion(None)[1],
    "a number for text": completion(7)[1],
    "broken bytes": b"\xff\xfe\x00",
    "nothing": b"",
}


def external(**options: object) -> External:
    return External(External.Config(**{"timeout": 60.0, "deadline": 120.0, **options}))


def reflect(reflector: External, *cases: rk.Case) -> list[rk.Reflection]:
    generate = fake_generate()
    reflections = reflector.reflect(cases or (fake_case(),), generate)
    assert generate.prompts == [], "the reflector called the student's engine"
    return reflections


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def working_endpoint():
    def length_of_prompt(number, body):
        return completion(f"<explanation>{len(body['messages'][-1]['content'])}</explanation>")

    with serving(length_of_prompt) as received:
        yield received


@parametrize_with_checks([External()])
def test_conformance(component, check, working_endpoint):
    options = component.config.model_copy(update={"url": working_endpoint.url})
    check(External(options))


def test_an_answer_is_parsed_like_the_tutors():
    with serving(lambda number, body: completion(f"<think>hm</think> {REFLECTION}")) as received:
        (reflection,) = reflect(external(url=received.url, model="some/model", max_new_tokens=77))
    assert (reflection.status, reflection.quote, reflection.idea) == ("ok", "25 + 4 = 30", "25 + 4 is 29 .")
    (body,) = received.bodies
    assert received.paths == ["/v1/chat/completions"] and received.keys == [None]
    assert {k: body[k] for k in ("model", "temperature", "top_p", "max_tokens")} == {
        "model": "some/model",
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 77,
    }
    assert body["messages"] == [{"role": "user", "content": body["messages"][0]["content"]}]
    assert "25 + 4 = 30" in body["messages"][0]["content"] and "29" in body["messages"][0]["content"]


def test_each_case_gets_its_own_answer():
    cases = [fake_case(f"Answer : {number} .") for number in range(12)]

    def echo(number, body):
        return completion(f"<explanation>{body['messages'][0]['content'].split('Answer : ')[1].split()[0]}</explanation>")

    with serving(echo) as received:
        reflections = reflect(external(url=received.url, concurrency=5, wrong_template="{problem} {response}"), *cases)
    assert [reflection.idea for reflection in reflections] == [str(number) for number in range(12)]


def test_a_case_that_needs_no_reflection_sends_no_request():
    with serving(lambda number, body: completion(REFLECTION)) as received:
        reflections = reflect(external(url=received.url, reflect_right=False), fake_case(right=True), fake_case(views=()))
    assert [reflection.status for reflection in reflections] == ["skipped", "skipped"] and received.bodies == []


@pytest.mark.parametrize("what", GARBAGE)
def test_an_answer_without_text_is_garbled(what):
    with serving(lambda number, body: (200, GARBAGE[what])) as received:
        (reflection,) = reflect(external(url=received.url))
    assert (reflection.status, reflection.idea, reflection.quote) == ("garbled", None, None)
    assert len(received.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (completion("no tags at all"), "unparsable"),
        (completion(""), "unparsable"),
        (completion("<error_quote>25", "length"), "truncated"),
        (completion("<error_quote>25 + 4</error_quote>"), "no_idea"),
        ((400, b"context too long"), "refused"),
        ((422, b"{}"), "refused"),
    ],
)
def test_an_answer_without_a_reflection_has_a_status(answer, status):
    with serving(lambda number, body: answer) as received:
        (reflection,) = reflect(external(url=received.url))
    assert reflection.status == status and len(received.bodies) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_a_temporary_failure_is_retried(code):
    with serving(lambda number, body: (code, b"busy") if number < 2 else completion(REFLECTION)) as received:
        (reflection,) = reflect(external(url=received.url, retries=2))
    assert reflection.status == "ok" and len(received.bodies) == 3


def test_retries_are_limited():
    with serving(lambda number, body: (503, b"")) as received:
        (reflection,) = reflect(external(url=received.url, retries=1))
    assert reflection.status == "busy" and len(received.bodies) == 2


def test_an_endpoint_that_is_down_is_unreachable():
    (reflection,) = reflect(external(url=f"http://127.0.0.1:{closed_port()}/v1", retries=1))
    assert reflection.status == "unreachable"


def answering_after(event: threading.Event, first: int) -> Callable[[int, object], Answer]:
    """Answer the requests from number `first` on only after this event, and those before at once."""

    def answer(number, body):
        if number >= first:
            event.wait(120)
        return completion(REFLECTION)

    return answer


def test_a_slow_answer_times_out():
    over = threading.Event()
    with serving(answering_after(over, 0)) as received:
        (reflection,) = reflect(external(url=received.url, timeout=0.3, retries=0))
        over.set()
    assert reflection.status == "timeout"


def test_the_deadline_covers_all_requests_together():
    """One at a time: the first of six is answered at once, the deadline ends the second, and the others are not sent."""
    over = threading.Event()
    with serving(answering_after(over, 1)) as received:
        reflections = reflect(
            external(url=received.url, timeout=60, deadline=4.0, concurrency=1, retries=5), *[fake_case()] * 6
        )
        over.set()
    assert [reflection.status for reflection in reflections] == ["ok", "timeout", *["deadline"] * 4]
    assert len(received.bodies) == 2


def test_concurrent_requests_are_limited():
    """Even if several threads use the same component, as a streaming run does."""
    from concurrent.futures import ThreadPoolExecutor

    several = threading.Event()

    def answer(number, body):
        """Hold the first request until a second one is there too."""
        if number:
            several.set()
        assert several.wait(60)
        return completion(REFLECTION)

    with serving(answer) as received:
        reflector = external(url=received.url, concurrency=3)
        with ThreadPoolExecutor(4) as threads:
            groups = list(threads.map(lambda _: reflect(reflector, *[fake_case()] * 5), range(4)))
    assert all(reflection.status == "ok" for reflections in groups for reflection in reflections) and len(received.bodies) == 20
    assert 2 <= received.max_concurrent <= 3


def test_a_long_text_is_cut_to_the_budget():
    long = fake_case("word " * 3000, views=("shown " * 3000,))
    with serving(lambda number, body: completion(REFLECTION)) as received:
        (cut,) = reflect(external(url=received.url, max_prompt_chars=4000), long)
        (overlong,) = reflect(external(url=received.url, max_prompt_chars=10), long)
    assert cut.status == "ok" and overlong.status == "overlong"
    (body,) = received.bodies
    assert 3000 < len(body["messages"][0]["content"]) <= 4000
    assert "explanation" in body["messages"][0]["content"]


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_key_or_address_stops_the_run_and_names_the_variable(code, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        serving(lambda number, body: (code, f"bad key {KEY}".encode())) as received,
        pytest.raises(rk.RunError, match=rf"HTTP {code}: bad key \*\*\*.*reflector\.key_variable") as raised,
    ):
        reflect(external(url=received.url, key_variable="MY_KEY"), *[fake_case()] * 4)
    assert KEY not in str(raised.value) and received.keys[0] == f"Bearer {KEY}"


def test_the_key_is_never_stored(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda number, body: completion(f"{REFLECTION} {KEY}")) as received:
        reflector = external(url=received.url)
        (reflection,) = reflect(reflector)
    assert received.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(reflection) and reflection.raw.endswith("***")
    pickled = pickle.dumps(reflector)
    assert KEY.encode() not in pickled and pickle.loads(pickled).config == reflector.config
    assert KEY not in repr(vars(reflector)) + reflector.config.model_dump_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "127.0.0.1:8000"}, "must begin with http"),
        ({"url": f"https://me:{KEY}@host/v1"}, "put the key into the environment"),
        ({"key_variable": "not a name"}, "key_variable"),
        ({"wrong_template": "{nothing}"}, "unknown field {nothing}"),
    ],
)
def test_an_invalid_option_is_explained(options, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        External.Config(**options)


def test_a_short_run_does_not_write_the_key_to_its_folder(short_run):
    def tutor(number, body):
        response = body["messages"][0]["content"].partition("Wrong solution : ")[2]
        return completion(f"<error_quote>{response.split(' . ')[0]}</error_quote> <explanation>think again {KEY}</explanation>")

    with serving(tutor) as received:
        run = short_run(RECIPE, f"reflector.url={received.url}", environment={"OPENAI_API_KEY": KEY})
    assert set(received.keys) == {f"Bearer {KEY}"} and len(received.bodies) == len(run.samples) > 0
    assert run.total("reflect/ok") == len(run.samples) and run.total("localize/exact") > 0
    files = [file for file in run.folder.rglob("*") if file.is_file()]
    assert len(files) > 4 and not [file for file in files if KEY.encode() in file.read_bytes()]
    assert KEY not in run.output and "OPENAI_API_KEY" in (run.folder / "recipe.yaml").read_text()
