"""Monosemanticity profiles of trained networks side by side: measuring them, JSON, CSV, a table."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nowcast import files, memel
from nowcast.errors import InputError
from nowcast.files import replacing
from nowcast.models.checkpoint import Description, TrainedNetwork, checkpoint_path, read_checkpoint
from nowcast.training.data import DataSettings, SequentialClips
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.monosemanticity import QUANTITIES, ClipInputs, Curve, profile_network

PHI_COLUMNS: Mapping[str, Callable[[memel.LayerProfile], float]] = {
    "phi_median": lambda layer: layer.quantile(0.5),
    "phi_90": lambda layer: layer.quantile(0.9),
    "phi_99": lambda layer: layer.quantile(0.99),
    "phi_99.9": lambda layer: layer.quantile(0.999),
    "phi_max": lambda layer: layer.largest,
    "phi_mean_square": lambda layer: layer.mean_square,
}
NORMAL = ("normal neurons", "", "", "0.455", "6.63", "10.8", "", "3", "", "")
"""Row of the table: quantiles of χ² of one degree of freedom, and its second moment."""


@dataclass(frozen=True)
class NetworkProfile:
    """Profile of one trained network.

    Args:
        file: its checkpoint, with the folder that holds it.
        sha256: the first digits of a hash of that file.
        step: optimizer steps that it was trained.
        training: the same for all checkpoints of one training.
        layers: by name.
    """

    file: str
    sha256: str
    step: int
    training: str
    layers: dict[str, memel.LayerProfile]


@dataclass(frozen=True)
class ProfileReport:
    """Profiles on the same clips.

    Args:
        settings: which clips, layers and neurons, as plain values.
        networks: by the names to show them under.
    """

    settings: dict[str, Any]
    networks: dict[str, NetworkProfile]


def profile_checkpoints(
    checkpoints: Mapping[str, tuple[Path, TrainedNetwork]],
    data: DataSettings,
    split: str = "valid",
    at_most: int = 32,
    at: Sequence[str] = HIDDEN_STATES,
    neurons: memel.Neurons = "element",
    epsilon: float = 1e-3,
    top: int = 10,
) -> ProfileReport:
    """Monosemanticity profiles of trained networks on the same clips.

    Args:
        checkpoints: files and what was loaded from them, by the names to show them under.
        data: clips.
        split: split of the store.
        at_most: so many clips, spread evenly.
        at: names or globs of the layers.
        neurons: see `memel.profile`.
        epsilon: see `memel.profile`.
        top: see `memel.profile`.

    Raises:
        InputError: if there are no such clips, or a network cannot be profiled.
    """
    store = data.open()
    clips = SequentialClips(store, split, data.length, at_most=at_most)
    networks = {}
    for name, (path, trained) in checkpoints.items():
        inputs = ClipInputs(clips, data, shown_as=f"profiling {name}")
        try:
            layers = profile_network(trained.network, inputs, at, neurons, epsilon, top)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        place = checkpoint_path(path)
        with place.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        networks[name] = NetworkProfile(
            file="/".join(place.absolute().parts[-2:]),
            sha256=digest[:12],
            step=int(read_checkpoint(path)[1].get("global_step", 0)),
            training=_training(trained.description),
            layers=layers,
        )
    settings = {
        "split": split,
        "clips": len(clips),
        "store": data.store.name,
        "fingerprint": store.fingerprint,
        "step_minutes": data.step_minutes,
        "frame_shape": list(store.shape),
        "input_frames": data.input_frames,
        "lead_times": data.lead_times,
        "at": list(at),
        "neurons": neurons,
        "epsilon": epsilon,
    }
    return ProfileReport(settings, networks)


def _training(description: Description) -> str:
    """The same for all checkpoints that one training may leave, be it prolonged in between."""
    entry = description.as_entry()
    optimization = entry["run"].get("optimization", {})
    if optimization.get("decay") == "step":
        entry["run"]["optimization"] = {**optimization, "steps": None}
    text = json.dumps(entry, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plotted(report: ProfileReport) -> dict[str, Any]:
    """Arguments of `nowcast.rendering.write_monosemanticity`.

    The history is that of trainings of which there are checkpoints of several steps; each is called
    by the last of them.
    """
    spread: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {}
    bounds: dict[str, float] = {}
    for name, network in report.networks.items():
        for layer, found in network.layers.items():
            spread.setdefault(layer, {})[name] = memel.PHI_EDGES, found.survival
            bounds[layer] = max(found.bound, bounds.get(layer, 0))
    trainings: dict[str, dict[int, str]] = {}
    for name, network in report.networks.items():
        trainings.setdefault(network.training, {})[network.step] = name
    history: dict[str, dict[str, dict[str, Curve]]] = {}
    for by_step in trainings.values():
        if len(by_step) < 2:
            continue
        steps = sorted(by_step)
        networks = [report.networks[by_step[step]] for step in steps]
        for layer in networks[-1].layers:
            history.setdefault(layer, {})[by_step[steps[-1]]] = {
                quantity.label: (steps, [quantity.value(one.layers[layer]) for one in networks])
                for quantity in QUANTITIES.values()
            }
    return {"spread": spread, "bounds": bounds, "history": history}


def write_json(path: str | os.PathLike[str], report: ProfileReport) -> None:
    """Write a report as JSON, with the counts of φ in bins and the edges of the bins."""
    plain = asdict(report) | {"phi_edges": memel.PHI_EDGES}
    for name, network in report.networks.items():
        for layer, found in network.layers.items():
            plain["networks"][name]["layers"][layer] |= _numbers(found)
    files.write_json(path, plain, indent=1)


def write_csv(path: str | os.PathLike[str], report: ProfileReport) -> None:
    """Write a report as CSV, a row per network and layer.

    The most monosemantic neuron is given by its index, blanks between; it is empty where none was
    asked for.
    """
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        columns = ("network", "file", "step", "layer", "neurons", "samples", "calls", *PHI_COLUMNS,
                   "selections", "ever_selected", "most_monosemantic")  # fmt: skip
        rows = csv.DictWriter(stream, columns)
        rows.writeheader()
        for name, network in report.networks.items():
            where = {"network": name, "file": network.file, "step": network.step}
            for layer, found in network.layers.items():
                first = found.most_monosemantic[:1]
                rows.writerow(
                    where
                    | {"layer": layer, "samples": found.samples, "calls": found.calls}
                    | _numbers(found)
                    | {"selections": found.selections, "ever_selected": found.ever_selected}
                    | {"most_monosemantic": " ".join(str(i) for one in first for i in one.index)}
                )


def _numbers(layer: memel.LayerProfile) -> dict[str, float]:
    return {"neurons": layer.neurons} | {name: of(layer) for name, of in PHI_COLUMNS.items()}


def format_table(report: ProfileReport) -> str:
    """A report as aligned text, a block per network."""
    headings = ("", "neurons", "samples", "φ median", "99 %", "99.9 %", "largest", "mean φ²",
                "ever selected", "most monosemantic")  # fmt: skip
    blocks = {
        name: [_cells(layer, found) for layer, found in network.layers.items()]
        for name, network in report.networks.items()
    }
    every = [headings, NORMAL, *(row for rows in blocks.values() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*every, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        texts = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in others)]
        return "  ".join(texts).rstrip()

    lines = []
    for name, rows in blocks.items():
        network = report.networks[name]
        title = f"{' '.join(name.split())}: {network.file}, step {network.step:,}"
        lines += [title, *(line(row) for row in (headings, *rows, NORMAL)), ""]
    settings = report.settings
    what = [f"{key} {settings[key]}" for key in ("store", "split", "clips", "neurons", "epsilon")]
    return "\n".join(
        [
            *lines,
            "φ by the statistics of these samples, n per neuron; it cannot exceed (n − 1)² / n.",
            "Ever selected: how many neurons were the most monosemantic one of a sample in a call,",
            "in how many such selections, and their share of all neurons.",
            "; ".join(what),
        ]
    )


def _cells(name: str, layer: memel.LayerProfile) -> tuple[str, ...]:
    numbers = _numbers(layer)
    shown = ("phi_median", "phi_99", "phi_99.9", "phi_max", "phi_mean_square")
    selected = round(layer.ever_selected * layer.neurons)
    first = layer.most_monosemantic[:1]
    return (
        " ".join(name.split()),
        f"{layer.neurons:,}",
        f"{layer.samples:,}",
        *(_digits(numbers[column]) for column in shown),
        f"{selected:,} of {layer.selections:,} ({layer.ever_selected:.2%})",
        str(first[0].index) if first else "–",
    )


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
