"""The command that uploads a run's model to the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rosd_kit.cli import completion


def push(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="A finished run's folder, or a model's folder.", autocompletion=completion.runs),
    ],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository; it is made if there is none.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload a run's model with its card to the Hugging Face hub, or to the one that HF_ENDPOINT names.

    Needs a login: hf auth login, or a token in HF_TOKEN.
    """
    from rosd_kit.run.hub import push_model

    print(push_model(run, repository, private=private))
