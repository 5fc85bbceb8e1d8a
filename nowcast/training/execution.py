"""How the machine computes a training: in which precision, and whether it is compiled."""

import logging
import warnings

import torch
import torch._inductor.config

from nowcast.device import choose_device, fast_bf16
from nowcast.errors import InputError
from nowcast.training.run_settings import RunSettings

log = logging.getLogger("nowcast")


def settled_precision(run: RunSettings, begun_in: str | None) -> str:
    """The precision that a run trains in from its first step to its last.

    There is no rule for small networks: on a CPU with bfloat16 instructions a step of 4 clips took
    0.6 to 0.9 of its time in float32 with 4 to 128 channels, and as long on frames of 30 × 30.

    Args:
        run: its settings.
        begun_in: the precision of the run that goes on; None for a new one.
    """
    if run.precision != "auto":
        return run.precision
    device = choose_device("cpu" if run.accelerator == "cpu" else "auto")
    fast = fast_bf16(device)
    settled = begun_in or ("bf16-mixed" if fast else "32-true")
    log.info(
        "precision: %s%s; %s %s bfloat16 fast",
        settled,
        ", in which the run was begun" if begun_in else "",
        device.type,
        "computes" if fast else "does not compute",
    )
    return settled


def check_compiler(run: RunSettings, device: torch.device) -> None:
    """Refuse to compile where that cannot be done, by compiling something small.

    Raises:
        InputError: for CUDA graphs on another device, or a machine without a compiler.
    """
    if run.compile == "none":
        return
    if run.compile == "reduce-overhead" and device.type != "cuda":
        raise InputError(
            f"run: compile is {run.compile!r}, which makes CUDA graphs, and trains on "
            f"{device.type}; expected 'default' or 'none'"
        )
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # What the compilers say beside the error helps nobody.
    try:
        with (
            # What another process has compiled would prove nothing.
            torch._inductor.config.patch(force_disable_caches=True),
            warnings.catch_warnings(action="ignore"),
        ):
            torch.compile(torch.sin)(torch.zeros(8, device=device))
    except Exception as error:  # Of any kind: compilers, headers, folders that cannot be written.
        cause = " ".join(str(error).partition("\n")[0].split())
        raise InputError(
            f"run: compile is {run.compile!r}, and nothing can be compiled here ({cause}); "
            "expected a C++ compiler, for a GPU Triton too, or 'none'"
        ) from error
    finally:
        logging.disable(disabled)
    log.info("compiling the training step: minutes on this machine's first time, less later")
