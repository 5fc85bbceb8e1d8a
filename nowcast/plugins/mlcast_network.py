"""Our networks under the contract of mlcast, the European community's nowcasting package.

`network(x, steps, ensemble_size)` takes and gives its normalised reflectivity, so that whatever
trains, validates and predicts with a network there does so with ours. Values pass through mm/h on
both ways: its scale is that of Marshall and Palmer, ours that of the HKO-7 benchmark.

The other way round, MEmeL in mlcast's own ConvGRU, takes two lines and nothing from here:

    layers = nowcast.memel.insert(module, at=["network.*.convgru.cell"], top=1)
    ...                                # train with mlcast as always
    nowcast.memel.remove(module)
"""

import os
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from nowcast.errors import InputError
from nowcast.models.checkpoint import TrainedNetwork, load
from nowcast.models.network import Network
from nowcast.radar.units import ZRRelation, pixel_to_rain_rate, rain_rate_to_pixel


class Scaling(Protocol):
    """What is used of mlcast's `ReflectivityScaling`.

    Attributes:
        a: of Z = a R^b; b: its exponent.
        dbz_floor: reflectivity that stands for no rain; dbz_ceiling: the strongest.
        norm_min: normalised value of the floor; norm_max: that of the ceiling.
    """

    a: float
    b: float
    dbz_floor: float
    dbz_ceiling: float
    norm_min: float
    norm_max: float


class MlcastNetwork(nn.Module):
    """A network of this package as mlcast calls networks.

    In training mode it is differentiable, and its weights are the network's own. In evaluation
    mode, in which mlcast validates and predicts, it gives what `Network.forecast` does, the
    distribution of the last frame included where the network keeps it.
    """

    input_channels = 1
    """Rain alone; mlcast's name for it."""

    def __init__(
        self,
        network: Network | TrainedNetwork | str | os.PathLike[str] = "convgru-5min",
        scaling: Scaling | None = None,
    ) -> None:
        """Choose the network and the scale.

        Args:
            network: a network, or one with its description, or what `nowcast.load` takes. One with
                a description sees the last frames of `x`, as many as it was trained on.
            scaling: mlcast's; None is its default.

        Raises:
            InputError: there is no such checkpoint, or mlcast is needed and not installed.
        """
        super().__init__()
        if not isinstance(network, Network | TrainedNetwork):
            network = load(network)
        self.input_frames: int | None = None
        if isinstance(network, TrainedNetwork):
            self.input_frames = network.description.input_frames
            network = network.network
        self.network = network
        self.scaling = _default_scaling() if scaling is None else scaling
        self.relation = ZRRelation(self.scaling.a, self.scaling.b)
        self.train()  # As any new module; what `load` gives is in evaluation mode.

    def forward(self, x: Tensor, steps: int, ensemble_size: int = 1) -> Tensor:
        """Forecast.

        Args:
            x: normalised reflectivity (batch, time, 1, y, x), oldest first; the lowest value and
                NaN are no rain.
            steps: how many frames to forecast.
            ensemble_size: makes no difference: the network is deterministic and has one forecast,
                as mlcast's contract has it for such.

        Returns:
            (batch, steps, 1, y, x), within mlcast's range. In training, what is cut keeps its
            gradient: a network that forecasts no rain yet, as any does before it is trained, would
            otherwise never learn of the rain that it misses.

        Raises:
            InputError: several variables, or too few frames.
        """
        if x.ndim != 5 or x.shape[2] != self.input_channels:
            raise InputError(
                f"mlcast network: found x of shape {tuple(x.shape)}, expected (batch, time, 1, y, "
                "x), rain alone"
            )
        if self.input_frames is not None:
            if x.shape[1] < self.input_frames:
                raise InputError(
                    f"mlcast network: found {x.shape[1]} frames, the network needs at least "
                    f"{self.input_frames}"
                )
            x = x[:, -self.input_frames :]
        pixels = self.to_pixels(x)
        run = self.network if self.training else self.network.forecast
        return self.to_normalised(run(pixels, steps))

    def to_pixels(self, normalised: Tensor) -> Tensor:
        """Pixel values in [0, 1] of mlcast's normalised reflectivity, 0 where it is no rain."""
        low, scale = self._line()
        dbz = low + (_precise(normalised) - self.scaling.norm_min) * scale
        pixels = rain_rate_to_pixel(self.relation.dbz_to_rain_rate(dbz)).clamp(0, 1)
        return torch.where(normalised > self.scaling.norm_min, pixels, torch.zeros_like(pixels))

    def to_normalised(self, pixels: Tensor) -> Tensor:
        """Mlcast's normalised reflectivity of pixel values, within its range.

        In training mode values outside are cut a rounding error inside of the range, and gradients
        are not: mlcast cuts, too, with no gradient from the ends of its range on.
        """
        low, scale = self._line()
        dbz = self.relation.rain_rate_to_dbz(pixel_to_rain_rate(_precise(pixels)))
        normalised = self.scaling.norm_min + (dbz - low) / scale
        ends = normalised.new_tensor([self.scaling.norm_min, self.scaling.norm_max])
        if not self.training:
            return normalised.clamp(*ends)
        cut: Tensor = _CutWithGradient.apply(normalised, *torch.nextafter(ends, ends.flip(0)))
        return cut

    def _line(self) -> tuple[float, float]:
        """Reflectivity in dBZ of the lowest normalised value, and dBZ per unit."""
        span = self.scaling.dbz_ceiling - self.scaling.dbz_floor
        return self.scaling.dbz_floor, span / (self.scaling.norm_max - self.scaling.norm_min)


class _CutWithGradient(torch.autograd.Function):
    """Values within bounds, and the gradient as if they had none."""

    @staticmethod
    def forward(context: Any, values: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return values.clamp(low, high)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return gradients[0], None, None


def _precise(values: Tensor) -> Tensor:
    """In float32 at least: logarithms of less are steps that can be seen."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _default_scaling() -> Scaling:
    try:
        from mlcast.data.normalization import DEFAULT_SCALING
    except ImportError as error:
        raise InputError(
            f"mlcast cannot be imported ({' '.join(str(error).split())}); docs/pysteps.md says how "
            "to install it"
        ) from None
    scaling: Scaling = DEFAULT_SCALING
    return scaling
