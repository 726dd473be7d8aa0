"""The teacher's side of the scores: hidden states under its own prompts, and log-probs from them.

Knows nothing of where the experts come from or of the loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rosd_kit.contracts import Expert
from rosd_kit.errors import RunError
from rosd_kit.settings import BatchSettings
from rosd_kit.train.batch import WeightedTokens
from rosd_kit.train.head import SplitModel, split
from rosd_kit.train.layout import Text, lay_out, plan
from rosd_kit.types import DistillSample


class TeacherScorer:
    """Several networks as one teacher."""

    def __init__(self, experts: Sequence[Expert], *, settings: BatchSettings, pad_id: int) -> None:
        self._experts = tuple((expert, split(expert.model)) for expert in experts)
        self._settings = settings
        self._pad_id = pad_id

    def states(self, samples: Sequence[DistillSample], tokens: WeightedTokens) -> list[list[Tensor]]:
        """Return the hidden states at a micro-batch's tokens, `[views][experts][tokens, hidden]`.

        Where a token has fewer views than others, or wants no teacher, the states are zeros.
        """
        return [
            [self._view(expert, model, samples, tokens, view) for expert, model in self._experts]
            for view in range(int(tokens.views.max()))
        ]

    def _view(
        self, expert: Expert, model: SplitModel, samples: Sequence[DistillSample], tokens: WeightedTokens, view: int
    ) -> Float[Tensor, "tokens hidden"]:
        """Run one expert on one view in micro-batches of its own, for teacher prompts may be far longer."""
        wanted = tokens.views > view
        owners = sorted(set(tokens.sample[wanted].tolist()))
        states: Tensor | None = None
        texts = _texts([samples[owner] for owner in owners], expert, view)
        mode = model.mode(self._settings.layout)
        for group in plan(texts, budget=self._settings.tokens, mode=mode):
            place = torch.full((len(samples),), -1)
            place[[owners[index] for index in group]] = torch.arange(len(group))
            rows = (wanted & (place[tokens.sample] >= 0)).nonzero().squeeze(1)
            layout = lay_out([texts[index] for index in group], pad_id=self._pad_id, mode=mode)
            with expert.active():
                found = model.states(layout, place[tokens.sample[rows]], tokens.token[rows])
            states = found.new_zeros(len(tokens), found.shape[1]) if states is None else states
            states[rows.to(found.device)] = found
        assert states is not None, "a view that no token wants"
        return states

    def outputs(
        self, states: Sequence[Tensor], vocabulary: int, room: Sequence[Tensor] | None
    ) -> list[Float[Tensor, "tokens vocab"]]:
        """Return what each expert's head puts out for its states; `logp` makes log-probs of some rows of it.

        What an earlier call returned may be given as `room` to write to. Raises `RunError` when an expert's vocabulary is
        not the student's.
        """
        found: list[Tensor] = []
        for index, ((expert, model), hidden) in enumerate(zip(self._experts, states, strict=True)):
            with expert.active():
                found.append(model.project(hidden, room[index] if room else None))
            if found[-1].shape[1] != vocabulary:
                raise RunError(
                    f"teacher: its vocabulary has {found[-1].shape[1]} entries, the student's {vocabulary}. "
                    "Choose a teacher with the student's tokenizer and head."
                )
        return found

    @torch.no_grad()
    def logp(self, outputs: Sequence[Float[Tensor, "rows vocab"]]) -> Float[Tensor, "rows vocab"]:
        """Return the log-probs of the share-weighted sum of the experts' logits."""
        assert outputs, "an objective needs a teacher and there is no expert"
        logits = [
            model.finish(output) * expert.share if expert.share != 1.0 else model.finish(output)
            for (expert, model), output in zip(self._experts, outputs, strict=True)
        ]
        return sum(logits[1:], logits[0]).log_softmax(-1)


def _texts(samples: Sequence[DistillSample], expert: Expert, view: int) -> list[Text]:
    """Return what an expert reads: each response behind the teacher's prompt, or behind the student's own.

    Those with one prompt are a family; those with a prompt of their own share what their problem's prompts begin with.
    """
    prompts = [s.prompt_ids if expert.plain else s.teacher_views[view].prompt_ids for s in samples]
    times = Counter(prompts)
    return [
        Text(prompt, sample.response_ids, prompt if times[prompt] > 1 else sample.problem_id)
        for sample, prompt in zip(samples, prompts, strict=True)
    ]
