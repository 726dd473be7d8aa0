"""The base model under a LoRA student as teacher. Knows nothing of how adapters are switched off."""

from __future__ import annotations

from rosd_kit.components.teachers.frozen import Frozen


class AdapterOff(Frozen):
    """The student without its adapters: the frozen teacher that costs no memory. Source: OPSD (arXiv 2601.18734).

    With LoRA the same as `frozen`; a recipe that writes this name is refused for a student that trains all weights.
    """

    name = "adapter_off"
    needs = frozenset({"lora"})
