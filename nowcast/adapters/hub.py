"""Weights and data sets from the Hugging Face hub: from this machine's copy, or on request."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nowcast.errors import InputError


def from_hub(
    repository: str,
    patterns: Sequence[str],
    download: bool,
    option: str,
    kind: Literal["model", "dataset"] = "model",
) -> Path:
    """Folder with this machine's copy of a repository of the hub.

    Args:
        repository: such as "google-bert/bert-base-uncased".
        patterns: globs of the files that are needed.
        download: fetch what is missing; without, nothing is asked of the network.
        option: by which a local folder can be given instead, for messages.
        kind: of repository.

    Raises:
        InputError: if there is no copy, or it cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    for library in ("httpx", "httpx2"):  # A line for each request.
        logging.getLogger(library).setLevel(logging.WARNING)
    needed = f" with {' '.join(patterns)}" if kind == "model" else ""
    expected = f"a local folder ({option}) or a name of the hub such as owner/name"
    if Path(repository).is_file():
        raise InputError(f"{repository}: found a file, expected {expected}")
    if "/" not in repository:
        raise InputError(f"{repository}: found no such folder, expected {expected}")
    try:
        folder = snapshot_download(
            repository,
            repo_type=kind,
            allow_patterns=list(patterns),
            local_files_only=not download,
        )
    except HFValidationError:
        raise InputError(f"{repository}: found no such folder, expected {expected}") from None
    except LocalEntryNotFoundError:
        if download:
            raise InputError(
                f"{repository}: could not be downloaded (is the hub reachable, and has it this "
                f"{kind}?); a local one{needed} does as well ({option})"
            ) from None
        raise InputError(
            f"{repository}: found no such folder, nor a copy of the hub's {kind} on this machine; "
            f"fetch it with --download, or give a local one{needed} ({option})"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{repository}: could not be downloaded ({said})") from error
    found = Path(folder)
    if not any(path.is_file() for pattern in patterns for path in found.rglob(pattern)):
        raise InputError(
            f"{found}: found none of {' '.join(patterns)}; fetch them with --download, or "
            f"give a local folder ({option})"
        )
    return found
