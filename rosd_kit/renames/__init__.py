"""What has another name than in an earlier version: tables of old and new names, and what makes the old ones still work.

    modules.py, names.py, options.py    the tables
    imports.py, fields.py, warnings.py  what lets old names work, with a `RenamedWarning` that says what to write

`docs/moved.md` is written from the tables. This package imports nothing else of the kit and knows neither plugins
(`plugins/deprecations.py` adapts those) nor how recipes are read.

To rename something: raise `API_VERSION` in version.py, add a line to one of the tables, and say in which version the old
name stops working, at least two later. When that version comes, delete the line and raise `OLDEST_API`.
"""

from rosd_kit.renames.entry import Renamed
from rosd_kit.renames.fields import accepts_old_fields, with_current_metrics
from rosd_kit.renames.imports import install, renamed_name
from rosd_kit.renames.modules import MODULES
from rosd_kit.renames.names import NAMES
from rosd_kit.renames.options import FIELDS, HOOKS, METHODS, METRICS, OPTIONS
from rosd_kit.renames.warnings import RenamedOptionWarning, RenamedWarning, warn

__all__ = [
    "FIELDS", "HOOKS", "METHODS", "METRICS", "MODULES", "NAMES", "OLDEST_API", "OPTIONS", "Renamed", "RenamedOptionWarning",
    "RenamedWarning", "accepts_old_fields", "install", "renamed_name", "warn", "with_current_metrics",
]  # fmt: skip

#: The oldest `rosd_kit_api` that is still accepted.
OLDEST_API = 1
