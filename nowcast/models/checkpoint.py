"""Checkpoints: what they say of the network they hold, and loading it ready to forecast.

A checkpoint is a file of the training engine (Lightning) whose `state_dict` has the network under
the prefix "network." and which holds, under the key "nowcast", a description made of plain values.
What `export` makes of it (`weights_file`) has the same in another format, and is taken like it; so
are checkpoints of the 2019 PyTorch port's TrajGRU, known by their names, and the networks that come
with the package, by theirs. Nothing is unpickled but tensors and plain values.
"""

import hashlib
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nowcast.device import WantedPrecision, choose_device, choose_precision
from nowcast.errors import InputError
from nowcast.models.build import build_network
from nowcast.models.network import Network
from nowcast.models.port_2019 import convert, port_state
from nowcast.models.settings import MOST_OF_ANYTHING, NetworkSettings
from nowcast.models.tiles import forecast_in_tiles
from nowcast.models.weights_file import (
    KEY,
    SUFFIX,
    is_weights_file,
    read_weights,
    write_weights,
)

SHIPPED = Path(__file__).parent / "shipped"
"""Where the networks that come with the package lie, each with its model card."""

FORMAT = 1
PREFIX = "network."
STATISTICS = ".memel."
"""Part of the names of MEmeL's statistics in a state dict."""


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself.

    Args:
        network: shape of the network.
        step_minutes: minutes between the frames that it was trained on.
        input_frames: frames that it was trained to see.
        lead_times: frames that it was trained to forecast.
        frame_shape: (y, x) of the frames that it was trained on.
        inhibition: settings of its MEmeL layers and the modules `at` which they are, or None.
        run: all settings that decide the outcome of the training, as plain values.
    """

    network: NetworkSettings
    step_minutes: float
    input_frames: int
    lead_times: int
    frame_shape: tuple[int, int]
    inhibition: dict[str, Any] | None
    run: dict[str, Any]

    def __post_init__(self) -> None:
        # It comes from files, too, which hold anything.
        counts = (self.input_frames, self.lead_times, *self.frame_shape)
        fit = all(type(n) is int and 0 < n <= MOST_OF_ANYTHING for n in counts)
        if len(self.frame_shape) != 2 or not fit:
            raise InputError(
                f"found {self.input_frames!r} input frames, {self.lead_times!r} lead times and "
                f"frames of {self.frame_shape!r}, expected whole numbers above 0"
                f" and up to {MOST_OF_ANYTHING:,}"
            )
        minutes = self.step_minutes
        number = isinstance(minutes, int | float) and not isinstance(minutes, bool)
        if not number or not 0 < minutes < math.inf:
            raise InputError(f"found step_minutes {minutes!r}, expected more than 0")
        if not isinstance(self.run, dict) or not isinstance(self.inhibition, dict | None):
            raise InputError(
                f"found run {self.run!r} and inhibition {self.inhibition!r}, expected settings"
            )

    def as_entry(self) -> dict[str, Any]:
        """Plain values to put under the key "nowcast" of a checkpoint."""
        return {"format": FORMAT, **asdict(self)}


def read_checkpoint(path: str | os.PathLike[str]) -> tuple[Description, dict[str, Any]]:
    """Read a checkpoint without running any code that it may contain.

    Args:
        path: of a checkpoint, of what `export` made of one, or the name of a network that comes
            with the package.

    Returns:
        Its description and its whole content; of a checkpoint of the 2019 port, a state dict with
        our names and the benchmark's times and frames, which the port was made for and its file
        does not tell.

    Raises:
        InputError: if the file is missing, is no checkpoint, or is one of something else.
    """
    path = checkpoint_path(path)
    if is_weights_file(path):
        entry, state = read_weights(path)
        strange = [name for name in state if not name.startswith(PREFIX) or STATISTICS in name]
        if strange:
            raise InputError(f"{path}: found {strange[0]}, expected weights of a network alone")
        return _fitting(_described(entry, path), {"state_dict": state}, path)
    try:
        with path.open("rb") as file:  # By its name PyTorch would guess what it holds.
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # PyTorch's own words advise to read it unsafely.
        raise InputError(
            f"{path}: found no readable checkpoint ({type(error).__name__}), "
            "expected one that training wrote"
        ) from error
    entry = content.get(KEY) if isinstance(content, dict) else None
    if entry is None and (port := port_state(content)) is not None:
        return _read_port(port, path)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        entry = None
    return _fitting(_described(entry, path), content, path)


def checkpoint_path(path: str | os.PathLike[str]) -> Path:
    """The file that is meant by its path, or by the name of a network that comes with the package.

    Raises:
        InputError: if there is neither.
    """
    if Path(path).is_file():
        return Path(path)
    if os.fspath(path) in shipped():
        return SHIPPED / f"{os.fspath(path)}{SUFFIX}"
    names = ", ".join(shipped())
    raise InputError(
        f"{path}: found no file, expected a checkpoint or the name of a network that comes with "
        f"nowcast ({names})"
    )


def shipped() -> list[str]:
    """Names of the networks that come with the package."""
    return sorted(file.stem for file in SHIPPED.glob(f"*{SUFFIX}"))


def _described(entry: Any, path: Path) -> Description:
    """The description of a file, checked."""
    if not isinstance(entry, dict):
        raise InputError(f"{path}: found a file without {KEY!r} entry, expected a checkpoint")
    if entry.get("format") != FORMAT:
        raise InputError(f"{path}: found format {entry.get('format')!r}, expected {FORMAT}")
    try:
        fields = {key: value for key, value in entry.items() if key != "format"}
        fields["network"] = NetworkSettings(**fields["network"])
        fields["frame_shape"] = tuple(fields["frame_shape"])
        return Description(**fields)
    except (KeyError, TypeError, InputError) as error:
        raise InputError(f"{path}: found an unusable description ({error})") from error


def _fitting(
    description: Description, content: dict[str, Any], path: Path
) -> tuple[Description, dict[str, Any]]:
    """Both as they are, once the weights are those of the network that is described.

    No memory is taken for weights by what a file says alone.
    """
    with torch.device("meta"):
        network = build_network(
            description.network, description.input_frames, description.lead_times
        )
    _checked_state(network, content, path)
    return description, content


def export(checkpoint: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write a checkpoint's weights and description as a file to pass on.

    MEmeL layers, which do nothing in forecasts, and the optimizer are left out.

    Args:
        checkpoint: of any kind that `load` takes.
        out: safetensors file.

    Raises:
        InputError: if the checkpoint is none, or nothing can be written at `out`.
    """
    found = load(checkpoint)
    weights = {f"{PREFIX}{name}": value for name, value in found.network.state_dict().items()}
    write_weights(Path(out), replace(found.description, inhibition=None).as_entry(), weights)


def _read_port(state: dict[str, Any], path: Path) -> tuple[Description, dict[str, Any]]:
    try:
        settings, weights = convert(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    description = Description(
        network=settings,
        step_minutes=6,
        input_frames=5,
        lead_times=20,
        frame_shape=(480, 480),
        inhibition=None,
        run={"source": "the 2019 PyTorch port (Hzzone/Precipitation-Nowcasting)"},
    )
    state = {f"{PREFIX}{name}": value for name, value in weights.items()}
    return _fitting(description, {"state_dict": state}, path)


@dataclass
class TrainedNetwork:
    """A network ready to forecast, and what must be known to feed it; a `NowcastMethod`.

    Attributes:
        network: computes.
        description: of its checkpoint.
        name: by which what it forecasts is known: its file's, and a hash of its bytes.
    """

    network: Network
    description: Description
    name: str = "network"

    def forecast(self, frames: Tensor, lead_times: int) -> Tensor:
        """See `Network.forecast`; grids that would take too much memory are cut into tiles."""
        if self.network.settings.coordinates:  # They say where on its own grid a pixel is.
            return self.network.forecast(frames, lead_times)
        return forecast_in_tiles(self.network.forecast, frames, lead_times)


def load(
    path: str | os.PathLike[str], device: str = "cpu", precision: WantedPrecision = "fp32"
) -> TrainedNetwork:
    """Load the network of a checkpoint, ready to forecast; MEmeL layers are left out.

    Args:
        path: checkpoint that training wrote, or one of the 2019 PyTorch port's TrajGRU, what
            `export` made of one, or the name of a network that comes with the package.
        device: where it runs: "cpu", "cuda", or "auto" for a GPU if there is one.
        precision: in which it forecasts: "fp32" is float32, the same on any machine; "bf16"
            autocasts to bfloat16, several times as fast where the machine has instructions for it;
            "auto" does so there.

    Returns:
        The network on the device in evaluation mode, with its description.

    Raises:
        InputError: if the file is no such checkpoint, its weights do not fit its description, or
            there is no such device or precision.
    """
    place = choose_device(device)
    chosen = choose_precision(precision, place)
    description, content = read_checkpoint(path)
    with torch.random.fork_rng(devices=()):  # Initial weights are drawn, and replaced.
        network = build_network(
            description.network, description.input_frames, description.lead_times
        )
    load_weights(network, content, path)
    network.precision = chosen
    file = checkpoint_path(path)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    name = f"{file.stem if file.parent == SHIPPED else file.name} (SHA-256 {digest[:12]})"
    return TrainedNetwork(network.to(place).eval(), description, name)


def load_weights(network: Network, content: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Put a checkpoint's weights into a network.

    Statistics of MEmeL layers are taken where checkpoint and network both have the layer, and are
    otherwise left out: a network trained with MEmeL loads into one without, and the other way.

    Args:
        network: receives the weights.
        content: of the checkpoint, from `read_checkpoint`.
        path: the checkpoint's, for messages.

    Raises:
        InputError: if the weights do not fit the network.
    """
    state = _checked_state(network, content, path)
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # Statistics of another form.
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: weights do not fit the network: {reason}") from error


def _checked_state(
    network: Network, content: dict[str, Any], path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """The network's part of a checkpoint's state, whose weights have its names and shapes."""
    state = {
        name.removeprefix(PREFIX): value
        for name, value in content["state_dict"].items()
        if isinstance(name, str) and isinstance(value, Tensor) and name.startswith(PREFIX)
    }
    expected = network.state_dict()
    wrong = sorted(name for name in state.keys() ^ expected.keys() if STATISTICS not in name)
    if wrong:
        raise InputError(
            f"{path}: weights do not fit the network: {len(wrong)} names differ, {wrong[0]} first"
        )
    for name, value in expected.items():
        if STATISTICS not in name and state[name].shape != value.shape:
            raise InputError(
                f"{path}: weights do not fit the network: found {name} of "
                f"{tuple(state[name].shape)}, expected {tuple(value.shape)}"
            )
    return state
