"""Puts the top-level `recipes/` into the package as `rosd_kit.recipes`; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

FOLDERS = ["recipes", *sorted(path.as_posix() for path in Path("recipes").rglob("*") if path.is_dir())]
PLACES = {"rosd_kit." + folder.replace("/", "."): folder for folder in FOLDERS}

WEIGHTS = ["rosd_kit.model.micro.base", "rosd_kit.model.micro.reasoning"]

setup(packages=[*find_packages(include=["rosd_kit*"]), *WEIGHTS, *PLACES], package_dir=PLACES)
