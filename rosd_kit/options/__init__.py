"""Options of recipes and components: their base class, and numbers that change from step to step."""

from __future__ import annotations

from rosd_kit.options.config import Config, Fixed
from rosd_kit.options.present_step import options_at, present_step
from rosd_kit.options.schedule import Schedule
from rosd_kit.options.trusted import Trusted

__all__ = ["Config", "Fixed", "Schedule", "Trusted", "options_at", "present_step"]
