"""A trained network, or another nowcast method, on the latest radar frames: xarray in and out.

Frames come as rain rate, reflectivity or pixel values and leave as rain rate (`forecasting`). On
the way they are brought to the time step of the model (`time_steps`), and what is not observed
moves with the air (`coverage`). Files of radar are read in `radar`, forecasts are written here
(`forecast_files`).
"""

from nowcast.inference.forecasting import forecast
from nowcast.models.checkpoint import load

__all__ = ["forecast", "load"]
