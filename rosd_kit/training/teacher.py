"""The teacher's side of the scores: hidden states under its own prompts, and log-probs from them.

Knows nothing of where the teacher_models come from or of the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rosd_kit.contracts import TeacherModel
from rosd_kit.errors import RunError
from rosd_kit.model.packing import PrefixGroup, Text, idle_layout, lay_out, plan
from rosd_kit.model.split import SplitModel, split
from rosd_kit.model.tensors import sent
from rosd_kit.settings import BatchSettings
from rosd_kit.training.token_weights import WeightedTokens
from rosd_kit.types import DistillSample


class TeacherScorer:
    """Several networks as one teacher, for the samples of one step."""

    def __init__(
        self, teacher_models: Sequence[TeacherModel], *, settings: BatchSettings, pad_id: int, samples: Sequence[DistillSample]
    ) -> None:
        self._experts = tuple((teacher_model, split(teacher_model.model)) for teacher_model in teacher_models)
        self._settings = settings
        self._pad_id = pad_id
        self._samples = tuple(samples)
        self._texts: dict[tuple[int, bool], dict[int, Text]] = {}

    def passes(self, samples: Sequence[DistillSample], tokens: WeightedTokens, *, parted: bool) -> list[int]:
        """Return how often each teacher model runs for a micro-batch's tokens: all of the first view, then of the second..."""
        return [
            len(self._plan(model, self._read([samples[i] for i in _owners(tokens, view)], teacher_model, view), parted))
            for view, teacher_model, model in self._runs(tokens)
        ]

    def states(
        self, samples: Sequence[DistillSample], tokens: WeightedTokens, passes: Sequence[int] = (), *, parted: bool = False
    ) -> list[list[Tensor]]:
        """Return the hidden states at a micro-batch's tokens, `[views][teacher_models][tokens, hidden]`.

        Where a token has fewer views than others, or wants no teacher, the states are zeros. `passes` says how often each
        teacher model has to run at least (as `passes` counts them); dummy passes fill the gap. `parted` samples have others of
        their problem in other micro-batches.
        """
        found: list[list[Tensor]] = []
        missing = list(passes)
        for place, (view, teacher_model, model) in enumerate(self._runs(tokens)):
            if len(found) == view:
                found.append([])
            states, times = self._view(teacher_model, model, samples, tokens, view, parted)
            found[view].append(states)
            self.idle([0] * place + [n - times for n in missing[place : place + 1]])
        self.idle([0] * sum(map(len, found)) + missing[sum(map(len, found)) :])
        return found

    def idle(self, passes: Sequence[int]) -> None:
        """Run each teacher model so many times for nothing, because others do, and a model in pieces needs all of them."""
        for place, times in enumerate(passes):
            teacher_model, model = self._experts[place % len(self._experts)]
            for _ in range(times):
                with teacher_model.active():
                    model.hidden(idle_layout())

    def _runs(self, tokens: WeightedTokens) -> Iterator[tuple[int, TeacherModel, SplitModel]]:
        for view in range(int(tokens.views.max()) if len(tokens) else 0):
            yield from ((view, teacher_model, model) for teacher_model, model in self._experts)

    def _read(self, samples: Sequence[DistillSample], teacher_model: TeacherModel, view: int) -> list[Text]:
        """Return what a teacher model reads of some samples, with what it begins with in the whole step."""
        known = self._texts.get((view, teacher_model.plain))
        if known is None:
            all_texts = _texts(self._samples, teacher_model, view)
            known = self._texts[view, teacher_model.plain] = {id(sample): text for sample, text in all_texts}
        return [known[id(sample)] for sample in samples]

    def _plan(self, model: SplitModel, texts: Sequence[Text], parted: bool) -> list[PrefixGroup]:
        return plan(
            texts, budget=self._settings.tokens, mode=model.mode(self._settings.layout), begins=model.begins, parted=parted
        )

    def _view(
        self,
        teacher_model: TeacherModel,
        model: SplitModel,
        samples: Sequence[DistillSample],
        tokens: WeightedTokens,
        view: int,
        parted: bool,
    ) -> tuple[Float[Tensor, "tokens hidden"], int]:
        """Run one teacher model on one view in micro-batches of its own, for teacher prompts may be far longer.

        Returns the states and how many micro-batches there were.
        """
        wanted = tokens.views > view
        owners = _owners(tokens, view)
        states: Tensor | None = None
        texts = self._read([samples[owner] for owner in owners], teacher_model, view)
        mode = model.mode(self._settings.layout)
        groups = self._plan(model, texts, parted)
        for group in groups:
            place = torch.full((len(samples),), -1)
            place[[owners[index] for index in group.texts]] = torch.arange(len(group.texts))
            rows = (wanted & (place[tokens.sample] >= 0)).nonzero().squeeze(1)
            layout = lay_out([texts[i] for i in group.texts], pad_id=self._pad_id, mode=mode, begun=group.begun)
            with teacher_model.active():
                found = model.states(layout, place[tokens.sample[rows]], tokens.token[rows])
            states = found.new_zeros(len(tokens), found.shape[1]) if states is None else states
            states.index_copy_(0, sent(rows, found.device), found)
        assert states is not None, "a view that no token wants"
        return states, len(groups)

    def outputs(
        self, states: Sequence[Tensor], vocabulary: int, room: Sequence[Tensor] | None
    ) -> list[Float[Tensor, "tokens vocab"]]:
        """Return what each teacher model's head puts out for its states; `logp` makes log-probs of some rows of it.

        What an earlier call returned may be given as `room` to write to. Raises `RunError` when a teacher model's vocabulary is
        not the student's.
        """
        found: list[Tensor] = []
        for index, ((teacher_model, model), hidden) in enumerate(zip(self._experts, states, strict=True)):
            with teacher_model.active():
                found.append(model.project(hidden, room[index] if room else None))
            if found[-1].shape[1] != vocabulary:
                raise RunError(
                    f"teacher: its vocabulary has {found[-1].shape[1]} entries, the student's {vocabulary}. "
                    "Choose a teacher with the student's tokenizer and head."
                )
        return found

    @torch.no_grad()
    def logp(self, outputs: Sequence[Float[Tensor, "rows vocab"]]) -> Float[Tensor, "rows vocab"]:
        """Return the log-probs of the share-weighted sum of the teacher_models' logits."""
        assert outputs, "an objective needs a teacher and there is no teacher_model"
        logits = [
            model.finish(output) * teacher_model.share if teacher_model.share != 1.0 else model.finish(output)
            for (teacher_model, model), output in zip(self._experts, outputs, strict=True)
        ]
        return sum(logits[1:], logits[0]).log_softmax(-1)


def _owners(tokens: WeightedTokens, view: int) -> list[int]:
    """Return the samples of which some token wants this view."""
    return sorted(set(tokens.sample[tokens.views > view].tolist()))


def _texts(samples: Sequence[DistillSample], teacher_model: TeacherModel, view: int) -> list[tuple[DistillSample, Text]]:
    """Return what a teacher model reads: each response behind the teacher's prompt, or behind the student's own.

    Those with one prompt are a family; those with a prompt of their own share what their problem's prompts begin with.
    """
    seen = [s for s in samples if len(s.teacher_views) > view]
    prompts = [s.prompt_ids if teacher_model.plain else s.teacher_views[view].prompt_ids for s in seen]
    times = Counter(prompts)
    return [
        (sample, Text(prompt, sample.response_ids, prompt if times[prompt] > 1 else sample.problem_id))
        for sample, prompt in zip(seen, prompts, strict=True)
    ]
