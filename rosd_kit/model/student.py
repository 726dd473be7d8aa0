"""The student: the model being trained, its tokenizer and device, its initial weights, and how messages become prompt ids.

Does not know losses, optimizers or rollouts.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from rosd_kit.errors import RunError
from rosd_kit.model import export
from rosd_kit.model.activation_checkpointing import apply_checkpointing
from rosd_kit.model.chat import Chat
from rosd_kit.model.dropout import disable_dropout, enter_training
from rosd_kit.model.kernels import apply_kernels
from rosd_kit.model.loading import find_model, load_model, load_tokenizer
from rosd_kit.model.lora import add_lora, freeze, resolve_model, unwrap_lora
from rosd_kit.model.split import choose_tree_attention, mark_wrong_layouts, split_model
from rosd_kit.model.split_check import check_split, check_training_mode
from rosd_kit.model.template_tokens import written_tokens
from rosd_kit.model.token_ids import check_sizes, configured_end_ids, embedding_rows
from rosd_kit.model.unknown_tokens import check_readable
from rosd_kit.parallel.fsdp import shard, shard_like, swapped, unsharded
from rosd_kit.parallel.ranks import Ranks
from rosd_kit.settings import ChatRole, ModelSettings
from rosd_kit.types import Message, PolicyWeights, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


#: How many numbers of each weight enter the fingerprint.
_FINGERPRINT_SAMPLES = 256


class Student:
    """The network being trained. `model` is a causal language model of transformers, wrapped by peft under LoRA.

    `fingerprint` identifies the weights that were loaded; training does not change it. `folder` is where they came from.
    `ranks` are the processes that hold the model: each a full copy or, under `fsdp`, its shard of every layer. `sampler` makes
    the rollouts: it is the student itself or, with `keep_sampler`, a second student with a full copy of the weights on every
    rank, which keeps them until `follow` is called.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
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
        cast(nn.Module, model).to(self.device)  # transformers' decorator hides the types of `to`
        self.model = model.eval()
        self.chat = Chat(tokenizer, settings, vocabulary=self.vocabulary)
        self.fingerprint = _fingerprint(self.model, self.chat.template)
        self._notes: list[str] = []
        self._initial: nn.Module | None = None
        if keep_initial and settings.lora is None:
            self._initial = _frozen_copy(self.model, share=ranks.mode != "fsdp")
        self._first_adapter: list[Tensor] = []
        if settings.lora is not None and settings.lora.path is not None:  # whole: some ask for it while weights are gathered
            self._first_adapter = [weight.clone() for weight in self.state().values()]
        self.sampler = self._separate_sampler() if keep_sampler else self
        for network in self._networks():
            apply_kernels(unwrap_lora(network), settings.kernels)
            choose_tree_attention(network, settings.tree_attention)
        if ranks.mode == "fsdp":
            for network in self._networks():
                shard(unwrap_lora(network), split_model(network).backbone, ranks)

    def _separate_sampler(self) -> Student:
        """Return a student with its own, unsharded copy of the weights, which samples while this one trains.

        Both share the chat, so that its counter covers both; and the initial weights, unless this one's will be sharded. The
        modules that hold them are its own: attention is lent to a model by its configuration, for one thread at a time.
        """
        sampler = Student(
            copy.deepcopy(self.model),
            self.tokenizer,
            self.settings,
            keep_initial=False,
            ranks=replace(self.ranks, mode="single"),
            folder=self.folder,
        )
        sampler.chat = self.chat
        if self._initial is not None:
            sampler._initial = _frozen_copy(self._initial, share=self.ranks.mode != "fsdp")
        return sampler

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
        """Load the model and tokenizer that the settings name.

        `keep_initial` keeps a frozen second copy of the weights (LoRA needs none: it switches the adapters off). `seed` only
        decides the random start of LoRA matrices. Without `ranks` the student is for a single process. Raises `RunError` when
        the model does not exist or the settings do not allow it.
        """
        ranks = ranks or Ranks.alone(settings.device)
        settings = resolve_model(settings)
        folder = find_model(settings)
        tokenizer = load_tokenizer(folder, settings)
        model = load_model(folder, settings, seed)
        dropout = None if settings.dropout else disable_dropout(model)
        apply_checkpointing(model, settings)
        if settings.lora is not None:
            model = add_lora(model, settings.lora, seed)
        else:
            freeze(model, settings.freeze)
        student = cls(
            model, tokenizer, settings, keep_initial=keep_initial, keep_sampler=keep_sampler, ranks=ranks, folder=folder
        )
        student.check_tokens()
        if dropout is not None:
            student._notes.append(
                f"model.dropout: the model's config has {dropout}. It is off, because rollouts are sampled without it. Set "
                "model.dropout=true to train with it."
            )
        return student

    @property
    def pad_id(self) -> int:
        """The id that fills up batches; it is masked wherever it is used."""
        pad = self.tokenizer.pad_token_id
        return int(next((id for id in (pad, self.tokenizer.eos_token_id) if id is not None and 0 <= id < self.vocabulary), 0))

    @property
    def vocabulary(self) -> int:
        """The number of token ids that the model knows."""
        return embedding_rows(self.model)

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a response: those that tokenizer and model name, and the one that the template ends a turn with."""
        ids = {id for listed in configured_end_ids(self.model, self.tokenizer).values() for id in listed}
        turn_ends = {chat.turn_end for chat in self.chat.of_all_roles() if chat.turn_end is not None}
        return frozenset(ids | turn_ends)

    def check_tokens(self) -> None:
        """Compare model, tokenizer and chat template, and note what differs. Raises `RunError` if they cannot work together."""
        chats = self.chat.of_all_roles()
        for chat in chats:
            chat.check()
        written: dict[int, str] = {}
        for chat in chats:
            written |= written_tokens(self.tokenizer, chat.encoder.options)
        note = check_sizes(self.tokenizer, self.vocabulary, written, self.settings.path)
        self._notes += [] if note is None else [note]
        listed = configured_end_ids(self.model, self.tokenizer)
        known, turn_end = {id for ids in listed.values() for id in ids}, self.chat.turn_end
        if turn_end is not None and turn_end not in known:
            names = ", ".join(repr(self.tokenizer.convert_ids_to_tokens(id)) for id in sorted(known)) or "none"
            self._notes.append(
                f"the chat template ends a turn with {self.tokenizer.convert_ids_to_tokens(turn_end)!r}, which is no end token "
                f"of tokenizer or model (they name {names}); responses end there too."
            )
        elif not self.end_ids:
            self._notes.append("neither tokenizer nor model names an end token, so every response runs to its longest length.")

    def prompt_ids(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """Return the chat's ids with the generation header. Special-token strings inside messages stay plain text.

        These are the prompts of training rollouts; `encoder` gives those of the other roles. Raises `RunError` when the chat
        template refuses these messages.
        """
        return self.encoder("student")(messages)

    def encoder(self, role: ChatRole) -> Callable[[Sequence[Message]], tuple[int, ...]]:
        """Return what `prompt_ids` is for the prompts of a role: it encodes with that role's template options."""
        return self.chat.for_role(role).encode

    def metrics(self) -> dict[str, float]:
        """Return and reset the counters: `prompt/system_merged`, where the chat template has no system role."""
        merged = self.chat.take_merged_count()
        return {} if self.chat.has_system_role else {"prompt/system_merged": float(merged)}

    def check_readable(self, problems: Iterable[Problem], where: str) -> None:
        """Raise `RunError` if more of these problems, or of their solutions, is unknown than `model.unknown_tokens` allows."""
        problems = list(problems)
        texts = [message["content"] for problem in problems for message in problem.messages]
        check_readable(self.tokenizer, self.settings, f"the prompts of {where}", texts)
        solutions = [problem.solution for problem in problems if problem.solution]
        check_readable(self.tokenizer, self.settings, f"the solutions of {where}", solutions)

    def check_prompts(self) -> None:
        """Raise `RunError` if more of all prompts so far is unknown than `model.unknown_tokens` allows.

        The prompts of problems are checked before; what remains is what reflector and context write around them.
        """
        share, allowed = self.chat.unread_prompts().share, self.settings.unknown_tokens
        if share > allowed:
            raise RunError(
                f"model.unknown_tokens: {100 * share:.0f}% of the tokens in the prompts of reflector and teacher are unknown "
                f"to the tokenizer of {self.settings.path!r}, and at most {100 * allowed:g}% are allowed. Give reflector and "
                "context templates that this model reads (the laboratory's are in the profile micro), choose another model, or "
                "raise model.unknown_tokens."
            )

    def check_layout(self, requested: Literal["auto", "padded", "packed", "shared"]) -> None:
        """Try the layout of training on two short sequences; all ranks call it together, before anything is sampled.

        Raises `RunError` when the model cannot be trained, or not with the requested layout. See `check_split`.
        """
        lora = self.settings.lora
        random = self.settings.dropout or (lora is not None and lora.dropout > 0)
        if not random and (note := check_training_mode(self.model)):
            self._notes.append(note)
        if note := check_split(self.model, requested, pad_id=self.pad_id):
            self._notes.append(note)
            for network in self._networks():
                mark_wrong_layouts(network, split_model(self.model).wrong_layouts)

    def enter_training(self) -> None:
        """Put the network into training mode, with the dropout that the settings ask for; call `model.eval()` to leave it."""
        enter_training(self.model, dropout=self.settings.dropout)

    def notes(self) -> list[str]:
        """Return what a user should know about model and chat template, one sentence each."""
        return [*self._notes, *self.chat.notes()]

    @contextmanager
    def initial(self) -> Iterator[nn.Module]:
        """Yield a module that computes with the weights from the start of the run."""
        if self._first_adapter:
            trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            first = [shard_like(weight, like) for weight, like in zip(self._first_adapter, trained, strict=True)]
            with swapped(zip(trained, first, strict=True)):
                yield self.model
            return
        if self.settings.lora is not None:
            with self.model.disable_adapter():
                yield self.model
            return
        assert self._initial is not None, "the student was loaded without keep_initial"
        yield self._initial

    @contextmanager
    def gathered(self, *, initial: bool = True) -> Iterator[None]:
        """Let each rank run the model independently of the others, by holding all weights. All ranks call it together.

        Without `initial` only the present weights; a copy of the initial ones stays sharded.
        """
        with ExitStack() as stack:
            for network in self._networks() if initial else [self.model]:
                stack.enter_context(unsharded(network))
            yield

    def _networks(self) -> list[nn.Module]:
        return [self.model] if self._initial is None else [self.model, self._initial]

    def state(self) -> dict[str, Tensor]:
        """Return the trained tensors by name, each once (tied weights share a name)."""
        return {name: p.detach() for name, p in self.model.named_parameters() if p.requires_grad}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy the full tensors of `state` into the model. Raises `RunError` when names or shapes differ."""
        current = self.state()
        if current.keys() != state.keys() or any(current[name].shape != state[name].shape for name in current):
            raise RunError("the checkpoint's tensors are not those of this model. Resume with the recipe that wrote it.")
        with torch.no_grad():
            for name, tensor in current.items():
                tensor.copy_(shard_like(state[name], tensor))

    def follow(self, student: Student) -> None:
        """Copy another student's trained weights; all ranks call it together."""
        if student is not self:
            with torch.no_grad(), student.gathered(initial=False):
                for mine, theirs in zip(self.state().values(), student.state().values(), strict=True):
                    mine.copy_(theirs)

    @torch.no_grad()
    def full_weights(self, which: PolicyWeights) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor under transformers' own name: adapters merged, shards gathered. All ranks call it together."""
        if which == "live":
            yield from export.full_weights(self.model, merge_adapters=True)
        else:
            with self.initial() as model:
                yield from export.full_weights(model, merge_adapters=bool(self._first_adapter))

    def export(self, folder: Path) -> None:
        """Write model and tokenizer so that plain transformers can load them; adapters are merged into the weights."""
        export.exporter(self.model, self.tokenizer, writes=True)(folder)

    def exporter(self, *, writes: bool) -> Callable[[Path], None]:
        """Return a function that writes the present weights to a folder; call it before the next update.

        Adapters are merged, or written alone, as `model.lora.export` says.
        All ranks call `exporter` together, to gather shards. Those with `writes=False` keep nothing in memory and must not call
        the function.
        """
        adapter_only = self.settings.lora is not None and self.settings.lora.export == "adapter"
        return export.exporter(self.model, self.tokenizer, writes=writes, adapter_only=adapter_only)


def _frozen_copy(model: nn.Module, *, share: bool) -> nn.Module:
    """Return a copy that is not trained. With `share`, weights that the model itself does not train are not duplicated."""
    kept = {id(p): p for p in model.parameters() if not p.requires_grad} if share else {}
    return copy.deepcopy(model, dict[int, object](kept)).requires_grad_(False)


def _fingerprint(model: nn.Module, template: str) -> str:
    """Return a digest of the chat template and of evenly spaced numbers from every weight: cheap, yet distinctive."""
    digest = hashlib.sha256(template.encode())
    for name, weight in model.named_parameters():
        flat = weight.detach().flatten()
        some = flat[:: max(1, flat.numel() // _FINGERPRINT_SAMPLES)].cpu().double().numpy()
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + some.tobytes())
    return digest.hexdigest()[:12]
