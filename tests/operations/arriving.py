"""Files of moving showers as a service leaves them, one per frame."""

import os

import numpy as np
from made_up_composites import write_odim
from moving_rain import rain_at


def write_frame(folder, minutes, name=None, values=None):
    """ODIM HDF5 of the showers, so many minutes after 2020-06-01 00:00."""
    path = folder / (name or f"T_PAAH{minutes:04}.h5")
    hidden = path.with_name(f".{path.name}.part")
    # ODIM's levels are a quarter of mm/h here, up to 63.
    rates = rain_at(minutes)[0].to_numpy() if values is None else values
    write_odim(hidden, np.minimum(rates, 60.0), minutes)
    os.replace(hidden, path)
    return path
