"""The command line: its commands, and how errors are shown.

Commands import what they need when they run, so that `rosd-kit --help` is fast.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TextIO

import typer

from rosd_kit.cli.busy_machine import share_processors
from rosd_kit.cli.common import Commands, FieldsCommand
from rosd_kit.cli.crashes import explain_crash, explain_path
from rosd_kit.cli.diagnose import diagnose
from rosd_kit.cli.diff import diff
from rosd_kit.cli.doctor import doctor
from rosd_kit.cli.export import export
from rosd_kit.cli.inspect import components, profiles, recipes, schema, show, tasks
from rosd_kit.cli.plugins import app as plugins
from rosd_kit.cli.push import push
from rosd_kit.cli.report import report
from rosd_kit.cli.runs import evaluate, run
from rosd_kit.cli.sweep import sweep
from rosd_kit.cli.trust import trust
from rosd_kit.errors import RosdError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.renames import RenamedOptionWarning, RenamedWarning
from rosd_kit.version import __version__


def build_app(manager: PluginManager) -> typer.Typer:
    """Return the command line with the commands of every plugin."""
    app = typer.Typer(
        name="rosd-kit",
        help="On-policy self-distillation of language models: methods are recipes of interchangeable components.",
        cls=Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    app.command(cls=FieldsCommand)(run)
    app.command("eval", cls=FieldsCommand)(evaluate)
    app.command(short_help="Show a run as one page.")(report)
    app.command(short_help="Write the model of a run's checkpoint.")(export)
    app.command(short_help="Upload a run's model to the hub.")(push)
    app.command(cls=FieldsCommand, short_help="Measure where a recipe's signal lies, before training.")(diagnose)
    app.add_typer(sweep, name="sweep", short_help="Run a recipe with components swapped and compare.")
    app.command(cls=FieldsCommand)(show)
    app.command(cls=FieldsCommand)(diff)
    app.command()(components)
    app.add_typer(plugins, name="plugins")
    app.command(short_help="List the shipped recipes.")(recipes)
    app.command(short_help="List the shipped profiles.")(profiles)
    app.command(short_help="List the tasks and task presets.")(tasks)
    app.command()(schema)
    app.command()(doctor)
    app.command(short_help="Trust a folder's recipes, or list what is trusted.")(trust)
    manager.add_commands(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        print(f"rosd-kit {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """On-policy self-distillation of language models: methods are recipes of interchangeable components."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 on success, 2 for a user's mistake, 1 for any other error; both are said on stderr."""
    manager: PluginManager | None = None
    share_processors()
    with _renames_shown():
        try:
            manager = PluginManager()
            build_app(manager)(args=None if argv is None else list(argv), obj=manager, prog_name="rosd-kit")
        except RosdError as error:
            print(f"error: {manager.hint(str(error)) if manager else error}", file=sys.stderr)
            raise SystemExit(2) from None
        except Exception as error:
            if isinstance(error, OSError) and (text := explain_path(error, manager.reports if manager else ())):
                print(text, file=sys.stderr)
                raise SystemExit(2) from None
            print(explain_crash(error, manager.reports if manager else ()), file=sys.stderr)
            raise SystemExit(1) from None


@contextmanager
def _renames_shown() -> Iterator[None]:
    """Print each use of an old name once, in one line; Python itself shows such warnings to developers only."""
    with warnings.catch_warnings():
        show, printed = warnings.showwarning, set[str]()
        if not sys.warnoptions:
            warnings.simplefilter("default", RenamedWarning)

        def shown(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if not issubclass(category, RenamedWarning):
                show(message, category, filename, lineno, file, line)
                return
            in_recipe = issubclass(category, RenamedOptionWarning)
            text = str(message) if in_recipe else f"{filename}:{lineno}: {message}"
            if text not in printed:
                print(f"warning: {text}", file=sys.stderr)
            printed.add(text)

        warnings.showwarning = shown
        yield
