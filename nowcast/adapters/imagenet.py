"""ImageNet-1k, or images laid out like it, in batches for a network.

What is seen in training depends on seed, epoch and image alone: neither on the number of workers,
nor on what was seen before. Where the images are is `imagenet_files`, what they
go through `augmentation`.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from nowcast.adapters.augmentation import Augmentation, View, train_transform, val_transform
from nowcast.adapters.imagenet_files import TRAIN, VAL, Split, open_split
from nowcast.errors import InputError


@dataclass(frozen=True)
class Images:
    """Images of both splits; their classes are the same."""

    train: Split
    val: Split

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.train.classes

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the outcome of a training: which images there are, not where they lie."""
        names = hashlib.sha256()
        for split in (self.train, self.val):
            for name, label in zip(split.names, split.labels.tolist(), strict=True):
                names.update(f"{split.classes[label]}/{PurePosixPath(name).name}\n".encode())
        return {
            "classes": len(self.classes),
            "train_images": len(self.train),
            "val_images": len(self.val),
            "names_sha256": names.hexdigest(),
        }


def open_images(root: Path) -> Images:
    """Find the images below a folder; reads no image.

    Raises:
        InputError: if there are none, or not in two classes or more, or the splits' differ.
    """
    train, val = open_split(root, TRAIN), open_split(root, VAL)
    if train.classes != val.classes:
        differing = sorted(set(train.classes) ^ set(val.classes))
        raise InputError(
            f"{val.path}: found {len(val.classes)} classes and in {train.path} "
            f"{len(train.classes)}, expected the same; first difference: {differing[0]}"
        )
    if len(train.classes) < 2:
        raise InputError(
            f"{train.path}: found the class {train.classes[0]} alone, expected at least two"
        )
    return Images(train, val)


def view_of(model: nn.Module, size: int | None = None) -> View:
    """How a timm model sees images, by its own configuration.

    Args:
        model: made by timm.
        size: side in pixels, where it is not the model's usual one.
    """
    from timm.data import resolve_data_config

    found = resolve_data_config({"img_size": size}, model=model)
    return View(found["input_size"][-1], tuple(found["mean"]), tuple(found["std"]))


class _Shown(Dataset):
    """Images of a split as a network sees them, with their label and place."""

    def __init__(
        self, split: Split, transform: Callable[[Image.Image], Tensor], seed: tuple[int, ...] | None
    ) -> None:
        self.split, self.transform, self.seed = split, transform, seed

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, place: int) -> tuple[Tensor, int, int]:
        image, label = self.split.image(place), int(self.split.labels[place])
        if self.seed is None:
            return self.transform(image), label, place
        with seeded(*self.seed, place):
            return self.transform(image), label, place


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and PyTorch's CPU; afterwards they are as before."""
    # timm draws from the global generators of all three.
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    a, b, c = np.random.SeedSequence(entropy).generate_state(3).tolist()
    random.seed(a)
    np.random.seed(b)  # noqa: NPY002
    torch.default_generator.manual_seed(c)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


@contextmanager
def reading_failures() -> Iterator[None]:
    """Around reading: a wrong image is said in one line from a process that reads images, too.

    Raises:
        InputError: without the traceback that such a process puts in front.
    """
    try:
        yield
    except InputError as error:
        said = str(error).strip().splitlines()[-1]
        raise InputError(said.removeprefix(f"{InputError.__module__}.InputError: ")) from error


def train_loader(
    images: Images,
    view: View,
    batch_size: int,
    seed: int,
    epoch: int,
    augmentation: Augmentation,
    workers: int = 8,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader:
    """Batches of one epoch: images (batch, 3, size, size) float32, labels and places (batch,).

    Mixup and cutmix, which mix a batch, are left to the training.

    Args:
        images: of which the training images are taken.
        view: of the network.
        batch_size: of one process.
        seed: of order and augmentation …
        epoch: … together with this.
        augmentation: of single images.
        workers: processes that read.
        rank: of this process.
        ranks: number of processes.

    Raises:
        InputError: if there are fewer images than in one batch, or the augmentation is unknown.
    """
    shown = _Shown(images.train, train_transform(view, augmentation), (seed, epoch))
    order, loading = np.random.SeedSequence((seed, epoch)).generate_state(2).tolist()
    loader: DataLoader = DataLoader(
        shown,
        batch_size,
        sampler=DistributedSampler(shown, ranks, rank, shuffle=True, seed=order),
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        # Else the global generator is drawn from, before an epoch or after its start.
        generator=torch.Generator().manual_seed(loading),
    )
    if not len(loader):
        raise InputError(
            f"batch_size: found {batch_size} on each of {ranks} devices, expected at most "
            f"{len(shown)} in all, the images of {images.train.path}"
        )
    return loader


def val_loader(
    images: Images, view: View, batch_size: int, workers: int = 8, rank: int = 0, ranks: int = 1
) -> DataLoader:
    """Batches of the validation images, each once over all ranks; see `train_loader`."""
    return DataLoader(
        _Shown(images.val, val_transform(view), None),
        batch_size,
        sampler=range(rank, len(images.val), ranks),  # Not padded: no image counts twice.
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),
    )
