"""timm's Swin trained as the authors' scripts train theirs: learning rate, weight decay, loss."""

import math
from dataclasses import asdict, replace

import lightning.pytorch as pl
import made_up_images
import numpy as np
import pytest
import torch
from timm.data import Mixup
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy

from nowcast.adapters.augmentation import Augmentation, View
from nowcast.adapters.imagenet import open_images
from nowcast.adapters.rows import LayerSettings
from nowcast.adapters.swin import build_model, insert
from nowcast.adapters.swin_callbacks import LogScores
from nowcast.adapters.swin_execution import Execution
from nowcast.adapters.swin_recipe import Recipe
from nowcast.adapters.swin_training import Finetuning
from nowcast.errors import InputError
from nowcast.memel.variants import Inhibition

SWIN_T = "swin_tiny_patch4_window7_224"
TINY = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (1, 1, 3, 1),
        "num_heads": (1, 2, 2, 4)}  # fmt: skip


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
        model, images, View(32), recipe, augmentation, learning_rate, seed, workers=0
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
     (Recipe(batch_size=7), "found batch_size=7, expected an even number"),
     (Recipe(epochs=0, warmup_epochs=0), "recipe: found epochs=0, expected at least 1"),
     (Recipe(warmup_epochs=-1), "found warmup_epochs=-1 of 30 epochs"),
     (Recipe(warmup_learning_rate=math.nan), "found warmup_learning_rate=nan, expected 0 or more"),
     (Recipe(min_learning_rate=math.inf), "found min_learning_rate=inf, expected 0 or more"),
     (Recipe(weight_decay=-1), "found weight_decay=-1, expected 0 or more"),
     (Recipe(clip=-1), "found clip=-1, expected more than 0"),
     (Recipe(drop_path=1.5), "found drop_path=1.5, expected a share, 0 to below 1"),
     (Recipe(label_smoothing=2), "found label_smoothing=2, expected a share, 0 to below 1")],
)  # fmt: skip
def test_recipes_that_cannot_be_carried_out(recipe, said):
    Recipe(drop_path=0).check(Augmentation())
    with pytest.raises(InputError, match=said):
        recipe.check(Augmentation())


@pytest.mark.parametrize(
    ("settings", "said"),
    [(Augmentation(color_jitter=-1), "augmentation: found color_jitter=-1, expected 0 or more"),
     (Augmentation(erasing=2), "found erasing=2, expected a probability, 0 to 1"),
     (Augmentation(mixup=-1), "found mixup=-1, expected 0 or more"),
     (Augmentation(cutmix=math.nan), "found cutmix=nan, expected 0 or more"),
     (Augmentation(mixup_switch=1.1), "found mixup_switch=1.1, expected a probability"),
     (Execution(devices=0), "execution: found devices=0, expected at least 1"),
     (Execution(nodes=0), "found nodes=0, expected at least 1"),
     (Execution(workers=-1), "found workers=-1, expected 0 or more")],
)  # fmt: skip
def test_augmentation_and_execution_that_cannot_be(settings, said):
    replace(settings, **asdict(type(settings)())).check()
    with pytest.raises(InputError, match=said):
        settings.check()


def test_lines_of_validations_tell_whether_layers_work(images, caplog):
    """Of one image each, before any training: MEmeL's row and MEmeL-T's are both logged."""
    model = build_model(SWIN_T, images.classes, **TINY)
    (layer,) = insert(model, Inhibition(), LayerSettings(layers=1), 1).values()
    module = Finetuning(model, images, View(32), Recipe(), LIGHT, 2e-5, 0, workers=0)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, limit_val_batches=1, callbacks=[LogScores()],
    )  # fmt: skip
    with caplog.at_level("INFO", "nowcast"):
        for layer.in_evaluation in (False, True):
            trainer.validate(module, verbose=False)
    lines = [record.getMessage() for record in caplog.records if record.name == "nowcast"]
    first, second = lines
    assert first.startswith("after the last epoch: top-1 ")
    assert second.startswith("after the last epoch, with deactivation kept on: top-1 ")
