"""The paper's protocol: pretrain a network, with MEmeL or without, then finetune it.

A run is a folder: `last.ckpt` (the newest checkpoint, at the end the result), `metrics.csv` (the
learning curve) and `config.yaml` (written by the command). Training that is started again in the
same folder with the same settings goes on from `last.ckpt`.
"""

import hashlib
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch._dynamo
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from nowcast import memel
from nowcast.errors import InputError
from nowcast.memory import keep_freed_memory
from nowcast.models.build import build_network
from nowcast.models.checkpoint import (
    Description,
    checkpoint_path,
    load_weights,
    read_checkpoint,
)
from nowcast.models.network import Network
from nowcast.models.settings import NetworkSettings
from nowcast.training.augmentation import check_crop, shape_in_training
from nowcast.training.callbacks import (
    DropLaterRows,
    KeepCheckpoint,
    LearningCurve,
    LogLines,
    StepBar,
)
from nowcast.training.data import DataSettings
from nowcast.training.data_module import ClipData
from nowcast.training.execution import check_compiler, settled_precision
from nowcast.training.gradient_norms import LogGradientNorms
from nowcast.training.inhibition import (
    Inhibition,
    check_layers,
    insert_layers,
    keep_statistics,
    places,
)
from nowcast.training.module import NowcastModule, OptimizationSettings
from nowcast.training.monosemanticity import LogMonosemanticity
from nowcast.training.resuming import begun_run, plain, steps_done
from nowcast.training.run_settings import RunSettings
from nowcast.training.sampling import UNIFORM, SamplingSettings
from nowcast.training.update_log import LogUpdateEffects

log = logging.getLogger("nowcast")


def pretrain(
    network: NetworkSettings,
    data: DataSettings,
    optimization: OptimizationSettings,
    run: RunSettings,
    inhibition: Inhibition | None = None,
    sampling: SamplingSettings = UNIFORM,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a network from its initial weights, with MEmeL or without.

    Args:
        network: its shape.
        data: clips.
        optimization: how.
        run: where.
        inhibition: settings of the MEmeL layers; None trains without.
        sampling: which clips are drawn more often, and how they are changed.
        callbacks: what else watches the training; they change nothing of its outcome.

    Returns:
        Path of the checkpoint.

    Raises:
        InputError: for data that does not fit, or a folder that holds a run of other settings.
        Stopped: on Ctrl-C or SIGTERM, after the step is done and the checkpoint saved.
    """
    pl.seed_everything(run.seed, verbose=False)
    model = build_network(network, data.input_frames, data.lead_times)
    if inhibition is not None:
        insert_layers(model, inhibition)
    return _train(model, data, optimization, run, inhibition, sampling, None, callbacks)


def finetune(
    checkpoint: Path,
    data: DataSettings,
    optimization: OptimizationSettings,
    run: RunSettings,
    inhibition: Inhibition | None = None,
    fresh_statistics: bool = False,
    sampling: SamplingSettings = UNIFORM,
) -> Path:
    """Train a pretrained network on, with a fresh optimizer and its own clips.

    A network that was pretrained with MEmeL keeps the statistics of its layers if it is finetuned
    with MEmeL too, and loses them if not.

    Args:
        checkpoint: of the pretrained network.
        data: clips; their time step must be the pretrained network's.
        optimization: how.
        run: where.
        inhibition: settings of the MEmeL layers; None finetunes without.
        fresh_statistics: start the statistics of MEmeL layers anew, as on frames of another size.
        sampling: which clips are drawn more often, and how they are changed.

    Returns:
        Path of the checkpoint.

    Raises:
        InputError: for a file that is no checkpoint, data that does not fit it, or a folder that
            holds a run of other settings.
        Stopped: see `pretrain`.
    """
    description, content = read_checkpoint(checkpoint)
    if description.step_minutes != data.step_minutes:
        raise InputError(
            f"{checkpoint}: trained on steps of {description.step_minutes:g} minutes, "
            f"the data is asked for at {data.step_minutes:g}"
        )
    trained, asked = ((d.input_frames, d.lead_times) for d in (description, data))
    if description.network.recurrence == "none" and trained != asked:
        raise InputError(
            f"{checkpoint}: is a 2-D CNN of {trained[0]} input frames and {trained[1]} lead times, "
            f"the data is asked for with {asked[0]} and {asked[1]}"
        )
    pl.seed_everything(run.seed, verbose=False)
    model = build_network(description.network, data.input_frames, data.lead_times)
    if inhibition is not None:
        insert_layers(model, inhibition)
    load_weights(model, content, checkpoint)
    if fresh_statistics:
        for layer in memel.inserted(model).values():
            layer.reset()
    else:
        store = data.open()
        seen = shape_in_training(store, sampling)
        keep_statistics(model, checkpoint, description, store.path, seen)
    started_from = {
        "checkpoint_sha256": hashlib.sha256(checkpoint_path(checkpoint).read_bytes()).hexdigest(),
        "checkpoint_inhibition": description.inhibition,
        "checkpoint_run": description.run,
        "fresh_statistics": fresh_statistics,
    }
    return _train(model, data, optimization, run, inhibition, sampling, started_from)


def _train(
    model: Network,
    data: DataSettings,
    optimization: OptimizationSettings,
    run: RunSettings,
    inhibition: Inhibition | None,
    sampling: SamplingSettings,
    started_from: dict[str, Any] | None,
    callbacks: Sequence[Callback] = (),
) -> Path:
    run.check_with_memel(inhibition is not None)
    model.recompute(run.recompute_every)
    store = data.open()
    begun = begun_run(run.checkpoint)
    precision = settled_precision(run, begun[0].run.get("precision") if begun else None)
    description = Description(
        network=model.settings,
        step_minutes=data.step_minutes,
        input_frames=data.input_frames,
        lead_times=data.lead_times,
        frame_shape=shape_in_training(store, sampling),
        inhibition=None
        if inhibition is None
        else plain({**inhibition, "at": places(model, inhibition["at"])}),
        run=plain(
            {
                # The store's content, not its place, decides; so do not workers or validation.
                "data": asdict(replace(data, workers=0, in_memory=False))
                | {
                    "store": store.fingerprint,
                    "train_also": [also.fingerprint for also in data.open_to_train()[1:]],
                },
                "sampling": asdict(sampling),
                "optimization": asdict(optimization),
                "seed": run.seed,
                "precision": precision,
                "started_from": started_from,
            }
        ),
    )
    done = steps_done(run.checkpoint, begun, description)
    del begun  # Its weights are read again by the engine.
    if done >= optimization.steps:
        log.info("%s: all %s steps are done", run.checkpoint, f"{done:,}")
        return run.checkpoint
    check_crop(model.settings, sampling)
    check_layers(model, data.batch_size, description.frame_shape)
    clips = ClipData(data, run.seed, optimization.steps, run.valid_clips, sampling)
    instruments = list(callbacks)
    if run.profile_clips:
        instruments.append(LogMonosemanticity(data, run.profile_clips, inhibition))
    if run.probe_every:
        instruments.append(LogUpdateEffects(run.probe_every))
    keep_freed_memory()
    # What the engine says of itself helps no user of ours.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning, module="lightning.pytorch")
    try:
        trainer = _trainer(optimization, run, precision, instruments)
    except (MisconfigurationException, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"run: accelerator {run.accelerator!r} with {run.devices} devices: {reason}"
        ) from error
    check_compiler(run, trainer.strategy.root_device)
    run.out.mkdir(parents=True, exist_ok=True)
    if run.compile != "none":
        torch._dynamo.reset()  # It gives up on code that many trainings of a process compile anew.
    module = NowcastModule(model, optimization, description, run.compile)
    trainer.fit(module, clips, ckpt_path=run.checkpoint if done else None, weights_only=True)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, KeepCheckpoint):
            callback.stop_if_asked(trainer.global_step)  # In the last step.
    return run.checkpoint


def _trainer(
    optimization: OptimizationSettings,
    run: RunSettings,
    precision: Any,
    instruments: Sequence[Callback],
) -> pl.Trainer:
    callbacks: list[Callback] = [
        DropLaterRows(),
        LogGradientNorms(run.log_every),
        *instruments,  # Before the checkpoint: a run that goes on from it has not missed them.
        KeepCheckpoint(
            run.checkpoint,
            run.checkpoint_every,
            run.validate_every if run.valid_clips else None,
        ),
    ]
    on_terminal = sys.stderr.isatty()
    callbacks.append(StepBar() if on_terminal else LogLines())
    return pl.Trainer(
        accelerator=run.accelerator,
        devices=run.devices,
        num_nodes=run.nodes,
        precision=precision,
        max_steps=optimization.steps,
        max_epochs=-1,
        val_check_interval=run.validate_every if run.valid_clips else None,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if run.valid_clips else 0,
        log_every_n_steps=run.log_every,
        logger=LearningCurve(run.learning_curve),
        callbacks=callbacks,
        enable_progress_bar=on_terminal,
        enable_model_summary=False,
        enable_checkpointing=False,  # KeepCheckpoint does it.
        use_distributed_sampler=False,
        default_root_dir=run.out,
    )
