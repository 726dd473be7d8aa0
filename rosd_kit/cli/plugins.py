"""The `plugins` commands: list plugins, start a new one, check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rosd_kit.cli.common import PluginFiles, load_plugins
from rosd_kit.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from rosd_kit.plugins.registry import Registry
    from rosd_kit.plugins.report import PluginReport

app = typer.Typer(help="List plugins, start a new one, or check one.", rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def plugins(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List every plugin: what it brings, or why it is left out. Or start a new one, or check one."""
    if context.invoked_subcommand is None:
        _print_list(context, plugin)
    elif plugin:
        raise PluginError(f"plugins: --plugin is for the list. Write rosd-kit plugins check {plugin[0]}")


def _print_list(context: typer.Context, plugin: list[Path] | None) -> None:
    for report in load_plugins(context, plugin, warn=False, lists=True).reports:
        print("\n".join(_lines(report)))


@app.command("list", hidden=True)
def list_plugins(context: typer.Context, plugin: PluginFiles = None) -> None:
    """List every plugin, as the command without a word does."""
    _print_list(context, plugin)


@app.command(short_help="Write a new plugin that works.")
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What recipes will call it, for example after-keyword.")],
    kind: Annotated[str, typer.Option(metavar="SLOT", help="The slot that it fills, for example localizer.")],
    file: Annotated[bool, typer.Option("--file", help="Write one Python file instead of a package.")] = False,
    out: Annotated[Path, typer.Option(help="The folder to write into.")] = Path(),
) -> None:
    """Write a new plugin that works: a package with a recipe, a test and a README, or one file."""
    from rosd_kit.contracts import SLOTS
    from rosd_kit.scaffold import component_name, new_file, new_package

    if kind not in SLOTS:
        raise PluginError(f"--kind: {kind!r} is not a slot.{did_you_mean(kind, SLOTS)} Slots: {', '.join(SLOTS)}")
    if taken := _taken(context.obj.registry, kind, component_name(name)):
        raise PluginError(f"plugins new: {taken}. Choose another name.")
    if file:
        path = new_file(name, kind, out)
        print(f"wrote {path}\n")
        print(f"rosd-kit plugins check {path}                    # does it keep the laws of a {kind}?")
        print(f"rosd-kit components {kind} {path.stem} --plugin {path}   # its options")
        return
    root = new_package(name, kind, out)
    print("\n".join([f"wrote {root}", *(f"  {each.relative_to(root)}" for each in sorted(root.rglob("*")) if each.is_file())]))
    print(f"\ncd {root}\npip install -e '.[test]'\nrosd-kit run recipe.yaml --dry-run\npytest")


def _taken(registry: Registry, kind: str, component: str) -> str | None:
    """Return who has the name of a new component already, or None."""
    if component not in registry.names(kind):
        return None
    return f"there is a {kind} {component!r} already, from {registry.entry(kind, component).origin.plugin}"


@app.command(short_help="Check a plugin against the laws of its slots.")
def check(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="PLUGIN", help="A Python file, a package's folder, or the name of an installed plugin.")
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME.OPTION=VALUE", help="Options to check components with, for example after_keyword.keyword=So."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name every law, kept or not.")] = False,
) -> None:
    """Check every component of a plugin against the laws of its slot; exit with 1 if it breaks one."""
    from rosd_kit.cli.checking import check_plugin

    if not check_plugin(context.obj, subject, options or (), verbose=verbose):
        raise typer.Exit(1)


def _lines(report: PluginReport) -> list[str]:
    lines = [f"{report.name}  {report.status}  ({report.distribution} {report.version})", f"  file: {report.file}"]
    if report.fingerprint:
        lines[-1] += f"  [{report.fingerprint}]"
    if report.reason:
        lines.append(f"  reason: {report.reason}")
    if report.status == "ok":
        lines.append(f"  hooks: {', '.join(report.hooks)}")
        brings = f"{len(report.brings)} components" if len(report.brings) > 8 else ", ".join(report.brings)
        lines.append(f"  brings: {brings or 'no components'}")
    lines += [f"  note: {note}" for note in report.notes]
    return lines + ([f"  import: {report.seconds:.1f} s"] if report.seconds >= 0.5 else [])
