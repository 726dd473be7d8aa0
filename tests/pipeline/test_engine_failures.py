"""An engine that fails while a reflector asks it: that is the engine's failure, and it ends the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rosd_kit.errors import EngineError
from tests.pipeline.conftest import Scripted
from tests.pipeline.test_pipeline import PROBLEM, RIGHT, WRONG


class Failing(Scripted):
    """Samples rollouts; fails at the second call."""

    error: Exception

    def generate(self, requests, *, weights="live"):
        if self.received:
            raise self.error
        return super().generate(requests, weights=weights)


class Streaming(Failing):
    """The same, asked while others are sampled."""

    streams = True


def pipeline_with(make_pipeline, student, kind, error):
    pipeline = make_pipeline("rosd", "group_size=2")
    engine = kind(student.tokenizer, [WRONG, RIGHT])
    engine.error = error
    components = replace(pipeline.components, rollout=engine)
    return replace(pipeline, components=components, engine=engine, group_size=2)


@pytest.mark.parametrize("kind", [Failing, Streaming])
@pytest.mark.parametrize("error", [MemoryError("no room on the device"), RuntimeError("Gloo: closed"), EngineError("gone")])
def test_it_is_not_taken_for_the_reflectors(make_pipeline, student, kind, error):
    with pytest.raises(type(error)) as raised:
        pipeline_with(make_pipeline, student, kind, error).step([PROBLEM], 0)
    assert raised.value is error
