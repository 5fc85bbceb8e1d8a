"""Spectra: at which scales forecasts have lost, or made up, variability."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nowcast.errors import InputError
from nowcast.rendering.figure import head, legend, new_figure, save, styles

LEAD_TIMES_SHOWN = 4
LEGEND_COLUMNS = 6
OBSERVED: dict[str, Any] = {"color": "#1d1d1b", "linestyle": "-", "linewidth": 2.6, "alpha": 0.55}


def write_spectra(
    path: str | os.PathLike[str],
    report: Mapping[str, Any],
    *,
    grid_spacing_km: float | None = None,
    title: str = "",
) -> None:
    """Plot power spectra of rain rate by wavelength at some lead times, as PNG.

    In the upper row the power of what was observed and of every method's forecasts, in the lower
    row the latter divided by the former: below 1 at a wavelength means that a forecast is too
    smooth there. All axes are logarithmic; wavelengths fall to the right.

    Args:
        path: the file to write.
        report: `lead_minutes`, `coordinates` with `wavelength_pixels` and, under `methods` by name,
            `per_lead`; methods that have spectra have `power_forecast`, `power_observed` and
            `power_ratio` (time, wavelength) there; NaN or None where undefined.
        grid_spacing_km: width of a pixel; wavelengths are in pixels where it is not known.
        title: a headline.

    Raises:
        InputError: no method has spectra, one is of another shape, or the grid spacing is not
            positive.
    """
    if grid_spacing_km is not None and not grid_spacing_km > 0:
        raise InputError(f"grid spacing: found {grid_spacing_km} km, expected a positive number")
    lead_minutes = report["lead_minutes"]
    spectra = {
        name: scores["per_lead"]
        for name, scores in report["methods"].items()
        if "power_forecast" in scores["per_lead"]
    }
    if not spectra:
        raise InputError("spectra: found no method with spectra, expected at least one")
    wavelengths = np.asarray(report["coordinates"]["wavelength_pixels"], float)
    shape = (len(lead_minutes), len(wavelengths))
    for name, scores in spectra.items():
        for score in ("power_forecast", "power_observed", "power_ratio"):
            if np.shape(scores.get(score, ())) != shape:
                found = np.shape(scores.get(score, ()))
                raise InputError(f"{score} of {name}: found shape {found}, expected {shape}")
    at = wavelengths * (grid_spacing_km or 1.0)
    unit = "pixels" if grid_spacing_km is None else "km"
    places = np.linspace(0, len(lead_minutes) - 1, LEAD_TIMES_SHOWN)
    leads = sorted({round(place) for place in places})
    figure, axes = new_figure(2 * len(leads), title, len(leads))
    above, below = axes[: len(leads)], axes[len(leads) :]
    observed = next(iter(spectra.values()))["power_observed"]
    for power, ratio, lead in zip(above, below, leads, strict=True):
        head(power, f"+{lead_minutes[lead]:g} min")
        power.plot(at, np.asarray(observed[lead], float), **OBSERVED)
        ratio.axhline(1.0, **OBSERVED)
        for style, scores in zip(styles(len(spectra)), spectra.values(), strict=True):
            power.plot(at, np.asarray(scores["power_forecast"][lead], float), **style)
            ratio.plot(at, np.asarray(scores["power_ratio"][lead], float), **style)
        ratio.set_xlabel(f"wavelength ({unit})")
    for row in (above, below):
        _share_logarithmic_axes(row, at)
    above[0].set_ylabel("power ((mm/h)²)")
    below[0].set_ylabel("forecast / observed")
    legend(figure, ["observed", *spectra], [OBSERVED, *styles(len(spectra))], LEGEND_COLUMNS)
    save(path, figure)


def _share_logarithmic_axes(axes: list[Axes], at: np.ndarray) -> None:
    """The same logarithmic axes for all fields of a row, wavelengths falling to the right."""
    for axis in axes:
        axis.set_xscale("log")
        axis.set_yscale("log", nonpositive="mask")
        axis.set_xlim(at.max() * 1.1, at.min() / 1.1)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    lowest, highest = zip(*(axis.get_ylim() for axis in axes), strict=True)
    for axis in axes:
        axis.set_ylim(min(lowest), max(highest))
