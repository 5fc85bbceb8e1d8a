"""Map-ready PNGs: a pixel per grid cell, dry transparent, and other programs know where they lie.

Beside each PNG stand its world file (.pgw), its projection (.prj) and both once more as GDAL reads
them (.png.aux.xml).
"""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import xarray as xr
from PIL import Image

from nowcast.files import replacing
from nowcast.rendering.fields import ShownField
from nowcast.rendering.forecast_scene import forecast_scene
from nowcast.rendering.georeference import Georeference, georeference
from nowcast.rendering.palette import DRY, NO_COVERAGE, RAIN, palette_bytes

NO_COVERAGE_OPACITY = 128
"""Of 255."""


def write_map_images(folder: str | os.PathLike[str], forecast: xr.Dataset) -> list[Path]:
    """Write an image of each lead time for GIS programs and web maps, in the forecast's projection.

    Files are called `rain_rate_20160928T1605Z.png` by valid time, those of an ensemble's
    probabilities `probability_5_mm_h_20160928T1605Z.png`. Other files of the folder stay.

    Args:
        folder: where to; it is made where it is not there.
        forecast: as `nowcast.forecast` returns it, with a grid mapping or axes in degrees.

    Returns:
        The PNG files in order.

    Raises:
        InputError: the forecast does not say where it lies, is none, or pyproj is not installed.
    """
    grid = georeference(forecast)
    scene = forecast_scene(forecast, largest_side=max(grid.height, grid.width))
    thresholds = [f"{rate:g}" for rate in forecast.get("threshold", xr.DataArray([])).to_numpy()]
    written = []
    for field, threshold in zip(scene.fields, ("", *thresholds), strict=False):
        name = "rain_rate" if field.scale is RAIN else f"probability_{threshold}_mm_h"
        for frame, time in enumerate(scene.valid_times):
            path = Path(folder) / f"{name}_{_written(time)}.png"
            _write(path, field, frame, grid)
            written.append(path)
    return written


def _written(time: np.datetime64) -> str:
    """A time as it stands in file names: "20160928T1605Z", with seconds where there are some."""
    text = str(time.astype("datetime64[s]")).replace("-", "").replace(":", "")
    return text.removesuffix("00") + "Z"


def _write(path: Path, field: ShownField, frame: int, grid: Georeference) -> None:
    """One PNG, after the files that say where it lies."""
    numbers = (
        *(grid.step_x, 0.0, 0.0, -grid.step_y),
        *(grid.left + grid.step_x / 2, grid.top - grid.step_y / 2),
    )
    texts = {
        ".pgw": "".join(f"{number:.12g}\n" for number in numbers),
        ".prj": grid.crs.to_wkt("WKT1_ESRI"),
        ".png.aux.xml": _aux(grid),
    }
    for suffix, text in texts.items():
        with replacing(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    image = Image.fromarray(field.classes[frame])
    image.putpalette(palette_bytes())
    opacity = np.full(256, 255, np.uint8)
    opacity[[DRY, NO_COVERAGE]] = 0, NO_COVERAGE_OPACITY
    with replacing(path) as temporary:
        image.save(temporary, format="PNG", transparency=opacity.tobytes())


def _aux(grid: Georeference) -> str:
    """The projection and the place of the grid as GDAL keeps them beside a file."""
    root = ElementTree.Element("PAMDataset")
    projection = ElementTree.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2")
    projection.text = grid.crs.to_wkt()
    place = ElementTree.SubElement(root, "GeoTransform")
    place.text = ", ".join(
        repr(number) for number in (grid.left, grid.step_x, 0.0, grid.top, 0.0, -grid.step_y)
    )
    return ElementTree.tostring(root, encoding="unicode")
