"""The axes of an event's field: which is which, which way it runs, how far apart its pixels are.

What the field's numbers mean is in `event_quantities`.
"""

import numpy as np
import xarray as xr

from nowcast.errors import InputError

_AXES = {
    "y": {"y", "lat", "latitude", "Y", "projection_y_coordinate", "grid_latitude"},
    "x": {"x", "lon", "longitude", "X", "projection_x_coordinate", "grid_longitude"},
}
"""What CF and usage call the two axes: names, `axis`, `standard_name`."""

_IN_KM = {
    **dict.fromkeys(("m", "metre", "meter", "metres", "meters"), 1e-3),
    **dict.fromkeys(("km", "kilometre", "kilometer", "kilometres", "kilometers"), 1.0),
}


def north_south_first(field: xr.DataArray) -> xr.DataArray:
    """The field as (time, y, x), whichever of its two axes in space comes first in the file.

    Args:
        field: three axes, time the first.

    Raises:
        InputError: neither name nor attributes say which axis is which.
    """
    axes = {_direction(field, str(name)): name for name in field.dims[1:]}
    if axes.keys() != {"y", "x"}:
        raise InputError(
            f"found {field.name} ({', '.join(map(str, field.dims))}), expected axes that are "
            "known: y and x, latitude and longitude, or coordinates with CF's axis or standard_name"
        )
    return field.transpose("time", axes["y"], axes["x"])


def _direction(field: xr.DataArray, name: str) -> str | None:
    """Whether an axis runs north–south, "y", or east–west, "x"; None where nothing says so."""
    attributes = field.coords[name].attrs if name in field.coords else {}
    said = {name.lower(), *(str(attributes.get(key, "")) for key in ("axis", "standard_name"))}
    matching = [direction for direction, names in _AXES.items() if said & names]
    return matching[0] if len(matching) == 1 else None


def spacing_and_flips(field: xr.DataArray) -> tuple[float | None, tuple[int, ...]]:
    """Grid spacing in km, and which axes to flip so that row 0 is north and column 0 west.

    Args:
        field: (time, y, x) with coordinates of its axes.

    Returns:
        The side of a pixel, None where pixels are not squares of a stated length; and the numbers
        of the axes, 0 for y and 1 for x.

    Raises:
        InputError: a coordinate is missing or unevenly spaced.
    """
    spacings, flipped = [], []
    for axis, (name, runs) in enumerate(zip(field.dims[1:], (-1, 1), strict=True)):
        if name not in field.coords:
            raise InputError(f"found no coordinate {name}, expected to know where north is")
        coordinate = field.coords[name]
        steps = np.diff(coordinate.to_numpy().astype(np.float64))
        if not steps.size or not (np.abs(steps - steps.mean()) <= 1e-3 * abs(steps.mean())).all():
            raise InputError(f"found coordinate {name} unevenly spaced, expected even spacing")
        if steps[0] * runs < 0:
            flipped.append(axis)
        in_km = _IN_KM.get(str(coordinate.attrs.get("units", "")))
        spacings.append(None if in_km is None else float(abs(steps.mean())) * in_km)
    height, width = spacings
    square = height and width and abs(height - width) <= 1e-3 * height
    return (height if square else None), tuple(flipped)
