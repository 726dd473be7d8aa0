"""The base model under a LoRA student as teacher. Does not know how adapters are switched off."""

from __future__ import annotations

from rosd_kit.components.teachers.frozen import Frozen


class AdapterOff(Frozen):
    """The student without its adapters: a frozen teacher that needs no extra memory. Source: OPSD (arXiv 2601.18734).

    With LoRA it equals `frozen`; recipes that train all weights are refused.
    """

    name = "adapter_off"
    needs = frozenset({"lora"})
