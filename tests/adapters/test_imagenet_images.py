"""Images of ImageNet's form: found wherever they lie, and shown alike to every process."""

import csv
import random
import tarfile

import made_up_images
import numpy as np
import pytest
import torch
from made_up_images import SYNSETS
from PIL import Image
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torchvision import transforms
from torchvision.datasets import ImageFolder

from nowcast.adapters.augmentation import Augmentation, View, posterize, train_transform
from nowcast.adapters.imagenet import open_images, seeded, train_loader, val_loader
from nowcast.errors import InputError

VIEW = View(size=56)
LIGHT = Augmentation(auto_augment=None, color_jitter=0, erasing=0, mixup=0, cutmix=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made_up_images.write_imagenet(tmp_path_factory.mktemp("folder"), 4, 3)


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """The same images in tars: of one tar per class, and of class folders."""
    root = tmp_path_factory.mktemp("tars")
    train, val = (made_up_images.contents(*of) for of in ((4, 1, "train"), (3, 2, "val")))
    made_up_images.write_tar_of_tars(root / "ILSVRC2012_img_train.tar", train)
    made_up_images.write_tar(root / "val.tar", val, folder="val/")
    return root


def pixels(split):
    return [np.asarray(split.image(place)) for place in range(len(split))]


def test_folder_is_what_the_authors_reader_finds(folder):
    images = open_images(folder)
    for split in (images.train, images.val):
        theirs = ImageFolder(split.path)
        assert list(split.classes) == theirs.classes == list(SYNSETS)
        assert split.labels.tolist() == theirs.targets
        for ours, (picture, _) in zip(pixels(split), theirs, strict=True):
            np.testing.assert_array_equal(ours, np.asarray(picture))


def test_tars_hold_what_the_folder_holds(folder, tars):
    in_folder, in_tars = open_images(folder), open_images(tars)
    assert in_tars.settings == in_folder.settings
    assert in_folder.settings["classes"] == len(SYNSETS)
    assert in_folder.settings["train_images"] == 4 * len(SYNSETS)
    for ours, theirs in ((in_tars.train, in_folder.train), (in_tars.val, in_folder.val)):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        for one, other in zip(pixels(ours), pixels(theirs), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["ILSVRC2012_img_train.tar", "val.tar"])
def test_tars_are_read_as_timm_reads_them(tars, name):
    images = open_images(tars)
    split = images.train if "train" in name else images.val
    reader = ReaderImageInTar(str(tars / name), cache_tarinfo=False)
    assert reader.class_name_to_idx == {name: n for n, name in enumerate(split.classes)}
    theirs = {}
    for place in range(len(reader)):
        file, label = reader[place]
        theirs[reader.filename(place, basename=True)] = label, np.asarray(Image.open(file))
    assert len(theirs) == len(split)
    for place, name in enumerate(split.names):
        label, picture = theirs[name.rsplit("/", 1)[1]]
        assert split.labels[place] == label
        np.testing.assert_array_equal(np.asarray(split.image(place)), picture)
    assert sorted(path.name for path in tars.iterdir()) == ["ILSVRC2012_img_train.tar", "val.tar"]


def test_other_settings_for_other_images(folder, tmp_path):
    other = made_up_images.write_imagenet(tmp_path, 4, 2)
    assert open_images(other).settings != open_images(folder).settings


@pytest.mark.parametrize("in_tar", [False, True])
def test_flat_validation_images_take_their_classes_from_the_official_table(tmp_path, in_tar):
    made_up_images.write_folder(tmp_path / "train", made_up_images.contents(1, 1, "train"))
    classes = made_up_images.contents(2, 2, "val")
    files = {name: content for of_class in classes.values() for name, content in of_class.items()}
    if in_tar:
        with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "w") as archive:
            for name, content in files.items():
                made_up_images.add(archive, name, content)
    else:
        (tmp_path / "val").mkdir()
        for name, content in files.items():
            (tmp_path / "val" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"outside of class folders.*LOC_val_solution\.csv"):
        open_images(tmp_path)
    table = tmp_path / "LOC_val_solution.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["ImageId", "PredictionString"])
        for synset, of_class in reversed(classes.items()):
            rows.writerows([name[:-5], f"{synset} 1 2 30 40 "] for name in of_class)
    val = open_images(tmp_path).val
    found = {name: val.classes[label] for name, label in zip(val.names, val.labels, strict=True)}
    assert found == {name: synset for synset, of_class in classes.items() for name in of_class}
    table.write_text("ImageId,PredictionString\n")
    with pytest.raises(InputError, match=r"solution\.csv: found no image 'val_\d+', which is in"):
        open_images(tmp_path)
    table.write_text("image,class\na,b\n")
    with pytest.raises(InputError, match="found other columns, expected ImageId and Prediction"):
        open_images(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"found none of train/, .*img_train\.tar; ImageNet-1k is"):
        open_images(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"train: found no images \(\.jpeg \.jpg \.png\)"):
        open_images(tmp_path)
    classes = made_up_images.contents(1, 1, "train")
    made_up_images.write_folder(tmp_path / "train", classes)
    with pytest.raises(InputError, match="found none of val/, validation/, "):
        open_images(tmp_path)
    del classes[SYNSETS[2]]
    made_up_images.write_folder(tmp_path / "val", classes)
    with pytest.raises(InputError, match=f"found 6 classes .* 7, .*difference: {SYNSETS[2]}"):
        open_images(tmp_path)


def test_one_class_is_refused(tmp_path):
    one = {SYNSETS[0]: made_up_images.contents(1, 1, "train")[SYNSETS[0]]}
    for split in ("train", "val"):
        made_up_images.write_folder(tmp_path / split, one)
    with pytest.raises(InputError, match=f"train: found the class {SYNSETS[0]} alone, expected"):
        open_images(tmp_path)


def test_a_tar_that_ends_early_or_is_none_is_refused(tars, tmp_path):
    name = "ILSVRC2012_img_train.tar"
    whole = (tars / name).read_bytes()
    files = len(whole.rstrip(b"\0"))
    cuts = [*range(512, files, 5 * 512), *range(700, files, 7_777)]
    for content in (b"no tar" * 1000, *(whole[:cut] for cut in cuts)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"train\.tar: found no complete tar file"):
            open_images(tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_broken_image_is_named(tmp_path, damage, workers):
    root = made_up_images.write_imagenet(tmp_path, 1, 1)
    broken = sorted((root / "val").rglob("*.JPEG"))[3]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"no image")
    with pytest.raises(InputError, match=rf"{broken}: found no readable image"):
        list(val_loader(open_images(root), VIEW, 2, workers))


def test_a_broken_image_in_a_tar_is_named(tmp_path):
    classes = made_up_images.contents(1, 1, "train")
    classes[SYNSETS[1]]["train_1000.JPEG"] = b"no image"
    made_up_images.write_tar(tmp_path / "train.tar", classes)
    made_up_images.write_tar(tmp_path / "val.tar", classes)
    split = open_images(tmp_path).val
    with pytest.raises(InputError, match=rf"val\.tar/{SYNSETS[1]}/train_1000\.JPEG: found no"):
        split.image(1)


def seen(images, augmentation=Augmentation(), batch_size=4, **settings):  # noqa: B008
    return [
        [part.clone() for part in batch]
        for batch in train_loader(images, VIEW, batch_size, augmentation=augmentation, **settings)
    ]


def equal(ones, others):
    return len(ones) == len(others) and all(
        torch.equal(a, b)
        for one, other in zip(ones, others, strict=True)
        for a, b in zip(one, other, strict=True)
    )


def test_seed_and_epoch_alone_decide_what_is_seen(folder, tars):
    images = open_images(folder)
    first = seen(images, seed=1, epoch=0, workers=0)
    assert [batch[0].shape for batch in first] == 7 * [(4, 3, 56, 56)]
    random.seed(5), np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    assert equal(first, seen(images, seed=1, epoch=0, workers=0))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])
    assert equal(first, seen(open_images(tars), seed=1, epoch=0, workers=2))
    others = [seen(images, seed=seed, epoch=epoch, workers=0) for seed, epoch in ((1, 1), (0, 1))]
    for other in others:
        assert not torch.equal(first[0][2], other[0][2])
        assert sorted(torch.cat([batch[2] for batch in other]).tolist()) == list(range(28))
    assert not torch.equal(others[0][0][2], others[1][0][2])
    # The same image is seen otherwise in another epoch.
    place = first[0][2][0]
    again = next(b[0][b[2] == place][0] for b in others[0] if place in b[2])
    assert not torch.equal(first[0][0][0], again)


def test_processes_share_an_epoch(folder):
    images = open_images(folder)
    whole = seen(images, LIGHT, seed=0, epoch=3, workers=0, batch_size=4)
    parts = [
        seen(images, LIGHT, seed=0, epoch=3, workers=0, batch_size=2, rank=rank, ranks=2)
        for rank in (0, 1)
    ]
    for batch, *halves in zip(whole, *parts, strict=True):
        # Neither which images a step sees nor how depends on the number of processes.
        order = torch.cat([half[2] for half in halves]).argsort()
        for mine, theirs in zip(batch, zip(*halves, strict=True), strict=True):
            assert torch.equal(mine[batch[2].argsort()], torch.cat(theirs)[order])
    with pytest.raises(InputError, match="found 15 on each of 2 devices, expected at most 28"):
        seen(images, seed=0, epoch=0, workers=0, batch_size=15, ranks=2)


def test_every_validation_image_is_seen_once_as_the_authors_show_it(folder):
    images = open_images(folder)
    found = {}
    for rank in (0, 1):
        for batch in val_loader(images, VIEW, 4, 0, rank=rank, ranks=2):
            for picture, label, place in zip(*batch, strict=True):
                assert int(place) not in found
                found[int(place)] = picture, int(label)
    assert sorted(found) == list(range(21))
    # data/build.py, build_transform.
    theirs = transforms.Compose([
        transforms.Resize(int(256 / 224 * 56), transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(56), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    for place, (picture, label) in found.items():
        assert label == images.val.labels[place]
        torch.testing.assert_close(picture, theirs(images.val.image(place)), atol=1e-6, rtol=0)


def test_training_images_go_through_what_the_authors_recipe_names(folder):
    parts = train_loader(open_images(folder), VIEW, 4, 0, 0, Augmentation(), 0).dataset.transform
    crop, flip, policy, _, _, erasing = parts.transforms
    assert crop.scale == (0.08, 1.0)
    assert crop.interpolation.value == "bicubic"
    assert flip.p == 0.5
    assert (policy.num_layers, len(policy.ops)) == (2, 15)
    assert {(op.magnitude, op.magnitude_std, op.prob) for op in policy.ops} == {(9, 0.5, 0.5)}
    assert (erasing.probability, erasing.max_count, erasing.per_pixel) == (0.25, 1, True)
    plain = train_loader(open_images(folder), VIEW, 4, 0, 0, LIGHT, 0).dataset.transform
    assert len(plain.transforms) == 4
    with pytest.raises(InputError, match="which timm refuses"):
        train_loader(open_images(folder), VIEW, 4, 0, 0, Augmentation(auto_augment="rand-x9"), 0)


def test_the_policys_strongest_posterization_makes_an_image_black():
    image = Image.effect_noise((40, 40), 90).convert("RGB")
    for bits in range(1, 9):
        mask = 256 - 2 ** (8 - bits)
        assert np.array_equal(posterize(image, bits), np.asarray(image) & mask)
    assert not np.asarray(posterize(image, 0)).any()
    # Of magnitude 10, which Swin's policy of 9 ± 0.5 reaches once in fifty operations.
    transform = train_transform(View(32), Augmentation("rand-m10-inc1-n4", erasing=0))
    names = [
        operation.name for step in transform.transforms for operation in getattr(step, "ops", ())
    ]
    assert "PosterizeIncreasing" in names
    with seeded(0):
        shown = [transform(image) for _ in range(60)]
    assert any((pixels == pixels[:, :1, :1]).all() for pixels in shown)
