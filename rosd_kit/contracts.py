"""One base class per slot: what a component does, when it is called, with which shapes, and what it may raise.

A component is a class with a `name`, a nested `Config` and the methods of its slot. The first sentence of its docstring is what
`rosd-kit components` prints. The core calls components through these classes and knows no method by name.
"""

from __future__ import annotations

import functools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

import pydantic

from rosd_kit.options import Config as Config
from rosd_kit.options import present_step
from rosd_kit.sandbox import isolation
from rosd_kit.sandbox.verdicts import is_sandboxed, sandboxed, verdicts_of_each
from rosd_kit.text.thinking import Pairs, strip_thinking
from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    FirstError,
    GateDecision,
    GenerateRequest,
    Group,
    Message,
    PolicyWeights,
    Problem,
    Prompt,
    Reflection,
    Rollout,
    SampleScores,
    Sampling,
    TokenWeights,
    Verdict,
    View,
)

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor, nn

#: A time limit that can be waited for.
Seconds = Annotated[float, pydantic.Field(gt=0.0, le=86_400.0, allow_inf_nan=False)]
#: A number of processes or threads.
Workers = Annotated[int, pydantic.Field(ge=1, le=256)]
#: A limit of memory that the system accepts.
Mebibytes = Annotated[int, pydantic.Field(ge=1, le=1 << 24)]


class Component(ABC):
    """Base class of everything that fills a slot.

    `kind` is the slot's name, set by the slot's base class; `name` is what recipes write. `needs` lists capabilities that
    another chosen component must provide, `provides` those of this one. Both are plain words, checked when the recipe loads.
    `thinking` holds the recipe's own marks of thinking, set after the component is built.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset()
    thinking: Pairs = ()
    _latest: tuple[int, Any] | None = None

    class Config(Config):
        """No options."""

    def __init__(self, config: Any = None) -> None:
        self.config = config if config is not None else self.Config()

    @property
    def config(self) -> Any:
        """The options. During a step their numbers are those of that step; otherwise schedules stand at step 0."""
        step = present_step()
        if step is None or not isinstance(self._config, Config):
            return self._config
        latest = self._latest  # read once, because another thread may be at another step
        if latest is None or latest[0] != step:
            latest = self._latest = (step, self._config.at_step(step))
        return latest[1]

    @config.setter
    def config(self, options: Any) -> None:
        self._config = options
        self._latest = None

    @classmethod
    def build(cls, options: Any, part: Callable[[Any], Component]) -> Component:
        """Return a new component with these options (an instance of its Config).

        Override this in components that contain others of their slot: `part` builds one from its form in a recipe.
        """
        return cls(options)

    @classmethod
    def offers(cls, options: Any) -> frozenset[str]:
        """Return which capabilities this component provides with these options (an instance of its Config)."""
        return cls.provides

    def wants_initial(self) -> bool:
        """Return whether this component needs a copy of the initial weights."""
        return False

    def without_thinking(self, text: str) -> str:
        """Return a response without its thinking, in every spelling that `strip_thinking` or the recipe knows."""
        return strip_thinking(text, self.thinking)


def _add_options(cls: type[Component], options: type[Config]) -> None:
    """Give a component the options of its slot, also if its Config does not derive from the slot's."""
    own = cls.Config
    if issubclass(options, own):
        cls.Config = options  # type: ignore[misc]
    elif not issubclass(own, options):
        both = pydantic.create_model(own.__name__, __base__=(own, options), __module__=own.__module__, __doc__=own.__doc__)
        both.__qualname__ = own.__qualname__ if "Config" in vars(cls) else f"{cls.__qualname__}.Config"
        cls.Config = both  # type: ignore[misc, assignment]


class LoadOptions(Protocol):
    """How the policy's weights were loaded, for engines that load them again."""

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`."""

    @property
    def gguf(self) -> str | None:
        """The GGUF file that was read, if any."""

    @property
    def pickle_weights(self) -> bool:
        """Whether pickled weights may be read."""

    @property
    def trust_remote_code(self) -> bool:
        """Whether Python code that comes with the model may run."""


class Policy(Protocol):
    """The model being trained, as components see it: they read and run it, and leave its weights alone.

    `model` is a causal language model of transformers, wrapped by peft under LoRA.
    """

    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the model runs."""

    @property
    def settings(self) -> LoadOptions:
        """How it was loaded."""

    @property
    def folder(self) -> Path | None:
        """Where it was loaded from; None for random weights."""

    @property
    def fingerprint(self) -> str:
        """Digest of the weights that were loaded; training does not change it."""

    @property
    def pad_id(self) -> int:
        """The id that fills up batches."""

    @property
    def vocabulary(self) -> int:
        """Number of ids that the model knows."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a response."""

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Encode a chat, generation header included. Raises `RunError` when the chat template refuses it."""

    def initial(self) -> AbstractContextManager[nn.Module]:
        """Yield a module that computes with the weights the run began with."""

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name."""

    def full_weights(self, which: PolicyWeights) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor under transformers' own name: adapters merged, shards gathered. All ranks call it at once."""

    def export(self, folder: Path) -> None:
        """Write model and tokenizer so that plain transformers loads them."""


class Generator(Protocol):
    """Continues prompts: a rollout engine, or a wrapper around one."""

    @property
    def streams(self) -> bool:
        """Whether completions are handed out while others are still being generated."""

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Continue every prompt; yield (index of the request, completion) in the order in which they finish."""


#: Tells why a problem's right answer cannot be reached, or None: a verifier's `check_gold`.
GoldCheck = Callable[[Problem], "str | None"]


class Task(Component):
    """Supplies problems. Stateless: the same arguments give the same problems, so resuming needs no cursor.

    `may_repeat` declares that steps and suites may share problems because there are few.
    """

    kind = "task"
    may_repeat: bool = False

    @abstractmethod
    def train_batch(self, *, step: int, count: int, seed: int) -> list[Problem]:
        """Return the `count` training problems of one step; ids must be unique within the step."""

    @abstractmethod
    def suites(self, *, count: int, seed: int) -> dict[str, list[Problem]]:
        """Return the held-out problems by suite name, in-domain suites first, at most `count` per suite."""

    def in_domain(self) -> frozenset[str]:
        """Return the names of the suites that measure the trained domain; the others are out of domain."""
        return frozenset()

    def use_gold_check(self, check: GoldCheck) -> None:
        """Receive the verifier's `check_gold`; called once, before any problem is asked for.

        Override this in tasks that read data, to refuse or leave out rows whose right answer no response can reach.
        """
        return None

    def first_error(self, problem: Problem, text: str) -> FirstError | None:
        """Return the true first error of a response, or None if this task cannot know it (capability `oracle`)."""
        return None


class Verifier(Component):
    """Judges completions.

    `verify` and `verify_group` receive texts without thinking, whoever calls them: the base class removes it. A verifier
    that judges the thinking itself, for example its form, sets `reads_thinking`.

    Set `sandboxed` if judging may run code or loop depending on the text: `verify` and `verify_group` then run in worker
    processes that can read only Python's files and packages, write nothing, and reach neither the network nor other
    processes. Each call is a fork of a process that has built the verifier once, so calls leave nothing behind. A call that
    exceeds the option `deadline`, crashes or raises gives a verdict with status `error`; the other calls go on. Problems and
    verdicts cross between processes, so `meta` must be picklable, and the class must be in a file.
    """

    kind = "verifier"
    reads_thinking: ClassVar[bool] = False
    sandboxed: ClassVar[bool] = False

    class Config(Config):
        """Options of every verifier."""

        truncated: Literal["wrong", "score"] = "wrong"
        """What a response that was cut off at the length limit counts as. `wrong`: if the verifier finds the text so far right,
        it is wrong all the same, with score 0 (partial credit for a wrong one stays); `score`: what the verifier says."""

    class SandboxConfig(Config):
        """Options of every verifier with `sandboxed`."""

        fixed_because: ClassVar[str] = "the workers are started once"

        deadline: Seconds = 10.0
        """Time limit of one call in the sandbox, in seconds; beyond it, the verdict has status `error`."""
        workers: Workers = 2
        """Number of responses that are judged at once."""
        memory_mib: Mebibytes = 2048
        """Memory that one call may use, in MiB of address space."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _add_options(cls, Verifier.Config)
        if cls.sandboxed:
            _add_options(cls, Verifier.SandboxConfig)
        for name, without_thinking in (("verify", _verify_answer), ("verify_group", _verify_answers)):
            method, inherited = vars(cls).get(name), getattr(cls, name)
            if cls.sandboxed and not is_sandboxed(inherited) and inherited is not getattr(Verifier, name):
                setattr(cls, name, without_thinking(sandboxed(method or inherited)))
            elif method:
                setattr(cls, name, without_thinking(method))

    def prepare(self, problem: Problem) -> None:
        """Load what judging this problem needs, once, for the calls in the sandbox to share.

        Called before each of them, in the process that they are forked from, which no response ever reaches.
        """
        return None

    @abstractmethod
    def verify(self, problem: Problem, text: str) -> Verdict:
        """Judge one completion's text. Must not raise on any text: garbage gets the status `unparsable`."""

    def verify_group(self, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        """Judge all completions of one problem at once. Override this for group verifiers, for example a majority vote."""
        if self.sandboxed and not isolation.is_inside():
            answers = list(texts) if self.reads_thinking else [self.without_thinking(text) for text in texts]
            return verdicts_of_each(self, problem, answers)
        return [self.verify(problem, text) for text in texts]

    def check_gold(self, problem: Problem) -> str | None:
        """Return why no response to this problem can be right, or None if one can or if that is unknown.

        Called for each row when data is loaded, so it must be fast. The text continues the sentence "the right answer ...":
        "'E' is not one of the letters ABCD (verifier.letters)".
        """
        return None

    def judge(self, problem: Problem, completion: Completion) -> Verdict:
        """Judge one completion: its text by `verify`, and by the option `truncated` if it was cut off. Evaluations call it."""
        return self._counted(completion, self.verify(problem, completion.text))

    def judge_group(self, problem: Problem, completions: Sequence[Completion]) -> list[Verdict]:
        """Judge all completions of one problem: like `judge`, but their texts by `verify_group`. Training steps call it."""
        verdicts = self.verify_group(problem, [completion.text for completion in completions])
        if len(verdicts) != len(completions):
            return verdicts  # the caller says what is wrong with it
        return [self._counted(completion, verdict) for completion, verdict in zip(completions, verdicts, strict=True)]

    def _counted(self, completion: Completion, verdict: Verdict) -> Verdict:
        """Return what a verdict counts as: a completion that was cut off has no final answer, whatever it says so far."""
        if completion.finish_reason != "length" or not verdict.success or self.config.truncated == "score":
            return verdict
        if not 0.0 <= verdict.score <= 1.0:  # also false for NaN: for the caller to refuse
            return verdict
        return Verdict(score=0.0, success=False, status="unparsable", feedback="The response was cut off before its end.")


_Verify = Callable[[Any, Problem, str], Verdict]
_VerifyGroup = Callable[[Any, Problem, Sequence[str]], list[Verdict]]


def _verify_answer(verify: _Verify) -> _Verify:
    @functools.wraps(verify)
    def verify_answer(self: Verifier, problem: Problem, text: str) -> Verdict:
        return verify(self, problem, text if self.reads_thinking else self.without_thinking(text))

    return verify_answer


def _verify_answers(verify_group: _VerifyGroup) -> _VerifyGroup:
    @functools.wraps(verify_group)
    def verify_answers(self: Verifier, problem: Problem, texts: Sequence[str]) -> list[Verdict]:
        return verify_group(self, problem, list(texts) if self.reads_thinking else [self.without_thinking(t) for t in texts])

    return verify_answers


@dataclass(frozen=True)
class Site:
    """Where an engine runs: its rank, a folder for its files, and a listener for progress messages.

    `folder` may not exist yet; None means that no files are kept. The run has `count` ranks, `neighbours` of them on this
    machine; this is rank `rank`, with local rank `local`. Every rank has an engine.
    """

    folder: Path | None = None
    listener: Callable[[str], None] | None = None
    rank: int = 0
    count: int = 1
    local: int = 0
    neighbours: int = 1

    def tell(self, text: str) -> None:
        """Report what the engine is waiting for."""
        if self.listener is not None:
            self.listener(text)


class RolloutEngine(Component):
    """Generates text with the student's weights.

    `streams` declares that `stream` yields completions while others are still being generated, and that `generate` may be
    called from other threads meanwhile. With several ranks each has its own engine, which gets a share of the requests and
    finds the student's weights gathered whenever it is called. An engine that can generate while the student trains on the same
    device provides `overlap`. `replays` declares that completions do not come from the model: neither seeds nor weights
    determine them, and their log-probs are not the model's.
    """

    kind = "rollout"
    streams: ClassVar[bool] = False
    replays: ClassVar[bool] = False

    @abstractmethod
    def start(self, student: Policy, site: Site | None = None) -> None:
        """Start with this student; called once, before anything else."""

    @abstractmethod
    def generate(self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live") -> list[Completion]:
        """Continue every prompt, in order; `initial` means with the weights the run began with.

        A prompt that is too long for the engine gives a completion without tokens and with finish reason `overlong`. Raises
        `EngineError` when the backend is lost for good.
        """

    def stream(
        self, requests: Sequence[GenerateRequest], *, weights: PolicyWeights = "live"
    ) -> Iterator[tuple[int, Completion]]:
        """Continue every prompt; yield (index of the request, completion) in the order in which they finish."""
        yield from enumerate(self.generate(requests, weights=weights))

    @abstractmethod
    def sync(self, student: Policy, version: int) -> None:
        """Generate with these weights from now on, labelled `version`; called after every optimizer step."""

    def rest(self) -> None:
        """Release memory to the trainer if possible; called when no more text is needed until the next `sync`."""
        return None

    def metrics(self) -> Mapping[str, float]:
        """Return metrics `engine/...` for the time since the last call; called once per step."""
        return {}

    def close(self) -> None:
        """Release everything; called at the end of the run, also after an error."""
        return None


class Gate(Component):
    """Filters rollouts before reflection and scoring."""

    kind = "gate"

    class Config(Config):
        """Options of every gate."""

        truncated: Literal["keep", "mask", "drop"] = "keep"
        """Whether responses that were cut off at the length limit train. `keep`: like any other; `mask`: they do not, but
        count in their group; `drop`: they are left out of their group, as if they had not been sampled."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _add_options(cls, Gate.Config)

    @abstractmethod
    def decide(self, group: Group) -> GateDecision:
        """Return which rollouts pass. Pure: the same group gives the same decision."""


class Demonstration(Component):
    """Chooses the privileged text for a rollout.

    `sees_batch` declares that it reads other groups than the rollout's own, so all must be sampled before it is called.
    """

    kind = "demonstration"
    sees_batch: ClassVar[bool] = False

    @abstractmethod
    def views(self, group: Group, rollout: Rollout, batch: Sequence[Group], rng: random.Random) -> tuple[View, ...]:
        """Return 0..n views; never the rollout itself. `rng` is seeded per rollout.

        With `sees_batch`, `batch` holds every group of the step, otherwise at least the rollout's own.
        """


class Generate(Protocol):
    """Generates text for a reflector: fits prompts to their token budget, tokenises and batches them."""

    def __call__(
        self, prompts: Sequence[Prompt], *, sampling: Sampling, max_prompt_tokens: int, weights: PolicyWeights
    ) -> list[Completion]: ...


class Reflector(Component):
    """Finds the first error of a rollout and writes the corrective idea."""

    kind = "reflector"

    @abstractmethod
    def reflect(self, cases: Sequence[Case], generate: Generate) -> list[Reflection]:
        """Return one reflection per case, in order. Text that cannot be parsed is a status, never an exception."""


class Localizer(Component):
    """Sets the weight of each response token in the distillation loss.

    `locates` is False for localizers that do not look for the error, so that accuracy against an oracle is meaningless.
    `refines` is True for localizers that revise their weights after student and teacher have scored the response.
    """

    kind = "localizer"
    locates: ClassVar[bool] = True
    refines: ClassVar[bool] = False

    @abstractmethod
    def locate(self, case: Case) -> TokenWeights:
        """Return one weight per token of `case.rollout.completion.token_ids`."""

    def refine(self, sample: DistillSample, scores: SampleScores) -> Sequence[float]:
        """Return revised weights, >= 0, for a scored response; called only if `refines` is True.

        Only tokens that `locate` gave a weight have scores. They cost one more forward pass of student and teacher.
        """
        return sample.token_weights


class Context(Component):
    """Writes the teacher's prompt."""

    kind = "context"

    @abstractmethod
    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """Return one prompt per teacher view; none if the case has no privileged text."""


@dataclass(frozen=True)
class TeacherModel:
    """One network of the teacher, and its share in the sum of logits.

    It reads the teacher's prompt, or with `plain` the student's prompt without privileged text. `guard` is entered around every
    use of `model` and left before the student runs again: a teacher that shares modules with the student (adapters off,
    averaged weights) switches them there. It is entered often, so it must be cheap.
    """

    model: nn.Module
    share: float = 1.0
    guard: Callable[[], AbstractContextManager[Any]] = nullcontext
    plain: bool = False

    @contextmanager
    def active(self) -> Iterator[nn.Module]:
        """Yield the network ready to score: guarded, in eval mode, without gradients; restore everything afterwards."""
        import torch

        training = [module for module in self.model.modules() if module.training]
        with self.guard(), torch.no_grad():
            try:
                self.model.eval()
                yield self.model
            finally:
                for module in training:
                    module.training = True


class Teacher(Component):
    """Provides the weights that score the rollouts."""

    kind = "teacher"

    @abstractmethod
    def attach(self, student: Policy) -> None:
        """Attach to the student while it holds its initial weights; called once, on resume before others are loaded."""

    @abstractmethod
    def scoring(self, student: Policy) -> AbstractContextManager[tuple[TeacherModel, ...]]:
        """Yield the networks to score with; the teacher's logits are the share-weighted sum of theirs.

        The student trains while this is open, so it must not change the student; `TeacherModel.guard` is the place for that.
        """

    def after_step(self, student: Policy) -> None:
        """Update the teacher; called after every optimizer step."""
        return None

    def extra_bytes(self, trained: int, narrow: int) -> int:
        """Return the memory that it holds besides the student and its initial weights, for the memory estimate.

        `trained` counts the trained parameters, `narrow` those of them that are not in float32.
        """
        return 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return every tensor that a resumed run cannot recompute from the initial weights."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        assert not state, "a stateless teacher was given a state"


@dataclass(frozen=True)
class Projection:
    """Student and teacher log-probs on a support, `[tokens, k]` each; probabilities of a row sum to 1 unless `sampled`."""

    student: Float[Tensor, "tokens k"]
    teacher: Float[Tensor, "tokens k"]
    sampled: bool = False


class Support(Component):
    """Chooses the vocabulary entries on which student and teacher are compared.

    `may_change_teacher` declares that the target is not the teacher itself: equal distributions may become different.
    """

    kind = "support"
    may_change_teacher: bool = False

    @abstractmethod
    def project(
        self,
        student: Float[Tensor, "tokens vocab"],
        teacher: Float[Tensor, "tokens vocab"],
        sampled: Int[Tensor, " tokens"],
    ) -> Projection:
        """Project full log-probs onto the support. Differentiable in `student`."""


class Divergence(Component):
    """Measures how far the student is from the teacher at each token: >= 0, and 0 where they agree.

    `may_be_negative` and `may_differ_at_equality` declare exceptions from that; an instance may set them by its options.
    """

    kind = "divergence"
    may_be_negative: bool = False
    may_differ_at_equality: bool = False

    @abstractmethod
    def per_token(self, student: Float[Tensor, "tokens k"], teacher: Float[Tensor, "tokens k"]) -> Float[Tensor, " tokens"]:
        """Return nats per token from log-probs on the support; plain differentiable torch."""

    def sampled(self, student: Float[Tensor, " tokens"], teacher: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Estimate from the sampled token alone; called instead of `per_token` on the support `sampled`.

        Implemented by divergences that provide the capability `sampled`.
        """
        raise AssertionError(f"divergence {self.name} cannot be estimated from the sampled token")


class Correction(Component):
    """Computes importance weights for the gap between the policy that sampled and the one being trained.

    `may_weigh_equals` declares that weights may differ from 1 where the two policies agree. `by_sequence` declares that `weigh`
    wants all weighted tokens of one response at once, and gives them one weight.
    """

    kind = "correction"
    may_weigh_equals: bool = False

    @property
    def by_sequence(self) -> bool:
        """Whether `weigh` wants whole responses."""
        return False

    @abstractmethod
    def weigh(self, behaviour: Float[Tensor, " tokens"], current: Float[Tensor, " tokens"]) -> Float[Tensor, " tokens"]:
        """Return one weight per token from log-probs of the sampled tokens; `current` carries no gradient."""


@dataclass(frozen=True)
class LossParts:
    """The components that an objective may call."""

    support: Support
    divergence: Divergence
    correction: Correction


@dataclass(frozen=True)
class TokenScores:
    """A chunk of weighted tokens, as objectives receive it.

    `student` carries gradient. `teacher` is None if no objective of the recipe needs it. `behaviour` holds the engine's
    log-probs of the sampled tokens, `current` the student's at the same sampling temperature (with gradient), and `advantage`
    what the objective returned for the token's sample.

    An objective that joins views finds `teacher` None and all views in `views`; `marks[v, t]` is the mark that its `view_marks`
    gave to view v, or 0 where token t has no such view (whose log-probs are then meaningless).

    `old` holds the student's log-probs like `current`, before the step's first update; None where they are those of `current`.
    """

    student: Float[Tensor, "tokens vocab"]
    teacher: Float[Tensor, "tokens vocab"] | None
    sampled: Int[Tensor, " tokens"]
    behaviour: Float[Tensor, " tokens"]
    current: Float[Tensor, " tokens"]
    advantage: Float[Tensor, " tokens"]
    views: tuple[Float[Tensor, "tokens vocab"], ...] = ()
    marks: Float[Tensor, "views tokens"] | None = None
    old: Float[Tensor, " tokens"] | None = None

    def old_logprobs(self) -> Float[Tensor, " tokens"]:
        """Return the trainer's log-probs of the sampled tokens before the step's first update, without gradient."""
        return self.current.detach() if self.old is None else self.old.detach()

    def view_logprobs(self) -> Float[Tensor, "views tokens"]:
        """Return the teacher's log-probs of the sampled tokens per view, at temperature 1; 0 where a token lacks the view."""
        found = self.student.new_zeros(len(self.views), len(self.sampled))
        for row, logp in zip(found, self.views, strict=True):
            row.copy_(logp.gather(1, self.sampled[:, None]).squeeze(1))
        return found if self.marks is None else found.masked_fill(self.marks == 0, 0.0)

    def sampled_logprobs(self) -> Float[Tensor, " tokens"]:
        """Return the student's log-probs of the sampled tokens at temperature 1."""
        return self.student.gather(1, self.sampled[:, None]).squeeze(1)


class Objective(Component):
    """One term of the loss: which tokens it covers and what each costs.

    The engine sums weight times loss over the global batch and divides by the global sum of weights, term by term. With
    `needs_teacher`, a token's loss is the mean of `per_token` over its sample's teacher views, and 0 without any. An objective
    with `joins_views` is called once for all its tokens and sees all views at once, or none where a sample has none.
    """

    kind = "objective"
    needs_teacher: ClassVar[bool] = False
    joins_views: ClassVar[bool] = False

    def __init__(self, config: Any = None, parts: LossParts | None = None) -> None:
        super().__init__(config)
        self.parts = parts

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher must score for this term."""
        return self.needs_teacher or self.joins_views

    @property
    def needs_old(self) -> bool:
        """Whether samples must hold `old_logprobs` when a step makes several updates, or `advantage` reads them."""
        return False

    def takes(self, sample: DistillSample) -> bool:
        """Return whether the gate routed this sample to this term."""
        return sample.route in ("*", self.name)

    @abstractmethod
    def token_weights(self, sample: DistillSample) -> Sequence[float]:
        """Return one weight per response token, >= 0; all zeros leaves the sample out of this term."""

    def advantage(self, sample: DistillSample) -> float:
        """Return the sample's advantage, for objectives that use one."""
        return 0.0

    def view_marks(self, sample: DistillSample) -> Sequence[float]:
        """Return one nonzero number per teacher view of the sample, by which `per_token` distinguishes them.

        Called only for objectives with `joins_views`; `TeacherView.source` says what a view is.
        """
        return [1.0] * len(sample.teacher_views)

    @abstractmethod
    def per_token(self, scores: TokenScores) -> Float[Tensor, " tokens"]:
        """Return the loss of each token in the chunk; differentiable in `scores.student`."""


SLOTS: dict[str, type[Component]] = {
    base.kind: base
    for base in (
        Task,
        Verifier,
        RolloutEngine,
        Gate,
        Demonstration,
        Reflector,
        Localizer,
        Context,
        Teacher,
        Support,
        Divergence,
        Correction,
        Objective,
    )
}
"""Slot name to base class, in the order in which data passes through the slots."""
