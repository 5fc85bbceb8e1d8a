"""What a nowcast method can do: the protocols through which every room uses one.

Persistence, optical flow, the networks, foreign packages and files of forecasts that someone else
made are all used through these; none of them inherits from anything here.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray


@runtime_checkable
class NowcastMethod(Protocol):
    """Something that continues a sequence of radar frames."""

    def forecast(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Forecast the frames that follow.

        Args:
            frames: observed pixel values in [0, 1], `(batch, time, 1, y, x)`, oldest first, evenly
                spaced in time.
            lead_times: how many frames to forecast; the first is one time step after the last
                observed one.

        Returns:
            Forecast pixel values, `(batch, lead_times, 1, y, x)`, on the device of `frames`.
        """
        ...


@runtime_checkable
class EnsembleMethod(NowcastMethod, Protocol):
    """A nowcast method that says how sure it is: several equally likely forecasts.

    Its `forecast` is the mean of the members' rain rates.
    """

    def forecast_members(self, frames: torch.Tensor, lead_times: int) -> torch.Tensor:
        """Forecast the frames that follow, several times.

        Args:
            frames: as for `forecast`.
            lead_times: as for `forecast`.

        Returns:
            Forecast pixel values, `(batch, member, lead_times, 1, y, x)`, on the device of
            `frames`.
        """
        ...


@runtime_checkable
class MemberByMember(EnsembleMethod, Protocol):
    """An ensemble that need not hold all its members at once."""

    def each_member(self, frames: torch.Tensor, lead_times: int) -> Iterator[torch.Tensor]:
        """Forecast the frames that follow, member after member.

        Args:
            frames: as for `forecast`.
            lead_times: as for `forecast`.

        Yields:
            Forecast pixel values of a member, `(batch, lead_times, 1, y, x)`, as of `forecast`.
        """
        ...


@runtime_checkable
class IssuedForecasts(Protocol):
    """Forecasts that were made before, found by place and time of issue."""

    def forecast_issued(
        self, places: Sequence[str], issue_times: NDArray[np.datetime64], lead_times: int
    ) -> torch.Tensor:
        """The forecasts that were issued when the last frame of a clip's past had been seen.

        Args:
            places: name of each clip's place, `(batch,)`.
            issue_times: valid time of the last observed frame of each clip, `(batch,)`.
            lead_times: how many frames; the first is one time step after the issue time.

        Returns:
            Forecast pixel values, `(batch, member, lead_times, 1, y, x)`; one member where the
            forecasts are no ensemble.

        Raises:
            InputError: a forecast is not there.
        """
        ...


def method_name(method: NowcastMethod) -> str:
    """By which a method's forecasts are known: the name that it has, or what it is."""
    return str(getattr(method, "name", type(method).__name__))
