"""Ensembles made of methods that give one forecast each: perturbed inputs, and several methods."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from nowcast.errors import InputError
from nowcast.method import NowcastMethod, method_name
from nowcast.models.checkpoint import Description
from nowcast.models.extrapolation import extrapolate
from nowcast.models.motion import estimate_motion
from nowcast.radar.units import DBZ_PER_PIXEL, pixel_to_rain_rate, rain_rate_to_pixel

MOTION_ERROR = 0.4
"""Standard deviation of the perturbed motion's components, as part of the rain's own speed.

With `INTENSITY_ERROR_DB` the best of nine choices in the mean CRPS of convgru-5min on FMI's rain of
2016 and KNMI's of 2010, at 4 km; the spread is then 0.64 to 1.17 times the error of the mean.
"""

LEAST_MOTION_ERROR = 0.25
"""The same in pixels per time step, for rain that stands still."""

INTENSITY_ERROR_DB = 1.5
"""Standard deviation of the perturbed reflectivity, in dB."""

INTENSITY_LENGTH = 8.0
"""Standard deviation of the Gaussian that it is smoothed by, in pixels."""


class Ensemble:
    """What is common to ensembles whose members come one after the other."""

    def each_member(self, frames: Tensor, lead_times: int) -> Iterator[Tensor]:
        """See `MemberByMember`."""
        raise NotImplementedError

    def forecast_members(self, frames: Tensor, lead_times: int) -> Tensor:
        """See `EnsembleMethod`."""
        return torch.stack(list(self.each_member(frames, lead_times)), dim=1)

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """The mean of the members' rain rates, as pixel values; see `NowcastMethod`."""
        total, members = torch.zeros(()), 0
        for member in self.each_member(frames, lead_times):
            total = total + torch.where(member <= 0, 0.0, pixel_to_rain_rate(member))
            members += 1
        return rain_rate_to_pixel(total / members).clamp(0.0, 1.0).to(frames)


class PerturbedInputs(Ensemble):
    """An ensemble of one method, each member of which sees the frames a little otherwise.

    A member's rain moves a little faster or slower and in another direction: the frame k steps
    before the last is shifted by k times a displacement drawn for the member, so that the last
    frame stays where it is. And it is a little stronger or weaker, by a smooth field of dB. How
    the rain itself grows and decays is not perturbed: the spread is too small where that decides.

    Attributes:
        description: of the network, where the method is one.
        name: by which what it forecasts is known.
        still: whether nothing moves in it, as in persistence.
    """

    def __init__(self, method: NowcastMethod, members: int = 20, seed: int = 0) -> None:
        """Choose the ensemble.

        Args:
            method: forecasts each member.
            members: how many.
            seed: decides the perturbations; every clip is given the same.

        Raises:
            InputError: one of them is out of range.
        """
        if members < 1 or seed < 0:
            raise InputError(
                f"ensemble: found members={members}, seed={seed}, expected at least 1 member and "
                "a seed of 0 or more"
            )
        self.method, self.members, self.seed = method, members, seed
        self.description: Description | None = getattr(method, "description", None)
        self.still = bool(getattr(method, "still", False))
        self.name = f"{members} members with perturbed inputs of {method_name(method)}"

    def each_member(self, frames: Tensor, lead_times: int) -> Iterator[Tensor]:
        """See `MemberByMember`; frames of shape (batch, time, 1, y, x), at least two in time."""
        clips = frames.detach().to("cpu", torch.float32).numpy()[:, :, 0].clip(0.0, 1.0)
        errors = [_motion_error(clip) for clip in clips]
        for member in range(self.members):
            random = np.random.default_rng([self.seed, member])
            displacement = random.normal(size=2)
            decibels = _smooth_noise(random, clips.shape[2:]) * INTENSITY_ERROR_DB
            seen = [
                _perturbed(clip, displacement * error, decibels)
                for clip, error in zip(clips, errors, strict=True)
            ]
            perturbed = torch.from_numpy(np.stack(seen))[:, :, None].to(frames)
            yield self.method.forecast(perturbed, lead_times)


class SeveralMethods(Ensemble):
    """An ensemble of several methods: checkpoints of several seeds, say.

    Attributes:
        description: of the first network.
        name: by which what it forecasts is known.
        still: whether nothing moves in it, as in persistence.
    """

    def __init__(self, methods: Sequence[NowcastMethod]) -> None:
        """Join methods; an ensemble among them brings in all its members.

        Raises:
            InputError: there is none, or networks want frames of different times.
        """
        if not methods:
            raise InputError("ensemble: found no methods, expected at least 1")
        self.methods = tuple(methods)
        about = [getattr(method, "description", None) for method in self.methods]
        wanted = {(one.step_minutes, one.input_frames) for one in about if one is not None}
        if len(wanted) > 1:
            said = " and ".join(f"{frames} every {step:g} minutes" for step, frames in wanted)
            raise InputError(f"ensemble: found networks that see {said}, expected the same")
        self.description: Description | None = next(filter(None, about), None)
        self.still = all(getattr(method, "still", False) for method in self.methods)
        self.name = "; ".join(map(method_name, self.methods))

    def each_member(self, frames: Tensor, lead_times: int) -> Iterator[Tensor]:
        """See `MemberByMember`."""
        for method in self.methods:
            if isinstance(method, Ensemble):
                yield from method.each_member(frames, lead_times)
            else:
                yield method.forecast(frames, lead_times)


def _motion_error(clip: NDArray[np.float32]) -> float:
    """Standard deviation of a clip's motion (time, y, x), in pixels per time step."""
    if not clip.any():
        return 0.0
    speed = np.hypot(*estimate_motion(clip))[clip[-1] > 0]
    return max(LEAST_MOTION_ERROR, MOTION_ERROR * float(speed.mean()) if speed.size else 0.0)


def _smooth_noise(random: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A field of standard deviation 1."""
    noise = ndimage.gaussian_filter(random.normal(size=shape), INTENSITY_LENGTH, mode="wrap")
    return noise * (2 * np.sqrt(np.pi) * INTENSITY_LENGTH)


def _perturbed(
    clip: NDArray[np.float32],
    displacement: NDArray[np.float64],
    decibels: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Pixel values (time, y, x), moved back by the displacement (x, y) a step, and intensified."""
    found = np.empty_like(clip)
    for steps, (frame, seen) in enumerate(zip(clip[::-1], found[::-1], strict=True)):
        if steps:
            motion = np.broadcast_to(-steps * displacement[:, None, None], (2, *frame.shape))
            rain_rate = np.where(frame > 0, pixel_to_rain_rate(frame), 0.0)
            moved = extrapolate(rain_rate, motion, 1, "edge")[0]
            frame = rain_rate_to_pixel(moved)
        seen[:] = np.where(frame > 0, frame + decibels / DBZ_PER_PIXEL, 0.0).clip(0.0, 1.0)
    return found
