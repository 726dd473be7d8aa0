"""Uploads a run's model with its card to a hub."""

from __future__ import annotations

import re
from pathlib import Path

from rosd_kit.errors import RunError

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str) -> bool:
    """Return whether a name could be that of a repository on a hub, `owner/name`."""
    return bool(_NAME.fullmatch(name))


def push_model(run: Path, repository: str, *, private: bool = False, endpoint: str | None = None) -> str:
    """Upload the exported model of a run to `repository` (`owner/name`), which is made if there is none; return its address.

    `run` is a run's folder, or a model's folder. `endpoint` is the hub's address, by default that of `HF_ENDPOINT`, else
    huggingface.co. Raises `RunError` if there is no model, the name is none, or the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    folder = _model_of(run)
    if not is_repository(repository):
        raise RunError(f"push: {repository!r} is not a repository. Write OWNER/NAME, for example me/qwen3-rosd.")
    api = HfApi(endpoint=endpoint)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(folder_path=folder, repo_id=repository, commit_message="Upload a model trained with rosd-kit")
    except LocalTokenNotFoundError as error:
        raise RunError("push: no login to the hub here. Log in with: hf auth login; or set HF_TOKEN.") from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            remedy = "Log in with: hf auth login; or set HF_TOKEN to a token that may write there."
        else:
            remedy = "Try again later; nothing here has changed."
        raise RunError(f"push: {api.endpoint} refused {repository}: {_first_line(error)}. {remedy}") from error
    except Exception as error:  # of the HTTP library, which differs between versions of huggingface_hub
        if not _is_about_the_network(error):
            raise
        raise RunError(
            f"push: {api.endpoint} cannot be reached: {_first_line(error)}. Check the network, and HF_ENDPOINT if it is set. "
            f"The model stays in {folder}."
        ) from error
    return f"{api.endpoint}/{repository}"


def _model_of(run: Path) -> Path:
    """Return the folder of the model that `run` is or holds."""
    for folder in (run / "model", run):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    if (run / "recipe.yaml").is_file():
        raise RunError(
            f"push: {run} has no exported model, because the run is not finished. Continue: rosd-kit run --resume {run}"
        )
    raise RunError(f"push: {str(run)!r} holds no model. Give a finished run's folder, for example runs/rosd-1.")


def _is_about_the_network(error: Exception) -> bool:
    names = {cls.__name__ for cls in type(error).__mro__}
    return isinstance(error, OSError) or bool(names & {"TransportError", "RequestException", "OfflineModeIsEnabled"})


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
