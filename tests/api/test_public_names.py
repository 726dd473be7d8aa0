"""The public names of `rosd_kit`, the contracts of the slots, the hooks and the kit: a release may not change them unseen."""

from __future__ import annotations

import inspect
from typing import Any

import rosd_kit
import rosd_kit.testing
from rosd_kit.plugins import hookspecs
from rosd_kit.plugins.validation import HOOKS


def describe(name: str, home: Any = rosd_kit) -> str:
    value = getattr(home, name)
    if inspect.isclass(value):
        is_protocol = getattr(value, "_is_protocol", False)
        bases = ", ".join(base.__name__ for base in value.__bases__)
        members = sorted(
            f"    {key}{inspect.signature(member)}"
            for key, member in vars(value).items()
            if inspect.isfunction(member) and (not key.startswith("_") or (key == "__init__" and not is_protocol))
        )
        if issubclass(value, rosd_kit.Component):  # what a plugin's class may say of itself
            members += [f"    {key}: {told} = {vars(value).get(key)!r}" for key, told in inspect.get_annotations(value).items()]
            abstract = sorted(vars(value).get("__abstractmethods__", ()))
            members += [f"    must be given: {', '.join(abstract)}"] if abstract else []
        return "\n".join([f"class {name}({bases})", *members])
    return f"{name}{inspect.signature(value)}" if inspect.isroutine(value) else f"{name}: {type(value).__name__}"


def test_public_names_and_signatures_match_their_golden_file(golden):
    golden("public.txt", "\n".join(describe(name) for name in sorted(rosd_kit.__all__)) + "\n")


def test_the_hooks_match_their_golden_file(golden):
    golden("hooks.txt", "\n".join(f"{hook}{inspect.signature(getattr(hookspecs, hook))}" for hook in HOOKS) + "\n")


def test_the_kit_for_plugins_matches_its_golden_file(golden):
    home = rosd_kit.testing
    golden("testing.txt", "\n".join(describe(name, home) for name in sorted(home.__all__)) + "\n")
