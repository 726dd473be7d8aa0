"""The student: model, tokenizer and device, its initial weights, and how messages become prompt ids.

Knows nothing of losses, optimizers or rollouts.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rosd_kit.errors import RunError
from rosd_kit.model.activation_checkpointing import recompute
from rosd_kit.model.chat import Chat
from rosd_kit.model.loading import find_model, load_model, load_tokenizer, no_progress_bars
from rosd_kit.model.lora import freeze, with_lora
from rosd_kit.model.split import split
from rosd_kit.parallel.fsdp import gathered, piece, shard
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.settings import ModelSettings
from rosd_kit.types import Message, PolicyWeights


class Student:
    """The network that is trained. `model` is a causal language model of transformers, wrapped by peft under LoRA.

    `fingerprint` tells the weights that were loaded from others; training does not change it. `ranks` are the processes
    that hold the model, each all of it or, under `fsdp`, its piece of every layer. `sampler` is whom rollouts come from: the
    student itself or, with `keep_sampler`, one with weights of its own, whole in every process, that follows when it is told.
    `folder` is where it was loaded from.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: ModelSettings,
        *,
        keep_initial: bool,
        keep_sampler: bool = False,
        ranks: Ranks | None = None,
        folder: Path | None = None,
    ) -> None:
        self.ranks = ranks = ranks or Ranks.alone(settings.device)
        self.device = ranks.device
        self.settings = settings
        self.folder = folder
        self.tokenizer = tokenizer
        self.chat = Chat(tokenizer, settings)
        self.model: Any = model.to(self.device).eval()
        self.fingerprint = _fingerprint(self.model, self.chat.template)
        self._initial: nn.Module | None = None
        if keep_initial and settings.lora is None:
            self._initial = _frozen_copy(self.model, share=ranks.mode != "fsdp")
        self.sampler = self
        if keep_sampler:
            self.sampler = copy.copy(self)
            self.sampler.sampler = self.sampler
            self.sampler.ranks = replace(ranks, mode="single")
            self.sampler.model = copy.deepcopy(self.model)
            if ranks.mode == "fsdp":
                self.sampler._initial = copy.deepcopy(self._initial)
        if ranks.mode == "fsdp":
            for whole in self._networks():
                shard(_inner(whole), split(whole).backbone, ranks)

    @classmethod
    def load(
        cls,
        settings: ModelSettings,
        *,
        keep_initial: bool,
        keep_sampler: bool = False,
        seed: int = 0,
        ranks: Ranks | None = None,
    ) -> Student:
        """Load model and tokenizer as the recipe says.

        `keep_initial` keeps a frozen second copy of the weights (LoRA needs none: the adapter is switched off). `seed` only
        decides the random start of LoRA matrices. Without `ranks` this is for one process. Raises `RunError` when there is
        no such model, or none that the settings allow.
        """
        ranks = ranks or Ranks.alone(settings.device)
        folder = find_model(settings)
        tokenizer = load_tokenizer(folder, settings)
        model = load_model(folder, settings, seed)
        if settings.gradient_checkpointing:
            recompute(model, selective=settings.gradient_checkpointing == "selective")
        if settings.lora is not None:
            model = with_lora(model, settings.lora, seed)
        else:
            freeze(model, settings.freeze)
        kept = {"keep_initial": keep_initial, "keep_sampler": keep_sampler}
        return cls(model, tokenizer, settings, **kept, ranks=ranks, folder=folder)

    @property
    def pad_id(self) -> int:
        """The id that fills up batches; masked wherever it is used."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id or 0)

    @property
    def vocabulary(self) -> int:
        """How many ids the model knows."""
        return int(self.model.get_input_embeddings().num_embeddings)

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a response: the tokenizer's and those of the model's generation config."""
        listed = getattr(self.model.generation_config, "eos_token_id", None)
        ids = listed if isinstance(listed, list) else [listed]
        return frozenset(int(i) for i in (*ids, self.tokenizer.eos_token_id) if i is not None)

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the chat's ids with the generation header. Special-token strings inside messages stay plain text.

        Raises `RunError` when the chat template does not take these messages.
        """
        return self.chat.encode(messages)

    def metrics(self) -> dict[str, float]:
        """Return what was counted since the last call: `prompt/system_merged`, where the template has no system role."""
        merged, self.chat.merged = self.chat.merged, 0
        return {} if self.chat.takes_system else {"prompt/system_merged": float(merged)}

    @contextmanager
    def initial(self) -> Iterator[nn.Module]:
        """Yield a module that computes with the weights the run began with."""
        if self.settings.lora is not None:
            with self.model.disable_adapter():
                yield self.model
            return
        assert self._initial is not None, "nobody asked for the initial weights when the student was loaded"
        yield self._initial

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Let every process run the model as often as it likes, whatever the others do; called by all at once."""
        with ExitStack() as stack:
            for network in self._networks():
                stack.enter_context(gathered(network))
            yield

    def _networks(self) -> list[nn.Module]:
        return [self.model] if self._initial is None else [self.model, self._initial]

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name, each once (tied weights share a name)."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy the whole tensors of `state` into the model. Raises `RunError` when names or shapes differ."""
        mine = self.state()
        if mine.keys() != state.keys() or any(mine[name].shape != state[name].shape for name in mine):
            raise RunError("the checkpoint's tensors are not those of this model. Resume with the recipe it was made by.")
        with torch.no_grad():
            for name, tensor in mine.items():
                tensor.copy_(piece(state[name], tensor))

    def follow(self, student: Student) -> None:
        """Take over another's trained weights; called by all processes at once."""
        if student is not self:
            with torch.no_grad(), student.gathered():
                for mine, theirs in zip(self.state().values(), student.state().values(), strict=True):
                    mine.copy_(theirs)

    def full_weights(self, which: PolicyWeights) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor under transformers' own name: adapters merged, shards gathered. All ranks call it at once."""
        from rosd_kit.model.export import full_weights

        return full_weights(self, which)

    def export(self, folder: Path) -> None:
        """Write model and tokenizer so that plain transformers loads them; adapters are merged into the weights."""
        self.exporter(writes=True)(folder)

    def exporter(self, *, writes: bool) -> Callable[[Path], None]:
        """Return what writes the present weights to a folder; called by all processes, which gather them if need be.

        Those that shall write nothing keep nothing.
        """
        model = self.model
        state: dict[str, Tensor] | None = None
        if self.ranks.mode == "fsdp":
            from rosd_kit.model.export import full_weights

            model, state = _inner(model), {}
            for name, weight in full_weights(self, "live"):
                if writes:
                    state[name] = weight.cpu()
        elif self.settings.lora is not None:
            model = copy.deepcopy(model).merge_and_unload()

        def write(folder: Path) -> None:
            with no_progress_bars():
                model.save_pretrained(folder, state_dict=state)
            self.tokenizer.save_pretrained(folder)

        return write


def _inner(model: Any) -> Any:
    """Return the transformers model inside a LoRA model, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _frozen_copy(model: nn.Module, *, share: bool) -> nn.Module:
    """Return a copy that is not trained; what the model itself does not train is not held twice, if it may be shared."""
    kept = {id(p): p for p in model.parameters() if not p.requires_grad} if share else {}
    return copy.deepcopy(model, dict[int, Any](kept)).requires_grad_(False)


def _fingerprint(model: nn.Module, template: str) -> str:
    """Return a digest of the chat template and of up to 256 evenly spaced numbers of every weight: cheap, and telling."""
    digest = hashlib.sha256(template.encode())
    for name, weight in model.named_parameters():
        flat = weight.detach().flatten()
        some = flat[:: max(1, flat.numel() // 256)].cpu().double().numpy()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + some.tobytes())
    return digest.hexdigest()[:12]
