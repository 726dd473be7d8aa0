"""The laws, one file a slot; importing them makes them known."""

from rosd_kit.testing.checks import common, localizer

__all__ = ["common", "localizer"]
