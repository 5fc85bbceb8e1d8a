"""A radar composite as a service issues it: one field, its valid time, and where it lies.

Files are recognised and read in `composite_files`; several of them make an event in
`composite_series`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from nowcast.radar.event_quantities import Quantity
from nowcast.radar.units import ZRRelation


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a field lie.

    Attributes:
        projection: PROJ string or WKT, of which `x` and `y` are coordinates.
        units: of `x` and `y`, "m" or "degrees".
        west: x of the centres of the first column; north: y of those of the first row.
        width: of a pixel; height: of a pixel, both above 0.
        shape: (y, x).
    """

    projection: str
    units: str
    west: float
    north: float
    width: float
    height: float
    shape: tuple[int, int]

    @property
    def x(self) -> NDArray[np.floating]:
        """Centres of the columns, from west to east."""
        return self.west + self.width * np.arange(self.shape[1], dtype=np.float64)

    @property
    def y(self) -> NDArray[np.floating]:
        """Centres of the rows, from north to south."""
        return self.north - self.height * np.arange(self.shape[0], dtype=np.float64)

    def coordinates(self) -> dict[str, xr.Variable]:
        """CF coordinates y and x, and the grid mapping `crs` (CF conventions, 5.6)."""
        import pyproj

        names = ("projection_y_coordinate", "projection_x_coordinate")
        units = ("m", "m")
        if self.units == "degrees":
            names, units = ("latitude", "longitude"), ("degrees_north", "degrees_east")
        axes = {
            axis: xr.Variable(axis, values, {"standard_name": name, "units": unit})
            for axis, values, name, unit in zip("yx", (self.y, self.x), names, units, strict=True)
        }
        mapping = pyproj.CRS.from_user_input(self.projection).to_cf()
        return {**axes, "crs": xr.Variable((), np.int32(0), mapping)}

    @property
    def spacing_km(self) -> float | None:
        """Side of a pixel; None where pixels are no squares of a length."""
        square = abs(self.width - self.height) <= 1e-3 * self.height
        return (self.width + self.height) / 2000 if self.units == "m" and square else None


@dataclass(frozen=True, eq=False)
class Composite:
    """What a file holds.

    Attributes:
        path: the file.
        second: valid time, seconds since 1970-01-01 UTC; the end of an accumulation.
        values: (y, x), row 0 north; dBZ, mm/h or mm; NaN = not observed.
        quantity: which of them.
        minutes: of accumulation, of a rain amount.
        relation: the Z–R relation that comes with the format, for reflectivity.
        grid: where the pixels lie.
        institution: that issued it.
    """

    path: Path
    second: int
    values: NDArray[np.floating]
    quantity: Quantity
    minutes: float | None
    relation: ZRRelation | None
    grid: Grid
    institution: str
