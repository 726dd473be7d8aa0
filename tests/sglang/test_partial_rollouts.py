"""A real server ends requests that are open, gives what they have, and continues from there."""

from __future__ import annotations

import threading
from dataclasses import replace

from tests.sglang.conftest import requests_for, train, transformers_engine


def test_stopped_requests_continue_where_they_were(student, engine_at):
    engine = engine_at(student, check={"every": 0})
    train(student, 0.1)
    engine.sync(student, 1)
    requests = requests_for(student, 64, per_problem=8, temperature=0.0)
    whole = [completion.token_ids for completion in transformers_engine(student).generate(requests)]
    stop, completions = threading.Event(), {}
    for place, completion in engine.stream_until(stop, requests):
        completions[place] = completion
        stop.set()
    parts = {place: completion for place, completion in completions.items() if completion.finish_reason == "abort"}
    assert any(completion.token_ids for completion in parts.values()), "none was stopped while it was open"
    for place, completion in completions.items():
        assert completion.token_ids == whole[place][: len(completion.token_ids)]
        assert len(completion.logprobs) == len(completion.token_ids) and completion.weight_version == 1
        assert (completion.finish_reason == "abort") == (completion.token_ids != whole[place])
    continued = [replace(requests[i], prompt_ids=requests[i].prompt_ids + part.token_ids) for i, part in parts.items()]
    rest = engine.generate(continued)
    assert [part.token_ids + more.token_ids for part, more in zip(parts.values(), rest, strict=True)] == [
        whole[i] for i in parts
    ]
    assert engine.metrics().get("engine/retries", 0) == 0
