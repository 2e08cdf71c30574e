"""Where a model's files are: a folder, or the Hub's cache."""

from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from zoo.errors import CheckpointError
from zoo.specs import HubModel
from zoo.tokenizer.reading import FILES as TOKENIZER_FILES

ALLOWED = ["*.json", "*.safetensors", *(name for name in TOKENIZER_FILES if not name.endswith(".json"))]
"""What is fetched of a repository: no code, no pickle."""


def folder_of(model: HubModel, *, weights: bool = True) -> Path:
    """The folder with the model's files, fetched first where it is a Hub id.

    Args:
        model: A folder or a Hub id.
        weights: False fetches config.json alone.

    Raises:
        CheckpointError: The files are not to be had.
    """
    if model.is_folder:
        return Path(model.name)
    try:
        return Path(
            huggingface_hub.snapshot_download(
                model.repo_id, revision=model.revision, allow_patterns=ALLOWED if weights else ["config.json"]
            )
        )
    except (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        OSError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"`{model.name}` cannot be had from the Hub: {reason}",
            hint="check the name, the network and, for a private model, `hf auth login`",
        ) from error
