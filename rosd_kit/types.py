"""The frozen values that one stage of a training step passes to the next.

Nothing here computes. Every stage returns a new value and changes none. This module knows neither models nor tokenizers nor
methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from typing_extensions import TypedDict  # pydantic, which keeps batches in checkpoints, reads typing.TypedDict from 3.12 on

from rosd_kit.renames import accepts_old_fields

FinishReason = Literal["stop", "length", "overlong", "abort"]
"""Why a completion ended: an end token or a stop string, the length limit, a prompt over its budget, or the engine gave up."""
CutPlace = Literal["middle", "start", "end"]
"""Where a text that is too long is cut. The middle keeps its beginning and its conclusion."""
PolicyWeights = Literal["live", "initial"]
"""Which of the policy's weights: those being trained, or those the run began with."""
VerdictStatus = Literal["ok", "unparsable", "error"]
ReflectionStatus = Literal[
    "ok", "no_idea", "no_quote", "unparsable", "truncated", "overlong", "abort", "no_truth", "skipped", "fault"
]
FirstErrorStatus = Literal["none", "error", "incomplete", "unparsable"]
TraceStatus = Literal["ok", "no_weight", "no_privileged_text", "fault"]

JsonObject = dict[str, Any]
"""An object read from JSON or YAML, or one to be written; nothing is known of its values before they are checked."""


class Message(TypedDict):
    """One chat message, as `tokenizer.apply_chat_template` takes it."""

    role: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One task instance: the question, the right answer and, where the data has one, a worked solution.

    `answer` is empty where no single answer is right and the verifier judges by rules.
    """

    id: str
    messages: tuple[Message, ...]
    answer: str
    solution: str | None = None
    suite: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to sample tokens. `temperature == 0` is greedy; `max_new_tokens` includes the end token.

    The limits apply one after the other: `top_k` (0: no limit), `top_p` within those, `min_p` (0: no limit). A response ends
    with the token that completes one of the `stop` strings; that token and the whole string belong to it.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 128
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()


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
    """What an engine sampled for one prompt.

    `token_ids` are the ids as sampled, end token included, and are never re-tokenised. `logprobs[t]` is log p(token_ids[t]) in
    nats under softmax(logits / temperature), not renormalised for top-k, top-p or min-p. `token_spans[t]` is the half-open
    character range of token t in `text`; special tokens have empty ranges, because `text` omits them. `begins_in_thinking` says
    that the chat template opened a thinking block; engines leave it as it is.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    token_spans: tuple[tuple[int, int], ...]
    finish_reason: FinishReason
    weight_version: int = 0
    begins_in_thinking: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A verifier's judgement of one completion. `score` is in [0, 1].

    Status `error` means that the verifier itself failed: the rollout is counted as neither right nor wrong and dropped.
    `answer` is the final answer in a normal form, so that equal answers compare equal; None where there is none.
    """

    score: float
    success: bool
    feedback: str = ""
    status: VerdictStatus = "ok"
    answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One verified completion; `index` is its position in its group."""

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
    """A rollout that a gate lets through, with its sequence weight.

    `route` names the one objective term that the rollout trains, or is `"*"` for all of them.
    """

    index: int
    weight: float = 1.0
    route: str = "*"


@dataclass(frozen=True, kw_only=True)
class GateDecision:
    """What a gate decided about a group. `outcome` is any word; it is counted as the metric `gate/<outcome>`."""

    outcome: str
    passed: tuple[Passed, ...] = ()


@dataclass(frozen=True, kw_only=True)
class View:
    """One privileged text for a rollout; `source` says where it comes from, for the record and for objectives."""

    text: str
    source: str


@accepts_old_fields("rosd_kit.Section")
@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of one message's text that may be shortened to fit a token budget.

    Sections are cut in the order of `cut_priority`, smallest number first. None marks text that is never cut: the problem,
    the format instruction. `cut` says where a section loses words first.
    """

    text: str
    cut_priority: int | None = None
    cut: CutPlace = "middle"


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

    `idea` guides the teacher. `quote` is the text of the first error as the reflector wrote it, `quote_start` its character
    position where the reflector knows it exactly. `status` is `ok` or says what is missing and why: the reflection had no idea
    or no quote, could not be parsed, was `truncated`, `overlong` or aborted; an oracle had no truth; the rollout was skipped;
    the reflector failed (`fault`). A reflector that samples several reflections may list them all in `alternatives`.
    """

    idea: str | None = None
    quote: str | None = None
    quote_start: int | None = None
    status: ReflectionStatus = "ok"
    raw: str = ""
    alternatives: tuple[Reflection, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FirstError:
    """The true first error of a response.

    `step` counts from 0. `start` and `end` are the half-open character range of the wrong claim; for a response that stops too
    early (`incomplete`) the range is empty, at the end of the text. `sentence_start` is where the sentence around it begins,
    `replacement` the right claim, and `idea` what a perfect reflector would say.
    """

    status: FirstErrorStatus
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
    """A localizer's answer: one weight in [0, 1] per response token.

    `outcome` is any word; it is counted as the metric `localize/<outcome>`.
    """

    weights: tuple[float, ...]
    outcome: str
    start_char: int | None = None


@dataclass(frozen=True, kw_only=True)
class TeacherView:
    """One tokenised teacher prompt. A rollout may have several."""

    prompt_ids: tuple[int, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class DistillSample:
    """One rollout, ready to train on. Every sequence over the response is as long as `response_ids`.

    `old_logprobs` are the trainer's own log-probs before the step's first update, at the sampling temperature and 0 where no
    term has a weight; empty unless an objective needs them.
    """

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
    old_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SampleScores:
    """How a sample's response was scored: one number per response token, 0 where no term has a weight.

    `divergence` is the loss of the first term with a teacher, in nats, before weights. `student` and `teacher` are log-probs of
    the sampled tokens: the student's at the sampling temperature, the teacher's (mean over its views) at temperature 1.
    Entropies are at temperature 1, in nats; the teacher's (mean over its views) is measured only for localizers that refine,
    and is 0 while the gradient is taken. Entropies that are not given are 0.
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
    """What happened to one gated rollout, for records, observers and reports; `sample` is what it is trained as, if it is."""

    case: Case
    weights: TokenWeights | None
    teacher_views: tuple[TeacherView, ...]
    status: TraceStatus
    sample: DistillSample | None = None


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A rollout of a problem that no trace follows, and why: `gate: all_wrong`, `verifier_error`, `truncated`, ..."""

    problem_id: str
    index: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """Everything the pipeline made in one step. Each rollout of `groups` has a trace or is `left_out`.

    `faults` says which components failed on some samples, one line each.
    """

    samples: tuple[DistillSample, ...]
    groups: tuple[Group, ...]
    traces: tuple[Trace, ...]
    metrics: Mapping[str, float]
    faults: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
