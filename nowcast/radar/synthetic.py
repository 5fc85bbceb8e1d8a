"""Synthetic rain: radar frames that look, move, grow and die like rain, from a seed.

A day is one event. Its reflectivity is a Gaussian field with the power spectrum of rain, evolved
wavelength by wavelength in Lagrangian coordinates, where small scales forget fastest (S-PROG and
STEPS: Seed, J. Appl. Meteor. 42, 2003; Bowler et al., Q. J. R. Meteorol. Soc. 132, 2006), plus
convective cells that live for about an hour. Each frame is interpolated once from there to the
radar's grid, so that rain keeps its small scales however long it travels. What a radar adds
(range circle, blocked beam, clutter, noise, missing frames) comes last. Writing such days as an
archive is done in `synthetic_archive`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

from nowcast.errors import InputError
from nowcast.radar.archive_files import noise_rule
from nowcast.radar.synthetic_fields import Cells, Field, Flow, GaussianField, sample_periodic
from nowcast.radar.units import HKO7, dbz_to_pixel

WET_DBZ = float(HKO7.rain_rate_to_dbz(0.5))
"""Reflectivity of 0.5 mm/h: where a wet fraction is counted."""

FAINTEST_DBZ = float(HKO7.rain_rate_to_dbz(0.1))
"""Reflectivity of 0.1 mm/h: fainter rain is no echo."""

EDGE_STEEPNESS = 2.2
"""How much faster reflectivity falls with the field outside of 0.5 mm/h than it rises inside."""


@dataclass(frozen=True)
class SyntheticRain:
    """Settings of synthetic rain; pairs are ranges that every event draws from."""

    size: int = 480
    """Pixels on each side of a frame."""
    step_minutes: int = 6
    """Time between frames."""
    seed: int = 0
    """All days follow from this number and their date."""
    domain_km: float = 512.0
    """Side of the area that a frame shows."""
    speed_km_h: tuple[float, float] = (30.0, 70.0)
    """Speed of the rain."""
    from_degrees: tuple[float, float] = (0.0, 360.0)
    """Where the rain comes from at the start of an event, clockwise from north: 270 is west."""
    turning_degrees_h: float = 8.0
    """How fast the direction of motion turns at most."""
    shear: float = 0.15
    """Relative variation (standard deviation) of the motion over the frame."""
    wet_fraction: tuple[float, float] = (0.05, 0.30)
    """Area with at least 0.5 mm/h that the widespread rain of an event has on average."""
    spread_db: tuple[float, float] = (8.0, 12.0)
    """Standard deviation of the underlying reflectivity: how fast rain rises from its edge."""
    lifetime_minutes: float = 120.0
    """Time after which correlation along the flow is 1/e, at a wavelength of 32 km."""
    cells_per_10000_km2: tuple[float, float] = (0.0, 5.0)
    """Convective cells alive at a time."""
    cell_lifetime_minutes: tuple[float, float] = (30.0, 80.0)
    """From a cell's first echo to its last."""
    noise_db: float = 0.7
    """Standard deviation of the measured reflectivity about the true one, pixel by pixel."""
    speckle_fraction: float = 0.002
    """Pixels with an echo of no rain, mostly faint; new ones in every frame."""
    missing_fraction: float = 0.005
    """Frames missing one by one."""
    outages_per_day: float = 1.0
    """How often 3 to 10 frames in a row are missing, in 24 hours."""

    def __post_init__(self) -> None:
        for name in (
            "speed_km_h", "from_degrees", "wet_fraction", "spread_db", "cells_per_10000_km2",
            "cell_lifetime_minutes",
        ):  # fmt: skip
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise InputError(
                    f"synthetic rain: found {name}={(low, high)}, expected 0 <= low <= high"
                )
        for name, valid, expected in (
            ("size", self.size >= 32, "at least 32 pixels"),
            (
                "step_minutes",
                self.step_minutes > 0 and 1440 % self.step_minutes == 0,
                "a divisor of 1440",
            ),
            ("seed", self.seed >= 0, "at least 0"),
            ("domain_km", self.domain_km > 0, "more than 0"),
            ("shear", 0 <= self.shear <= 0.3, "0 to 0.3, beyond which the flow would fold"),
            (
                "wet_fraction",
                0 < self.wet_fraction[0] and self.wet_fraction[1] < 1,
                "within (0, 1)",
            ),
            ("lifetime_minutes", self.lifetime_minutes > 0, "more than 0"),
            ("cell_lifetime_minutes", self.cell_lifetime_minutes[0] > 0, "more than 0"),
            ("noise_db", self.noise_db >= 0, "at least 0"),
            ("speckle_fraction", 0 <= self.speckle_fraction < 1, "within [0, 1)"),
            ("missing_fraction", 0 <= self.missing_fraction < 1, "within [0, 1)"),
            ("outages_per_day", self.outages_per_day >= 0, "at least 0"),
        ):
            if not valid:
                raise InputError(
                    f"synthetic rain: found {name}={getattr(self, name)}, expected {expected}"
                )

    @property
    def pixel_km(self) -> float:
        """Grid spacing in km."""
        return self.domain_km / self.size

    def simulate(
        self, day: np.datetime64, hours: float = 24.0
    ) -> Iterator[tuple[np.datetime64, NDArray[np.uint8], NDArray[np.bool_]]]:
        """Simulate the event of a day.

        Args:
            day: the date; each has its own random numbers, whatever was simulated before.
            hours: how much of the day, from 00:00 UTC; a shorter day is the beginning of a
                longer one.

        Yields:
            `(time, pixels, mask)` of every frame that is not missing: pixel values as stored
            (0–255), `(size, size)`; True where a pixel counts, by HKO-7's noise rule.

        Raises:
            InputError: `hours` is not within a day.
        """
        if not 0 < hours <= 24:
            raise InputError(f"synthetic rain: found hours={hours}, expected more than 0 up to 24")
        midnight = day.astype("datetime64[D]")
        date = int(midnight.astype(np.int64))
        weather, instrument = (np.random.default_rng([self.seed, date, part]) for part in (0, 1))
        missing = self._missing_frames(np.random.default_rng([self.seed, date, 2]))
        event, radar = _Event(self, weather), _Radar(self, instrument)
        for number in range(round(hours * 60 / self.step_minutes)):
            pixels = radar.observe(event.reflectivity_dbz(number))
            event.advance()
            if missing[number]:
                continue
            time = midnight + np.timedelta64(number * self.step_minutes, "m")
            yield time, pixels, noise_rule(pixels, radar.excluded)

    def _missing_frames(self, random: np.random.Generator) -> NDArray[np.bool_]:
        """True for frames of a whole day that the radar did not deliver."""
        frames = 1440 // self.step_minutes
        missing = random.random(frames) < self.missing_fraction
        for _ in range(random.poisson(self.outages_per_day)):
            start = random.integers(frames)
            missing[start : start + random.integers(3, 11)] = True
        return missing


class _Event:
    """The weather of a day: drawn once, then advanced frame by frame."""

    def __init__(self, rain: SyntheticRain, random: np.random.Generator) -> None:
        pixel_km = rain.pixel_km
        # Wide enough that no rain is seen at two places at once.
        side = cv2.getOptimalDFTSize(math.ceil(rain.size * 1.3))
        self._hours_per_frame = rain.step_minutes / 60
        self._wet_above = NormalDist().inv_cdf(1 - random.uniform(*rain.wet_fraction))
        self._spread_db = random.uniform(*rain.spread_db)
        self._pulse = random.uniform(0, 2 * math.pi), random.uniform(6.0, 18.0)
        self._field = GaussianField(
            side,
            pixel_km,
            rain.step_minutes,
            rain.lifetime_minutes,
            stretch=random.uniform(1.0, 3.0),
            angle=random.uniform(0, math.pi),
            random=random,
        )
        self._flow = Flow(
            rain.size,
            pixel_km,
            speed_km_h=random.uniform(*rain.speed_km_h),
            direction=math.radians(random.uniform(*rain.from_degrees) - 270),
            turning=math.radians(rain.turning_degrees_h) * random.uniform(-1, 1),
            shear=rain.shear,
            random=random,
        )
        cells = random.uniform(*rain.cells_per_10000_km2) * (side * pixel_km) ** 2 / 1e4
        self._cells = Cells(
            side, pixel_km, rain.step_minutes, cells, rain.cell_lifetime_minutes, random
        )
        self._now = self._field.values()
        for _ in range(math.ceil(rain.cell_lifetime_minutes[1] / rain.step_minutes)):
            self._cells.advance(self._now > self._wet_above)

    def reflectivity_dbz(self, frame: int) -> Field:
        """True reflectivity on the radar's grid."""
        hours = frame * self._hours_per_frame
        phase, period_hours = self._pulse
        pulse = 0.25 * math.sin(phase + 2 * math.pi * hours / period_hours)
        above_edge = np.float32(self._spread_db) * (self._now - np.float32(self._wet_above - pulse))
        # Rain has sharper edges than a Gaussian field: below the wet threshold it falls faster.
        reflectivity_dbz = np.float32(WET_DBZ) + np.where(
            above_edge < 0, np.float32(EDGE_STEEPNESS) * above_edge, above_edge
        )
        # Cells are as ragged as the rain around them, and weaker outside of it.
        cells_dbz = self._cells.reflectivity_dbz() + np.float32(0.5) * above_edge
        np.maximum(reflectivity_dbz, cells_dbz, out=reflectivity_dbz)
        return sample_periodic(reflectivity_dbz, self._flow.origin(hours))

    def advance(self) -> None:
        """Take the weather one frame forward."""
        self._field.advance()
        self._now = self._field.values()
        self._cells.advance(self._now > self._wet_above)


class _Radar:
    """What a radar in the middle of the frame makes of the rain."""

    def __init__(self, rain: SyntheticRain, random: np.random.Generator) -> None:
        self._random = random
        self._noise_db = np.float32(rain.noise_db)
        self._speckles = rain.speckle_fraction * rain.size**2
        masks = static_masks(rain.size)
        self.excluded = masks["exclude_mask"] > 0
        self._clutter = _clutter(rain.size)
        self._unseen = self.excluded & ~self._clutter

    def observe(self, reflectivity_dbz: Field) -> NDArray[np.uint8]:
        """Stored pixel values of a frame, `(size, size)`."""
        random = self._random
        noise = random.standard_normal(reflectivity_dbz.shape, dtype=np.float32)
        pixel = dbz_to_pixel(reflectivity_dbz + self._noise_db * noise)
        stored = np.rint(pixel * 255).clip(0, 255).astype(np.uint8)
        stored[reflectivity_dbz < FAINTEST_DBZ] = 0
        speckles = random.integers(stored.size, size=random.poisson(self._speckles))
        echoes = random.exponential(30.0, size=speckles.size).clip(5, 200).astype(np.uint8)
        stored.flat[speckles] = np.maximum(stored.flat[speckles], echoes)
        stored[self._clutter] = random.integers(60, 160, self._clutter.sum(), dtype=np.uint8)
        stored[self._unseen] = 0
        return stored


def static_masks(size: int) -> dict[str, NDArray[np.uint8]]:
    """Areas of a frame that never count, 1 = leave out, named as in HKO-7's `mask_dat.npz`.

    Args:
        size: pixels on each side.

    Returns:
        `out_boundary_mask` beyond the range of the radar, `outlier_mask` where clutter stands or
        the beam is blocked, `exclude_mask` both; each `(size, size)`.
    """
    east, south = _from_radar(size)
    beyond = np.hypot(east, south) > 0.49
    # A mountain to the north-east leaves a shadow 3 degrees wide.
    shadow = (np.abs(np.degrees(np.arctan2(-south, east)) - 40) < 1.5) & (
        np.hypot(east, south) > 0.2
    )
    outlier = (_clutter(size) | shadow) & ~beyond
    masks = {"exclude_mask": beyond | outlier, "outlier_mask": outlier, "out_boundary_mask": beyond}
    return {name: mask.astype(np.uint8) for name, mask in masks.items()}


def _clutter(size: int) -> NDArray[np.bool_]:
    """Where the ground itself echoes: a small patch beside the radar."""
    east, south = _from_radar(size)
    patch: NDArray[np.bool_] = np.hypot((east + 0.04) / 1.6, south - 0.02) < 0.012
    return patch


def _from_radar(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Position of each pixel east and south of the radar, in sides of the frame."""
    south, east = (np.indices((size, size)) + 0.5) / size - 0.5
    return east, south
