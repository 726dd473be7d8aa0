"""The base model under a LoRA student as teacher. Does not know how adapters are switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from rosd_kit.contracts import Policy, Teacher, TeacherModel

if TYPE_CHECKING:
    from peft import PeftModel


class AdapterOff(Teacher):
    """The student without its adapters: a frozen teacher that needs no extra memory. Source: OPSD (arXiv 2601.18734).

    It equals `frozen` unless the run started from an adapter (`model.lora.path`), which `frozen` keeps. Recipes that train all
    weights are refused.
    """

    name = "adapter_off"
    needs = frozenset({"lora"})

    def wants_initial(self) -> bool:
        """Return True, as for any teacher that is never updated; under LoRA this keeps no second copy."""
        return True

    def attach(self, student: Policy) -> None:
        """Do nothing; the base weights are never trained."""

    @contextmanager
    def scoring(self, student: Policy) -> Iterator[tuple[TeacherModel, ...]]:
        """Yield the student's network, which computes without adapters while it scores."""
        adapted = cast("PeftModel", student.model)
        yield (TeacherModel(student.model, guard=adapted.disable_adapter, guards_head=False),)
