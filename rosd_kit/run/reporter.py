"""Tells the user, the observers and the final summary what happens in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rosd_kit.display import Display
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.run_view import RunView
from rosd_kit.run.collapse_warnings import CollapseWatch


@dataclass(kw_only=True)
class Reporter:
    """Passes warnings to the display and keeps them, and calls the observer hooks."""

    display: Display
    plugins: PluginManager
    watch: CollapseWatch
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Show a warning and keep it for the summary."""
        text = self.plugins.hint(text)
        self.warnings.append(text)
        self.display.warning(text)

    def warn_new(self, texts: Sequence[str]) -> None:
        """Warn of everything that this run has not warned of yet."""
        for text in texts:
            if text not in self.warnings:
                self.warn(text)

    def warn_of_faults(self, faults: Sequence[str]) -> None:
        """Warn of components that failed on some samples, once per component; the metrics `fault/<slot>` keep counting."""
        for fault in faults:
            component = fault.partition(" failed on ")[0]
            if not any(warning.startswith(f"{component} failed on ") for warning in self.warnings):
                self.warn(fault)

    def notify(self, hook: str, run: RunView, /, **facts: object) -> None:
        """Call an observer hook of every plugin; an observer that raises becomes a warning."""
        for message in self.plugins.notify(hook, run=run, **facts):
            self.warn(message)
