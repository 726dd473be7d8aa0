"""The localizer `example`: chooses the response tokens to train on."""

from __future__ import annotations

from pydantic import Field

import rosd_kit as rk

#: The version of the plugin API that this plugin is written for.
rosd_kit_api = 2


class Example(rk.Localizer):
    """Weights the tokens from a keyword on, or the whole response if the keyword does not occur."""

    name = "example"

    class Config(rk.Config):
        """The keyword."""

        keyword: str = Field(default="Answer", min_length=1)
        """The text to search for; the first occurrence counts."""

    def locate(self, case: rk.Case) -> rk.TokenWeights:
        completion = case.rollout.completion
        start = completion.text.find(self.config.keyword)
        if start < 0:
            return rk.TokenWeights(weights=(1.0,) * len(completion.token_ids), outcome="missing")
        weights = tuple(float(end > start or first == end) for first, end in completion.token_spans)
        return rk.TokenWeights(weights=weights, outcome="found", start_char=start)


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    return [Example]
