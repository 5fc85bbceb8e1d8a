"""Deterministic methods of pysteps, called through its own interface; what all share.

What is here decides what a forecast is where the method has none. The ensemble is in
`pysteps_ensemble`. How pysteps is imported and kept quiet is in `pysteps_calls`, the fields it
takes are made in `pysteps_fields`, how much memory a forecast needs is in `pysteps_memory`.

Motion is pysteps' Lucas–Kanade with its defaults, from all frames given. Pixel values become rain
rates by HKO-7's Z–R relation, pixel value 0 becomes 0; S-PROG, STEPS and the motion see them in dB,
for which less than 0.1 mm/h is no rain (threshold −10, dry −15). NaN is not observed and stays NaN,
which every method of pysteps takes. What pysteps leaves undefined, such as air from outside the
grid, is 0.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.pysteps_calls import called, interfaces, one_line
from nowcast.models.pysteps_fields import (
    LOWEST_RAIN_RATE_MM_H,
    THRESHOLD_DBR,
    from_dbr,
    to_dbr,
    to_pixels,
    to_rain_rates,
)
from nowcast.models.pysteps_memory import check_memory, needed_bytes

log = logging.getLogger("nowcast")

FRAMES_NEEDED = {"extrapolation": 2, "S-PROG": 3, "S-PROG mean": 3, "ANVIL": 4, "STEPS": 3}
"""Motion takes two frames, an autoregression of order 2 three, one of differences four."""

_PYSTEPS_NAMES = {
    "extrapolation": "extrapolation",
    "S-PROG": "sprog",
    "S-PROG mean": "sprog",
    "ANVIL": "anvil",
    "STEPS": "steps",
}

IN_DECIBELS = ("S-PROG", "S-PROG mean", "STEPS")
"""The methods for which less than 0.1 mm/h is no rain; the others move faint rain as it is."""

DETERMINISTIC = ("extrapolation", "S-PROG", "S-PROG mean", "ANVIL")

FAILED = "the cascade cannot be estimated: extrapolation instead"
LOST = "the method leaves no rain where extrapolation has some: extrapolation instead"


class PystepsNowcast:
    """A deterministic nowcast of pysteps.

    - "extrapolation": semi-Lagrangian extrapolation of the last frame (Germann and Zawadzki 2002).
    - "S-PROG": spectral prognosis (Seed 2003), which smooths what cannot be predicted any more, and
      then, as pysteps has it by default, gives the smoothed field the distribution of the last
      frame's rain rates; 6 cascade levels, autoregression of order 2 in dB.
    - "S-PROG mean": the same without the latter: what remains is the expected field, the fair rival
      of a network trained on squared error.
    - "ANVIL": autoregression of order 2 on the differences of 8 cascade levels, its parameters
      estimated in windows of radius 50 pixels (Pulkkinen et al. 2020), in mm/h.

    A clip whose last frame has no rain, or was not observed at all, has a dry forecast; for S-PROG
    and STEPS, less than 0.1 mm/h is no rain.
    Where a cascade cannot be estimated – a frame without rain, frames that do not change, a handful
    of rainy pixels – pysteps raises or loses all rain; then the forecast is the extrapolation.

    Attributes:
        name: of the method.
        members: how many forecasts it makes of a clip.
        replaced: how many clips had another forecast than the method's own, by reason. Each reason
            is logged once.
    """

    members = 1

    def __init__(self, name: str) -> None:
        """Choose the method.

        Args:
            name: "extrapolation", "S-PROG", "S-PROG mean" or "ANVIL".

        Raises:
            InputError: there is no such method, or pysteps is not installed or does not start.
        """
        if name not in DETERMINISTIC:
            raise InputError(
                f"pysteps: found the method {name!r}, expected one of {', '.join(DETERMINISTIC)}"
            )
        self._open(name)

    def _open(self, name: str) -> None:
        self.name = name
        self.replaced: Counter[str] = Counter()
        motion, nowcasts = interfaces()
        self._motion: Callable[..., Any] = motion.get_method("LK")
        self._extrapolation: Callable[..., Any] = nowcasts.get_method("extrapolation")
        self._nowcast: Callable[..., Any] = nowcasts.get_method(_PYSTEPS_NAMES[name])

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Forecast each clip on its own.

        Args:
            frames: pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first; NaN = not
                observed.
            lead_times: how many frames to forecast.

        Returns:
            Pixel values in [0, 1], `(batch, lead_times, 1, y, x)`, all finite, of the dtype and on
            the device of `frames`.

        Raises:
            InputError: too few frames, more than one channel, more memory needed than there is, or
                an error of pysteps.
        """
        return self._forecasts(frames, lead_times, kept=1)[:, 0]

    def _forecasts(self, frames: torch.Tensor, lead_times: int, kept: int) -> torch.Tensor:
        """`(batch, kept, lead_times, 1, y, x)`."""
        if frames.ndim != 5 or frames.shape[2] != 1 or frames.shape[1] < FRAMES_NEEDED[self.name]:
            raise InputError(
                f"pysteps {self.name}: found frames of shape {tuple(frames.shape)}, expected "
                f"(batch, time, 1, y, x) with at least {FRAMES_NEEDED[self.name]} frames"
            )
        if lead_times < 1:
            raise InputError(f"pysteps {self.name}: found {lead_times} lead times, expected some")
        self._check_memory(frames, lead_times, len(frames) * kept)
        pixels = np.zeros((len(frames), kept, lead_times, *frames.shape[2:]), dtype=np.float32)
        observed = frames.detach().to("cpu", torch.float32).numpy()[:, :, 0]
        for clip, forecast in zip(observed, pixels, strict=True):
            with called(f"pysteps {self.name}"):
                self._forecast_clip(to_rain_rates(clip), forecast[:, :, 0])
        return torch.from_numpy(pixels).to(frames)

    def _check_memory(self, frames: torch.Tensor, lead_times: int, forecasts: int) -> None:
        shape = (frames.shape[3], frames.shape[4])
        needed = needed_bytes(
            self.name,
            shape,
            frames=frames.shape[1],
            lead_times=lead_times,
            members=self.members,
            forecasts=forecasts,
        )
        what = f"pysteps {self.name} of {lead_times} lead times on {shape[0]} × {shape[1]} pixels"
        check_memory(needed, f"{what}, {self.members} members" if self.name == "STEPS" else what)

    def _forecast_clip(self, rates: NDArray[np.float64], pixels: NDArray[np.float32]) -> None:
        """Fill `(kept, lead_times, y, x)` with the forecast that follows `(time, y, x)` in mm/h."""
        rainy = rates >= LOWEST_RAIN_RATE_MM_H
        if not (rainy if self.name in IN_DECIBELS else rates > 0)[-1].any():
            return
        motion = self._motion(to_dbr(rates)) if rainy.any() else np.zeros((2, *rates.shape[1:]))
        reason = LOST
        try:
            self._fill(pixels, rates, motion)
            if self.name == "extrapolation" or pixels[:, 0].any():
                return
        # What pysteps raises in its statistics is of these kinds (LinAlgError is a ValueError). A
        # cascade level that does not change is singular or not stationary as sums are rounded.
        except (ValueError, IndexError, RuntimeError) as error:
            expected = not isinstance(error, RuntimeError) or "nonstationary" in str(error)
            if self.name == "extrapolation" or not expected:
                raise
            reason = f"{FAILED} ({one_line(error)})"
        self._fill_extrapolated(pixels, rates, motion)
        if reason != LOST or pixels[:, 0].any():
            self._note(reason)

    def _fill(
        self,
        pixels: NDArray[np.float32],
        rates: NDArray[np.float64],
        motion: NDArray[np.float64],
    ) -> None:
        lead_times = pixels.shape[1]
        if self.name in ("S-PROG", "S-PROG mean"):
            forecast = self._nowcast(
                to_dbr(rates[-3:]),
                motion,
                lead_times,
                precip_thr=THRESHOLD_DBR,
                n_cascade_levels=6,
                ar_order=2,
                probmatching_method="cdf" if self.name == "S-PROG" else None,
            )
            _fill_alike(pixels, forecast, from_dbr)
        elif self.name == "ANVIL":
            forecast = self._nowcast(
                rates[-4:], motion, lead_times, ar_order=2, n_cascade_levels=8, ar_window_radius=50
            )
            _fill_alike(pixels, forecast)
        else:
            self._fill_extrapolated(pixels, rates, motion)

    def _fill_extrapolated(
        self,
        pixels: NDArray[np.float32],
        rates: NDArray[np.float64],
        motion: NDArray[np.float64],
    ) -> None:
        _fill_alike(pixels, self._extrapolation(rates[-1], motion, pixels.shape[1]))

    def _note(self, reason: str) -> None:
        if not self.replaced[reason]:
            log.warning("pysteps %s: %s (said once)", self.name, reason)
        self.replaced[reason] += 1


def _fill_alike(
    pixels: NDArray[np.float32],
    forecast: NDArray[np.float64],
    to_rates: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
) -> None:
    """Fill every member with the same fields `(lead_times, y, x)`, one by one to save memory."""
    for step, field in enumerate(forecast):
        pixels[:, step] = to_pixels(field if to_rates is None else to_rates(field))
