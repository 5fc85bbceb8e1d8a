"""timm's Swin trained as the authors' scripts train theirs: learning rate, weight decay, loss."""

import math
from dataclasses import replace

import lightning.pytorch as pl
import made_up_images
import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from nowcast.adapters.augmentation import Augmentation, View
from nowcast.adapters.imagenet import open_images
from nowcast.adapters.swin import build_model
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_training import Finetuning
from nowcast.errors import InputError

SWIN_T = "swin_tiny_patch4_window7_224"
TINY = {"img_size": 56, "embed_dim": 8, "depths": (1, 1, 3, 1), "num_heads": (1, 2, 2, 4)}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return open_images(made_up_images.write_imagenet(tmp_path_factory.mktemp("imagenet"), 4, 2))


class Record(pl.Callback):
    """Learning rates and losses of every step, the first batch and what it is mixed by."""

    def __init__(self):
        self.rates, self.losses = [], []

    def on_train_batch_start(self, trainer, module, batch, step):
        if not trainer.global_step:
            self.batch = [part.clone() for part in batch]
            self.state = np.random.get_state()  # noqa: NPY002

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append([group["lr"] for group in optimizer.param_groups])

    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.losses.append(float(outputs["loss"]))


def train(images, recipe, augmentation, learning_rate=2e-5, seed=0):
    torch.manual_seed(0)
    model = build_model(SWIN_T, images.classes, drop_path=0.0, **TINY)
    module = Finetuning(
        model, images, View(56), recipe, augmentation, learning_rate, seed, workers=0
    )
    record = Record()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=recipe.epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        callbacks=[record], reload_dataloaders_every_n_epochs=1, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module)
    return module, record


LIGHT = Augmentation(auto_augment=None, color_jitter=0, erasing=0, mixup=0, cutmix=0)


def test_learning_rate_is_the_authors_at_every_step(images):
    recipe = Recipe(epochs=5, warmup_epochs=2, batch_size=4)
    module, record = train(images, recipe, LIGHT)
    steps, warmup = 5 * 7, 2 * 7
    base, first, last = (rate * 4 / 512 for rate in (2e-5, 2e-8, 2e-7))

    def schedule(t):
        """lr_scheduler.py of the authors, with WARMUP_PREFIX, in double precision."""
        if t < warmup:
            return first + t * (base - first) / warmup
        share = (t - warmup) / (steps - warmup)
        return last + 0.5 * (base - last) * (1 + math.cos(math.pi * share))

    # main.py calls step_update(number of the step) after each step, so the first rate serves twice.
    expected = [schedule(max(step - 1, 0)) for step in range(steps)]
    for group in (0, 1):
        np.testing.assert_allclose([rates[group] for rates in record.rates], expected, rtol=1e-12)
    assert len(module.losses) == 5
    means = np.reshape(record.losses, (5, 7)).mean(1)
    np.testing.assert_allclose(module.losses, means, rtol=1e-6)


def test_weight_decay_is_the_authors_by_name(images):
    module, _ = train(images, Recipe(epochs=1, warmup_epochs=0, batch_size=28), LIGHT)
    optimizer = module.trainer.optimizers[0]
    assert isinstance(optimizer, torch.optim.AdamW)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups
              for p in group["params"]}  # fmt: skip
    assert {(g["eps"], g["betas"]) for g in optimizer.param_groups} == {(1e-8, (0.9, 0.999))}
    seen = {0.0: set(), 1e-8: set()}
    for name, parameter in module.model.named_parameters():
        seen[decays[id(parameter)]].add(name.rsplit(".", 2)[-1])
        # optimizer.py, set_weight_decay, and no_weight_decay of the authors' model.
        without = parameter.ndim == 1 or name.endswith((".bias", "relative_position_bias_table"))
        assert decays[id(parameter)] == (0.0 if without else 1e-8), name
    assert seen[0.0] == {"bias", "weight", "relative_position_bias_table"}
    assert seen[1e-8] == {"weight"}


@pytest.mark.parametrize("mixing", [True, False])
def test_loss_is_the_authors(images, mixing):
    augmentation = replace(LIGHT, mixup=0.8, cutmix=1.0) if mixing else LIGHT
    recipe = Recipe(epochs=1, warmup_epochs=0, batch_size=28)
    _, record = train(images, recipe, augmentation)
    # The same step again, from timm's own parts as main.py and data/build.py put them together.
    torch.manual_seed(0)
    model = build_model(SWIN_T, images.classes, drop_path=0.0, **TINY).train()
    seen, labels, _ = record.batch
    with torch.no_grad():
        if mixing:
            np.random.set_state(record.state)  # noqa: NPY002
            mix = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, prob=1.0, switch_prob=0.5, mode="batch",
                        label_smoothing=0.1, num_classes=7)  # fmt: skip
            seen, targets = mix(seen, labels)
            expected = SoftTargetCrossEntropy()(model(seen), targets)
        else:
            expected = LabelSmoothingCrossEntropy(smoothing=0.1)(model(seen), labels)
    np.testing.assert_allclose(record.losses, [float(expected)], rtol=1e-6)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [(Recipe(epochs=2, warmup_epochs=2), "found warmup_epochs=2 of 2 epochs, expected fewer"),
     (Recipe(batch_size=0), "found batch_size=0, expected at least 1"),
     (Recipe(batch_size=7), "found batch_size=7, expected an even number")],
)  # fmt: skip
def test_recipes_that_cannot_be_carried_out(recipe, said):
    with pytest.raises(InputError, match=said):
        recipe.check(Augmentation())
