"""What synthetic rain is made of: a Gaussian field that forgets, convective cells, a flow.

All three live on a periodic square in Lagrangian coordinates, which move with the rain; `Flow`
says which point of it stands at which pixel of the radar's grid. Drawing an event's weather and
what the radar does to it is in `synthetic`.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

SLOPE_LARGE, SLOPE_SMALL, BREAK_KM, OUTER_SCALE_KM = 2.6, 3.2, 30.0, 300.0
"""Power spectrum of reflectivity, radially averaged in two dimensions: slope at wavelengths above
and below a break (2 to 3 for rain: Seed et al., Water Resour. Res. 49, 2013), flat beyond the
outer scale."""

LIFETIME_WAVELENGTH_KM, LIFETIME_EXPONENT = 32.0, 0.8
"""Lifetime is given for this wavelength and grows with wavelength to this power (dynamic scaling:
Venugopal et al., J. Geophys. Res. 104, 1999)."""

DB_AT_WIDTH = 10 * math.log10(math.e) / 2
"""A Gaussian in reflectivity factor is a parabola in dB: so much down at one standard deviation."""

CORRELATION_TIME = 2.1462
"""(1 + x) exp(−x) = 1/e at this x: lifetime in time constants of the auto-regression."""


class GaussianField:
    """A field of mean 0 and variance 1 with the spectrum of rain, where small scales forget first.

    Every Fourier coefficient follows an auto-regression of order 2 with a double root
    exp(−step / time constant), as every level of the cascade of STEPS does (Bowler et al., Q. J. R.
    Meteorol. Soc. 132, 2006); its correlation starts flat, so that rain changes smoothly.
    """

    def __init__(
        self,
        side: int,
        pixel_km: float,
        step_minutes: float,
        lifetime_minutes: float,
        stretch: float,
        angle: float,
        random: np.random.Generator,
    ) -> None:
        """Start a field in its stationary state.

        Args:
            side: pixels on each side; the field is periodic.
            pixel_km: grid spacing.
            step_minutes: time that `advance` takes the field forward.
            lifetime_minutes: time after which the correlation is 1/e at a wavelength of 32 km.
            stretch: how much longer than wide large structures are: bands instead of blobs.
            angle: direction of the bands, in radians from x to y.
            random: where all randomness comes from, also later.
        """
        self._random = random
        self._shape = (side, side)
        across = np.fft.fftfreq(side, pixel_km)[:, None]
        along = np.fft.rfftfreq(side, pixel_km)[None, :]
        turned_x = math.cos(angle) * along + math.sin(angle) * across
        turned_y = math.cos(angle) * across - math.sin(angle) * along
        cycles_km = np.hypot(along, across)
        # Bands are a matter of large scales; small ones have no preferred direction.
        stretched = np.sqrt(stretch) ** (1 / (1 + (cycles_km * BREAK_KM) ** 2))
        cycles_km = np.hypot(turned_x * stretched, turned_y / stretched)
        cycles_km[0, 0] = 1.0
        bent = 1 + (cycles_km * BREAK_KM) ** 2
        power = (cycles_km**2 + OUTER_SCALE_KM**-2.0) ** (-SLOPE_LARGE / 2)
        power *= bent ** ((SLOPE_LARGE - SLOPE_SMALL) / 2)
        power[0, 0] = 0.0
        # A real field has each inner column of the half spectrum twice, and of the outer ones
        # irfft2 keeps the Hermitian half only.
        twice = np.full(along.shape[1], 2.0)
        twice[0] = 1.0
        if side % 2 == 0:
            twice[-1] = 1.0
        amplitude = np.sqrt(power / (power * twice).sum()) * side**2
        self._amplitude = (amplitude / np.sqrt(twice)).astype(np.float32)
        lifetime = lifetime_minutes * (cycles_km * LIFETIME_WAVELENGTH_KM) ** -LIFETIME_EXPONENT
        root = np.exp(-step_minutes * CORRELATION_TIME / lifetime)
        self._from_last = (2 * root).astype(np.float32)
        self._from_before = (-(root**2)).astype(np.float32)
        innovation = np.sqrt((1 - root**2) ** 3 / (1 + root**2))
        self._innovation = (innovation * self._amplitude).astype(np.float32)
        next_to_last = 2 * root / (1 + root**2)
        self._before = self._noise() * self._amplitude
        renewal = (np.sqrt(1 - next_to_last**2) * self._amplitude).astype(np.float32)
        self._last = next_to_last.astype(np.float32) * self._before + renewal * self._noise()

    def _noise(self) -> NDArray[np.complex64]:
        """Independent complex noise, variance 2, for the half spectrum."""
        side = self._shape[0]
        parts = self._random.standard_normal((side, side // 2 + 1, 2), dtype=np.float32)
        noise: NDArray[np.complex64] = parts.view(np.complex64)[..., 0]
        return noise

    def values(self) -> Field:
        """The field now, `(side, side)`."""
        field: Field = np.fft.irfft2(self._last, s=self._shape).astype(np.float32, copy=False)
        return field

    def advance(self) -> None:
        """Take the field one time step forward."""
        following = self._noise()
        following *= self._innovation
        self._before *= self._from_before
        following += self._before
        following += self._from_last * self._last
        self._before, self._last = self._last, following


class Cells:
    """Convective cells: born where it rains, growing, raining hard, gone within the hour or so."""

    def __init__(
        self,
        side: int,
        pixel_km: float,
        step_minutes: float,
        mean_number: float,
        lifetime_minutes: tuple[float, float],
        random: np.random.Generator,
    ) -> None:
        """Start without a cell; `advance` often enough to fill the area.

        Args:
            side: pixels on each side of the periodic area.
            pixel_km: grid spacing.
            step_minutes: time that `advance` takes the cells forward.
            mean_number: cells alive at a time.
            lifetime_minutes: shortest and longest life of a cell.
            random: where all randomness comes from.
        """
        self._random = random
        self._side, self._pixel_km, self._step_minutes = side, pixel_km, step_minutes
        self._lifetime_minutes = lifetime_minutes
        self._births = mean_number * step_minutes / (sum(lifetime_minutes) / 2)
        # Columns: y, x (pixels), peak (dBZ), long and short axis (km), angle, age, life (min).
        self._cells = np.empty((0, 8))

    def advance(self, suitable: NDArray[np.bool_]) -> None:
        """Let cells age, die and be born.

        Args:
            suitable: where a cell may be born, `(side, side)`.
        """
        self._cells[:, 6] += self._step_minutes
        self._cells = self._cells[self._cells[:, 6] < self._cells[:, 7]]
        number = self._random.poisson(self._births)
        places = np.flatnonzero(suitable)
        if number == 0 or places.size == 0:
            return
        y, x = np.divmod(places[self._random.integers(places.size, size=number)], self._side)
        long_km = self._random.uniform(2.0, 5.0, number)
        born = [
            y,
            x,
            self._random.normal(40.0, 5.0, number).clip(28.0, 54.0),
            long_km,
            long_km * self._random.uniform(0.5, 1.0, number),
            self._random.uniform(0.0, math.pi, number),
            np.zeros(number),
            self._random.uniform(*self._lifetime_minutes, number),
        ]
        self._cells = np.concatenate([self._cells, np.stack(born, axis=1)])

    def reflectivity_dbz(self) -> Field:
        """Reflectivity of the cells alone, `(side, side)`; −60 dBZ where there is none."""
        side = self._side
        margin = side // 2
        canvas = np.full((side + 2 * margin, side + 2 * margin), -60.0, dtype=np.float32)
        y, x, peak_dbz, long_km, short_km, angle, age, life = self._cells.T
        # Up and down within its life, with the strongest rain early.
        stage = np.sin(math.pi * (age / life) ** 0.7)
        peak_now_dbz = peak_dbz - 25.0 * (1 - stage)
        long_px, short_px = (
            np.hypot(axis_km * (0.6 + 0.4 * stage) / self._pixel_km, 0.5)
            for axis_km in (long_km, short_km)
        )
        reach_px = np.ceil(long_px * np.sqrt((peak_now_dbz + 5.0).clip(0.0) / DB_AT_WIDTH))
        reach_px = reach_px.clip(0, margin).astype(int)
        cosine, sine = np.cos(angle), np.sin(angle)
        right = DB_AT_WIDTH * ((cosine / long_px) ** 2 + (sine / short_px) ** 2)
        down = DB_AT_WIDTH * ((sine / long_px) ** 2 + (cosine / short_px) ** 2)
        mixed = 2 * DB_AT_WIDTH * cosine * sine * (long_px**-2 - short_px**-2)
        top, left = (y + margin - reach_px).astype(int), (x + margin - reach_px).astype(int)
        shape = np.stack([right, down, mixed, peak_now_dbz], axis=1).astype(np.float32)
        distance = np.arange(-margin, margin + 1, dtype=np.float32)
        for (right_, down_, mixed_, peak_), row, column, reach in zip(
            shape, top.tolist(), left.tolist(), reach_px.tolist(), strict=True
        ):
            near = distance[margin - reach : margin + reach + 1]
            squared = near * near
            cell_dbz = np.multiply.outer(-mixed_ * near, near)
            cell_dbz -= right_ * squared
            cell_dbz += (peak_ - down_ * squared)[:, None]
            patch = canvas[row : row + len(near), column : column + len(near)]
            np.maximum(patch, cell_dbz, out=patch)
        # What reaches beyond an edge comes in at the opposite one.
        for folded in (canvas, canvas.T):
            np.maximum(
                folded[side : side + margin], folded[:margin], out=folded[side : side + margin]
            )
            np.maximum(
                folded[margin : 2 * margin], folded[-margin:], out=folded[margin : 2 * margin]
            )
        return canvas[margin : margin + side, margin : margin + side]


class Flow:
    """Which point of the moving rain stands at which pixel, at any time.

    The rain as a whole moves with a slowly turning wind; a smooth warp that stands (nearly) still
    over the ground makes it speed up, slow down and bend on its way. Its gradient is bounded and
    so is the deformation, for any length of time.
    """

    WAVES = 4
    """Sinusoids per component of the warp."""

    def __init__(
        self,
        size: int,
        pixel_km: float,
        speed_km_h: float,
        direction: float,
        turning: float,
        shear: float,
        random: np.random.Generator,
    ) -> None:
        """Draw the warp of an event.

        Args:
            size: pixels on each side of the radar's grid.
            pixel_km: grid spacing.
            speed_km_h: speed of the wind.
            direction: where the wind blows to at the start, in radians from x (east) to y (south).
            turning: change of direction, in radians per hour.
            shear: standard deviation of the warp's gradient, hence relative variation of speed.
            random: what the warp is drawn from.
        """
        self._speed = speed_km_h / pixel_km
        self._direction, self._turning = direction, turning
        rows, columns = np.indices((size, size), dtype=np.float32)
        self._grid = np.stack([columns, rows])
        waves = 2 * self.WAVES
        wavelengths = size * random.uniform(0.8, 1.6, waves)
        towards = random.uniform(0, 2 * math.pi, waves)
        wavenumbers = 2 * math.pi / wavelengths
        phase = random.uniform(0, 2 * math.pi, waves)[:, None, None] + (
            (wavenumbers * np.cos(towards))[:, None, None] * columns
            + (wavenumbers * np.sin(towards))[:, None, None] * rows
        )
        # The gradient's variance is the sum over a component's waves of (amplitude k)² / 2.
        amplitude = (shear * math.sqrt(2 / self.WAVES) / wavenumbers)[:, None, None]
        self._waves = np.concatenate([amplitude * np.sin(phase), amplitude * np.cos(phase)])
        self._waves = self._waves.reshape(2, 2, self.WAVES, size, size).astype(np.float32)
        self._drift = random.uniform(-2 * math.pi, 2 * math.pi, (2, self.WAVES)) / 36.0

    def origin(self, hours: float) -> Field:
        """Lagrangian coordinates of every pixel, `(2, size, size)`: x and y in pixels.

        Args:
            hours: time since the start.
        """
        angle = self._direction + self._turning * hours
        if self._turning == 0:
            travelled_x, travelled_y = hours * math.cos(angle), hours * math.sin(angle)
        else:
            travelled_x = (math.sin(angle) - math.sin(self._direction)) / self._turning
            travelled_y = (math.cos(self._direction) - math.cos(angle)) / self._turning
        turned = (self._drift * hours).astype(np.float32)
        sines, cosines = self._waves
        warp = np.einsum("cw,cwyx->cyx", np.cos(turned), sines)
        warp += np.einsum("cw,cwyx->cyx", np.sin(turned), cosines)
        warp[0] -= np.float32(self._speed * travelled_x)
        warp[1] -= np.float32(self._speed * travelled_y)
        origin: Field = self._grid + warp
        return origin


def sample_periodic(field: Field, position: Field) -> Field:
    """Bicubic interpolation, `(size, size)`, of a periodic field `(side, side)`.

    Args:
        field: what is interpolated.
        position: x and y in pixels, `(2, size, size)`, anywhere.
    """
    margin = 4
    wide = cv2.copyMakeBorder(field, margin, margin, margin, margin, cv2.BORDER_WRAP)
    side = np.float32(len(field))
    inside = position - side * np.floor(position / side) + np.float32(margin)
    x, y = inside[0], inside[1]
    sampled = cv2.remap(wide, x, y, cv2.INTER_CUBIC)
    return np.asarray(sampled, dtype=np.float32)
