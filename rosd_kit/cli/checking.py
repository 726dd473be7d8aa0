"""`rosd-kit plugins check`: finds a plugin, checks its components against the laws of their slots, and reports failures."""

from __future__ import annotations

import sys
import tomllib
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from unittest import SkipTest

from rosd_kit.errors import PluginError, RosdError, did_you_mean
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry

if TYPE_CHECKING:
    from rosd_kit.contracts import Component
    from rosd_kit.testing import Bench, Check

Options = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one law: `kept`, `broken` or `not applicable`, and the finding."""

    law: str
    text: str
    status: Literal["kept", "broken", "not applicable"]
    found: str = ""


def check_plugin(manager: PluginManager, subject: str, overrides: Sequence[str], *, verbose: bool) -> bool:
    """Print a report on a plugin and return whether it keeps all laws. Raises `PluginError` if there is no such plugin."""
    names = _load(manager, subject)
    registry, well = manager.registry, True
    options = _options(overrides)
    reports = [report for report in manager.reports if report.name in names]
    brought = {brings.split()[1] for report in reports for brings in report.brings}
    if strangers := sorted(options.keys() - brought):
        near = did_you_mean(strangers[0], brought)
        raise PluginError(
            f"plugins check: the plugin brings no {strangers[0]!r}.{near} It brings: {', '.join(sorted(brought)) or 'nothing'}"
        )
    for report in reports:
        print(f"{report}")
        if report.status != "ok":
            print(f"  cannot be used: {report.reason}")
            well = False
            continue
        print(f"  hooks: {', '.join(report.hooks)}; import: {report.seconds:.1f} s")
        for note in report.notes:
            print(f"  note: {note}")
        for brings in report.brings:
            kind, name = brings.split()
            well &= _check_component(registry, kind, name, options.get(name, {}), verbose=verbose)
    print("all laws are kept" if well else "not all laws are kept")
    return well


def outcomes(component: Component, bench: Bench) -> Iterator[Outcome]:
    """Check a component against every law of its slot."""
    from rosd_kit.testing import checks_of

    for made in checks_of(component.kind):
        yield _outcome(made, component, bench)


def _outcome(made: Check, component: Component, bench: Bench) -> Outcome:
    try:
        made(component, bench)
    except SkipTest as reason:
        return Outcome(law=made.name, text=made.law, status="not applicable", found=str(reason))
    except Exception as error:
        return Outcome(law=made.name, text=made.law, status="broken", found=_found(error))
    return Outcome(law=made.name, text=made.law, status="kept")


def _found(error: Exception) -> str:
    """Return the finding of a law, or what the component raised and where."""
    from rosd_kit.testing import CheckFailed

    if isinstance(error, CheckFailed):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    details = [note for note in getattr(error, "__notes__", []) if not note.startswith("law ")]
    return "; ".join([f"it raised {type(error).__name__}: {error} (line {frame.lineno} of {frame.filename})", *details])


def _check_component(registry: Registry, kind: str, name: str, options: Mapping[str, object], *, verbose: bool) -> bool:
    from rosd_kit.testing.build import bench_for, build

    cls = registry.get(kind, name)
    try:
        component, bench = build(cls, options, registry), bench_for(cls, registry)
    except RosdError as error:
        print(f"  {kind} {name}: not checked: {error}")
        return False
    found = list(outcomes(component, bench))
    count = {status: sum(one.status == status for one in found) for status in ("kept", "broken", "not applicable")}
    print(f"  {kind} {name}: laws: " + ", ".join(f"{number} {status}" for status, number in count.items()))
    reasons = Counter(one.found for one in found if one.status == "broken")
    for one in found:
        if one.status == "broken" and reasons[one.found] == 1:
            print(f"    broken: {one.law}\n      {one.text}\n      found: {one.found}")
        elif one.status != "broken" and verbose:
            print(f"    {one.status}: {one.law}" + (f" ({one.found})" if one.found else ""))
    for reason in (reason for reason, times in reasons.items() if times > 1):
        laws = [one.law for one in found if one.status == "broken" and one.found == reason]
        print(f"    broken, {len(laws)} laws for one reason: {', '.join(laws)}\n      found: {reason}")
    return count["broken"] == 0


def _load(manager: PluginManager, subject: str) -> set[str]:
    """Load the plugin that is meant, unless it is installed, and return its names."""
    path = Path(subject).expanduser()
    if path.is_dir():
        return set(_load_folder(manager, path.resolve()))
    if path.suffix == ".py" or path.is_file():
        return {manager.load_file(path)}
    known = {report.name for report in manager.reports}
    names = {report.name for report in manager.reports if subject in (report.name, report.distribution)}
    if not names:
        raise PluginError(
            f"plugins check: {subject!r} is neither a file, nor a folder, nor an installed plugin."
            f"{did_you_mean(subject, known)} Installed: {', '.join(sorted(known))}"
        )
    return names


def _load_folder(manager: PluginManager, root: Path) -> Iterable[str]:
    """Load the plugins that a source folder's pyproject.toml declares, without installing it; yield their names."""
    file = root / "pyproject.toml"
    if not file.is_file():
        raise PluginError(f"plugins check: {str(root)!r} holds no pyproject.toml. Give a package's folder, or a Python file.")
    try:
        project = tomllib.loads(file.read_text()).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise PluginError(f"plugins check: {str(file)!r} is not valid TOML: {error}") from error
    points = project.get("entry-points", {}).get("rosd_kit", {})
    if not points:
        raise PluginError(
            f"plugins check: {str(file)!r} has no entry point for rosd-kit. Add to it:\n"
            '[project.entry-points.rosd_kit]\nmy_plugin = "my_module"'
        )
    for place in (root / "src", root):
        if place.is_dir() and str(place) not in sys.path:
            sys.path.insert(0, str(place))
    for name, module in points.items():
        manager.load_module(name, module, project.get("name", root.name))
        yield name


def _options(overrides: Sequence[str]) -> Options:
    from rosd_kit.recipe.sources import read_overrides

    found: dict[str, dict[str, object]] = {}
    for override, (_, layer) in zip(sorted(overrides), read_overrides(sorted(overrides)), strict=True):
        for name, values in layer.items():
            if not isinstance(values, dict):
                raise PluginError(f"plugins check: {override!r} is not of the form NAME.OPTION=VALUE")
            found.setdefault(name, {}).update(values)
    return found
