"""Writes pages of the manual and the index of built-in components from the code: `python docs/generate.py`

The pages are those of slots and hooks, the reference and the moved names. The sources are the contracts, the hookspecs, the
built-in components and the laws of `rosd_kit.testing`. `prose.yaml` adds the text that is in none of these.
`tests/docs/test_manual.py` fails if one of them is out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

import rosd_kit  # noqa: E402
from rosd_kit.cli.listing import type_text  # noqa: E402
from rosd_kit.components import INDEX, built_in_classes  # noqa: E402
from rosd_kit.contracts import SLOTS, Component  # noqa: E402
from rosd_kit.plugins import hookspecs  # noqa: E402
from rosd_kit.plugins.manager import PluginManager  # noqa: E402
from rosd_kit.plugins.registry import Registry, summary_of  # noqa: E402
from rosd_kit.plugins.validation import HOOKS  # noqa: E402
from rosd_kit.renames import FIELDS, METHODS, METRICS, MODULES, NAMES, OPTIONS, Renamed  # noqa: E402
from rosd_kit.renames import HOOKS as RENAMED_HOOKS  # noqa: E402
from rosd_kit.testing import SUITES, checks_of  # noqa: E402
from rosd_kit.testing.check import EVERY, Check  # noqa: E402

PROSE: Mapping[str, Any] = yaml.safe_load((DOCS / "prose.yaml").read_text())

#: The sections of the reference, and which public names of `rosd_kit` belong there; the first that fits.
GROUPS: tuple[tuple[str, Callable[[Any], bool]], ...] = (
    ("The slots", lambda value: value in SLOTS.values()),
    ("Errors", lambda value: inspect.isclass(value) and issubclass(value, Exception)),
    ("Values that stages pass on", lambda value: inspect.isclass(value) and value.__module__ == "rosd_kit.types"),
    ("Other classes", inspect.isclass),
    ("Functions and constants", lambda value: True),
)

NOTE = "<!-- Written by docs/generate.py from the code. Change it there. -->\n"


def all_pages() -> dict[Path, str]:
    """Return every generated page: its path under docs/ and its text."""
    registry = PluginManager(selection="builtin").registry
    pages = {Path("plugins/slots") / f"{kind}.md": slot_page(kind, registry) for kind in SLOTS}
    return {
        Path("plugins/slots/index.md"): slots_page(),
        **pages,
        Path("plugins/hooks.md"): hooks_page(),
        Path("api.md"): api_page(),
        Path("signatures.md"): signatures_page(),
        Path("moved.md"): moved_page(registry),
    }


def slots_page() -> str:
    rows = [(f"[`{kind}`]({kind}.md)", f"`{base.__name__}`", summary_of(base)) for kind, base in SLOTS.items()]
    names = "\n".join(SLOTS)
    return "\n".join(
        [
            NOTE,
            PROSE["slots"],
            table(("slot", "base class of `rosd_kit`", "what it does"), rows),
            "## What holds in every slot\n",
            paragraphs(inspect.getdoc(Component)),
            members(Component),
            "`Config`: " + paragraphs(inspect.getdoc(rosd_kit.Config)),
            "The kit checks of every component:\n",
            laws(check for check in checks_of(next(iter(SLOTS))) if check.kind == EVERY),
            f":::{{toctree}}\n:hidden:\n\n{names}\n:::\n",
        ]
    )


def slot_page(kind: str, registry: Registry) -> str:
    base, kinds = SLOTS[kind], list(SLOTS)
    index = kinds.index(kind)
    near = [f"[{other}]({other}.md)" if other != kind else f"**{kind}**" for other in kinds[max(0, index - 1) : index + 2]]
    order = " → ".join([*(["…"] if index > 1 else []), *near, *(["…"] if index < len(kinds) - 2 else [])])
    suite = SUITES[kind]
    checks = [check for check in checks_of(kind) if check.kind == kind]
    return "\n".join(
        [
            NOTE,
            f"# {kind.capitalize()}\n",
            order + "\n",
            paragraphs(inspect.getdoc(base)),
            f"**When it is called.** {PROSE['when'][kind]}\n",
            "## What you write\n",
            f"A class that derives from `rosd_kit.{base.__name__}`, with a `name`, options in a nested `Config` "
            f"([what holds in every slot](index.md#what-holds-in-every-slot)), and:\n",
            members(base),
            f"```console\n$ rosd-kit plugins new my-{kind} --kind {kind} --file\n```\n",
            f"This writes the file below, which works as it is ([source](../../../rosd_kit/scaffold/examples/{kind}.py)):\n",
            f"```python\n{(DOCS.parent / 'rosd_kit/scaffold/examples' / f'{kind}.py').read_text()}```\n",
            "## What is checked\n",
            f"`rosd-kit plugins check my_{kind}.py` and `rosd_kit.testing.{suite.__name__}` check [the laws of every slot]"
            "(index.md#what-holds-in-every-slot), and these:\n",
            laws(checks),
            "## Built in\n",
            *(component(kind, name, registry.get(kind, name)) for name in registry.names(kind)),
        ]
    )


def members(base: type) -> str:
    """Describe the methods and class attributes of a base class, required ones first."""
    abstract = getattr(base, "__abstractmethods__", frozenset())
    functions = {name: getattr(value, "__func__", value) for name, value in vars(base).items() if not name.startswith("_")}
    methods = {name: value for name, value in functions.items() if inspect.isfunction(value)}
    lines = []
    for name in sorted(methods, key=lambda name: name not in abstract):
        need = "required" if name in abstract else "optional"
        lines.append(f"* `{name}{signature(methods[name])}` ({need})\\\n  {one_line(inspect.getdoc(methods[name]))}")
    for name, annotation in inspect.get_annotations(base).items():
        plain = re.sub(r"^ClassVar\[(.*)\]$", r"\1", annotation)
        default = f" = {vars(base)[name]!r}" if name in vars(base) else ""
        if name != "kind" and not name.startswith("_"):
            lines.append(f"* `{name}: {plain}{default}` (a class attribute)")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    """Return a default as a recipe would write it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return value if isinstance(value, str) and value else repr(value)


class _Bare(str):
    """An annotation that is shown as it was written."""

    __repr__ = str.__str__


def signature(function: Any) -> str:
    """Return a signature as it is written in the source, without `self`."""
    whole = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_Bare(parameter.annotation))
        for name, parameter in whole.parameters.items()
        if name not in ("self", "cls")
    ]
    return str(whole.replace(parameters=parameters, return_annotation=_Bare(whole.return_annotation)))


def component(kind: str, name: str, cls: type[Component]) -> str:
    """Describe a built-in component with its options."""
    lines = [f"### {name}\n", paragraphs(inspect.getdoc(cls))]
    rows, below = [], []
    for option, info in cls.Config.model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        shown = "required" if info.is_required() else f"`{_default(default)}`"
        if isinstance(default, str) and "\n" in default:  # a cell of a Markdown table is one line
            shown = "below"
            below.append(f"The default of `{option}`:\n\n```text\n{default.rstrip()}\n```\n")
        rows.append((f"`{option}`", f"`{type_text(info)}`", shown, one_line(info.description)))
    if rows:
        lines += [table(("option", "type", "default", ""), rows), *below]
    capabilities = [
        f"{verb} {', '.join(f'`{word}`' for word in sorted(words))}"
        for verb, words in (("needs", cls.needs), ("provides", cls.provides))
        if words
    ]
    return "\n".join([*lines, *([f"It {' and '.join(capabilities)}.\n"] if capabilities else [])])


def hooks_page() -> str:
    sections = []
    for name in HOOKS:
        hook = getattr(hookspecs, name)
        sections += [f"## {name}\n", f"`{name}{signature(hook)}`\n", paragraphs(inspect.getdoc(hook))]
    return "\n".join([NOTE, PROSE["hooks"], *sections])


def api_page() -> str:
    """List the public names with their parameters or fields and one sentence: readable without Sphinx."""
    lines = [NOTE, PROSE["api"]]
    for title, names in public_names():
        lines.append(f"## {title}\n")
        if title == "The slots":
            rows = [
                (f"[`{name}`](plugins/slots/{slot}.md)", first_sentence(name)) for name, slot in zip(names, SLOTS, strict=True)
            ]
            lines.append(table(("base class", ""), rows))
        elif any(parameters(name) for name in names):
            rows = [(f"`{name}`", first_sentence(name), parameters(name)) for name in names]
            lines.append(table(("name", "", PROSE["parameters"][title]), rows))
        else:
            lines.append(table(("name", ""), [(f"`{name}`", first_sentence(name)) for name in names]))
    return "\n".join(lines)


def signatures_page() -> str:
    """Document the public names in full: Sphinx fills in signatures and docstrings."""
    lines = [NOTE, PROSE["signatures"]]
    for title, names in public_names():
        lines += [f"## {title}\n", *map(documented, names)]
    return "\n".join([*lines, *(_rst(f".. autoclass:: {name}") for name in PROSE["returned"])])


def public_names() -> list[tuple[str, list[str]]]:
    """Return the titles of the reference with their names; slots in the order of the pipeline, others by name."""
    names = [name for name in rosd_kit.__all__ if name != "__version__"]
    slots = [base.__name__ for base in SLOTS.values()]
    found = []
    for title, belongs in GROUPS:
        group = [name for name in names if belongs(getattr(rosd_kit, name))]
        names = [name for name in names if name not in group]
        found.append((title, sorted(group, key=lambda name: (slots.index(name) if name in slots else 0, name))))
    return found


def parameters(name: str) -> str:
    """Return the parameters of a function, or the fields of a value, with a `?` behind those that have a default."""
    value = getattr(rosd_kit, name)
    if inspect.isfunction(value):
        taken = [(each.name, each.default is not each.empty) for each in inspect.signature(value).parameters.values()]
    elif dataclasses.is_dataclass(value):
        missing = dataclasses.MISSING
        taken = [(f.name, f.default is not missing or f.default_factory is not missing) for f in dataclasses.fields(value)]
    else:
        return ""
    return ", ".join(f"`{each}`" + "?" * optional for each, optional in taken)


def moved_page(registry: Registry) -> str:
    """List everything that can still be used under an old name; tables without an entry are left out."""
    public = {f"rosd_kit.{name}" for name in rosd_kit.__all__}
    of_components = [
        (f"`{kind}.{old}` of `{name}`", f"`{kind}.{new}`", "", "")
        for kind in SLOTS
        for name in registry.names(kind)
        for old, new in registry.get(kind, name).Config.renamed_options.items()
    ]
    tables: Mapping[str, Mapping[str, Renamed]] = {
        "Public names": {old: entry for old, entry in NAMES.items() if entry.new in public},
        "Fields": FIELDS,
        "Hooks": RENAMED_HOOKS,
        "Methods of slots": {f"{slot} {old}": entry for slot, names in METHODS.items() for old, entry in names.items()},
        "Options of recipes": OPTIONS,
        "Metrics": METRICS,
        "Modules": MODULES,
        "Names in modules": {old: entry for old, entry in NAMES.items() if entry.new not in public},
    }
    lines = [NOTE, PROSE["moved"]["all"]]
    for title, entries in tables.items():
        rows = [
            (f"`{old}`", f"`{entry.new}`{_values(entry)}", str(entry.since), str(entry.until)) for old, entry in entries.items()
        ]
        rows += of_components if entries is OPTIONS else []
        if rows:
            lines += [f"## {title}\n", PROSE["moved"].get(title, ""), table(("old", "new", "since API", "until API"), rows)]
    return "\n".join(line for line in lines if line)


def _values(renamed: Renamed) -> str:
    return "".join(f", `{new}` for `{old}`" for old, new in renamed.values.items())


def first_sentence(name: str) -> str:
    """Return what a public name is, in one line, for readers of the page as plain Markdown."""
    value = getattr(rosd_kit, name)
    documented = inspect.isclass(value) or inspect.isfunction(value)
    text = one_line(inspect.getdoc(value)) if documented else one_line(PROSE["constants"][name])
    return re.split(r"(?<=[.!?]) ", text, maxsplit=1)[0]


def documented(name: str) -> str:
    value = getattr(rosd_kit, name)
    if inspect.isclass(value):
        return _rst(f".. autoclass:: rosd_kit.{name}")
    if inspect.isfunction(value):
        return _rst(f".. autofunction:: rosd_kit.{name}")
    return _rst(f".. py:data:: {name}\n   :module: rosd_kit\n\n   {PROSE['constants'][name]}")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```\n"


def laws(checks: Iterable[Check]) -> str:
    return table(("law", "what must hold"), [(f"`{check.name}`", escaped(check.law)) for check in checks])


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def paragraphs(text: str | None) -> str:
    return escaped(text or "") + "\n"


def one_line(text: str | None) -> str:
    return " ".join(paragraphs(text).split())


def escaped(text: str) -> str:
    """Return a docstring as Markdown, in which `<` begins no HTML tag."""
    return re.sub(r"(`[^`]*`)|<", lambda match: match.group(1) or "&lt;", text)


def index_of_components() -> str:
    """Return what `rosd-kit components` lists of the built-in components, and where their classes are."""
    entries = [
        {"kind": cls.kind, "name": cls.name, "module": cls.__module__, "cls": cls.__qualname__, "summary": summary_of(cls)}
        for cls in built_in_classes()
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    INDEX.write_text(index_of_components())
    for path, text in all_pages().items():
        file = DOCS / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
