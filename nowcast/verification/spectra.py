"""Radially averaged power spectra of rain rate: how much of the variability a forecast has lost.

A forecast that hedges is smooth: its power at short wavelengths is below the observed one. Source
of the score: Harris et al., Journal of Hydrometeorology 2 (2001), 406–418; of the average over
rings: Ruzanski and Chandrasekar, IEEE Transactions on Geoscience and Remote Sensing 49 (2011),
2296–2307, as in `pysteps.utils.spectral.rapsd`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.verification.accumulator import LEAD_TIME, Accumulator, Field, Sums
from nowcast.verification.fields import checked_fields, counted_pixels, rain_rates

WAVELENGTH = "wavelength_pixels"
POWERS = ("power_forecast", "power_observed")

PIXELS_AT_A_TIME = 1 << 18
"""Pixels whose spectra are taken in one go; a larger frame is taken alone."""


class Spectra(Accumulator):
    """Accumulator of the power spectra of forecast and observed rain rate in mm/h.

    The power of a frame of m × n pixels is |F|² / (m n), F its discrete Fourier transform without
    window or detrending. It is averaged over rings of wavenumbers: ring r holds those whose index
    (counted in cycles per frame along each side) is r cycles from zero, rounded. On a frame that is
    not square a ring so mixes wavelengths, as it does in pysteps; `wavelength_pixels`, the longer
    side divided by r, is that along the longer side. Ring 0, which is the mean squared, is left
    out, and so are the corners beyond the shortest wavelength that every direction has.

    Pixel value 0 is 0 mm/h. A pixel that does not count is 0 mm/h in both fields, whatever its
    value, NaN too; the edges of a mask therefore put power into short wavelengths of both and draw
    their ratio towards 1. A clip masked altogether adds 0 to both and is a clip of the mean. NaN in
    a pixel that counts is refused; `rapsd` of pysteps has no masks and refuses every NaN.

    Args:
        lead_times: number of forecast frames of every clip.
        shape: (y, x) of every frame, both at least 3 pixels.
    """

    DIMENSIONS: ClassVar[Mapping[str, tuple[str, ...]]] = dict.fromkeys(
        (*POWERS, "power_ratio"), (LEAD_TIME, WAVELENGTH)
    )

    def __init__(self, lead_times: int, shape: tuple[int, int]) -> None:
        super().__init__(lead_times)
        self.shape = (int(shape[0]), int(shape[1]))
        if min(self.shape) < 3:
            raise InputError(f"spectra: expected frames of at least 3 × 3, found {self.shape}")
        self._ring_of, self._ring_sizes = _rings(self.shape)
        for name in POWERS:
            self.sums[name] = np.zeros((lead_times, len(self._ring_sizes)), np.float64)

    @property
    def coordinates(self) -> dict[str, tuple[float, ...]]:
        """Wavelengths along the longer side in pixels, by the name of their axis."""
        longest = float(max(self.shape))
        return {
            WAVELENGTH: tuple(longest / ring for ring in range(1, len(self._ring_sizes) + 1)),
        }

    def _described(self) -> str:
        # Frames of other shapes can have rings of the same wavelengths.
        return f"{super()._described()}, frames of {self.shape}"

    def update(self, prediction: Field, truth: Field, mask: Field) -> None:
        """Add a batch of clips, in double precision and a few frames at a time.

        Args:
            prediction: pixel values `(batch, time, 1, y, x)`, clipped to [0, 1].
            truth: observed pixel values in [0, 1], floating, same shape.
            mask: True where a pixel counts, same shape.

        Raises:
            InputError: shapes or dtypes do not fit, or a pixel that counts is NaN or, in `truth`,
                outside of [0, 1]. The accumulator stays as it was.
        """
        forecast, observed, counts = checked_fields(prediction, truth, mask, self.lead_times)
        if tuple(forecast.shape[3:]) != self.shape:
            raise InputError(
                f"spectra: found frames of {tuple(forecast.shape[3:])}, expected {self.shape}"
            )
        batch = forecast.shape[0]
        at_a_time = max(1, PIXELS_AT_A_TIME // (self.shape[0] * self.shape[1]))
        ring_of = self._ring_of.to(forecast.device)
        powers = torch.zeros(
            (self.lead_times, len(POWERS), len(self._ring_sizes)),
            dtype=torch.float64,
            device=forecast.device,
        )
        for index in range(self.lead_times):
            for first in range(0, batch, at_a_time):
                clips = slice(first, first + at_a_time)
                fields = counted_pixels(
                    forecast[clips, index, 0],
                    observed[clips, index, 0],
                    counts[clips, index, 0],
                    index + 1,
                )
                for which, field in enumerate(fields):
                    powers[index, which] += _ring_sums(field, ring_of, len(self._ring_sizes))
        means = powers.cpu().numpy() / self._ring_sizes
        for which, name in enumerate(POWERS):
            self.sums[name] = self.sums[name] + means[:, which]
        self.sums["clips"] = self.sums["clips"] + batch

    def scores_from(self, sums: Sums) -> dict[str, NDArray[Any]]:
        """Scores that follow from sums, all (time, wavelength).

        Returns:
            `power_forecast`, `power_observed`: mean over clips of the spectra, in (mm/h)²;
            `power_ratio`: the former divided by the latter, below 1 where the forecast is too
            smooth; NaN where the observation has no power.
        """
        forecast, observed = (sums[name] for name in POWERS)
        clips = sums["clips"][..., None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "power_forecast": forecast / clips,
                "power_observed": observed / clips,
                "power_ratio": np.where(observed > 0, forecast / observed, np.nan),
            }


def _rings(shape: tuple[int, int]) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Ring of each wavenumber of a real transform, 0 for those of none, and the rings' sizes.

    Sizes are those in the whole plane of wavenumbers, of which the transform of a real field is the
    half that determines the other.
    """
    height, width = shape
    y = np.minimum(np.arange(height), height - np.arange(height))[:, None]
    x = np.minimum(np.arange(width), width - np.arange(width))[None, :]
    ring_of = np.rint(np.hypot(y, x)).astype(np.int64)
    rings = (max(shape) - 1) // 2
    ring_of[ring_of > rings] = 0
    sizes = np.bincount(ring_of.ravel(), minlength=rings + 1)[1:]
    return torch.from_numpy(ring_of[:, : width // 2 + 1].copy()), sizes


def _ring_sums(pixels: torch.Tensor, ring_of: torch.Tensor, rings: int) -> torch.Tensor:
    """Power of frames (batch, y, x), summed over frames and the wavenumbers of each ring."""
    transform = torch.fft.rfft2(rain_rates(pixels.double()))
    squares = torch.view_as_real(transform).square_()
    power = (squares[..., 0] + squares[..., 1]).sum(dim=0)
    # Columns of the other half of the plane are mirror images of these; the first and, where the
    # width is even, the last have none.
    power[:, 1 : (pixels.shape[2] + 1) // 2] *= 2.0
    summed = torch.bincount(ring_of.flatten(), power.flatten(), minlength=rings + 1)
    return summed[1:] / (pixels.shape[1] * pixels.shape[2])
