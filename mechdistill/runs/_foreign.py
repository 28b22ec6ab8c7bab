"""Where a model that is no run of ours lies: in a folder, or, by name, where Hugging Face's library keeps it.

Nothing heavy is imported, so that a name that leads nowhere is told before torch is waited for.
"""

import os
import re
from pathlib import Path

from mechdistill.errors import MechdistillError, named

_NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"
_WANTED = ["*.json", "*.safetensors"]
_PATIENCE = 10  # seconds, for the first answer


def folder_of(model: str | Path) -> Path:
    """An existing path as it is, whatever models are called; else the folder of the model of that name, maybe fetched.

    Only configuration and safetensors weights are fetched. Raises `MechdistillError` for what is neither.
    """
    if os.path.lexists(model):
        return Path(model)
    name = str(model)
    if not re.fullmatch(_NAME, name):
        raise MechdistillError(f"{named(name)}: no such directory; give a run, an experiment or a model's folder")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=_WANTED, etag_timeout=_PATIENCE))
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        reason = "no network" if "onnect" in str(error) else type(error).__name__
        raise MechdistillError(
            f"{named(name)}: no such directory, and no model of that name can be had ({reason}); give a folder"
        ) from None
