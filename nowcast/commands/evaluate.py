"""`evaluate`: score networks beside persistence and optical flow, by the offline protocol."""

import hashlib
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
    Scores,
    evaluate,
    format_table,
    make_report,
    read_json,
    side_by_side,
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
    beside: tuple[Path, ...] = (),
    memel_in_testing: bool = False,
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
        beside: scores.json of earlier evaluations of the same clips, to print in one table with
            this one's; a method that is in several is shown with the name of its file's folder.
        memel_in_testing: score each network that was last trained with MEmeL a second time, as
            "NAME-T", with its layers on and their statistics frozen (the paper's F.1).

    Raises:
        InputError: if a checkpoint, the store or an earlier evaluation does not fit, or `out`
            cannot be written.
    """
    check_place(out, folder=True)
    checkpoints = checkpoints or {}
    methods = methods_to_compare(baselines, checkpoints, data, device, memel_in_testing)
    store = data.open()
    clips = SequentialClips(store, split, data.length, stride, at_most)
    settings = {
        "protocol": "offline",
        "split": split,
        "step_minutes": data.step_minutes,
        "store": data.store,
        "fingerprint": store.fingerprint,
        "frame_shape": store.shape,
        "input_frames": data.input_frames,
        "stride": stride,
        "at_most": at_most,
        "checkpoints": {name: _described(path) for name, path in checkpoints.items()},
    }
    # Tried before the work is done: a report of as many clips, with the scores of none.
    to_come = Scores(data.lead_times, thresholds_mm_h)
    to_come.clips = len(clips)
    joined(out, make_report({"": to_come}, settings), beside)
    scores = evaluate(
        methods,
        BatchesToScore(clips, data),
        lead_times=data.lead_times,
        thresholds_mm_h=thresholds_mm_h,
    )
    report = make_report(scores, settings)
    write_json(out / "scores.json", report)
    write_csv(out / "scores.csv", report)
    write_score_curves(out / "scores.png", report, title=f"{data.store.stem}, {split} clips")
    return report


def joined(out: Path, report: Report, beside: Sequence[Path]) -> Report:
    """A report side by side with earlier ones.

    Args:
        out: folder of the report; its name tells methods apart that several reports hold.
        report: what is shown first.
        beside: scores.json files of the others, each told by the name of its folder, or by its
            path where that is taken.

    Raises:
        InputError: if a file is no report, or not comparable.
    """
    reports = {out.absolute().name: report}
    for path in beside:
        label = path.absolute().parent.name
        reports[str(path) if label in reports else label] = read_json(path)
    return side_by_side(reports)


def _described(checkpoint: Path) -> dict[str, str]:
    """What tells a checkpoint from others of its name: its folder and a hash of its bytes."""
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": "/".join(checkpoint.absolute().parts[-2:]), "sha256": digest[:12]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = CommandParser("evaluate", "Score networks beside persistence and optical flow.")
    parser.add_function_arguments(evaluate_offline)

    def act(given: Namespace) -> None:
        settings = parser.instantiate(given).as_dict()
        del settings["config"]
        report = evaluate_offline(**settings)
        print(format_table(joined(settings["out"], report, settings["beside"])))
        print(f"\n{settings['out'] / 'scores.json'}, scores.csv and scores.png beside it")

    return run(parser, act, arguments)
