"""Asks another model the tutor's questions. It does not know HTTP."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any, ClassVar, Self, cast

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

import rosd_kit as rk
from rosd_kit_external_reflector.endpoint import Answer, Endpoint


class External(rk.Reflector):
    """Asks a model behind an OpenAI-compatible endpoint for the first error and a corrective idea, in ROSD's format.

    The API key is read from an environment variable for each call and never stored in a recipe, message or file. Source of the
    format: ROSD (arXiv 2605.28014), whose authors use a reflector stronger than the student as an upper bound.
    """

    name = "external"
    needs = frozenset({"demonstration"})
    provides = frozenset({"reflection", "quote"})

    class Config(rk.Reflector.Config):
        """The endpoint, its limits, and the prompts."""

        free_on_resume: ClassVar[frozenset[str]] = frozenset(
            {"url", "key_variable", "timeout", "deadline", "retries", "concurrency"}
        )

        url: Annotated[str, rk.Trusted("can send prompts to any host")] = "http://127.0.0.1:8000/v1"
        """Address of the API, without `/chat/completions`."""
        model: str = Field(default="default", min_length=1)
        """Name of the model at the endpoint."""
        key_variable: Annotated[str, rk.Trusted("can send any environment variable to a host")] = Field(
            default="OPENAI_API_KEY", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"
        )
        """Environment variable with the API key; if it is not set, no key is sent."""
        timeout: Annotated[PositiveFloat, rk.Fixed("it changes no result")] = Field(default=120.0, le=86_400.0)
        """Seconds to wait for one answer."""
        deadline: Annotated[PositiveFloat, rk.Fixed("it changes no result")] = Field(default=600.0, le=86_400.0)
        """Seconds after which a step gives up its open requests."""
        retries: Annotated[NonNegativeInt, rk.Fixed("it changes no result")] = Field(default=3, le=100)
        """Retries if the endpoint is unreachable, slow or busy."""
        concurrency: Annotated[PositiveInt, rk.Fixed("it changes no result")] = Field(default=16, le=1024)
        """Largest number of concurrent requests."""
        temperature: NonNegativeFloat = 0.0
        """Sampling temperature; 0 is greedy (the paper)."""
        top_p: float = Field(default=1.0, gt=0.0, le=1.0)
        """Nucleus mass if the temperature is not 0."""
        max_prompt_chars: PositiveInt = 32768
        """Budget of the prompt in characters (the endpoint's tokenizer is unknown); the demonstration is shortened first."""
        max_new_tokens: PositiveInt = 4096
        """Longest reflection, in tokens."""
        reflect_right: bool = True
        """Reflect on right rollouts too, asking why the solution is valid."""
        system: str = ""
        """System message before either prompt; empty for none."""
        wrong_template: str = rk.Tutor.Config().wrong_template
        """Prompt for a wrong rollout, with the fields {problem} or {question}, {demonstration} {response} {answer}."""
        right_template: str = rk.Tutor.Config().right_template
        """Prompt for a right rollout, with the fields {problem} or {question}, {response} {answer}."""

        @field_validator("url")
        @classmethod
        def _address(cls, url: str) -> str:
            if not url.startswith(("http://", "https://")):
                raise ValueError("must begin with http:// or https://")
            if "@" in url.partition("://")[2].partition("/")[0]:
                raise ValueError("must not contain a user name or password; put the key into the environment")
            return url

        @model_validator(mode="after")
        def _templates(self) -> Self:
            rk.Tutor.Config(system=self.system, wrong_template=self.wrong_template, right_template=self.right_template)
            return self

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        names = ("system", "wrong_template", "right_template", "reflect_right")
        self._tutor = rk.Tutor(rk.Tutor.Config(**{name: getattr(self.config, name) for name in names}))
        self._slots = threading.Semaphore(self.config.concurrency)

    def __getstate__(self) -> dict[str, object]:
        return {"config": self.config}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__(state["config"])  # type: ignore[misc]

    def reflect(self, cases: Sequence[rk.Case], generate: rk.Generate) -> list[rk.Reflection]:
        """Return one reflection per case, with the tutor's statuses, `overlong`, or a status of the endpoint.

        Raises `RunError` if the key, the address or the model is wrong.
        """
        indices = [i for i, case in enumerate(cases) if self._tutor.asks(case)]
        reflections = [rk.Reflection(status="skipped")] * len(cases)
        if not indices:
            return reflections
        until = time.monotonic() + self.config.deadline
        endpoint = self._endpoint()
        with ThreadPoolExecutor(min(self.config.concurrency, len(indices)), "rosd-kit-external") as threads:
            futures = [threads.submit(copy_context().run, self._reflect, endpoint, cases[i], until) for i in indices]
            try:
                for i, future in zip(indices, futures, strict=True):
                    reflections[i] = future.result()
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return reflections

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
        answer = endpoint.ask(fitted.messages, options, until)
        if answer.status != "ok":
            return rk.Reflection(status=cast(Any, answer.status))  # statuses of this package, beside the core's
        return self._tutor.read(_completion(answer), case)


def _characters(messages: Sequence[rk.Message]) -> int:
    return sum(len(message["content"]) for message in messages)


def _completion(answer: Answer) -> rk.Completion:
    """Wrap the text in a completion for the tutor's parser; its tokens are unknown."""
    return rk.Completion(
        prompt_ids=(),
        token_ids=(),
        logprobs=(),
        text=answer.text,
        token_spans=(),
        finish_reason="length" if answer.truncated else "stop",
    )
