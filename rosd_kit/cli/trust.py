"""The command trust: the folders whose recipes may start programs, reach hosts and read pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def trust(
    places: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="A folder with recipes, or one recipe. None: list what is trusted."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Trust these no more.")] = False,
) -> None:
    """Trust a folder's recipes, or list the folders that are trusted.

    A trusted recipe or profile can start programs, run a model's code, read pickles and send data to hosts with your rights.
    Read it before. Shipped recipes, the command line and your own runs need no trust.
    """
    from rosd_kit.errors import RecipeError
    from rosd_kit.recipe import trust_store

    if remove and not places:
        raise RecipeError("trust --remove: name what to remove, for example: rosd-kit trust --remove recipes")
    for place in places or ():
        real = trust_store.distrust(place) if remove else trust_store.trust(place)
        print(f"{real}: {'no longer trusted' if remove else 'trusted'}")
    if not places:
        print("\n".join(map(str, trust_store.trusted_folders())) or "nothing is trusted")
