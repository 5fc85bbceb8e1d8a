"""What an image goes through before a network sees it: timm's transforms with Swin's settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageOps
from torch import Tensor

from nowcast.adapters.setting_checks import not_negative, probability, refuse_misfits
from nowcast.errors import InputError


@dataclass(frozen=True)
class Augmentation:
    """What training images go through; the defaults are Swin's (config.py, data/build.py).

    Args:
        auto_augment: policy in timm's notation; None for none.
        color_jitter: strength; without effect beside a policy, as in timm.
        erasing: probability that a rectangle is replaced by noise.
        mixup: α of the β-distribution; 0 for none.
        cutmix: α of the β-distribution; 0 for none.
        mixup_switch: probability of cutmix, where there are both.
    """

    auto_augment: str | None = "rand-m9-mstd0.5-inc1"
    color_jitter: float = 0.4
    erasing: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mixup_switch: float = 0.5

    def check(self) -> None:
        """Refuse what cannot be carried out.

        Raises:
            InputError: with what was found and expected.
        """
        refuse_misfits(
            "augmentation",
            (
                not_negative("color_jitter", self.color_jitter),
                probability("erasing", self.erasing),
                not_negative("mixup", self.mixup),
                not_negative("cutmix", self.cutmix),
                probability("mixup_switch", self.mixup_switch),
            ),
        )


@dataclass(frozen=True)
class View:
    """How a network sees an image.

    Args:
        size: side in pixels.
        mean: of each colour, of 1.
        std: of each colour, of 1.
    """

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)


def train_transform(view: View, augmentation: Augmentation) -> Callable[[Image.Image], Tensor]:
    """For training images; draws from the generators of Python, NumPy and PyTorch.

    Mixup and cutmix, which mix a batch, are left to the training.

    Raises:
        InputError: if timm does not know the augmentation.
    """
    from timm.data import create_transform

    try:
        transform: Any = create_transform(
            view.size,
            is_training=True,
            color_jitter=augmentation.color_jitter or None,  # type: ignore[arg-type]
            auto_augment=augmentation.auto_augment,
            re_prob=augmentation.erasing,
            re_mode="pixel",
            interpolation="bicubic",
            mean=view.mean,
            std=view.std,
        )
    except (AssertionError, ValueError, KeyError) as error:
        raise InputError(f"augmentation: found {augmentation}, which timm refuses") from error
    for step in transform.transforms:
        for operation in getattr(step, "ops", ()):  # Of RandAugment.
            if operation.name.startswith("Posterize"):
                operation.aug_fn = posterize
    return transform


def val_transform(view: View) -> Callable[[Image.Image], Tensor]:
    """For validation images.

    The shorter side is resized to 256 of 224 of the view's, and the centre cut out (data/build.py).
    """
    from timm.data import create_transform

    return create_transform(
        view.size, crop_pct=224 / 256, interpolation="bicubic", mean=view.mean, std=view.std
    )


def posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Keep some bits of each colour, none of them at a magnitude of 10.

    With none the image is black, as it was before Pillow 13, which refuses it and thereby timm's
    own operation.

    Args:
        image: RGB.
        bits: 0 to 8.
    """
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)
