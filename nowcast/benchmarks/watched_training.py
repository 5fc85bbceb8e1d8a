"""A real training, watched: the network of a benchmark, and what each of its steps costs."""

import time
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch

from nowcast.benchmarks.machine import wait_for
from nowcast.device import choose_device
from nowcast.models.settings import NetworkSettings

Device = Literal["auto", "cpu", "cuda"]

SECONDS = "step_seconds"
CPU_SECONDS = "step_cpu_seconds"
RESIDENT = "resident_bytes"
ON_GPU = "gpu_bytes"


def network_of(hidden: tuple[int, ...]) -> NetworkSettings:
    """A ConvGRU in the form of the benchmark's authors, but for any grid: without coordinates.

    Args:
        hidden: channels of the states, finest level first; the convolutions between levels have as
            many, the finest 8.
    """
    features = (8, *hidden[1:])
    return NetworkSettings(
        hidden=hidden, features=features, up_features=features, coordinates=False
    )


def accelerator_of(device: Device) -> str:
    """What Lightning calls the device that a benchmark runs on."""
    return "gpu" if choose_device(device).type == "cuda" else "cpu"


class LogStepCosts(pl.Callback):
    """Logs in the learning curve of every step what it took, and the memory held after it.

    A step lasts from the end of the one before to its own end, with all that the training does in
    between: waiting for clips, logging, checkpoints, validations. What logging the costs takes is
    left out. Beside seconds there are those of all processor cores together, which other programs
    on the machine change little. Memory is the process' resident memory where Linux tells it, and
    on a GPU also what torch has allocated there.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clocks."""
        self.since = time.perf_counter(), time.process_time()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Log, and start the clocks anew."""
        wait_for(pl_module.device)
        began, cpu_began = self.since
        costs = {
            SECONDS: time.perf_counter() - began,
            CPU_SECONDS: time.process_time() - cpu_began,
        }
        resident = resident_memory()
        if resident is not None:
            costs[RESIDENT] = resident
        if pl_module.device.type == "cuda":
            costs[ON_GPU] = torch.cuda.memory_allocated(pl_module.device)
        for logger in trainer.loggers:
            # As the engine counts: the step that was done last.
            logger.log_metrics(costs, trainer.global_step - 1)
        self.since = time.perf_counter(), time.process_time()


def resident_memory() -> int | None:
    """Resident memory of this process in bytes; None where Linux does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    (resident,) = (int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    return resident * 1024
