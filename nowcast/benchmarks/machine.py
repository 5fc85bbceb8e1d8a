"""The machine that is measured: what it is, and how fast it multiplies matrices."""

import os
import platform
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from nowcast.benchmarks.rounds import Spread, time_rounds

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}

MATRIX_PRODUCTS = 10
"""How often matrices are multiplied; the fastest is the ceiling."""


@dataclass(frozen=True)
class Machine:
    """What figures of speed depend on.

    Attributes:
        processor: model name of the CPU.
        cores: processors that this process may run on.
        threads: that torch computes with.
        device: where networks run: the CPU, or name of the GPU.
        bf16_instructions: what the CPU has for bfloat16, as Linux calls it.
        python: version.
        torch: version.
        numpy: version.
        commit: of the project, with "+ changes" where files differ from it; None outside of a
            checkout.
        matrix_product_gflop_s: measured rate by precision; the largest is the ceiling.
    """

    processor: str
    cores: int
    threads: int
    device: str
    bf16_instructions: tuple[str, ...]
    python: str
    torch: str
    numpy: str
    commit: str | None
    matrix_product_gflop_s: dict[str, Spread]

    def __str__(self) -> str:
        rates = ", ".join(
            f"{name} {rate.largest:,.0f} GFLOP/s"
            for name, rate in self.matrix_product_gflop_s.items()
        )
        return (
            f"Machine: {self.processor}, {self.cores} cores, {self.threads} threads; networks on "
            f"{self.device}; torch {self.torch}, NumPy {self.numpy}, Python {self.python}; "
            f"commit {self.commit or 'unknown'}\nCeiling, measured matrix product: {rates}"
        )


def describe_machine(device: torch.device, matrix_side: int) -> Machine:
    """Describe the machine and measure its matrix-product rate.

    Args:
        device: where networks run.
        matrix_side: rows and columns of the matrices that are multiplied.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU"
    processor, flags = _processor()
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _all_cores(),
        threads=torch.get_num_threads(),
        device=name,
        bf16_instructions=tuple(flag for flag in flags if "bf16" in flag),
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        commit=_commit(),
        matrix_product_gflop_s=_matrix_product_rates(device, matrix_side),
    )


def wait_for(device: torch.device) -> None:
    """Return when all work given to the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True)
class MatrixProducts:
    """Products of two square matrices, to be timed: called, it returns when they are made.

    Args:
        precision: "fp32" or "bf16".
        device: where.
        side: rows and columns.
        times: how many of them.
    """

    precision: str
    device: torch.device
    side: int = 2048
    times: int = 1

    @property
    def gflop(self) -> float:
        """10⁹ floating-point operations of a call."""
        return 2e-9 * self.side**3 * self.times

    @cached_property
    def _matrices(self) -> torch.Tensor:
        matrices = torch.rand(2, self.side, self.side, device=self.device)
        return matrices.to(PRECISIONS[self.precision])

    def __call__(self) -> None:
        """Multiply."""
        with torch.inference_mode():
            for _ in range(self.times):
                torch.mm(self._matrices[0], self._matrices[1])
        wait_for(self.device)


def _matrix_product_rates(device: torch.device, side: int) -> dict[str, Spread]:
    products = {name: MatrixProducts(name, device, side) for name in PRECISIONS}
    seconds = time_rounds(products, MATRIX_PRODUCTS, 1, "matrix products")
    return {
        name: Spread.of(tuple(products[name].gflop / value for value in values))
        for name, values in seconds.items()
    }


def _processor() -> tuple[str, list[str]]:
    """Model name and flags of the CPU; Linux tells both, other systems a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    entries = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    stated = {key.strip(): value.strip() for key, value in entries.items()}
    return stated.get("model name", platform.machine()), stated.get("flags", "").split()


def _all_cores() -> int:
    return os.cpu_count() or 1


def _commit() -> str | None:
    """Commit of the checkout that this file lies in."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # In an installed copy, a checkout around it is somebody else's.
        if not git("ls-files", Path(__file__).name):
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + (" + changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
