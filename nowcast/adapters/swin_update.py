"""Table 3: what one step of finetuning Swin does to the most monosemantic neurons of images.

Here is what it takes to take a step of a network on images: its weights, statistics, optimizer and
batches. The trial itself is `memel.UpdateTrial`.
"""

import itertools
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nowcast import memel
from nowcast.adapters.augmentation import Augmentation
from nowcast.adapters.extras import require
from nowcast.adapters.imagenet import (
    open_images,
    reading_failures,
    seeded,
    train_loader,
    view_of,
)
from nowcast.adapters.rows import LayerSettings, layer_refusals
from nowcast.adapters.setting_checks import count, not_negative, refuse_misfits
from nowcast.adapters.swin import insert, side_in
from nowcast.adapters.swin_finetuned import load_statistics, open_network
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_training import Finetuning
from nowcast.adapters.swin_weights import find_weights
from nowcast.device import choose_device
from nowcast.memel.variants import Inhibition
from nowcast.memory import keep_freed_memory
from nowcast.progress import progress

log = logging.getLogger("nowcast")

_PAPER = {
    "Original": (0.003, 0.052),
    "Naive (a)": (-0.017, 0.118),
    "Naive (b)": (-0.044, 0.161),
    "Reverse deactivation": (0.013, 0.189),
}
PAPER: Mapping[str, Mapping[str, float]] = {
    row: dict(zip(("decrease ratio", "total update ratio"), values, strict=True))
    for row, values in _PAPER.items()
}
"""Table 3, Swin-B: means, in percent."""


def measure_image_updates(
    data: Path,
    augmentation: Augmentation,
    model: str = "swin_base_patch4_window7_224",
    weights: Literal["none"] | Path | None = None,
    model_settings: dict[str, Any] | None = None,
    layers: LayerSettings = LayerSettings(),  # noqa: B008 - frozen
    top: int = 1,
    at_least: int = 10_000,
    optimizer: Literal["adamw", "sgd"] = "adamw",
    learning_rate: float = 2e-6,
    batch_size: int = 128,
    drop_path: float | None = None,
    statistics_batches: int = 50,
    seed: int = 0,
    workers: int = 8,
    device: str = "auto",
    download: bool = False,
) -> dict[str, memel.UpdateRow]:
    """Measure the decrease ratio and the total update ratio of Table 3 on a network for images.

    A step is one of finetuning: training images, augmented and mixed as in `imagenet finetune`,
    since it is to such images that the statistics belong; its loss, clipping and weight decay.
    Augmentation, mixing and drop path are the same before a step and after it, and in all rows.
    Everything is computed in float32: half precision rounds more than such a step moves.

    Args:
        data: folder with images, as for `imagenet finetune`.
        augmentation: of the training images.
        model: timm's name, with the tag of its weights or without.
        weights: as for `imagenet finetune`, or weights.safetensors of a finetuning; "none" for
            initial weights. Statistics of MEmeL layers are taken from memel.safetensors beside the
            file; where there is none, or of other layers, they are collected first.
        model_settings: further arguments of timm's model, such as
            {img_size: 256, window_size: 8}.
        layers: where MEmeL layers go, and how they work; their late start is not waited for.
        top: activations selected per image, or per batch, in each layer.
        at_least: selected activations to measure per row.
        optimizer: "adamw" is the recipe's, its moments those of the step alone; "sgd" is plain
            gradient descent, of which Lemma 3.3 speaks.
        learning_rate: of the step, whatever the batch (4.3).
        batch_size: images of a step.
        drop_path: share of dropped residual branches in the last block; None for the recipe's.
        statistics_batches: to collect statistics from.
        seed: of the order of the images, augmentation, mixing and drop path.
        workers: processes that read images.
        device: where the network runs: "auto", "cpu", "cuda".
        download: fetch weights from the hub.

    Returns:
        The rows by their names, in the order of Table 3. Intervals are percentiles of a bootstrap
        over batches.

    Raises:
        InputError: for settings, images or weights that do not fit.
    """
    require("imagenet", "imagenet", "timm", "torchvision")
    refuse_misfits(
        "update",
        (
            count("at_least", at_least),
            count("statistics_batches", statistics_batches),
            count("top", top),
            not_negative("seed", seed),
            not_negative("workers", workers),
            not_negative("learning_rate", learning_rate),
        ),
    )
    side = side_in(model_settings or {})
    recipe = Recipe(batch_size=batch_size, drop_path=drop_path)
    recipe.check(augmentation)
    place = choose_device(device)
    keep_freed_memory()
    images = open_images(data)
    path = find_weights(model, weights, download)
    torch.manual_seed(seed)
    network = open_network(model, images.classes, path, drop_path, model_settings or {})
    inserted = insert(network, Inhibition(top), layers, steps=1)
    log.info("layers follow %s", ", ".join(inserted))
    known = path is not None and load_statistics(inserted, path)
    network.to(place).train()
    view = view_of(network, side)
    training = Finetuning(network, images, view, recipe, augmentation, learning_rate, seed, workers)
    makes_step: torch.optim.Optimizer = (
        torch.optim.SGD(network.parameters(), lr=learning_rate)
        if optimizer == "sgd"
        else recipe.adamw(network, learning_rate)
    )
    trial = memel.UpdateTrial(
        network,
        makes_step,
        partial(_loss, network, 0.0 if training.mixup else recipe.label_smoothing),
        partial(nn.utils.clip_grad_norm_, list(network.parameters()), recipe.clip),
    )
    with (
        reading_failures(),
        layer_refusals(),
        # TensorFloat-32 rounds more than a step moves, too.
        torch.backends.cudnn.flags(allow_tf32=False),
        closing(_batches(training)) as batches,
    ):
        if not known:
            shown = partial(progress, description="collecting statistics", unit="batches")
            trial.collect_statistics(batches, statistics_batches, seed, shown)
        shown = partial(progress, description="probing steps of training", unit="batches")
        steps = memel.measure_updates(trial, batches, at_least, seed, shown)
    return memel.summarize_updates(steps)


def format_beside_paper(rows: Mapping[str, memel.UpdateRow]) -> str:
    """The rows as aligned text, those of the paper below."""
    width = max(map(len, PAPER))
    paper = [
        f"{row:<{width}}  " + "  ".join(f"{name} {value}" for name, value in values.items())
        for row, values in PAPER.items()
    ]
    return "\n".join([memel.format_update_effects(rows), "", "paper, Swin-B, in percent", *paper])


def _loss(network: nn.Module, smoothing: float, batch: tuple[Tensor, Tensor]) -> Tensor:
    pictures, targets = batch
    return functional.cross_entropy(network(pictures), targets, label_smoothing=smoothing)


def _batches(training: Finetuning) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Training images as a training sees them, epoch after epoch, on the network's device."""
    device = next(training.model.parameters()).device
    mix: Callable[..., Any] = training.mixup or (lambda *batch: batch)
    for epoch in itertools.count():
        loader = train_loader(
            *(training.images, training.view, training.recipe.batch_size, training.seed),
            *(epoch, training.augmentation, training.workers),
        )
        for number, (pictures, labels, _) in enumerate(loader):
            with seeded(training.seed, epoch, number):
                mixed, targets = mix(pictures, labels)
            yield mixed.to(device), targets.to(device)
