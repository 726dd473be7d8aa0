"""The frozen values that one stage of a training step hands to the next.

Nothing here computes. Every stage returns a new value; none changes the one it was given. This module
knows neither models nor tokenizers nor which methods exist.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic, which keeps batches in checkpoints, reads typing.TypedDict from 3.12 on

FinishReason = Literal["stop", "length", "overlong", "abort"]
PolicyWeights = Literal["live", "initial"]


class Message(TypedDict):
    """One chat message, as `tokenizer.apply_chat_template` takes it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One task instance: what is asked, what is right, and (where the data has one) how to get there."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    solution: str | None = None
    suite: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to draw tokens. `temperature == 0` is greedy; `max_new_tokens` counts the end token."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One prompt to continue. The same request with the same seed and weights gives the same tokens.

    `reference` is the problem's known solution, for engines that replay data instead of sampling.
    """

    prompt_ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What an engine sampled.

    `token_ids` are the very ids that were drawn (the end token included when there was one) and are
    never re-tokenised. `logprobs[t]` is log p(token_ids[t]) in nats under softmax(logits / temperature),
    not renormalised for top-p. `token_spans[t]` is the half-open character range of token t in `text`;
    special tokens are empty ranges, because `text` leaves them out.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    token_spans: tuple[tuple[int, int], ...]
    finish_reason: FinishReason
    weight_version: int = 0


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verifier's judgement. `score` is in [0, 1]; `status` is `ok`, `unparsable` or `error`.

    `error` means that the verifier itself failed: the rollout is counted and takes no further part, neither right nor wrong.
    `answer` is the final answer that was read, in a form in which equal answers are equal; None where there is none.
    """

    score: float
    success: bool
    feedback: str = ""
    status: str = "ok"
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One verified completion; `index` is its place in its group."""

    index: int
    completion: Completion
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Group:
    """All rollouts of one problem in one step."""

    problem: Problem
    rollouts: tuple[Rollout, ...]


@dataclass(frozen=True, kw_only=True)
class Passed:
    """A rollout that a gate lets through, with its sequence weight and the objective terms it feeds.

    `route` is the name of the one objective term this rollout goes to, or `"*"` for all of them.
    """

    index: int
    weight: float = 1.0
    route: str = "*"


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """What a gate decided about a group. `outcome` becomes the metric `gate/<outcome>`."""

    outcome: str
    passed: tuple[Passed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One piece of privileged text for a rollout; `source` says where it came from, for the record and for objectives."""

    text: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of one message's text that may be shortened to fit a token budget.

    Sections are cut in the order of `cut_priority`, smallest number first. None marks text that is never cut: the problem,
    the format instruction.
    """

    text: str
    cut_priority: int | None = None


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Chat messages whose last message is assembled from sections under a token budget.

    `head` are the messages before it, whole. The last message has role `role` and the joined sections
    as its content; the chat template's generation header follows and is never cut either.
    """

    head: tuple[Message, ...]
    sections: tuple[Section, ...]
    role: str = "user"


@dataclass(frozen=True, kw_only=True)
class Reflection:
    """A reflector's finding about one rollout.

    `idea` guides the teacher; `quote` is the text of the first error as the reflector wrote it, `quote_start` an
    exact character position where the reflector knows it. `status` is `ok` or why a part is missing: `no_idea`,
    `no_quote`, `unparsable`, `truncated`, `overlong`, `abort` (of the reflection), `no_truth` (of an oracle), `skipped`.
    A reflector that asks more than once may put all its findings into `alternatives`, this one among them.
    """

    idea: str | None = None
    quote: str | None = None
    quote_start: int | None = None
    status: str = "ok"
    raw: str = ""
    alternatives: tuple[Reflection, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FirstError:
    """The truth about a response. `status` is `none`, `error`, `incomplete` or `unparsable`.

    `step` counts from 0; `start`/`end` is the half-open character range of the wrong claim (empty, at the end of the
    text, when the response stops too early); `sentence_start` is where the sentence around it begins; `replacement` is
    the right claim; `idea` is what a perfect reflector would say.
    """

    status: str
    step: int = -1
    start: int = -1
    end: int = -1
    sentence_start: int = -1
    replacement: str = ""
    idea: str = ""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Everything known about one rollout before scoring: what reflectors, localizers and contexts look at."""

    problem: Problem
    rollout: Rollout
    views: tuple[View, ...] = ()
    truth: FirstError | None = None
    reflection: Reflection | None = None


@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """A localizer's answer: one weight in [0, 1] for each response token, and an outcome for the metrics."""

    weights: tuple[float, ...]
    outcome: str
    start_char: int | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherView:
    """One tokenised teacher prompt; several views of one rollout are possible."""

    prompt_ids: tuple[int, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class DistillSample:
    """One rollout, ready to train on. All sequences over the response have the length of `response_ids`."""

    problem_id: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    behaviour_logprobs: tuple[float, ...]
    token_weights: tuple[float, ...]
    teacher_views: tuple[TeacherView, ...]
    reward: float
    success: bool
    group_rewards: tuple[float, ...]
    weight: float = 1.0
    route: str = "*"


@dataclass(frozen=True, kw_only=True)
class SampleScores:
    """How a sample's response was scored: one number a response token, 0 where no term has a weight.

    `divergence` is the loss of the first term with a teacher, in nats, before weights; `student` and `teacher` are the
    log-probs of the sampled tokens, the student's at the sampling temperature, the teacher's (mean over its views) at 1.
    The entropies are those of the distributions at temperature 1, in nats; the teacher's (mean over its views) is measured
    for localizers that refine, and 0 while the gradient is taken. Entropies that are not given are 0.
    """

    divergence: tuple[float, ...]
    student: tuple[float, ...]
    teacher: tuple[float, ...]
    student_entropy: tuple[float, ...] = ()
    teacher_entropy: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("student_entropy", "teacher_entropy"):
            if not getattr(self, name):
                object.__setattr__(self, name, (0.0,) * len(self.divergence))


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What happened to one gated rollout, for the samples file, observers and reports; `sample` is what it is trained as."""

    case: Case
    weights: TokenWeights | None
    teacher_views: tuple[TeacherView, ...]
    status: str
    sample: DistillSample | None = None


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The pipeline's whole product for one step. `faults` says, a line each, which parts failed at some of the samples."""

    samples: tuple[DistillSample, ...]
    groups: tuple[Group, ...]
    traces: tuple[Trace, ...]
    metrics: Mapping[str, float]
    faults: tuple[str, ...] = ()
