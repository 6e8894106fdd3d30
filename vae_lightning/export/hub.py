"""Exported files on the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from vae_lightning.errors import ConfigError, UserError, first_line
from vae_lightning.progress import console

ADVICE = {  # by status of the answer
    401: "the hub does not accept the token: say `hf auth login`, or set HF_TOKEN to one that may write",
    403: "this token may not write there: take your own user name, as in push=<user>/<name>, or a token that may write",
    404: "there is no such repository that this token may see: take your own user name, as in push=<user>/<name>",
    409: "something else is writing there: say the same again in a moment",
    412: "something else has written there meanwhile: say the same again",
    413: "it takes no files of this size: say onnx=false, or export a smaller model",
    429: "too many requests: say the same again in a few minutes",
}


def check(repo: str) -> None:
    """Whether `repo` can be the name of a repository.

    Raises:
        ConfigError: it cannot.
        UserError: huggingface_hub is not installed.
    """
    hub = _library()
    try:
        hub.utils.validate_repo_id(repo)
    except hub.errors.HFValidationError as error:
        raise ConfigError(f"push={repo}: no name for a repository, say push=<user>/<name>; {error}") from error


def push(folder: Path, names: Sequence[str], repo: str, private: bool) -> str:
    """Upload the files `names` in `folder` to `repo`, which is made if there is none; gives its address.

    The token is that of HF_TOKEN or of `hf auth login`, the hub that of HF_ENDPOINT or https://huggingface.co.

    Raises:
        UserError: the hub cannot be reached, or refuses; says what to type. The files in `folder` stay.
    """
    hub = _library()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))

    def refused(why: str) -> UserError:
        return UserError(f"push={repo}: {api.endpoint}: {why.rstrip('.')}. Nothing is lost: all files are in {folder}")

    if hub.get_token() is None:
        raise refused("no token: say `hf auth login`, or set HF_TOKEN")
    if not console.is_terminal:
        hub.utils.disable_progress_bars()
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id,
            folder_path=folder,
            allow_patterns=list(names),
            commit_message="Upload with vae_lightning.export",
        )
    except hub.errors.OfflineModeIsEnabled as error:
        raise refused("HF_HUB_OFFLINE is set: unset it") from error
    except (hub.errors.HTTPError, ValueError, RuntimeError) as error:
        raise refused(_why(error, hub)) from error
    return str(url)


def _why(error: Exception, hub: ModuleType) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, hub.errors.HTTPError):
        cause = cause.__cause__  # an upload in a thread wraps what it met
    if cause is None:
        return first_line(error)
    if not isinstance(cause, hub.errors.HfHubHTTPError):
        return f"it cannot be reached, say the same again with a network ({type(cause).__name__}: {cause})"
    status = cause.response.status_code
    advice = ADVICE.get(status, "the hub is in trouble: say the same again later" if status >= 500 else "refused")
    return f"{status}, {advice} ({cause.server_message or first_line(cause)})"


def _library() -> ModuleType:
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise UserError(f'{error}: say pip install "vae-lightning[export]", or push=null') from error
    return huggingface_hub
