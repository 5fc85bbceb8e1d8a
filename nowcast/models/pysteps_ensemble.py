"""The STEPS ensemble of pysteps as a nowcast method."""

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.models.pysteps_calls import global_generator_kept
from nowcast.models.pysteps_fields import (
    HIGHEST_RAIN_RATE_MM_H,
    THRESHOLD_DBR,
    from_dbr,
    to_dbr,
    to_pixels,
)
from nowcast.models.pysteps_nowcast import PystepsNowcast


class PystepsEnsemble(PystepsNowcast):
    """The STEPS ensemble of pysteps: cascade and motion are perturbed (Bowler et al. 2006).

    6 cascade levels, autoregression of order 2 in dB, non-parametric noise, BPS perturbations of
    the motion, incremental mask. Every clip is given the same seed, so that its ensemble does not
    depend on the clips before it. A clip that falls back on extrapolation has members all alike.
    `forecast` is the mean of the members' rain rates.
    """

    def __init__(
        self, *, step_minutes: float, grid_spacing_km: float, members: int = 20, seed: int = 0
    ) -> None:
        """Choose the ensemble.

        Args:
            step_minutes: minutes between frames.
            grid_spacing_km: side of a pixel.
            members: how many.
            seed: decides the perturbations, 0 to 2³² − 1.

        Raises:
            InputError: one of them is out of range, or pysteps is not installed.
        """
        for what, value in (("step_minutes", step_minutes), ("grid_spacing_km", grid_spacing_km)):
            if not 0 < value < float("inf"):
                raise InputError(f"STEPS: found {what}={value}, expected a positive number")
        if members < 1 or not 0 <= seed < 2**32:
            raise InputError(
                f"STEPS: found members={members}, seed={seed}, expected at least 1 member and a "
                "seed from 0 to 2**32 - 1"
            )
        self._open("STEPS")
        self.step_minutes = step_minutes
        self.grid_spacing_km = grid_spacing_km
        self.members = members
        self.seed = seed

    def forecast_members(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Forecast each clip on its own, several times.

        Args:
            frames: as in `PystepsNowcast.forecast`.
            lead_times: how many frames to forecast.

        Returns:
            `(batch, member, lead_times, 1, y, x)`, as there.

        Raises:
            InputError: as there.
        """
        return self._forecasts(frames, lead_times, kept=self.members)

    def _fill(
        self,
        pixels: NDArray[np.float32],
        rates: NDArray[np.float64],
        motion: NDArray[np.float64],
    ) -> None:
        steps = iter(range(pixels.shape[1]))

        def keep(members: NDArray[np.float64]) -> None:
            """Take the members `(member, y, x)` of one lead time, so that pysteps keeps none."""
            step, total = next(steps), np.zeros(members.shape[1:])
            for number, member in enumerate(members):
                rate = np.nan_to_num(from_dbr(member)).clip(0.0, HIGHEST_RAIN_RATE_MM_H)
                total += rate
                if len(pixels) == len(members):
                    pixels[number, step] = to_pixels(rate)
            if len(pixels) != len(members):
                pixels[0, step] = to_pixels(total / len(members))

        with global_generator_kept():
            self._nowcast(
                to_dbr(rates[-3:]),
                motion,
                pixels.shape[1],
                n_ens_members=self.members,
                n_cascade_levels=6,
                ar_order=2,
                precip_thr=THRESHOLD_DBR,
                kmperpixel=self.grid_spacing_km,
                timestep=self.step_minutes,
                noise_method="nonparametric",
                vel_pert_method="bps",
                mask_method="incremental",
                seed=self.seed,
                num_workers=1,
                callback=keep,
                return_output=False,
            )
