"""The teacher's side of the scores: hidden states under its own prompts, and log-probs from them.

Knows nothing of where the experts come from or of the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rosd_kit.contracts import Expert
from rosd_kit.errors import RunError
from rosd_kit.train.batch import WeightedTokens, cut, lay_out
from rosd_kit.train.head import SplitModel, split
from rosd_kit.types import DistillSample


class TeacherScorer:
    """Several networks as one teacher, at most `budget` tokens at a time, padded or packed."""

    def __init__(self, experts: Sequence[Expert], *, budget: int, pad_id: int, packed: bool) -> None:
        self._experts = tuple((expert, split(expert.model)) for expert in experts)
        self._budget = budget
        self._pad_id = pad_id
        self._packed = packed

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
        prompts = {owner: samples[owner].teacher_views[view].prompt_ids for owner in owners}
        if expert.plain:
            prompts = {owner: samples[owner].prompt_ids for owner in owners}
        lengths = [len(prompts[owner]) + len(samples[owner].response_ids) for owner in owners]
        for group in cut(lengths, self._budget, packed=self._packed):
            members = [owners[place] for place in group]
            place = torch.full((len(samples),), -1)
            place[members] = torch.arange(len(members))
            rows = (wanted & (place[tokens.sample] >= 0)).nonzero().squeeze(1)
            sequences = [prompts[member] + samples[member].response_ids for member in members]
            layout = lay_out(sequences, pad_id=self._pad_id, packed=self._packed)
            with expert.active():
                owner, token = place[tokens.sample[rows]], tokens.token[rows]
                found = model.states(layout, [len(prompts[member]) for member in members], owner, token)
            states = found.new_zeros(len(tokens), found.shape[1]) if states is None else states
            states[rows.to(found.device)] = found
        assert states is not None, "a view that no token wants"
        return states

    def outputs(self, states: Sequence[Tensor], vocabulary: int) -> list[Float[Tensor, "tokens vocab"]]:
        """Return what each expert's head puts out for its states; `logp` makes log-probs of some rows of it.

        Raises `RunError` when an expert's vocabulary is not the student's.
        """
        found = []
        for (expert, model), hidden in zip(self._experts, states, strict=True):
            with expert.active():
                found.append(model.head(hidden))
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
