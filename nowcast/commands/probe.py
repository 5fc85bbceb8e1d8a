"""`probe`: how monosemantic the neurons of trained networks are, and what training steps change."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jsonargparse import Namespace

from nowcast import files, memel
from nowcast.commands.command_line import CommandParser, run, run_part
from nowcast.errors import InputError
from nowcast.evaluation.methods import open_networks
from nowcast.files import check_place
from nowcast.rendering import write_monosemanticity
from nowcast.training.data import DataSettings
from nowcast.training.inhibition import HIDDEN_STATES
from nowcast.training.profile_report import (
    ProfileReport,
    format_table,
    plotted,
    profile_checkpoints,
    write_csv,
    write_json,
)
from nowcast.training.update_effects import measure_update_effects

USAGE = """usage: probe PART [--help] …

  profile  how the monosemantic scale is spread in the layers of networks, and in training
  update   what one training step does to the most monosemantic neurons (Table 3 of the paper)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_part(arguments, PARTS, "part", USAGE)


def profile_monosemanticity(
    data: DataSettings,
    out: Path,
    checkpoints: dict[str, Path],
    split: str = "valid",
    at_most: int = 32,
    at: tuple[str, ...] = HIDDEN_STATES,
    neurons: memel.Neurons = "element",
    epsilon: float = 1e-3,
    top: int = 10,
    device: str = "auto",
) -> ProfileReport:
    """Profile networks on the same clips and write profile.json, profile.csv and profile.png.

    Args:
        data: clips.
        out: folder for what is written.
        checkpoints: trained networks by the names to show them under, as in
            --checkpoints.ConvGRU FILE; several of one training show how it changes.
        split: split of the store.
        at_most: profile on only so many clips, spread evenly.
        at: names or globs of the layers.
        neurons: what a neuron is: every "element" of a sample, a "channel", or an entry of the
            "last" dimension.
        epsilon: variance compensation, as in training with MEmeL.
        top: how many of the most monosemantic neurons of each layer profile.json names.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: if a checkpoint or the store does not fit, or `out` cannot be written.
    """
    check_place(out, folder=True)
    if not checkpoints:
        raise InputError("checkpoints: found none, expected at least one")
    networks = {
        name: (checkpoints[name], trained)
        for name, trained in open_networks(checkpoints, data, device).items()
    }
    report = profile_checkpoints(networks, data, split, at_most, at, neurons, epsilon, top)
    write_json(out / "profile.json", report)
    write_csv(out / "profile.csv", report)
    title = f"{data.store.stem}, {report.settings['clips']} {split} clips"
    write_monosemanticity(out / "profile.png", **plotted(report), title=title)
    return report


def _profile(arguments: Sequence[str]) -> int:
    parser = CommandParser("probe.profile", "Profile how monosemantic the neurons of networks are.")
    parser.add_function_arguments(profile_monosemanticity)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        print(format_table(profile_monosemanticity(**settings)))
        print(f"\n{settings['out'] / 'profile.json'}, profile.csv and profile.png beside it")

    return run(parser, act, arguments)


def _update(arguments: Sequence[str]) -> int:
    parser = CommandParser(
        "probe.update", "Measure what one training step does to the most monosemantic neurons."
    )
    parser.add_function_arguments(measure_update_effects)
    parser.add_argument("--out", type=Path | None, help="JSON file to write")

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        out = settings.pop("out")
        if out is not None:
            check_place(out)
        rows = measure_update_effects(**settings)
        print(memel.format_update_effects(rows))
        if out is not None:
            settings["data"] = asdict(settings["data"])
            plain = {name: asdict(row) for name, row in rows.items()}
            files.write_json(out, {"settings": settings, "rows": plain})
            print(f"\n{out}")

    return run(parser, act, arguments)


PARTS = {"profile": _profile, "update": _update}
