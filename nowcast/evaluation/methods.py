"""The nowcast methods that an evaluation or an animation compares, by names for people."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nowcast.device import WantedPrecision, choose_device, choose_precision
from nowcast.errors import InputError
from nowcast.evaluation.forecast_files import ForecastFile
from nowcast.memory import keep_freed_memory
from nowcast.method import IssuedForecasts, NowcastMethod
from nowcast.models.checkpoint import TrainedNetwork, checkpoint_path, load
from nowcast.models.ensembles import PerturbedInputs
from nowcast.models.optical_flow import OpticalFlow
from nowcast.models.persistence import Persistence
from nowcast.models.pysteps_methods import pysteps_method
from nowcast.models.rover import Rover
from nowcast.radar.store import FrameStore
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import keep_statistics, load_inhibited

Baseline = Literal[
    "persistence",
    "optical flow",
    "optical flow with inflow",
    "ROVER",
    "ROVER linear",
    "pysteps extrapolation",
    "S-PROG",
    "S-PROG mean",
    "ANVIL",
    "STEPS",
]
LONGEST_NAME = 80

Method = NowcastMethod | IssuedForecasts


@dataclass(frozen=True)
class MethodSettings:
    """Which methods are compared.

    Args:
        baselines: methods without training. "optical flow with inflow" lets rain at an edge keep
            coming in over it, where "optical flow" has dry air. "ROVER" and "ROVER linear" are the
            benchmark's optical-flow opponent with and without its arctangent transform; "pysteps
            extrapolation" (Lucas–Kanade), "S-PROG", "S-PROG mean" (without probability matching),
            "ANVIL" and "STEPS" (an ensemble) are pysteps' and need it installed.
        checkpoints: trained networks by the names to show them under, as in
            --checkpoints.ConvGRU FILE.
        forecasts: files, or folders of files, with forecasts that something else made, by the
            names to show them under, as in --forecasts.ours FILE.
        memel_in_testing: show each network that was last trained with MEmeL a second time, as
            "NAME-T", with its layers on and their statistics frozen (the paper's F.1).
        perturbed_inputs: show each network a second time, as "NAME ensemble": members that see
            frames whose motion and intensity are perturbed.
        members: members of STEPS and of the networks' ensembles.
        ensemble_seed: decides these ensembles.
        device: where networks run: "auto", "cpu", "cuda".
        precision: in which networks forecast: "fp32" (float32, the same scores on any machine),
            "bf16" (autocast to bfloat16: faster where the machine has instructions for it), or
            "auto", which is bf16 there. Learning on the way is float32.
    """

    baselines: tuple[Baseline, ...] = ("persistence", "optical flow")
    checkpoints: dict[str, Path] | None = None
    forecasts: dict[str, Path] | None = None
    memel_in_testing: bool = False
    perturbed_inputs: bool = False
    members: int = 20
    ensemble_seed: int = 0
    device: str = "auto"
    precision: WantedPrecision = "fp32"

    def open(self, data: DataSettings, split: str) -> dict[str, Method]:
        """The methods, ready to forecast clips of a split of `data`, by name.

        Raises:
            InputError: for nothing to compare, a name that stands twice, a file that is no
                checkpoint and no forecast, one that does not fit, or pysteps not installed.
        """
        store = data.open()
        checkpoints = self.checkpoints or {}
        networks = open_networks(
            checkpoints, data, self.device, self.memel_in_testing, self.precision
        )
        ensembles = {
            f"{name} ensemble": PerturbedInputs(network, self.members, self.ensemble_seed)
            for name, network in (networks if self.perturbed_inputs else {}).items()
        }
        groups: tuple[Mapping[str, Method], ...] = (
            {name: self._baseline(name, store) for name in self.baselines},
            networks,
            ensembles,
            {
                name: self._forecast_file(path, store, split)
                for name, path in (self.forecasts or {}).items()
            },
        )
        methods: dict[str, Method] = {}
        for group in groups:
            for name, method in group.items():
                if not name.strip() or not name.isprintable() or name == "observed":
                    raise InputError(
                        f"methods: found the name {name!r}, expected one that can be read and says "
                        "which it is"
                    )
                if len(name) > LONGEST_NAME:
                    raise InputError(
                        f"methods: found a name of {len(name)} characters, expected at most "
                        f"{LONGEST_NAME}"
                    )
                if name in methods:
                    raise InputError(f"methods: found the name {name!r} twice, expected it once")
                methods[name] = method
        if not methods:
            raise InputError(
                "methods: found no baseline, checkpoint or forecast, expected at least one"
            )
        return methods

    def described(self) -> dict[str, Any]:
        """What of the methods decides the outcome beside their names, as plain values.

        A checkpoint and a file of forecasts are told from others of their name by the folder and a
        hash of their bytes.
        """
        found: dict[str, Any] = {
            "checkpoints": {
                n: _file(checkpoint_path(path)) for n, path in (self.checkpoints or {}).items()
            },
            "forecasts": {name: _file(path) for name, path in (self.forecasts or {}).items()},
        }
        if self.checkpoints:
            found["precision"] = choose_precision(self.precision, choose_device(self.device))
        if self.memel_in_testing:
            found["memel_in_testing"] = True
        if self.perturbed_inputs:
            found["perturbed_inputs"] = True
        if self.perturbed_inputs or "STEPS" in self.baselines:
            found["ensemble"] = {"members": self.members, "seed": self.ensemble_seed}
        return {name: value for name, value in found.items() if value}

    def _baseline(self, name: Baseline, store: FrameStore) -> NowcastMethod:
        ours: dict[str, Callable[[], NowcastMethod]] = {
            "persistence": Persistence,
            "optical flow": OpticalFlow,
            "optical flow with inflow": lambda: OpticalFlow(inflow="edge"),
            "ROVER": lambda: Rover("arctangent", store.exclude_mask),
            "ROVER linear": lambda: Rover("linear", store.exclude_mask),
        }
        if name in ours:
            return ours[name]()
        return pysteps_method(
            name.removeprefix("pysteps "),
            step_minutes=store.step_minutes,
            grid_spacing_km=grid_spacing_km(store),
            members=self.members,
            seed=self.ensemble_seed,
        )

    def _forecast_file(self, path: Path, store: FrameStore, split: str) -> ForecastFile:
        places = tuple(sequence.name for sequence in store.split(split))
        return ForecastFile(path, step_minutes=store.step_minutes, places=places, shape=store.shape)


def open_networks(
    checkpoints: Mapping[str, Path],
    data: DataSettings,
    device: str = "auto",
    memel_in_testing: bool = False,
    precision: WantedPrecision = "fp32",
) -> dict[str, TrainedNetwork]:
    """Trained networks, ready to forecast clips of `data`, by the names to show them under.

    Args:
        checkpoints: by name.
        data: what they are to forecast.
        device: where they run: "auto", "cpu", "cuda".
        memel_in_testing: see `MethodSettings`.
        precision: in which they forecast; see `MethodSettings`.

    Raises:
        InputError: for a file that is no checkpoint, or one that does not fit.
    """
    keep_freed_memory()
    place = choose_device(device)
    chosen = choose_precision(precision, place)
    store, opened = data.open(), {}
    for name, path in checkpoints.items():
        networks = {name: load(path)}
        if memel_in_testing and networks[name].description.inhibition is not None:
            networks[f"{name}-T"] = load_inhibited(path)
        for shown, trained in networks.items():
            if shown in opened:
                raise InputError(f"{path}: found the name {shown!r} twice, expected it once")
            _check_fit(trained, path, data, store.shape)
            trained.network.to(place).precision = chosen
            opened[shown] = trained
    if memel_in_testing and not any(name.endswith("-T") for name in opened):
        raise InputError(
            "memel_in_testing: found no checkpoint with MEmeL layers, expected at least one"
        )
    return opened


def _file(path: Path) -> dict[str, str]:
    """Name of a file or folder, and a hash of its bytes or of the bytes of all its files."""
    if path.is_dir():
        files = sorted(part for part in path.rglob("*") if part.is_file())
        digest = hashlib.sha256("".join(map(_sha256, files)).encode()).hexdigest()
    else:
        digest = _sha256(path)
    return {"file": "/".join(path.absolute().parts[-2:]), "sha256": digest[:12]}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def grid_spacing_km(store: FrameStore) -> float | None:
    """Distance between pixels, None where the store does not say or its places differ."""
    spacings = {sequence.metadata.get("grid_spacing_km") for sequence in store.sequences}
    spacing = spacings.pop() if len(spacings) == 1 else None
    return float(spacing) if isinstance(spacing, int | float) else None


def _check_fit(
    trained: TrainedNetwork, path: Path, data: DataSettings, shape: tuple[int, int]
) -> None:
    """Refuse a network that cannot forecast frames of a shape and time step."""
    description, (height, width) = trained.description, shape
    if description.step_minutes != data.step_minutes:
        raise InputError(
            f"{path}: trained on steps of {description.step_minutes:g} minutes, "
            f"the data is asked for at {data.step_minutes:g}"
        )
    if trained.network.input_frames not in (None, data.input_frames):
        raise InputError(
            f"{path}: sees {trained.network.input_frames} input frames, "
            f"the data is asked for with {data.input_frames}"
        )
    if description.network.coordinates and description.frame_shape != shape:
        raise InputError(
            f"{data.store}: frames are {height} × {width}, {path} has coordinate channels of "
            f"{description.frame_shape}; train one with coordinates: false for any grid"
        )
    keep_statistics(trained.network, path, description, data.store, shape)
