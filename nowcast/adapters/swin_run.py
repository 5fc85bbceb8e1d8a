"""One finetuning of a network on images: from pretrained weights to scores in a folder."""

import csv
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from nowcast import memel
from nowcast.adapters.augmentation import Augmentation
from nowcast.adapters.imagenet import Images, reading_failures, train_loader, view_of
from nowcast.adapters.rows import LayerSettings, layer_refusals
from nowcast.adapters.runs import Outcome, Run, begin, done, write_outcome
from nowcast.adapters.swin import build_model, insert
from nowcast.adapters.swin_callbacks import KeepEpochs, LogScores, Stopping, is_first_process
from nowcast.adapters.swin_execution import Execution, make_trainer
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_training import Finetuning
from nowcast.files import replacing

log = logging.getLogger("nowcast")

CHECKPOINT = "last.ckpt"
WEIGHTS = "weights.safetensors"
STATISTICS = "memel.safetensors"


@dataclass(frozen=True)
class Network:
    """What is finetuned.

    Args:
        label: in the table.
        name: timm's.
        weights: .safetensors or .pth file; None for initial weights.
        config: further arguments of the model.
    """

    label: str
    name: str
    weights: Path | None
    config: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What decides the outcome: the content of the weights, not where they lie."""
        if self.weights is None:
            digest = None
        else:
            with self.weights.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"name": self.name, "config": dict(self.config), "weights_sha256": digest}


def finetune(
    run: Run,
    out: Path,
    network: Network,
    images: Images,
    recipe: Recipe,
    augmentation: Augmentation,
    layers: LayerSettings,
    execution: Execution,
) -> Outcome:
    """Finetune a network, or go on with it, or find it done.

    The run's folder then holds outcome.json; weights.safetensors, which timm loads; val.csv with
    the five likeliest classes of each validation image; with layers memel.safetensors, their
    statistics, and val_in_testing.csv, with deactivation kept on.

    Args:
        run: what is inhibited, peak learning rate for 512 images a step, seed.
        out: folder of the experiment.
        network: to finetune.
        images: to finetune and validate on.
        recipe: of the training.
        augmentation: of the training images.
        layers: settings of MEmeL layers, where the run has them.
        execution: where it runs.

    Raises:
        InputError: for settings or files that do not fit, or a folder with a run of other settings.
        Stopped: on Ctrl-C or SIGTERM.
    """
    settings = {
        "network": network.settings,
        "images": images.settings,
        "recipe": asdict(recipe),
        "augmentation": asdict(augmentation),
        "layers": None if run.inhibition is None else asdict(layers),
        "devices": execution.devices * execution.nodes,
        "precision": execution.precision,
    }
    outcome = done(run, out, settings)
    if outcome is not None:
        return outcome
    folder = run.folder(out)
    keep, stop = KeepEpochs(folder / CHECKPOINT), Stopping()
    resumes = keep.resumes()
    trainer = make_trainer(folder, recipe, execution, [keep, stop, LogScores()])
    torch.manual_seed(run.seed)
    model = build_model(
        network.name, images.classes, network.weights, recipe.drop_path, **network.config
    )
    view = view_of(model, network.config.get("img_size"))
    shown = images, view, recipe.batch_size, run.seed
    epoch = train_loader(*shown, 0, augmentation, workers=0, ranks=trainer.world_size)
    inserted = {}
    if run.inhibition is not None:
        inserted = insert(model, run.inhibition, layers, recipe.epochs * len(epoch))
        log.info("MEmeL layers behind %s", ", ".join(inserted))
    module = Finetuning(
        model, images, view, recipe, augmentation, run.learning_rate, run.seed, execution.workers
    )
    begin(run, out, settings, write=is_first_process())
    with reading_failures(), layer_refusals(), stop:
        path = keep.path if resumes else None
        trainer.fit(module, ckpt_path=path, weights_only=True)
        steps = trainer.global_step
        scores = _validate(trainer, module, network.label, folder / "val.csv")
        in_testing = {}
        if inserted:
            for layer in inserted.values():
                layer.in_evaluation = True
            path = folder / "val_in_testing.csv"
            in_testing = _validate(trainer, module, network.label, path)
    outcome = Outcome(scores, in_testing, tuple(module.losses), steps, keep.seconds)
    if trainer.is_global_zero:
        _write_weights(folder, module, inserted)
        write_outcome(run, out, settings, outcome)
        keep.path.unlink()
    trainer.strategy.barrier()
    return outcome


def _validate(trainer: pl.Trainer, module: Finetuning, label: str, path: Path) -> dict[str, float]:
    """Scores by column of the table; predictions are written to a file."""
    trainer.validate(module, verbose=False)
    scores = {f"{label} {name}": score for name, score in module.scores.items()}
    if trainer.is_global_zero:
        split = module.images.val
        with replacing(path) as temporary, temporary.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "label", *(f"top_{n + 1}" for n in range(module.best))])
            for name, label_of, best in zip(
                split.names, split.labels.tolist(), module.predicted.tolist(), strict=True
            ):
                rows.writerow([name, *(split.classes[number] for number in [label_of, *best])])
    return scores


def _write_weights(folder: Path, module: Finetuning, inserted: Mapping[str, memel.MEmeL]) -> None:
    from safetensors.torch import save

    statistics = {
        f"{place}.{name}": value.contiguous()
        for place, layer in inserted.items()
        for name, value in layer.state_dict().items()
    }
    memel.remove(module.model)
    weights = {name: value.contiguous() for name, value in module.model.state_dict().items()}
    for name, tensors in ((WEIGHTS, weights), (STATISTICS, statistics)):
        if tensors:
            with replacing(folder / name) as temporary:
                temporary.write_bytes(save(tensors, metadata={"format": "pt"}))
