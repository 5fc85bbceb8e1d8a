"""Where the pixels of a field lie on Earth: its projection and its grid. What is drawn: elsewhere.

The projection is read by pyproj from the field's CF grid mapping. Row 0 is north, column 0 west.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from nowcast.errors import InputError

METRES = {
    **dict.fromkeys(("m", "metre", "meter", "metres", "meters"), 1.0),
    **dict.fromkeys(("km", "kilometre", "kilometer", "kilometres", "kilometers"), 1000.0),
}
MOST_UNEVEN = 1e-3
"""Of the mean spacing: how far pixels may be from where even spacing puts them."""


@dataclass(frozen=True, eq=False)
class Georeference:
    """A grid of pixels in a projection.

    Attributes:
        crs: projection, a pyproj CRS.
        left: outer edge of the first column, in units of the projection.
        top: outer edge of the first row.
        step_x: width of a pixel.
        step_y: height of a pixel.
        height: rows.
        width: columns.
    """

    crs: Any
    left: float
    top: float
    step_x: float
    step_y: float
    height: int
    width: int

    def reduced(self, factor: int) -> "Georeference":
        """The grid of blocks of `factor` × `factor` pixels, the last ones perhaps not whole."""
        return self._scaled(factor, -(-self.height // factor), -(-self.width // factor))

    def enlarged(self, factor: int) -> "Georeference":
        """The grid in which a pixel is `factor` × `factor`."""
        return self._scaled(1 / factor, self.height * factor, self.width * factor)

    def _scaled(self, size: float, height: int, width: int) -> "Georeference":
        return replace(
            self,
            step_x=self.step_x * size,
            step_y=self.step_y * size,
            height=height,
            width=width,
        )

    @cached_property
    def _from_degrees(self) -> Any:
        import pyproj

        return pyproj.Transformer.from_crs("EPSG:4326", self.crs, always_xy=True)

    @property
    def _middle_x(self) -> float:
        return self.left + self.step_x * self.width / 2

    def places(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column and row of places in degrees, from 0 at the left and the upper edge of the grid.

        They are floating, beyond the grid too, and infinite where the projection has no such place.
        """
        x, y = self._from_degrees.transform(longitude, latitude)
        if self.crs.is_geographic:
            x = _turned(x, self._middle_x)
        return (x - self.left) / self.step_x, (self.top - y) / self.step_y

    def degrees(self, column: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of places on the grid, the inverse of `places`."""
        x = self.left + self.step_x * np.asarray(column)
        y = self.top - self.step_y * np.asarray(row)
        longitude, latitude = self._from_degrees.transform(x, y, direction="INVERSE")
        return _turned(longitude, 0.0), latitude


def _turned(degrees: np.ndarray, middle: float) -> np.ndarray:
    """The same directions within 180° of `middle`."""
    return middle + np.remainder(degrees - middle + 180.0, 360.0) - 180.0


def georeference(dataset: xr.Dataset, variable: str = "rain_rate") -> Georeference:
    """Read where the pixels of a variable lie.

    Args:
        dataset: with the coordinates of the variable's last two axes, y and x, and its grid
            mapping, as `nowcast.forecast` returns it. Without a grid mapping axes in degrees are
            taken for longitude and latitude on WGS 84.
        variable: its name.

    Raises:
        InputError: there is no projection, no coordinate or no even spacing, or pyproj is not
            installed.
    """
    field = dataset[variable]
    crs = _projection(dataset, field)
    first, step = {}, {}
    for name, axis in zip(field.dims[-2:], ("y", "x"), strict=True):
        if name not in field.coords or field.sizes[name] < 2:
            raise InputError(f"georeference: found no coordinate along {name}, expected one")
        values = field[name].to_numpy().astype(np.float64)
        values = values * _in_units_of(crs, str(field[name].attrs.get("units", "")))
        ends = np.sort(values[[0, -1]])
        even = np.linspace(values[0], values[-1], len(values))
        step[axis] = float(np.diff(ends)[0] / (len(values) - 1))
        if not np.abs(values - even).max() <= MOST_UNEVEN * step[axis] * len(values):
            raise InputError(f"georeference: found {name} unevenly spaced, expected even spacing")
        first[axis] = float(ends[0] if axis == "x" else ends[1])
    return Georeference(
        crs=crs,
        left=first["x"] - step["x"] / 2,
        top=first["y"] + step["y"] / 2,
        step_x=step["x"],
        step_y=step["y"],
        height=field.shape[-2],
        width=field.shape[-1],
    )


def _projection(dataset: xr.Dataset, field: xr.DataArray) -> Any:
    try:
        import pyproj
    except ModuleNotFoundError:
        raise InputError(
            "georeference: pyproj is not installed: pip install 'nowcast[maps]'"
        ) from None
    named = str(field.encoding.get("grid_mapping", field.attrs.get("grid_mapping", "")))
    name = named.partition(":")[0].strip()
    if name in dataset.variables:
        try:
            crs = pyproj.CRS.from_cf(dict(dataset.variables[name].attrs))
            pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        except (pyproj.exceptions.ProjError, KeyError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise InputError(
                f"georeference: found {name}, which is no projection: {why}"
            ) from error
        return crs
    units = [
        str(field[axis].attrs.get("units", "")) for axis in field.dims[-2:] if axis in field.coords
    ]
    if [unit.partition("_")[0] for unit in units] == ["degrees", "degrees"]:
        return pyproj.CRS.from_epsg(4326)
    raise InputError("georeference: found no grid mapping, expected one, or axes in degrees")


def _in_units_of(crs: Any, units: str) -> float:
    """Factor from a coordinate's units to those of the projection."""
    if units not in METRES or crs.is_geographic:
        return 1.0
    return METRES[units] / float(crs.axis_info[0].unit_conversion_factor)
