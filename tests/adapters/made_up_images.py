"""Images that a network can learn to tell apart, laid out as ImageNet-1k is given out."""

import io
import tarfile

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n01484850", "n02123045", "n03933933", "n04399382", "n07753592",
           "n12057211")  # fmt: skip
"""In ImageNet-1k and, but for the toy bear, in ImageNet-22k."""

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 70, 220), (210, 200, 50), (150, 150, 150),
           (190, 60, 200), (40, 190, 200))  # fmt: skip


def picture(label, generator):
    """JPEG of a colour by class, with stripes of random direction and width, and noise."""
    height, width = generator.integers(60, 90, 2)
    y, x = np.mgrid[:height, :width]
    angle, period = generator.uniform(0, np.pi), generator.uniform(6, 20)
    stripes = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
    pixels = np.array(COLOURS[label]) * (0.7 + 0.3 * stripes[..., None])
    pixels = pixels + generator.normal(0, 12, (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def contents(per_class, seed, prefix):
    """Files by class: name → {file name: bytes}; all classes have as many."""
    generator = np.random.default_rng(seed)
    return {
        synset: {
            f"{prefix}_{label}{number:03}.JPEG": picture(label, generator)
            for number in range(per_class)
        }
        for label, synset in enumerate(SYNSETS)
    }


def write_folder(path, classes):
    """One folder for each class."""
    for synset, files in classes.items():
        (path / synset).mkdir(parents=True)
        for name, content in files.items():
            (path / synset / name).write_bytes(content)
    return path


def write_imagenet(root, train_per_class=24, val_per_class=8):
    """train/ and val/, as the authors of Swin expect them."""
    write_folder(root / "train", contents(train_per_class, 1, "train"))
    write_folder(root / "val", contents(val_per_class, 2, "val"))
    return root


def add(archive, name, content):
    """A file in an open tar."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_tar(path, classes, folder=""):
    """A tar of class folders."""
    with tarfile.open(path, "w") as archive:
        for synset, files in classes.items():
            for name, content in files.items():
                add(archive, f"{folder}{synset}/{name}", content)
    return path


def write_tar_of_tars(path, classes):
    """One tar for each class in a tar, as the official training images are given out."""
    with tarfile.open(path, "w") as archive:
        for synset, files in classes.items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as of_class:
                for name, content in files.items():
                    add(of_class, name, content)
            add(archive, f"{synset}.tar", inner.getvalue())
    return path
