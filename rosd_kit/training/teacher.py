"""Runs the teacher: hidden states under its own prompts, and log-probs from them.

Does not know where the teacher models come from, or the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from rosd_kit.contracts import TeacherModel
from rosd_kit.errors import RunError
from rosd_kit.model.packing import MicroBatchPlan, TokenSequence, build_layout, dummy_layout, plan_micro_batches
from rosd_kit.model.split import SplitModel, split_model
from rosd_kit.model.tensors import to_device
from rosd_kit.settings import BatchSettings
from rosd_kit.training.token_weights import WeightedTokens
from rosd_kit.types import DistillSample


class TeacherScorer:
    """Combines several networks into one teacher for the samples of one step."""

    def __init__(
        self, teacher_models: Sequence[TeacherModel], *, settings: BatchSettings, pad_id: int, samples: Sequence[DistillSample]
    ) -> None:
        self._models = tuple((teacher_model, split_model(teacher_model.model)) for teacher_model in teacher_models)
        self._settings = settings
        self._pad_id = pad_id
        self._samples = tuple(samples)
        self._sequences: dict[tuple[int, bool], dict[int, TokenSequence]] = {}

    def count_passes(self, samples: Sequence[DistillSample], tokens: WeightedTokens, *, groups_continue: bool) -> list[int]:
        """Return how often each teacher model runs for a micro-batch: all models for the first view, then for the second..."""
        return [
            len(
                self._plan(
                    model,
                    self._inputs([samples[i] for i in _samples_with_view(tokens, view)], teacher_model, view),
                    groups_continue,
                )
            )
            for view, teacher_model, model in self._runs(tokens)
        ]

    def states(
        self,
        samples: Sequence[DistillSample],
        tokens: WeightedTokens,
        passes: Sequence[int] = (),
        *,
        groups_continue: bool = False,
    ) -> list[list[Tensor]]:
        """Return the hidden states at a micro-batch's tokens, `[views][teacher_models][tokens, hidden]`.

        The states are zeros where a token has fewer views than others, or needs no teacher. `passes` is how often each teacher
        model must run at least (as `count_passes` counts them); dummy passes make up the difference. `groups_continue` says
        that other micro-batches hold more samples of the same problems.
        """
        all_states: list[list[Tensor]] = []
        required = list(passes)
        for index, (view, teacher_model, model) in enumerate(self._runs(tokens)):
            if len(all_states) == view:
                all_states.append([])
            states, count = self._view_states(teacher_model, model, samples, tokens, view, groups_continue)
            all_states[view].append(states)
            self.run_dummy_passes([0] * index + [n - count for n in required[index : index + 1]])
        done = sum(map(len, all_states))
        self.run_dummy_passes([0] * done + required[done:])
        return all_states

    def run_dummy_passes(self, passes: Sequence[int]) -> None:
        """Run each teacher model on a dummy batch so often, so that every rank makes the same number of passes.

        A sharded model runs on all ranks or on none.
        """
        for index, count in enumerate(passes):
            teacher_model, model = self._models[index % len(self._models)]
            for _ in range(count):
                with teacher_model.active():
                    model.hidden(dummy_layout())

    def _runs(self, tokens: WeightedTokens) -> Iterator[tuple[int, TeacherModel, SplitModel]]:
        for view in range(int(tokens.views.max()) if len(tokens) else 0):
            yield from ((view, teacher_model, model) for teacher_model, model in self._models)

    def _inputs(self, samples: Sequence[DistillSample], teacher_model: TeacherModel, view: int) -> list[TokenSequence]:
        """Return a teacher model's input for some samples, grouped by what they share within the whole step."""
        key = (view, teacher_model.plain)
        if key not in self._sequences:
            pairs = _teacher_sequences(self._samples, teacher_model, view)
            self._sequences[key] = {id(sample): sequence for sample, sequence in pairs}
        return [self._sequences[key][id(sample)] for sample in samples]

    def _plan(self, model: SplitModel, sequences: Sequence[TokenSequence], groups_continue: bool) -> list[MicroBatchPlan]:
        return plan_micro_batches(
            sequences,
            budget=self._settings.tokens,
            mode=model.layout_mode(self._settings.layout),
            can_cache_prefix=model.can_cache_prefix,
            groups_continue=groups_continue,
        )

    def _view_states(
        self,
        teacher_model: TeacherModel,
        model: SplitModel,
        samples: Sequence[DistillSample],
        tokens: WeightedTokens,
        view: int,
        groups_continue: bool,
    ) -> tuple[Float[Tensor, "tokens hidden"], int]:
        """Run one teacher model on one view, in its own micro-batches, because teacher prompts may be far longer.

        Return the states and the number of micro-batches.
        """
        has_view = tokens.views > view
        owners = _samples_with_view(tokens, view)
        all_states: Tensor | None = None
        sequences = self._inputs([samples[owner] for owner in owners], teacher_model, view)
        mode = model.layout_mode(self._settings.layout)
        micro_batches = self._plan(model, sequences, groups_continue)
        for batch in micro_batches:
            row_of_sample = torch.full((len(samples),), -1)
            row_of_sample[[owners[index] for index in batch.indices]] = torch.arange(len(batch.indices))
            rows = (has_view & (row_of_sample[tokens.sample] >= 0)).nonzero().squeeze(1)
            layout = build_layout([sequences[i] for i in batch.indices], pad_id=self._pad_id, mode=mode, prefix=batch.prefix)
            with teacher_model.active():
                states = model.states(layout, row_of_sample[tokens.sample[rows]], tokens.token[rows])
            all_states = states.new_zeros(len(tokens), states.shape[1]) if all_states is None else all_states
            all_states.index_copy_(0, to_device(rows, states.device), states)
        assert all_states is not None, "no token needs this view"
        return all_states, len(micro_batches)

    def outputs(
        self, states: Sequence[Tensor], vocabulary: int, buffers: Sequence[Tensor] | None
    ) -> list[Float[Tensor, "tokens vocab"]]:
        """Return the raw output of each teacher model's head; `logprobs` turns rows of it into log-probs.

        `buffers`, the result of an earlier call, are written to where possible. Raises `RunError` when a teacher model's
        vocabulary is not the student's.
        """
        outputs: list[Tensor] = []
        for index, ((teacher_model, model), hidden) in enumerate(zip(self._models, states, strict=True)):
            with _active_head(teacher_model, model):
                outputs.append(model.project(hidden, buffers[index] if buffers else None))
            if outputs[-1].shape[1] != vocabulary:
                raise RunError(
                    f"teacher: its vocabulary has {outputs[-1].shape[1]} entries, the student's {vocabulary}. "
                    "Choose a teacher with the student's tokenizer and head."
                )
        return outputs

    @torch.no_grad()
    def logprobs(self, outputs: Sequence[Float[Tensor, "rows vocab"]]) -> Float[Tensor, "rows vocab"]:
        """Return the log-probs of the sum of the teacher models' logits, weighted by their shares."""
        assert outputs, "an objective needs a teacher and there is no teacher model"
        logits = [
            model.finish_logits(output) * teacher_model.share if teacher_model.share != 1.0 else model.finish_logits(output)
            for (teacher_model, model), output in zip(self._models, outputs, strict=True)
        ]
        return sum(logits[1:], logits[0]).log_softmax(-1)


def _active_head(teacher_model: TeacherModel, model: SplitModel) -> AbstractContextManager[object]:
    """Return what to enter around the head: the guard, unless the head computes the same without it."""
    guarded = teacher_model.guards_head and teacher_model.guard is not nullcontext
    return torch.no_grad() if model.linear is not None and not guarded else teacher_model.active()


def _samples_with_view(tokens: WeightedTokens, view: int) -> list[int]:
    """Return the indices of the samples with a token that needs this view."""
    return sorted(set(tokens.sample[tokens.views > view].tolist()))


def _teacher_sequences(
    samples: Sequence[DistillSample], teacher_model: TeacherModel, view: int
) -> list[tuple[DistillSample, TokenSequence]]:
    """Return a teacher model's input for each sample: the response after the teacher's prompt, or after the student's own.

    Samples with an equal prompt form a group; one with a unique prompt joins its problem's group, whose prompts start alike.
    """
    viewed = [s for s in samples if len(s.teacher_views) > view]
    prompts = [s.prompt_ids if teacher_model.plain else s.teacher_views[view].prompt_ids for s in viewed]
    occurrences = Counter(prompts)
    return [
        (sample, TokenSequence(prompt, sample.response_ids, prompt if occurrences[prompt] > 1 else sample.problem_id))
        for sample, prompt in zip(viewed, prompts, strict=True)
    ]
