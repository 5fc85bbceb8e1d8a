"""Weights and data sets from the Hugging Face hub: from this machine's copy, or on request."""

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

    try:
        folder = snapshot_download(
            repository,
            repo_type=kind,
            allow_patterns=list(patterns),
            local_files_only=not download,
        )
    except HFValidationError:
        raise InputError(
            f"{repository}: found no such folder, nor is it a name of the hub; expected a local "
            f"one ({option}) or a name such as owner/name"
        ) from None
    except LocalEntryNotFoundError:
        if download:
            raise InputError(
                f"{repository}: could not be downloaded (is the hub reachable?); a local folder "
                f"with {' '.join(patterns)} does as well ({option})"
            ) from None
        raise InputError(
            f"{repository}: found no copy on this machine; fetch it with --download, or give "
            f"a local folder with {' '.join(patterns)} ({option})"
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
