"""Rain rates at the times that pysteps' callers ask for, member by member of an ensemble.

The forecasts are those of `nowcast.forecast`, at whole steps of the method. What lies between two
of them is interpolated as `nowcast.forecast` does it with frames, along the motion from one field
to the other: for an ensemble's members, each of which moves its rain otherwise, that leaves a third
of the error that the motion of the frames leaves.
"""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from nowcast.inference import forecast
from nowcast.inference.coverage import Coverage
from nowcast.inference.time_steps import Wanted, interpolated
from nowcast.method import NowcastMethod
from nowcast.models.ensembles import PerturbedInputs
from nowcast.models.persistence import Persistence
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel


def rain_rates(
    method: NowcastMethod,
    frames: xr.DataArray,
    times: NDArray[np.float64],
    *,
    relation: ZRRelation | None,
    coverage: Coverage,
    longest_gap_minutes: float,
) -> NDArray[np.float32]:
    """Forecast for times that need not be whole steps.

    Args:
        method: of `Members` every member is told, of any other method its one forecast.
        frames: as for `nowcast.forecast`.
        times: in steps of the method after the last frame, ascending, above 0.
        relation: as for `nowcast.forecast`.
        coverage: as for `nowcast.forecast`.
        longest_gap_minutes: as for `nowcast.forecast`.

    Returns:
        Rain rate in mm/h, (times, y, x), or (member, times, y, x) of `Members`; NaN where it is
        missing.

    Raises:
        InputError: as of `nowcast.forecast`.
    """
    steps = int(np.ceil(times[-1]))
    whole = forecast(
        method,
        frames,
        steps,
        relation=relation,
        coverage=coverage,
        longest_gap_minutes=longest_gap_minutes,
    )["rain_rate"].to_numpy()
    every = method.last_members(whole) if isinstance(method, Members) else whole
    if (times % 1 == 0).all():
        return every[..., times.astype(int) - 1, :, :]
    last = forecast(Persistence(), frames[-2:], 1, relation=relation)["rain_rate"].to_numpy()[0]
    fixed = np.isnan(last) if coverage == "stays" else None
    found = [_at(times, np.stack([last, *one]), fixed) for one in every.reshape(-1, *whole.shape)]
    return np.stack(found).reshape(*every.shape[:-3], *found[0].shape)


class Members(PerturbedInputs):
    """An ensemble that keeps its members' forecasts, of which `nowcast.forecast` tells the mean."""

    def each_member(self, frames: Tensor, lead_times: int) -> Iterator[Tensor]:
        """See `MemberByMember`."""
        self.kept: list[NDArray[np.float32]] = []
        for member in super().each_member(frames, lead_times):
            self.kept.append(member[0, :, 0].cpu().numpy())
            yield member

    def last_members(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        """The members of the last forecast, (member, lead_time, y, x) in mm/h.

        Args:
            mean: of them, (lead_time, y, x), NaN where the forecast is missing.
        """
        found = np.empty((len(self.kept), *mean.shape), np.float32)
        for pixels, rain_rate in zip(self.kept, found, strict=True):
            rain_rate[:] = _rain_rate(pixels.astype(np.float64).clip(0.0, 1.0))
            rain_rate[np.isnan(mean)] = np.nan
        return found


def _at(
    times: NDArray[np.float64],
    known: NDArray[np.float32],
    missing: NDArray[np.bool_] | None,
) -> NDArray[np.float32]:
    """A forecast at `times` of the last frame and all whole steps; these are taken as they are.

    Where `missing` says what is missing, air of which neither step knows is dry elsewhere, as it is
    for the methods. None: it is missing, too.
    """
    found = np.empty((len(times), *known.shape[1:]), np.float32)
    for time_ahead, field in zip(times, found, strict=True):
        before, fraction = int(time_ahead), time_ahead % 1
        if not fraction:
            field[:] = known[before]
            continue
        ends = known[before : before + 2].astype(np.float64)
        rates = np.where(ends > 0, ends, 0.0)
        pixels = np.where(np.isnan(ends), np.nan, rain_rate_to_pixel(rates).clip(0.0, 1.0))
        field[:] = _rain_rate(interpolated(pixels, Wanted(0, 1, float(fraction))))
        if missing is not None:
            field[:] = np.where(missing, np.nan, np.nan_to_num(field))
    return found


def _rain_rate(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rain rate in mm/h of pixel values, NaN = missing."""
    return np.where(pixels > 0, pixel_to_rain_rate(pixels), pixels * 0)
