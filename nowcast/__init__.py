"""Precipitation nowcasting from radar.

`import nowcast` is light: torch and Matplotlib are loaded on first use of what needs them.
"""

from importlib import import_module
from importlib.metadata import version as _version
from typing import Any

from nowcast.errors import InputError

__version__ = _version("nowcast")

_HOME_OF = {
    "load": "nowcast.inference",
    "forecast": "nowcast.inference",
    "read_frames": "nowcast.radar.event_arrays",
    "write_forecast": "nowcast.inference.forecast_files",
}

__all__ = ["InputError", "__version__", "forecast", "load", "read_frames", "write_forecast"]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module 'nowcast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
