"""Table 2's finetunings of Swin on ImageNet-1k, and the table of what came out."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from nowcast.adapters.augmentation import Augmentation
from nowcast.adapters.experiment import Plan, carry_out
from nowcast.adapters.extras import require
from nowcast.adapters.imagenet import Images, open_images
from nowcast.adapters.rows import LayerSettings
from nowcast.adapters.runs import Outcome, Run
from nowcast.adapters.setting_checks import check_learning_rates
from nowcast.adapters.swin import build_model, side_in, try_out
from nowcast.adapters.swin_callbacks import is_first_process
from nowcast.adapters.swin_execution import Execution, quieten
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_run import Network, finetune
from nowcast.adapters.swin_weights import PRETRAINED, find_weights
from nowcast.adapters.table import Table, tabulate, write_table
from nowcast.errors import InputError
from nowcast.files import check_place

log = logging.getLogger("nowcast")

LABELS = {
    "swin_tiny_patch4_window7_224": "Swin-T",
    "swin_small_patch4_window7_224": "Swin-S",
    "swin_base_patch4_window7_224": "Swin-B",
}

_PAPER = {
    "Original": (80.9, 83.2, 85.1),
    "Naive (a)": (81.0, 83.4, 84.6),
    "Naive (b)": (81.0, 83.4, 85.1),
    "MEmeL": (81.1, 83.4, 85.1),
    "MEmeL-Tune": (81.1, 83.5, 85.2),
    "MEmeL-T": (81.1, 83.5, 85.1),
}
PAPER: Mapping[str, Mapping[str, float]] = {
    row: {f"{label} top-1": score for label, score in zip(LABELS.values(), scores, strict=True)}
    for row, scores in _PAPER.items()
}
"""Tables 2 and 6, in percent."""


def reproduce(
    data: Path,
    out: Path,
    plan: Plan,
    recipe: Recipe,
    augmentation: Augmentation,
    execution: Execution,
    models: tuple[str, ...] = tuple(LABELS),
    weights: Literal["none"] | Path | None = None,
    model_settings: dict[str, Any] | None = None,
    learning_rates: tuple[float, ...] = (2e-5,),
    layers: LayerSettings = LayerSettings(),  # noqa: B008 - frozen
    download: bool = False,
) -> Table:
    """Finetune networks on ImageNet-1k in every row of Table 2; what is done is not done again.

    Args:
        data: folder with train/ and val/ or validation/, each with a folder of images for every
            class, or with train.tar and val.tar of the same; ILSVRC2012_img_train.tar, too.
        out: folder for the finetunings and for table.json and table.csv, which after each network
            hold what there is so far.
        plan: what to do.
        recipe: of each training.
        augmentation: of the training images.
        execution: where it runs.
        models: timm's names, with the tag of their weights or without.
        weights: file with the weights of the model, or folder with a file for each, .safetensors or
            .pth, as from timm or from Swin's authors; the hub's where not given; "none" trains from
            initial weights.
        model_settings: further arguments of timm's models, such as {img_size: 256, window_size: 8}.
        learning_rates: peaks for 512 images a step that are tried (configs/swin/swin_…_22kto1k_
            finetune.yaml: 2e-5); the best is chosen on the validation images.
        layers: where MEmeL layers go, and how they work.
        download: fetch weights from the hub.

    Raises:
        InputError: for settings, images or weights that do not fit.
        Stopped: on Ctrl-C or SIGTERM.
    """
    require("imagenet", "imagenet", "timm", "torchvision")
    if not is_first_process():  # Of several processes one says what is done.
        log.setLevel(logging.WARNING)
    quieten()
    check_place(out, folder=True)
    plan.check()
    recipe.check(augmentation)
    execution.check()
    check_learning_rates(learning_rates)
    config = model_settings or {}
    side = side_in(config)
    labels = [label_of(name, weights, config) for name in models]
    if not models or len(set(labels)) < len(labels):
        raise InputError(
            f"models: found {list(models)}, expected one or more, each once, with its tag or "
            "without"
        )
    if len(models) > 1 and isinstance(weights, Path) and weights.is_file():
        raise InputError(f"{weights}: found a file for {len(models)} models, expected a folder")
    images = open_images(data)
    networks = [
        Network(label, name, find_weights(name, weights, download), config)
        for label, name in zip(labels, models, strict=True)
    ]
    planned = [what for what in (*plan.inhibitions, *plan.tuning) if what is not None]
    most = max(planned, key=lambda what: what.top, default=None)
    for network in networks:  # Rather now than after the first has been trained for weeks.
        shape = network.name, images.classes, network.weights, recipe.drop_path
        try_out(build_model(*shape, **config), network.name, side, most, layers)
    facts = {
        "networks": {network.label: network.settings for network in networks},
        "images": images.settings,
        "learning_rates": learning_rates,
        "plan": asdict(plan),
        "recipe": asdict(recipe),
        "augmentation": asdict(augmentation),
        "layers": asdict(layers),
        "execution": asdict(execution),
    }
    outcomes: dict[str, dict[Run, Outcome]] = {}
    for network in networks:

        def carry(run: Run, network: Network = network) -> Outcome:
            return finetune(run, out, network, images, recipe, augmentation, layers, execution)

        columns = [f"{network.label} top-1"]
        outcomes[network.label] = carry_out(plan, network.label, learning_rates, columns, carry)
        table = tabulate(
            "Table 2: finetuning on ImageNet-1k, accuracy in percent",
            plan.rows,
            outcomes,
            deciding={label: [f"{label} top-1"] for label in outcomes},
            further={label: [f"{label} top-5"] for label in outcomes},
            paper=PAPER if {*outcomes} & {*LABELS.values()} else {},
            notes=_notes(plan, recipe, execution, images, weights, learning_rates, outcomes),
        )
        if is_first_process():
            write_table(out, table, facts)
    return table


def label_of(
    name: str,
    weights: Literal["none"] | Path | None = None,
    config: Mapping[str, Any] | None = None,
) -> str:
    """What a network is called in the table: as in the paper where it may be the paper's."""
    base, _, tag = name.partition(".")
    own = weights == "none" or config or tag not in ("", PRETRAINED)
    return name if own else LABELS.get(base, name)


def _notes(
    plan: Plan,
    recipe: Recipe,
    execution: Execution,
    images: Images,
    weights: Literal["none"] | Path | None,
    learning_rates: tuple[float, ...],
    labels: Collection[str],
) -> list[str]:
    images_a_step = recipe.batch_size * execution.devices * execution.nodes
    rates = " or ".join(f"{rate:g}" for rate in learning_rates)
    notes = [
        f"{len(images.val):,} validation images of {len(images.classes):,} classes after the last "
        f"of {recipe.epochs} epochs; {images_a_step} images a step, peak learning rate {rates} · "
        f"{images_a_step} / 512.",
    ]
    if {*labels} & {*LABELS.values()}:
        notes.append("paper: Tables 2 and 6, top-1.")
    if weights == "none":
        notes.append("Trained from initial weights; the paper's are pretrained on ImageNet-22k.")
    if "MEmeL-Tune" in plan.rows or len(learning_rates) > 1:
        chosen = ["top and Δ of MEmeL-Tune"] * ("MEmeL-Tune" in plan.rows)
        chosen += ["learning rates"] * (len(learning_rates) > 1)
        notes.append(
            f"Chosen by their top-1 on these same validation images: {' and '.join(chosen)}; "
            "ImageNet-1k has no other labelled ones. This favours them."
        )
    if len(images.classes) < 5:
        notes.append(f"Of {len(images.classes)} classes, top-5 is 100 for any network.")
    return notes
