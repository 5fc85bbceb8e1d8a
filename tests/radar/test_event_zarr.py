"""Zarr stores: read in bounded pieces, nothing outside them, nothing pickled."""

import json
import os
import pickle
import shutil
import sys
import zipfile

import h5py
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr
from made_up_events import (
    FRAMES,
    HEIGHT,
    SMALL,
    WIDTH,
    as_netcdf,
    as_zarr,
    event_dataset,
    rain_mm_h,
    read_event_variable,
    zipped,
)

from nowcast.errors import InputError
from nowcast.radar import event_fields
from nowcast.radar.event_files import opened
from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import open_event
from nowcast.radar.event_tiles import coarse_parts
from nowcast.radar.events import rain_rates
from nowcast.radar.regrid import Tile
from nowcast.radar.store import FrameStore


def test_only_the_metadata_consolidated_or_not_is_read_that_lies_with_each_array(tmp_path):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", 2)
    stale = json.loads((path / ".zmetadata").read_text())
    stale["metadata"]["rainfall_rate/.zattrs"]["units"] = "m s-1"
    (path / ".zmetadata").write_text(json.dumps(stale))
    rate = next(rain_rates(open_event(path), 0, 1))
    np.testing.assert_array_equal(rate, np.minimum(rain_mm_h()[0], np.nanmax(rate)))


@pytest.mark.parametrize("window_bytes", [1, 3 * HEIGHT * WIDTH * 8, 2**26])
@pytest.mark.parametrize("chunk", [1, 4, 13])
def test_frames_are_the_same_however_many_are_read_at_once(
    tmp_path, monkeypatch, window_bytes, chunk
):
    monkeypatch.setattr(event_fields, "WINDOW_BYTES", window_bytes)
    monkeypatch.setattr(event_fields, "MOST_WINDOW_BYTES", 5 * HEIGHT * WIDTH * 8)
    rate = rain_mm_h()
    path = as_zarr(event_dataset(rate), tmp_path / "e.zarr", chunk=chunk, consolidated=False)
    event = open_event(path)
    highest = 10 ** ((60 - 10 * np.log10(58.53)) / 15.6)
    for first, count in ((0, FRAMES), (3, 7), (12, 1)):
        found = np.stack(list(rain_rates(event, first, count)))
        np.testing.assert_allclose(found, np.minimum(rate[first : first + count], highest), 1e-15)
    subsampled = open_event(path, step_minutes=15, subsample=True)
    found = np.stack(list(rain_rates(subsampled, 0, 4)))
    np.testing.assert_array_equal(subsampled.reader.numbers, [0, 3, 4, 7, 10])
    np.testing.assert_allclose(found, np.minimum(rate[[0, 3, 4, 7]], highest), 1e-15)


def test_reads_are_bounded_and_decode_each_chunk_once(tmp_path, monkeypatch):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", chunk=4, consolidated=False)
    read = []
    indexer = event_fields._indexer
    monkeypatch.setattr(
        event_fields, "_indexer", lambda numbers: read.append(numbers) or indexer(numbers)
    )
    monkeypatch.setattr(event_fields, "WINDOW_BYTES", 6 * HEIGHT * WIDTH * 8)
    list(rain_rates(open_event(path), 1, 11))
    assert read == [(1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)]


def test_parts_hold_whole_chunks_and_tiles_are_found_in_them(tmp_path):
    field = np.tile(rain_mm_h(), (4, 1, 1))[:50]
    path = as_zarr(event_dataset(field), tmp_path / "e.zarr", chunk=12, consolidated=False)
    parts = coarse_parts(open_event(path), 1)
    assert parts.firsts == (0, 24, 48)
    names = list(parts.writers)
    references = parts.tile_frames(Tile(2, 3, 1.0, 1.0), 22, 28)
    expected = [(names[n // 24], n % 24, 2, 3) for n in range(22, 50)]
    assert references == expected
    by_frame = as_netcdf(event_dataset(field), tmp_path / "e.nc")
    assert coarse_parts(open_event(by_frame), 1).firsts == (0, 20, 40)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_fill_value_of_zero_is_no_rain(tmp_path, zarr_format):
    path = tmp_path / "e.zarr"
    rate = np.nan_to_num(rain_mm_h())
    as_zarr(event_dataset(rate), path, zarr_format, consolidated=False,
            encoding={"_FillValue": None})  # fmt: skip
    # As zarr itself makes arrays, unasked: whole chunks of the fill value are not even stored.
    group = zarr.open_group(path, mode="r+")
    rate[4:8] = 0
    group.create_array("dry", data=rate, chunks=(4, HEIGHT, WIDTH), fill_value=0.0)
    where = path / "dry" / (".zattrs" if zarr_format == 2 else "zarr.json")
    group["dry"].attrs.update({"units": "mm h-1"})
    if zarr_format == 2:
        group["dry"].attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    else:
        described = json.loads(where.read_text())
        where.write_text(json.dumps(described | {"dimension_names": ["time", "y", "x"]}))
    _, mask, _ = read_event_variable(path, "dry")
    assert mask.all()
    assert len([f for f in (path / "dry").rglob("*") if f.name.startswith(("0", "1", "2"))]) < 12


def test_pixels_without_a_length_are_kept_as_they_are_but_not_coarsened(tmp_path):
    dataset = event_dataset(rain_mm_h())
    for name in ("x", "y"):
        del dataset[name].attrs["units"]
    path = as_zarr(dataset, tmp_path / "e.zarr", consolidated=False)
    with pytest.raises(InputError, match=r"e\.zarr: found pixels that are not squares") as raised:
        prepare_events(tmp_path / "s.h5", train=[path], **SMALL)
    assert str(raised.value).endswith("or grid_spacing_km null, which keeps the pixels")
    report = prepare_events(
        tmp_path / "s.h5", train=[path], **SMALL | {"grid_spacing_km": None, "tile_size": 10}
    )
    assert report.splits["train"].tiles == 1


def test_what_is_no_event_is_refused_by_name(tmp_path, monkeypatch):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", consolidated=False)
    (tmp_path / "empty").mkdir()
    wrong = zipped(path).rename(tmp_path / "wrong.zip")
    with zipfile.ZipFile(wrong, "w") as archive:
        archive.writestr("e.zarr/zarr.json", "{}")
    for place, found in (
        ("s3://rain/e.zarr", "^s3://rain/e.zarr: found an address"),
        (tmp_path / "empty", "empty: found a folder that is no Zarr store and holds no comp"),
        (tmp_path / "none", "none: no such file"),
        (wrong, "without a Zarr group at its root"),
    ):
        with pytest.raises(InputError, match=found):
            open_event(place)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"e\.zarr: .*pip install 'nowcast\[zarr\]'"):
        open_event(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_of_a_store_is_refused_with_the_way_out(tmp_path, zarr_format):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", zarr_format, consolidated=False)
    array = path / "rainfall_rate"
    for place in (array, zipped(array)):
        with pytest.raises(InputError) as raised:
            open_event(place)
        assert str(raised.value) == (
            f"{place}: found an array of a Zarr store, expected the store, the folder around it"
        )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_files_that_belong_to_no_array_are_passed_over_in_silence(tmp_path, zarr_format, recwarn):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", zarr_format, consolidated=False)
    recwarn.clear()
    (path / "README.txt").write_text("rain")
    (path / "notes").mkdir()
    (path / "notes/one.txt").write_text("more rain")
    rates = list(rain_rates(open_event(path), 0, FRAMES))
    assert len(rates) == FRAMES
    assert not [str(warning.message) for warning in recwarn]


def test_nothing_outside_the_event_is_read(tmp_path):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", consolidated=False)
    chunk = next(path.glob("rainfall_rate/c/0/0/0"))
    chunk.rename(tmp_path / "elsewhere")
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"e\.zarr: found rainfall_rate/c/0/0/0 as a link"):
        open_event(path)
    whole = as_netcdf(event_dataset(rain_mm_h()), tmp_path / "whole.nc")
    for name, link in (
        ("soft.nc", h5py.SoftLink("/x")),
        ("external.nc", h5py.ExternalLink("whole.nc", "x")),
    ):
        shutil.copy(whole, tmp_path / name)
        with h5py.File(tmp_path / name, "r+") as file:
            file["more"] = link
        with pytest.raises(InputError, match=f"{name}: found more as a link"):
            open_event(tmp_path / name)


class Opened:
    """What makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("dtype", ["<M8[ns]", "|O", "<f8"])
@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_what_is_pickled_is_refused_before_it_is_read(tmp_path, dtype, place):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", 2, consolidated=False)
    codec = numcodecs.Pickle().get_config()
    described = json.loads((path / "x/.zarray").read_text())
    described |= {"dtype": dtype, "compressor": None, "fill_value": None}
    described[place] = [codec] if place == "filters" else codec
    (path / "x/.zarray").write_text(json.dumps(described))
    (path / "x/0").write_bytes(pickle.dumps(Opened(tmp_path / "made")))
    # zarr knows no pickled numbers, but passes over what is said of times.
    with pytest.raises(InputError, match="found x pickled" if dtype == "<M8[ns]" else "pickle"):
        open_event(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("array", "changes", "found"),
    [
        ("time", {"shape": [10**9]}, "found time with 1,000,000,000 entries"),
        ("rainfall_rate", {"chunks": [13, 10**5, 10**5]}, "in chunks of 968.6 GiB"),
    ],
)
def test_sizes_are_bounded_before_anything_is_read(tmp_path, array, changes, found):
    path = as_zarr(event_dataset(rain_mm_h()), tmp_path / "e.zarr", 2, consolidated=False)
    described = json.loads((path / array / ".zarray").read_text())
    (path / array / ".zarray").write_text(json.dumps(described | changes))
    with pytest.raises(InputError, match=found):
        open_event(path)


@pytest.mark.slow
def test_a_real_event_gives_the_same_tiles_from_zarr_as_from_netcdf(shared, tmp_path):
    source = shared / "real-radar/events/fmi_20170509.nc"
    prepare_events(tmp_path / "netcdf.h5", train=[source], workers=1)
    with opened(source) as raw:
        raw = raw.load()
    for variable in raw.variables.values():
        variable.encoding.clear()
    packed = xr.decode_cf(raw, mask_and_scale=False, decode_times=False)
    path = tmp_path / "fmi_20170509.zarr"
    encoding = {"reflectivity": {"chunks": (7, 613, 760)}}
    packed.to_zarr(path, zarr_format=3, encoding=encoding, consolidated=False)
    prepare_events(tmp_path / "zarr.h5", train=[path], workers=1)
    stores = [FrameStore(tmp_path / f"{name}.h5") for name in ("netcdf", "zarr")]
    assert [s.name for s in stores[0].sequences] == [s.name for s in stores[1].sequences]
    for one, other in zip(*(store.sequences for store in stores), strict=True):
        clips = [s.read(q, q.times[0], 40) for s, q in zip(stores, (one, other), strict=True)]
        for left, right in zip(*clips, strict=True):
            assert left.tobytes() == right.tobytes()
