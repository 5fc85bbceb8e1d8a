"""Made-up fields of rain in CF NetCDF files and Zarr stores, for the tests of events."""

import zipfile

import numpy as np
import xarray as xr
from made_up import FIRST_TIME

from nowcast.radar.event_preparation import prepare_events
from nowcast.radar.event_sources import open_event
from nowcast.radar.events import rain_rates
from nowcast.radar.store import FrameStore

FRAMES, HEIGHT, WIDTH = 13, 10, 12
A, B = 223.0, 1.53
SMALL = {
    "tile_size": 4, "grid_spacing_km": 2.0, "clip_length": 5, "workers": 1,
    "minimum_wet_fraction": 0.0, "minimum_coverage": 0.0,
}  # fmt: skip
A, B = 223.0, 1.53


def rain_mm_h():
    """Rain rates (time, y, x) that are multiples of 1/16: packed whole numbers hold them exactly.

    Times 4 and 5 are missing, a corner is not observed, some pixels are dry.
    """
    random = np.random.default_rng(3)
    rate = np.floor(random.gamma(0.4, 60.0, (FRAMES, HEIGHT, WIDTH))) / 16
    rate[:, 7:, 8:] = np.nan
    return rate


def event_dataset(field, name="rainfall_rate", units="mm h-1", **attributes):
    number, height, width = field.shape
    minutes = np.array([5 * n for n in range(number + 2) if n not in (4, 5)][:number])
    coordinates = {
        "time": FIRST_TIME + minutes * np.timedelta64(60, "s"),
        "y": ("y", np.arange(height)[::-1] * 1000.0, {"units": "m"}),
        "x": ("x", np.arange(width) * 1000.0, {"units": "m"}),
    }
    variables = {name: (("time", "y", "x"), field, {"units": units, "grid_mapping": "crs"})}
    crs = {"crs": ((), 0, {"crs_wkt": "PROJCS[…]"})}
    return xr.Dataset(variables | crs, coordinates, {"license": "CC-BY-4.0"} | attributes)


def as_netcdf(dataset, path, **encoding):
    dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


def as_zarr(dataset, path, zarr_format=3, chunk=4, **options):
    name = next(str(name) for name in dataset.data_vars if name != "crs")
    field = dataset[name]
    encoding = {name: {"chunks": (chunk, *field.shape[1:]), **options.pop("encoding", {})}}
    dataset.to_zarr(path, zarr_format=zarr_format, encoding=encoding, **options)
    return path


def zipped(folder):
    path = folder.with_name(folder.name + ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


def prepared(tmp_path, event, name, **changes):
    """Frames, masks and times of the store that an event gives."""
    out = tmp_path / f"{name}.h5"
    prepare_events(out, train=[event], **SMALL | changes)
    store = FrameStore(out)
    clips = [store.read(s, s.times[0], FRAMES + 2) for s in store.sequences]
    return [np.stack(parts) for parts in zip(*clips, strict=True)]


def rates_of(event):
    """Rain rates (time, y, x) in mm/h of all frames."""
    return np.stack(list(rain_rates(event, 0, len(event.times))))


def read_event_variable(path, variable):
    event = open_event(path, variable=variable)
    rates = rates_of(event)
    return rates, np.isfinite(rates), event
