"""Put a folder on the Hugging Face hub, and bring one from there.

What is put there is what opens it again and its card. Rows of the data stay here: the answers on
held-out rows, with their targets, are left out, and so are locks, checkpoints and half-written
files.
"""

from pathlib import Path
from typing import Any

from stackwise.errors import ModelError
from stackwise.optional import needs

SCHEME = "hf://"
LEFT_OUT = ["*_predictions.parquet", "request.json", ".lock", "**/.lock", "*.part*", "**/*.part*",
            "checkpoint/**", "**/checkpoint/**"]  # fmt: skip


def upload(folder: Path, repository: str, *, private: bool = True, token: str | None = None) -> str:
    """Put a folder's files into a model repository, which is made where there is none.

    Args:
        repository: `owner/name`.
        private: whether a repository that is made is private; one that is there stays as it is.
        token: of the hub; None takes the one of `hf auth login`.

    Returns:
        The address of the repository.

    Raises:
        ModelError: the hub refused, or cannot be reached. NotInstalled: its client is missing.
    """
    needs("huggingface_hub", "the hub")
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api: Any = huggingface_hub.HfApi(token=token)
    try:
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=str(folder), repo_id=made.repo_id, ignore_patterns=LEFT_OUT,
            commit_message="Upload with stackwise",
        )  # fmt: skip
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelError(f"{repository} cannot be written to the hub: {_first(error)}") from error
    return str(made)


def download(address: str) -> Path:
    """The folder of `hf://owner/name`, from the hub or its cache here.

    Raises:
        ModelError: there is no such repository, or the hub cannot be reached.
    """
    needs("huggingface_hub", "the hub")
    import huggingface_hub
    from huggingface_hub.errors import HFValidationError

    name = address.removeprefix(SCHEME)
    try:
        return Path(huggingface_hub.snapshot_download(name))
    except (OSError, HFValidationError) as error:
        raise ModelError(f"{address} cannot be brought from the hub: {_first(error)}") from error


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
