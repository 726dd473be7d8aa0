"""Puts the top-level `recipes/` into the package as `rosd_kit.recipes`; everything else stands in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["rosd_kit*"]), "rosd_kit.recipes"],
    package_dir={"rosd_kit.recipes": "recipes"},
)
