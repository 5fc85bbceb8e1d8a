"""Where networks run, and how precisely they compute there."""

from typing import Literal, get_args

import torch

from nowcast.errors import InputError

Precision = Literal["fp32", "bf16"]
"""float32, or autocast to bfloat16."""

WantedPrecision = Literal["fp32", "bf16", "auto"]
"""As users name it: "auto" is bfloat16 where it is fast."""


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


def fast_bf16(device: torch.device) -> bool:
    """Whether the device has instructions of its own for bfloat16, faster than float32's.

    False for a CPU where torch does not tell: releases without `torch.cpu.get_capabilities`.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    can = torch.cpu.get_capabilities()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


def choose_precision(wanted: WantedPrecision, device: torch.device) -> Precision:
    """The precision to compute in on a device.

    Raises:
        InputError: for another word.
    """
    if wanted == "auto":
        return "bf16" if fast_bf16(device) else "fp32"
    if wanted not in get_args(Precision):
        raise InputError(f"precision: found {wanted!r}, expected fp32, bf16 or auto")
    return wanted
