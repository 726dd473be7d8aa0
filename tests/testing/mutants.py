"""Mutants: components that each have one defect, by (slot, law, name of the class): the law that must catch it."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ConfigDict, field_validator

from rosd_kit.components.contexts import KeyIdea, Solution
from rosd_kit.components.corrections import NoCorrection, Truncated
from rosd_kit.components.demonstrations import FirstSuccess, OtherProblem, Reference
from rosd_kit.components.divergences import JSD, ForwardKL, ReverseKL
from rosd_kit.components.gates import AllRollouts
from rosd_kit.components.localizers import ErrorQuote, Full, TopDivergence
from rosd_kit.components.objectives import Distill, PolicyGradient, SupervisedFineTuning
from rosd_kit.components.reflectors import OracleReflector, Tutor
from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.components.supports import Full as WholeVocabulary
from rosd_kit.components.supports import Sampled, StudentTopK
from rosd_kit.components.tasks import Micro
from rosd_kit.components.teachers import EMA, Live
from rosd_kit.components.verifiers import MicroVerifier
from rosd_kit.contracts import Component, TeacherModel
from rosd_kit.types import Passed, Reflection, TokenWeights, Verdict, View

MUTANTS: dict[tuple[str, str, str], Callable[[], Component]] = {}


def breaks(kind: str, law: str, **options: object):
    """Register a class as the mutant that must fail this law; `options` are its own."""

    def add(cls: type[Component]) -> type[Component]:
        assert (kind, law, cls.__name__) not in MUTANTS, cls
        MUTANTS[kind, law, cls.__name__] = lambda: cls(cls.Config(**options))
        return cls

    return add


def weights(case, value, outcome="full", **more):
    """Return the same weight for every token of a case."""
    return TokenWeights(weights=(value,) * len(case.rollout.completion.token_ids), outcome=outcome, **more)


@breaks("every", "can_be_registered")
class BadName(Full):
    name = "Bad Name"


@breaks("every", "is_described")
class Undescribed(Full):
    pass


@breaks("every", "options_are_documented")
class Undocumented(Full):
    class Config(Full.Config):
        n: int = 3


@breaks("every", "options_are_frozen_and_complete")
class AcceptsUnknownOptions(Full):
    class Config(Full.Config):
        model_config = ConfigDict(extra="ignore")


@breaks("every", "invalid_options_raise_validation_errors")
class RaisesKeyError(Full):
    class Config(Full.Config):
        word: str = "a"
        """A word."""

        @field_validator("word")
        @classmethod
        def _known(cls, word: str) -> str:
            return {"a": "a", "b": "b"}[word]


@breaks("every", "options_round_trip_through_yaml", word="a")
class ChangesWhenReadBack(Full):
    class Config(Full.Config):
        word: str
        """A word."""

        @field_validator("word")
        @classmethod
        def _marked(cls, word: str) -> str:
            return word + "!"


@breaks("every", "can_be_pickled")
class HoldsAFunction(Full):
    def __init__(self, config=None):
        super().__init__(config)
        self.weight = lambda: 1.0


@breaks("every", "is_deterministic")
class Random(Full):
    def locate(self, case):
        return weights(case, random.random())


@breaks("every", "is_stateless")
class CountsCalls(Full):
    calls = 0

    def locate(self, case):
        self.calls += 1
        return weights(case, 1.0 / self.calls)


@breaks("every", "does_not_change_its_inputs")
class ChangesTheProblem(Full):
    def locate(self, case):
        case.problem.meta["seen"] = True
        return weights(case, 1.0)


@breaks("every", "results_can_be_pickled")
class ReturnsAFunction(Full):
    def locate(self, case):
        return TokenWeights(weights=weights(case, 1.0).weights, outcome=lambda: "full")


@breaks("task", "returns_the_requested_count")
class OneTooFew(Micro):
    def train_batch(self, *, step, count, seed):
        return super().train_batch(step=step, count=max(1, count - 1), seed=seed)


@breaks("task", "problems_are_complete")
class EndsWithTheAnswer(Micro):
    def train_batch(self, *, step, count, seed):
        answer = {"role": "assistant", "content": "29"}
        return [replace(p, messages=(*p.messages, answer)) for p in super().train_batch(step=step, count=count, seed=seed)]


@breaks("task", "ids_are_unique")
class OneId(Micro):
    def train_batch(self, *, step, count, seed):
        return [replace(p, id="p") for p in super().train_batch(step=step, count=count, seed=seed)]


@breaks("task", "steps_are_independent")
class CountsSteps(Micro):
    steps = 0

    def train_batch(self, *, step, count, seed):
        self.steps += 1
        return super().train_batch(step=self.steps, count=count, seed=seed)


@breaks("task", "steps_and_seeds_differ")
class IgnoresTheStep(Micro):
    def train_batch(self, *, step, count, seed):
        return super().train_batch(step=0, count=count, seed=seed)


@breaks("task", "steps_and_seeds_differ")
class IgnoresTheSeed(Micro):
    def train_batch(self, *, step, count, seed):
        return super().train_batch(step=step, count=count, seed=0)


@breaks("task", "held_out")
class EvaluatesOnTrainingProblems(Micro):
    def suites(self, *, count, seed):
        return {"sums": self.train_batch(step=0, count=count, seed=seed)}


@breaks("task", "in_domain_names_suites")
class MisspelledSuite(Micro):
    def in_domain(self):
        return frozenset({"summs"})


@breaks("task", "capabilities_hold")
class NoSolutions(Micro):
    def train_batch(self, *, step, count, seed):
        return [replace(p, solution=None) for p in super().train_batch(step=step, count=count, seed=seed)]


@breaks("task", "traits_are_finite")
class TraitsOfNothing(Micro):
    def traits(self, problem, text):
        return {"words": float(len(text.split())) if text.split() else float("nan")}


@breaks("verifier", "accepts_any_text")
class Fragile(MicroVerifier):
    def verify(self, problem, text):
        answer = float(text.rsplit(":", 1)[1])
        return Verdict(score=float(answer == 29), success=answer == 29)


@breaks("verifier", "empty_response_is_wrong")
class AlwaysRight(MicroVerifier):
    def verify(self, problem, text):
        return Verdict(score=1.0, success=True)


@breaks("verifier", "one_verdict_per_text")
class VerifiesTheFirst(MicroVerifier):
    def verify_group(self, problem, texts):
        return [self.verify(problem, texts[0])] * len(texts)


@breaks("verifier", "one_verdict_per_text")
class ReversesVerdicts(MicroVerifier):
    def verify_group(self, problem, texts):
        return super().verify_group(problem, texts)[::-1]


@breaks("verifier", "one_verdict_per_text")
class ShiftsVerdicts(MicroVerifier):
    def verify_group(self, problem, texts):
        verdicts = super().verify_group(problem, texts)
        return [*verdicts[1:], *verdicts[:1]]


@breaks("verifier", "gives_feedback")
class WithoutFeedback(MicroVerifier):
    def verify(self, problem, text):
        return replace(super().verify(problem, text), feedback="")


@breaks("verifier", "judges_right_answers")
class RefusesAllAnswers(MicroVerifier):
    def check_gold(self, problem):
        return "is never right"


class Sandboxed(MicroVerifier):
    """The laboratory's verifier, in the sandbox."""

    sandboxed = True


@breaks("verifier", "sandbox_gives_the_same_verdicts")
class ReadsAFile(Sandboxed):
    def verify(self, problem, text):
        Path("/etc/passwd").read_text()
        return super().verify(problem, text)


@breaks("rollout", "preserves_token_ids")
class ReversesTheOrder(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        return super().generate(requests, weights=weights)[::-1]


@breaks("rollout", "text_matches_the_ids")
class AddsASpace(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        return [replace(c, text=f" {c.text}") for c in super().generate(requests, weights=weights)]


@breaks("rollout", "stops")
class DropsTheEndToken(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        return [self._cut(c) for c in super().generate(requests, weights=weights)]

    def _cut(self, c):
        if c.finish_reason != "stop":
            return c
        return replace(c, token_ids=c.token_ids[:-1], logprobs=c.logprobs[:-1], token_spans=c.token_spans[:-1])


@breaks("rollout", "logprobs_match_the_model")
class DoublesTheTemperature(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        warmer = [replace(r, sampling=replace(r.sampling, temperature=2 * r.sampling.temperature)) for r in requests]
        return super().generate(warmer, weights=weights)


@breaks("rollout", "greedy_takes_the_most_likely_token")
class NeverGreedy(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        warmer = [replace(r, sampling=replace(r.sampling, temperature=r.sampling.temperature or 1.0)) for r in requests]
        return super().generate(warmer, weights=weights)


@breaks("rollout", "seed_determines_tokens")
class IgnoresSeeds(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        return super().generate([replace(r, seed=random.getrandbits(30)) for r in requests], weights=weights)


@breaks("rollout", "reports_overlong_prompts")
class CutsPrompts(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        return super().generate([replace(r, prompt_ids=r.prompt_ids[:100]) for r in requests], weights=weights)


@breaks("rollout", "uses_synced_weights")
class ForgetsToSync(TransformersEngine):
    def sync(self, student, version):
        pass


@breaks("rollout", "stream_equals_generate")
class StreamsTwice(TransformersEngine):
    def stream(self, requests, *, weights="live"):
        yield from enumerate(self.generate(requests, weights=weights))
        yield 0, self.generate(requests[:1], weights=weights)[0]


class Stops(TransformersEngine):
    """Generates everything, and gives half of it once it is stopped."""

    provides = TransformersEngine.provides | {"partial_rollouts"}

    def stream_until(self, stop, requests):
        for place, completion in enumerate(self.generate(requests)):
            yield place, self.half(completion) if stop.is_set() else completion

    def half(self, completion):
        count = len(completion.token_ids) // 2
        cut = {"token_ids": completion.token_ids[:count], "logprobs": completion.logprobs[:count]}
        return replace(completion, **cut, token_spans=completion.token_spans[:count], finish_reason="abort")


@breaks("rollout", "stops_open_requests")
class CallsStoppedRequestsWhole(Stops):
    def half(self, completion):
        return replace(super().half(completion), finish_reason="length")


@breaks("rollout", "does_not_change_the_student")
class LeavesEvalMode(TransformersEngine):
    def generate(self, requests, *, weights="live"):
        self.student.model.eval()
        return super().generate(requests, weights=weights)


@breaks("gate", "passes_rollouts_of_the_group")
class PassesPositions(AllRollouts):
    def decide(self, group):
        decision = super().decide(group)
        return replace(decision, passed=tuple(Passed(index=position) for position in range(len(group.rollouts))))


@breaks("gate", "weights_and_routes_are_valid")
class NegativeWeights(AllRollouts):
    def decide(self, group):
        decision = super().decide(group)
        return replace(decision, passed=tuple(replace(p, weight=-1.0) for p in decision.passed))


@breaks("gate", "outcome_is_a_word")
class OutcomeWithTheId(AllRollouts):
    def decide(self, group):
        return replace(super().decide(group), outcome=f"passed {group.problem.id}")


@breaks("demonstration", "views_are_valid")
class TextIsNone(Reference):
    def views(self, group, rollout, batch, rng):
        return (View(text=group.problem.solution, source="reference"),)


@breaks("demonstration", "never_shows_a_rollout_itself")
class ShowsItself(FirstSuccess):
    def views(self, group, rollout, batch, rng):
        return tuple(View(text=r.completion.text, source=str(r.index)) for r in group.rollouts if r.verdict.success)[:1]


@breaks("demonstration", "declares_sees_batch")
class SeesSecretly(OtherProblem):
    sees_batch = False


@breaks("reflector", "one_reflection_per_case")
class SortsByStatus(Tutor):
    def reflect(self, cases, generate):
        return sorted(super().reflect(cases, generate), key=lambda reflection: reflection.status)


@breaks("reflector", "accepts_any_response")
class RaisesOnGarbage(Tutor):
    def reflect(self, cases, generate):
        reflections = super().reflect(cases, generate)
        assert all("<explanation>" in reflection.raw for reflection in reflections if reflection.raw), "no explanation"
        return reflections


@breaks("reflector", "reports_failed_generation")
class AlwaysOk(Tutor):
    def reflect(self, cases, generate):
        return [replace(reflection, status="ok") for reflection in super().reflect(cases, generate)]


@breaks("reflector", "position_is_within_the_response")
class PointsBeyond(OracleReflector):
    def reflect(self, cases, generate):
        return [Reflection(idea="there", quote="x", quote_start=10**6) for _ in cases]


@breaks("reflector", "prompts_fit_a_budget")
class NothingCanBeCut(Tutor):
    def prompt(self, case):
        prompt = super().prompt(case)
        return replace(prompt, sections=tuple(replace(section, cut_priority=None) for section in prompt.sections))


@breaks("reflector", "declares_initial_weights")
class KeepsSilentAboutInitialWeights(Tutor):
    def wants_initial(self):
        return False


@breaks("localizer", "one_weight_per_token")
class OneWeightPerWord(Full):
    def locate(self, case):
        return TokenWeights(weights=(1.0,) * len(case.rollout.completion.text.split()), outcome="full")


@breaks("localizer", "weights_are_shares")
class WeightsOfTwo(ErrorQuote):
    def locate(self, case):
        located = super().locate(case)
        return replace(located, weights=tuple(2 * weight for weight in located.weights))


@breaks("localizer", "outcome_is_a_word")
class OutcomeWithTheQuote(Full):
    def locate(self, case):
        return weights(case, 1.0, outcome=f"quote {case.reflection.quote if case.reflection else None}")


@breaks("localizer", "start_is_within_the_text")
class FindReturnsMinusOne(Full):
    def locate(self, case):
        return weights(case, 1.0, start_char=case.rollout.completion.text.find("Step 2"))


@breaks("localizer", "refined_weights_are_finite")
class DividesByTheSum(TopDivergence):
    def refine(self, sample, scores):
        total = torch.tensor(scores.divergence).sum()
        return (torch.tensor(scores.divergence) / total).tolist()


@breaks("context", "prompts_are_valid")
class ReturnsAList(Solution):
    def prompts(self, case):
        return list(super().prompts(case))


@breaks("context", "shows_the_whole_problem")
class DropsTheHead(Solution):
    def prompts(self, case):
        return tuple(replace(prompt, head=()) for prompt in super().prompts(case))


@breaks("context", "no_prompt_without_privilege")
class AlwaysPrompts(KeyIdea):
    def prompts(self, case):
        return super().prompts(case) or super().prompts(replace(case, views=(View(text="Think .", source="habit"),)))


@breaks("context", "privileged_text_can_be_cut")
class NeverCut(Solution):
    def prompts(self, case):
        return tuple(
            replace(prompt, sections=tuple(replace(section, cut_priority=None) for section in prompt.sections))
            for prompt in super().prompts(case)
        )


@breaks("teacher", "scores")
class NoTeacherModel(Live):
    @contextmanager
    def scoring(self, student):
        yield ()


@breaks("teacher", "does_not_change_the_student")
class PullsTheStudentBack(EMA):
    def after_step(self, student):
        super().after_step(student)
        with torch.no_grad():
            for name, parameter in student.model.named_parameters():
                parameter.copy_(self._kept[name])


@breaks("teacher", "student_is_usable_while_scoring")
class SwapsWhileScoringIsOpen(EMA):
    @contextmanager
    def scoring(self, student):
        with self._swapped(student.model):
            yield (TeacherModel(student.model),)


@breaks("teacher", "state_round_trips")
class ForgetsItsState(EMA):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@breaks("teacher", "state_is_copied")
class KeepsTheLoadedTensors(EMA):
    def load_state_dict(self, state):
        super().load_state_dict(state)
        self._average = dict(state)
        self._scored = dict(state)


@breaks("support", "one_row_per_token")
class Flattens(WholeVocabulary):
    def project(self, student, teacher, sampled):
        projection = super().project(student, teacher, sampled)
        return replace(projection, student=projection.student.flatten(), teacher=projection.teacher.flatten())


@breaks("support", "rows_are_distributions")
class ForgetsTheTail(StudentTopK):
    def project(self, student, teacher, sampled):
        index = student.topk(min(2, student.shape[-1])).indices
        projection = super().project(student, teacher, sampled)
        return replace(projection, student=student.gather(1, index), teacher=teacher.gather(1, index))


@breaks("support", "sampled_is_the_sampled_token")
class TakesTheMostLikely(Sampled):
    def project(self, student, teacher, sampled):
        return super().project(student, teacher, student.argmax(-1))


@breaks("support", "no_nan")
class LogOfOneMinus(WholeVocabulary):
    def project(self, student, teacher, sampled):
        top = student.topk(1).indices
        rest = [(1 - logp.gather(1, top).exp()).log() for logp in (student, teacher)]
        sides = [torch.cat([logp.gather(1, top), r], -1) for logp, r in zip((student, teacher), rest, strict=True)]
        return replace(super().project(student, teacher, sampled), student=sides[0], teacher=sides[1])


@breaks("support", "gradient_to_the_student")
class Detaches(WholeVocabulary):
    def project(self, student, teacher, sampled):
        return super().project(student.detach(), teacher, sampled)


@breaks("support", "equal_inputs_stay_equal")
class SharpensTheTeacher(WholeVocabulary):
    def project(self, student, teacher, sampled):
        return super().project(student, (2 * teacher).log_softmax(-1), sampled)


@breaks("support", "tokens_are_independent")
class OneVocabularyForAll(WholeVocabulary):
    def project(self, student, teacher, sampled):
        best = student.detach().sum(0).topk(min(2, student.shape[1])).indices
        projection = super().project(student, teacher, sampled)
        return replace(projection, student=student[:, best].log_softmax(-1), teacher=teacher[:, best].log_softmax(-1))


@breaks("divergence", "one_number_per_token")
class KeepsADimension(JSD):
    def per_token(self, student, teacher):
        return super().per_token(student, teacher)[:, None]


@breaks("divergence", "finite")
class NaiveSum(ReverseKL):
    def per_token(self, student, teacher):
        return (student.exp() * (student - teacher.detach())).sum(-1)


@breaks("divergence", "zero_at_equality")
class CrossEntropy(ForwardKL):
    def per_token(self, student, teacher):
        return -(teacher.detach().exp() * student).sum(-1)


@breaks("divergence", "not_negative")
class ShiftedDown(JSD):
    def per_token(self, student, teacher):
        return super().per_token(student, teacher) - 0.1


@breaks("divergence", "gradient_to_the_student_alone")
class MovesTheTeacher(ForwardKL):
    def per_token(self, student, teacher):
        return (student.exp() * (student - teacher)).sum(-1)


@breaks("divergence", "gradient_descent_lowers_the_value")
class WrongSign(ForwardKL):
    def per_token(self, student, teacher):
        value = super().per_token(student, teacher)
        return 2 * value.detach() - value


@breaks("divergence", "tokens_are_independent")
class Averages(JSD):
    def per_token(self, student, teacher):
        value = super().per_token(student, teacher)
        return value.mean().expand_as(value)


@breaks("divergence", "sampled_estimate")
class EstimateMovesTheTeacher(ReverseKL):
    def sampled(self, student, teacher):
        return (student - teacher).square()


@breaks("correction", "one_weight_per_token")
class NoCap(Truncated):
    def weigh(self, behaviour, current):
        return (current - behaviour).exp().detach()


@breaks("correction", "carries_no_gradient")
class NotDetached(Truncated):
    def weigh(self, behaviour, current):
        return (current - behaviour).exp().clamp_max(2.0)


@breaks("correction", "weights_are_one_on_policy")
class HalfWeights(NoCorrection):
    def weigh(self, behaviour, current):
        return super().weigh(behaviour, current) / 2


@breaks("correction", "tokens_are_independent")
class Normalises(Truncated):
    def weigh(self, behaviour, current):
        weights = super().weigh(behaviour, current)
        return weights / weights.mean()


@breaks("objective", "one_weight_per_token")
class NegativeTokenWeights(SupervisedFineTuning):
    def token_weights(self, sample):
        return [weight * (1.0 if sample.success else -1.0) for weight in sample.token_weights]


@breaks("objective", "respects_the_gate")
class IgnoresTheRoute(SupervisedFineTuning):
    def takes(self, sample):
        return True


@breaks("objective", "needs_a_teachers_prompt")
class WeighsWithoutATeacherView(Distill):
    def token_weights(self, sample):
        return [sample.weight if self.takes(sample) else 0.0] * len(sample.response_ids)


@breaks("objective", "advantage_is_finite")
class DividesByTheSpread(PolicyGradient):
    def advantage(self, sample):
        rewards = torch.tensor(sample.group_rewards)
        return float((sample.reward - rewards.mean()) / rewards.std())


@breaks("objective", "loss_is_finite")
class NoClamp(PolicyGradient):
    def per_token(self, scores):
        return -(scores.current - scores.behaviour).exp().square() * scores.advantage


@breaks("objective", "gradient_to_the_student_alone")
class MovesTheTeacherToo(Distill):
    def per_token(self, scores):
        return super().per_token(scores) + scores.teacher.exp().square().sum(-1)


@breaks("objective", "tokens_are_independent")
class MeanOfTheChunk(SupervisedFineTuning):
    def per_token(self, scores):
        losses = super().per_token(scores)
        return losses.mean().expand_as(losses)
