"""Where a finetuning on images runs, and the engine that is told so.

What it carries out is `swin_training`, around which is `swin_run`.
"""

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.warnings import PossibleUserWarning

from nowcast.adapters.setting_checks import count, refuse_misfits
from nowcast.adapters.swin_callbacks import EpochBar, LogLines
from nowcast.adapters.swin_recipe import Recipe
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory


@dataclass(frozen=True)
class Execution:
    """Where a finetuning runs.

    Args:
        devices: on each machine; each takes a batch, and the learning rate grows with their number.
        nodes: machines.
        accelerator: "auto" is a GPU if there is one.
        precision: "bf16-mixed" and "16-mixed" compute in half precision where it is enough.
        workers: processes that read images, for each device.
    """

    devices: int = 1
    nodes: int = 1
    accelerator: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "bf16-mixed"
    workers: int = 8

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            InputError: with what was found and expected.
        """
        refuse_misfits(
            "execution",
            (
                count("devices", self.devices),
                count("nodes", self.nodes),
                ("workers", self.workers, self.workers >= 0, "0 or more"),
            ),
        )


def quieten() -> None:
    """Leave out what the engine says of itself, which helps no user of ours."""
    for name in ("lightning.pytorch", "lightning.fabric", "timm"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning.pytorch")
    warnings.filterwarnings("ignore", category=PossibleUserWarning)


def make_trainer(
    folder: Path, recipe: Recipe, execution: Execution, callbacks: list[Callback]
) -> pl.Trainer:
    """Lightning's trainer for a finetuning.

    Args:
        folder: of the finetuning.
        recipe: of the training.
        execution: where it runs.
        callbacks: beside the bar or the lines that tell how far it is.

    Raises:
        InputError: for devices that are not there.
    """
    keep_freed_memory()
    on_terminal = sys.stderr.isatty()
    several = execution.devices * execution.nodes > 1
    try:
        return pl.Trainer(
            accelerator=execution.accelerator,
            devices=execution.devices,
            num_nodes=execution.nodes,
            # The layers' statistics are put together by themselves; the rest does not change.
            strategy=DDPStrategy(broadcast_buffers=False) if several else "auto",
            precision=execution.precision,
            max_epochs=recipe.epochs,
            gradient_clip_val=recipe.clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            callbacks=[*callbacks, EpochBar() if on_terminal else LogLines()],
            enable_progress_bar=on_terminal,
            enable_model_summary=False,
            logger=False,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"execution: accelerator {execution.accelerator!r} with {execution.devices} devices: "
            f"{reason}"
        ) from error
