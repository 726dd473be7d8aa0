"""The reflector `external`: the kit's laws, every way in which an endpoint may fail, and the key that stays where it is."""

from __future__ import annotations

import pickle
import socket
import time
from pathlib import Path

import pydantic
import pytest
from endpoint_server import said, serving
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
    "no text": said(None)[1],
    "a number for text": said(7)[1],
    "broken bytes": b"\xff\xfe\x00",
    "nothing": b"",
}


def external(**options: object) -> External:
    return External(External.Config(**{"timeout": 20.0, "deadline": 60.0, **options}))


def reflect(reflector: External, *cases: rk.Case) -> list[rk.Reflection]:
    generate = fake_generate()
    found = reflector.reflect(cases or (fake_case(),), generate)
    assert generate.prompts == [], "the student's own engine was asked"
    return found


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def kind_endpoint():
    with serving(lambda number, body: said(f"<explanation>{len(body['messages'][-1]['content'])}</explanation>")) as heard:
        yield heard


@parametrize_with_checks([External()])
def test_conformance(component, check, kind_endpoint):
    options = component.config.model_copy(update={"url": kind_endpoint.url})
    check(External(options))


def test_a_reflection_is_read_as_the_tutors():
    with serving(lambda number, body: said(f"<think>hm</think> {REFLECTION}")) as heard:
        (found,) = reflect(external(url=heard.url, model="some/model", max_new_tokens=77))
    assert (found.status, found.quote, found.idea) == ("ok", "25 + 4 = 30", "25 + 4 is 29 .")
    (body,) = heard.bodies
    assert heard.paths == ["/v1/chat/completions"] and heard.keys == [None]
    assert {k: body[k] for k in ("model", "temperature", "top_p", "max_tokens")} == {
        "model": "some/model",
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 77,
    }
    assert body["messages"] == [{"role": "user", "content": body["messages"][0]["content"]}]
    assert "25 + 4 = 30" in body["messages"][0]["content"] and "29" in body["messages"][0]["content"]


def test_each_case_has_its_own_answer_in_order():
    cases = [fake_case(f"Answer : {number} .") for number in range(12)]

    def echo(number, body):
        return said(f"<explanation>{body['messages'][0]['content'].split('Answer : ')[1].split()[0]}</explanation>")

    with serving(echo) as heard:
        found = reflect(external(url=heard.url, concurrency=5, wrong_template="{problem} {response}"), *cases)
    assert [one.idea for one in found] == [str(number) for number in range(12)]


def test_what_needs_no_question_costs_none():
    with serving(lambda number, body: said(REFLECTION)) as heard:
        found = reflect(external(url=heard.url, reflect_right=False), fake_case(right=True), fake_case(views=()))
    assert [one.status for one in found] == ["skipped", "skipped"] and heard.bodies == []


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_is_a_status(what):
    with serving(lambda number, body: (200, GARBAGE[what])) as heard:
        (found,) = reflect(external(url=heard.url))
    assert (found.status, found.idea, found.quote) == ("garbled", None, None)
    assert len(heard.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (said("no tags at all"), "unparsable"),
        (said(""), "unparsable"),
        (said("<error_quote>25", "length"), "truncated"),
        (said("<error_quote>25 + 4</error_quote>"), "no_idea"),
        ((400, b"context too long"), "refused"),
        ((422, b"{}"), "refused"),
    ],
)
def test_answers_that_say_nothing(answer, status):
    with serving(lambda number, body: answer) as heard:
        (found,) = reflect(external(url=heard.url))
    assert found.status == status and len(heard.bodies) == 1


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(code):
    with serving(lambda number, body: (code, b"busy") if number < 2 else said(REFLECTION)) as heard:
        (found,) = reflect(external(url=heard.url, retries=2))
    assert found.status == "ok" and len(heard.bodies) == 3


def test_patience_ends():
    with serving(lambda number, body: (503, b"")) as heard:
        (found,) = reflect(external(url=heard.url, retries=1))
    assert found.status == "busy" and len(heard.bodies) == 2


def test_an_endpoint_that_is_away():
    (found,) = reflect(external(url=f"http://127.0.0.1:{closed_port()}/v1", retries=1))
    assert found.status == "unreachable"


def test_an_answer_that_takes_too_long():
    with serving(lambda number, body: said(REFLECTION), seconds=2.0) as heard:
        (found,) = reflect(external(url=heard.url, timeout=0.3, retries=0))
    assert found.status == "timeout"


def test_the_deadline_is_for_all_together():
    """Six questions of one second each, one at a time, with 2.5 seconds for all: the last are given up."""
    with serving(lambda number, body: said(REFLECTION), seconds=1.0) as heard:
        began = time.monotonic()
        found = reflect(external(url=heard.url, deadline=2.5, concurrency=1, retries=5), *[fake_case()] * 6)
    assert found[0].status == "ok" and found[-1].status == "deadline"
    assert len(heard.bodies) < 6 and time.monotonic() - began < 30


def test_no_more_requests_at_once_than_allowed():
    """Also when several threads reflect with the same component, as a streaming run does."""
    from concurrent.futures import ThreadPoolExecutor

    with serving(lambda number, body: said(REFLECTION), seconds=0.05) as heard:
        reflector = external(url=heard.url, concurrency=3)
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda _: reflect(reflector, *[fake_case()] * 5), range(4)))
    assert all(one.status == "ok" for some in found for one in some) and len(heard.bodies) == 20
    assert 2 <= heard.most <= 3


def test_a_long_text_is_cut_to_the_budget():
    long = fake_case("word " * 3000, views=("shown " * 3000,))
    with serving(lambda number, body: said(REFLECTION)) as heard:
        found = reflect(external(url=heard.url, max_prompt_chars=4000), long)
        small = reflect(external(url=heard.url, max_prompt_chars=10), long)
    assert found[0].status == "ok" and small[0].status == "overlong"
    (body,) = heard.bodies
    assert 3000 < len(body["messages"][0]["content"]) <= 4000
    assert "explanation" in body["messages"][0]["content"]


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_wrong_key_or_address_stops_the_run_and_names_the_variable(code, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    with (
        serving(lambda number, body: (code, f"bad key {KEY}".encode())) as heard,
        pytest.raises(rk.RunError, match=rf"HTTP {code}: bad key \*\*\*.*reflector\.key_variable") as raised,
    ):
        reflect(external(url=heard.url, key_variable="MY_KEY"), *[fake_case()] * 4)
    assert KEY not in str(raised.value) and heard.keys[0] == f"Bearer {KEY}"


def test_the_key_is_in_nothing_that_is_kept(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda number, body: said(f"{REFLECTION} {KEY}")) as heard:
        reflector = external(url=heard.url)
        (found,) = reflect(reflector)
    assert heard.keys == [f"Bearer {KEY}"]
    assert KEY not in repr(found) and found.raw.endswith("***")
    kept = pickle.dumps(reflector)
    assert KEY.encode() not in kept and pickle.loads(kept).config == reflector.config
    assert KEY not in repr(vars(reflector)) + reflector.config.model_dump_json()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "127.0.0.1:8000"}, "must begin with http"),
        ({"url": f"https://me:{KEY}@host/v1"}, "put the key into the environment"),
        ({"key_variable": "not a name"}, "key_variable"),
        ({"wrong_template": "{nothing}"}, "unknown field {nothing}"),
    ],
)
def test_wrong_options_are_named(options, told):
    with pytest.raises(pydantic.ValidationError, match=told):
        External.Config(**options)


def test_a_short_run_keeps_the_key_out_of_its_folder(short_run):
    def tutor(number, body):
        response = body["messages"][0]["content"].partition("Wrong solution : ")[2]
        return said(f"<error_quote>{response.split(' . ')[0]}</error_quote> <explanation>think again {KEY}</explanation>")

    with serving(tutor) as heard:
        run = short_run(RECIPE, f"reflector.url={heard.url}", environment={"OPENAI_API_KEY": KEY})
    assert set(heard.keys) == {f"Bearer {KEY}"} and len(heard.bodies) == len(run.samples) > 0
    assert run.total("reflect/ok") == len(run.samples) and run.total("localize/exact") > 0
    files = [file for file in run.folder.rglob("*") if file.is_file()]
    assert len(files) > 4 and not [file for file in files if KEY.encode() in file.read_bytes()]
    assert KEY not in run.printed and "OPENAI_API_KEY" in (run.folder / "recipe.yaml").read_text()
