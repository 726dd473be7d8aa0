"""The tutor's questions, put to another model. Knows nothing of HTTP."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

import rosd_kit as rk
from rosd_kit_external_reflector.endpoint import Endpoint, Said


class External(rk.Reflector):
    """Asks a model behind an OpenAI-compatible endpoint for the first error and a corrective idea, in ROSD's format.

    The key is read from an environment variable when it is needed and stands in no recipe, message or file. Source of the
    format: ROSD (arXiv 2605.28014); a stronger reflector than the student is its authors' upper bound.
    """

    name = "external"
    needs = frozenset({"demonstration"})
    provides = frozenset({"reflection", "quote"})

    class Config(rk.Reflector.Config):
        """Whom to ask, what, and how patiently."""

        free_on_resume: ClassVar[frozenset[str]] = frozenset(
            {"url", "key_variable", "timeout", "deadline", "retries", "concurrency"}
        )

        url: str = "http://127.0.0.1:8000/v1"
        """Address up to, but without, `/chat/completions`."""
        model: str = Field(default="default", min_length=1)
        """The model's name there."""
        key_variable: str = Field(default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
        """Environment variable that holds the key; where it is not set, none is sent."""
        timeout: PositiveFloat = Field(default=120.0, allow_inf_nan=False)
        """Seconds that one answer may take."""
        deadline: PositiveFloat = Field(default=600.0, allow_inf_nan=False)
        """Seconds after which what a step still waits for is given up."""
        retries: NonNegativeInt = Field(default=3, le=100)
        """Further tries where the endpoint is away, slow or busy."""
        concurrency: PositiveInt = Field(default=16, le=1024)
        """Most requests under way at once."""
        temperature: NonNegativeFloat = Field(default=0.0, allow_inf_nan=False)
        """0 is greedy (the paper)."""
        top_p: float = Field(default=1.0, gt=0.0, le=1.0)
        """Nucleus mass, when the temperature is not 0."""
        max_prompt_chars: PositiveInt = 32768
        """Budget of the prompt, in characters because the other tokenizer is unknown; the demonstration is shortened first."""
        max_new_tokens: PositiveInt = 4096
        """Longest reflection."""
        reflect_right: bool = True
        """Reflect on right rollouts too (why the solution is valid)."""
        wrong_template: str = rk.Tutor.Config().wrong_template
        """Prompt for a wrong rollout: {problem} {demonstration} {response} {answer}."""
        right_template: str = rk.Tutor.Config().right_template
        """Prompt for a right rollout: {problem} {response} {answer}."""

        @field_validator("url")
        @classmethod
        def _address(cls, url: str) -> str:
            if not url.startswith(("http://", "https://")):
                raise ValueError("must begin with http:// or https://")
            if "@" in url.partition("://")[2].partition("/")[0]:
                raise ValueError("must hold no user name and no password; put the key into the environment")
            return url

        @model_validator(mode="after")
        def _templates(self) -> Self:
            rk.Tutor.Config(wrong_template=self.wrong_template, right_template=self.right_template)
            return self

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        names = ("wrong_template", "right_template", "reflect_right")
        self._tutor = rk.Tutor(rk.Tutor.Config(**{name: getattr(self.config, name) for name in names}))
        self._slots = threading.Semaphore(self.config.concurrency)

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["config"])  # type: ignore[misc]

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        """Return one reflection a case. Beside the tutor's statuses there are `overlong`, and the endpoint's own.

        Raises `RunError` where the endpoint refuses everybody: the key, the address or the model is wrong.
        """
        asked = [i for i, case in enumerate(cases) if self._tutor.asks(case)]
        found = [rk.Reflection(status="skipped")] * len(cases)
        if not asked:
            return found
        until = time.monotonic() + self.config.deadline
        endpoint = self._endpoint()
        with ThreadPoolExecutor(min(self.config.concurrency, len(asked)), "rosd-kit-external") as threads:
            answers = [threads.submit(self._reflect, endpoint, cases[i], until) for i in asked]
            try:
                for i, answer in zip(asked, answers, strict=True):
                    found[i] = answer.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _endpoint(self) -> Endpoint:
        return Endpoint(
            url=self.config.url,
            model=self.config.model,
            key=os.environ.get(self.config.key_variable) or None,
            timeout=self.config.timeout,
            retries=self.config.retries,
            slots=self._slots,
        )

    def _reflect(self, endpoint: Endpoint, case: rk.Case, until: float) -> rk.Reflection:
        fitted = rk.fit_prompt(self._tutor.prompt(case), _characters, self.config.max_prompt_chars)
        if not fitted.fits:
            return rk.Reflection(status="overlong")
        options = {
            "temperature": self.config.temperature,
            "top_p": self.config.top_p,
            "max_tokens": self.config.max_new_tokens,
        }
        said = endpoint.ask(fitted.messages, options, until)
        if said.status != "ok":
            return rk.Reflection(status=said.status)
        return self._tutor.read(_completion(said), case)


def _characters(messages: Sequence[rk.Message]) -> int:
    return sum(len(message["content"]) for message in messages)


def _completion(said: Said) -> rk.Completion:
    """Return a text as the completion that the tutor reads; it has no tokens that anybody here knows."""
    return rk.Completion(
        prompt_ids=(),
        token_ids=(),
        logprobs=(),
        text=said.text,
        token_spans=(),
        finish_reason="length" if said.cut else "stop",
    )
