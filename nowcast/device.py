"""Where networks run."""

import torch

from nowcast.errors import InputError


def choose_device(wanted: str) -> torch.device:
    """ "auto" is a GPU if there is one.

    Raises:
        InputError: for a device that is not there.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # The latter where torch is built without it.
        raise InputError(
            f"device: found {wanted!r}, which torch cannot use here; expected auto, cpu or one "
            "that is there"
        ) from error
