"""The shape of a network, and the published forms; the networks themselves stand beside."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from nowcast.errors import InputError

Recurrence = Literal["ConvGRU", "TrajGRU", "none"]

READ_BY: dict[str, tuple[Recurrence, ...]] = {
    "state_kernels": ("ConvGRU", "none"),
    "encoder_links": ("TrajGRU",),
    "forecaster_links": ("TrajGRU",),
    "forecaster_memory": ("ConvGRU", "TrajGRU"),
    "bounded_states": ("ConvGRU", "TrajGRU"),
}
"""Settings that only some recurrences have a use for; the others refuse values of one's own."""

MOST_LEVELS = 16
MOST_OF_ANYTHING = 2**16
"""Channels, strides, sides of kernels: what a file says of itself is not believed beyond it."""


@dataclass(frozen=True)
class NetworkSettings:
    """Shape of a network; the defaults are the benchmark's ConvGRU, in the authors' form.

    Every tuple goes from the finest to the coarsest level. The forms of the authors and of the 2019
    PyTorch port are `AUTHORS`, `AUTHORS_TRAJGRU`, `PORT_2019` and `PORT_2019_TRAJGRU`.

    Args:
        recurrence: what runs at each level: "ConvGRU", "TrajGRU", or "none" for a convolution over
            all frames at once (a 2-D CNN), which is built for one number of frames.
        hidden: channels of the states, or of a 2-D CNN's hidden activations.
        features: channels after each downsampling convolution.
        up_features: channels after each upsampling deconvolution.
        strides: factor between levels.
        down_kernels: sides of the downsampling kernels (padding 1).
        up_kernels: sides of the upsampling kernels (padding 1).
        state_kernels: sides of the state-to-state kernels, or of a 2-D CNN's hidden convolutions. A
            TrajGRU has links instead.
        encoder_links: places that each pixel of a TrajGRU's next state is linked to, in the
            encoder.
        forecaster_links: the same in the forecaster.
        coordinates: give the network x and y in [−1, 1] over the grid and a channel of ones beside
            the frame. A network meant for any grid goes without.
        deconvolution_bias: whether deconvolutions have a bias.
        initial_weights: "authors" draws from a Gaussian of variance 2 / (1.04 · mean of fan-in and
            fan-out) with zero biases, and lets TrajGRU's links start at the pixel itself; "pytorch"
            keeps PyTorch's default.
        forecaster_memory: initial bias of the update gates of the forecaster's recurrent layers. At
            0, the benchmark's, an untrained forecaster's states halve with every lead time, and
            what the encoder has seen is forgotten long before the last; at 3 they lose 5 %.
        bounded_states: tanh makes the candidates of recurrent states, so that these stay within ±1.
            The benchmark's leaky ReLU does not bound them, and in training they explode at times.
        head_sees_last: give the last layers, at full resolution, the last frame beside the features
            that come up from the states, which are coarser by the first stride.
        forecasts: "frames", as the benchmark; or "change" against the last frame, which starts near
            none: an untrained network is nearly persistence; or "decay", how fast each of the last
            frame's scales fades, at every place by itself. What cannot be forecast is smoothed
            away, as S-PROG does at one rate for all places (Seed, J. Appl. Meteor. 42, 2003),
            and no scale grows: it cannot learn a few events by heart. An untrained one is nearly
            persistence.
        keeps_distribution: give each forecast the values of the last frame, along the flow those of
            that frame moved on, in the order of what was forecast ("probability matching", Ebert,
            Mon. Weather Rev. 129, 2001; S-PROG in pysteps does it by default). Rain stays as
            strong as it was, where smoothing would weaken it: more skill above thresholds for
            somewhat larger errors. It is done in forecasts, not in training and its validation.
        along_flow: see and forecast in coordinates that move with the rain. Earlier frames are
            moved on to the time of the last along the motion that optical flow finds in them, and
            what is forecast there is moved on to its own time: the network is left with growth,
            decay and what the motion does not explain. Unless it forecasts "frames", an untrained
            one is nearly optical flow with inflow: what the edges have comes in over them.
    """

    recurrence: Recurrence = "ConvGRU"
    hidden: tuple[int, ...] = (64, 192, 192)
    features: tuple[int, ...] = (8, 192, 192)
    up_features: tuple[int, ...] = (8, 192, 192)
    strides: tuple[int, ...] = (5, 3, 2)
    down_kernels: tuple[int, ...] = (7, 5, 3)
    up_kernels: tuple[int, ...] = (7, 5, 4)
    state_kernels: tuple[int, ...] = (5, 5, 3)
    encoder_links: tuple[int, ...] = (13, 13, 9)
    forecaster_links: tuple[int, ...] = (13, 13, 9)
    coordinates: bool = True
    deconvolution_bias: bool = False
    initial_weights: Literal["authors", "pytorch"] = "authors"
    forecaster_memory: float = 0.0
    bounded_states: bool = False
    head_sees_last: bool = False
    keeps_distribution: bool = False
    forecasts: Literal["frames", "change", "decay"] = "frames"
    along_flow: bool = False

    def __post_init__(self) -> None:
        for name, values in vars(self).items():
            if isinstance(values, list):
                object.__setattr__(self, name, tuple(values))
        # They come from configurations and files, too, which know no types.
        for name, kind in get_type_hints(type(self)).items():
            if expected := _kind_missed(getattr(self, name), kind):
                raise InputError(
                    f"network settings: {name} is {getattr(self, name)!r}, expected {expected}"
                )
        tuples = {name: v for name, v in vars(self).items() if isinstance(v, tuple)}
        unread = {k for k, recurrences in READ_BY.items() if self.recurrence not in recurrences}
        for field in fields(self):
            if field.name in unread and getattr(self, field.name) != field.default:
                raise InputError(
                    f"network settings: {field.name} is {getattr(self, field.name)}, which "
                    f"recurrence {self.recurrence} has no use for; expected it left out"
                )
        for name, values in tuples.items():
            if name in unread:
                continue
            if len(values) != len(tuples["hidden"]):
                raise InputError(
                    f"network settings: {name} has {len(values)} levels, "
                    f"hidden has {len(tuples['hidden'])}; expected the same"
                )
            if not 1 <= len(values) <= MOST_LEVELS:
                raise InputError(
                    f"network settings: {name} has {len(values)} levels, expected 1 to "
                    f"{MOST_LEVELS}"
                )
            if min(values) < 1 or max(values) > MOST_OF_ANYTHING:
                raise InputError(
                    f"network settings: {name} is {values}, expected values above 0 and up to "
                    f"{MOST_OF_ANYTHING:,}"
                )

        # With padding 1, only such kernels divide a side by the stride and multiply it back.
        for stride, down, up in zip(self.strides, self.down_kernels, self.up_kernels, strict=True):
            if not 3 <= down <= stride + 2 or up != stride + 2:
                raise InputError(
                    f"network settings: stride {stride} has kernels {down} down and {up} up, "
                    f"expected 3 to {stride + 2} down and {stride + 2} up"
                )
        if not all(kernel % 2 for kernel in self.state_kernels):
            raise InputError(
                f"network settings: state_kernels is {self.state_kernels}, expected odd sizes"
            )

    @property
    def stride(self) -> int:
        """Factor between the frame and the coarsest level."""
        return math.prod(self.strides)


def _kind_missed(value: Any, kind: Any) -> str | None:
    """What was expected where a value is not of the kind that its annotation says."""
    if kind == tuple[int, ...]:
        whole = isinstance(value, tuple) and all(type(one) is int for one in value)
        return None if whole else "whole numbers"
    if choices := get_args(kind):
        return None if value in choices else f"one of {', '.join(choices)}"
    if kind is bool:
        return None if isinstance(value, bool) else "true or false"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if number and math.isfinite(value) else "a number"


AUTHORS = NetworkSettings()
"""The ConvGRU of the benchmark's authors (MXNet)."""

AUTHORS_TRAJGRU = NetworkSettings(recurrence="TrajGRU")
"""The TrajGRU of the benchmark's authors (MXNet)."""

PORT_2019 = NetworkSettings(
    up_features=(8, 64, 192), coordinates=False, deconvolution_bias=True, initial_weights="pytorch"
)
"""A ConvGRU in the form of the PyTorch port of 2019."""

PORT_2019_TRAJGRU = replace(PORT_2019, recurrence="TrajGRU", forecaster_links=(9, 13, 13))
"""The TrajGRU of the PyTorch port of 2019."""
