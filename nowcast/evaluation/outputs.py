"""What is written of an evaluation: JSON, CSV, plots, and one page with all of it."""

from collections.abc import Sequence
from pathlib import Path

from nowcast.evaluation.shown_clips import ShownClip
from nowcast.rendering import (
    animate,
    write_page,
    write_reliability,
    write_score_curves,
    write_spectra,
)
from nowcast.verification import Report, write_csv, write_json
from nowcast.verification.report_facts import facts, reading
from nowcast.verification.score_tables import (
    difference_tables,
    event_tables,
    fraction_tables,
    score_tables,
    skill_tables,
)

PAGE = "report.html"


def write_outputs(
    out: Path,
    report: Report,
    compared: Report,
    clips: Sequence[ShownClip],
    title: str,
    notes: Sequence[str] = (),
) -> None:
    """Write an evaluation into its folder.

    Args:
        out: the folder.
        report: what was scored: `scores.json`, `scores.csv`.
        compared: the same beside earlier evaluations, or the same report: `scores.png`,
            `reliability.png`, `spectra.png` (where spectra were scored) and `report.html`.
        clips: clips to animate on the page.
        title: headline of plots and page.
        notes: what else is to be known of what the page shows.
    """
    write_json(out / "scores.json", report)
    write_csv(out / "scores.csv", report)
    plots = {"Scores by lead time": out / "scores.png", "Reliability": out / "reliability.png"}
    write_score_curves(out / "scores.png", compared, title=title)
    write_reliability(out / "reliability.png", compared, title=title)
    if "power_ratio" in compared["dimensions"]:
        plots["Power spectra of rain rate"] = out / "spectra.png"
        spacing = compared["settings"].get("grid_spacing_km")
        write_spectra(out / "spectra.png", compared, grid_spacing_km=spacing, title=title)
    else:
        # One of an evaluation before this would be taken for this one's.
        (out / "spectra.png").unlink(missing_ok=True)
    write_page(
        out / PAGE,
        title=title,
        facts=facts(compared),
        notes=[*reading(compared), *notes],
        tables=[
            table
            for tables in (score_tables, difference_tables, skill_tables, fraction_tables)
            for table in tables(compared)
        ],
        event_tables=event_tables(compared),
        plots={heading: path.read_bytes() for heading, path in plots.items()},
        animations=[animate(**clip.arguments()) for clip in clips],
    )
