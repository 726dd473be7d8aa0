"""The public names of `rosd_kit` and their signatures, which a release may not change unseen."""

from __future__ import annotations

import inspect

import rosd_kit


def describe(name: str) -> str:
    value = getattr(rosd_kit, name)
    if inspect.isclass(value):
        is_protocol = getattr(value, "_is_protocol", False)
        bases = ", ".join(base.__name__ for base in value.__bases__)
        members = sorted(
            f"    {key}{inspect.signature(member)}"
            for key, member in vars(value).items()
            if inspect.isfunction(member) and (not key.startswith("_") or (key == "__init__" and not is_protocol))
        )
        return "\n".join([f"class {name}({bases})", *members])
    return f"{name}{inspect.signature(value)}" if inspect.isroutine(value) else f"{name}: {type(value).__name__}"


def test_public_names_and_signatures_are_as_written_down(golden):
    golden("public.txt", "\n".join(describe(name) for name in sorted(rosd_kit.__all__)) + "\n")
