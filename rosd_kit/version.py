"""The version of this package and of its plugin API. Imports nothing of the kit."""

from importlib.metadata import PackageNotFoundError, version

#: Version of the contracts of `rosd_kit.contracts`; a plugin may state the one it was written for as `rosd_kit_api`.
API_VERSION = 2

try:
    __version__ = version("rosd-kit")
except PackageNotFoundError:
    __version__ = "0+checkout"
