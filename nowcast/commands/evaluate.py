"""`evaluate`: score networks beside persistence and optical flow, by the offline protocol."""

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace

from nowcast.commands.command_line import CommandParser, run
from nowcast.commands.methods import Baseline, methods_to_compare
from nowcast.files import check_place
from nowcast.rendering import write_score_curves
from nowcast.training.data import BatchesToScore, DataSettings, SequentialClips
from nowcast.verification import (
    THRESHOLDS_MM_H,
    Report,
    evaluate,
    format_table,
    make_report,
    write_csv,
    write_json,
)


def evaluate_offline(
    data: DataSettings,
    out: Path,
    checkpoints: dict[str, Path] | None = None,
    baselines: tuple[Baseline, ...] = ("persistence", "optical flow"),
    split: str = "test",
    stride: int = 5,
    at_most: int | None = None,
    thresholds_mm_h: tuple[float, ...] = THRESHOLDS_MM_H,
    device: str = "auto",
) -> Report:
    """Score methods on all clips of a split and write scores.json, scores.csv and scores.png.

    Args:
        data: clips.
        out: folder for what is written.
        checkpoints: trained networks by the names to show them under, as in
            --checkpoints.ConvGRU FILE.
        baselines: methods without training.
        split: split of the store.
        stride: frames between the starts of clips; 5 is the benchmark's.
        at_most: score only so many clips, spread evenly.
        thresholds_mm_h: rain rates that make an event, in mm/h.
        device: where networks run: "auto", "cpu", "cuda".

    Raises:
        InputError: if a checkpoint or the store does not fit, or `out` cannot be written.
    """
    check_place(out, folder=True)
    checkpoints = checkpoints or {}
    methods = methods_to_compare(baselines, checkpoints, data, device)
    clips = SequentialClips(data.open(), split, data.length, stride, at_most)
    scores = evaluate(
        methods,
        BatchesToScore(clips, data),
        lead_times=data.lead_times,
        thresholds_mm_h=thresholds_mm_h,
    )
    report = make_report(
        scores,
        {
            "protocol": "offline",
            "split": split,
            "step_minutes": data.step_minutes,
            "store": data.store,
            "stride": stride,
            "checkpoints": checkpoints,
        },
    )
    write_json(out / "scores.json", report)
    write_csv(out / "scores.csv", report)
    write_score_curves(out / "scores.png", report, title=f"{data.store.stem}, {split} clips")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("evaluate", "Score networks beside persistence and optical flow.")
    parser.add_function_arguments(evaluate_offline)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        report = evaluate_offline(**settings)
        print(format_table(report))
        print(f"\n{settings['out'] / 'scores.json'}, scores.csv and scores.png beside it")

    return run(parser, act, arguments)
